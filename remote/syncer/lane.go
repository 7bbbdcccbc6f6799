package syncer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// errStalled: a transfer made no progress for too long.
var errStalled = fmt.Errorf("%w: no progress for %v", ErrUnavailable, stallAfter)

// lane runs the transfers of one direction.
type lane struct {
	e       *Engine
	up      bool
	gate    string
	limiter *rate.Limiter
	meter   meter
	attempt func(ctx context.Context, j *vaultcore.Job) error

	mu       sync.Mutex
	q        *queue
	way      giveWay
	running  map[seal.ID]*transfer
	held     bool          // the remote as a whole is in the way
	asked    int           // who waits for all of it
	batch    uint64        // own batches up to this are on the remote
	demanded int           // transfers somebody waits for
	changed  chan struct{} // closed when a transfer ends, and made anew
}

// transfer is one that is under way.
type transfer struct {
	demanded bool // somebody asked for it
	alone    bool // it is in the queue for that only
	size     int64
	moved    int64 // bytes of it that have passed
	done     chan struct{}
	err      error // once done is closed
}

func newLane(e *Engine, up bool, limit int64) *lane {
	l := &lane{e: e, up: up, gate: gateDown, limiter: newLimiter(limit), q: newQueue(), running: make(map[seal.ID]*transfer), changed: make(chan struct{})}
	l.attempt = e.download
	if up {
		l.gate, l.attempt = gateUp, e.upload
	}
	return l
}

// limits says what may be begun now; mu is held.
func (l *lane) limits() limits {
	lim := limits{small: maxSmall, large: maxLarge, batch: l.batch}
	now := l.e.o.Now()
	l.way.look(now, l.q.some(small))
	if !l.up {
		lim.batch = ^uint64(0)
	}
	_, closed := l.e.gates.closed(l.gate)
	switch {
	case l.held || closed:
		return limits{}
	case l.up && l.asked == 0 && l.e.o.Busy():
		lim.small, lim.large = 1, 1 // somebody works in the mount, and nobody waits
		if l.way.holds(now) {
			lim.small = 0
		}
	}
	if l.up && l.e.o.Metered && l.asked == 0 {
		lim.largest = smallSize
	}
	return lim
}

// add enters jobs and begins what can be begun.
func (l *lane) add(jobs ...vaultcore.Job) {
	l.mu.Lock()
	for _, j := range jobs {
		l.q.add(j)
	}
	l.mu.Unlock()
	l.pump()
}

// pump begins what may be begun.
func (l *lane) pump() {
	for {
		ctx, leave, ok := l.e.join()
		if !ok {
			return
		}
		l.mu.Lock()
		j, ok := l.q.next(l.e.o.Now(), l.limits())
		var t *transfer
		if ok {
			t = l.begin(j)
		}
		l.mu.Unlock()
		if !ok {
			leave()
			return
		}
		go l.run(ctx, j, t, leave)
	}
}

// begin notes a transfer; mu is held.
func (l *lane) begin(j vaultcore.Job) *transfer {
	t := &transfer{size: j.Size, done: make(chan struct{})}
	l.running[j.Blob] = t
	if classOf(j.Size) == small {
		l.way.began(l.e.o.Now())
	}
	return t
}

// passed counts bytes of a transfer under way.
func (l *lane) passed(blob seal.ID, n int64) {
	l.meter.add(l.e.o.Now(), n)
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.running[blob]; t != nil {
		t.moved = min(t.moved+n, t.size) // one that begins anew does not count twice
	}
}

func (l *lane) run(ctx context.Context, j vaultcore.Job, t *transfer, leave func()) {
	defer leave()
	err := l.attempt(ctx, &j)
	if err == nil {
		l.finish(j, t, nil)
	} else {
		l.failed(ctx, j, t, err)
	}
	l.pump()
}

// came says that all of a content is over the network. What is left to do with it
// is local, and done with others, so another transfer may begin.
func (l *lane) came(blob seal.ID) {
	l.mu.Lock()
	l.q.land(blob)
	l.mu.Unlock()
	l.pump()
}

// finish takes a job out of the queue.
func (l *lane) finish(j vaultcore.Job, t *transfer, err error) {
	l.mu.Lock()
	l.q.end(j.Blob)
	l.over(j.Blob, t, err)
	l.mu.Unlock()
	if !l.up {
		l.e.unread.came(j.Blob)
	}
	l.e.clearTransfers()
	l.e.wake()
}

// over tells who waits; mu is held.
func (l *lane) over(blob seal.ID, t *transfer, err error) {
	t.err = err
	if t.demanded {
		l.demanded--
	}
	delete(l.running, blob)
	close(t.done)
	close(l.changed)
	l.changed = make(chan struct{})
}

// failed decides what becomes of a job whose attempt failed, and keeps that.
func (l *lane) failed(ctx context.Context, j vaultcore.Job, t *transfer, err error) {
	e := l.e
	if gerr := e.gates.heed(l.gate, err); gerr != nil {
		e.o.Log.Warn("gate not kept", "err", gerr)
	}
	j.JobState = afterFailure(j.JobState, err, e.o.Now(), rand.Float64())
	why := ""
	if ctx.Err() == nil {
		e.o.Log.Info("transfer failed", "blob", j.Blob.Hex(), "up", l.up, "tries", j.Tries, "err", err)
		why = e.transferFailed(j, err)
	}
	if t.alone && !l.up {
		e.unread.failed(j.Blob, why, e.o.Now())
	}
	if !t.alone {
		if serr := e.o.Vault.SaveJob(context.Background(), j); serr != nil {
			e.o.Log.Warn("transfer not kept", "blob", j.Blob.Hex(), "err", serr)
		}
	}
	l.mu.Lock()
	l.held = l.held || ofRemote(err)
	if t.alone {
		l.q.end(j.Blob)
	} else {
		l.q.put(j.Blob, j.JobState, why)
	}
	l.over(j.Blob, t, err)
	l.mu.Unlock()
	e.wake()
}

// afterFailure is the state of a job after an attempt failed.
func afterFailure(s vaultcore.JobState, err error, now time.Time, jitter float64) vaultcore.JobState {
	s.Again = true
	switch {
	case errors.Is(err, context.Canceled) && !errors.Is(err, errStalled), ofRemote(err):
		// Not this one's fault: it goes on when the program or the remote does.
		s.Until = time.Time{}
	case errors.Is(err, errCorrupt):
		s.Until = now.Add(corruptAgain)
	case errors.Is(err, ErrTooLarge):
		s.Blocked = CondTooLarge
	case errors.Is(err, vaultcore.ErrDamaged) && errors.Is(err, errHere):
		s.Blocked = CondDamaged
	case errors.Is(err, ErrOtherBytes):
		s.Blocked = CondContent
	default:
		s.Tries++
		if errors.Is(err, vaultcore.ErrNoSpace) {
			s.Tries = min(s.Tries, diskTries)
		}
		s.Until = now.Add(backoff(s.Tries, jitter))
	}
	return s
}

// free lets transfers begin again after the remote answered, those first that
// failed while it did not.
func (l *lane) free() {
	l.mu.Lock()
	if l.held {
		l.held = false
		l.q.retry(false)
	}
	l.mu.Unlock()
	l.pump()
}

func (l *lane) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = true
}

// moves says whether a transfer is under way.
func (l *lane) moves() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.running) > 0
}

func (l *lane) isHeld() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held
}

// pushed says up to which own batch the remote has all.
func (l *lane) pushed(seq uint64) {
	l.mu.Lock()
	l.batch = max(l.batch, seq)
	l.mu.Unlock()
	l.pump()
}

// drain returns when nothing more can be done at once: all is done, or what is
// left waits or is blocked, which is the error. With again what waits or is
// blocked is tried first: a person asks, and may have put right what was wrong.
func (l *lane) drain(ctx context.Context, again bool) error {
	l.mu.Lock()
	l.asked++
	if again {
		l.q.retry(true)
	}
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.asked--
		l.mu.Unlock()
	}()
	for {
		l.pump()
		l.mu.Lock()
		busy, changed := l.q.busy(l.limits()) && !l.held, l.changed
		until, closed := l.e.gates.closed(l.gate)
		if closed {
			busy = len(l.running) > 0
		} else {
			until = time.Time{} // one that opened long ago is nothing to wait for
		}
		soon := l.soon(until)
		l.mu.Unlock()
		if !busy && soon == 0 {
			return l.left()
		}
		if err := l.idle(ctx, changed, soon); err != nil {
			return errors.Join(err, l.left())
		}
	}
}

// drainPause is how long drain waits for a back-off or a gate that is about to
// end: a remote that is asked for much says "in a second" now and then.
const drainPause = 5 * time.Second

// soon is how long until something that waits goes on, 0 if nothing does within
// drainPause. until is when the gate opens, zero if it is open; mu is held.
func (l *lane) soon(until time.Time) time.Duration {
	if l.held || len(l.q.jobs) == 0 {
		return 0
	}
	if wake := l.q.wake(); until.IsZero() && !wake.IsZero() {
		until = wake
	}
	wait := until.Sub(l.e.o.Now())
	if until.IsZero() || wait > drainPause {
		return 0
	}
	return max(wait, time.Millisecond)
}

// idle waits for a transfer to end, or at most that long if it is not 0.
func (l *lane) idle(ctx context.Context, changed <-chan struct{}, most time.Duration) error {
	var timer <-chan time.Time
	if most > 0 {
		t := time.NewTimer(most)
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-changed:
		return nil
	case <-timer:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// left says what is in the way of the jobs that are left.
func (l *lane) left() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.q.jobs)
	if n == 0 {
		return nil
	}
	what := "to fetch"
	if l.up {
		what = "to send"
	}
	reasons := make(map[string]int)
	for _, j := range l.q.stuck() {
		reasons[j.Blocked]++
	}
	for _, reason := range slices.Sorted(maps.Keys(reasons)) {
		count := reasons[reason]
		if reason == CondTooLarge {
			return fmt.Errorf("%w: of %s left %s %d too large", ErrTooLarge, contents(n), what, count)
		}
		if c, ok := l.e.cond.get(reason); ok {
			return blob.WithHint(fmt.Errorf("%w: %d of %s left %s: %s", ErrBlocked, count, contents(n), what, c.Text), c.Hint)
		}
		if reason != "" {
			return fmt.Errorf("%w: %d of %s left %s: %s", ErrBlocked, count, contents(n), what, reason)
		}
	}
	if c, full := l.e.cond.get(CondFull); full && l.q.has(CondFull) {
		return blob.WithHint(fmt.Errorf("%w: %s left %s", ErrFull, contents(n), what), c.Hint)
	}
	if c, full := l.e.cond.get(CondDisk); full && l.q.has(CondDisk) {
		return blob.WithHint(fmt.Errorf("%w: %s left %s", vaultcore.ErrNoSpace, contents(n), what), c.Hint)
	}
	for _, kind := range []string{CondContent, CondMissing} {
		if c, known := l.e.cond.get(kind); known && l.q.has(kind) {
			return blob.WithHint(fmt.Errorf("%w: of %s left %s: %s", errNotWhole{}, contents(n), what, c.Text), c.Hint)
		}
	}
	return fmt.Errorf("%w: %s left %s", ErrUnavailable, contents(n), what)
}

// errNotWhole: the remote answers, and does not have what was put there. It is tried
// again, but somebody has to put it right.
type errNotWhole struct{}

func (errNotWhole) Error() string   { return ErrBlocked.Error() }
func (errNotWhole) Unwrap() []error { return []error{ErrBlocked, ErrUnavailable} }

func contents(n int) string {
	if n == 1 {
		return "1 content"
	}
	return fmt.Sprintf("%d contents", n)
}

// stuck says that what is left does not go on before a person does something.
func (l *lane) stuck() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.q.has(CondFull) && l.e.cond.has(CondFull) {
		return true
	}
	for _, j := range l.q.jobs {
		if j.where != isBlocked {
			return false
		}
	}
	return len(l.q.jobs) > 0
}

func (l *lane) has(why string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.q.has(why)
}

func (l *lane) status(now time.Time) Queue {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Queue{Count: len(l.q.jobs), Bytes: l.q.bytes, Active: len(l.running), Rate: l.meter.rate(now)}
	for _, t := range l.running {
		s.Bytes -= t.moved
	}
	_, closed := l.e.gates.closed(l.gate)
	if s.Rate > 0 && s.Bytes > 0 && !closed && !l.held && !l.q.has(CondFull) { // else the rate is that of what is refused
		s.Done = now.Add(time.Duration(float64(s.Bytes) / float64(s.Rate) * float64(time.Second)))
	}
	return s
}

func (l *lane) blocked() (out []BlockedJob) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, j := range l.q.stuck() {
		if j.Blocked != "" {
			out = append(out, BlockedJob{Blob: j.Blob.Hex(), Up: l.up, Size: j.Size, Reason: j.Blocked})
		}
	}
	return out
}
