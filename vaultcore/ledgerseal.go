package vaultcore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/history"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// States of a batch in the database.
const (
	batchSealed  = 1 // ours, not pushed
	batchPushed  = 2 // ours, on the remote
	batchApplied = 3 // another's
)

// SealOptions say what the next batch takes.
type SealOptions struct {
	// Before leaves rows that changed later for the next batch; zero takes all.
	Before time.Time
	// Empty seals a batch also when nothing changed: the daily sign of life.
	Empty bool
	// Ops ride along: Sent and Want.
	Ops []seal.Op

	all  bool  // not for one batch: whatever is dirty
	from int64 // rows up to this one had their turn in the last batch
	upTo int64 // rows beyond wait for the next batch; 0: none do
}

// later says that a row changed too lately for this batch.
func (o *SealOptions) later(changed int64) bool {
	return !o.Before.IsZero() && changed > o.Before.UnixNano()
}

// Seal makes the next batch of this device out of what changed, and returns
// when it is durable: only then may anybody see it. more says that another one
// is due. A nil batch: there was nothing to say. Errors: ErrLedgerOff, ErrFork,
// ErrNewEpoch, ErrRevoked and ErrLocalRollback while this device may not seal,
// those of the disk; then nothing is sealed, or the same bytes are found again
// by OwnBatches.
func (v *Vault) Seal(ctx context.Context, o SealOptions) (b *seal.Batch, more bool, err error) {
	if err := errors.Join(v.writable(), v.sealable()); err != nil {
		return nil, false, err
	}
	if o.Before.IsZero() {
		v.commitFlushed(math.MaxInt64, math.MaxInt64) // who asks for all means what was closed
	}
	if b, more, err = v.sealLocked(ctx, o); err != nil || b == nil {
		return nil, false, err
	}
	// Without the lock: uploads and downloads go on meanwhile.
	return b, more, v.Barrier(ctx)
}

func (v *Vault) sealLocked(ctx context.Context, o SealOptions) (b *seal.Batch, more bool, err error) {
	l, err := v.lockLedger(ctx)
	if err != nil {
		return nil, false, err
	}
	defer l.mu.Unlock()
	var changes []Change
	err = l.hashedFor(ctx, &o, func() (err error) {
		b, more, changes, err = l.sealAlone(o)
		return err
	})
	v.changed(changes...)
	return b, more, err
}

func (l *ledger) sealAlone(o SealOptions) (*seal.Batch, bool, []Change, error) {
	l.v.ns.Lock()
	defer l.v.ns.Unlock()
	if err := l.noneUnhashedOf(o); err != nil {
		return nil, false, nil, err
	}
	s, err := l.sealNext(o)
	if err != nil {
		return nil, false, nil, err
	}
	if s == nil {
		return nil, false, l.v.namesCameFree(), nil
	}
	l.turn = 0
	if s.more {
		l.turn = s.last
	}
	changes, err := l.applyChanged(l.sealedOf(s.changed), nil)
	l.broken = err != nil
	return s.batch, s.more, changes, err
}

// sealedOf leaves out what has changes that wait for the next batch: rows and
// tree are ahead of the history there, and come to it with that batch. ns is held.
func (l *ledger) sealedOf(c history.Changed) (out history.Changed) {
	x := l.v.indexRows(c.Attachments, nil)
	l.v.tree.RLock()
	defer l.v.tree.RUnlock()
	waits := func(n *Node) bool { return n.dirty&^dirtyWrap != 0 }
	for _, id := range c.Attachments {
		if !slices.ContainsFunc(x.byID[id], waits) {
			out.Attachments = append(out.Attachments, id)
		}
	}
	for _, id := range c.Assets {
		if n := x.assets[id]; n == nil || !waits(n) {
			out.Assets = append(out.Assets, id)
		}
	}
	return out
}

// sealing is a batch being made.
type sealing struct {
	l       *ledger
	o       SealOptions
	body    seal.Body
	size    int
	more    bool
	last    int64 // row of an attachment that had its turn
	assets  []*assetRow
	atts    []*attRow // with the numbers of their new record
	numbers []uint64  // the commit that each of atts carries, once stored
	clean   []cleanRow
	batch   *seal.Batch
	ops     []*opRow

	changed history.Changed // by the batch
}

// cleanRow is a row that has nothing left to say.
type cleanRow struct {
	table string
	n     int64
}

// sealNext seals one batch and enters it into the history. ns and mu are held,
// so no row changes meanwhile. nil: there is nothing to seal.
func (l *ledger) sealNext(o SealOptions) (*sealing, error) {
	s := &sealing{l: l, o: o}
	if err := l.listed(); err != nil {
		return nil, s.unlisted(o, err)
	}
	own := l.peer(l.v.keys.deviceID()).clone()
	if err := s.collect(own, o.Ops); err != nil {
		return nil, err
	}
	if len(s.body.Ops) == 0 && !o.Empty {
		if err := s.store(nil); err != nil || !s.more {
			return nil, err
		}
		o.from, o.upTo = 0, 0 // those so far had nothing to say
		return l.sealNext(o)
	}
	if err := s.close(own); err != nil {
		return nil, err
	}
	return s, s.store(own)
}

// unlisted refuses to seal on a device that is not in the roster; a vault in
// which nothing changed receives all the same.
func (s *sealing) unlisted(o SealOptions, err error) error {
	if o.Empty || len(o.Ops) > 0 {
		return err
	}
	for _, table := range []string{"assets", tableAttachments} {
		dirty, qerr := s.one("SELECT 1 FROM " + table + " WHERE dirty<>0 LIMIT 1")
		if dirty != nil || qerr != nil {
			return errors.Join(err, qerr)
		}
	}
	return nil
}

func (s *sealing) collect(own *peer, ride []seal.Op) error {
	if own.head.Seq == 0 {
		if err := s.nameDevice(); err != nil {
			return err
		}
	}
	for _, op := range ride {
		s.add(200, op)
	}
	if err := s.dirtyAssets(); err != nil {
		return err
	}
	return s.dirtyAttachments()
}

// nameDevice begins the chain with the name of this device.
func (s *sealing) nameDevice() error {
	name, err := s.l.v.ownName()
	if err != nil {
		return err
	}
	s.add(100, &seal.DeviceName{Name: name})
	return nil
}

func (s *sealing) one(sql string, args ...dbValue) (dbValue, error) {
	s.l.v.readMu.Lock()
	defer s.l.v.readMu.Unlock()
	return s.l.v.reader.one(sql, args...)
}

func (s *sealing) query(sql string, fn func([]dbValue) error) error {
	s.l.v.readMu.Lock()
	defer s.l.v.readMu.Unlock()
	if s.l.v.reader == nil {
		return ErrClosed
	}
	return s.l.v.reader.query(sql, fn)
}

// add enters ops that belong together; false: the batch is full.
func (s *sealing) add(size int, ops ...seal.Op) bool {
	if s.more {
		return false
	}
	if len(s.body.Ops) > 0 && (len(s.body.Ops)+len(ops) > seal.MaxOps || s.size+size > seal.BatchTarget) {
		s.more = true
		return false
	}
	s.body.Ops = append(s.body.Ops, ops...)
	s.size += size
	return true
}

func (s *sealing) dirtyAssets() error {
	var rows []*assetRow
	err := s.query("SELECT "+assetColumns+" FROM assets WHERE dirty<>0 ORDER BY n", func(c []dbValue) error {
		r := &assetRow{}
		if err := scanAsset(c, r); err != nil {
			return nil // check names it
		}
		rows = append(rows, r)
		return nil
	})
	if err != nil {
		return err
	}
	for _, r := range rows {
		if s.l.v.openAsset(r) == nil {
			s.addAsset(r)
		}
	}
	return nil
}

func (s *sealing) addAsset(r *assetRow) {
	if s.o.later(max(r.f.mtime, r.deleted)) {
		return
	}
	a := s.l.h.Asset(r.id)
	known := a.State != history.Unknown && len(a.Base) > 0
	if r.deleted != 0 {
		var ops []seal.Op
		if known {
			for _, d := range history.Delete(a.Base) {
				ops = append(ops, &seal.AssetDel{ID: r.id, Prev: d})
			}
		}
		if s.add(150*len(ops), ops...) {
			s.clean = append(s.clean, cleanRow{"assets", r.n})
		}
		return
	}
	put := &seal.AssetPut{ID: r.id, Rev: 1, Type: uint8(r.typ), Ctime: r.f.ctime, Title: r.title, Epoch: r.epoch}
	ops := []seal.Op{put}
	if known {
		prev, dels := history.Put(a.Base)
		put.Prev, put.Rev, put.Type = prev, a.Rev+1, a.Type
		for _, d := range dels {
			ops = append(ops, &seal.AssetDel{ID: r.id, Prev: d})
		}
	}
	if !s.add(300+2*len(r.title)+150*len(ops), ops...) {
		return
	}
	d := put.Digest(s.l.v.keys.vaultID())
	r.rev, r.digest, r.dirty = put.Rev, d[:], 0
	s.assets = append(s.assets, r)
}

// dirtyScan is how many rows are read at a time: about half of what a batch of
// ordinary records takes, since what is read beyond it is read again for the next.
const dirtyScan = 128

// dirtyAttachments takes rows from where the last batch ended, so that files that are
// written again all the time do not keep those behind them from their turn.
func (s *sealing) dirtyAttachments() error {
	for after := s.o.from; !s.more; {
		rows, err := s.dirtySome(after)
		if err != nil || len(rows) == 0 {
			return errors.Join(err, s.turnOver())
		}
		for _, r := range rows {
			if after = r.n; s.o.upTo > 0 && after > s.o.upTo {
				s.more = true
				return nil
			}
			if s.l.v.openAtt(r) != nil {
				continue // damaged: check names it, nothing is published
			}
			if err := s.addAttachment(r); err != nil {
				return err
			}
			if !s.more {
				s.last = r.n
			}
		}
	}
	return nil
}

// turnOver is for a batch that has reached the last row: the first ones are next, if
// they wait.
func (s *sealing) turnOver() error {
	if s.o.from == 0 {
		return nil
	}
	found, err := s.one("SELECT 1 FROM asset_attachments WHERE dirty<>0 AND n<=? LIMIT 1", s.o.from)
	s.more, s.last = found != nil, 0
	return err
}

func (s *sealing) dirtySome(after int64) ([]*attRow, error) {
	return s.someRows("dirty<>0 AND n>?", after)
}

// someRows gives the next rows of a condition on n.
func (s *sealing) someRows(where string, after int64) (rows []*attRow, err error) {
	v := s.l.v
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return nil, ErrClosed
	}
	err = v.reader.query("SELECT "+attColumns+" FROM asset_attachments WHERE "+where+" ORDER BY n LIMIT ?", func(c []dbValue) error {
		r := &attRow{}
		if scanAtt(c, r) != nil {
			r.sealed = nil
		}
		rows = append(rows, r)
		return nil
	}, after, int64(dirtyScan))
	return rows, err
}

func (s *sealing) addAttachment(r *attRow) error {
	if s.o.later(max(r.f.ctime, r.deleted)) {
		return nil
	}
	tips, _, _ := r.tips()
	if r.deleted != 0 {
		var ops []seal.Op
		for _, d := range history.Delete(tips) {
			ops = append(ops, &seal.Del{ID: r.id, Prev: d})
		}
		if s.add(150*len(ops), ops...) {
			s.clean = append(s.clean, cleanRow{tableAttachments, r.n})
		}
		return nil
	}
	if r.dirty == dirtyWrap && len(tips) > 0 {
		if s.add(250, &seal.Wrap{Blob: r.blob, Epoch: r.epoch, WK: r.wrapped}) {
			s.clean = append(s.clean, cleanRow{tableAttachments, r.n})
		}
		return nil
	}
	return s.addPut(r)
}

func (s *sealing) addPut(r *attRow) error {
	v := s.l.v
	if r.sha == nil {
		sum, err := v.hashRow(r)
		if err != nil {
			// It stays dirty and shows up in check; nobody could ever fetch it.
			v.log.Error("content not hashed", "id", r.id.UUID(), "err", err)
			return nil
		}
		r.sha = sum
	}
	base, shown := s.putBase(r)
	prev, dels := history.Put(base)
	put, err := s.putOf(r, prev, shown != nil)
	if err != nil {
		v.log.Error("record not sealed", "id", r.id.UUID(), "err", err)
		return nil
	}
	ops := []seal.Op{put}
	for _, d := range dels[:min(len(dels), seal.MaxOps-1)] {
		ops = append(ops, &seal.Del{ID: r.id, Prev: d})
	}
	if !s.add(putSize(put.Name, put.MIME)+150*len(dels), ops...) {
		return nil
	}
	d := put.Digest(v.keys.vaultID())
	r.rev, r.digest, r.base, r.dirty = put.Rev, d[:], nil, 0
	if shown != nil {
		r.base = append(d[:], shown...)
	}
	s.atts = append(s.atts, r)
	return nil
}

// putSize estimates the bytes of a put in a batch.
func putSize(name, mime []byte) int { return 1000 + 4*(len(name)+len(mime))/3 }

// putOf makes the op of a row's change. waiting: the row shows an earlier content
// than the one it is about.
func (s *sealing) putOf(r *attRow, prev history.Digest, waiting bool) (*seal.Put, error) {
	l, rev := s.l, uint64(1)
	if prev != (history.Digest{}) {
		rev = r.rev + 1
		if known, ok := l.h.Rev(r.id, prev); ok {
			rev = known + 1
		}
	}
	if waiting {
		var err error
		if r, err = s.carry(r, prev); err != nil {
			return nil, err
		}
	}
	return seal.NewPut(&seal.Record{
		Vault: l.v.keys.vaultID(), ID: r.id, ParentType: l.assetType(r.asset), Parent: r.asset, Version: r.version, Epoch: r.epoch,
		Rev: rev, Size: uint64(r.size), WK: r.wrapped, Name: r.name, MIME: r.mime,
		Blob: r.blob, Len: uint64(r.blobLen), SHA256: [32]byte(r.sha), Hdr: r.hdr, Mtime: r.f.mtime, Mode: uint32(r.f.mode),
	}, prev)
}

// assetType gives the type of an asset, which is part of every record in it.
func (l *ledger) assetType(id seal.ID) uint8 {
	l.v.tree.RLock()
	defer l.v.tree.RUnlock()
	if n := l.v.rows.assets[id]; n != nil {
		return uint8(n.atype)
	}
	return seal.ParentItem
}

// close signs the batch.
func (s *sealing) close(own *peer) error {
	l := s.l
	device := l.v.keys.deviceID()
	s.body.HLC = l.clock.Tick(l.v.trueMillis())
	s.body.Seen = make(map[seal.ID]seal.Head)
	err := l.v.keys.withEpoch(0, func(keys *seal.EpochKeys) (err error) {
		for id, p := range l.peers {
			if id == device || p.head.Seq == 0 {
				continue
			}
			if own.seen[id].Seq > p.head.Seq {
				continue // a revocation took back what was named before
			}
			// All in the first of an epoch: who starts there finds them all.
			if own.epoch != keys.Epoch() || own.seen[id].Seq < p.head.Seq {
				s.body.Seen[id] = p.head
			}
		}
		s.batch, err = seal.SealBatch(keys, l.signer, own.head.Seq+1, own.head.Hash, &s.body)
		return err
	})
	if err != nil {
		return fmt.Errorf("seal batch %d: %w", own.head.Seq+1, err)
	}
	own.head, own.epoch, own.hlc = s.batch.Head(), s.batch.Epoch, s.body.HLC
	for id, h := range s.body.Seen {
		own.seen[id] = h
	}
	for i, op := range s.body.Ops {
		if o, ok := l.v.opRowOf(s.batch, s.body.HLC, i, op); ok {
			o.n = l.lastOp + int64(len(s.ops)) + 1
			s.ops = append(s.ops, o)
		}
	}
	return nil
}
