package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// restoreOf brings a vault back from its backup on a machine of its own.
func restoreOf(t *testing.T, file string, env []string) *bed {
	t.Helper()
	b := newBed(t)
	b.env = append(b.env, env...)
	b.ok("backup restore", file)
	return b
}

// putText saves a file through the command line.
func (b *bed) putText(text, path string) {
	b.t.Helper()
	b.ok("put", b.file("text", text), path)
}

// TestRestoredBackupComesBack: a machine that has nothing but a backup becomes a
// device of the vault again, whatever the remote is, above all that happened since
// the backup was made; what was saved on it before arrives on the others.
func TestRestoredBackupComesBack(t *testing.T) {
	onEveryRemote(t, func(t *testing.T, url string, env []string) {
		ada := newDevice(t, "ada", url, env, nil)
		ada.ok("asset add", "Letters")
		ada.putText("before", "Letters/old")
		file := filepath.Join(ada.dir, "b.nt2backup")
		ada.ok("backup create", file)
		bob := newDevice(t, "bob", url, env, ada)
		syncAll(ada, bob)
		bob.putText("since", "Letters/new")
		syncAll(bob, ada)
		back := restoreOf(t, file, env)
		back.putText("on the machine that came back", "Letters/mine")
		if r := back.run("backup create", filepath.Join(back.dir, "c.nt2backup")); r.code != 73 {
			t.Errorf("a backup before sync enable: %v; want 73", r)
		}
		back.ok("sync enable", "--device-name", "back", url)
		syncAll(back, ada, bob)
		for _, b := range []*bed{ada, bob, back} {
			for path, want := range map[string]string{"old": "before", "new": "since", "mine": "on the machine that came back"} {
				if got := b.ok("get", "Letters/"+path, "-"); got != want {
					t.Errorf("%s reads %q, want %q", path, got, want)
				}
			}
			if s := b.syncStatus(); len(s.Devices) != 3 || len(s.Conditions) != 0 || s.Queue != 0 {
				t.Errorf("afterwards: %+v", s)
			}
		}
		back.ok("backup create", filepath.Join(back.dir, "c.nt2backup"))
	})
}

// TestRestoredBackupAtServer: what a server knows and a backup does not. The
// address that was registered stays good, a device that came back does not show a
// wrong one, and a revocation gives it one that is right.
func TestRestoredBackupAtServer(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	ada := newDevice(t, "ada", s.url, nil, nil)
	ada.ok("asset add", "A")
	file := filepath.Join(ada.dir, "b.nt2backup")
	ada.ok("backup create", file)
	address := ada.address()
	back := restoreOf(t, file, nil)
	if r := back.run("kit create", "--out", filepath.Join(back.dir, "kit")); r.code != 73 || !strings.Contains(r.stderr, "sync enable") {
		t.Errorf("a new header before sync enable, which would be another history: %v; want 73", r)
	}
	wrong := *back
	wrong.unlock = []string{"--password-file", back.file("wrong", "another long password\n")}
	if r := wrong.run("sync enable", s.url); r.code != 3 {
		t.Errorf("a wrong password: %v; want 3", r)
	}
	r := back.run("sync enable", "--device-name", "back", s.url)
	if r.code != 0 || strings.Contains(r.stdout, "vd1:") || !strings.Contains(r.stderr, "recovery kit") {
		t.Errorf("sync enable: %v; want no address, and who has it", r)
	}
	back.ok("sync now")
	if got := back.address(); got != "" {
		t.Errorf("it shows the address %s, which admits nobody", got)
	}
	if r := newBed(t).join("late", s.url, address); r.code != 0 {
		t.Errorf("the old address: %v", r)
	}
	back.ok("sync now")
	back.ok("device revoke", "--yes", "ada")
	if r := newBed(t).join("later", s.url, back.address()); r.code != 0 {
		t.Errorf("the address after the revocation: %v", r)
	}
}

// TestRestoredBackupAfterPasswordChange: the backup opens with the password of its
// time, and the vault at the remote has another one by now.
func TestRestoredBackupAfterPasswordChange(t *testing.T) {
	onEveryRemote(t, func(t *testing.T, url string, env []string) {
		ada := newDevice(t, "ada", url, env, nil)
		ada.ok("asset add", "Letters")
		ada.putText("kept", "Letters/f")
		file := filepath.Join(ada.dir, "b.nt2backup")
		ada.ok("backup create", file)
		ada.changePassword("another battery staple horse")
		ada.ok("sync now")
		back := restoreOf(t, file, env)
		r := back.run("sync enable", "--device-name", "back", url)
		if r.code != 56 || !strings.Contains(r.stderr, "hint: ") {
			t.Fatalf("sync enable with the old password: %v; want 56 and what to do", r)
		}
		next := back.file("next", "another battery staple horse\n")
		back.unlock = []string{"--password-file", next}
		back.ok("sync enable", "--device-name", "back", url)
		back.ok("sync now")
		ada.ok("sync now")
		if got := back.ok("get", "Letters/f", "-"); got != "kept" {
			t.Errorf("it reads %q", got)
		}
	})
}

// TestRestoredBackupAtNewServer: devices and server are lost. The backup and a new
// server give the vault back, and its address lets devices join.
func TestRestoredBackupAtNewServer(t *testing.T) {
	t.Parallel()
	lost := startServer(t)
	ada := newDevice(t, "ada", lost.url, nil, nil)
	ada.ok("asset add", "Letters")
	ada.putText("kept", "Letters/f")
	file := filepath.Join(ada.dir, "b.nt2backup")
	ada.ok("backup create", file)
	lost.kill()
	s := startServer(t)
	back := restoreOf(t, file, nil)
	back.ok("sync enable", "--device-name", "back", s.url)
	back.ok("sync now")
	late := newBed(t)
	if r := late.join("late", s.url, back.address()); r.code != 0 {
		t.Fatalf("join: %v", r)
	}
	late.ok("sync now")
	if got := late.ok("get", "Letters/f", "-"); got != "kept" {
		t.Errorf("late reads %q", got)
	}
	must(t, os.Remove(file))
}
