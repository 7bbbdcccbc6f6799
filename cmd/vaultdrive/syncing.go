package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/vaultdrive/vaultdrive/remote"
	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// syncing keeps an open vault and its remote in agreement, as the vault's own
// settings say. Nothing in it waits for a network but what is asked to.
type syncing struct {
	vault *vaultcore.Vault
	log   *slog.Logger
	busy  func() bool // the mount has work; nil: never
	// steady: the loop runs all the time, as for a mount. Without it the remote
	// is opened when a command asks for it.
	steady bool

	change sync.Mutex // one enable or disable at a time; taken before mu

	mu       sync.Mutex // held for a moment only; guards the rest
	now      *runningSync
	access   *accessKeys // of this process only
	trouble  error       // why the remote that is set cannot be opened
	changing bool        // the settings are just being replaced
	over     bool        // the vault is about to be closed
}

// runningSync is an open remote with its engine.
type runningSync struct {
	engine   *syncer.Engine
	remote   *remote.Remote
	settings vaultcore.RemoteSettings
	cancel   context.CancelFunc
	loop     sync.WaitGroup
}

// newSyncing connects the vault with whatever remote it has, now or later.
func newSyncing(vault *vaultcore.Vault, log *slog.Logger) *syncing {
	s := &syncing{vault: vault, log: log}
	vault.OnFetch(s.fetch)
	vault.OnFetchRange(s.fetchRange)
	vault.OnConfirm(s.confirm)
	return s
}

// fetch brings a content that is at the remote only.
func (s *syncing) fetch(ctx context.Context, id seal.ID) error {
	r, err := s.use(ctx)
	if err != nil {
		return err
	}
	return r.engine.Fetch(ctx, id)
}

// fetchRange brings a part of one.
func (s *syncing) fetchRange(ctx context.Context, id seal.ID, off, n int64, w io.WriterAt) error {
	r, err := s.use(ctx)
	if err != nil {
		return err
	}
	return r.engine.FetchRange(ctx, id, off, n, w)
}

// confirm looks which of some contents are on the remote.
func (s *syncing) confirm(ctx context.Context, blobs []vaultcore.WantedBlob) ([]seal.ID, error) {
	r, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	return r.engine.Confirm(ctx, blobs)
}

// begin starts synchronisation for a mount, if it is on. What keeps the remote
// from being opened is shown by status; it is no reason not to mount.
func (s *syncing) begin(ctx context.Context) {
	if _, err := s.use(ctx); err != nil && !errors.Is(err, errSyncOff) && !s.vault.ReadOnly() {
		s.log.Warn("the remote cannot be used", "err", rowOf(err).code)
	}
}

// use gives the engine, started if need be. Errors: errSyncOff, those of
// remote.Open.
func (s *syncing) use(ctx context.Context) (*runningSync, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now != nil {
		return s.now, nil
	}
	switch {
	case s.over:
		return nil, vaultcore.ErrClosed
	case s.vault.ReadOnly():
		return nil, vaultcore.ErrReadOnly
	case s.changing:
		return nil, fmt.Errorf("%w: the remote is just being changed", syncer.ErrUnavailable)
	}
	settings, known, err := s.vault.Remote(ctx)
	if err != nil {
		return nil, err
	}
	if !known || !settings.Enabled {
		return nil, errSyncOff
	}
	s.trouble = s.start(settings)
	return s.now, s.trouble
}

// useWith is use with credentials for a process that has none, or not the right
// ones.
func (s *syncing) useWith(ctx context.Context, access *accessKeys) (*runningSync, error) {
	run, err := s.use(ctx)
	if err == nil || access == nil || errors.Is(err, errSyncOff) {
		return run, err
	}
	s.mu.Lock()
	s.access = access
	s.mu.Unlock()
	return s.use(ctx)
}

// start opens the remote and runs the engine; mu is held.
func (s *syncing) start(settings vaultcore.RemoteSettings) error {
	r, err := s.open(settings, s.access, nil)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	run := &runningSync{remote: r, settings: settings, cancel: cancel}
	run.engine = syncer.New(syncer.Options{
		Vault: s.vault, Remote: r, Log: s.log, Busy: s.busy,
		Prefetch: syncer.Prefetch(settings.Prefetch), UpLimit: settings.UpLimit, DownLimit: settings.DownLimit, Metered: settings.Metered,
	})
	s.vault.SetCacheSize(settings.CacheSize)
	if s.steady {
		run.loop.Go(func() { _ = run.engine.Run(ctx) }) // it ends with ctx alone
	}
	s.now = run
	return nil
}

// open opens the remote of some settings. It asks the remote nothing. access
// are credentials of this process; nil: those that the vault keeps. owner logs in
// at a server in the place of this device; nil: the device.
func (s *syncing) open(settings vaultcore.RemoteSettings, access *accessKeys, owner *vaultcore.OwnerSigner) (*remote.Remote, error) {
	o := remote.Options{Vault: s.vault.VaultID().UUID(), Device: s.vault.DeviceID().UUID()}
	if !settings.ID.IsZero() {
		o.Remote = settings.ID.Hex()
	}
	if len(settings.Caps) > 0 {
		if err := json.Unmarshal(settings.Caps, &o.Caps); err != nil {
			return nil, fmt.Errorf("%w: abilities of the remote: %w", vaultcore.ErrDamaged, err)
		}
	}
	if access == nil {
		access = &accessKeys{}
		if len(settings.Access) > 0 {
			if err := json.Unmarshal(settings.Access, access); err != nil {
				return nil, fmt.Errorf("%w: credentials of the remote: %w", vaultcore.ErrDamaged, err)
			}
		}
	}
	o.S3 = access.options()
	var err error
	if o.Login, err = loginOf(s.vault, settings); err != nil {
		return nil, err
	}
	o.Login.Invite = access.Invite
	if owner != nil && remote.IsServer(settings.URL) {
		o.Device, o.Login.Signer = seal.ID{}.UUID(), owner
	}
	return remote.Open(settings.URL, o)
}

// halt stops engine and remote. With lasting nobody starts them again before
// resume.
func (s *syncing) halt(lasting bool) {
	s.mu.Lock()
	run := s.now
	s.now, s.changing = nil, lasting
	s.mu.Unlock()
	if run == nil {
		return
	}
	run.cancel()
	run.loop.Wait()
	if err := run.remote.Close(); err != nil {
		s.log.Warn("close the remote", "err", err)
	}
}

// resume goes on after halt, with the settings as they are now.
func (s *syncing) resume(ctx context.Context, access *accessKeys) error {
	s.mu.Lock()
	s.access, s.changing, s.trouble = access, false, nil
	s.mu.Unlock()
	_, err := s.use(ctx)
	return err
}

// end stops for good, before the vault is closed.
func (s *syncing) end() {
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	s.halt(false)
}

// drain goes on for a while when nothing changes any more, if the remote
// answers, and says what is left.
func (s *syncing) drain(patience time.Duration) leftBehind {
	s.mu.Lock()
	run := s.now
	s.mu.Unlock()
	if run == nil {
		return leftBehind{}
	}
	before := run.engine.Status()
	if before.State != syncer.StateStopped && before.State != syncer.StateOffline && patience > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := run.engine.Wait(ctx, nil); err != nil {
			s.log.Info("not everything is uploaded", "err", rowOf(err).code)
		}
	}
	after := run.engine.Status()
	left := leftBehind{Changes: s.unsealed(after.Unsealed) + after.Unpushed + after.Saves, Files: after.Up.Count, Bytes: after.Up.Bytes, Online: after.Online}
	for _, c := range after.Conditions {
		if after.State == syncer.StateStopped || c.Kind == syncer.CondFull || c.Kind == syncer.CondPassword {
			left.Why, left.Hint = c.Text, c.Hint
		}
	}
	return left
}

// mostCounted bounds the count of changes that nobody waits for.
const mostCounted = 10_000

// unsealed counts the changes that are in no batch: the engine's own count is of
// its last look, and what was saved just before the end is newer.
func (s *syncing) unsealed(known int) int {
	n, _, err := s.vault.Unsealed(context.Background(), mostCounted)
	if err != nil {
		return known
	}
	return n
}

// engineStatus is that of the engine, the zero value without one.
func (s *syncing) engineStatus() syncer.Status {
	s.mu.Lock()
	run := s.now
	s.mu.Unlock()
	if run == nil {
		return syncer.Status{}
	}
	return run.engine.Status()
}

// transferring says whether contents are on their way.
func (s *syncing) transferring() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now != nil && s.now.engine.Transferring()
}

// poke says that the vault is in use.
func (s *syncing) poke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now != nil {
		s.now.engine.Poke()
	}
}

// keptSecret says whether the keys of a bucket are sealed in the vault; where they
// are, or an invitation, is no secret of it.
func keptSecret(settings vaultcore.RemoteSettings) bool {
	var access accessKeys
	return json.Unmarshal(settings.Access, &access) == nil && access.secret()
}

// status tells how synchronisation is, without asking anybody.
func (s *syncing) status(ctx context.Context) (syncView, error) {
	settings, known, err := s.vault.Remote(ctx)
	if err != nil {
		return syncView{}, err
	}
	view := syncView{Status: syncer.Status{State: stateDisabled}}
	if known {
		view.Remote, view.Enabled, view.Kept = settings.URL, settings.Enabled, keptSecret(settings)
		view.Address = addressOf(s.vault, settings)
		view.Prefetch, view.Metered = settings.Prefetch, settings.Metered
		view.UpLimit, view.DownLimit = settings.UpLimit, settings.DownLimit
		view.Cache = s.vault.CacheUse()
		view.Cache.Limit = settings.CacheSize
	}
	if known && settings.Enabled {
		run, err := s.use(ctx)
		switch {
		case s.vault.ReadOnly():
			view.State = syncer.StateOff
		case err != nil:
			view.State = syncer.StateStopped
			view.Conditions = append(view.Conditions, troubleCondition(err))
		default:
			if view.Status = run.engine.Status(); !s.steady {
				err = s.stored(ctx, &view.Status)
			}
			if err != nil {
				return view, err
			}
		}
	}
	view.complete()
	return view, nil
}

// refresh learns anew what the remote lets us store, where a loop runs that is in
// touch with it.
func (s *syncing) refresh(ctx context.Context) {
	if settings, known, err := s.vault.Remote(ctx); err != nil || !known || !settings.Enabled || !s.steady || s.vault.ReadOnly() {
		return
	}
	if run, err := s.use(ctx); err == nil {
		run.engine.RefreshLimits(ctx)
	}
}

// stored counts what waits in a vault where no loop runs, which would know.
func (s *syncing) stored(ctx context.Context, st *syncer.Status) error {
	if !s.vault.LedgerOn() {
		return nil
	}
	if err := s.vault.RolledBack(); err != nil {
		st.Conditions = append(st.Conditions, troubleCondition(err))
	}
	st.Unsealed = s.vault.Status().Dirty
	last, err := s.vault.LastPushed(ctx)
	if err != nil {
		return err
	}
	heads, err := s.vault.Heads(ctx)
	if err != nil {
		return err
	}
	st.Unpushed = int(heads[s.vault.DeviceID()].Seq - last)
	jobs, err := s.vault.Jobs(ctx, 0)
	st.Up = syncer.Queue{}
	for _, j := range jobs {
		if j.Up {
			st.Up.Count, st.Up.Bytes = st.Up.Count+1, st.Up.Bytes+j.Size
		}
	}
	return err
}

// troubleCondition is a remote that cannot be opened, as a condition.
func troubleCondition(err error) syncer.Condition {
	return syncer.Condition{Kind: rowOf(err).code, Text: oneLine(err), Hint: hintOf(err)}
}
