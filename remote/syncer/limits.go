package syncer

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Limiter is a Remote that says how much it lets its vault store; or
// errors.ErrUnsupported.
type Limiter interface {
	Limits(ctx context.Context) (Limits, error)
}

// Limits is what a Limiter says. Numbers are bytes.
type Limits struct {
	Plan      string    `json:"plan"`
	Usage     int64     `json:"usage"` // of stored contents
	Limit     int64     `json:"limit"`
	Remaining int64     `json:"remaining"`
	MaxFile   int64     `json:"file_limit"` // of plaintext
	Versions  []int     `json:"versions"`   // of encryption that are taken
	At        time.Time `json:"at"`         // when it said so
}

// askLimits learns what the remote lets us store, for status and for writes that
// it would not take. A failure leaves what is known, which gets too old.
func (e *Engine) askLimits(ctx context.Context) {
	r, ok := e.o.Remote.(Limiter)
	if !ok {
		return
	}
	call, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	l, err := r.Limits(call)
	if errors.Is(err, errors.ErrUnsupported) {
		return
	}
	if err != nil {
		e.o.Log.Info("limits not learnt", "err", err)
		return
	}
	l.At = e.o.Now()
	far := vaultcore.RemoteLimits{MaxFile: l.MaxFile, Room: max(0, l.Remaining), At: l.At}
	if len(l.Versions) > 0 && !slices.Contains(l.Versions, 4) {
		far.MaxFile = min(far.MaxFile, seal.MaxV3)
	}
	if err := e.o.Vault.SetRemoteLimits(ctx, far); err != nil {
		e.o.Log.Warn("limits not kept", "err", err)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.limits = &l
}

// limitsFresh is how long what the remote said is not asked for again by who looks.
const limitsFresh = time.Second

// RefreshLimits asks the remote anew what it lets us store, for somebody who wants to
// see it. It takes statusTime at most, and nothing while the remote does not answer.
func (e *Engine) RefreshLimits(ctx context.Context) {
	e.mu.Lock()
	due := e.online && (e.limits == nil || e.o.Now().Sub(e.limits.At) >= limitsFresh)
	e.mu.Unlock()
	if !due {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, statusTime)
	defer cancel()
	e.askLimits(ctx)
}
