package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// twoDevices makes the place's vault one of two devices, ada and bob, that sync
// through a directory.
func twoDevices(t *testing.T) (p *place, pw, bob string) {
	t.Helper()
	p = newPlace(t)
	pw, bob = p.file("pw", testPassword+"\n"), filepath.Join(p.dir, "bob")+"/"
	remote := filepath.Join(p.dir, "remote")
	if err := os.Mkdir(remote, 0o700); err != nil {
		t.Fatal(err)
	}
	p.ok("sync", "enable", "--device-name", "ada", "file://"+remote)
	p.ok("asset", "add", "A")
	p.ok("sync", "now")
	t.Setenv("VAULTDRIVE_PASSWORD_FILE", pw)
	p.ok("join", "--remote", "file://"+remote, "--vault", bob, "--device-name", "bob", "--yes", p.address())
	t.Setenv("VAULTDRIVE_PASSWORD_FILE", "")
	p.ok("sync", "now", "--vault", bob, "--password-file", pw)
	p.ok("sync", "now")
	return p, pw, bob
}

func (p *place) address() string {
	p.t.Helper()
	var view struct{ Address string }
	if err := json.Unmarshal([]byte(p.ok("sync", "status", "--json")), &view); err != nil {
		p.t.Fatal(err)
	}
	return view.Address
}

func TestDeviceList(t *testing.T) {
	p, _, _ := twoDevices(t)
	key := filepath.Join(p.dir, credentialDeviceKey)
	var views []deviceView
	if err := json.Unmarshal([]byte(p.ok("device", "list", "--json", "--device-key", key)), &views); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, v := range views {
		if v.Name == nil || v.LastChange == nil || v.Revoked || *v.Batches == 0 {
			t.Fatalf("%+v", v)
		}
		names[*v.Name] = v.This
	}
	if len(names) != 2 || !names["ada"] || names["bob"] {
		t.Fatalf("%v", names)
	}
	if out := p.ok("events", "--device-key", key); !strings.Contains(out, "a device joined the vault: bob (") {
		t.Errorf("who joined is not named:\n%s", out)
	}
	// Without a key it says what the header says.
	if out := p.ok("device", "list"); strings.Contains(out, "bob") || strings.Count(out, "\n") != 2 {
		t.Fatalf("%s", out)
	}
}

// A password changed on one device: the other goes on with the old one until it
// is given the new one.
func TestPasswordOnAnotherDevice(t *testing.T) {
	p, pw, bob := twoDevices(t)
	pw2 := p.file("pw2", testPassword+" two\n")
	p.ok("passwd", "--password-file", pw, "--new-password-file", pw2)
	p.says(said{"sync now --vault " + bob + " --password-file " + pw, 56, "the password was changed on another device"})
	p.says(said{"ls --vault " + bob + " --password-file " + pw, 0, "A"})
	p.ok("asset", "add", "--vault", bob, "--password-file", pw, "B")
	p.says(
		said{"passwd --accept --vault " + bob + " --password-file " + p.file("pw3", "not this one at all\n"), 3, "hint: nothing was changed; it is the password that was set on another device"},
		said{"passwd --accept --vault " + bob + " --password-file " + pw2, 0, "accepted"},
		said{"ls --vault " + bob + " --password-file " + pw, 3, "wrong password"},
	)
	p.ok("sync", "now", "--vault", bob, "--password-file", pw2)
	p.ok("sync", "now", "--password-file", pw2)
	p.says(said{"ls --password-file " + pw2, 0, "B"}, said{"ls --vault " + bob + " --password-file " + pw2, 0, "A"})
}

// Without the remote a synced vault keeps its password, and says so.
func TestPasswordNeedsRemote(t *testing.T) {
	p, pw, _ := twoDevices(t)
	if err := os.Rename(filepath.Join(p.dir, "remote"), filepath.Join(p.dir, "unmounted")); err != nil {
		t.Fatal(err)
	}
	pw2 := p.file("pw2", testPassword+" two\n")
	p.says(
		said{"passwd --password-file " + pw + " --new-password-file " + pw2, 60, "change together with its remote"},
		said{"kit create --password-file " + pw, 60, "change together with its remote"},
		said{"ls --password-file " + pw, 0, "A"},
	)
}

// A name that two devices have means neither, and no vault is unclear with it.
func TestFindDevice(t *testing.T) {
	name := "laptop"
	views := []deviceView{{ID: seal.NewID().UUID(), Name: &name}, {ID: seal.NewID().UUID(), Name: &name}}
	if _, err := findDevice(views, name); rowOf(err).code != "ambiguous_device" || !strings.Contains(hintOf(err), "device list") {
		t.Errorf("a name of two: %v (%s)", err, hintOf(err))
	}
	if id, err := findDevice(views, views[1].ID); err != nil || id.UUID() != views[1].ID {
		t.Errorf("an id: %v, %v", id, err)
	}
}

// TestJoinTwice: a vault that is here already is said to be, whatever name it is to get.
func TestJoinTwice(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	c := joinCommand{address: seal.Address{Vault: seal.NewID()}}
	c.vault = "other"
	if err := c.findPlace(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(c.home, "attachments"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := c.findPlace(); rowOf(err).exit != 21 || !strings.Contains(err.Error(), "on this machine already") {
		t.Errorf("joined again: %v", err)
	}
}

func TestDeviceRevoke(t *testing.T) {
	p, pw, bob := twoDevices(t)
	p.says(
		said{"device revoke --yes --password-file " + pw + " nobody", 20, "no device nobody"},
		said{"device revoke --yes --password-file " + pw + " ada", 34, "does not revoke itself"},
		said{"device revoke --yes --password-file " + pw + " bob", 0, "change the credentials of file://"},
		said{"device list --password-file " + pw, 0, "bob, revoked"},
		said{"sync now --vault " + bob + " --password-file " + pw, 65, "this device was revoked"},
		said{"ls --vault " + bob + " --password-file " + pw, 0, "A"},
	)
	p.ok("asset", "add", "--vault", bob, "--password-file", pw, "Late")
	p.run("sync", "now", "--vault", bob, "--password-file", pw)
	p.ok("sync", "now")
	if out := p.ok("ls"); strings.Contains(out, "Late") {
		t.Fatalf("a revoked device is heard:\n%s", out)
	}
}

// A device that gets a new identity is called as nobody is: its copy goes on under the
// old name.
func TestNewNames(t *testing.T) {
	p, pw, bob := twoDevices(t)
	for i, want := range []string{hostName(), hostName() + " 2"} {
		p.says(said{"device enroll --new-id --vault " + bob + " --password-file " + pw, 0, "a device of its own"})
		p.ok("sync", "now", "--vault", bob, "--password-file", pw)
		p.ok("sync", "now")
		if out := p.ok("device", "list", "--password-file", pw); strings.Count(out, "bob") != 1 || !strings.Contains(out, want) {
			t.Errorf("after %d new identities no device is called %s:\n%s", i+1, want, out)
		}
	}
}

// TestDeviceKeepsItsName: sync enable names a device that nobody has heard of, and says
// so where it cannot.
func TestDeviceKeepsItsName(t *testing.T) {
	p, pw, _ := twoDevices(t)
	p.says(
		said{"sync enable --device-name zoe --password-file " + pw, 34, "called ada already"},
		said{"sync enable --device-name ada --limit-up 1M --password-file " + pw, 0, "is synchronised"},
		said{"device list --password-file " + pw, 0, "  ada, this device"},
	)
	file, home := filepath.Join(p.dir, "x.nt2backup"), filepath.Join(p.dir, "back")+"/"
	p.ok("backup", "create", file)
	p.says(
		said{"backup restore --vault " + home + " --password-file " + pw + " " + file, 0, "is back"},
		said{"sync enable --vault " + home + " --device-name cyd --password-file " + pw + " file://" + filepath.Join(p.dir, "remote"), 0, "is synchronised"},
		said{"device list --vault " + home + " --password-file " + pw, 0, "  cyd, this device"},
	)
}
