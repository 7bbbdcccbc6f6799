package syncer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// burst is how much may pass at once under a bandwidth limit, at least.
const burst = 256 << 10 // bytes

// newLimiter gives a limiter of bytes a second; nil for none.
func newLimiter(bytes int64) *rate.Limiter {
	if bytes <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(bytes), int(max(min(bytes, 4<<20), burst)))
}

// pace waits until n bytes may pass.
func pace(ctx context.Context, l *rate.Limiter, n int) error {
	for l != nil && n > 0 {
		some := min(n, l.Burst())
		if err := l.WaitN(ctx, some); err != nil {
			return err
		}
		n -= some
	}
	return nil
}

// meter measures a rate over the last seconds.
type meter struct {
	mu    sync.Mutex
	slots [meterSlots]int64 // bytes, by second
	last  int64             // second of the newest slot
	since time.Time         // of the first bytes after a pause as long as all slots
}

const (
	meterSlots = 10
	// meterLeast is how long bytes have to pass before a rate says anything: the
	// first of them go into buffers.
	meterLeast = 3 * time.Second
)

func (m *meter) add(now time.Time, n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn(now)
	if m.sum() == 0 {
		m.since = now
	}
	m.slots[m.last%meterSlots] += n
}

func (m *meter) sum() (bytes int64) {
	for _, n := range m.slots {
		bytes += n
	}
	return bytes
}

// turn empties the slots of the seconds that have passed.
func (m *meter) turn(now time.Time) {
	second := now.Unix()
	if second-m.last >= meterSlots || second < m.last {
		m.slots, m.last = [meterSlots]int64{}, second
	}
	for m.last < second {
		m.last++
		m.slots[m.last%meterSlots] = 0
	}
}

// rate is in bytes a second, 0 while that is not known.
func (m *meter) rate(now time.Time) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn(now)
	over := now.Sub(m.since)
	if over < meterLeast {
		return 0
	}
	// The slots reach back to the beginning of the oldest second that is kept.
	over = min(over, (meterSlots-1)*time.Second+now.Sub(now.Truncate(time.Second)))
	return int64(float64(m.sum()) / over.Seconds())
}

const (
	// stallAfter is how long a transfer may make no progress.
	stallAfter = time.Minute
	// leastMoved is what progress is: a remote that lets through a byte now and then
	// would keep its place in the lane for ever. Slower than this is no line.
	leastMoved = 4 << 10 // bytes in stallAfter
)

// watch ends a transfer that makes no progress.
type watch struct {
	ctx    context.Context
	timer  *time.Timer
	cancel context.CancelFunc

	mu   sync.Mutex
	some int64 // bytes since the timer was set
}

func newWatch(ctx context.Context) (context.Context, *watch) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watch{ctx: ctx, cancel: func() { cancel(context.Canceled) }}
	w.timer = time.AfterFunc(stallAfter, func() { cancel(errStalled) })
	return ctx, w
}

// moved notes bytes that have passed.
func (w *watch) moved(n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.some += n; w.some >= leastMoved {
		w.some = 0
		w.timer.Reset(stallAfter)
	}
}

// paced is pace, and what is waited for the limit is no fault of the remote.
func (w *watch) paced(l *rate.Limiter, n int) error {
	if l == nil {
		return nil
	}
	from := time.Now()
	err := pace(w.ctx, l, n)
	if time.Since(from) > time.Second {
		w.moved(leastMoved)
	}
	return err
}

// explain adds to an error that the watch was the cause.
func (w *watch) explain(err error) error {
	if err != nil && errors.Is(context.Cause(w.ctx), errStalled) {
		return fmt.Errorf("%w (%w)", errStalled, err)
	}
	return err
}

func (w *watch) stop() {
	w.timer.Stop()
	w.cancel()
}

// paceBlock is what a source counts at a time.
const paceBlock = 64 << 10 // bytes

// source is a content on its way out: paced, measured and watched. Only what is
// read for the first time counts, since a remote may read to hash before it
// reads to send, and parts in any order.
type source struct {
	io.ReaderAt
	size int64
	lane *lane
	blob seal.ID
	w    *watch

	mu   sync.Mutex
	seen map[int64]bool // blocks
}

// ReadAt implements io.ReaderAt.
func (s *source) ReadAt(p []byte, off int64) (int, error) {
	fresh := s.fresh(off, int64(len(p)))
	if err := s.w.paced(s.lane.limiter, int(fresh)); err != nil {
		return 0, err
	}
	n, err := s.ReaderAt.ReadAt(p, off)
	s.lane.passed(s.blob, fresh)
	s.w.moved(int64(n))
	return n, err
}

// fresh counts the blocks whose first byte is read for the first time.
func (s *source) fresh(off, n int64) (bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for b := (off + paceBlock - 1) / paceBlock; b*paceBlock < min(off+n, s.size); b++ {
		if !s.seen[b] {
			s.seen[b] = true
			bytes += min(paceBlock, s.size-b*paceBlock)
		}
	}
	return bytes
}

// sink is a content on its way here.
type sink struct {
	io.Reader
	lane *lane
	blob seal.ID
	w    *watch
}

// Read implements io.Reader.
func (s *sink) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	s.w.moved(int64(n))
	s.lane.passed(s.blob, int64(n))
	if err := s.w.paced(s.lane.limiter, n); err != nil {
		return n, err
	}
	if err == io.EOF {
		s.lane.came(s.blob)
	}
	return n, err
}
