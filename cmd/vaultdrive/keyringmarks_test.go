package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/zalando/go-keyring"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// mockKeyring gives the process a keyring of the test's own.
func mockKeyring(t *testing.T) {
	t.Helper()
	keyring.MockInit()
	marks.gone.Store(false)
	t.Cleanup(func() {
		keyring.MockInitWithError(errors.New("no keyring here"))
		marks.gone.Store(false)
	})
}

// An old copy of the directory is put back, and so is the remote: only the
// keyring knows better.
func TestKeyringKnowsLaterState(t *testing.T) {
	mockKeyring(t)
	p, pw, _ := twoDevices(t)
	home, remote, old := p.home, filepath.Join(p.dir, "remote"), filepath.Join(p.dir, "old")
	for from, to := range map[string]string{home: old, remote: old + "-remote"} {
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	p.ok("asset", "add", "Later")
	p.ok("sync", "now")
	for to, from := range map[string]string{home: old, remote: old + "-remote"} {
		if err := errors.Join(os.RemoveAll(to), os.Rename(from, to)); err != nil {
			t.Fatal(err)
		}
	}
	p.says(
		said{"sync now", 55, "put back to an older state"},
		said{"sync status", 0, "--new-id"},
		said{"asset add Meanwhile", 0, ""},
		said{"sync now", 55, "has pushed batch"},
		said{"device enroll --new-id --device-name bob --password-file " + pw, 2, "called bob already"},
		said{"device enroll --new-id --device-name spare --password-file " + pw, 0, "a device of its own"},
	)
	p.ok("sync", "now", "--password-file", pw)
	p.says(said{"device list --password-file " + pw, 0, "spare"}, said{"device list --password-file " + pw, 0, "ada"})
	p.says(said{"ls --password-file " + pw, 0, "Meanwhile"})
}

// Without a keyring nothing is said about it.
func TestNoKeyringNoMarks(t *testing.T) {
	mockKeyring(t)
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent")
	keyring.MockInitWithError(errors.New("no keyring today"))
	k := &keyringMarks{}
	vault, device := seal.NewID(), seal.NewID()
	k.Remember(vault, device, vaultcore.Mark{Batch: 7, Header: 3})
	if !k.gone.Load() {
		t.Error("it would be tried again")
	}
	keyring.MockInit()
	k = &keyringMarks{}
	if m := k.Recall(vault, device); m != (vaultcore.Mark{}) {
		t.Errorf("recalled %+v", m)
	}
	k.Remember(vault, device, vaultcore.Mark{Batch: 7, Header: 3})
	if m := k.Recall(vault, device); m.Batch != 7 || m.Header != 3 {
		t.Errorf("recalled %+v", m)
	}
	if m := k.Recall(vault, seal.NewID()); m != (vaultcore.Mark{}) {
		t.Errorf("of another device: %+v", m)
	}
}
