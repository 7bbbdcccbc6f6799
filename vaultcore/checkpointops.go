package vaultcore

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// opStream walks through ops in the order of their places, holding those of one
// part or batch at a time: those of a checkpoint, and of the batches after it.
type opStream struct {
	l     *ledger
	c     int64 // the checkpoint; 0 for none
	parts int
	after map[seal.ID]uint64 // where its chains end, and the batches begin
	upTo  map[seal.ID]uint64 // where the batches end; nil: no batches

	devices []seal.ID // still to be walked through, the first one now
	part    int       // last one read
	rest    []seal.PlacedOp
	seq     uint64 // last batch of devices[0] read
}

// allOps streams everything kept here up to some heads.
func (l *ledger) allOps(upTo map[seal.ID]uint64) *opStream {
	s := &opStream{l: l, c: l.base.c, parts: l.base.parts, after: l.base.heads, upTo: upTo}
	all := maps.Clone(upTo)
	maps.Copy(all, s.after)
	s.devices = slices.SortedFunc(maps.Keys(all), func(a, b seal.ID) int { return bytes.Compare(a[:], b[:]) })
	return s
}

// checkpointOps streams a checkpoint that is kept here.
func (l *ledger) checkpointOps(c int64, parts int) *opStream {
	return &opStream{l: l, c: c, parts: parts}
}

// next gives the next ops, all of one device; none at the end.
func (s *opStream) next() ([]seal.PlacedOp, error) {
	for {
		ops, err := s.ofCheckpoint()
		if err != nil || len(ops) > 0 {
			return ops, err
		}
		if len(s.devices) == 0 {
			return nil, nil
		}
		if ops, err = s.ofBatch(); err != nil || len(ops) > 0 {
			return ops, err
		}
	}
}

// ofCheckpoint gives ops of the checkpoint by the device that is walked through,
// or without batches by any.
func (s *opStream) ofCheckpoint() ([]seal.PlacedOp, error) {
	for len(s.rest) == 0 && s.part < s.parts {
		s.part++
		var err error
		if s.rest, err = s.l.partOps(s.c, s.part, s.part == s.parts); err != nil {
			return nil, err
		}
		if s.upTo != nil { // a revocation may have cut a chain above the base
			s.rest = slices.DeleteFunc(slices.Clone(s.rest), func(p seal.PlacedOp) bool { return p.Seq > s.upTo[p.Device] })
		}
	}
	if len(s.rest) == 0 {
		return nil, nil
	}
	of := s.rest[0].Device
	if s.upTo != nil && (len(s.devices) == 0 || of != s.devices[0]) {
		return nil, nil
	}
	n := slices.IndexFunc(s.rest, func(p seal.PlacedOp) bool { return p.Device != of })
	if n < 0 {
		n = len(s.rest)
	}
	ops := s.rest[:n]
	s.rest = s.rest[n:]
	return ops, nil
}

// ofBatch gives the ops of the next batch of the device, or goes on to the next
// device.
func (s *opStream) ofBatch() (ops []seal.PlacedOp, err error) {
	id := s.devices[0]
	var frame []byte
	err = s.l.read("SELECT seq,bytes FROM batches WHERE device=? AND seq>? AND seq<=? ORDER BY seq LIMIT 1", func(r *rowScanner) {
		s.seq, frame = uint64(r.num()), bytes.Clone(r.blob())
	}, id[:], int64(max(s.seq, s.after[id])), int64(s.upTo[id]))
	if err != nil {
		return nil, err
	}
	if frame == nil {
		s.devices, s.seq = s.devices[1:], 0
		return nil, nil
	}
	b, err := seal.ParseBatch(s.l.v.keys.vaultID(), frame)
	if err != nil {
		return nil, err
	}
	body, err := s.l.openBody(b)
	if err != nil {
		return nil, err
	}
	for i, op := range body.Ops {
		ops = append(ops, seal.PlacedOp{At: seal.At{Device: id, Seq: b.Seq, Index: i, HLC: body.HLC}, Op: op})
	}
	return ops, nil
}

// partOps opens a part that was verified before it was kept.
func (l *ledger) partOps(c int64, part int, last bool) ([]seal.PlacedOp, error) {
	if c == l.base.c && part == l.partNo {
		return l.part, nil
	}
	var frame []byte
	err := l.read("SELECT bytes FROM checkpoint_parts WHERE c=? AND part=?", func(r *rowScanner) { frame = bytes.Clone(r.blob()) }, c, int64(part))
	if err != nil {
		return nil, err
	}
	if frame == nil {
		return nil, fmt.Errorf("%w: part %d of a checkpoint is missing", ErrDamaged, part)
	}
	b, err := seal.ParsePart(l.v.keys.vaultID(), frame)
	if err != nil {
		return nil, err
	}
	var ops []seal.PlacedOp
	err = l.v.keys.withEpoch(b.Epoch, func(k *seal.EpochKeys) (err error) {
		ops, err = seal.OpenPart(k, b, last)
		return err
	})
	if err == nil && c == l.base.c {
		l.part, l.partNo = ops, part
	}
	return ops, err
}

// opAt gives the op at a place: of the batch, or of the base that stands for it.
func (l *ledger) opAt(device seal.ID, seq uint64, idx int) (seal.Op, error) {
	if frame := l.storedBatch(device, seq); frame != nil {
		body, err := l.body(frame)
		if err != nil {
			return nil, err
		}
		if idx < len(body.Ops) {
			return body.Ops[idx], nil
		}
		return nil, fmt.Errorf("%w: op %d of batch %d of device %s", ErrDamaged, idx, seq, device)
	}
	part, at := 0, seal.At{Device: device, Seq: seq, Index: idx}
	err := l.read("SELECT part FROM checkpoint_parts WHERE c=? AND first<=? ORDER BY first DESC LIMIT 1",
		func(r *rowScanner) { part = int(r.num()) }, l.base.c, placeKey(&at))
	if err != nil {
		return nil, err
	}
	if part > 0 {
		ops, err := l.partOps(l.base.c, part, part == l.base.parts)
		if err != nil {
			return nil, err
		}
		i, ok := slices.BinarySearchFunc(ops, &at, func(p seal.PlacedOp, at *seal.At) int { return p.At.Compare(at) })
		if ok {
			return ops[i].Op, nil
		}
	}
	return nil, fmt.Errorf("%w: op %d of batch %d of device %s", ErrNotFound, idx, seq, device)
}
