package vaultcore

import (
	"bytes"
	"fmt"

	"github.com/vaultdrive/vaultdrive/vaultcore/history"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// opCursor gives the ops of a stream one by one.
type opCursor struct {
	s   *opStream
	ops []seal.PlacedOp
}

// peek gives the next op, nil at the end.
func (c *opCursor) peek() (*seal.PlacedOp, error) {
	if len(c.ops) == 0 {
		var err error
		if c.ops, err = c.s.next(); err != nil || len(c.ops) == 0 {
			return nil, err
		}
	}
	return &c.ops[0], nil
}

func (c *opCursor) skip() { c.ops = c.ops[1:] }

// verify compares the checkpoint with what we hold of the batches it covers.
func (ld *loading) verify(complete bool) error {
	l := ld.l
	covers := heads(ld.end.Heads)
	known := make(map[seal.ID]uint64)
	for id, seq := range covers {
		known[id] = min(seq, l.peer(id).head.Seq)
	}
	var required map[history.Digest]bool
	if complete {
		if err := l.compare(ld.b, ld.end); err != nil {
			return err
		}
		horizon := history.HLC(hlcBefore(ld.end.HLC, keepAge))
		aged := func(at history.At) bool { return at.HLC <= horizon }
		required = l.h.Required(covered(ld.end.Heads), aged, func(b seal.ID) bool { return l.sent[b] })
	}
	ours, theirs := &opCursor{s: l.allOps(known)}, &opCursor{s: l.checkpointOps(ld.c, int(ld.end.Parts)+1)}
	for {
		a, err := ours.peek()
		if err != nil {
			return err
		}
		b, err := theirs.peek()
		if err != nil || a == nil && b == nil {
			return err
		}
		switch order := comparePlaces(a, b); {
		case order < 0:
			err = ld.leftOut(a, required)
			ours.skip()
		case order > 0:
			err = ld.unknown(b)
			theirs.skip()
		default:
			err = ld.same(a, b)
			ours.skip()
			theirs.skip()
		}
		if err != nil {
			return err
		}
	}
}

// comparePlaces has nil behind all.
func comparePlaces(a, b *seal.PlacedOp) int {
	switch {
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	return a.At.Compare(&b.At)
}

// leftOut looks at an op of ours that the checkpoint drops. required is nil if we
// do not hold all that it covers.
func (ld *loading) leftOut(p *seal.PlacedOp, required map[history.Digest]bool) error {
	var digest [32]byte
	switch op := p.Op.(type) {
	case *seal.Del, *seal.AssetDel, *seal.DeviceName:
		return ld.lie("leaves out", p)
	case *seal.Put:
		digest = op.Digest(ld.l.v.keys.vaultID())
	case *seal.AssetPut:
		digest = op.Digest(ld.l.v.keys.vaultID())
	default:
		return nil
	}
	if required[digest] {
		return ld.lie("leaves out", p)
	}
	return nil
}

// unknown looks at an op of the checkpoint that we do not hold.
func (ld *loading) unknown(p *seal.PlacedOp) error {
	l := ld.l
	if p.Seq <= l.peer(p.Device).head.Seq && p.Seq > l.base.heads[p.Device] {
		return ld.lie("invents", p)
	}
	return nil
}

func (ld *loading) same(a, b *seal.PlacedOp) error {
	x, err := seal.AppendOp(nil, a.Op)
	if err != nil {
		return err
	}
	y, err := seal.AppendOp(nil, b.Op)
	if err != nil {
		return err
	}
	if a.HLC != b.HLC || !bytes.Equal(x, y) {
		return ld.lie("changes", b)
	}
	return nil
}

func (ld *loading) lie(does string, p *seal.PlacedOp) error {
	return fmt.Errorf("%w: that of device %s %s op %d of batch %d of device %s", ErrCheckpoint, ld.b.Device, does, p.Index, p.Seq, p.Device)
}
