package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/vaultdrive/vaultdrive/remote"
	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// enable makes the remote at an address the vault's, or changes its settings. from
// is the address of the remote that was in use till now, if it is another one.
func (s *syncing) enable(ctx context.Context, in syncEnableRequest) (from string, err error) {
	s.change.Lock()
	defer s.change.Unlock()
	old, known, err := s.vault.Remote(ctx)
	if err != nil {
		return "", err
	}
	next, err := in.settings(old, known)
	if err != nil {
		return "", err
	}
	if err := s.nameDevice(ctx, in); err != nil {
		return "", err
	}
	if known && old.URL != next.URL {
		from = old.URL
	}
	access := in.Access
	if access == nil && known && old.URL == next.URL {
		s.mu.Lock()
		access = s.access
		s.mu.Unlock()
	}
	moves := known && old.Enabled && next.URL != old.URL
	if moves {
		s.lastLook(ctx)
	}
	// For other options alone nobody has to be asked.
	asks := in.URL != "" || !old.Enabled || in.Access != nil
	if asks {
		if next, err = s.claim(ctx, next, access, in); err != nil {
			return "", notEnabled(err)
		}
	}
	if known && next.ID != old.ID {
		if err := s.refuseStranding(ctx, next, access, old.Enabled); err != nil {
			return "", err
		}
	}
	s.halt(true)
	err = s.vault.SetRemote(ctx, next)
	if err = errors.Join(err, s.resume(ctx, access)); err == nil && asks {
		s.publish(ctx)
	}
	return from, err
}

// nameDevice calls the device as was asked for. One that has said its name keeps it: an
// option that did nothing would look as if it had.
func (s *syncing) nameDevice(ctx context.Context, in syncEnableRequest) error {
	if !in.Named || !s.vault.LedgerOn() {
		return nil // who turns the ledger on gives the name
	}
	err := s.vault.NameDevice(ctx, in.Device)
	if errors.Is(err, vaultcore.ErrInvalid) {
		return blob.WithHint(err, "nothing has changed: leave out --device-name; unmounted, device enroll --new-id --device-name NAME makes it a new device of that name")
	}
	return err
}

// publishTime is how long enable waits for what others see first.
const publishTime = 20 * time.Second

// publish has the list of files at the remote before its address is shown, so that who
// joins with that finds them. What it does not get to is done as ever; contents follow.
func (s *syncing) publish(ctx context.Context) {
	run, err := s.use(ctx)
	if err != nil {
		return // status says why
	}
	ctx, cancel := context.WithTimeout(ctx, publishTime)
	defer cancel()
	if err := run.engine.Publish(ctx); err != nil {
		s.log.Info("not all is published yet", "err", err)
	}
}

// notEnabled is a failed enable as a person meets it: what can be done about a
// remote in use, above all to wait, is not what helps here.
func notEnabled(err error) error {
	switch {
	case errors.Is(err, syncer.ErrUntrusted):
		return err
	case errors.Is(err, syncer.ErrNoStore):
		return blob.WithHint(err, "nothing has changed: make the directory or bucket, or mount it, then give the command again")
	case errors.Is(err, syncer.ErrUnavailable) && blob.Hint(err) != "": // the address is wrong in a way that was found out
		return blob.WithHint(err, "nothing has changed: "+blob.Hint(err))
	case errors.Is(err, syncer.ErrUnavailable):
		return blob.WithHint(err, "nothing has changed: look at the address and the network, then give the command again")
	}
	return err
}

// claim finds out what the remote can do and makes it this vault's.
func (s *syncing) claim(ctx context.Context, settings vaultcore.RemoteSettings, access *accessKeys, in syncEnableRequest) (vaultcore.RemoteSettings, error) {
	settings.Caps = nil
	d, listed, err := s.vault.OwnDevice()
	if err != nil {
		return settings, err
	}
	made := false
	if listed {
		settings.Caps, err = s.probe(ctx, settings, access, nil)
	} else {
		settings.Caps, made, err = s.enlist(ctx, settings, access, in.Password, d)
	}
	if err != nil {
		return settings, err
	}
	r, err := s.open(settings, access, nil)
	if err != nil {
		return settings, err
	}
	place, err := syncer.Enable(ctx, s.vault, r, in.Device)
	if err == nil {
		err = s.checkAddress(ctx, r, &settings)
	}
	if err = errors.Join(err, r.Close()); err != nil {
		return settings, err
	}
	b, err := hex.DecodeString(place.Remote)
	if err != nil || len(b) != len(settings.ID) {
		return settings, fmt.Errorf("%w: its id", syncer.ErrForeign)
	}
	settings.ID, settings.Shared = seal.ID(b), !place.New && !made
	return settings, nil
}

// probe asks the remote what it can do.
func (s *syncing) probe(ctx context.Context, settings vaultcore.RemoteSettings, access *accessKeys, owner *vaultcore.OwnerSigner) (json.RawMessage, error) {
	r, err := s.open(settings, access, owner)
	if err != nil {
		return nil, err
	}
	caps, err := r.Probe(ctx)
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	return json.Marshal(caps)
}

// enlist puts the device of a vault that came back from a backup into the roster,
// on top of the newest header that the remote has. A server knows no such device:
// there the vault's identity itself logs in, which may read and add headers alone.
func (s *syncing) enlist(ctx context.Context, settings vaultcore.RemoteSettings, access *accessKeys, password []byte, d seal.Device) (caps json.RawMessage, made bool, err error) {
	if len(password) == 0 {
		return nil, false, fail(errNoPassword, "", "the vault came back from a backup: its password is needed to enroll this device")
	}
	owner, err := s.vault.OwnerSigner(ctx, password)
	if err != nil {
		return nil, false, err
	}
	defer owner.Wipe()
	if caps, err = s.probe(ctx, settings, access, owner); err != nil {
		return nil, false, err
	}
	settings.Caps = caps
	r, err := s.open(settings, access, owner)
	if err != nil {
		return nil, false, err
	}
	place, err := syncer.Enroll(ctx, s.vault, r, password, d)
	return caps, place.New, errors.Join(err, r.Close())
}

// checkAddress forgets a boot token that the server does not take: the vault was
// registered there by another device, whose address this one does not know.
func (s *syncing) checkAddress(ctx context.Context, r *remote.Remote, settings *vaultcore.RemoteSettings) error {
	_, unknown, err := s.vault.BootToken()
	if err != nil || !unknown {
		return err
	}
	admits, err := r.Admits(ctx)
	if err == nil && !admits {
		settings.Boot = ""
	}
	return err
}

// lastLookTime bounds what a remote that is given up may take for its last word.
const lastLookTime = time.Minute

// lastLook takes what other devices have said at the remote that is given up. One
// that does not answer any more is a reason to give it up.
func (s *syncing) lastLook(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lastLookTime)
	defer cancel()
	run, err := s.use(ctx)
	if err == nil {
		err = syncer.PullAll(ctx, s.vault, run.remote)
	}
	if err != nil {
		s.log.Info("the old remote was not asked once more", "err", rowOf(err).code)
	}
}

// refuseStranding keeps a vault at its remote while contents lie only there, and
// not at the next one.
func (s *syncing) refuseStranding(ctx context.Context, next vaultcore.RemoteSettings, access *accessKeys, on bool) error {
	if !s.vault.LedgerOn() {
		return nil
	}
	wanted, err := s.vault.WantedBlobs(ctx)
	if err != nil || len(wanted) == 0 {
		return err
	}
	r, err := s.open(next, access, nil)
	if err != nil {
		return err
	}
	there, err := syncer.Present(ctx, r, wanted)
	if err = errors.Join(err, r.Close()); err != nil {
		return err
	}
	left := len(wanted) - len(there)
	if left == 0 {
		return nil
	}
	hint := "vaultdrive prefetch / brings them here; then move. A device that has them all may also move first"
	if !on {
		hint = "vaultdrive sync enable without an address turns the old remote on again, and " + hint
	}
	return fail(errRemoteOnly, hint, "%s of this vault %s at the old remote only, which this device would lose", plural(left, "content"), areOrIs(left))
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

// addressOf is what join takes on another device; empty while it is not known
// here.
func addressOf(v *vaultcore.Vault, settings vaultcore.RemoteSettings) string {
	boot, err := bootOf(v, settings)
	if err != nil || boot.IsZero() {
		return ""
	}
	return seal.FormatAddress(v.VaultID(), boot, v.DID())
}

// bootOf is the boot token of the vault's address, which changes with every
// revocation; zero while it is not known here.
func bootOf(v *vaultcore.Vault, settings vaultcore.RemoteSettings) (seal.ID, error) {
	token, none, err := v.BootToken()
	if err != nil || !none || settings.Boot == "" {
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
