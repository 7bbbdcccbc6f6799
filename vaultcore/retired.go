package vaultcore

import (
	"bytes"
	"slices"
	"sync"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// retiredContents are the contents that no row of asset_attachments names
// any more. A blob among them is unlinked once a barrier has passed the
// commit that doomed it and no handle or draft uses it. Bounded by what was
// replaced or deleted within the last second and what of it is still open.
type retiredContents struct {
	mu      sync.Mutex
	byBlob  map[seal.ID]*content
	inRow   map[seal.ID][]byte // sealed bytes that lay in a lost row, for who has it open
	doomed  []doomedBlob
	removed []seal.ID // unlinked; their doomed rows go with the next barrier
	sweeps  int       // unlinking under way
	count   int       // unlinked so far
	idle    sync.Cond // signalled when sweeps is 0; L is &mu
}

type doomedBlob struct {
	blob seal.ID
	no   uint64
}

// add notes a content that lost its row. doomedAt is the commit that doomed
// it, 0 while undo names it.
func (r *retiredContents) add(c *content, doomedAt uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byBlob == nil {
		r.byBlob = make(map[seal.ID]*content)
	}
	r.byBlob[c.ref.blob] = c
	if doomedAt > 0 {
		r.doomed = append(r.doomed, doomedBlob{c.ref.blob, doomedAt})
	}
}

// addBlob notes a blob found in undo or doomed at unlock.
func (r *retiredContents) addBlob(blob seal.ID, doomedAt uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byBlob == nil {
		r.byBlob = make(map[seal.ID]*content)
	}
	if _, ok := r.byBlob[blob]; !ok {
		r.byBlob[blob] = nil
	}
	if doomedAt > 0 {
		r.doomed = append(r.doomed, doomedBlob{blob, doomedAt})
	}
}

// keepFresh takes over the sealed bytes of a content whose row is about to go,
// for handles that opened it there and may not have read it yet.
func (v *Vault) keepFresh(t *txn, row int64, c *content) error {
	if c == nil || c.place.Load() != placeFresh {
		return nil
	}
	b, err := t.one("SELECT fresh FROM asset_attachments WHERE n=?", row)
	if err != nil {
		return err
	}
	if sealed, _ := b.([]byte); sealed != nil {
		v.retired.mu.Lock()
		defer v.retired.mu.Unlock()
		if v.retired.inRow == nil {
			v.retired.inRow = make(map[seal.ID][]byte)
		}
		v.retired.inRow[c.ref.blob] = sealed
	}
	return nil
}

// fresh gives a copy of the sealed bytes that keepFresh took over, nil if none.
func (r *retiredContents) fresh(blob seal.ID) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.inRow[blob])
}

func (r *retiredContents) has(blob seal.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.byBlob[blob]
	return ok
}

// revive takes a content back that a row names again.
func (r *retiredContents) revive(blob seal.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byBlob, blob)
	delete(r.inRow, blob)
}

// reclaim takes a blob back for a file that is about to get its name, and waits
// for an unlinking under way.
func (r *retiredContents) reclaim(blob seal.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byBlob, blob)
	delete(r.inRow, blob)
	r.doomed = slices.DeleteFunc(r.doomed, func(d doomedBlob) bool { return d.blob == blob })
	for r.sweeps > 0 {
		r.idle.Wait()
	}
}

func (r *retiredContents) doom(blobs []seal.ID, no uint64) {

	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range blobs {
		r.doomed = append(r.doomed, doomedBlob{b, no})
	}
}

// ready takes out the blobs that may be unlinked now.
func (r *retiredContents) ready(durable uint64) []seal.ID {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []seal.ID
	left := r.doomed[:0]
	for _, d := range r.doomed {
		c := r.byBlob[d.blob]
		if d.no > durable || (c != nil && c.users() > 0) {
			left = append(left, d)
			continue
		}
		if c != nil {
			c.row.Store(0) // the settler has no row to look for
		}
		out = append(out, d.blob)
		delete(r.byBlob, d.blob)
		delete(r.inRow, d.blob)
	}
	r.doomed = left
	if len(out) > 0 {
		r.sweeps++
	}
	return out
}

func (r *retiredContents) gone(blobs []seal.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.removed = append(r.removed, blobs...)
	r.count += len(blobs)
	if r.sweeps--; r.sweeps == 0 {
		r.idle.Broadcast()
	}
}

func (r *retiredContents) unlinked() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count
}

func (r *retiredContents) empty() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.byBlob) == 0
}

// wait returns when no unlinking is under way.
func (r *retiredContents) wait() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.sweeps > 0 {
		r.idle.Wait()
	}
}

// forget deletes the doomed rows of blobs that have been unlinked.
func (r *retiredContents) forget(t *txn) error {
	r.mu.Lock()
	blobs := r.removed
	r.mu.Unlock()
	if len(blobs) == 0 {
		return nil
	}
	rows := make(map[seal.ID]bool, len(blobs))
	for _, b := range blobs {
		rows[b] = true
	}
	var ds []int64
	if err := t.query("SELECT d,blob FROM doomed", func(c []dbValue) error {
		s := rowScanner{c: c}
		d, id := s.num(), s.id()
		if rows[id] {
			ds = append(ds, d)
		}
		return nil
	}); err != nil {
		return err
	}
	for _, d := range ds {
		if err := t.exec("DELETE FROM doomed WHERE d=?", d); err != nil {
			return err
		}
	}
	// A repeated transaction only finds less to delete.
	r.mu.Lock()
	r.removed = r.removed[len(blobs):]
	r.mu.Unlock()
	return nil
}

// stillNamed says whether a row has the file of a blob after all: with the
// ledger on, two files may show one content, and one that was replaced may come
// back. In doubt it stays; the next unlock removes what nothing names.
func (v *Vault) stillNamed(blob seal.ID) bool {
	if !v.com.synced.Load() {
		return false
	}
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return true
	}
	found, err := v.reader.one("SELECT 1 FROM asset_attachments WHERE blob=? AND place<>0 LIMIT 1", blob[:])
	return err != nil || found != nil
}

// sweep unlinks, behind the barrier and beside everything else, the blobs
// whose doom is durable. An unlink of a synced file can wait for the disk to
// discard its blocks, so it never runs on a path that anybody waits for.
func (v *Vault) sweep(durable uint64) {
	blobs := v.retired.ready(durable)
	if len(blobs) == 0 {
		return
	}
	unlink := func() {
		for _, id := range blobs {
			if v.stillNamed(id) {
				continue
			}
			v.fileKeys.Remove(id)
			if err := v.attachments.Remove(binName(id)); err != nil {
				v.log.Warn("blob not removed", "blob", id.Hex(), "err", err)
			}
			v.dropDeadSparse(id)
		}
		v.retired.gone(blobs)
	}
	if v.closed.Load() {
		unlink()
		return
	}
	v.wg.Add(1)
	go func() {
		defer v.wg.Done()
		unlink()
	}()
}
