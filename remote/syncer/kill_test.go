package syncer_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
)

// killer lets a program die at its n-th call to the remote: before it, or after
// the remote has done what it was asked for.
type killer struct {
	d     *device
	at    int
	after bool

	mu    sync.Mutex
	calls int
	home  string // what was on the disk then; "" while it lives
}

func (k *killer) plan(string, string) fault {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.home != "" {
		return fault{err: syncer.ErrUnavailable} // of a program that is no more
	}
	if k.calls++; k.calls != k.at {
		return fault{}
	}
	if k.after {
		return fault{then: k.kill}
	}
	k.home = k.d.killedHome()
	return fault{err: syncer.ErrUnavailable}
}

func (k *killer) kill() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.home == "" {
		k.home = k.d.killedHome()
	}
}

// over ends the danger: it gives how many calls there were, and what was on the
// disk when it died.
func (k *killer) over() (calls int, home string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.at = -1
	return k.calls, k.home
}

// Wherever the program dies while it syncs, in the end every save is on both
// devices.
func TestKillAtEveryCall(t *testing.T) {
	t.Parallel()
	calls := killAt(t, 0, false)
	if calls < 8 {
		t.Fatalf("a sync is %d calls", calls)
	}
	for at := range calls {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("call %d, after it %v", at+1, after), func(t *testing.T) {
				t.Parallel()
				killAt(t, at+1, after)
			})
		}
	}
}

// killAt lets the program die at a call, if there is one of that number, and
// gives the number of calls there were.
func killAt(t *testing.T, at int, after bool) (calls int) {
	f := newFleet(t, folder(t), "laptop", "desktop")
	laptop, desktop := f.devices[0], f.devices[1]
	desktop.write("Others/b.txt", "by the desktop")
	desktop.sync()
	laptop.write("Letters/a.txt", "dear")
	laptop.write("Letters/large.bin", strings.Repeat("x", 100_000))
	k := &killer{d: laptop, at: at, after: after}
	laptop.engineWith(k.plan)
	_ = laptop.trySync()
	calls, home := k.over()
	if home != "" {
		laptop.home = home
		laptop.resume()
	}
	laptop.write("Letters/a.txt", "dearest")
	f.sync()
	f.agree()
	large := strings.Repeat("x", 100_000)
	for path, want := range map[string]string{"Letters/a.txt": "dearest", "Others/b.txt": "by the desktop", "Letters/large.bin": large} {
		if got := desktop.read(path); got != want {
			t.Errorf("%s: %d bytes, want %d: %.40q", path, len(got), len(want), got)
		}
	}
	for _, d := range f.devices {
		d.hasNone()
	}
	return calls
}
