package syncer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// pointID names a checkpoint in vaultcore's way; false for one that nobody can
// have made.
func pointID(c Change) (vaultcore.CheckpointID, bool) {
	id, err := seal.ParseUUID(c.Device)
	return vaultcore.CheckpointID{Device: id, Seq: c.Seq}, err == nil && c.Kind == KindCheckpoint
}

func pointName(id vaultcore.CheckpointID) string { return CheckpointName(id.Device.UUID(), id.Seq) }

// takeCheckpoints is told of the complete checkpoints that are new. They are
// compared with our log once that reaches as far.
func (e *Engine) takeCheckpoints(ctx context.Context, news []Change) error {
	for _, c := range news {
		id, ok := pointID(c)
		if !ok {
			continue
		}
		err := notePoint(ctx, e.o.Vault, e.o.Remote, id)
		if ofPoint(err) {
			e.o.Log.Warn("checkpoint not used", "device", c.Device, "seq", c.Seq, "err", err)
			e.wrongPoint(err)
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// notePoint tells the vault of a checkpoint; nil also when it is gone.
func notePoint(ctx context.Context, v *vaultcore.Vault, r Remote, id vaultcore.CheckpointID) error {
	call, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	last, err := r.Get(call, CheckpointEnd(pointName(id)))
	if errors.Is(err, ErrNotFound) && !errors.Is(err, ErrNoStore) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("fetch checkpoint %s: %w", pointName(id), err)
	}
	return v.NoteCheckpoint(ctx, id, last)
}

// ofPoint says whether an error is about one checkpoint, so that another may do.
func ofPoint(err error) bool {
	return slices.ContainsFunc([]error{
		vaultcore.ErrCheckpoint, vaultcore.ErrCheckpointOld, vaultcore.ErrUnknownDevice, vaultcore.ErrStaleEpoch, vaultcore.ErrNewEpoch,
		seal.ErrFormat, seal.ErrSignature, seal.ErrAuth, seal.ErrNewer, errPartGone, ErrTooLarge,
	}, func(is error) bool { return errors.Is(err, is) })
}

// wrongPoint shows a checkpoint that says what it must not.
func (e *Engine) wrongPoint(err error) {
	for _, is := range []error{vaultcore.ErrCheckpoint, seal.ErrFormat, seal.ErrSignature, seal.ErrAuth, errPartGone} {
		if errors.Is(err, is) {
			m := meaningOf(vaultcore.ErrCheckpoint)
			e.cond.set(m.kind, fmt.Sprintf("%s: %v", m.text, err), m.hint)
		}
	}
}

// comparePoints holds the checkpoints that are known against what came.
func (e *Engine) comparePoints(ctx context.Context) error {
	if err := e.o.Vault.CompareCheckpoints(ctx); err != nil {
		return err
	}
	known, err := e.o.Vault.Checkpoints(ctx)
	if err != nil {
		return err
	}
	for _, c := range known {
		if c.Verdict == vaultcore.Disagrees {
			e.wrongPoint(fmt.Errorf("%w: number %d of device %s", vaultcore.ErrCheckpoint, c.Seq, c.Device))
		}
	}
	return nil
}

// loadNewest takes the newest of some checkpoints that can be used; progress is
// told of parts and may be nil.
func loadNewest(ctx context.Context, v *vaultcore.Vault, r Remote, ids []vaultcore.CheckpointID, progress func(done, total int64)) (loaded bool, err error) {
	var faults []error
	for _, id := range ids {
		if err := notePoint(ctx, v, r, id); ofPoint(err) {
			faults = append(faults, err)
		} else if err != nil {
			return false, err
		}
	}
	known, err := v.Checkpoints(ctx)
	if err != nil {
		return false, err
	}
	slices.Reverse(known)
	for _, c := range known {
		if c.Verdict == vaultcore.Disagrees || !c.Pushed || !slices.Contains(ids, c.CheckpointID) {
			continue
		}
		f := newPartFetcher(ctx, r, c, progress)
		err := v.LoadCheckpoint(ctx, c.CheckpointID, f.fetch)
		f.stop()
		if err == nil {
			return true, nil
		}
		if !ofPoint(err) {
			return false, err
		}
		faults = append(faults, err)
	}
	return false, errors.Join(faults...)
}

// startOver takes the newest checkpoint that covers what the remote no longer
// keeps. What changed here and was not published stays. The turn is held.
func (e *Engine) startOver(ctx context.Context) error {
	known, err := e.o.Vault.Checkpoints(ctx)
	if err != nil {
		return err
	}
	var ids []vaultcore.CheckpointID
	for _, c := range known {
		ids = append(ids, c.CheckpointID)
	}
	loaded, err := loadNewest(ctx, e.o.Vault, e.o.Remote, ids, nil)
	if err != nil {
		e.wrongPoint(err)
		return err
	}
	if !loaded {
		return fmt.Errorf("%w: no checkpoint of it can be used", ErrStartOver)
	}
	e.o.Log.Info("started over from a checkpoint")
	e.applied(true)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.chains {
		c.stuck, c.tried, c.missing = false, 0, 0
	}
	return nil
}

// pastGap starts over if a checkpoint covers batches that are missing, and says
// whether it did.
func (e *Engine) pastGap(ctx context.Context) (bool, error) {
	heads, err := e.o.Vault.Heads(ctx)
	if err != nil {
		return false, err
	}
	e.mu.Lock()
	missing := make(map[seal.ID]uint64)
	for device, c := range e.chains {
		if c.missing > heads[device].Seq {
			missing[device] = c.missing
		}
	}
	e.mu.Unlock()
	if len(missing) == 0 {
		return false, nil
	}
	known, err := e.o.Vault.Checkpoints(ctx)
	if err != nil || !closesGap(known, missing) {
		return false, err
	}
	err = e.startOver(ctx)
	if ofPoint(err) {
		return false, nil // the gap stays, and is shown
	}
	return err == nil, err
}

// closesGap says whether a checkpoint that can be used covers all that is missing.
func closesGap(known []vaultcore.Checkpoint, missing map[seal.ID]uint64) bool {
	if len(missing) == 0 {
		return false
	}
	return slices.ContainsFunc(known, func(c vaultcore.Checkpoint) bool {
		for device, seq := range missing {
			if c.Heads[device] < seq {
				return false
			}
		}
		return c.Pushed && c.Verdict != vaultcore.Disagrees
	})
}
