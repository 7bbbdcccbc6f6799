package syncer_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// copyHome copies the home of a device that has been closed, as somebody does
// who backs it up or clones the disk.
func (d *device) copyHome() string {
	d.f.t.Helper()
	to := filepath.Join(d.f.t.TempDir(), "copy")
	d.f.must(os.CopyFS(to, os.DirFS(d.home)))
	return to
}

// twin is a second device that says it is d.
func (d *device) twin(home string) *device {
	d.f.t.Helper()
	t := &device{f: d.f, name: d.name + "'s twin", home: home}
	t.resume()
	return t
}

// renew gives the device an identity of its own.
func (d *device) renew() {
	d.f.t.Helper()
	old := d.v.DeviceID()
	d.f.must(syncer.NewIdentity(context.Background(), d.v, d.remote, []byte(password), ""))
	d.restart()
	if d.v.DeviceID() == old {
		d.f.t.Fatalf("%s is still %s", d.name, old)
	}
}

func (d *device) wantCloned() {
	d.f.t.Helper()
	if err := d.trySync(); !errors.Is(err, vaultcore.ErrLocalRollback) {
		d.f.t.Fatalf("%s: sync: %v", d.name, err)
	}
	if c, ok := d.condition(syncer.CondCloned); !ok || !strings.Contains(c.Hint, "--new-id") {
		d.f.t.Fatalf("%s: conditions %+v", d.name, d.Status().Conditions)
	}
}

// TestLocalRollback: an old copy of the home is put back. It stops by name,
// keeps what is saved in it, and goes on under a new identity.
func TestLocalRollback(t *testing.T) {
	f := newFleet(t, folder(t), "ada", "bob")
	ada, bob := f.devices[0], f.devices[1]
	ada.write("A/f.txt", "old")
	f.sync()
	ada.halt()
	f.must(ada.v.Close(context.Background()))
	old := ada.copyHome()
	ada.resume()
	ada.write("A/f.txt", "newer")
	ada.write("A/g.txt", "g")
	f.sync()
	f.must(ada.v.Close(context.Background()))
	back := ada.twin(old)
	f.devices[0] = back
	back.write("A/back.txt", "saved in the copy")
	back.write("A/f.txt", "edited in the copy")
	back.wantCloned()
	back.want("A/", "A/back.txt = saved in the copy", "A/f.txt = edited in the copy")
	back.renew()
	f.sync()
	f.agree()
	for path, want := range map[string]string{"A/g.txt": "g", "A/back.txt": "saved in the copy"} {
		if got := bob.read(path); got != want {
			t.Errorf("%s = %q, want %q", path, got, want)
		}
	}
	// Both edits of one file are there.
	if list := bob.list(); !strings.Contains(list, "= newer") || !strings.Contains(list, "= edited in the copy") {
		t.Errorf("bob shows\n%s", list)
	}
}

// TestClonedDisk: two machines with one identity. The one whose batches were not
// taken has sealed some already; under its new identity they count.
func TestClonedDisk(t *testing.T) {
	f := newFleet(t, folder(t), "ada", "bob")
	ada, bob := f.devices[0], f.devices[1]
	ada.write("A/f.txt", "f")
	ada.write("A/gone.txt", "gone")
	f.sync()
	ada.halt()
	f.must(ada.v.Close(context.Background()))
	home := ada.copyHome()
	ada.resume()
	twin := ada.twin(home)
	ada.write("A/ada.txt", "ada's")
	ada.sync()
	twin.write("A/twin.txt", "the twin's")
	f.must(twin.v.Remove("A/gone.txt", false))
	_, _, err := twin.v.Seal(context.Background(), vaultcore.SealOptions{})
	f.must(err)
	twin.wantCloned()
	twin.renew()
	f.devices = append(f.devices, twin)
	f.sync()
	f.sync()
	f.agree()
	bob.want("A/", "A/f.txt = f", "A/ada.txt = ada's", "A/twin.txt = the twin's")
	for _, d := range []*device{ada, bob, twin} {
		if _, forked := d.condition(syncer.CondFork); forked {
			t.Errorf("%s sees a fork", d.name)
		}
	}
}
