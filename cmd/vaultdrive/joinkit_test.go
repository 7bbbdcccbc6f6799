package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// A forgotten password of a vault that is synced: the kit sets a new one at the
// remote too, and the other device asks for it.
func TestKitRestoreIsSynced(t *testing.T) {
	p, pw, bob := twoDevices(t)
	sheet := filepath.Join(p.dir, "sheet")
	p.ok("kit", "create", "--password-file", pw, "--out", sheet)
	pw2, pw3 := p.file("pw2", testPassword+" two\n"), p.file("pw3", testPassword+" three\n")
	// bob, who hears of the kit only now, changes the password; the kit overtakes that.
	p.ok("passwd", "--vault", bob, "--password-file", pw, "--new-password-file", pw2)
	p.ok("kit", "restore", "--kit-file", sheet, "--new-password-file", pw3)
	p.says(
		said{"ls --password-file " + pw, 3, "wrong password"},
		said{"ls --password-file " + pw3, 0, "A"},
		said{"sync now --vault " + bob + " --password-file " + pw2, 56, "the password was changed on another device"},
	)
	p.ok("asset", "add", "--vault", bob, "--password-file", pw3, "B")
	p.ok("sync", "now", "--vault", bob, "--password-file", pw3)
	p.ok("sync", "now", "--password-file", pw3)
	p.says(said{"ls --password-file " + pw3, 0, "B"}, said{"check --password-file " + pw3, 0, ""})
	// The kit stays good; without the remote nothing changes.
	if err := os.Rename(filepath.Join(p.dir, "remote"), filepath.Join(p.dir, "unmounted")); err != nil {
		t.Fatal(err)
	}
	p.says(said{"kit restore --kit-file " + sheet + " --new-password-file " + pw2, 60, "change together with its remote"},
		said{"ls --password-file " + pw3, 0, "A"})
}

// All devices are lost, and so is the password: paper and remote give the vault
// back.
func TestJoinByKit(t *testing.T) {
	p, pw, _ := twoDevices(t)
	sheet, remote := filepath.Join(p.dir, "sheet"), "file://"+filepath.Join(p.dir, "remote")
	p.ok("kit", "create", "--password-file", pw, "--out", sheet)
	text, err := os.ReadFile(sheet)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "Address   "+p.address()+"\n") {
		t.Fatalf("no address on the kit:\n%s", text)
	}
	eve, pw2 := filepath.Join(p.dir, "eve")+"/", p.file("pw2", testPassword+" two\n")
	other := seal.NewRecovery()
	join := "join --yes --remote " + remote + " --vault " + eve + " --new-password-file " + pw2
	p.says(
		said{join + " " + p.address(), 2, "with --kit only"},
		said{join + " --pair --kit-file " + sheet, 2, "not both"},
		said{join + " --kit", 2, "one ADDRESS"},
		said{join + " --kit-file " + p.file("bad", "AAAA-BBBB"), 8, "characters instead of"},
		said{join + " --kit-file " + p.file("bare", other.Text()), 2, "names no address"},
		said{join + " --kit-file " + p.file("other", other.Text()) + " " + p.address(), 8, ""},
		said{join + " --kit-file " + p.file("forged", strings.Replace(string(text), "Identity  did:key:z", "Identity  did:key:y", 1)), 7, "not the vault of this kit"},
	)
	if _, err := os.Stat(eve); !os.IsNotExist(err) {
		t.Fatal("a refused join left something")
	}
	p.ok("join", "--yes", "--remote", remote, "--vault", eve, "--device-name", "eve", "--kit-file", sheet, "--new-password-file", pw2)
	p.says(
		said{"ls --vault " + eve + " --password-file " + pw, 3, "wrong password"},
		said{"ls --vault " + eve + " --password-file " + pw2, 0, "A"},
		said{"sync now --password-file " + pw, 56, "the password was changed on another device"},
	)
	p.ok("sync", "now", "--vault", eve, "--password-file", pw2)
	p.ok("sync", "now", "--password-file", pw2)
	p.says(said{"device list --password-file " + pw2, 0, "eve"})
}

// A kit printed before sync was enabled names vault and identity: that finds the
// vault in a directory or bucket.
func TestJoinByEarlyKit(t *testing.T) {
	p := newPlace(t)
	pw, pw2 := p.file("pw", testPassword+"\n"), p.file("pw2", testPassword+" two\n")
	sheet, remote, eve := filepath.Join(p.dir, "sheet"), filepath.Join(p.dir, "remote"), filepath.Join(p.dir, "eve")+"/"
	p.ok("kit", "create", "--password-file", pw, "--out", sheet)
	if err := os.Mkdir(remote, 0o700); err != nil {
		t.Fatal(err)
	}
	p.ok("asset", "add", "A")
	p.ok("sync", "enable", "file://"+remote)
	p.ok("sync", "now")
	p.ok("join", "--yes", "--remote", "file://"+remote, "--vault", eve, "--kit-file", sheet, "--new-password-file", pw2)
	p.says(said{"ls --vault " + eve + " --password-file " + pw2, 0, "A"})
}
