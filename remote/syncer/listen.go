package syncer

import (
	"bytes"
	"context"
	"time"
)

// listen has a remote that can wait say at once that something is new, so that
// asking it from time to time is needed no more than seldom. It takes nothing
// itself: what is new is read by the next look, which it brings about.
func (e *Engine) listen(ctx context.Context) {
	for ctx.Err() == nil {
		wait, cursor, ready := e.listening()
		if !ready {
			e.awaitLook(ctx, pollInUse)
			continue
		}
		if wait <= 0 {
			return
		}
		asked := time.Now()
		call, cancel := context.WithTimeout(ctx, wait+callTime)
		ch, err := e.o.Remote.Changes(call, cursor, wait)
		cancel()
		e.mu.Lock()
		e.bell = err == nil
		news := err == nil && (len(ch.List) > 0 || len(ch.Gone) > 0 || !bytes.Equal(ch.Next, cursor))
		e.rung = e.rung || news
		e.mu.Unlock()
		if news {
			e.wake()
		}
		// After an error the look finds out what is the matter. A remote that is about
		// to end says at once that there is nothing.
		if err != nil || news || time.Since(asked) < min(wait/2, pollSoon) {
			e.awaitLook(ctx, pollInUse)
		}
	}
}

// listening says how long the remote waits, and since when; not ready: it has not
// been looked at, does not answer, or is not to be asked.
func (e *Engine) listening() (wait time.Duration, cursor []byte, ready bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, closed := e.gates.closed(gateLog)
	ready = e.loaded && e.online && e.cursor != nil && !closed && !e.rung
	return e.caps.Wait, e.cursor, ready
}

// awaitLook waits for the next look at the remote, not for ever.
func (e *Engine) awaitLook(ctx context.Context, most time.Duration) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-e.looked:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// tellLooked lets awaitLook go on.
func (e *Engine) tellLooked() {
	select {
	case e.looked <- struct{}{}:
	default:
	}
}
