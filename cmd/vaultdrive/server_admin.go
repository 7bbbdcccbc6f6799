package main

import (
	"context"
	"net/http"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// routeAdmin serves the calls about the vault as a whole.
func (s *server) routeAdmin(mux *http.ServeMux) {
	streaming(mux, callCheck, func(ctx context.Context, in checkRequest, k *sink) error {
		report, err := s.vault.Check(ctx, vaultcore.CheckOptions{Deep: in.Deep, Repair: in.Repair, Progress: k.progress})
		if err != nil {
			return err
		}
		return k.item(report)
	})
	streaming(mux, callRescueList, func(_ context.Context, _ none, k *sink) error {
		rows, err := s.vault.RescueList()
		if err != nil {
			return err
		}
		for _, row := range rows {
			if err := k.item(row); err != nil {
				return err
			}
		}
		return nil
	})
	unary(mux, callEvents, s.events)
	unary(mux, callBarrier, func(ctx context.Context, _ none) (none, error) {
		return none{}, s.vault.Barrier(ctx)
	})
	streaming(mux, callUnmount, func(ctx context.Context, in unmountRequest, k *sink) error {
		if s.unmount == nil {
			return errNotMounted
		}
		// Who stops waiting does not stop the unmount.
		left, err := s.unmount(context.WithoutCancel(ctx), in, k.send)
		if err != nil {
			return err
		}
		return k.item(left)
	})
	s.routeKeys(mux)
}
