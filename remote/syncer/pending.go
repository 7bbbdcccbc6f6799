package syncer

import (
	"context"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// How soon a remote is asked again for contents that nobody has said to be there:
// each look at it may bring the question up, and while another device sends much, a
// server rings for every content.
const (
	pendingFirst = 250 * time.Millisecond
	pendingMost  = 4 * time.Second
)

// pendingState says when to ask for such contents again; Engine.mu guards it.
type pendingState struct {
	again time.Time
	wait  time.Duration
	due   bool // there was a reason to ask before that
}

// mayAsk says whether to ask for contents that nobody has confirmed, any says that
// there are some. While there are, it is done less and less often, but at once for
// somebody who waits.
func (e *Engine) mayAsk(any, atOnce bool) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	a, now := &e.asking, e.o.Now()
	if !any {
		*a = pendingState{}
		return false
	}
	// A wait longer than any comes from a clock that was put back.
	if !atOnce && now.Before(a.again) && a.again.Sub(now) <= pendingMost {
		a.due, e.refresh = true, true
		return false
	}
	a.wait = min(max(2*a.wait, pendingFirst), pendingMost)
	a.again, a.due = now.Add(a.wait), false
	return true
}

// pendingIdle asks for what it was too soon to ask for, when nothing else is due.
func (e *Engine) pendingIdle(ctx context.Context) {
	e.mu.Lock()
	due := e.asking.due && e.online && !e.o.Now().Before(e.asking.again)
	e.mu.Unlock()
	if !due || e.take(ctx) != nil {
		return
	}
	defer e.give()
	_ = e.refreshIfDue(ctx, false) // it is tried again
}

// findPending asks the remote for contents that nobody has said to be there.
func (e *Engine) findPending(ctx context.Context, wanted []vaultcore.WantedBlob, atOnce bool) (map[seal.ID]bool, error) {
	var pending []vaultcore.WantedBlob
	for _, w := range wanted {
		if w.Pending {
			pending = append(pending, w)
		}
	}
	found := make(map[seal.ID]bool)
	if !e.mayAsk(len(pending) > 0, atOnce) {
		return found, nil
	}
	for len(pending) > 0 {
		some := pending[:min(len(pending), statChunk)]
		pending = pending[len(some):]
		call, cancel := context.WithTimeout(ctx, callTime)
		there, err := e.Confirm(call, some)
		cancel()
		if err != nil {
			return found, err
		}
		for _, id := range there {
			found[id] = true
		}
		if len(there) == 0 {
			continue
		}
		if err := e.o.Vault.Found(ctx, there); err != nil {
			return found, err
		}
	}
	return found, nil
}
