package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// routeKeys serves the calls that change what opens the vault, and for whom.
func (s *server) routeKeys(mux *http.ServeMux) {
	streaming(mux, callPassword, func(ctx context.Context, in passwordRequest, k *sink) error {
		defer clear(in.Old)
		defer clear(in.New)
		// Whoever asked may go away: a change that has begun is finished.
		return s.changePassword(context.WithoutCancel(ctx), in, func(done, total int) {
			k.progress(int64(done), int64(total))
		})
	})
	unary(mux, callAccept, func(ctx context.Context, in passwordRequest) (none, error) {
		defer clear(in.New)
		err := s.vault.AcceptPassword(context.WithoutCancel(ctx), in.New)
		s.sync.poke()
		return none{}, err
	})
	unary(mux, callRefuse, func(ctx context.Context, in passwordRequest) (none, error) {
		defer clear(in.Old)
		err := s.refuseHeaders(context.WithoutCancel(ctx), in)
		s.sync.poke()
		return none{}, err
	})
	unary(mux, callKit, func(ctx context.Context, in passwordRequest) (textAnswer, error) {
		defer clear(in.Old)
		sheet, err := s.createKit(context.WithoutCancel(ctx), in.Old)
		return textAnswer{sheet}, err
	})
	streaming(mux, callKitRestore, func(ctx context.Context, in kitRequest, k *sink) error {
		defer clear(in.Secret)
		defer clear(in.New)
		return s.restoreByKit(context.WithoutCancel(ctx), in, func(done, total int) {
			k.progress(int64(done), int64(total))
		})
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
	unary(mux, callDevices, func(ctx context.Context, _ none) ([]vaultcore.DeviceInfo, error) {
		return s.vault.Devices(ctx)
	})
	unary(mux, callNewID, func(ctx context.Context, in deviceRequest) (none, error) {
		defer clear(in.Password)
		return none{}, s.newIdentity(context.WithoutCancel(ctx), in)
	})
	unary(mux, callEnlist, func(ctx context.Context, in deviceRequest) (none, error) {
		defer clear(in.Password)
		return none{}, s.enlistAlone(context.WithoutCancel(ctx), in)
	})
	unary(mux, callApprove, func(ctx context.Context, in deviceRequest) (deviceRequest, error) {
		defer clear(in.Password)
		id, err := s.approve(context.WithoutCancel(ctx), in)
		return deviceRequest{Devices: []string{id.UUID()}}, err
	})
	streaming(mux, callRevoke, func(ctx context.Context, in deviceRequest, k *sink) error {
		defer clear(in.Password)
		return s.revoke(context.WithoutCancel(ctx), in, func(done, total int) {
			k.progress(int64(done), int64(total))
		})
	})
}

// headerRemote is the remote that a change of the header goes through; nil for a
// vault that is not synced.
func (s *server) headerRemote(ctx context.Context, access *accessKeys) (syncer.Remote, error) {
	run, err := s.sync.useWith(ctx, access)
	if errors.Is(err, errSyncOff) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return run.remote, nil
}

func (s *server) changePassword(ctx context.Context, in passwordRequest, progress func(done, total int)) error {
	var params seal.KDFParams
	if in.Raise {
		params = seal.DefaultKDF()
	}
	r, err := s.headerRemote(ctx, in.Access)
	if err != nil {
		return err
	}
	if r == nil {
		return s.vault.ChangePassword(ctx, in.Old, in.New, params, progress)
	}
	if err := syncer.ChangePassword(ctx, s.vault, r, in.Old, in.New, params); err != nil {
		return err
	}
	return s.newEpoch(ctx, progress)
}

// restoreByKit is changePassword by the recovery kit.
func (s *server) restoreByKit(ctx context.Context, in kitRequest, progress func(done, total int)) error {
	kit := vaultcore.TypedKit{Secret: string(in.Secret), DID: in.DID}
	r, err := s.headerRemote(ctx, in.Access)
	if err != nil {
		return err
	}
	if r == nil {
		return s.vault.RestoreByKit(ctx, kit, in.New, seal.KDFParams{}, progress)
	}
	if err := syncer.RestoreByKit(ctx, s.vault, r, kit, in.New, seal.KDFParams{}); err != nil {
		return err
	}
	return s.newEpoch(ctx, progress)
}

// newEpoch follows a header of a new epoch: from here on only that counts.
func (s *server) newEpoch(ctx context.Context, progress func(done, total int)) error {
	s.sync.poke()
	progress(0, 1)
	return s.vault.FinishRewrap(ctx, progress)
}

func (s *server) createKit(ctx context.Context, password []byte) (string, error) {
	r, err := s.headerRemote(ctx, nil)
	if err != nil {
		return "", err
	}
	if r == nil {
		return s.vault.CreateKit(ctx, password)
	}
	kit, err := syncer.CreateKit(ctx, s.vault, r, password)
	if kit == nil {
		return "", err
	}
	defer kit.Wipe()
	if settings, known, err := s.vault.Remote(ctx); err == nil && known {
		kit.Address = addressOf(s.vault, settings)
	}
	return kit.Sheet(s.vault.Label()), err
}

func (s *server) revoke(ctx context.Context, in deviceRequest, progress func(done, total int)) error {
	ids := make([]seal.ID, len(in.Devices))
	for i, text := range in.Devices {
		id, err := seal.ParseUUID(text)
		if err != nil {
			return usage("%s is no id of a device", text)
		}
		ids[i] = id
	}
	r, err := s.headerRemote(ctx, in.Access)
	if err != nil {
		return err
	}
	if r == nil {
		return fail(errSyncOff, "a device is revoked for all others through the remote: vaultdrive sync enable first", "synchronisation is off")
	}
	if err := syncer.Revoke(ctx, s.vault, r, in.Password, ids...); err != nil {
		return err
	}
	_ = syncer.RenewBoot(ctx, s.vault, r) // should it fail, the next look at everything does it
	return s.newEpoch(ctx, progress)
}

// newIdentity is for a vault that this command alone has open, and closes then.
func (s *server) newIdentity(ctx context.Context, in deviceRequest) error {
	if s.mount.MountPoint != "" {
		return fail(errMounted, "unmount it first", "the vault is mounted")
	}
	r, err := s.headerRemote(ctx, in.Access)
	if err != nil {
		return err
	}
	if r == nil {
		return fail(errSyncOff, "without sync there is nobody to tell two copies apart for", "synchronisation is off")
	}
	name, err := s.newName(ctx, in)
	if err != nil {
		return err
	}
	return syncer.NewIdentity(ctx, s.vault, r, in.Password, name)
}

// newName is what a device with a new identity is called: no other has that name, the
// one that it was copied from above all.
func (s *server) newName(ctx context.Context, in deviceRequest) (string, error) {
	devices, err := s.vault.Devices(ctx)
	if err != nil {
		return "", err
	}
	taken := make(map[string]bool)
	for _, d := range devices {
		taken[d.Name] = true
	}
	if in.Name != "" && taken[in.Name] {
		return "", fail(errUsage, "give another name with --device-name", "a device is called %s already", in.Name)
	}
	name := cmp.Or(in.Name, in.Host)
	for i := 2; taken[name]; i++ {
		name = fmt.Sprintf("%.*s %d", seal.MaxDeviceName-4, in.Host, i)
	}
	return name, nil
}

// enlistAlone puts the device of a vault that came back from a backup into the roster,
// where no remote is left that has a newer header.
func (s *server) enlistAlone(ctx context.Context, in deviceRequest) error {
	if _, known, err := s.vault.Remote(ctx); err != nil || known {
		return cmp.Or(err, fail(errUsage, "vaultdrive sync enable enrolls this device there", "the vault has a remote"))
	}
	d, listed, err := s.vault.OwnDevice()
	if err != nil {
		return err
	}
	if listed {
		return fail(errUsage, "nothing is to be done: vaultdrive device list shows it", "this device is in the roster of the vault")
	}
	c, err := s.vault.ProposeDevice(ctx, in.Password, d)
	if err != nil {
		return err
	}
	return c.Commit(ctx)
}

// refuseHeaders drops a change of password that nobody of the user's made.
func (s *server) refuseHeaders(ctx context.Context, in passwordRequest) error {
	r, err := s.headerRemote(ctx, in.Access)
	if err != nil {
		return err
	}
	if r == nil {
		return s.vault.RefuseHeaders(ctx, in.Old)
	}
	return syncer.RefuseHeaders(ctx, s.vault, r, in.Old)
}

// approve lets in the device that asks with a code.
func (s *server) approve(ctx context.Context, in deviceRequest) (seal.ID, error) {
	r, err := s.headerRemote(ctx, in.Access)
	if err != nil {
		return seal.ID{}, err
	}
	if r == nil {
		return seal.ID{}, errSyncOff
	}
	return syncer.PairApprove(ctx, s.vault, r, in.Password, in.Code)
}
