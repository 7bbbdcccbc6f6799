package syncer

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

const (
	lookEvery = 250 * time.Millisecond // at what is unsealed, while the vault changes
	callTime  = 2 * time.Minute        // for one call about small things
)

// loopState is what the loop remembers between its rounds; Engine.mu guards it.
type loopState struct {
	online          bool
	contact, synced time.Time

	used, polled, reconciled time.Time
	failed                   time.Time
	failures                 int
	fault                    string // kind of what the last look met; "" when it went well
	jitter                   float64
	soon                     bool
	bell                     bool // the remote says by itself that something is new
	rung                     bool // it just did
	expected                 time.Time

	hint          bool // the vault may have changed
	lookedAt      time.Time
	unsealed      int
	newest        uint64 // commit of the newest change
	changed       time.Time
	dirty         time.Time
	sealTried     time.Time
	sealAfter     time.Time
	sealedAll     time.Time
	unsaid        time.Time
	owed          time.Time
	sealed        time.Time
	unpushed      bool
	pushed        uint64 // last own batch that is on the remote
	safe          uint64 // own batches up to this are on the disk
	pushFailures  int
	pushAgain     time.Time
	settleTried   time.Time
	tending       bool // housekeeping is under way
	tended        time.Time
	pointTried    time.Time // last try to write a checkpoint
	grown         time.Time // since when the log has been long enough for one
	pointJitter   float64
	whole         bool // the last look left nothing missing, held back or refused
	clockTooWrong bool

	header     uint64 // number of the header accepted here, at the last look
	wrapHeader uint64 // header since whose acceptance wrapSince counts
	wrapSince  time.Time
}

// Run keeps vault and remote in agreement until ctx ends, whose error it
// returns. No error of the remote ends it; a closed vault does.
func (e *Engine) Run(ctx context.Context) error {
	defer e.enter()()
	e.o.Vault.OnCommit(func() {
		select {
		case e.commits <- struct{}{}:
		default:
		}
	})
	e.running(1)
	defer e.running(-1)
	// Whoever has just mounted the drive uses it; what was asked for before this, or
	// is answered by the kernel's caches, pokes nobody.
	e.Poke()
	listening, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { e.listen(listening) })
	for {
		err := e.turnOnce(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, vaultcore.ErrClosed) {
			return err
		}
	}
}

func (e *Engine) running(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.runs += n
}

// turnOnce does what is due, or waits until something may be.
func (e *Engine) turnOnce(ctx context.Context) error {
	if err := e.load(ctx); err != nil {
		e.meet(err)
		e.failedLook(err)
		e.sleep(ctx, e.retryAt())
		return err
	}
	if err := e.lookHere(ctx); err != nil {
		e.cond.set(CondLocal, "the vault's database cannot be read", "see the log")
		e.o.Log.Error("unsealed changes not counted", "err", err)
		e.sleep(ctx, e.o.Now().Add(retryFirst))
		return err
	}
	e.heedHeader()
	s := next(e.facts())
	if !s.any() {
		e.up.pump()
		e.down.pump()
		e.settleIdle(ctx)
		e.projectIdle(ctx)
		e.pendingIdle(ctx)
		e.tend()
		e.noteDone()
		e.sleep(ctx, e.again(s))
		return nil
	}
	if err := e.take(ctx); err != nil {
		return err
	}
	defer e.give()
	return e.round(ctx, s)
}

func (e *Engine) retryAt() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return nextPoll(e.factsLocked())
}

// again is when to decide next: also for what transfers and gates wait for.
func (e *Engine) again(s step) time.Time {
	at := s.again
	for _, l := range []*lane{e.up, e.down} {
		if wake := l.wake(); !wake.IsZero() && wake.Before(at) {
			at = wake
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.hint {
		if look := e.lookedAt.Add(lookEvery); look.Before(at) {
			at = look
		}
	}
	if e.rows.due && e.caps.Rows && e.online && e.rows.again.Before(at) {
		at = e.rows.again
	}
	if e.spent.due && e.caps.Rows && e.online && e.spent.again.Before(at) {
		at = e.spent.again
	}
	if e.asking.due && e.online && e.asking.again.Before(at) {
		at = e.asking.again
	}
	if e.unsettled && !e.settling {
		if try := e.settleTried.Add(settleEvery); try.Before(at) {
			at = try
		}
	}
	return at
}

func (e *Engine) sleep(ctx context.Context, until time.Time) {
	timer := time.NewTimer(max(until.Sub(e.o.Now()), time.Millisecond))
	defer timer.Stop()
	commits := e.commits
	e.mu.Lock()
	if e.hint {
		commits = nil // until is when it is looked at, and every commit would wake us
	}
	e.mu.Unlock()
	select {
	case <-timer.C:
	case <-e.woken:
	case <-commits:
		e.mu.Lock()
		e.hint = true
		e.mu.Unlock()
	case <-ctx.Done():
	}
}

// lookHere counts what is unsealed, if the vault has changed.
func (e *Engine) lookHere(ctx context.Context) error {
	now := e.o.Now()
	e.mu.Lock()
	due := e.hint && now.Sub(e.lookedAt) >= lookEvery
	if due {
		e.hint, e.lookedAt = false, now
	}
	e.mu.Unlock()
	if !due {
		return nil
	}
	n, newest, err := e.o.Vault.Unsealed(ctx, sealRows)
	if err != nil {
		return err
	}
	last, err := e.o.Vault.LastSealed(ctx)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if n > 0 && (newest != e.newest || n != e.unsealed) {
		e.changed, e.used = now, now
	}
	if n == 0 || e.dirty.IsZero() {
		e.dirty = now
	}
	e.unsealed, e.newest = n, newest
	e.unpushed = e.unpushed || last > e.pushed
	return nil
}

func (e *Engine) facts() facts {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.factsLocked()
}

func (e *Engine) factsLocked() facts {
	f := facts{
		now: e.o.Now(), online: e.online, stopped: e.clockTooWrong || e.cond.has(stopping()...), metered: e.o.Metered, busy: e.o.Busy(),
		used: e.used, polled: e.polled, reconciled: e.reconciled, failed: e.failed, failures: e.failures, jitter: e.jitter, soon: e.soon, bell: e.bell, rung: e.rung, expected: e.expected,
		unsealed: e.unsealed, changed: e.changed, dirty: e.dirty, sealTried: e.sealTried, sealAfter: e.sealAfter, sealedAll: e.sealedAll, unsaid: e.unsaid, owed: e.owed, sealed: e.sealed,
		unpushed: e.unpushed, pushAgain: e.pushAgain,
	}
	if until, closed := e.gates.closed(gateLog); closed {
		f.failed, f.failures = until, 0 // the next look is then
	}
	return f
}

// round does one step; the turn is held.
func (e *Engine) round(ctx context.Context, s step) error {
	if s.poll {
		if err := e.pull(ctx, s.reconcile); err != nil {
			e.failedLook(err)
			return err
		}
		e.goodLook(s.reconcile)
		if s.reconcile {
			e.askLimits(ctx)
		}
		e.heedHeader()
	}
	if s.seal || s.push || s.poll {
		if err := e.sealAndPush(ctx, s); err != nil {
			return err
		}
	}
	if s.poll {
		e.clearHeld(CondDisk) // what came is written
	}
	return e.refreshIfDue(ctx, !s.gentle)
}

// refreshIfDue looks at what is wanted if that may have changed. atOnce: somebody
// waits.
func (e *Engine) refreshIfDue(ctx context.Context, atOnce bool) error {
	e.mu.Lock()
	due := e.refresh && e.online
	e.refresh = e.refresh && !due
	e.mu.Unlock()
	if !due {
		return nil
	}
	err := e.refreshWanted(ctx, atOnce)
	if err != nil {
		e.mu.Lock()
		e.refresh = true
		e.mu.Unlock()
		e.failedLook(err)
	}
	return err
}

// goodLook notes that the remote answered.
func (e *Engine) goodLook(reconciled bool) {
	now := e.o.Now()
	e.mu.Lock()
	e.online, e.contact, e.polled, e.soon, e.rung = true, now, now, false, false
	e.failed, e.failures, e.fault = time.Time{}, 0, ""
	if reconciled {
		e.reconciled = now
	}
	e.mu.Unlock()
	e.cond.clear(CondForeign, CondNoStore, CondDenied, CondUntrusted, CondOffline)
	if !e.clockWrong() {
		e.cond.clear(CondClock)
	}
	e.up.free()
	e.down.free()
	e.tellLooked()
}

func (e *Engine) clockWrong() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.clockTooWrong
}

// failedLook notes that the remote did not answer as it should.
func (e *Engine) failedLook(err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	e.meet(err)
	if gerr := e.gates.heed(gateLog, err); gerr != nil {
		e.o.Log.Warn("gate not kept", "err", gerr)
	}
	e.mu.Lock()
	e.failed, e.jitter, e.soon, e.rung, e.bell = e.o.Now(), rand.Float64(), false, false, false
	e.failures++
	if errors.Is(err, vaultcore.ErrNoSpace) {
		e.failures = min(e.failures, diskTries)
	}
	if away(err) {
		e.online = false
	}
	offline := !e.online
	level, kind := slog.LevelInfo, meaningOf(err).kind
	if kind == e.fault {
		level = slog.LevelDebug // it is the same as before: once is enough
	}
	e.fault = kind
	e.mu.Unlock()
	e.o.Log.Log(context.Background(), level, "remote not asked", "err", err)
	if offline {
		e.up.hold()
		e.down.hold()
	}
}

// away says whether a failure means that the remote does not answer. One that is full
// answers, also where it says when to come again.
func away(err error) bool {
	if errors.Is(err, ErrFull) {
		return false
	}
	return errors.Is(err, ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) || ofRemote(err)
}

// meet enters the condition that an error means.
func (e *Engine) meet(err error) {
	if errors.Is(err, context.Canceled) || errors.Is(err, vaultcore.ErrClosed) {
		return
	}
	m := meaningOf(err)
	if e.cond.set(m.kind, m.says(err), m.hint) {
		e.o.Log.Warn("condition", "kind", m.kind, "err", err)
	}
}

// lookSoon has the remote asked at once whether it is there at all.
func (e *Engine) lookSoon() {
	e.mu.Lock()
	e.soon = true
	e.mu.Unlock()
	e.wake()
}

func (e *Engine) isOnline() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.online
}

// noteDone notes when nothing was left to do.
func (e *Engine) noteDone() {
	e.mu.Lock()
	idle := e.online && e.unsealed == 0 && !e.unpushed
	e.mu.Unlock()
	now := e.o.Now()
	if idle && e.up.status(now).Count == 0 && e.down.status(now).Count == 0 {
		e.mu.Lock()
		e.synced = now
		e.mu.Unlock()
	}
}

// forced says whether somebody waits for everything.
func (e *Engine) forced() bool {
	e.down.mu.Lock()
	defer e.down.mu.Unlock()
	return e.down.asked > 0
}
