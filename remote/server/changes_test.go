package server

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/server/metatest"
)

func TestLongPoll(t *testing.T) {
	onBoth(t, Options{}, func(t *testing.T, w *world) {
		p := w.register()
		head := w.state(p).Head
		got := make(chan *answer, 1)
		go func() { got <- p.do("GET", api.PathVault(p.vault)+fmt.Sprintf("/changes?after=%d&wait=55", head), nil) }()
		w.untilWaiting(1)
		p.do("PUT", api.PathBatch(p.vault, p.device, 1), p.batch()).want(201)
		var changes api.Changes
		(<-got).want(200).into(&changes)
		if len(changes.Changes) != 1 || changes.Changes[0].Kind != api.KindBatch || changes.Head != head+1 {
			t.Errorf("%+v", changes)
		}
		// At most four wait for a session, and all go when the server drains.
		var wg sync.WaitGroup
		var nothing atomic.Int64
		for range 4 {
			wg.Go(func() {
				if p.do("GET", api.PathVault(p.vault)+fmt.Sprintf("/changes?after=%d&wait=55", changes.Head), nil).status == 204 {
					nothing.Add(1)
				}
			})
		}
		w.untilWaiting(4)
		p.do("GET", api.PathVault(p.vault)+fmt.Sprintf("/changes?after=%d&wait=55", changes.Head), nil).code(api.CodeRateLimited)
		w.Drain()
		wg.Wait()
		if nothing.Load() != 4 {
			t.Errorf("%d of 4 were let go", nothing.Load())
		}
		p.do("GET", "/readyz", nil).code(api.CodeUnavailable)
		p.do("GET", "/healthz", nil).want(200)
	})
}

func (w *world) untilWaiting(n int) {
	w.t.Helper()
	deadline := time.Now().Add(5 * time.Minute)
	for time.Now().Before(deadline) {
		w.wakeups.mu.Lock()
		all := 0
		for _, a := range w.wakeups.m {
			all += a.all
		}
		w.wakeups.mu.Unlock()
		if all == n {
			return
		}
		time.Sleep(time.Millisecond)
	}
	w.t.Fatalf("no %d long polls wait", n)
}

func TestTwoProcesses(t *testing.T) {
	w := newWorld(t, metatest.Postgres(t), Options{})
	second := w.beside()
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	for _, s := range []*world{w, second} {
		wg.Go(func() { s.Run(ctx) })
	}
	p := w.register()
	far := *p
	far.w = second
	head := w.state(p).Head
	for i := range 20 { // the first may be lost while the other begins to listen
		got := make(chan *answer, 1)
		go func() {
			got <- far.do("GET", api.PathVault(p.vault)+fmt.Sprintf("/changes?after=%d&wait=10", head), nil)
		}()
		second.untilWaiting(1)
		p.do("PUT", api.PathBatch(p.vault, p.device, uint64(i+1)), p.batch()).want(201)
		var changes api.Changes
		if res := <-got; res.status == 200 {
			res.into(&changes)
			if changes.Head != head+1 {
				t.Errorf("%+v", changes)
			}
			return
		}
		head = w.state(p).Head
	}
	t.Error("a long poll at another process was never woken")
}
