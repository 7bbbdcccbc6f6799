package vaultcore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/history"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

const (
	// keepAge is how long what was replaced or deleted stays in checkpoints.
	keepAge = 30 * 24 * time.Hour
	// activeAge is how long a device may be silent and still be waited for.
	activeAge = 180 * 24 * time.Hour
)

// settled is what makes a batch old for a checkpoint: the horizon of time, and of
// what every active device has of the others.
type settled struct {
	horizon history.HLC
	known   map[seal.ID]uint64 // by author: the last batch that all others have
}

// settledAt says what is settled in a checkpoint of that clock with those chains.
func (l *ledger) settledAt(hlc seal.HLC, chains map[seal.ID]seal.Chain) settled {
	s := settled{horizon: history.HLC(hlcBefore(hlc, keepAge)), known: make(map[seal.ID]uint64, len(chains))}
	oldest := hlcBefore(hlc, activeAge)
	gone := make(map[seal.ID]bool)
	for _, d := range l.v.keys.header().Devices {
		gone[d.ID] = d.Revoked
	}
	for author, c := range chains {
		all := c.Seq
		for id, o := range chains {
			if id != author && !gone[id] && o.HLC >= oldest {
				all = min(all, l.seenBy(id, o.Seen, author))
			}
		}
		s.known[author] = all
	}
	return s
}

// seenBy gives the last batch of an author that a device has; of ours we know
// more than what its batches have said.
func (l *ledger) seenBy(id seal.ID, seen map[seal.ID]seal.Head, author seal.ID) uint64 {
	if id == l.v.keys.deviceID() {
		return l.peer(author).head.Seq
	}
	return max(seen[author].Seq, l.peer(id).seen[author].Seq)
}

func hlcBefore(hlc seal.HLC, d time.Duration) seal.HLC {
	return seal.HLC(max(hlc.Millis()-d.Milliseconds(), 0) << 16)
}

func (s *settled) is(at history.At) bool { return at.HLC <= s.horizon && at.Seq <= s.known[at.Device] }

// writing is a checkpoint being made.
type writing struct {
	l      *ledger
	chains map[seal.ID]seal.Chain
	heads  map[seal.ID]uint64
	hlc    seal.HLC
	state  [32]byte
	kept   *history.Kept
	blobs  map[seal.ID]bool    // of records kept; true once a sent names it
	wraps  map[seal.ID]*wrapAt // the winning one of each
	takes  int                 // of ops that were taken back; another makes this one void

	w     *seal.CheckpointWriter
	epoch uint32
	c     int64
	first []byte // place of the first op since the last part
	parts int
	size  int64
}

type wrapAt struct {
	at    seal.At
	epoch uint32
}

// WriteCheckpoint makes a checkpoint of everything applied, and returns when it
// is durable: CheckpointFrame gives what is to be put on the remote, the last
// part last. Changes go on meanwhile. Errors: ErrReadOnly, ErrFork, ErrBusy when
// ops were taken back meanwhile, those of the disk; then none is made.
func (v *Vault) WriteCheckpoint(ctx context.Context) (Checkpoint, error) {
	if err := v.writable(); err != nil {
		return Checkpoint{}, err
	}
	l, err := v.lockLedger(ctx)
	if err != nil {
		return Checkpoint{}, err
	}
	w, err := l.beginCheckpoint()
	l.mu.Unlock()
	if err != nil {
		return Checkpoint{}, err
	}
	if v.keys.epoch() > 1 {
		if err := w.each(ctx, w.noteWrap, nil); err != nil {
			return Checkpoint{}, err
		}
	}
	if err := w.each(ctx, w.add, w.finish); err != nil {
		return Checkpoint{}, err
	}
	if err := v.Barrier(ctx); err != nil {
		return Checkpoint{}, err
	}
	known, err := v.Checkpoints(ctx)
	for _, c := range known {
		if c.c == w.c {
			return c, err
		}
	}
	return Checkpoint{}, errors.Join(err, fmt.Errorf("%w: checkpoint", ErrNotFound))
}

// beginCheckpoint decides what is kept; mu is held.
func (l *ledger) beginCheckpoint() (*writing, error) {
	own := l.peer(l.v.keys.deviceID())
	if own.head.Seq == 0 {
		return nil, fmt.Errorf("%w: a checkpoint before the first batch", ErrInvalid)
	}
	w := &writing{
		l: l, chains: make(map[seal.ID]seal.Chain), heads: make(map[seal.ID]uint64),
		blobs: make(map[seal.ID]bool), wraps: make(map[seal.ID]*wrapAt), takes: l.takes,
	}
	for id, p := range l.peers {
		if p.head.Seq > 0 {
			w.chains[id] = seal.Chain{Head: p.head, Epoch: p.epoch, HLC: p.hlc, Seen: maps.Clone(p.seen)}
			w.heads[id] = p.head.Seq
			w.hlc = max(w.hlc, p.hlc)
		}
	}
	s := l.settledAt(w.hlc, w.chains)
	w.kept = l.h.Keep(nil, s.is, func(b seal.ID) bool { return l.sent[b] })
	w.state = l.state(nil)
	err := l.v.keys.withEpoch(0, func(k *seal.EpochKeys) error {
		w.w, w.epoch = seal.NewCheckpointWriter(k, l.signer), k.Epoch()
		return nil
	})
	if err != nil {
		return nil, err
	}
	for b := range l.h.Blobs(w.kept) {
		w.blobs[b] = false
	}
	return w, w.start()
}

// start makes room; what a kill left of an earlier one goes.
func (w *writing) start() error {
	_, err := w.l.v.com.do(func(t *txn) error {
		n, err := t.one("SELECT max(coalesce((SELECT max(c) FROM checkpoints),0),coalesce((SELECT value FROM meta WHERE key=?),0))+1", metaBase)
		if err != nil {
			return err
		}
		w.c, _ = n.(int64)
		return t.exec("DELETE FROM checkpoint_parts WHERE c>=?", w.c)
	})
	return err
}

// each goes over all ops the checkpoint covers, and gives the ledger back
// between any two parts or batches. end runs in the same turn as the last.
func (w *writing) each(ctx context.Context, fn func(*seal.PlacedOp) error, end func() error) error {
	s := w.l.allOps(w.heads)
	for {
		l, err := w.l.v.lockLedger(ctx)
		if err != nil {
			return err
		}
		more, err := w.turn(l, s, fn, end)
		l.mu.Unlock()
		if err != nil || !more {
			return err
		}
	}
}

func (w *writing) turn(l *ledger, s *opStream, fn func(*seal.PlacedOp) error, end func() error) (more bool, err error) {
	if l.takes != w.takes || l.v.keys.epoch() != w.epoch {
		return false, fmt.Errorf("%w: the log changed while a checkpoint was made", ErrBusy)
	}
	ops, err := s.next()
	if err != nil {
		return false, err
	}
	for i := range ops {
		if err := fn(&ops[i]); err != nil {
			return false, err
		}
	}
	if len(ops) == 0 && end != nil {
		err = end()
	}
	return len(ops) > 0, err
}

// noteWrap finds the key that counts of each blob.
func (w *writing) noteWrap(p *seal.PlacedOp) error {
	op, ok := p.Op.(*seal.Wrap)
	if _, kept := w.blobs[idOf(op)]; !ok || !kept {
		return nil
	}
	if best := w.wraps[op.Blob]; best == nil || best.less(op.Epoch, &p.At) {
		w.wraps[op.Blob] = &wrapAt{p.At, op.Epoch}
	}
	return nil
}

func idOf(op *seal.Wrap) seal.ID {
	if op == nil {
		return seal.ID{}
	}
	return op.Blob
}

func (a *wrapAt) less(epoch uint32, at *seal.At) bool {
	return cmp.Or(cmp.Compare(a.epoch, epoch), cmp.Compare(a.at.HLC, at.HLC), a.at.Compare(at)) < 0
}

// add takes an op if it is kept.
func (w *writing) add(p *seal.PlacedOp) error {
	born, ok := w.keeps(p)
	if !ok {
		return nil
	}
	p = &seal.PlacedOp{At: p.At, Op: p.Op, Born: born}
	part, err := w.w.Add(*p)
	if err != nil {
		return err
	}
	if w.first == nil {
		w.first = placeKey(&p.At)
	}
	return w.store(part)
}

// keeps says whether an op is kept, and of a record whose elders are not the
// birth of its id.
func (w *writing) keeps(p *seal.PlacedOp) (born *seal.At, keep bool) {
	switch op := p.Op.(type) {
	case *seal.Put:
		return w.record(op.Digest(w.l.v.keys.vaultID()))
	case *seal.AssetPut:
		return w.record(op.Digest(w.l.v.keys.vaultID()))
	case *seal.Del, *seal.AssetDel, *seal.DeviceName:
		return nil, true
	case *seal.Wrap:
		best := w.wraps[op.Blob]
		return nil, best != nil && best.at == p.At
	case *seal.Sent:
		return nil, w.sent(op)
	}
	return nil, false
}

func (w *writing) record(d [32]byte) (born *seal.At, keep bool) {
	keep, at := w.kept.Record(d)
	if at != nil {
		born = &seal.At{Device: at.Device, Seq: at.Seq, HLC: seal.HLC(at.HLC)}
	}
	return born, keep
}

// sent keeps what names a blob that matters and that none before named.
func (w *writing) sent(op *seal.Sent) (keep bool) {
	if r := w.l.remote; !r.IsZero() && op.Remote != r {
		return false
	}
	for _, b := range op.Blobs {
		if named, matters := w.blobs[b]; matters && !named {
			w.blobs[b], keep = true, true
		}
	}
	return keep
}

// store keeps a part that is full, nil for none.
func (w *writing) store(part *seal.Batch) error {
	if part == nil {
		return nil
	}
	first := w.first
	if first == nil {
		first = firstKey(nil)
	}
	_, err := w.l.v.com.do(func(t *txn) error { return t.putPart(w.c, int(part.Seq), first, part.Bytes) })
	w.first, w.parts, w.size = nil, int(part.Seq), w.size+int64(len(part.Bytes))
	return err
}

func (t *txn) putPart(c int64, part int, first, frame []byte) error {
	return t.exec("INSERT OR REPLACE INTO checkpoint_parts(c,part,first,bytes) VALUES(?,?,?,?)", c, int64(part), first, frame)
}

// finish seals the last part, and so makes it a checkpoint. One made earlier
// that never came to the remote is not needed any more.
func (w *writing) finish() error {
	part, err := w.w.Flush()
	if err != nil {
		return err
	}
	if err := w.store(part); err != nil {
		return err
	}
	last, err := w.w.Finish(w.chains, w.hlc, w.state)
	if err != nil {
		return err
	}
	end := &seal.Checkpoint{Parts: last.Seq - 1, Heads: w.chains, HLC: w.hlc}
	if err := w.store(last); err != nil {
		return err
	}
	_, err = w.l.v.com.do(func(t *txn) error {
		for _, table := range []string{"checkpoint_parts", "checkpoints"} {
			err := t.exec("DELETE FROM "+table+" WHERE c IN (SELECT c FROM checkpoints WHERE state=? AND c<>?)", int64(checkpointMade), w.l.base.c)
			if err != nil {
				return err
			}
		}
		return t.exec("INSERT INTO checkpoints(c,device,seq,hlc,parts,state,verdict,held,frame) VALUES(?,?,?,?,?,?,?,?,?)", w.c, last.Device[:],
			int64(end.Heads[last.Device].Seq), int64(end.HLC), int64(end.Parts), int64(checkpointMade), int64(Agrees), w.size, last.Bytes)
	})
	w.l.v.bar.commit()
	return err
}
