package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/s3/s3test"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// headersAt counts the headers of all vaults in a directory: each device that
// joins makes one.
func headersAt(t *testing.T, dir string) int {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "vaults", "*", "headers", "*.json"))
	must(t, err)
	return len(found)
}

// nothingMade demands that a join that failed has left nothing here.
func (b *bed) nothingMade() {
	b.t.Helper()
	left, err := filepath.Glob(filepath.Join(b.dir, ".vaultdrive-joining-*"))
	must(b.t, err)
	if _, err := os.Stat(b.vault); err == nil || len(left) > 0 {
		b.t.Errorf("left behind: %s %v", b.vault, left)
	}
}

// TestJoinRefuses: what does not fit together is named, and changes nothing on
// either side.
func TestJoinRefuses(t *testing.T) {
	t.Parallel()
	remote, _ := remotes["directory"](t)
	dir := strings.TrimPrefix(remote, "file://")
	ada := newDevice(t, "ada", remote, nil, nil)
	address := ada.address()
	parsed, err := seal.ParseAddress(address)
	must(t, err)
	otherDID := seal.FormatAddress(parsed.Vault, parsed.BootToken, "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK")
	otherVault := seal.FormatAddress(seal.NewID(), parsed.BootToken, "did:key:x")
	empty := "file://" + shortTemp(t, "empty")
	for _, c := range []struct {
		name, remote, address string
		code                  int
		part                  string
	}{
		{"no address", remote, "vd1:short", 52, "sync status"},
		{"no URL", "ftp://host/x", address, 52, "file:///DIRECTORY"},
		{"directory missing", remote + ".none", address, 60, "mounted"},
		{"directory empty", empty, address, 53, "is not there"},
		{"vault not there", remote, otherVault, 53, parsed.Vault.UUID()},
		{"another identity", remote, otherDID, 54, "compare the address"},
	} {
		b := newBed(t)
		if r := b.join("bob", c.remote, c.address); r.code != c.code || !strings.Contains(r.stderr, c.part) || !strings.Contains(r.stderr, "hint: ") {
			t.Errorf("%s: %v; want %d and %q", c.name, r, c.code, c.part)
		}
		b.nothingMade()
	}
	b := newBed(t)
	wrong := b.file("wrong", "another long password\n")
	r := b.finish(b.plain("join", "--vault", b.vault, "--password-file", wrong, "--remote", remote, "--yes", address))
	if r.code != 3 || !strings.Contains(r.stderr, "on its other devices") {
		t.Errorf("wrong password: %v; want 3, and which password it is", r)
	}
	b.nothingMade()
	// Nobody is there to say yes.
	r = b.finish(b.plain("join", "--vault", b.vault, "--password-file", b.password, "--remote", remote, address))
	if r.code != 2 || !strings.Contains(r.stdout, "ada") || !strings.Contains(r.stderr, "--yes") {
		t.Errorf("without --yes: %v; want 2, and what was found", r)
	}
	b.nothingMade()
	if r := ada.join("twice", remote, address); r.code != 21 {
		t.Errorf("over a vault: %v; want 21", r)
	}
	if n := headersAt(t, dir); n != 1 {
		t.Errorf("%d headers at the remote after joins that failed; want 1", n)
	}
}

// TestForeignMarker: a place that belongs to another vault is left alone, by
// who wants to use it and by who used it.
func TestForeignMarker(t *testing.T) {
	t.Parallel()
	remote, _ := remotes["directory"](t)
	ada := newDevice(t, "ada", remote, nil, nil)
	id := ada.status()["vault"].(string)
	marker := filepath.Join(strings.TrimPrefix(remote, "file://"), "vaults", id, "vault")
	text, err := os.ReadFile(marker)
	must(t, err)
	must(t, os.WriteFile(marker, []byte(strings.Replace(string(text), id, seal.NewID().UUID(), 1)), 0o600))
	if r := ada.run("sync now"); r.code != 54 || !strings.Contains(r.stderr, "hint: ") {
		t.Errorf("sync now: %v; want 54 and a hint", r)
	}
	b := newBed(t)
	if r := b.join("bob", remote, ada.address()); r.code != 54 {
		t.Errorf("join: %v; want 54", r)
	}
	must(t, os.WriteFile(marker, text, 0o600))
	ada.ok("sync now")
}

// TestEnableRefuses: an address that cannot be one, a place that is not there,
// a bucket without credentials. What refuses changes nothing.
func TestEnableRefuses(t *testing.T) {
	t.Parallel()
	fake := s3test.Fake(t, nil)
	bucket := "?endpoint=" + fake.Endpoint + "&region=us-east-1&style=path"
	keys := []string{"AWS_ACCESS_KEY_ID=" + fake.AccessKey, "AWS_SECRET_ACCESS_KEY=" + fake.SecretKey}
	b := newVault(t)
	plain := b.env
	for _, c := range []struct {
		name string
		env  []string
		args []string
		code int
		part string
	}{
		{"a path of no directory", nil, []string{"/srv/none"}, 60, "the directory /srv/none of the remote is not there"},
		{"a bucket without keys", nil, []string{"s3://" + fake.Bucket + "/x" + bucket}, 59, "AWS_ACCESS_KEY_ID"},
		{"keys in the address", nil, []string{"s3://me:secret@bucket/x"}, 52, "AWS_ACCESS_KEY_ID"},
		{"no such bucket", keys, []string{"s3://nobody-has-it/x" + bucket}, 60, "bucket"},
		{"credentials of a directory", nil, []string{"--keep-credentials", "file:///srv/nas"}, 2, "only a bucket"},
		{"no directory", nil, []string{"file:///srv/none/of/these"}, 60, "mount it"},
		{"no prefetch", nil, []string{"--prefetch", "some", "file:///srv/nas"}, 2, "all, pinned or none"},
		{"no rate", nil, []string{"--limit-up", "fast", "file:///srv/nas"}, 2, "500K"},
		{"nothing to enable", nil, nil, 2, "address"},
	} {
		b.env = append(plain[:len(plain):len(plain)], c.env...)
		r := b.run("sync enable", c.args...)
		if r.code != c.code || !strings.Contains(r.stderr, c.part) || strings.Contains(r.stderr, "secret@") {
			t.Errorf("%s: %v; want %d and %q", c.name, r, c.code, c.part)
		}
	}
	b.env = plain
	if s := b.syncStatus(); s.State != "disabled" || s.Address != "" || s.Remote != "" {
		t.Errorf("after refusals: %+v", s)
	}
	for _, verb := range []string{"sync now", "sync disable"} {
		if r := b.run(verb); r.code != 50 || !strings.Contains(r.stderr, "sync enable") {
			t.Errorf("%s while it is off: %v; want 50", verb, r)
		}
	}
	remote, _ := remotes["directory"](t)
	other, _ := remotes["directory"](t)
	b.ok("sync enable", remote)
	b.ok("sync enable", other)
	if s := b.syncStatus(); s.Remote != other {
		t.Errorf("moved to %q, want %q", s.Remote, other)
	}
}
