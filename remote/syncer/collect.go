package syncer

import (
	"context"
	"errors"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

const (
	collectEvery = 24 * time.Hour
	collectTime  = 30 * time.Minute // for one collection
	tendEvery    = time.Minute
	gateCollect  = "collect" // closed until the next collection
)

// tend does the housekeeping that is due beside the loop, unless the network costs.
func (e *Engine) tend() {
	now := e.o.Now()
	e.mu.Lock()
	due := e.online && !e.o.Metered && !e.tending && now.Sub(e.tended) >= tendEvery && !e.cond.has(stopping()...)
	if due {
		e.tending, e.tended = true, now
	}
	e.mu.Unlock()
	if !due {
		return
	}
	session, leave, ok := e.join()
	if !ok {
		e.tendDone()
		return
	}
	go func() {
		defer leave()
		defer e.tendDone()
		e.keepHouse(session, false)
	}()
}

func (e *Engine) tendDone() {
	e.mu.Lock()
	e.tending = false
	e.mu.Unlock()
}

// tendNow is for SyncNow without a loop. What fails is done another time.
func (e *Engine) tendNow(ctx context.Context) {
	e.mu.Lock()
	due := e.runs == 0 && !e.tending
	e.tending = e.tending || due
	e.mu.Unlock()
	if due {
		defer e.tendDone()
		e.keepHouse(ctx, true)
	}
}

func (e *Engine) keepHouse(ctx context.Context, atOnce bool) {
	if err := e.maybeCheckpoint(ctx, atOnce); err != nil && ctx.Err() == nil {
		e.o.Log.Warn("no checkpoint", "err", err)
	}
	if err := e.maybeCollect(ctx); err != nil && ctx.Err() == nil {
		e.o.Log.Warn("no collection", "err", err)
	}
}

// maybeCollect drops, once a day, what a checkpoint stands for, here and on the
// remote, and contents there that nobody names. Only when all that the remote has
// is applied, and no chain is held, forked or incomplete.
func (e *Engine) maybeCollect(ctx context.Context) error {
	if _, closed := e.gates.closed(gateCollect); closed {
		return nil
	}
	first := !e.gates.known(gateCollect)
	if err := e.gates.shut(gateCollect, e.o.Now().Add(collectEvery)); err != nil || first {
		return err // not on the first day
	}
	needed, ok, err := e.needed(ctx)
	if err != nil || !ok {
		return err
	}
	call, cancel := context.WithTimeout(ctx, collectTime)
	defer cancel()
	done, err := e.o.Remote.Settle(call, Settlement{Collect: collection(needed)})
	if err != nil {
		return err
	}
	if !done.Collected {
		return nil // somebody else did today
	}
	e.o.Log.Info("collected", "candidates", done.Candidates, "removed", done.Removed, "bytes", done.Freed)
	return e.o.Vault.ForgetCheckpoints(ctx, needed.Older)
}

func collection(n vaultcore.Needed) *Collection {
	c := &Collection{Heads: make(map[string]uint64, len(n.Heads))}
	c.Named = func(blob string) bool {
		id, err := seal.ParseHex(blob)
		return err != nil || n.Named(id)
	}
	for device, seq := range n.Heads {
		c.Heads[device.UUID()] = seq
	}
	for _, id := range n.Older {
		c.Checkpoints = append(c.Checkpoints, pointName(id))
	}
	return c
}

// needed takes all that is there, then the base, and says what has to stay.
func (e *Engine) needed(ctx context.Context) (n vaultcore.Needed, ok bool, err error) {
	if err := e.take(ctx); err != nil {
		return n, false, err
	}
	defer e.give()
	if err := e.round(ctx, step{poll: true, reconcile: true}); err != nil {
		return n, false, err
	}
	e.mu.Lock()
	whole := e.whole
	e.mu.Unlock()
	if !whole || e.cond.has(CondGap, CondUnknown, CondWithheld, CondFork, CondLost, CondCloned) {
		return n, false, nil
	}
	if err := e.takeBase(ctx); err != nil {
		return n, false, err
	}
	n, err = e.o.Vault.Needed(ctx)
	if errors.Is(err, vaultcore.ErrBusy) {
		return n, false, nil
	}
	return n, err == nil, err
}

// takeBase lets a checkpoint stand for what it covers, if one is old enough. One
// that lies is an alarm and is not taken; the log stays as it is.
func (e *Engine) takeBase(ctx context.Context) error {
	known, err := e.o.Vault.Checkpoints(ctx)
	if err != nil {
		return err
	}
	c, due := vaultcore.ChooseBase(known, e.o.Now())
	if !due {
		return nil
	}
	f := newPartFetcher(ctx, e.o.Remote, c, nil)
	defer f.stop()
	err = e.o.Vault.LoadCheckpoint(ctx, c.CheckpointID, f.fetch)
	if ofPoint(err) {
		e.wrongPoint(err)
		return nil
	}
	return err
}
