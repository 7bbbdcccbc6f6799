package syncer

import (
	"context"
	"errors"
	"fmt"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Place is where a vault lies on a remote.
type Place struct {
	Remote string // its id, 32 hex digits
	New    bool   // nobody used it before
}

// Enable makes r the vault's remote: the marker, which it makes or finds, then
// all headers, then the checkpoints and the batches of all devices that are held
// here and not there; and the ledger is turned on under the name of this device. r
// has to be open with the Caps that were probed. The caller keeps the place with
// vaultcore.SetRemote. It may be repeated. Errors: ErrForeign for a place of
// another vault, ErrOtherBytes for another history of headers, those of the remote.
func Enable(ctx context.Context, v *vaultcore.Vault, r Remote, device string) (Place, error) {
	place, err := claim(ctx, v, r)
	if err == nil {
		err = PushHeaders(ctx, v, r)
	}
	if err == nil {
		err = v.EnableLedger(ctx, device)
	}
	if err == nil {
		err = putHistory(ctx, v, r)
	}
	if err != nil {
		return Place{}, fmt.Errorf("enable sync: %w", err)
	}
	return place, nil
}

// Enroll lets the device of a vault that came back from a backup into the roster,
// on top of the newest header that the remote has; a place that is new gets the
// marker and the headers first. r is open in the name of the vault's identity where
// it asks for a login, since no device is known there. Errors as of Enable and
// ChangePassword.
func Enroll(ctx context.Context, v *vaultcore.Vault, r Remote, password []byte, d seal.Device) (Place, error) {
	place, err := claim(ctx, v, r)
	if err == nil {
		err = PushHeaders(ctx, v, r)
	}
	if err != nil {
		return place, fmt.Errorf("enroll: %w", err)
	}
	// The log is not needed: a header of the same epoch cuts nothing off.
	m := headerMaker{v: v, r: r, pull: PullHeaders, accept: byPassword(v, password)}
	return place, m.change(ctx, func() (*vaultcore.HeaderChange, error) { return v.ProposeDevice(ctx, password, d) })
}

// putHistory puts what the remote lacks of the log. Checkpoints come first: they
// stand for the batches before the first one held here.
func putHistory(ctx context.Context, v *vaultcore.Vault, r Remote) error {
	there, err := listThere(ctx, r)
	if err != nil {
		return err
	}
	if err := errors.Join(putPoints(ctx, v, r, there), putChains(ctx, v, r, there)); err != nil {
		return err
	}
	_, err = r.Settle(ctx, Settlement{})
	return err
}

// listThere gives the keys of headers, batches and checkpoints, by their ends, that
// the remote has.
func listThere(ctx context.Context, r Remote) (map[string]bool, error) {
	there := make(map[string]bool)
	var cursor []byte
	for more := true; more; {
		call, cancel := context.WithTimeout(ctx, callTime)
		ch, err := r.Changes(call, cursor, Reconcile)
		cancel()
		if err != nil {
			return nil, err
		}
		for _, c := range ch.List {
			switch c.Kind {
			case KindHeader:
				there[HeaderKey(c.Seq)] = true
			case KindBatch:
				there[BatchKey(c.Device, c.Seq)] = true
			case KindCheckpoint:
				there[CheckpointEnd(c.Name)] = true
			}
		}
		cursor, more = ch.Next, ch.More
	}
	return there, nil
}

// claimTries bounds how often a marker that was just put is looked for.
const claimTries = 3

// claim finds the marker of this vault, or puts one. A server shows it to devices of
// the vault only, which the headers say: they come right behind it.
func claim(ctx context.Context, v *vaultcore.Vault, r Remote) (place Place, err error) {
	vault := v.VaultID().UUID()
	for range claimTries {
		var b []byte
		b, err = r.Get(ctx, MarkerKey)
		if err == nil {
			m, err := ParseMarker(b)
			if err == nil && m.Vault != vault {
				err = fmt.Errorf("%w: %s", ErrForeign, m.Vault)
			}
			place.Remote = m.Remote
			return place, err
		}
		if !errors.Is(err, ErrNotFound) || errors.Is(err, ErrNoStore) {
			return place, err
		}
		place.New = true
		fresh := Marker{Vault: vault, Remote: seal.NewBlobID().Hex()}
		if err := r.Put(ctx, MarkerKey, fresh.Encode()); err != nil && !errors.Is(err, ErrOtherBytes) {
			return place, err
		}
		if err := putHeaders(ctx, v, r, nil); err != nil {
			return place, err
		}
	}
	return place, blob.WithHint(err, "the vault has a place there, and this device is not let in: was it revoked?")
}

// putHeaders puts every header but those that are there.
func putHeaders(ctx context.Context, v *vaultcore.Vault, r Remote, there map[string]bool) error {
	envelopes, err := v.HeaderEnvelopes(0)
	if err != nil {
		return err
	}
	for _, envelope := range envelopes {
		h, err := seal.ParseEnvelope(envelope)
		if err != nil {
			return err
		}
		if there[HeaderKey(h.Seq)] {
			continue
		}
		if err := r.Put(ctx, HeaderKey(h.Seq), envelope); err != nil {
			return fmt.Errorf("put header %d: %w", h.Seq, err)
		}
	}
	return nil
}

// putChains puts the batches of every device, but those that are there and our
// own that were never pushed: they have their turn.
func putChains(ctx context.Context, v *vaultcore.Vault, r Remote, there map[string]bool) error {
	heads, err := v.Heads(ctx)
	if err != nil {
		return err
	}
	revoked := revokedDevices(v)
	for device := range heads {
		err := putChain(ctx, v, r, device, there)
		if revoked[device] && errors.Is(err, ErrDenied) {
			continue // what it said after its revocation; a server refuses that
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// revokedDevices are those of which a server takes nothing any more.
func revokedDevices(v *vaultcore.Vault) map[seal.ID]bool {
	revoked := make(map[seal.ID]bool)
	for _, d := range v.Roster() {
		revoked[d.ID] = d.Revoked
	}
	return revoked
}

func putChain(ctx context.Context, v *vaultcore.Vault, r Remote, device seal.ID, there map[string]bool) error {
	for after := uint64(0); ; {
		batches, err := v.Batches(ctx, device, after, pushRun)
		if err != nil || len(batches) == 0 {
			return err
		}
		for _, b := range batches {
			after = b.Seq
			key := BatchKey(device.UUID(), b.Seq)
			if !b.Pushed || there[key] {
				continue
			}
			err := r.Put(ctx, key, b.Bytes)
			if errors.Is(err, ErrOtherBytes) && goesOn(there, device, b.Seq) {
				continue // a server has collected it, and keeps its number
			}
			if err != nil {
				return fmt.Errorf("put batch %d of device %s: %w", b.Seq, device, err)
			}
		}
	}
}

// goesOn says whether the remote has a batch of a device after one.
func goesOn(there map[string]bool, device seal.ID, after uint64) bool {
	for key := range there {
		k, err := ParseKey(key)
		if err == nil && k.Kind == KeyBatch && k.Device == device.UUID() && k.Seq > after {
			return true
		}
	}
	return false
}
