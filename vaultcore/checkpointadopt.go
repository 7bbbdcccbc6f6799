package vaultcore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/vaultdrive/vaultdrive/vaultcore/history"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// adopt puts the checkpoint in the place of what it covers.
func (ld *loading) adopt(ctx context.Context) error {
	l, err := ld.l.v.lockLedger(ctx)
	if err != nil {
		return err
	}
	defer l.mu.Unlock()
	var changes []Change
	err = l.hashed(ctx, func() (err error) {
		changes, err = ld.adoptAlone()
		return err
	})
	l.v.changed(changes...)
	if err != nil {
		return err
	}
	return l.v.Barrier(ctx)
}

// adoptAlone is adopt while nothing else changes.
func (ld *loading) adoptAlone() ([]Change, error) {
	l := ld.l
	l.v.ns.Lock()
	defer l.v.ns.Unlock()
	if err := l.noneUnhashed(); err != nil {
		return nil, err
	}
	if err := ld.usable(); err != nil {
		return nil, err
	}
	next, alike, err := ld.prepare()
	if err != nil {
		return nil, err
	}
	l.broken = true // until memory is what the database says
	if err := ld.store(next, alike); err != nil {
		return nil, err
	}
	ld.install(next)
	l.broken = false
	if alike {
		return nil, nil
	}
	l.notePending()
	changes, err := l.applyAll(behindCheckpoint, next.wraps)
	l.broken = err != nil
	return changes, err
}

// prepare verifies the checkpoint and makes what memory will hold. alike: the drive
// shows with it what it shows now. Else all that changed here is sealed, so that it
// can be shown.
func (ld *loading) prepare() (next *nextLedger, alike bool, err error) {
	l := ld.l
	complete := l.covers(heads(ld.end.Heads))
	if !complete {
		if err := l.sealFirst(&incoming{}); err != nil {
			return nil, false, err
		}
	}
	if err := ld.verify(complete); err != nil {
		return nil, false, err
	}
	if next, err = ld.build(); err != nil {
		return nil, false, err
	}
	if state := seal.State(slices.Collect(next.h.Tips(covered(ld.end.Heads)))); state != ld.end.State {
		return nil, false, fmt.Errorf("%w: that of device %s gives another state than it says", ErrCheckpoint, ld.b.Device)
	}
	if complete {
		if !l.h.Unlike(next.h) {
			return next, true, nil
		}
		if err := l.sealFirst(&incoming{}); err != nil {
			return nil, false, err
		}
		if next, err = ld.build(); err != nil {
			return nil, false, err
		}
	}
	ended, err := l.outlive(next.h, ld.end.Heads)
	if err == nil && ended {
		next, err = ld.build()
	}
	return next, false, err
}

// outlive ends what would revive the dead: changes of mtime and mode made here of
// files that were deleted meanwhile, and that the checkpoint, which next is made of,
// has only the del of. It is sealed before the checkpoint takes the place of the
// log: afterwards, be it after a kill, nobody knows any more what they changed.
func (l *ledger) outlive(next *history.History, heads map[seal.ID]seal.Chain) (ended bool, err error) {
	own := l.v.keys.deviceID()
	outlived := l.h.Outlived(next, own, heads[own].Seq)
	for some := range slices.Chunk(outlived, seal.MaxOps) {
		var ops []seal.Op
		for _, d := range some {
			ops = append(ops, &seal.Del{ID: d.ID, Prev: d.Prev})
		}
		if _, err := l.sealNext(SealOptions{Ops: ops}); err != nil {
			return false, err
		}
	}
	return len(outlived) > 0, nil
}

func heads(chains map[seal.ID]seal.Chain) map[seal.ID]uint64 {
	m := make(map[seal.ID]uint64, len(chains))
	for id, c := range chains {
		m[id] = c.Seq
	}
	return m
}

// next is what memory will hold.
type nextLedger struct {
	h     *history.History
	sent  map[seal.ID]seal.ID // blob to who sent it
	wraps map[seal.ID]*seal.Wrap
	rows  int64
}

// rowsOf gives the rows of an op of a checkpoint.
func (v *Vault) rowsOf(p *seal.PlacedOp) (rows []*opRow) {
	o, ok := v.opRowAt(&p.At, p.Op)
	if !ok {
		return nil
	}
	rows = append(rows, o)
	if p.Born != nil {
		b := &opRow{device: p.Born.Device, seq: p.Born.Seq, kind: opBirth, hlc: p.Born.HLC}
		b.put.ID, b.put.Parent.Type = o.put.ID, history.BirthAttachment
		if o.kind == opAssetPut {
			b.put.Parent.Type = history.BirthAsset
		}
		rows = append(rows, b)
	}
	return rows
}

// build makes the history of the checkpoint and of what follows it here.
func (ld *loading) build() (*nextLedger, error) {
	l := ld.l
	n := &nextLedger{h: history.New(), sent: make(map[seal.ID]seal.ID), wraps: make(map[seal.ID]*seal.Wrap)}
	s := l.checkpointOps(ld.c, int(ld.end.Parts)+1)
	for {
		ops, err := s.next()
		if err != nil {
			return nil, err
		}
		if len(ops) == 0 {
			break
		}
		var rows []*opRow
		for i := range ops {
			rows = append(rows, l.v.rowsOf(&ops[i])...)
			switch op := ops[i].Op.(type) {
			case *seal.Wrap:
				n.wraps[op.Blob] = op
			case *seal.Sent:
				n.noteSent(l, op, ops[i].Device)
			}
		}
		n.rows += int64(len(rows))
		n.h.Add(historyOps(rows))
	}
	return n, ld.addTail(n.h)
}

func (n *nextLedger) noteSent(l *ledger, op *seal.Sent, by seal.ID) {
	if !l.remote.IsZero() && op.Remote != l.remote {
		return
	}
	for _, b := range op.Blobs {
		n.sent[b] = by
	}
}

// addTail adds the ops that count of the batches behind the checkpoint.
func (ld *loading) addTail(h *history.History) error {
	l := ld.l
	var rows []*opRow
	var open error
	err := l.read("SELECT n,device,seq,idx,kind,digest,sealed FROM ops ORDER BY n", func(s *rowScanner) {
		o := &opRow{n: s.num(), device: s.id(), seq: uint64(s.num()), idx: int(s.num()), kind: opKind(s.num()), digest: bytes.Clone(s.blob())}
		sealed := s.blob()
		if o.seq <= ld.end.Heads[o.device].Seq || open != nil {
			return
		}
		if open = l.v.openOp(o, sealed); open == nil {
			rows = append(rows, o)
		}
	})
	h.Add(historyOps(rows))
	if open != nil {
		return open
	}
	return err
}

// store writes all of it in one transaction. Batches of ours that are not on
// the remote yet stay.
func (ld *loading) store(n *nextLedger, alike bool) error {
	l := ld.l
	old := l.base.c
	_, err := l.v.com.do(func(t *txn) error {
		if err := errors.Join(ld.storeChains(t), ld.storeOps(t)); err != nil {
			return err
		}
		for b, by := range n.sent {
			if err := t.exec("INSERT INTO blob_presence(blob,state,device) VALUES(?,1,?) ON CONFLICT(blob) DO NOTHING", b[:], by[:]); err != nil {
				return err
			}
		}
		if old != 0 {
			if err := t.dropParts(old); err != nil {
				return err
			}
		}
		if !alike {
			if err := t.setMeta(metaBehind, int64(behindCheckpoint)); err != nil {
				return err
			}
		}
		if err := t.exec("UPDATE checkpoints SET held=max(held,?),verdict=? WHERE c=?", ld.size, int64(Agrees), ld.c); err != nil {
			return err
		}
		return t.setMeta(metaBase, ld.c)
	})
	l.v.bar.commit()
	return err
}

// storeChains drops what the chains had below the heads, and lets those that end
// earlier here go on there.
func (ld *loading) storeChains(t *txn) error {
	for id, h := range ld.end.Heads {
		if err := t.exec("DELETE FROM ops WHERE device=? AND seq<=?", id[:], int64(h.Seq)); err != nil {
			return err
		}
		if err := t.exec("DELETE FROM batches WHERE device=? AND seq<? AND state<>?", id[:], int64(h.Seq), int64(batchSealed)); err != nil {
			return err
		}
		if ld.l.peer(id).head.Seq >= h.Seq {
			continue
		}
		if err := t.putPeer(id, &peer{head: h.Head, epoch: h.Epoch, hlc: h.HLC, seen: h.Seen}); err != nil {
			return err
		}
	}
	return nil
}

func (ld *loading) storeOps(t *txn) error {
	no := ld.l.lastOp
	s := ld.l.checkpointOps(ld.c, int(ld.end.Parts)+1)
	for {
		ops, err := s.next()
		if err != nil || len(ops) == 0 {
			return err
		}
		for i := range ops {
			for _, o := range ld.l.v.rowsOf(&ops[i]) {
				no++
				o.n = no
				if err := ld.l.v.insertOp(t, o); err != nil {
					return err
				}
			}
		}
	}
}

// install makes memory what was stored.
func (ld *loading) install(n *nextLedger) {
	l := ld.l
	l.h, l.takes = n.h, l.takes+1
	l.lastOp += n.rows
	l.clock = max(l.clock, ld.end.HLC)
	l.base = newBase(ld.c, ld.b, ld.end)
	l.part, l.partNo = nil, 0
	for b := range n.sent {
		l.sent[b] = true
	}
	l.rowsDue = dueRows{}
	for id, h := range ld.end.Heads {
		if p := l.peer(id); p.head.Seq < h.Seq {
			p.head, p.epoch, p.hlc, p.seen = h.Head, h.Epoch, h.HLC, maps.Clone(h.Seen)
			if p.seen == nil {
				p.seen = make(map[seal.ID]seal.Head)
			}
		}
		held := l.held[id]
		for len(held) > 0 && held[0].b.Seq <= h.Seq {
			held = held[1:]
		}
		if l.held[id] = held; len(held) == 0 {
			delete(l.held, id)
		}
	}
}
