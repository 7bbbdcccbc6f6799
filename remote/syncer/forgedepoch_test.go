package syncer_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// forger knows an old password, and so the identity: it can sign whatever header it
// likes, and owns the remote. The password of now it does not know.
type forger struct {
	ids, vk seal.Key
	keys    *seal.EpochKeys
}

func newForger(t *testing.T, f *fleet) *forger {
	t.Helper()
	header := f.header(1)
	kek, err := quickKDF(t.Context(), []byte(password), header.KDF)
	f.must(err)
	vk, ids, err := header.OpenPassword(&kek)
	f.must(err)
	return &forger{ids: ids, vk: vk, keys: seal.DeriveEpoch(&vk, header.Vault, header.Epoch)}
}

// header is one of those on the remote.
func (f *fleet) header(seq uint64) *seal.SignedHeader {
	f.t.Helper()
	b, err := f.devices[0].remote.Get(context.Background(), syncer.HeaderKey(seq))
	f.must(err)
	h, err := seal.ParseEnvelope(b)
	f.must(err)
	return h
}

// epoch forges the header of a new epoch behind another one, under a password of
// the forger's own. Where it does not know the vault key it makes one up.
func (x *forger) epoch(t *testing.T, first, behind *seal.SignedHeader, change func(*seal.Header)) []byte {
	t.Helper()
	params, vk, over := behind.KDF, x.vk, *behind
	params.Salt[0] ^= 1
	kek, err := quickKDF(t.Context(), []byte("of the forger's choice"), params)
	if err != nil {
		t.Fatal(err)
	}
	if behind.Epoch > first.Epoch {
		made, between := seal.NewKey(), params
		between.Salt[1] ^= 1
		like, err := seal.NewEpoch(first, &x.ids, &x.vk, &made, &kek, between)
		if err != nil {
			t.Fatal(err)
		}
		vk, over.VKC, over.PrevVK = made, like.VKC, like.PrevVK
	}
	next := seal.NewKey()
	forged, err := seal.NewEpoch(&over, &x.ids, &vk, &next, &kek, params, change)
	if err != nil {
		t.Fatal(err)
	}
	return forged.Envelope()
}

// TestForgedEpoch: whoever knows an old password shows a device a new epoch of his
// own making. Nothing is sealed in it, no password of the user's opens it, what is
// saved meanwhile stays here, and nobody is shut out by it.
func TestForgedEpoch(t *testing.T) {
	for _, c := range []struct {
		name   string
		behind uint64 // the number of the true header it follows
		revoke bool   // the device it is shown to
	}{
		{"in place of the true one", 2, false},
		{"in place of the true one, revoking", 2, true},
		{"behind the true one", 3, false},
		{"behind the true one, revoking", 3, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := &fleet{t: t, url: folder(t)}
			var shown *evil
			f.faults = func(name string, r syncer.Remote) syncer.Remote {
				if name != "bob" {
					return r
				}
				shown = &evil{Remote: r}
				return shown
			}
			ada, bob := f.add("ada"), f.add("bob")
			ada.write("A/f.txt", "f")
			f.sync()
			x := newForger(t, f)
			f.must(syncer.ChangePassword(t.Context(), ada.v, ada.remote, []byte(password), []byte(secondPassword), seal.KDFParams{}))
			ada.sync()
			if c.behind == 3 {
				_ = bob.trySync()
				f.must(bob.v.AcceptPassword(t.Context(), []byte(secondPassword)))
				bob.sync()
			}
			forged := x.epoch(t, f.header(1), f.header(c.behind), func(h *seal.Header) {
				for i := range h.Devices {
					h.Devices[i].Revoked = c.revoke && h.Devices[i].ID == bob.v.DeviceID()
				}
			})
			shown.get = func(ctx context.Context, key string) ([]byte, error) {
				if n := strings.TrimSuffix(filepath.Base(key), ".json"); strings.HasPrefix(key, "headers/") && headerNumber(n) > c.behind {
					if headerNumber(n) == c.behind+1 {
						return forged, nil
					}
					return nil, syncer.ErrNotFound
				}
				return shown.Remote.Get(ctx, key)
			}
			x.tries(t, f, bob)
		})
	}
}

func headerNumber(text string) uint64 {
	n, _ := strconv.ParseUint(text, 10, 64)
	return n
}

// tries shows bob the forged epoch.
func (x *forger) tries(t *testing.T, f *fleet, bob *device) {
	t.Helper()
	before, epoch := len(f.batchesOf(bob)), bob.v.Status().Epoch
	f.must(bob.v.Barrier(t.Context()))
	_ = bob.trySync()
	bob.write("A/later.txt", "only the user may read this")
	_ = bob.trySync()
	for _, p := range []string{password, secondPassword} {
		if err := bob.v.AcceptPassword(t.Context(), []byte(p)); !errors.Is(err, vaultcore.ErrWrongPassword) {
			t.Errorf("%q for the forged epoch: %v", p, err)
		}
	}
	_ = bob.trySync()
	if now := len(f.batchesOf(bob)); now != before || bob.v.Status().Epoch != epoch {
		t.Errorf("%d batches became %d, epoch %d %d", before, now, epoch, bob.v.Status().Epoch)
	}
	if len(bob.Status().Conditions) == 0 && len(bob.v.Conditions()) == 0 {
		t.Error("nobody is told")
	}
	if got := bob.list(); !strings.Contains(got, "A/later.txt = only the user may read this") || !strings.Contains(got, "A/f.txt = f") {
		t.Errorf("bob shows\n%s", got)
	}
	x.readsNothing(t, f, bob)
}

// readsNothing: what came behind the change of password opens under no key that the
// forger has.
func (x *forger) readsNothing(t *testing.T, f *fleet, d *device) {
	t.Helper()
	names := f.objects(filepath.Join("log", "*", "*"))
	if len(names) == 0 {
		t.Fatal("no batches to look at")
	}
	for _, name := range names {
		frame, err := os.ReadFile(name)
		f.must(err)
		b, err := seal.ParseBatch(d.v.VaultID(), frame)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if body, err := b.OpenBody(x.keys); err == nil && (b.Epoch != 1 || bytes.Contains(frame, []byte("later"))) {
			t.Errorf("the forger reads batch %d of epoch %d: %+v", b.Seq, b.Epoch, body)
		}
	}
}

// TestForgedEpochRecovers: the owner of the remote who knows an old password puts a
// forged change of password in the place of the true one. The device that has seen it
// goes on with the true one when that is put back, and hears that there were two; where
// there is no true one the user's word drops it, here and at the remote.
func TestForgedEpochRecovers(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "ada", "bob")
	ada, bob := f.devices[0], f.devices[1]
	ada.write("A/f.txt", "f")
	f.sync()
	x := newForger(t, f)
	first := f.header(1)
	ctx := t.Context()
	f.must(syncer.ChangePassword(ctx, ada.v, ada.remote, []byte(password), []byte(secondPassword), seal.KDFParams{}))
	ada.sync()
	place := filepath.Join(f.dir(), syncer.HeaderKey(3))
	true3, err := os.ReadFile(place)
	f.must(err)
	f.must(os.WriteFile(place, x.epoch(t, first, f.header(2), func(*seal.Header) {}), 0o600))
	_ = bob.trySync()
	bob.write("A/later.txt", "later")
	if err := bob.v.AcceptPassword(ctx, []byte(secondPassword)); !errors.Is(err, vaultcore.ErrWrongPassword) {
		t.Fatalf("a password of the user's for the forged header: %v", err)
	}
	f.must(os.WriteFile(place, true3, 0o600))
	bob.restart() // what waits is kept
	_ = bob.trySync()
	f.must(bob.v.AcceptPassword(ctx, []byte(secondPassword)))
	bob.alarmed("two different changes of the password", "--refuse")
	f.sync()
	f.agree()
	bob.want("A/", "A/f.txt = f", "A/later.txt = later")

	// Behind the true one, where nothing else will ever be shown.
	f.must(os.WriteFile(filepath.Join(f.dir(), syncer.HeaderKey(4)), x.epoch(t, first, f.header(3), func(*seal.Header) {}), 0o600))
	for _, d := range f.devices {
		_ = d.trySync()
		d.write("A/by "+d.name, "meanwhile")
	}
	if !bob.v.EpochPending() || !ada.v.EpochPending() {
		t.Fatal("the forged header does not wait")
	}
	if err := syncer.RefuseHeaders(ctx, ada.v, ada.remote, []byte(password)); !errors.Is(err, vaultcore.ErrWrongPassword) {
		t.Errorf("refused with an old password: %v", err)
	}
	for _, d := range f.devices {
		f.must(syncer.RefuseHeaders(ctx, d.v, d.remote, []byte(secondPassword)))
	}
	f.sync()
	f.sync()
	f.agree()
	ada.want("A/", "A/by ada = meanwhile", "A/by bob = meanwhile", "A/f.txt = f", "A/later.txt = later")
	f.must(syncer.ChangePassword(ctx, ada.v, ada.remote, []byte(secondPassword), []byte(password), seal.KDFParams{}))
}

// TestNewPasswordStaysKnown: once a device knows of a new password no other header
// makes it go on under the old keys, which whoever knows the old password has.
func TestNewPasswordStaysKnown(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "ada", "bob")
	ada, bob := f.devices[0], f.devices[1]
	f.sync()
	x := newForger(t, f)
	second := f.header(2)
	f.must(syncer.ChangePassword(t.Context(), ada.v, ada.remote, []byte(password), []byte(secondPassword), seal.KDFParams{}))
	_ = bob.trySync()
	same, err := second.Next(&x.ids, func(*seal.Header) {})
	f.must(err)
	if err := bob.v.AcceptHeader(t.Context(), same.Envelope()); !errors.Is(err, vaultcore.ErrNewEpoch) || !bob.v.EpochPending() {
		t.Errorf("a header of the old epoch in the place of the new one: %v", err)
	}
	bob.alarmed("shows another header", "--refuse")
	f.must(bob.v.AcceptPassword(t.Context(), []byte(secondPassword)))
}
