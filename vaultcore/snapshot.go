package vaultcore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vaultdrive/vaultdrive/vaultcore/history"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Snapshot is the vault at one moment, for a backup: its log, and the contents
// of the files that gives. The vault goes on meanwhile; the contents of the
// snapshot stay until Close.
type Snapshot struct {
	Headers [][]byte // envelopes, ascending, all there are
	Header  *seal.SignedHeader
	Device  seal.ID
	Heads   map[seal.ID]seal.Head
	State   [32]byte
	// Checkpoint stands for the part of the log that is not kept any more; nil if
	// all of it is.
	Checkpoint *Checkpoint
	Blobs      []SnapshotBlob // ascending by id
	// Missing are the contents of live files that are neither here nor to be
	// had, ascending by id.
	Missing []MissingBlob
	// Damaged are the paths of files that changed and whose content cannot be
	// read any more: the log has them as they were before, or not at all.
	Damaged []string

	v    *Vault
	last int64   // row of the newest batch
	l    *ledger // that keeps its log while this is open
}

// SnapshotBlob is a sealed content.
type SnapshotBlob struct {
	ID     seal.ID
	Len    int64 // bytes
	SHA256 [32]byte
	c      *content
}

// MissingBlob is a content that a file needs, and where that file is.
type MissingBlob struct {
	ID   seal.ID
	Path string
}

// Snapshot seals everything that was closed, with synchronisation off too: the
// ledger is turned on then, name being what other devices would call this one.
// Contents that are elsewhere are fetched first. Trash, scratch files and what is
// still being written are no part of it. Errors: ErrUnlisted, ErrLocalRollback,
// ErrReadOnly, those of the disk.
func (v *Vault) Snapshot(ctx context.Context, name string) (*Snapshot, error) {
	if err := v.EnableLedger(ctx, name); err != nil {
		return nil, err
	}
	if err := v.RolledBack(); err != nil {
		return nil, err
	}
	if err := v.sealAllBut(ctx); err != nil {
		return nil, err
	}
	if err := v.bringWanted(ctx); err != nil {
		return nil, err
	}
	l, err := v.lockLedger(ctx)
	if err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	if err := l.listed(); err != nil {
		return nil, err
	}
	s := &Snapshot{v: v, Device: v.keys.deviceID()}
	if err := s.takeHeaders(); err != nil {
		return nil, err
	}
	var changes []Change
	err = l.hashed(ctx, func() (err error) {
		changes, err = l.snapshot(s)
		return err
	})
	v.changed(changes...)
	if err == nil {
		// What is sealed is durable before anybody sees it.
		err = v.Barrier(ctx)
	}
	if err != nil {
		s.release()
		return nil, err
	}
	return s, nil
}

// sealAllBut seals what there is in batches of the usual size, each for itself,
// so that the exclusive section finds little left to do.
func (v *Vault) sealAllBut(ctx context.Context) error {
	for {
		_, more, err := v.Seal(ctx, SealOptions{})
		if err != nil || !more {
			return err
		}
	}
}

// bringWanted has the contents that are elsewhere brought here; those that
// cannot be had are found missing later.
func (v *Vault) bringWanted(ctx context.Context) error {
	fetch := v.store.fetches.whole.Load()
	if fetch == nil {
		return nil
	}
	wanted, err := v.WantedBlobs(ctx)
	if err != nil {
		return err
	}
	for _, w := range wanted {
		if err := (*fetch)(ctx, w.Blob); err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

func (s *Snapshot) takeHeaders() (err error) {
	if s.Headers, err = s.v.HeaderEnvelopes(0); err != nil {
		return err
	}
	s.Header, err = headerChain(s.Headers, s.v.keys.header().DID)
	if err == nil && s.Header.Hash() != s.v.keys.header().Hash() {
		err = fmt.Errorf("%w: header %d is not recorded", ErrDamaged, s.v.keys.header().Seq)
	}
	return err
}

// snapshot seals the rest and takes note of everything, while nothing changes.
func (l *ledger) snapshot(s *Snapshot) (changes []Change, err error) {
	v := l.v
	v.ns.Lock()
	defer v.ns.Unlock()
	if err := l.noneUnhashed(); err != nil {
		return nil, err
	}
	in := &incoming{}
	if err := l.sealFirst(in); err != nil {
		return nil, err
	}
	if err := l.vouch(in); err != nil {
		return nil, err
	}
	if len(in.attached)+len(in.assets) > 0 {
		if changes, err = l.applyChanged(in.changed(), nil); err != nil {
			l.broken = true
			return nil, err
		}
	}
	s.Heads, s.State, s.l = l.headsOf(), l.state(nil), l
	l.snapshots++
	if err := l.takeBase(s); err != nil {
		return changes, err
	}
	return changes, l.takeContents(s)
}

// takeBase notes the checkpoint that the log begins with.
func (l *ledger) takeBase(s *Snapshot) error {
	if l.base.c == 0 {
		return nil
	}
	known, err := l.checkpoints()
	if err != nil {
		return err
	}
	for i := range known {
		if known[i].Base {
			s.Checkpoint = &known[i]
			return nil
		}
	}
	return fmt.Errorf("%w: the checkpoint that the log begins with", ErrDamaged)
}

// Part gives a part of the checkpoint, from 1; the last is number Parts+1.
func (s *Snapshot) Part(ctx context.Context, part int) ([]byte, error) {
	return s.v.CheckpointFrame(ctx, s.Checkpoint.CheckpointID, part)
}

// vouch seals an empty batch where the own chain has not reached the current
// epoch: who reads the log from its start counts earlier batches then.
func (l *ledger) vouch(in *incoming) error {
	own := l.peer(l.v.keys.deviceID())
	if own.head.Seq == 0 || own.epoch == l.v.keys.epoch() {
		return nil
	}
	b, err := l.sealNext(SealOptions{Empty: true})
	if err == nil && b != nil {
		in.note(b.changed)
	}
	return err
}

// takeContents finds the contents of live files and holds them.
func (l *ledger) takeContents(s *Snapshot) error {
	live := l.liveBlobs()
	sums, err := l.sumsOf(live)
	if err != nil {
		return err
	}
	x := l.v.indexNodes(func(n *Node) bool { return n.content != nil && live[n.content.ref.blob] != seal.ID{} })
	for b, of := range live {
		c := contentHere(x.byBlob[b])
		sum, known := sums[b]
		if c == nil || !known {
			s.Missing = append(s.Missing, MissingBlob{ID: b, Path: pathOfID(x, l.h, of)})
			continue
		}
		c.acquire()
		s.Blobs = append(s.Blobs, SnapshotBlob{ID: b, Len: c.ref.sealedLen, SHA256: sum, c: c})
	}
	slices.SortFunc(s.Blobs, func(a, b SnapshotBlob) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	slices.SortFunc(s.Missing, func(a, b MissingBlob) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return l.takeRest(s)
}

// liveBlobs gives the contents of all live files, and what is shown meanwhile
// where one has not come, each with its attachment; those that a rebuilt vault wants.
func (l *ledger) liveBlobs() map[seal.ID]seal.ID {
	live := make(map[seal.ID]seal.ID)
	where := l.presence(l.v.blobsHere())
	for id := range l.h.Attachments() {
		for _, f := range l.h.Attachment(id, where).Live {
			if f.Twin {
				continue // no row shows it, and a folder's content is empty
			}
			live[f.Blob] = id
			if f.Pending && f.Shows != (history.Digest{}) {
				live[f.ShowsBlob] = id
			}
		}
	}
	return live
}

// sumsOf gives the hashes of sealed contents as their rows have them.
func (l *ledger) sumsOf(live map[seal.ID]seal.ID) (map[seal.ID][32]byte, error) {
	sums := make(map[seal.ID][32]byte, len(live))
	err := (&sealing{l: l}).query("SELECT blob,sha256 FROM asset_attachments WHERE place<>0 AND sha256 IS NOT NULL", func(c []dbValue) error {
		r := rowScanner{c: c}
		id, sum := r.id(), r.blob()
		if _, ok := live[id]; ok && len(sum) == 32 {
			sums[id] = [32]byte(sum)
		}
		return nil
	})
	return sums, err
}

func contentHere(nodes []*Node) *content {
	for _, n := range nodes {
		if n.content.place.Load() != placeElsewhere {
			return n.content
		}
	}
	return nil
}

// pathOfID names the file of an attachment, for a person.
func pathOfID(x *nodeIndex, h *history.History, id seal.ID) string {
	for _, n := range x.byID[id] {
		if !n.has(flagUnlinked) {
			return shownPath(n)
		}
	}
	for _, f := range h.Attachment(id, nil).Live {
		return f.Stored
	}
	return id.UUID()
}

// takeRest notes what could not be sealed, and where the log ends.
func (l *ledger) takeRest(s *Snapshot) error {
	q := &sealing{l: l}
	dirty := make(map[seal.ID]bool)
	err := q.query("SELECT id FROM asset_attachments WHERE dirty<>0 AND deleted=0", func(c []dbValue) error {
		r := rowScanner{c: c}
		dirty[r.id()] = true
		return nil
	})
	if err != nil {
		return err
	}
	if len(dirty) > 0 {
		x := l.v.indexNodes(func(n *Node) bool { return dirty[n.id] })
		for id := range dirty {
			s.Damaged = append(s.Damaged, pathOfID(x, l.h, id))
		}
		slices.Sort(s.Damaged)
	}
	last, err := q.one("SELECT coalesce(max(b),0) FROM batches")
	s.last, _ = last.(int64)
	return err
}

// ErrUnlisted: this device is not in the roster of the vault, or revoked: it came
// back from a backup. What it seals nobody would take.
var ErrUnlisted = errors.New("this device is not in the roster of the vault")

// listed says whether others take what this device seals.
func (l *ledger) listed() error {
	d, err := l.rosterEntry(l.v.keys.deviceID())
	if err != nil || d.Revoked {
		return ErrUnlisted
	}
	return nil
}

// headsOf gives the last applied batch of every device.
func (l *ledger) headsOf() map[seal.ID]seal.Head {
	heads := make(map[seal.ID]seal.Head, len(l.peers))
	for id, p := range l.peers {
		if p.head.Seq > 0 {
			heads[id] = p.head
		}
	}
	return heads
}
