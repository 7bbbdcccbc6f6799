package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/vaultdrive/vaultdrive/remote"
	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// enable makes the remote at an address the vault's, or changes its settings.
func (s *syncing) enable(ctx context.Context, in syncEnableRequest) error {
	s.change.Lock()
	defer s.change.Unlock()
	old, known, err := s.vault.Remote(ctx)
	if err != nil {
		return err
	}
	next, err := in.settings(old, known)
	if err != nil {
		return err
	}
	access := in.Access
	if access == nil && known && old.URL == next.URL {
		s.mu.Lock()
		access = s.access
		s.mu.Unlock()
	}
	if next, err = s.claim(ctx, next, access, in); err != nil {
		return err
	}
	if known && next.ID != old.ID {
		if err := s.refuseStranding(ctx); err != nil {
			return err
		}
	}
	s.halt(true)
	err = s.vault.SetRemote(ctx, next)
	return errors.Join(err, s.resume(ctx, access))
}

// claim finds out what the remote can do and makes it this vault's.
func (s *syncing) claim(ctx context.Context, settings vaultcore.RemoteSettings, access *accessKeys, in syncEnableRequest) (vaultcore.RemoteSettings, error) {
	settings.Caps = nil
	r, err := s.open(settings, access)
	if err != nil {
		return settings, err
	}
	caps, err := r.Probe(ctx)
	if err = errors.Join(err, r.Close()); err != nil {
		return settings, err
	}
	if settings.Caps, err = json.Marshal(caps); err != nil {
		return settings, err
	}
	if r, err = s.open(settings, access); err != nil {
		return settings, err
	}
	id, err := syncer.Enable(ctx, s.vault, r, in.Device)
	if err == nil {
		err = s.enlist(ctx, r, in.Password)
	}
	if err = errors.Join(err, r.Close()); err != nil {
		return settings, err
	}
	b, err := hex.DecodeString(id)
	if err != nil || len(b) != len(settings.ID) {
		return settings, fmt.Errorf("%w: its id", syncer.ErrForeign)
	}
	settings.ID = seal.ID(b)
	return settings, nil
}

// enlist puts the device of a vault that came back from a backup into the roster,
// on top of the newest header that the remote has.
func (s *syncing) enlist(ctx context.Context, r *remote.Remote, password []byte) error {
	d, listed, err := s.vault.OwnDevice()
	if err != nil || listed {
		return err
	}
	if len(password) == 0 {
		return fail(errNoPassword, "", "the vault came back from a backup: its password is needed to enroll this device")
	}
	return syncer.AddDevice(ctx, s.vault, r, password, d)
}

// refuseStranding keeps a vault at its remote while contents lie only there.
func (s *syncing) refuseStranding(ctx context.Context) error {
	if !s.vault.LedgerOn() {
		return nil
	}
	wanted, err := s.vault.WantedBlobs(ctx)
	if err != nil || len(wanted) == 0 {
		return err
	}
	return fail(errRemoteOnly, "vaultdrive sync enable with the old address, then vaultdrive prefetch / brings them here; afterwards move",
		"%s at the vault's old remote only, which this device would lose", plural(len(wanted), "content"))
}

// disable stops and leaves everything at the remote as it is.
func (s *syncing) disable(ctx context.Context) error {
	s.change.Lock()
	defer s.change.Unlock()
	settings, known, err := s.vault.Remote(ctx)
	if err != nil {
		return err
	}
	if !known || !settings.Enabled {
		return errSyncOff
	}
	settings.Enabled = false
	s.halt(true)
	err = s.vault.SetRemote(ctx, settings)
	if off := s.resume(ctx, nil); err == nil && !errors.Is(off, errSyncOff) {
		err = off
	}
	return err
}

// loginOf is how a vault logs in at a server.
func loginOf(v *vaultcore.Vault, settings vaultcore.RemoteSettings) (l remote.Login, err error) {
	l = remote.Login{Signer: v.LoginSigner(), DID: v.DID()}
	boot, err := bootOf(v, settings)
	if err != nil {
		return l, err
	}
	l.Boot = boot
	headers, err := v.HeaderEnvelopes(0)
	if err == nil && len(headers) == 0 {
		err = fmt.Errorf("%w: no headers", vaultcore.ErrDamaged)
	}
	if err != nil {
		return l, err
	}
	l.First = headers[0]
	return l, nil
}

// addressOf is what join takes on another device.
func addressOf(v *vaultcore.Vault, settings vaultcore.RemoteSettings) string {
	boot, err := bootOf(v, settings)
	if err != nil {
		return ""
	}
	return seal.FormatAddress(v.VaultID(), boot, v.DID())
}

// bootOf is the boot token of the vault's address, which changes with every
// revocation.
func bootOf(v *vaultcore.Vault, settings vaultcore.RemoteSettings) (seal.ID, error) {
	token, none, err := v.BootToken()
	if err != nil || !none {
		return token, err
	}
	b, err := hex.DecodeString(settings.Boot)
	if err != nil || len(b) != len(seal.ID{}) {
		return seal.ID{}, fmt.Errorf("%w: boot token", vaultcore.ErrDamaged)
	}
	return seal.ID(b), nil
}

func newBootToken() string {
	var b [16]byte
	rand.Read(b[:]) // never fails since Go 1.24
	return hex.EncodeToString(b[:])
}
