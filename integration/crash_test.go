package integration

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// seedOf returns the seed of a random test and prints it, so that a failure can
// be played again with -crash.seed.
func seedOf(t testing.TB) uint64 {
	t.Helper()
	seed := *crashSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-crash.seed=%d", seed)
	return seed
}

// kill -9 of the daemon at random moments under random work: what a call that
// returned has done is there, what was under way is done or not done, nothing is
// half done, and check finds nothing to complain about.
func TestCrashLoop(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(seedOf(t), 2))
	b := newVault(t)
	b.enroll()
	m := b.mount()
	writers := make([]*model, 3)
	for i := range writers {
		maxSize := 1 << 20
		if i == 0 {
			maxSize = 30 << 20 // this one streams now and then
		}
		writers[i] = newModel(m.asset(fmt.Sprint("Writer ", i)), rnd.Uint64(), maxSize)
	}
	calls := 0
	for round := range *crashRounds {
		killDuring(t, m, time.Duration(rnd.IntN(250))*time.Millisecond, writers...)
		if round%20 == 19 {
			b.checkClean()
		}
		m = b.mountAgain()
		for _, w := range writers {
			w.verify(t)
		}
	}
	m.unmount()
	b.checkClean()
	for _, w := range writers {
		calls += w.calls
	}
	t.Logf("%d rounds, %d calls that returned", *crashRounds, calls)
	if calls < *crashRounds/10 { // it is ten times as many and more, on a machine of its own
		t.Errorf("only %d calls in %d rounds: this tested nothing", calls, *crashRounds)
	}
}

// A kill while the vault is being unlocked, again and again, with work left over
// from the crash before: recovery itself must be safe to interrupt.
func TestCrashWhileRecovering(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(seedOf(t), 3))
	b := newVault(t)
	b.enroll()
	m := b.mount()
	w := newModel(m.asset("Writer"), rnd.Uint64(), 2<<20)
	for range *crashRounds / 10 {
		killDuring(t, m, time.Duration(rnd.IntN(150))*time.Millisecond, w)
		for range 3 {
			b.launchAndKill(time.Duration(rnd.IntN(60)) * time.Millisecond)
		}
		m = b.mountAgain()
		w.verify(t)
	}
	m.unmount()
	b.checkClean()
}

// killDuring lets the writers work and kills the daemon at a moment that has
// nothing to do with what they are at.
func killDuring(t *testing.T, m *mount, moment time.Duration, writers ...*model) {
	t.Helper()
	var killed atomic.Bool
	var group errgroup.Group
	for _, w := range writers {
		group.Go(func() error {
			err := w.run()
			// The kernel says EIO too for what was under way when the daemon died.
			if isDead(err) || killed.Load() && errors.Is(err, syscall.EIO) {
				return nil
			}
			return err
		})
	}
	time.Sleep(moment) // the random moment itself; nothing waits for it
	killed.Store(true)
	m.cmd.Process.Kill()
	err := group.Wait()
	m.afterDeath()
	if err != nil {
		t.Fatalf("a writer saw an error: %v\n%s", err, m.logText())
	}
}
