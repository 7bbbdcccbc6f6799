package syncer

import (
	"context"
	"errors"
	"fmt"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Enable makes r the vault's remote: the marker, which it makes or finds, then
// all headers, then, in a new place, the batches of all devices that are held
// here; and the ledger is turned on under the name of this device. r has to be
// open with the Caps that were probed. The caller keeps the id returned, 32 hex
// digits, with vaultcore.SetRemote. It may be repeated. Errors: ErrForeign for a
// place of another vault, ErrOtherBytes for another history of headers, those of
// the remote.
func Enable(ctx context.Context, v *vaultcore.Vault, r Remote, device string) (remoteID string, err error) {
	marker, err := claim(ctx, v, r)
	if err != nil {
		return "", fmt.Errorf("enable sync: %w", err)
	}
	if err := PushHeaders(ctx, v, r); err != nil {
		return "", fmt.Errorf("enable sync: %w", err)
	}
	if err := v.EnableLedger(ctx, device); err != nil {
		return "", fmt.Errorf("enable sync: %w", err)
	}
	if err := putChains(ctx, v, r, nil); err != nil {
		return "", fmt.Errorf("enable sync: %w", err)
	}
	if err := putPoints(ctx, v, r, nil); err != nil {
		return "", fmt.Errorf("enable sync: %w", err)
	}
	if _, err := r.Settle(ctx, Settlement{}); err != nil {
		return "", fmt.Errorf("enable sync: %w", err)
	}
	return marker.Remote, nil
}

// claim finds the marker of this vault, or puts one.
func claim(ctx context.Context, v *vaultcore.Vault, r Remote) (Marker, error) {
	vault := v.VaultID().UUID()
	for {
		b, err := r.Get(ctx, MarkerKey)
		if errors.Is(err, ErrNotFound) && !errors.Is(err, ErrNoStore) {
			fresh := Marker{Vault: vault, Remote: seal.NewBlobID().Hex()}
			if err := r.Put(ctx, MarkerKey, fresh.Encode()); err != nil && !errors.Is(err, ErrOtherBytes) {
				return Marker{}, err
			}
			continue // the one that is there counts
		}
		if err != nil {
			return Marker{}, err
		}
		m, err := ParseMarker(b)
		if err == nil && m.Vault != vault {
			err = fmt.Errorf("%w: %s", ErrForeign, m.Vault)
		}
		return m, err
	}
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
	for device := range heads {
		for after := uint64(0); ; {
			batches, err := v.Batches(ctx, device, after, pushRun)
			if err != nil {
				return err
			}
			if len(batches) == 0 {
				break
			}
			for _, b := range batches {
				after = b.Seq
				key := BatchKey(device.UUID(), b.Seq)
				if !b.Pushed || there[key] {
					continue
				}
				if err := r.Put(ctx, key, b.Bytes); err != nil {
					return fmt.Errorf("put batch %d of device %s: %w", b.Seq, device, err)
				}
			}
		}
	}
	return nil
}
