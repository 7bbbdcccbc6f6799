package main

import (
	"context"
	"net/http"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
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
	unary(mux, callEvents, func(_ context.Context, in eventsRequest) ([]vaultcore.Event, error) {
		return s.vault.Events(in.After, in.Max)
	})
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

// routeKeys serves the calls that change what opens the vault.
func (s *server) routeKeys(mux *http.ServeMux) {
	streaming(mux, callPassword, func(ctx context.Context, in passwordRequest, k *sink) error {
		defer clear(in.Old)
		defer clear(in.New)
		var params seal.KDFParams
		if in.Raise {
			params = seal.DefaultKDF()
		}
		// Whoever asked may go away: a change that has begun is finished.
		ctx = context.WithoutCancel(ctx)
		return s.vault.ChangePassword(ctx, in.Old, in.New, params, func(done, total int) {
			k.progress(int64(done), int64(total))
		})
	})
	unary(mux, callKit, func(ctx context.Context, in passwordRequest) (textAnswer, error) {
		defer clear(in.Old)
		sheet, err := s.vault.CreateKit(ctx, in.Old)
		return textAnswer{sheet}, err
	})
	unary(mux, callEnroll, func(context.Context, none) (keyAnswer, error) {
		key, err := s.vault.Enroll()
		if err != nil {
			return keyAnswer{}, err
		}
		defer key.Wipe()
		return keyAnswer{vaultcore.FormatDeviceKey(s.vault.VaultID(), &key)}, nil
	})
	unary(mux, callUnenroll, func(context.Context, none) (none, error) {
		return none{}, s.vault.Unenroll()
	})
}
