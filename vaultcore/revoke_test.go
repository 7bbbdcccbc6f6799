package vaultcore

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// revoke shuts a device out and publishes that.
func (d *device) revoke(r registry, other *device) {
	d.f.t.Helper()
	c, err := d.ProposeRevocation(d.f.t.Context(), []byte(d.password), other.DeviceID())
	d.publish(r, c, err)
}

// ops counts what of a device is accepted.
func (d *device) ops(of *device) int64 {
	d.f.t.Helper()
	id := of.DeviceID()
	d.readMu.Lock()
	defer d.readMu.Unlock()
	n, err := d.reader.one("SELECT count(*) FROM ops WHERE device=?", id[:])
	if err != nil {
		d.f.t.Fatal(err)
	}
	return n.(int64)
}

// stolen is the stage of the revocations: eve's device is shut out by ada, and
// eve goes on with what she has; bob has taken some of it before he hears.
func stolen(t *testing.T) (f *fleet, ada, bob, eve *device, r registry) {
	f = newFleet(t, "ada", "bob", "eve")
	ada, bob, eve = f.devices[0], f.devices[1], f.devices[2]
	ada.mkdir("A")
	ada.write("A/f.txt", "ada's")
	ada.write("A/kept.txt", "kept")
	f.sync()
	r = f.headersOf(ada)
	eve.write("A/before.txt", "before")
	eve.push()
	ada.pull()
	ada.revoke(r, eve)
	eve.write("A/f.txt", "eve's")
	eve.write("A/eve.txt", "eve's own")
	eve.remove("A/kept.txt")
	eve.push()
	bob.pull()
	bob.want("A/", "A/before.txt = before", "A/eve.txt = eve's own", "A/f.txt = eve's")
	return f, ada, bob, eve, r
}

func TestRevoked(t *testing.T) {
	f, ada, bob, eve, r := stolen(t)
	bob.write("A/f.txt", "bob's, on top of eve's")
	bob.push()
	ada.refusesRevoked(f.log[eve.DeviceID()])
	before := bob.ops(eve)
	bob.pullHeaders(r, ErrNewEpoch)
	bob.accept(testPassword)
	if after := bob.ops(eve); after == 0 || after >= before {
		t.Fatalf("%d ops of %d are left", after, before)
	}
	f.devices = []*device{ada, bob}
	f.syncWithout(eve)
	// What eve deleted is back, what she made is gone, and bob's work on her
	// change lives beside ada's.
	got := ada.list()
	for _, want := range []string{"A/kept.txt = kept", "A/before.txt = before", "= ada's", "= bob's, on top of eve's"} {
		if !containsLine(got, want) {
			t.Fatalf("no %q in\n%s", want, got)
		}
	}
	if containsLine(got, "eve's own") {
		t.Fatalf("what was taken back shows:\n%s", got)
	}
	bob.hasAlarm("revoked")
	// Contents that were here are not thrown away.
	if trash := bob.trashNames(); !slices.Contains(trash, "eve.txt") {
		t.Fatalf("trash holds %q", trash)
	}
	bob.refusesRevoked(f.log[eve.DeviceID()])
}

// containsLine says whether a line of text ends with end.
func containsLine(text, end string) bool {
	return strings.Contains(text+"\n", end+"\n")
}

// refusesRevoked delivers all that a revoked device ever wrote: what lies beyond
// its cut is refused by name.
func (d *device) refusesRevoked(frames [][]byte) {
	d.f.t.Helper()
	r, err := d.Receive(d.f.t.Context(), frames...)
	if err != nil || len(r.Refused) == 0 {
		d.f.t.Fatalf("%s took all of it: %+v %v", d.name, r, err)
	}
	for _, err := range r.Refused {
		if !errors.Is(err, ErrStaleEpoch) {
			d.f.t.Fatalf("%s: %v", d.name, err)
		}
	}
}

func (d *device) trashNames() (names []string) {
	d.f.t.Helper()
	entries, err := d.Trash()
	if err != nil {
		d.f.t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, filepath.Base(e.Path))
	}
	return names
}

// syncWithout is sync with a remote that drops what a revoked device wrote beyond
// its cut.
func (f *fleet) syncWithout(gone *device) {
	f.t.Helper()
	log := f.log[gone.DeviceID()]
	f.log[gone.DeviceID()] = log[:f.devices[0].keys.header().Cut[gone.DeviceID()].Seq]
	defer func() { f.log[gone.DeviceID()] = log }()
	f.sync()
}

// The device itself learns of it: it keeps what it has and syncs no more.
func TestRevokedKnows(t *testing.T) {
	f, _, _, eve, r := stolen(t)
	eve.pullHeaders(r, ErrNewEpoch)
	eve.wantCondition(ConditionRevoked)
	want := eve.list()
	eve.write("A/more.txt", "more")
	if _, _, err := eve.Seal(t.Context(), SealOptions{}); !errors.Is(err, ErrRevoked) {
		t.Fatalf("a revoked device seals: %v", err)
	}
	eve.reopen() // by the password, which is still the same: the owner has it back
	eve.wantEpoch(2)
	eve.wantCondition(ConditionRevoked)
	if _, _, err := eve.Seal(t.Context(), SealOptions{}); !errors.Is(err, ErrRevoked) {
		t.Fatalf("a revoked device seals: %v", err)
	}
	if got := eve.list(); got != want+"\nA/more.txt = more" {
		t.Fatalf("eve's device shows\n%s\nand showed\n%s", got, want)
	}
	_ = f
}

// TestKillInRevocation: taking back goes on where a kill stopped it.
func TestKillInRevocation(t *testing.T) {
	f, ada, bob, eve, r := stolen(t)
	bob.pullHeaders(r, ErrNewEpoch)
	homes := []string{}
	replace := bob.Vault.home.replace
	bob.Vault.home.replace = func(path string, data []byte) error {
		err := replace(path, data)
		homes = append(homes, crashCopy(t, bob.Vault, false))
		return err
	}
	bob.accept(testPassword)
	want := bob.list()
	cut := bob.ops(eve)
	homes = append(homes, crashCopy(t, bob.Vault, false), crashCopy(t, bob.Vault, true))
	for _, home := range homes {
		d := &device{f: f, name: "bob", home: home}
		d.open()
		d.wantEpoch(2)
		if _, err := d.Heads(t.Context()); err != nil { // the ledger is loaded
			t.Fatal(err)
		}
		if got := d.list(); got != want || d.ops(eve) != cut {
			t.Fatalf("after a kill\n%s\nwant\n%s", got, want)
		}
		if trash := d.trashNames(); !slices.Contains(trash, "eve.txt") {
			t.Fatalf("trash holds %q", trash)
		}
		d.close()
	}
	_ = ada
}

// A batch that names one beyond the cut waits for nobody.
func TestRevokedIsNotWaitedFor(t *testing.T) {
	f, ada, bob, eve, r := stolen(t)
	bob.write("A/bob.txt", "bob's") // names eve's last batch
	bob.push()
	bob.pullHeaders(r, ErrNewEpoch)
	bob.accept(testPassword)
	bob.push()
	f.log[eve.DeviceID()] = f.log[eve.DeviceID()][:ada.keys.header().Cut[eve.DeviceID()].Seq]
	if got := ada.pull(); len(got.Waiting) > 0 {
		t.Fatalf("ada waits for %+v", got.Waiting)
	}
	ada.wantShows("A/bob.txt = bob's")
}

func (d *device) wantShows(line string) {
	d.f.t.Helper()
	if !containsLine(d.list(), line) {
		d.f.t.Fatalf("%s does not show %q:\n%s", d.name, line, d.list())
	}
}

// An old password and an old header open nothing that came after; and what lies
// on the disk of a device that was away is what it was.
func TestOldPassword(t *testing.T) {
	f, ada, bob := twoWithFile(t)
	r := f.headersOf(ada)
	old, err := os.ReadFile(filepath.Join(ada.home, fileHeader))
	if err != nil {
		t.Fatal(err)
	}
	ada.changePassword(r, secondPassword)
	ada.write("A/new.txt", "new")
	ada.push()
	header, err := seal.ParseEnvelope(old)
	if err != nil {
		t.Fatal(err)
	}
	kek, _ := quickKDF(t.Context(), []byte(testPassword), header.KDF)
	vk, ids, err := header.OpenPassword(&kek)
	if err != nil {
		t.Fatal(err)
	}
	keys := seal.DeriveEpoch(&vk, header.Vault, header.Epoch)
	opened := 0
	for _, frame := range f.log[ada.DeviceID()] {
		b, err := seal.ParseBatch(ada.VaultID(), frame)
		if err != nil {
			t.Fatal(err)
		}
		_, err = b.OpenBody(keys)
		if (err == nil) != (b.Epoch == 1) {
			t.Fatalf("batch %d of epoch %d, with the old key: %v", b.Seq, b.Epoch, err)
		}
		if err == nil {
			opened++
		}
	}
	if opened == 0 {
		t.Fatal("nothing of the old epoch was looked at")
	}
	// Who knows the old password knows the identity, and can sign a header; the
	// slot of the new password he cannot make, and VK of the new epoch he does
	// not know.
	forgedVK, forgedKEK := seal.NewKey(), seal.NewKey()
	params := header.KDF
	params.Salt[0] ^= 1
	forged, err := seal.NewEpoch(header, &ids, &vk, &forgedVK, &forgedKEK, params)
	if err != nil {
		t.Fatal(err)
	}
	if err := bob.AcceptHeader(t.Context(), forged.Envelope()); !errors.Is(err, ErrNewEpoch) {
		t.Fatal(err)
	}
	for _, password := range []string{testPassword, secondPassword} {
		if err := bob.AcceptPassword(t.Context(), []byte(password)); !errors.Is(err, ErrWrongPassword) {
			t.Fatalf("a forged epoch: %v", err)
		}
	}
	bob.want("A/", "A/f.txt = f")
	// Put in the place of the new header, on the device that has it, the old one
	// is refused before any password is tried.
	ada.close()
	os.WriteFile(filepath.Join(ada.home, fileHeader), old, 0o600)
	if _, err := Open(t.Context(), ada.home, byPassword(testPassword), Options{KDF: quickKDF}); !errors.Is(err, ErrRollback) {
		t.Fatalf("old header: %v", err)
	}
	os.WriteFile(filepath.Join(ada.home, fileHeader), r[uint64(len(r))], 0o600)
	ada.open()
}

// What changed here since the last batch was made on what a revocation takes
// back: none of it is taken along.
func TestRevocationKeepsUnsealed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		play func(bob *device)
		want []string
	}{
		{"rename", func(bob *device) { bob.rename("A/before.txt", "A/named.txt") }, []string{"A/named.txt = before"}},
		{"save", func(bob *device) { bob.write("A/before.txt", "bob's") }, []string{"A/before.txt = bob's"}},
		{"save over what goes", func(bob *device) { bob.write("A/eve.txt", "bob's") }, []string{"A/eve.txt = bob's"}},
		{"rename over", func(bob *device) { bob.write("A/t", "bob's"); bob.rename("A/t", "A/f.txt") }, []string{"= ada's", "= bob's"}},
		{"directory", func(bob *device) { bob.rename("A", "B") }, []string{"B/before.txt = before", "B/kept.txt = kept"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, ada, bob, eve, r := stolen(t)
			eve.chmod("A/before.txt", 0o640) // so that the revocation touches it
			if err := eve.Move("A", "Eve's"); err != nil {
				t.Fatal(err)
			}
			eve.push()
			bob.pull()
			if err := bob.Move("Eve's", "A"); err != nil {
				t.Fatal(err)
			}
			bob.push()
			bob.pullHeaders(r, ErrNewEpoch)
			c.play(bob)
			bob.accept(testPassword)
			f.devices = []*device{ada, bob}
			f.syncWithout(eve)
			for _, line := range c.want {
				if !containsLine(ada.list(), line) {
					t.Errorf("no %q in\n%s", line, ada.list())
				}
			}
		})
	}
}
