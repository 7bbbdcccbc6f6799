package vaultcore

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// draftRow is one row of drafts, opened.
type draftRow struct {
	id       seal.ID
	att      seal.ID
	file     string
	commitNo uint64
	mtime    int64
	state    []byte
	base     []byte // tips it was begun on; nil if nothing was sealed then
	bad      error
}

func (v *Vault) draftRows() ([]draftRow, error) {
	var out []draftRow
	c := v.reader
	v.readMu.Lock()
	defer v.readMu.Unlock()
	schema, err := schemaVersion(c)
	if err != nil {
		return nil, err
	}
	base := "base"
	if schema < 2 { // opened for reading only, so nothing brought it up to date
		base = "NULL"
	}
	err = c.query("SELECT id,file,commit_no,sealed,"+base+" FROM drafts", func(cols []dbValue) error {
		s := rowScanner{c: cols}
		d := draftRow{id: s.id()}
		d.file, _ = s.next().(string)
		d.commitNo = uint64(s.num())
		d.bad = d.open(v, s.blob())
		d.base = s.blob()
		out = append(out, d)
		return nil
	})
	return out, err
}

func (d *draftRow) open(v *Vault, sealed []byte) error {
	var a seal.RowAAD
	plain, err := v.keys.local().OpenRow(nil, sealed, draftAAD(&a, d.id, d.file))
	if err != nil {
		return fmt.Errorf("%w: draft %s: %w", ErrDamaged, d.id.UUID(), err)
	}
	if len(plain) < 24 {
		return fmt.Errorf("%w: draft %s is cut short", ErrDamaged, d.id.UUID())
	}
	copy(d.att[:], plain)
	d.mtime = int64(binary.BigEndian.Uint64(plain[16:]))
	d.state = plain[24:]
	return nil
}

// recoverDrafts commits the drafts that fsync or a repeated Flush had kept. cut: the
// power may have been cut since.
func (v *Vault) recoverDrafts(cut bool) error {
	drafts, err := v.draftRows()
	if err != nil || len(drafts) == 0 {
		return err
	}
	byID := make(map[seal.ID]*Node)
	v.tree.RLock()
	v.walk(v.root, func(n *Node) { byID[n.id] = n })
	v.tree.RUnlock()
	for _, d := range drafts {
		if d.commitNo != 0 {
			continue // superfluous; the next barrier removes it
		}
		n := byID[d.att]
		if other := v.draftTarget(&d); other != nil {
			n = other
		}
		if err := v.recoverDraft(d, n, cut); err != nil {
			v.alarm("draft", fmt.Sprintf("an unfinished file could not be recovered (rescue draft:%s): %v", d.id.UUID(), err))
		}
	}
	return nil
}

func (v *Vault) recoverDraft(d draftRow, n *Node, cut bool) error {
	dr, err := v.wholeDraft(d, n, cut)
	if err != nil && cut && isLoose(d.state) {
		return v.forgetDraft(d, n, err)
	}
	if err != nil {
		return err
	}
	if n == nil {
		if n, err = v.orphanTarget(d.att); err != nil {
			dr.dropped()
			return err
		}
	}
	o := v.openNode(n, true)
	o.mu.Lock()
	o.draft, o.wrote = dr, true
	v.tree.Lock()
	n.draftID, n.mtime = d.id, d.mtime
	if !n.has(flagOrphan) {
		v.counts.bytes += dr.size() - n.size
	}
	n.size = dr.size()
	where := shownPath(n)
	v.tree.Unlock()
	err = v.commitOpen(o, true)
	o.mu.Unlock()
	if err == nil {
		v.event("recovered", where+": not saved as a whole when the last session ended; what was made durable is saved")
	}
	// On failure the open state stays and is tried again (retryDrafts).
	v.Release(n, true)
	return err
}

// wholeDraft opens a draft that has all its row counts on.
func (v *Vault) wholeDraft(d draftRow, n *Node, cut bool) (*draft, error) {
	if d.bad != nil {
		return nil, d.bad
	}
	var base *content
	if n != nil {
		v.tree.RLock()
		base = n.content
		v.tree.RUnlock()
	}
	dr, err := v.store.recoverDraft(d.id, d.state, base)
	if err != nil {
		return nil, err
	}
	switch {
	case dr.short:
		err = fmt.Errorf("%w: its log has less than was kept", ErrDamaged)
	case cut && isLoose(d.state):
		err = dr.verifyLower()
	}
	if err != nil {
		dr.dropped()
		return nil, err
	}
	return dr, nil
}

// forgetDraft leaves the state before a draft that was only kept, not made durable,
// and that the power cut has damaged.
func (v *Vault) forgetDraft(d draftRow, n *Node, cause error) error {
	if _, err := v.com.do(func(t *txn) error { return t.dropDraftRow(d.id) }); err != nil {
		return errors.Join(cause, err)
	}
	if n == nil {
		v.alarm("power-cut", "a file that has no name any more: what was written last had not reached the disk")
		return nil
	}
	v.tree.RLock()
	where, c := shownPath(n), n.content
	v.tree.RUnlock()
	if c != nil && c.place.Load() != placeElsewhere {
		if err := v.verifyContent(c); err != nil {
			v.lostContent(n, err)
			return nil
		}
	}
	v.alarm("power-cut", where+": what was written last, while it was still open, had not reached the disk; the state before is kept")
	return nil
}
