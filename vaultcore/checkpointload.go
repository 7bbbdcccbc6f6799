package vaultcore

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// LoadCheckpoint takes a checkpoint for all the batches it covers: on a device
// that has just joined, on one that was away for longer than the remote keeps
// batches, and for the base. fetch gives its parts from 1, and the last part as
// number 0; those kept here already are not asked for.
//
// Nothing is taken before all of it is here and verified. What changed here and
// was not sealed is sealed first and stays, as do the batches after those it
// covers. What we hold of the batches it covers is compared, op by op: it must
// say the same, and if we hold all of them it may leave out only what no device
// needs. Errors: ErrCheckpoint, with an alarm; ErrCheckpointOld; ErrLocalRollback
// when it knows batches of ours that we do not; those of NoteCheckpoint, fetch
// and the disk.
func (v *Vault) LoadCheckpoint(ctx context.Context, id CheckpointID, fetch func(ctx context.Context, part int) ([]byte, error)) error {
	if err := v.writable(); err != nil {
		return err
	}
	ld, err := v.beginLoad(ctx, id, fetch)
	if err != nil {
		return err
	}
	if ld == nil {
		return nil // it is the base
	}
	if !ld.held {
		if err := ld.fetch(ctx, fetch); err != nil {
			return errors.Join(err, ld.forget())
		}
	}
	err = ld.adopt(ctx)
	if errors.Is(err, ErrCheckpoint) {
		v.alarm("checkpoint", err.Error())
		err = errors.Join(err, ld.setVerdict(Disagrees))
	}
	if err != nil && !ld.held {
		err = errors.Join(err, ld.forget())
	}
	return err
}

// loading is a checkpoint being taken.
type loading struct {
	l    *ledger
	c    int64
	b    *seal.Batch // the last part
	end  *seal.Checkpoint
	held bool // its frames are kept here, verified
	size int64
}

// beginLoad reads the last part; nil: the checkpoint is the base already.
func (v *Vault) beginLoad(ctx context.Context, id CheckpointID, fetch func(context.Context, int) ([]byte, error)) (*loading, error) {
	known, err := v.Checkpoints(ctx)
	if err != nil {
		return nil, err
	}
	ld := &loading{}
	for _, c := range known {
		if c.CheckpointID == id {
			ld.c, ld.held = c.c, c.Held
		}
	}
	var last []byte
	if !ld.held {
		if last, err = fetch(ctx, 0); err != nil {
			return nil, err
		}
	}
	l, err := v.lockLedger(ctx)
	if err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	ld.l = l
	if ld.held {
		if last, err = l.endOf(ld.c); err == nil {
			ld.b, ld.end, err = l.openEnd(last)
		}
	} else if ld.c, ld.end, err = l.note(id, last); err == nil {
		ld.b, err = seal.ParsePart(v.keys.vaultID(), last)
	}
	if err != nil {
		v.journal(err)
		return nil, err
	}
	if ld.c == l.base.c {
		return nil, nil
	}
	return ld, ld.usable()
}

// usable refuses one that would take us back.
func (ld *loading) usable() error {
	l, own := ld.l, ld.l.v.keys.deviceID()
	if l.v.frozen.Load() {
		return ErrFork
	}
	if l.snapshots > 0 {
		return fmt.Errorf("%w: a backup is being made of the log", ErrBusy)
	}
	if seq := ld.end.Heads[own].Seq; seq > l.peer(own).head.Seq {
		return fmt.Errorf("%w: a checkpoint of device %s knows our batch %d", ErrLocalRollback, ld.b.Device, seq)
	}
	for id, seq := range l.base.heads {
		if ld.end.Heads[id].Seq < seq {
			return fmt.Errorf("%w: batch %d of device %s", ErrCheckpointOld, ld.end.Heads[id].Seq, id)
		}
	}
	for id, h := range ld.end.Heads {
		if same, known := l.knows(id, h.Head); known && !same {
			err := fmt.Errorf("%w: that of device %s names another batch %d of device %s", ErrCheckpoint, ld.b.Device, h.Seq, id)
			l.v.alarm("checkpoint", err.Error())
			return errors.Join(err, ld.setVerdict(Disagrees))
		}
	}
	return nil
}

// fetch brings all parts here, each verified to follow the one before.
func (ld *loading) fetch(ctx context.Context, fetch func(context.Context, int) ([]byte, error)) error {
	dev, err := ld.l.rosterEntry(ld.b.Device)
	if err != nil {
		return err
	}
	var r *seal.CheckpointReader
	for part := 1; part <= int(ld.end.Parts)+1; part++ {
		frame := ld.b.Bytes
		if part <= int(ld.end.Parts) {
			if frame, err = fetch(ctx, part); err != nil {
				return fmt.Errorf("part %d of a checkpoint: %w", part, err)
			}
		}
		var ops []seal.PlacedOp
		err := ld.l.v.keys.withEpoch(ld.b.Epoch, func(k *seal.EpochKeys) (err error) {
			if r == nil {
				r = seal.NewCheckpointReader(k, ld.b.Device, ed25519.PublicKey(dev.PK[:]))
			}
			if part <= int(ld.end.Parts) {
				ops, err = r.Part(frame)
			} else {
				_, ops, err = r.Last(frame)
			}
			return err
		})
		if err != nil {
			ld.l.v.alarm("checkpoint", fmt.Sprintf("part %d of checkpoint %d of device %s: %v", part, ld.end.Heads[ld.b.Device].Seq, ld.b.Device, err))
			return fmt.Errorf("part %d of a checkpoint: %w", part, err)
		}
		if _, err := ld.l.v.com.do(func(t *txn) error { return t.putPart(ld.c, part, firstKey(ops), frame) }); err != nil {
			return err
		}
		ld.size += int64(len(frame))
	}
	return nil
}

func (ld *loading) setVerdict(d Verdict) error {
	_, err := ld.l.v.com.do(func(t *txn) error { return t.exec("UPDATE checkpoints SET verdict=? WHERE c=?", int64(d), ld.c) })
	return err
}

func (ld *loading) forget() error {
	_, err := ld.l.v.com.do(func(t *txn) error { return t.dropParts(ld.c) })
	return err
}
