package syncer

import (
	"context"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// rewrapGrace is how long the device that changed the password has for wrapping
// all keys anew, in looks that left nothing missing, before another one does
// what it did not get to.
const rewrapGrace = 20 * time.Minute

// heedHeader follows what the vault says of this device: shut out, in want of a
// new password, or an older copy of itself. When one was accepted, everything is looked at
// again: batches of its epoch were refused before.
func (e *Engine) heedHeader() {
	v := e.o.Vault
	e.hold(CondRevoked, vaultcore.ErrRevoked, v.Revoked())
	if err := v.RolledBack(); err != nil {
		e.meet(err)
	}
	e.hold(CondPassword, vaultcore.ErrNewEpoch, v.EpochPending() && !v.Revoked())
	_, accepted := v.HeaderSeq()
	e.mu.Lock()
	defer e.mu.Unlock()
	if accepted != e.header && e.header != 0 {
		e.reconciled, e.soon = time.Time{}, true
	}
	e.header = accepted
}

// hold keeps a condition as long as its cause lasts.
func (e *Engine) hold(kind string, cause error, lasts bool) {
	if lasts {
		e.meet(cause)
	} else {
		e.cond.clear(kind)
	}
}

// helpRewrap wraps the keys anew that a change of password elsewhere has left in
// an earlier epoch; to be called when nothing is missing.
func (e *Engine) helpRewrap(ctx context.Context) error {
	v, now := e.o.Vault, e.o.Now()
	if v.EpochPending() || v.Revoked() {
		return nil
	}
	_, accepted := v.HeaderSeq()
	e.mu.Lock()
	if e.wrapHeader != accepted {
		e.wrapHeader, e.wrapSince = accepted, now
	}
	due := now.Sub(e.wrapSince) >= rewrapGrace
	e.mu.Unlock()
	if !due {
		return nil
	}
	return v.FinishRewrap(ctx, nil)
}
