package vaultcore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

const (
	secondPassword = "staple of the horses"
	thirdPassword  = "third time lucky now"
)

// registry is the headers a remote holds: create-only, by number.
type registry map[uint64][]byte

// put publishes as a remote does: false when the number is taken by others.
func (r registry) put(seq uint64, envelope []byte) bool {
	if there, taken := r[seq]; taken {
		return bytes.Equal(there, envelope)
	}
	r[seq] = envelope
	return true
}

// headersOf is the registry a fleet's vault would have by now.
func (f *fleet) headersOf(d *device) registry {
	f.t.Helper()
	envelopes, err := d.HeaderEnvelopes(0)
	if err != nil {
		f.t.Fatal(err)
	}
	r := registry{}
	for _, e := range envelopes {
		h, err := seal.ParseEnvelope(e)
		if err != nil {
			f.t.Fatal(err)
		}
		r[h.Seq] = e
	}
	return r
}

// pullHeaders takes what the registry has; want is the error of the last one.
func (d *device) pullHeaders(r registry, want error) {
	d.f.t.Helper()
	known, _ := d.HeaderSeq()
	var err error
	for seq := known + 1; r[seq] != nil; seq++ {
		if err = d.AcceptHeader(d.f.t.Context(), r[seq]); err != nil && !errors.Is(err, ErrNewEpoch) {
			break
		}
	}
	if !errors.Is(err, want) {
		d.f.t.Fatalf("%s: headers: %v, want %v", d.name, err, want)
	}
}

// changePassword publishes a change and makes it the vault's own.
func (d *device) changePassword(r registry, password string) {
	d.f.t.Helper()
	c, err := d.ProposePassword(d.f.t.Context(), []byte(d.password), []byte(password), seal.KDFParams{})
	d.publish(r, c, err)
	d.password = password
	if err := d.FinishRewrap(d.f.t.Context(), nil); err != nil {
		d.f.t.Fatal(err)
	}
}

func (d *device) publish(r registry, c *HeaderChange, err error) {
	d.f.t.Helper()
	if err != nil {
		d.f.t.Fatalf("%s: %v", d.name, err)
	}
	if !r.put(c.Seq(), c.Envelope()) {
		d.f.t.Fatalf("%s: header %d is taken", d.name, c.Seq())
	}
	if err := c.Commit(d.f.t.Context()); err != nil {
		d.f.t.Fatalf("%s: commit: %v", d.name, err)
	}
}

func (d *device) accept(password string) {
	d.f.t.Helper()
	if err := d.AcceptPassword(d.f.t.Context(), []byte(password)); err != nil {
		d.f.t.Fatalf("%s: accept: %v", d.name, err)
	}
	d.password = password
}

func (d *device) wantEpoch(epoch uint32) {
	d.f.t.Helper()
	if got := d.keys.epoch(); got != epoch {
		d.f.t.Fatalf("%s is in epoch %d, want %d", d.name, got, epoch)
	}
}

func (d *device) wantCondition(kind string) {
	d.f.t.Helper()
	list := d.Conditions()
	if kind == "" && len(list) == 0 || len(list) == 1 && list[0].Kind == kind {
		return
	}
	d.f.t.Fatalf("%s: conditions %+v, want %q", d.name, list, kind)
}

func (d *device) wantNoAlarm() {
	d.f.t.Helper()
	if alarms := d.alarms(); len(alarms) > 0 {
		d.f.t.Fatalf("%s: alarms %q", d.name, alarms)
	}
}

// Bob is online when ada changes the password: what he saves before he gives
// the new one is safe, sealed for nobody, and arrives afterwards.
func TestPasswordElsewhere(t *testing.T) {
	f, ada, bob := twoWithFile(t)
	r := f.headersOf(ada)
	ada.changePassword(r, secondPassword)
	bob.pullHeaders(r, ErrNewEpoch)
	bob.wantCondition(ConditionNewPassword)
	bob.wantEpoch(1)
	bob.write("A/bob.txt", "bob's")
	if _, _, err := bob.Seal(t.Context(), SealOptions{}); !errors.Is(err, ErrNewEpoch) {
		t.Fatalf("sealed in the old epoch: %v", err)
	}
	bob.want("A/", "A/f.txt = f", "A/bob.txt = bob's")
	bob.reopen() // the old password opens what is here
	bob.wantCondition(ConditionNewPassword)
	if err := bob.AcceptPassword(t.Context(), []byte(thirdPassword)); !errors.Is(err, ErrWrongPassword) {
		t.Fatalf("wrong password: %v", err)
	}
	bob.accept(secondPassword)
	bob.wantCondition("")
	bob.wantEpoch(2)
	f.sync()
	f.want("A/", "A/f.txt = f", "A/bob.txt = bob's")
	for _, d := range f.devices {
		d.wantNoAlarm()
	}
	bob.wantOldRefused(testPassword)
}

func (d *device) wantOldRefused(password string) {
	d.f.t.Helper()
	if err := d.Close(context.Background()); err != nil {
		d.f.t.Fatal(err)
	}
	_, err := Open(context.Background(), d.home, Credentials{Password: []byte(password)}, Options{KDF: quickKDF})
	if !errors.Is(err, ErrWrongPassword) {
		d.f.t.Fatalf("%s: the old password: %v", d.name, err)
	}
	d.open()
}

// Bob was away: he sealed in the old epoch, beyond the cut, and unlocks with the
// new password at once.
func TestPasswordWhileAway(t *testing.T) {
	f := newFleet(t, "ada", "bob", "eve")
	ada, bob, eve := f.devices[0], f.devices[1], f.devices[2]
	ada.mkdir("A")
	ada.write("A/f.txt", "f")
	f.sync()
	r := f.headersOf(ada)
	bob.write("A/sealed.txt", "sealed")
	bob.sealAll(SealOptions{}) // and not pushed
	sealed := bob.lastFrame()
	bob.write("A/dirty.txt", "dirty")
	ada.changePassword(r, secondPassword)
	ada.write("A/ada.txt", "ada's")
	ada.push()
	eve.pullHeaders(r, ErrNewEpoch)
	eve.accept(secondPassword)
	eve.pull()
	bob.pullHeaders(r, ErrNewEpoch)
	bob.close()
	bob.password = secondPassword
	bob.open()
	bob.wantEpoch(2)
	for _, d := range []*device{ada, eve} {
		got, err := d.Receive(t.Context(), sealed) // as it is
		if err != nil || len(got.Waiting) == 0 || !got.Waiting[0].Vouch {
			t.Fatalf("%s: batches beyond the cut: %+v, %v", d.name, got, err)
		}
	}
	bob.pushBatches() // and the first of the new epoch, which says that it is his
	for _, d := range []*device{ada, eve} {
		if got := d.pull(); len(got.Waiting) > 0 {
			t.Fatalf("%s: still waits: %+v", d.name, got)
		}
	}
	f.sync()
	f.want("A/", "A/f.txt = f", "A/ada.txt = ada's", "A/sealed.txt = sealed", "A/dirty.txt = dirty")
	for _, d := range f.devices {
		d.wantNoAlarm()
		d.wantRewrapped()
	}
}

func (d *device) close() {
	d.f.t.Helper()
	if err := d.Close(context.Background()); err != nil {
		d.f.t.Fatal(err)
	}
}

// wantRewrapped: every key here is of the current epoch, though only one device
// wrapped them all.
func (d *device) wantRewrapped() {
	d.f.t.Helper()
	left, err := d.rewrapLeft()
	if err != nil || left != 0 {
		d.f.t.Fatalf("%s: %d rows are of an earlier epoch, %v", d.name, left, err)
	}
}

// Two change the password at once: one is first, the other does it again on
// top, and nobody is alarmed.
func TestPasswordRace(t *testing.T) {
	f, ada, bob := twoWithFile(t)
	r := f.headersOf(ada)
	c, err := bob.ProposePassword(t.Context(), []byte(testPassword), []byte(thirdPassword), seal.KDFParams{})
	if err != nil {
		t.Fatal(err)
	}
	ada.changePassword(r, secondPassword)
	if r.put(c.Seq(), c.Envelope()) {
		t.Fatal("two headers under one number")
	}
	if err := c.Drop(); err != nil {
		t.Fatal(err)
	}
	bob.pullHeaders(r, ErrNewEpoch)
	if err := c.Commit(t.Context()); !errors.Is(err, ErrHeaderMoved) {
		t.Fatalf("commit of a lost header: %v", err)
	}
	if _, err := bob.ProposePassword(t.Context(), []byte(testPassword), []byte(thirdPassword), seal.KDFParams{}); !errors.Is(err, ErrNewEpoch) {
		t.Fatalf("on top of an unknown epoch: %v", err)
	}
	bob.accept(secondPassword)
	bob.changePassword(r, thirdPassword)
	ada.pullHeaders(r, ErrNewEpoch)
	ada.accept(thirdPassword)
	f.sync()
	f.want("A/", "A/f.txt = f")
	for _, d := range f.devices {
		d.wantEpoch(3)
		d.wantNoAlarm()
	}
}

// Several epochs and a new device went by while bob was away: the newest
// password is enough.
func TestPasswordTwiceWhileAway(t *testing.T) {
	f, ada, bob := twoWithFile(t)
	r := f.headersOf(ada)
	ada.changePassword(r, secondPassword)
	eve := seal.NewKey()
	c, err := ada.ProposeDevice(t.Context(), []byte(secondPassword), seal.Device{ID: seal.NewID(), PK: [32]byte(seal.PublicFromSeed(&eve))})
	ada.publish(r, c, err)
	ada.changePassword(r, thirdPassword)
	bob.pullHeaders(r, ErrNewEpoch)
	bob.kill(true)
	if err := bob.AcceptPassword(t.Context(), []byte(secondPassword)); !errors.Is(err, ErrWrongPassword) {
		t.Fatalf("a password in between: %v", err)
	}
	bob.accept(thirdPassword)
	if got, want := len(f.headersOf(bob)), len(r); got != want {
		t.Fatalf("%d headers are kept, want %d", got, want)
	}
	f.sync()
	f.want("A/", "A/f.txt = f")
}

// An enrolled device keeps its own key through a change elsewhere.
func TestPasswordElsewhereEnrolled(t *testing.T) {
	f, ada, bob := twoWithFile(t)
	r := f.headersOf(ada)
	key, err := bob.Enroll()
	if err != nil {
		t.Fatal(err)
	}
	ada.changePassword(r, secondPassword)
	bob.pullHeaders(r, ErrNewEpoch)
	byKey := func() {
		bob.close()
		bob.Vault = openWith(t, bob.home, Credentials{DeviceKey: &key}, Options{Now: f.now})
	}
	byKey()
	bob.wantCondition(ConditionNewPassword)
	bob.accept(secondPassword)
	byKey()
	bob.wantCondition("")
	bob.wantEpoch(2)
}

// killsOfChange gives what a kill leaves at each step of a change of password
// with a remote.
func killsOfChange(t *testing.T, powerCut bool) (f *fleet, ada *device, r registry, kills map[string]string) {
	f, ada, _ = twoWithFile(t)
	r, kills = f.headersOf(ada), map[string]string{}
	kill := func(where string) { kills[where] = crashCopy(t, ada.Vault, powerCut) }
	replace := ada.Vault.home.replace
	ada.Vault.home.replace = func(path string, data []byte) error {
		kill("before " + path[len(ada.home):])
		defer kill("after " + path[len(ada.home):])
		return replace(path, data)
	}
	c, err := ada.ProposePassword(t.Context(), []byte(testPassword), []byte(secondPassword), seal.KDFParams{})
	if err != nil {
		t.Fatal(err)
	}
	kill("proposed")
	r.put(c.Seq(), c.Envelope())
	kill("published")
	if err := c.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	kill("committed")
	return f, ada, r, kills
}

// TestKillInPasswordChange: whatever a kill leaves, one of the two passwords
// opens, both together are enough to go on, and nothing is lost.
func TestKillInPasswordChange(t *testing.T) {
	for _, powerCut := range []bool{false, true} {
		f, _, r, kills := killsOfChange(t, powerCut)
		if len(kills) < 7 {
			t.Fatalf("only %d places to be killed at", len(kills))
		}
		for where, home := range kills {
			t.Run(where, func(t *testing.T) {
				d := &device{f: f, name: "ada", home: home, password: testPassword}
				v, err := Open(t.Context(), home, Credentials{Password: []byte(testPassword)}, Options{KDF: quickKDF, Now: f.now})
				if errors.Is(err, ErrWrongPassword) {
					v, err = Open(t.Context(), home, Credentials{Password: []byte(secondPassword)}, Options{KDF: quickKDF, Now: f.now})
				}
				if err != nil {
					t.Fatal(err)
				}
				defer v.Close(context.Background())
				d.Vault = v
				if v.keys.epoch() == 1 {
					known, _ := v.HeaderSeq()
					if err := v.AcceptHeader(t.Context(), r[known+1]); !errors.Is(err, ErrNewEpoch) {
						t.Fatalf("accept: %v", err)
					}
					d.accept(secondPassword)
				}
				d.wantEpoch(2)
				d.wantCondition("")
				d.want("A/", "A/f.txt = f")
				if got := len(f.headersOf(d)); got != len(r) {
					t.Fatalf("%d headers are kept, want %d", got, len(r))
				}
			})
		}
	}
}

// A change that was killed before the remote had it, and whose new password is
// given: the vault opens, and the old epoch goes on until the remote says.
func TestKillBeforePublished(t *testing.T) {
	_, _, r, kills := killsOfChange(t, false)
	seq := uint64(len(r))
	envelope := r[seq]
	open := func(t *testing.T, home, password string) *Vault {
		return openWith(t, home, Credentials{Password: []byte(password)}, Options{})
	}
	t.Run("abandoned", func(t *testing.T) {
		v := open(t, kills["proposed"], testPassword)
		at, bytes, wanted := v.Unsettled()
		if at != seq || string(bytes) != string(envelope) || wanted {
			t.Fatalf("unsettled: %d, wanted %v", at, wanted)
		}
		if err := v.Abandon(at); err != nil {
			t.Fatal(err)
		}
		if at, _, _ := v.Unsettled(); at != 0 || v.keys.epoch() != 1 {
			t.Fatal("still unsettled")
		}
	})
	t.Run("by the new password", func(t *testing.T) {
		v := open(t, kills["published"], secondPassword)
		if _, _, wanted := v.Unsettled(); !wanted || v.keys.epoch() != 1 {
			t.Fatalf("wanted %v in epoch %d", wanted, v.keys.epoch())
		}
		if _, _, err := v.Seal(t.Context(), SealOptions{}); err != nil {
			t.Fatalf("the old epoch does not go on: %v", err)
		}
		if err := v.AcceptHeader(t.Context(), envelope); err != nil || v.keys.epoch() != 2 {
			t.Fatalf("accept: %v", err)
		}
	})
	t.Run("another was faster", func(t *testing.T) {
		v := open(t, kills["before /header.json"], testPassword)
		f := &fleet{t: t}
		d := &device{Vault: v, f: f}
		other, err := Join(t.Context(), JoinOptions{
			Home: t.TempDir() + "/eve", Password: []byte(testPassword), Headers: allBut(t, v), DID: v.keys.header().DID, KDF: quickKDF,
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := v.AcceptHeader(t.Context(), other.Header); err != nil {
			t.Fatal(err)
		}
		if at, _, _ := v.Unsettled(); at != 0 || v.keys.epoch() != 1 {
			t.Fatal("a header that lost its race is still there")
		}
		d.hasAlarm("header")
	})
}

func allBut(t *testing.T, v *Vault) [][]byte {
	t.Helper()
	envelopes, err := v.HeaderEnvelopes(0)
	if err != nil {
		t.Fatal(err)
	}
	return envelopes
}

// What comes while the new password is missing changes nothing that would have to
// be sealed first, and shows once it was given: in the session, or by a mount.
func TestFoundWhilePasswordWaits(t *testing.T) {
	for _, restart := range []bool{false, true} {
		f, ada, bob := twoWithFile(t)
		r := f.headersOf(ada)
		ada.write("A/f.txt", "newer")
		ada.sealAll(SealOptions{})
		ada.pushBatches() // and its content does not come
		bob.pullBatches()
		bob.want("A/", "A/f.txt = f")
		ada.changePassword(r, secondPassword)
		bob.pullHeaders(r, ErrNewEpoch)
		bob.write("A/bob.txt", "bob's")
		head := bob.head()
		blob := bob.waiting()
		if err := bob.Found(t.Context(), []seal.ID{blob}); err != nil {
			t.Fatal(err)
		}
		if restart {
			bob.kill(false)
		}
		if got := bob.head(); got != head {
			t.Fatalf("sealed batch %d in an epoch that is over", got.Seq)
		}
		bob.want("A/", "A/f.txt = f", "A/bob.txt = bob's")
		bob.accept(secondPassword)
		bob.push()
		bob.want("A/", "A/f.txt = (not here)", "A/bob.txt = bob's")
		f.sync()
		f.want("A/", "A/f.txt = newer", "A/bob.txt = bob's")
	}
}

// waiting is the one content that nobody has said to be on the remote.
func (d *device) waiting() (blob seal.ID) {
	d.f.t.Helper()
	l, err := d.lockLedger(context.Background())
	if err != nil {
		d.f.t.Fatal(err)
	}
	defer l.mu.Unlock()
	for b := range l.pending.byBlob {
		blob = b
	}
	if blob.IsZero() {
		d.f.t.Fatal("nothing waits")
	}
	return blob
}

// A password change says every title anew. That is no work on a directory: one
// that was deleted meanwhile stays deleted, whoever hears what first.
func TestTitlesSealedAnewOfDeleted(t *testing.T) {
	for _, c := range []struct {
		name  string
		first func(f *fleet, ada, bob *device)
	}{
		{"plain", func(*fleet, *device, *device) {}},
		{"named by both", func(f *fleet, ada, bob *device) {
			for _, d := range []*device{ada, bob} {
				if err := d.Move("A", d.name); err != nil {
					t.Fatal(err)
				}
			}
		}},
	} {
		for _, early := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, heard early: %v", c.name, early), func(t *testing.T) {
				f, ada, bob := twoWithFile(t)
				r := f.headersOf(ada)
				c.first(f, ada, bob)
				f.sync()
				bob.removeAll()
				bob.sealAll(SealOptions{})
				if early {
					bob.pushBatches()
				}
				ada.changePassword(r, secondPassword)
				ada.pullBatches() // beyond the cut: it waits, or comes
				ada.push()
				bob.pullHeaders(r, ErrNewEpoch)
				bob.accept(secondPassword)
				f.sync()
				f.want()
				for _, d := range f.devices {
					d.wantNoAlarm()
					wantSound(t, d.Vault)
				}
			})
		}
	}
}

// removeAll deletes every asset.
func (d *device) removeAll() {
	d.f.t.Helper()
	var titles []string
	err := d.ReadDir(d.Root(), 0, func(e *DirEntry) bool {
		titles = append(titles, e.Name)
		return true
	})
	for _, title := range titles {
		err = errors.Join(err, d.Remove(title, true))
	}
	if err != nil {
		d.f.t.Fatal(err)
	}
}

// lastFrame gives the last own batch.
func (d *device) lastFrame() []byte {
	d.f.t.Helper()
	own, err := d.OwnBatches(context.Background(), d.head().Seq-1, 1)
	if err != nil || len(own) != 1 {
		d.f.t.Fatalf("%s: own batches: %d, %v", d.name, len(own), err)
	}
	return own[0].Bytes
}
