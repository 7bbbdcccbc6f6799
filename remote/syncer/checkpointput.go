package syncer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

const (
	pointBytes   = 4 << 20 // of the log since the last one, or as many as that has
	pointBatches = 512
	pointEvery   = 24 * time.Hour
	pointDelay   = 30 * time.Minute // the most that chance adds, so that not all write at once
)

// pointFacts are what is known when it is decided whether to write a checkpoint.
type pointFacts struct {
	now    time.Time
	log    vaultcore.LogSize
	tried  time.Time // last attempt here
	grown  time.Time // since when the log has been long enough; zero: it is not
	jitter float64   // in [0, 1)
	atOnce bool      // nobody will ask again soon
}

// longEnough says whether the log has grown enough since the last checkpoint.
func longEnough(l vaultcore.LogSize) bool {
	return l.Bytes > max(pointBytes, l.Size) || l.Batches > pointBatches
}

// pointDue decides whether to write a checkpoint now.
func pointDue(f pointFacts) bool {
	if !longEnough(f.log) || f.now.Sub(f.log.Last) < pointEvery && !f.log.Last.After(f.now) || f.now.Sub(f.tried) < pointEvery {
		return false
	}
	delay := time.Duration(f.jitter * float64(pointDelay))
	return f.atOnce || !f.grown.IsZero() && f.now.Sub(f.grown) >= delay
}

// maybeCheckpoint writes a checkpoint if one is due, and puts one that is made on
// the remote.
func (e *Engine) maybeCheckpoint(ctx context.Context, atOnce bool) error {
	known, err := e.o.Vault.Checkpoints(ctx)
	if err != nil {
		return err
	}
	for _, c := range known {
		if !c.Pushed && c.Held {
			return e.putPoint(ctx, c)
		}
	}
	log, err := e.o.Vault.LogSince(ctx)
	if err != nil {
		return err
	}
	if !pointDue(e.pointFacts(log, atOnce)) {
		return nil
	}
	e.mu.Lock()
	e.pointTried = e.o.Now()
	e.mu.Unlock()
	c, err := e.o.Vault.WriteCheckpoint(ctx)
	if err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	e.o.Log.Info("checkpoint written", "seq", c.Seq, "parts", c.Parts+1, "bytes", c.Size)
	return e.putPoint(ctx, c)
}

// pointFacts follows since when the log has been long enough.
func (e *Engine) pointFacts(log vaultcore.LogSize, atOnce bool) pointFacts {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.o.Now()
	switch long := longEnough(log); {
	case !long:
		e.grown = time.Time{}
	case e.grown.IsZero():
		e.grown, e.pointJitter = now, rand.Float64()
	}
	return pointFacts{now: now, log: log, tried: e.pointTried, grown: e.grown, jitter: e.pointJitter, atOnce: atOnce}
}

// putPoint puts the parts of a checkpoint, the last one last, once the batches it
// covers are there.
func (e *Engine) putPoint(ctx context.Context, c vaultcore.Checkpoint) error {
	pushed, err := e.o.Vault.LastPushed(ctx)
	if err != nil || pushed < c.Heads[e.o.Vault.DeviceID()] {
		return err
	}
	if err := putPointParts(ctx, e.o.Vault, e.o.Remote, c); err != nil {
		if errors.Is(err, ErrOtherBytes) { // half of another under that name
			err = errors.Join(err, e.o.Vault.ForgetCheckpoints(ctx, []vaultcore.CheckpointID{c.CheckpointID}))
		}
		return err
	}
	if err := e.o.Vault.CheckpointPushed(ctx, c.CheckpointID); err != nil {
		return err
	}
	e.mu.Lock()
	e.unsettled = true
	e.mu.Unlock()
	return nil
}

func putPointParts(ctx context.Context, v *vaultcore.Vault, r Remote, c vaultcore.Checkpoint) error {
	return eachPart(ctx, v, c, func(key string, frame []byte) error {
		call, cancel := context.WithTimeout(ctx, callTime)
		defer cancel()
		if err := r.Put(call, key, frame); err != nil {
			return fmt.Errorf("put %s: %w", key, err)
		}
		return nil
	})
}

// eachPart gives the objects of a checkpoint that is held here, its end last.
func eachPart(ctx context.Context, v *vaultcore.Vault, c vaultcore.Checkpoint, do func(key string, frame []byte) error) error {
	name := pointName(c.CheckpointID)
	for no := 1; no <= c.Parts+1; no++ {
		frame, err := v.CheckpointFrame(ctx, c.CheckpointID, no)
		if err != nil {
			return err
		}
		key := CheckpointKey(name, no)
		if no > c.Parts {
			key = CheckpointEnd(name)
		}
		if err := do(key, frame); err != nil {
			return err
		}
	}
	return nil
}

// putPoints puts the checkpoints that are kept here whole, but those that are
// there: on a remote that lost them, and on a new one, where the base stands for
// batches that nobody has any more.
func putPoints(ctx context.Context, v *vaultcore.Vault, r Remote, there map[string]bool) error {
	known, err := v.Checkpoints(ctx)
	if err != nil {
		return err
	}
	revoked := revokedDevices(v)
	for _, c := range known {
		if !c.Held || !c.Pushed || there[CheckpointEnd(pointName(c.CheckpointID))] {
			continue
		}
		err := putPointParts(ctx, v, r, c)
		if err != nil && !(revoked[c.Device] && errors.Is(err, ErrDenied)) {
			return err
		}
	}
	return nil
}
