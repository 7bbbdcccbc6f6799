package main

import (
	"context"
	"fmt"
	"net/http"

	"golang.org/x/sync/errgroup"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// routeHere serves the calls about which contents are on this device.
func (s *server) routeHere(mux *http.ServeMux) {
	unary(mux, callPin, func(ctx context.Context, in pathRequest) (none, error) {
		return none{}, s.withID(in.Path, func(id seal.ID) error { return s.vault.Pin(ctx, id) })
	})
	unary(mux, callUnpin, func(ctx context.Context, in pathRequest) (none, error) {
		return none{}, s.withID(in.Path, func(id seal.ID) error { return s.vault.Unpin(ctx, id) })
	})
	unary(mux, callPins, func(context.Context, none) ([]vaultcore.Pin, error) { return s.vault.Pins(), nil })
	unary(mux, callEvict, func(ctx context.Context, in pathsRequest) (vaultcore.Evicted, error) {
		if _, err := s.sync.use(ctx); err != nil {
			return vaultcore.Evicted{}, err
		}
		ids, err := s.idsOf(in.Paths)
		if err != nil {
			return vaultcore.Evicted{}, err
		}
		return s.vault.Evict(ctx, ids)
	})
	streaming(mux, callPrefetch, s.prefetch)
}

// withID does something to what a path leads to.
func (s *server) withID(path string, fn func(seal.ID) error) error {
	if path == "" {
		return usage("the vault itself cannot be pinned; its assets can")
	}
	ids, err := s.idsOf([]string{path})
	if err != nil {
		return err
	}
	return fn(ids[0])
}

// idsOf gives the ids of paths; the root stands for all assets.
func (s *server) idsOf(paths []string) (ids []seal.ID, err error) {
	note := func(i vaultcore.Info) error {
		id, err := seal.ParseUUID(i.ID)
		if err == nil {
			ids = append(ids, id)
		}
		return err
	}
	for _, p := range paths {
		if p == "" {
			err = s.vault.List("", false, note)
		} else {
			var info vaultcore.Info
			if info, err = s.vault.Stat(p); err == nil {
				err = note(info)
			}
		}
		if err != nil {
			return nil, named(err, p)
		}
	}
	return ids, nil
}

// prefetchAtATime is how many contents are asked for at a time; the engine has
// limits of its own.
const prefetchAtATime = 16

func (s *server) prefetch(ctx context.Context, in pathsRequest, k *sink) error {
	run, err := s.sync.use(ctx)
	if err != nil {
		return err
	}
	ids, err := s.idsOf(in.Paths)
	if err != nil {
		return err
	}
	missing, err := s.vault.Missing(ctx, ids)
	if err != nil {
		return err
	}
	err = following(ctx, run.engine, k, func(ctx context.Context) error {
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(prefetchAtATime)
		for _, w := range missing {
			g.Go(func() error {
				if err := run.engine.Fetch(ctx, w.Blob); err != nil {
					return fmt.Errorf("fetch %d bytes: %w", w.Len, err)
				}
				return nil
			})
		}
		return g.Wait()
	})
	if err != nil {
		return err
	}
	answer := fetchedAnswer{Files: len(missing)}
	for _, w := range missing {
		answer.Bytes += w.Len
	}
	return k.item(answer)
}
