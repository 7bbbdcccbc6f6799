package syncer

import (
	"context"
	"errors"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// spentEvery is how often a server is told of contents that nobody needs any more.
const spentEvery = time.Minute

// spentState is what was released; Engine.mu guards it.
type spentState struct {
	due      bool // something was replaced or deleted, or others have seen more
	again    time.Time
	released map[seal.ID]bool // of this session: once is enough
}

// spentDue says whether to look; mu is held.
func (e *Engine) spentDue() bool { return e.spent.due && !e.o.Now().Before(e.spent.again) }

// releaseSpent lets a server throw away what this device replaced or deleted, once all
// have seen that and the rows say so: there it lies in a trash that gives back, and the
// quota is free at once. On other remotes the collection does it. The turn is held.
func (e *Engine) releaseSpent(ctx context.Context, atOnce bool) error {
	if _, _, ok := e.mayProject(); !ok {
		return nil // it stays due
	}
	e.mu.Lock()
	due := e.spentDue() || atOnce && e.spent.due
	if due {
		e.spent.due, e.spent.again = false, e.o.Now().Add(spentEvery)
	}
	e.mu.Unlock()
	if !due {
		return nil
	}
	blobs, err := e.o.Vault.Spent(ctx, e.isReleased)
	if errors.Is(err, vaultcore.ErrBusy) {
		return nil // what is waited for makes it due
	}
	if err == nil && len(blobs) > 0 {
		err = e.releaseAll(ctx, blobs)
	}
	if err != nil {
		e.mu.Lock()
		e.spent.due = true
		e.mu.Unlock()
		e.o.Log.Info("contents not released", "err", err)
	}
	return err
}

func (e *Engine) isReleased(blob seal.ID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.spent.released[blob]
}

func (e *Engine) releaseAll(ctx context.Context, blobs []seal.ID) error {
	s := Settlement{Release: make([]string, len(blobs))}
	for i, blob := range blobs {
		s.Release[i] = blob.Hex()
	}
	call, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	if _, err := e.o.Remote.Settle(call, s); err != nil {
		return err
	}
	e.mu.Lock()
	if e.spent.released == nil {
		e.spent.released = make(map[seal.ID]bool)
	}
	for _, blob := range blobs {
		e.spent.released[blob] = true
	}
	e.mu.Unlock()
	e.o.Log.Info("contents released", "count", len(blobs))
	e.askLimits(ctx)
	return nil
}
