package syncer_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// The kit sets a new password although another device changed it in the same
// moment, and cuts off nothing of what anybody said.
func TestRestoreByKit(t *testing.T) {
	p, ada := newPlace(t)
	bob := p.join(ada, "bob", firstPassword)
	kit, err := syncer.CreateKit(t.Context(), ada.Vault, ada.r, []byte(firstPassword))
	must(t, err)
	typed := vaultcore.TypedKit{Secret: kit.Secret(), DID: kit.DID}
	bob.mkdir("of bob")
	bob.push()
	puts := 0
	ada.r.put = func(ctx context.Context, key string, content []byte) error {
		if puts++; puts == 1 {
			must(t, syncer.ChangePassword(ctx, bob.Vault, bob.r, []byte(firstPassword), []byte(secondPassword), seal.KDFParams{}))
		}
		return ada.r.Remote.Put(ctx, key, content)
	}
	must(t, syncer.RestoreByKit(t.Context(), ada.Vault, ada.r, typed, []byte(thirdPassword), seal.KDFParams{}))
	ada.r.put = nil
	if ada.epoch() != 3 {
		t.Fatalf("epoch %d", ada.epoch())
	}
	header := newestHeader(t, p)
	if cut := header.Cut[bob.DeviceID()]; cut.Seq == 0 {
		t.Error("what bob said is beyond the cut")
	}
	if err := syncer.PullHeaders(t.Context(), bob.Vault, bob.r); err != nil || !bob.EpochPending() {
		t.Fatalf("bob: %v", err)
	}
	must(t, bob.AcceptPassword(t.Context(), []byte(thirdPassword)))
	ada.wantQuiet()
	bob.wantQuiet()
}

// Somebody at the remote seals a recovery slot of her own for the kit: she does
// not have the identity that stands on it.
func TestRecoveryForeignDID(t *testing.T) {
	p, ada := newPlace(t)
	kit, err := syncer.CreateKit(t.Context(), ada.Vault, ada.r, []byte(firstPassword))
	must(t, err)
	header := newestHeader(t, p)
	vk, ids, kek := seal.NewKey(), seal.NewKey(), seal.NewKey()
	first, err := seal.NewHeader(header.Vault, &ids, &vk, &kek, header.KDF, header.Devices, header.Write)
	must(t, err)
	slot, err := seal.SealRecovery(header.Rec.PK, header.Vault, first.Epoch, &vk, &ids)
	must(t, err)
	forged, err := first.Next(&ids, func(h *seal.Header) { h.Rec = slot })
	must(t, err)
	for name, o := range map[string]vaultcore.JoinOptions{
		"another identity":           {DID: kit.DID, Kit: &vaultcore.TypedKit{Secret: kit.Secret()}},
		"another, with its own name": {DID: forged.DID, Kit: &vaultcore.TypedKit{Secret: kit.Secret(), DID: kit.DID}},
	} {
		o.Home, o.KDF, o.Headers = filepath.Join(t.TempDir(), "eve"), quickKDF, [][]byte{first.Envelope(), forged.Envelope()}
		if _, err := vaultcore.Join(t.Context(), o); !errors.Is(err, vaultcore.ErrForeignHeader) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
