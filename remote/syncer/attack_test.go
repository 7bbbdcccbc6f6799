package syncer_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// TestVaultRollback: the remote shows a known device an old state of everything,
// from before a change of password. Nothing goes back, and it is said.
func TestVaultRollback(t *testing.T) {
	f := newFleet(t, folder(t), "ada", "bob")
	ada := f.devices[0]
	ada.write("A/f.txt", "old")
	f.sync()
	old := f.copyOf(f.dir())
	f.must(syncer.ChangePassword(context.Background(), ada.v, ada.remote, []byte(password), []byte(secondPassword), seal.KDFParams{}))
	ada.write("A/f.txt", "new")
	ada.sync()
	_, header := ada.v.HeaderSeq()
	before := ada.list()
	f.putBack(f.dir(), old)
	ada.sync2()
	ada.has(syncer.CondLost)
	if _, now := ada.v.HeaderSeq(); now != header || ada.v.Status().Epoch != 2 {
		t.Errorf("header %d became %d, epoch %d", header, now, ada.v.Status().Epoch)
	}
	if got := ada.list(); got != before {
		t.Errorf("ada shows\n%s\nbefore\n%s", got, before)
	}
}

// TestBootstrapStale: a new device is shown an old, true state. The address still
// pins the vault, and the first word of a peer tells that something is withheld.
func TestBootstrapStale(t *testing.T) {
	f := newFleet(t, folder(t), "ada", "bob")
	ada, bob := f.devices[0], f.devices[1]
	ada.write("A/f.txt", "f")
	f.sync()
	kept := f.batchesOf(bob)
	bob.write("A/hidden.txt", "h")
	bob.sync()
	ada.sync()
	ada.write("A/later.txt", "l") // says that it has seen what bob wrote
	ada.sync()
	for name := range f.batchesOf(bob) {
		if !kept[name] {
			f.must(os.Remove(name))
		}
	}
	late := f.add("late")
	late.sync2()
	held := 0
	for _, d := range late.Status().Devices {
		if d.ID == ada.v.DeviceID().UUID() {
			held = d.Held
		}
	}
	if list := late.list(); held == 0 || strings.Contains(list, "later.txt") {
		t.Fatalf("%d batches wait for what is withheld; shown is\n%s", held, list)
	}
}

// TestRevokedIsSaid: what a revoked device goes on to write at the remote counts
// for nothing, and the engine names it.
func TestRevokedIsSaid(t *testing.T) {
	f := newFleet(t, folder(t), "ada", "bob", "eve")
	ada, bob, eve := f.devices[0], f.devices[1], f.devices[2]
	ada.write("A/f.txt", "f")
	f.sync()
	f.must(syncer.Revoke(context.Background(), ada.v, ada.remote, []byte(password), eve.v.DeviceID()))
	eve.write("A/eve.txt", "after the revocation")
	_, _, err := eve.v.Seal(context.Background(), vaultcore.SealOptions{})
	f.must(err)
	last, err := eve.v.LastPushed(context.Background())
	f.must(err)
	batches, err := eve.v.OwnBatches(context.Background(), last, 100)
	f.must(err)
	if len(batches) == 0 {
		t.Fatal("eve has nothing to say")
	}
	for _, b := range batches { // as she would who does not heed the header
		f.must(eve.remote.Put(context.Background(), syncer.BatchKey(eve.v.DeviceID().UUID(), b.Seq), b.Bytes))
	}
	_ = bob.trySync() // hears of the new epoch
	f.must(bob.v.AcceptPassword(context.Background(), []byte(password)))
	for _, d := range []*device{ada, bob} {
		d.sync2()
		d.want("A/", "A/f.txt = f")
	}
	ada.has(syncer.CondStale)
	bob.alarmed("revoked") // he had taken it before he was given the password, and took it back
}

// TestKDFAtRemote: a header whose costs of guessing are too low, or absurd, is
// refused before anything is computed, by those who join and those who know.
func TestKDFAtRemote(t *testing.T) {
	p, ada := newPlace(t)
	header := newestHeader(t, p)
	for name, costs := range map[string][2]string{
		"TestKDFFloor": {"\"m\":262144", "\"m\":19456"}, "TestKDFCeiling": {"\"m\":262144", "\"m\":4194304"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := *header
			bad.Payload = bytes.Replace(header.Payload, []byte(costs[0]), []byte(costs[1]), 1)
			if bytes.Equal(bad.Payload, header.Payload) {
				t.Fatalf("no such costs in %s", header.Payload)
			}
			worked := false
			kdf := func(ctx context.Context, password []byte, p seal.KDFParams) (seal.Key, error) {
				worked = true
				return quickKDF(ctx, password, p)
			}
			_, err := vaultcore.Join(t.Context(), vaultcore.JoinOptions{Home: filepath.Join(t.TempDir(), "eve"), Password: []byte(firstPassword),
				Headers: [][]byte{bad.Envelope()}, DID: ada.DID(), KDF: kdf})
			if !errors.Is(err, seal.ErrKDFParams) || worked {
				t.Errorf("joining: %v, computed: %v", err, worked)
			}
			known, _ := ada.HeaderSeq()
			ada.r.get = func(ctx context.Context, key string) ([]byte, error) {
				if key == syncer.HeaderKey(known+1) {
					return bad.Envelope(), nil
				}
				return ada.r.Remote.Get(ctx, key)
			}
			if err := syncer.PullHeaders(t.Context(), ada.Vault, ada.r); !errors.Is(err, seal.ErrKDFParams) {
				t.Errorf("pulling: %v", err)
			}
		})
	}
}

// batchesOf are the files of a device's batches.
func (f *fleet) batchesOf(d *device) map[string]bool {
	names := make(map[string]bool)
	for _, name := range f.objects(filepath.Join("log", d.v.DeviceID().UUID(), "*")) {
		names[name] = true
	}
	return names
}
