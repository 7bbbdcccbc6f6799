package syncer

import (
	"context"
	"log/slog"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Prefetch says which contents are brought here without being asked for.
type Prefetch string

// The ways to prefetch. The zero value is PrefetchAll.
const (
	PrefetchAll    Prefetch = "all"
	PrefetchPinned Prefetch = "pinned"
	PrefetchNone   Prefetch = "none"
)

// Options are what an engine works with.
type Options struct {
	Vault  *vaultcore.Vault
	Remote Remote
	Log    *slog.Logger     // ids only; nil: discarded
	Now    func() time.Time // nil: time.Now

	Prefetch  Prefetch
	UpLimit   int64       // bytes a second; 0: none
	DownLimit int64       // bytes a second; 0: none
	Metered   bool        // the network costs: no prefetch, no large uploads, few polls
	Busy      func() bool // the mount has work, uploads give way; nil: never
}

// Engine makes a vault and its remote agree. It never ends because of what a
// remote does, and never removes anything here because of what a remote says.
// All methods are safe for concurrent use.
type Engine struct {
	o Options
}

// New gives an engine. It starts nothing and asks the remote nothing.
func New(o Options) *Engine {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Busy == nil {
		o.Busy = func() bool { return false }
	}
	return &Engine{o: o}
}

// Run keeps vault and remote in agreement until ctx ends, whose error it
// returns. No error of the remote ends it.
func (e *Engine) Run(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// SyncNow makes vault and remote agree at once: seals, pushes, looks at
// everything there, pulls, uploads, and fetches what Prefetch asks for. It
// returns when all is done; what could not be done is the error. heal also puts
// back what the remote has lost and is held here.
func (e *Engine) SyncNow(ctx context.Context, heal bool) error { return ErrUnavailable }

// Wait returns when the contents of these attachments, nil for all, and the
// batches that name them are confirmed on the remote. Error: that of ctx, with
// what is in the way.
func (e *Engine) Wait(ctx context.Context, ids []seal.ID) error { return ErrUnavailable }

// Fetch brings one content here before all others, for vaultcore.OnFetch. When
// ctx ends the caller goes, the download goes on.
func (e *Engine) Fetch(ctx context.Context, blob seal.ID) error { return ErrUnavailable }

// Poke says that something changed here or that a file was asked for: the vault
// is in use, so the remote is asked more often.
func (e *Engine) Poke() {}
