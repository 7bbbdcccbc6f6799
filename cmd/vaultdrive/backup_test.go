package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/adrg/xdg"
)

// TestBackupCommands goes once around: create, verify, lose, fill, restore.
func TestBackupCommands(t *testing.T) {
	p := newPlace(t)
	pw := filepath.Join(p.dir, "pw")
	p.ok("asset", "add", "A")
	p.input = strings.Repeat("some content ", 10_000)
	p.ok("put", "-", "A/f")
	file, wrong := filepath.Join(p.dir, "b.nt2backup"), p.file("wrong", "no password of this vault")
	p.ok("backup", "create", file)
	if st, err := os.Stat(file); err != nil || st.Mode() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	var view backupView
	if err := json.Unmarshal([]byte(p.ok("backup", "verify", "--json", file)), &view); err != nil || view.Contents != 1 || view.Opened {
		t.Errorf("verify: %+v, %v", view, err)
	}
	p.says(
		said{"backup create " + file, 21, "--force"},
		said{"backup create --force " + file, 0, "1 content"},
		said{"backup create " + p.dir, 21, "is a directory"},
		said{"backup create " + p.dir + "/none/b", 20, "make the directory first"},
		said{"backup verify --did " + view.DID + " " + file, 0, "good"},
		said{"backup verify --did did:key:zOther " + file, 71, "backup of another vault"},
		said{"backup verify --password-file " + pw + " " + file, 0, "leads to the state"},
		said{"backup verify --deep --password-file " + pw + " " + file, 0, "every byte was decrypted"},
		said{"backup verify --password-file " + wrong + " " + file, 3, "hint: nothing was changed; it is the password that the vault had when"},
		said{"backup restore --vault " + p.dir + "/no/ --password-file " + wrong + " " + file, 3, "when the backup was made"},
		said{"backup verify " + pw, 70, "pw: not the layout of a backup"},
		said{"backup verify " + file + ".none", 20, "no such file"},
		said{"backup restore --fill --new " + file, 2, "exclude each other"},
		said{"backup restore --vault " + p.home + "/ --password-file " + pw + " " + file, 21, "is not empty"},
		said{"backup restore --fill " + file, 0, "0 contents put back"},
	)
	p.lose(t)
	p.says(said{"backup restore --fill " + file, 0, "1 content put back"}, said{"check --deep", 0, "0 problems"})
	back := filepath.Join(p.dir, "back") + "/"
	p.says(
		said{"backup restore --vault " + back + " --password-file " + pw + " --no-remote " + file, 0, "The vault is back"},
		said{"get --vault " + back + " --password-file " + pw + " A/f -", 0, p.input},
		said{"backup create --vault " + back + " --password-file " + pw + " " + file + "2", 0, "1 content"},
		said{"backup restore --fill --vault " + p.home + "/ " + file + "2", 0, "0 contents put back"},
	)
	waits := filepath.Join(p.dir, "waits") + "/"
	with := " --vault " + waits + " --password-file " + pw
	p.says(
		said{"backup restore" + with + " " + file, 0, "The vault is back"},
		said{"backup create" + with + " " + file + "3", 73, "--no-remote"},
		said{"device enroll --no-remote --new-id" + with, 2, "exclude each other"},
		said{"device enroll --no-remote" + with, 0, "in the roster"},
		said{"device enroll --no-remote" + with, 2, "nothing is to be done"},
		said{"backup create" + with + " " + file + "3", 0, "1 content"},
	)
}

// lose takes the only content away.
func (p *place) lose(t *testing.T) {
	t.Helper()
	bins, err := filepath.Glob(filepath.Join(p.home, "attachments", "*.bin"))
	if err != nil || len(bins) != 1 {
		t.Fatalf("%q, %v", bins, err)
	}
	if err := os.Remove(bins[0]); err != nil {
		t.Fatal(err)
	}
}

// TestBackupGoesToOutput: a pipe gets the very file, and takes it.
func TestBackupGoesToOutput(t *testing.T) {
	p := newPlace(t)
	p.ok("asset", "add", "A")
	p.input = "x"
	p.ok("put", "-", "A/f")
	whole := p.ok("backup", "create", "-")
	p.input = whole
	p.says(said{"backup verify -", 0, "good"}, said{"backup verify --deep -", 2, "reads the file twice"})
	p.input = whole[:len(whole)-1]
	p.says(said{"backup verify -", 70, "ends early"})
}

// TestBackupLeavesNothingHalf: a backup that cannot be written leaves no file.
func TestBackupLeavesNothingHalf(t *testing.T) {
	if os.Geteuid() != 0 {
		p := newPlace(t)
		locked := filepath.Join(p.dir, "locked")
		if err := os.Mkdir(locked, 0o500); err != nil {
			t.Fatal(err)
		}
		p.says(said{"backup create " + locked + "/b", 27, "permission denied"})
	}
	p := newPlace(t)
	p.ok("asset", "add", "A")
	p.input = strings.Repeat("x", 200_000)
	p.ok("put", "-", "A/f")
	bins, err := filepath.Glob(filepath.Join(p.home, "attachments", "*.bin"))
	if err != nil || len(bins) != 1 {
		t.Fatal(bins, err)
	}
	b, err := os.ReadFile(bins[0])
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(p.dir, "b.nt2backup")
	p.ok("backup", "create", file) // its hash is in the log now
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[1000] ^= 1
	if err := os.WriteFile(bins[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	p.says(said{"backup create --force " + file, 31, "is not what it was"})
	after, err := os.ReadFile(file)
	left, globErr := filepath.Glob(filepath.Join(p.dir, ".vaultdrive-*"))
	if err := errors.Join(err, globErr); err != nil || !bytes.Equal(before, after) || len(left) > 0 {
		t.Errorf("the old backup is gone, or %q is left: %v", left, err)
	}
}

// TestBackupMount: a backup is read where it lies, beside the vault it is of, and
// leaves nothing behind.
func TestBackupMount(t *testing.T) {
	p := newPlace(t)
	cacheDir := filepath.Join(p.dir, "cache")
	t.Setenv("XDG_CACHE_HOME", cacheDir)
	xdg.Reload()
	pw := filepath.Join(p.dir, "pw")
	p.ok("asset", "add", "A")
	p.input = "as it was"
	p.ok("put", "-", "A/f")
	file := filepath.Join(p.dir, "b.nt2backup")
	p.ok("backup", "create", file)
	p.input = "as it is"
	p.ok("put", "-f", "-", "A/f")
	p.mounted()
	then := filepath.Join(p.dir, "then")
	if err := os.Mkdir(then, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unmountDirect(context.Background(), then, true) })
	p.says(said{"backup mount --password-file " + pw + " --did did:key:zOther " + file + " " + then, 71, "another vault"})
	wrong := p.file("wrong", "no password of this vault")
	p.says(said{"backup mount --password-file " + wrong + " " + file + " " + then, 3, "when the backup was made"})
	p.ok("backup", "mount", "--password-file", pw, file, then)
	for dir, want := range map[string]string{then: "as it was", filepath.Join(p.dir, "mnt"): "as it is"} {
		if b, err := os.ReadFile(filepath.Join(dir, "A", "f")); string(b) != want {
			t.Errorf("%s: %q, %v; want %q", dir, b, err, want)
		}
	}
	if err := os.WriteFile(filepath.Join(then, "A", "g"), nil, 0o600); !errors.Is(err, syscall.EROFS) {
		t.Errorf("write into a backup: %v; want EROFS", err)
	}
	if out := p.ok("get", "A/f", "-"); out != "as it is" {
		t.Errorf("get beside the mount of a backup: %q", out)
	}
	p.ok("umount", then)
	if left, _ := filepath.Glob(filepath.Join(cacheDir, "vaultdrive", "backups", "*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	p.ok("lock")
}

// TestRestoredVaultIsEnrolled: with the remote that the vault had, and only then it
// publishes.
func TestRestoredVaultIsEnrolled(t *testing.T) {
	p := newPlace(t)
	pw := filepath.Join(p.dir, "pw")
	p.ok("asset", "add", "A")
	p.input = "first"
	p.ok("put", "-", "A/f")
	remote := filepath.Join(p.dir, "remote")
	if err := os.Mkdir(remote, 0o700); err != nil {
		t.Fatal(err)
	}
	p.ok("sync", "enable", "file://"+remote)
	p.ok("sync", "now")
	file := filepath.Join(p.dir, "b.nt2backup")
	p.ok("backup", "create", file)
	p.input = "second, which the backup does not know"
	p.ok("put", "-f", "-", "A/f")
	p.ok("sync", "now")
	back := filepath.Join(p.dir, "back") + "/"
	with := " --vault " + back + " --password-file " + pw
	p.says(
		said{"backup restore" + with + " " + file, 0, "The vault is back"},
		said{"backup create" + with + " " + file + "2", 73, "not in the roster"},
		said{"sync enable" + with + " file://" + remote, 0, "is synchronised"},
		said{"sync now" + with, 0, ""},
		said{"get" + with + " A/f -", 0, p.input},
		said{"backup create" + with + " " + file + "2", 0, "1 content"},
	)
}
