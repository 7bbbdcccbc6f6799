package syncer_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// A fault that lasts is in the log once, not at every look.
func TestLastingFaultIsLoggedOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop")
	laptop := f.devices[0]
	laptop.sync()
	var log lockedBuffer
	laptop.o.Log = slog.New(slog.NewTextHandler(&log, nil))
	var looks atomic.Int32
	laptop.engineWith(func(op, key string) fault {
		if op == "Changes" {
			looks.Add(1)
		}
		return fault{err: fmt.Errorf("login refused: %w", syncer.ErrDenied)}
	})
	laptop.run()
	laptop.until("the remote was asked again and again", func() bool { return looks.Load() >= 4 })
	laptop.halt()
	if n := strings.Count(log.String(), "remote not asked"); n != 1 {
		t.Errorf("it is in the log %d times:\n%s", n, log.String())
	}
	if c, ok := laptop.condition(syncer.CondDenied); !ok || c.Hint == "" {
		t.Errorf("conditions: %+v", laptop.Status().Conditions)
	}
}

// lockedBuffer is what several goroutines log to.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Who waits is told what only a person can put right, instead of waiting for ever.
func TestWaitSaysWhatIsInTheWay(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		op   string
		err  error
		kind string
	}{
		"full":    {"PutBlob", syncer.ErrFull, syncer.CondFull},
		"missing": {"", fmt.Errorf("%w: %w", syncer.ErrUnavailable, syncer.ErrNoStore), syncer.CondNoStore},
		"denied":  {"", syncer.ErrDenied, syncer.CondDenied},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, folder(t), "laptop")
			laptop := f.devices[0]
			laptop.sync()
			laptop.write("Letters/one.txt", "one")
			laptop.engineWith(func(op, key string) fault {
				if c.op == "" || c.op == op {
					return fault{err: c.err}
				}
				return fault{}
			})
			laptop.run()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			err := laptop.Wait(ctx, nil)
			if !errors.Is(err, c.err) || errors.Is(err, context.DeadlineExceeded) || c.kind == syncer.CondFull && blob.Hint(err) == "" {
				t.Errorf("%v, hint %q", err, blob.Hint(err))
			}
			if c.kind == syncer.CondFull && !errors.Is(laptop.trySync(), syncer.ErrFull) {
				t.Error("sync now does not say that the remote is full")
			}
		})
	}
}

// TestFullIsNotOffline: a remote that has no room, and asks for patience with that, is
// there: the state is not offline, the condition and its hint say what it is, and what
// is refused has no end to be told.
func TestFullIsNotOffline(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop")
	laptop := f.devices[0]
	laptop.sync()
	var full atomic.Bool
	full.Store(true)
	laptop.engineWith(func(op, key string) fault {
		if full.Load() && (op == "PutBlob" || op == "Put") {
			return fault{err: &blob.RetryError{After: 10 * time.Millisecond, Err: blob.WithHint(syncer.ErrFull, "ask its operator")}}
		}
		return fault{}
	})
	laptop.write("Letters/one.txt", "one")
	laptop.run()
	for range 3 {
		if err := laptop.trySync(); !errors.Is(err, syncer.ErrFull) {
			t.Errorf("sync now: %v", err)
		}
		s := laptop.Status()
		if s.State == syncer.StateOffline || !s.Online || !s.Up.Done.IsZero() {
			t.Errorf("state %s, online %v, done %v", s.State, s.Online, s.Up.Done)
		}
		if c, ok := laptop.condition(syncer.CondFull); !ok || c.Hint != "ask its operator" {
			t.Errorf("conditions %+v", s.Conditions)
		}
	}
	full.Store(false)
	laptop.until("there is room again, and the condition has gone", func() bool {
		s := laptop.Status()
		return laptop.trySync() == nil && s.Up.Count == 0 && len(s.Conditions) == 0
	})
	laptop.halt()
}

// TestFullAfterWaiting: who asks for synchronisation is told that the remote is
// full, also where it has once asked for patience, which is long over.
func TestFullAfterWaiting(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop")
	laptop := f.devices[0]
	laptop.sync()
	var asked, full atomic.Bool
	laptop.engineWith(func(op, key string) fault {
		switch {
		case op != "PutBlob":
		case full.Load():
			return fault{err: syncer.ErrFull}
		case !asked.Swap(true):
			return fault{err: &blob.RetryError{After: time.Millisecond, Err: errors.New("in a moment")}}
		}
		return fault{}
	})
	laptop.write("Letters/one.txt", "one")
	laptop.sync()
	full.Store(true)
	laptop.write("Letters/two.txt", "two")
	if err := laptop.trySync(); !errors.Is(err, syncer.ErrFull) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if !asked.Load() {
		t.Error("the remote never asked for patience")
	}
}
