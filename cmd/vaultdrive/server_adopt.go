package main

import (
	"context"
	"errors"
	"net/http"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// routeAdopt serves the calls about what a server says and no device has signed.
func (s *server) routeAdopt(mux *http.ServeMux) {
	unary(mux, callUnverified, func(ctx context.Context, _ none) ([]vaultcore.Unverified, error) {
		return s.vault.Unverified(ctx)
	})
	streaming(mux, callAdopt, s.adopt)
}

// adopt does what was asked to one after the other; one that fails keeps none of
// the others up.
func (s *server) adopt(ctx context.Context, in adoptRequest, k *sink) error {
	list, err := s.vault.Unverified(ctx)
	if err != nil {
		return err
	}
	picked := vaultcore.AllUnverified(list, in.Deletions)
	if !in.All {
		if picked, err = vaultcore.SelectUnverified(list, in.Paths, in.Deletions); err != nil {
			return err
		}
	}
	if in.Refuse {
		picked = filesFirst(picked)
	}
	decide := s.vault.Adopt
	if in.Refuse {
		decide = s.vault.Refuse
	}
	defer s.decided(ctx)
	for _, u := range picked {
		if err := ctx.Err(); err != nil {
			return err
		}
		answer := adoptAnswer{}
		answer.Adopted, err = decide(ctx, u)
		if errors.Is(err, vaultcore.ErrNotFound) && u.State != vaultcore.UnverifiedDeletion && !s.vault.IsUnverified(u) {
			continue // what was done to another settled it too, as a file brings its asset
		}
		if err != nil {
			answer.Error = toWire(err)
		}
		if err := k.item(answer); err != nil {
			return err
		}
	}
	return nil
}

// filesFirst puts assets behind what lies in them.
func filesFirst(list []vaultcore.Unverified) []vaultcore.Unverified {
	var files, assets []vaultcore.Unverified
	for _, u := range list {
		if u.Kind == vaultcore.KindAsset.String() {
			assets = append(assets, u)
		} else {
			files = append(files, u)
		}
	}
	return append(files, assets...)
}

// decided has the remote told, and answers when the mount shows it.
func (s *server) decided(ctx context.Context) {
	if run, err := s.sync.use(ctx); err == nil {
		run.engine.Decided()
	}
	s.settle(ctx)
}
