package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRevokeAtServer: a revocation changes the address, for every device but the
// revoked one, and the old address lets nobody join any more.
func TestRevokeAtServer(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	ada := newDevice(t, "ada", s.url, nil, nil)
	bob := newDevice(t, "bob", s.url, nil, ada)
	carol := newDevice(t, "carol", s.url, nil, ada)
	syncAll(ada, bob, carol)
	old := ada.address()
	if carol.address() != old {
		t.Fatal("carol has another address")
	}
	r := ada.run("device revoke", "--yes", "bob")
	if r.code != 0 || !strings.Contains(r.stderr, ada.address()) || !strings.Contains(r.stderr, "kit create") {
		t.Fatalf("revoke: %v", r)
	}
	if ada.address() == old {
		t.Fatal("the address is the same as before")
	}
	late := newBed(t)
	if r := late.join("late", s.url, old); r.code == 0 {
		t.Fatalf("the old address lets a device join: %v", r)
	}
	if r := late.join("late", s.url, ada.address()); r.code != 0 {
		t.Fatalf("the new address does not: %v", r)
	}
	if r := carol.run("sync now"); r.code != 56 {
		t.Errorf("carol hears of it: %v", r)
	}
	carol.ok("passwd --accept") // it is the same password
	carol.ok("sync now")
	if got := carol.address(); got != ada.address() {
		t.Errorf("carol shows %s, ada %s", got, ada.address())
	}
	if bob.run("sync now").code == 0 {
		t.Error("the revoked device goes on")
	}
	if got := bob.address(); got == ada.address() {
		t.Error("the revoked device knows the new address")
	}
}

// TestKitAtServer: all devices are lost; the kit, the server and a new machine
// give the vault back, under a new password.
func TestKitAtServer(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	ada := newDevice(t, "ada", s.url, nil, nil)
	bob := newDevice(t, "bob", s.url, nil, ada)
	file := filepath.Join(t.TempDir(), "f")
	must(t, os.WriteFile(file, []byte("kept by bob alone"), 0o600))
	bob.ok("asset add", "Letters")
	bob.ok("put", file, "Letters/f")
	syncAll(bob)
	sheet, next := filepath.Join(t.TempDir(), "sheet"), filepath.Join(t.TempDir(), "next")
	ada.ok("kit create", "--out", sheet)
	must(t, os.WriteFile(next, []byte("a password set by the kit\n"), 0o600))
	eve := newBed(t)
	r := eve.finish(eve.plain("join", "--vault", eve.vault, "--device-name", "eve", "--remote", s.url, "--yes", "--kit-file", sheet, "--new-password-file", next))
	if r.code != 0 {
		t.Fatalf("join by the kit: %v", r)
	}
	eve.ok("sync now", "--password-file", next)
	if got := eve.ok("get", "--password-file", next, "Letters/f", "-"); got != "kept by bob alone" {
		t.Errorf("eve reads %q", got)
	}
	if r := ada.run("sync now"); r.code != 56 {
		t.Errorf("ada with the old password: %v", r)
	}
	ada.ok("sync now", "--password-file", next)
	if got := ada.ok("get", "--password-file", next, "Letters/f", "-"); got != "kept by bob alone" {
		t.Errorf("ada reads %q", got)
	}
}
