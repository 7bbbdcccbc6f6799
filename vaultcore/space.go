package vaultcore

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"syscall"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// How long an answer of the file system about its free space is believed:
// this long, and until this much has been written.
const (
	freeMaxAge   = 100 * time.Millisecond
	freeMaxWrote = 8 * mib
)

// spaceGuard makes a full disk known at write, since programs ignore the
// errors of close. Each draft with changes promises the bytes it will still
// need to be sealed whole; a write that would promise more than the disk has,
// less the reserve, fails.
type spaceGuard struct {
	// Set at construction.
	free    func() (avail, total uint64, err error)
	low     func() bool // makes room; true: something went, ask again. May be nil
	reserve int64

	mu       sync.Mutex
	promised int64
	kept     int64 // the reserve of this file system, as of asked
	avail    int64 // as of asked, less what was written since
	asked    time.Time
	wrote    int64 // since asked
}

// promise adds n bytes to what drafts still need. Error: ErrNoSpace, and then
// nothing was added.
func (g *spaceGuard) promise(n int64) error { return g.ask(n, n) }

// fits fails with ErrNoSpace unless n bytes can be written beside all that is
// promised.
func (g *spaceGuard) fits(n int64) error { return g.ask(n, 0) }

// spare is promise for what nobody waits for: it leaves as much as the reserve to
// who saves, and nothing is given up for it.
func (g *spaceGuard) spare(n int64) error {
	ok, err := g.tryAsk(n, n, true)
	if err == nil && !ok {
		err = fmt.Errorf("%w: %d bytes more are needed beside those left for saving", ErrNoSpace, n)
	}
	return err
}

func (g *spaceGuard) ask(need, promise int64) error {
	for {
		ok, err := g.tryAsk(need, promise, false)
		if err != nil || ok {
			return err
		}
		if g.low == nil || !g.low() {
			return fmt.Errorf("%w: %d bytes more are needed", ErrNoSpace, need)
		}
		g.forget()
	}
}

func (g *spaceGuard) tryAsk(need, promise int64, spare bool) (bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.refreshLocked(need); err != nil {
		return false, err
	}
	if spare {
		need += g.kept
	}
	if g.avail-g.promised < need {
		return false, nil
	}
	g.promised += promise
	return true, nil
}

// refreshLocked asks the file system again when the last answer is old, or
// would be a refusal.
func (g *spaceGuard) refreshLocked(need int64) error {
	fresh := g.wrote < freeMaxWrote && g.avail-g.promised >= need
	if fresh && time.Since(g.asked) < freeMaxAge {
		return nil
	}
	avail, total, err := g.free()
	if err != nil {
		return err
	}
	g.kept = reserveOf(clampSize(total), g.reserve)
	g.avail = clampSize(avail) - g.kept
	g.asked, g.wrote = time.Now(), 0
	return nil
}

// release takes back n bytes of what was promised.
func (g *spaceGuard) release(n int64) {
	g.mu.Lock()
	g.promised -= n
	g.mu.Unlock()
}

// regain promises n bytes again that had been written and are free again now.
func (g *spaceGuard) regain(n int64) {
	g.mu.Lock()
	g.promised += n
	g.asked = time.Time{}
	g.mu.Unlock()
}

// written says that n bytes went to the disk.
func (g *spaceGuard) written(n int64) {
	g.mu.Lock()
	g.avail -= n
	g.wrote += n
	g.mu.Unlock()
}

// forget makes the next question reach the file system.
func (g *spaceGuard) forget() {
	g.mu.Lock()
	g.asked = time.Time{}
	g.mu.Unlock()
}

// reserveOf is what stays free of a file system of total bytes.
func reserveOf(total, reserve int64) int64 {
	return max(min(reserve, total/16), min(mib, reserve))
}

func clampSize(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

// diskError gives what the disk answered to a write its name among ours.
func diskError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNoSpace):
		return err
	case errors.Is(err, blob.ErrNoSpace), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	case errors.Is(err, syscall.EFBIG):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	return err
}
