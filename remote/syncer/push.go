package syncer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

const (
	pushRun     = 16          // batches taken from the database at a time
	settleEvery = time.Second // after a Settle that failed
	maxRiders   = 8           // ops that ride in one batch
)

// sealAndPush seals what a step asks for, and pushes what is sealed.
func (e *Engine) sealAndPush(ctx context.Context, s step) error {
	if s.reconcile && e.cond.has(CondCloned) {
		if err := e.tryOwnAgain(ctx); err != nil {
			return err
		}
	}
	if !e.mayWrite() {
		return nil
	}
	if s.seal {
		s.empty = s.empty || s.everything && e.owes()
		if err := e.seal(ctx, s); err != nil {
			if ctx.Err() == nil {
				e.meet(err)
			}
			return err
		}
	}
	return e.push(ctx)
}

// owes says that others wait to hear that this device has seen what they did.
func (e *Engine) owes() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.owed.IsZero()
}

// tryOwnAgain looks whether somebody has put right, at the remote, what was in
// the way of our chain. Nothing new is sealed for that.
func (e *Engine) tryOwnAgain(ctx context.Context) error {
	e.mu.Lock()
	beyond := e.beyond
	e.mu.Unlock()
	if err := e.o.Vault.RolledBack(); err != nil {
		return err
	}
	if beyond {
		return fmt.Errorf("%w: the remote has later batches of it", vaultcore.ErrLocalRollback)
	}
	if err := e.push(ctx); err != nil {
		return err
	}
	e.cond.clear(CondCloned)
	return nil
}

func (e *Engine) mayWrite() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.online && !e.clockTooWrong && !e.cond.has(stopping()...)
}

// seal makes batches of what changed.
func (e *Engine) seal(ctx context.Context, s step) error {
	if s.everything {
		e.mu.Lock()
		e.sealedAll = e.o.Now()
		e.mu.Unlock()
	}
	for {
		now := e.o.Now()
		riders, more, err := e.riders(ctx)
		if err != nil {
			return err
		}
		o := vaultcore.SealOptions{Empty: s.empty, Ops: riders}
		if !s.everything {
			o.Before = now.Add(-s.quiet())
		}
		b, again, err := e.o.Vault.Seal(ctx, o)
		if err != nil {
			e.mu.Lock()
			e.sealTried = e.o.Now().Add(retryFirst)
			e.mu.Unlock()
			return err
		}
		e.noteSealed(b, more)
		s.empty = false
		if b == nil || e.givesWay(s, e.o.Now().Sub(now)) || !again && !more {
			return nil
		}
		// At once, so that contents go up while the next batch is made.
		if err := e.push(ctx); err != nil {
			return err
		}
	}
}

// givesWay says whether sealing pauses after a batch that took so long: then it
// takes a twentieth of the time of programs that work in the mount.
func (e *Engine) givesWay(s step, took time.Duration) bool {
	if !s.gentle || !e.o.Busy() {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sealAfter = e.o.Now().Add(sealPause * took)
	return true
}

// riders are the ops that tell what was confirmed, and ask for what is missing.
func (e *Engine) riders(ctx context.Context) (ops []seal.Op, more bool, err error) {
	unsaid, err := e.o.Vault.Unsaid(ctx, maxRiders*seal.MaxBlobs+1)
	if err != nil {
		return nil, false, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(unsaid) > 0 && len(ops) < maxRiders {
		n := min(len(unsaid), seal.MaxBlobs)
		ops = append(ops, &seal.Sent{Remote: e.remote, Blobs: unsaid[:n]})
		unsaid = unsaid[n:]
	}
	if n := min(len(e.wants), seal.MaxBlobs); n > 0 {
		ops = append(ops, &seal.Want{Blobs: e.wants[:n]})
		e.wants = e.wants[n:]
	}
	return ops, len(unsaid) > 0 || len(e.wants) > 0, nil
}

func (e *Engine) noteSealed(b *seal.Batch, more bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.o.Now()
	e.sealTried, e.hint, e.lookedAt = now, true, time.Time{}
	if !more {
		e.unsaid = time.Time{}
	}
	if b != nil {
		e.owed = time.Time{} // it says what was applied before it
		e.sealed, e.dirty, e.unpushed, e.safe = now, now, true, b.Seq
	}
}

// push puts our own batches, one after the other, the same bytes at every
// attempt. What is pushed is durable here before.
func (e *Engine) push(ctx context.Context) error {
	v := e.o.Vault
	after, err := v.LastPushed(ctx)
	if err != nil {
		return err
	}
	for {
		batches, err := v.OwnBatches(ctx, after, pushRun)
		if err != nil {
			return err
		}
		if len(batches) == 0 {
			e.allPushed(ctx, after)
			return e.loadJobs(ctx)
		}
		if err := e.madeDurable(ctx, batches[len(batches)-1].Seq); err != nil {
			return err
		}
		for _, b := range batches {
			if err := e.pushOne(ctx, b); err != nil {
				e.pushFailed(ctx, err)
				return err
			}
			after = b.Seq
			e.up.pushed(after)
		}
	}
}

// madeDurable waits until own batches up to that are on the disk: receiving seals
// too, and does not wait for it.
func (e *Engine) madeDurable(ctx context.Context, seq uint64) error {
	e.mu.Lock()
	safe := e.safe >= seq
	e.mu.Unlock()
	if safe {
		return nil
	}
	if err := e.o.Vault.Barrier(ctx); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.safe = max(e.safe, seq)
	return nil
}

func (e *Engine) pushOne(ctx context.Context, b vaultcore.StoredBatch) error {
	v := e.o.Vault
	key := BatchKey(v.DeviceID().UUID(), b.Seq)
	call, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	err := e.o.Remote.Put(call, key, b.Bytes)
	if errors.Is(err, ErrOtherBytes) {
		return e.otherOwn(ctx, key)
	}
	if err != nil {
		return fmt.Errorf("push batch %d: %w", b.Seq, err)
	}
	e.mu.Lock()
	e.unsettled = true
	e.mu.Unlock()
	return v.Pushed(ctx, b.Seq)
}

// otherOwn finds out what lies under a number of our chain: our own hand, so
// that this vault is an older copy or has a twin, or somebody else's.
func (e *Engine) otherOwn(ctx context.Context, key string) error {
	call, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	there, err := e.o.Remote.Get(call, key)
	if err != nil {
		return fmt.Errorf("look at %s: %w", key, err)
	}
	if err := e.o.Vault.CheckOwn(ctx, there); err != nil {
		e.ownTrouble(err)
		return fmt.Errorf("%s: %w", key, err)
	}
	return fmt.Errorf("%w: %s", ErrUnavailable, key) // ours by now
}

func (e *Engine) allPushed(ctx context.Context, last uint64) {
	e.mu.Lock()
	news := last > e.pushed
	e.unpushed, e.pushFailures, e.pushAgain = false, 0, time.Time{}
	e.rows.due = e.rows.due || news
	e.spent.due = e.spent.due || news
	e.pushed = max(e.pushed, last)
	e.mu.Unlock()
	if news {
		e.projectAssets(ctx)
	}
	e.up.pushed(last)
}

// pushFailed keeps everything and tries again later. A number of ours that holds
// other bytes is looked at again with every look at everything.
func (e *Engine) pushFailed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	e.meet(err)
	if gerr := e.gates.heed(gateLog, err); gerr != nil {
		e.o.Log.Warn("gate not kept", "err", gerr)
	}
	e.o.Log.Info("not pushed", "err", err)
	e.mu.Lock()
	e.unpushed = true
	e.pushFailures++
	e.pushAgain = e.o.Now().Add(backoff(e.pushFailures, rand.Float64()))
	e.mu.Unlock()
	if ofRemote(err) || errors.Is(err, ErrUnavailable) {
		e.failedLook(err)
	}
}

// settleIdle makes known what was put, once the uploads have come to an end.
func (e *Engine) settleIdle(ctx context.Context) {
	e.up.mu.Lock()
	busy := len(e.up.running) > 0
	e.up.mu.Unlock()
	e.mu.Lock()
	due := e.unsettled && !e.settling && !busy && e.online && e.o.Now().Sub(e.settleTried) >= settleEvery
	e.settling = e.settling || due
	e.mu.Unlock()
	if !due {
		return
	}
	session, leave, ok := e.join()
	if !ok {
		return
	}
	go func() {
		defer leave()
		_ = e.settle(session) // tried again by the loop
		e.wake()
	}()
}

// settleSoon is for SyncNow: the loop settles, or nobody does.
func (e *Engine) settleSoon(ctx context.Context) error {
	e.mu.Lock()
	loop := e.runs > 0
	due := e.unsettled && !loop && !e.settling
	e.settling = e.settling || due
	e.mu.Unlock()
	if loop {
		e.wake()
	}
	if !due {
		return nil
	}
	return e.settle(ctx)
}

func (e *Engine) settle(ctx context.Context) error {
	e.mu.Lock()
	e.unsettled, e.settleTried = false, e.o.Now()
	e.mu.Unlock()
	call, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	_, err := e.o.Remote.Settle(call, Settlement{})
	e.mu.Lock()
	defer e.mu.Unlock()
	e.settling = false
	if err != nil {
		e.unsettled = true
	}
	return err
}
