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

// joinPaired is what the new device does with the answer.
func (p *place) joinPaired(pairing *seal.Pairing, vk *seal.Key, headers [][]byte, did string) (vaultcore.JoinResult, error) {
	return vaultcore.Join(p.t.Context(), vaultcore.JoinOptions{
		Home: filepath.Join(p.t.TempDir(), "paired"), Headers: headers, DID: did, Paired: pairing, VaultKey: vk,
	})
}

func TestPair(t *testing.T) {
	p, ada := newPlace(t)
	pairing := seal.NewPairing()
	r := p.remote(pairing.ID.UUID())
	code, err := syncer.PairRequest(t.Context(), r, pairing)
	must(t, err)
	if _, err := syncer.PairApprove(t.Context(), ada.Vault, ada.r, []byte(secondPassword), code); !errors.Is(err, vaultcore.ErrWrongPassword) {
		t.Fatalf("approved without the password: %v", err)
	}
	id, err := syncer.PairApprove(t.Context(), ada.Vault, ada.r, []byte(firstPassword), code)
	must(t, err)
	if id != pairing.ID {
		t.Fatalf("let in %s", id)
	}
	// Another sealing of the same: the first answer stays.
	if _, err := syncer.PairApprove(t.Context(), ada.Vault, ada.r, []byte(firstPassword), code); !errors.Is(err, syncer.ErrNoPairing) || errors.Is(err, syncer.ErrOtherBytes) {
		t.Fatalf("approved twice: %v", err)
	}
	vk, headers, err := syncer.PairFinish(t.Context(), r, ada.VaultID(), pairing)
	must(t, err)
	j, err := p.joinPaired(pairing, &vk, headers, ada.DID())
	must(t, err)
	must(t, syncer.PairDone(t.Context(), r, pairing))
	if _, err := syncer.PairApprove(t.Context(), ada.Vault, ada.r, []byte(firstPassword), code); !errors.Is(err, syncer.ErrNoPairing) {
		t.Fatalf("a pairing that is over: %v", err)
	}
	v, err := vaultcore.Open(t.Context(), j.Home, vaultcore.Credentials{DeviceKey: j.DeviceKey}, vaultcore.Options{KDF: quickKDF})
	must(t, err)
	bob := &peer{Vault: v, t: t, home: j.Home, r: r}
	t.Cleanup(func() { v.Close(context.Background()) })
	must(t, bob.EnableLedger(t.Context(), "bob"))
	bob.mkdir("bob's")
	bob.push()
	bob.reopen(firstPassword) // it is the vault's password, though it was never typed there
}

// Whatever stands in the place of question, answer or header lets nobody in.
func TestPairHostile(t *testing.T) {
	p, ada := newPlace(t)
	pairing, rogue := seal.NewPairing(), seal.NewPairing()
	r := p.remote(pairing.ID.UUID())
	code, err := syncer.PairRequest(t.Context(), r, pairing)
	must(t, err)
	q, err := rogue.Question()
	must(t, err)
	ada.r.get = func(ctx context.Context, key string) ([]byte, error) {
		if k, err := syncer.ParseKey(key); err == nil && k.Kind == syncer.KeyPair {
			return q.Encode(), nil
		}
		return ada.r.Remote.Get(ctx, key)
	}
	if _, err := syncer.PairApprove(t.Context(), ada.Vault, ada.r, []byte(firstPassword), code); !errors.Is(err, seal.ErrPair) {
		t.Fatalf("a swapped question: %v", err)
	}
	if n := len(newestHeader(t, p).Devices); n != 1 {
		t.Fatalf("%d devices are listed", n)
	}
	ada.r.get = nil
	_, err = syncer.PairApprove(t.Context(), ada.Vault, ada.r, []byte(firstPassword), code)
	must(t, err)
	vk, headers, err := syncer.PairFinish(t.Context(), r, ada.VaultID(), pairing)
	must(t, err)
	wrong := seal.NewKey()
	_, other := newPlace(t)
	foreign, err := other.HeaderEnvelopes(0)
	must(t, err)
	for name, try := range map[string]func() error{
		"another key":            func() error { _, err := p.joinPaired(pairing, &wrong, headers, ada.DID()); return err },
		"wrong DID":              func() error { _, err := p.joinPaired(pairing, &vk, headers, other.DID()); return err },
		"another vault's header": func() error { _, err := p.joinPaired(pairing, &vk, foreign, other.DID()); return err },
		"a header without it":    func() error { _, err := p.joinPaired(pairing, &vk, headers[:1], ada.DID()); return err },
		"another device":         func() error { _, err := p.joinPaired(rogue, &vk, headers, ada.DID()); return err },
	} {
		if err := try(); !errors.Is(err, vaultcore.ErrForeignHeader) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := syncer.PairFinish(t.Context(), r, other.VaultID(), pairing); !errors.Is(err, seal.ErrPair) {
		t.Errorf("for another vault: %v", err)
	}
}
