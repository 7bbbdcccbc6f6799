package main

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// routeSync serves the calls about the remote.
func (s *server) routeSync(mux *http.ServeMux) {
	unary(mux, callSyncEnable, func(ctx context.Context, in syncEnableRequest) (syncView, error) {
		defer clear(in.Password)
		// A change that has begun is finished, or it would be half of one.
		from, err := s.sync.enable(context.WithoutCancel(ctx), in)
		if err != nil {
			return syncView{}, err
		}
		view, err := s.syncStatus(ctx, none{})
		view.Moved = from
		return view, err
	})
	unary(mux, callSyncDisable, func(ctx context.Context, _ none) (syncView, error) {
		if err := s.sync.disable(context.WithoutCancel(ctx)); err != nil {
			return syncView{}, err
		}
		return s.syncStatus(ctx, none{})
	})
	unary(mux, callSyncStatus, func(ctx context.Context, _ none) (syncView, error) {
		s.sync.refresh(ctx)
		return s.syncStatus(ctx, none{})
	})
	streaming(mux, callSyncNow, s.syncNow)
	streaming(mux, callSyncWait, s.syncWait)
	unary(mux, callConflicts, func(ctx context.Context, _ none) ([]vaultcore.Conflict, error) {
		return s.vault.Conflicts(ctx)
	})
	s.routeHere(mux)
	s.routeAdopt(mux)
	changing(s, mux, callConflictKeep, func(ctx context.Context, in keepRequest) (vaultcore.Kept, error) {
		return s.vault.KeepConflict(ctx, in.Path, in.How)
	})
}

func (s *server) syncStatus(ctx context.Context, _ none) (syncView, error) {
	view, err := s.sync.status(ctx)
	if err != nil || !s.vault.LedgerOn() {
		return view, err
	}
	view.Unverified, view.Deletions = s.vault.CountUnverified()
	if view.Devices, err = s.vault.Devices(ctx); err != nil {
		return view, err
	}
	named, err := s.deviceNames(ctx)
	if err != nil {
		return view, err
	}
	for i := range view.Conditions {
		view.Conditions[i].Text = named(view.Conditions[i].Text)
	}
	view.RemoteOnly, err = s.vault.CountWanted(ctx)
	return view, err
}

func (s *server) syncNow(ctx context.Context, in syncNowRequest, k *sink) error {
	run, err := s.sync.useWith(ctx, in.Access)
	if err != nil {
		return err
	}
	var healed *syncer.Healed
	err = following(ctx, run.engine, k, func(ctx context.Context) error {
		if !in.Heal {
			return run.engine.SyncNow(ctx)
		}
		h, err := run.engine.Heal(ctx)
		healed = &h
		return err
	})
	s.settle(ctx)
	if err != nil && healed == nil {
		return err
	}
	view, serr := s.syncStatus(ctx, none{})
	if serr == nil {
		view.Healed = healed.Complete()
		serr = k.item(view)
	}
	return cmp.Or(err, serr) // what was put back is told with an error too
}

func (s *server) syncWait(ctx context.Context, in syncWaitRequest, k *sink) error {
	ids, err := s.attachmentsBelow(in.Paths)
	if err != nil {
		return err
	}
	if err := s.vault.Barrier(ctx); err != nil {
		return err
	}
	run, err := s.sync.use(ctx)
	if errors.Is(err, errSyncOff) {
		return k.item(waitedAnswer{})
	}
	if err != nil {
		return err
	}
	err = following(ctx, run.engine, k, func(ctx context.Context) error {
		if !s.sync.steady {
			return run.engine.SyncNow(ctx) // there is no loop to wait for
		}
		return run.engine.Wait(ctx, ids)
	})
	if err != nil {
		return err
	}
	return k.item(waitedAnswer{Uploaded: true})
}

// attachmentsBelow gives the ids of what is uploaded of some paths; nil for no
// paths, which is everything.
func (s *server) attachmentsBelow(paths []string) ([]seal.ID, error) {
	var ids []seal.ID
	for _, p := range paths {
		note := func(i vaultcore.Info) error {
			id, err := seal.ParseUUID(i.ID)
			if err == nil && i.State != "scratch" && (!isDir(i) || i.Kind == "folder") {
				ids = append(ids, id)
			}
			return nil
		}
		if err := s.vault.List(p, true, note); err != nil {
			return nil, named(err, p)
		}
	}
	if len(paths) > 0 && ids == nil {
		ids = []seal.ID{} // nothing is not everything
	}
	return ids, nil
}

// progressEvery is how often a long call tells how far it is.
const progressEvery = 200 * time.Millisecond

// following runs fn and tells meanwhile how far transfers and healing are, in bytes.
func following(ctx context.Context, e *syncer.Engine, k *sink, fn func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- fn(ctx) }()
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	var p transferProgress
	for {
		select {
		case err := <-done:
			return err
		case <-ticker.C:
			k.progress(p.step(e.Status()))
		}
	}
}

// transferProgress makes a measure that only grows out of what is left.
type transferProgress struct{ left, done int64 }

func (p *transferProgress) step(s syncer.Status) (done, total int64) {
	left := s.Up.Bytes + s.Down.Bytes + s.Checking
	p.done += max(0, p.left-left)
	p.left = left
	return p.done, p.done + left
}
