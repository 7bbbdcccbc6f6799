package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// unverified is a line of vaultdrive adopt --json.
type unverified struct {
	ID, Path, State, Kind, Problem string
	Reseal                         bool
}

func (b *bed) listUnverified() (all []unverified) {
	b.t.Helper()
	must(b.t, json.Unmarshal([]byte(b.ok("adopt", "--json")), &all))
	return all
}

// waitListed waits until something is unverified, without asking for a sync.
func (b *bed) waitListed(state, path string) (found unverified) {
	b.t.Helper()
	waitFor(b.t, state+" "+path+" is listed", patience, func() bool {
		for _, l := range b.listUnverified() {
			if l.State == state && l.Path == path {
				found = l
				return true
			}
		}
		return false
	})
	return found
}

func waitRead(t *testing.T, path, want string) {
	t.Helper()
	waitFor(t, path+" has "+want, patience, func() bool {
		got, err := os.ReadFile(path)
		return err == nil && string(got) == want
	})
}

// servedPair gives a server and two devices of one vault on it.
func servedPair(t *testing.T) (s *served, ada, bob *bed) {
	needFUSE(t)
	s = startServer(t)
	ada = newDevice(t, "ada", s.url, nil, nil)
	return s, ada, newDevice(t, "bob", s.url, nil, ada)
}

// TestAdopt: what a client of the server uploads, which has the password and
// nothing else, is shown on every mounted drive by itself, apart and read-only,
// and becomes a file of the drive when somebody says so, on all devices.
func TestAdopt(t *testing.T) {
	t.Parallel()
	s, ada, bob := servedPair(t)
	here, there := ada.mountAgain(), bob.mountAgain()
	must(t, os.WriteFile(filepath.Join(here.asset("Passport"), "scan.txt"), []byte("the scan"), 0o644))
	ada.ok("sync now")
	c := newAPIClient(t, ada, s.url)
	p := c.parents()["Passport"]
	c.upload(p, "visa/from the page ✈.txt", "of a page")
	large := strings.Repeat("large file; ", 2<<20/12)
	c.upload(p, "large.bin", large)

	for m, b := range map[*mount]*bed{here: ada, there: bob} {
		file := m.path(".vaultdrive", "unverified", "Passport", "visa", "from the page ✈.txt")
		waitRead(t, file, "of a page")
		waitRead(t, m.path(".vaultdrive", "unverified", "Passport", "large.bin"), large)
		readOnlyTree(t, m, file)
		if st := b.status(); st["unverified"] != float64(2) {
			t.Errorf("status counts %v", st["unverified"])
		}
		if out := b.ok("sync status"); !strings.Contains(out, "2 files that no device has signed; vaultdrive adopt lists them") {
			t.Errorf("sync status:\n%s", out)
		}
		if _, err := os.Stat(m.path("Passport", "large.bin")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("it is an ordinary file: %v", err)
		}
	}
	if out := ada.ok("events"); !strings.Contains(out, "signed by no device") {
		t.Errorf("events:\n%s", out)
	}
	if r := ada.run("adopt", "--all"); r.code != 2 || !strings.Contains(r.stderr, "--yes") {
		t.Errorf("all without a question: %v", r)
	}
	ada.ok("adopt", here.path(".vaultdrive", "unverified", "Passport", "visa", "from the page ✈.txt"))
	for _, m := range []*mount{here, there} {
		waitRead(t, m.path("Passport", "visa", "from the page ✈.txt"), "of a page")
	}
	waitFor(t, "the other device lists the rest only", patience, func() bool { return len(bob.listUnverified()) == 1 })
	bob.ok("adopt", "--all", "--yes")
	waitRead(t, here.path("Passport", "large.bin"), large)
	for _, m := range []*mount{here, there} {
		waitFor(t, "nothing is unverified", patience, func() bool {
			names, err := os.ReadDir(m.path(".vaultdrive", "unverified"))
			return err == nil && len(names) == 0
		})
	}
	if rows := c.files(p); len(rows) != 3 || c.read(rows["visa/from the page ✈.txt"]) != "of a page" {
		t.Errorf("the server has %v", rows)
	}
	calm(t, ada, bob)
}

// calm: nothing is wrong, and nothing is left to do.
func calm(t *testing.T, devices ...*bed) {
	t.Helper()
	for _, b := range devices {
		b.ok("sync now")
		if st := b.syncStatus(); st.Queue != 0 || len(st.Conditions) != 0 {
			t.Errorf("sync status: %+v", st)
		}
		if alarms, _ := b.status()["alarms"].([]any); len(alarms) > 0 && !strings.Contains(alarms[0].(string), "swap") {
			t.Errorf("alarms %v", alarms)
		}
		b.ok("check --deep")
	}
}

func readOnlyTree(t *testing.T, m *mount, file string) {
	t.Helper()
	fi, err := os.Stat(file)
	must(t, err)
	if fi.Mode() != 0o400 || fi.ModTime().Before(time.Now().Add(-time.Hour)) || fi.ModTime().After(time.Now()) {
		t.Errorf("mode %v, time %v", fi.Mode(), fi.ModTime())
	}
	dir := filepath.Dir(file)
	for what, try := range map[string]error{
		"open for writing": second(os.OpenFile(file, os.O_RDWR, 0)),
		"create":           second(os.Create(filepath.Join(dir, "new"))),
		"remove":           os.Remove(file),
		"rename":           os.Rename(file, m.path("Passport", "taken")),
		"chmod":            os.Chmod(file, 0o700),
		"mkdir":            os.Mkdir(filepath.Join(dir, "new"), 0o700),
	} {
		if !errors.Is(try, fs.ErrPermission) && !errors.Is(try, syscall.EXDEV) && !errors.Is(try, syscall.EROFS) {
			t.Errorf("%s: %v", what, try)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestAdoptDeletion: what such a client deletes is a wish; a device signs it, or
// has the server keep the file.
func TestAdoptDeletion(t *testing.T) {
	t.Parallel()
	s, ada, bob := servedPair(t)
	here, there := ada.mountAgain(), bob.mountAgain()
	dir := here.asset("Passport")
	for _, name := range []string{"keep.txt", "drop.txt"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644))
	}
	ada.ok("sync now")
	c := newAPIClient(t, ada, s.url)
	p := c.parents()["Passport"]
	rows := c.files(p)
	for _, row := range rows {
		c.do(http.MethodDelete, api.PathAttachments+"/"+row.ID, nil, nil)
	}
	c.upload(p, "drop.txt", "in its place")
	for _, b := range []*bed{ada, bob} {
		b.waitListed("deletion", "Passport/keep.txt")
		b.waitListed("deletion", "Passport/drop.txt")
		b.waitListed("unverified", "Passport/drop.txt")
	}
	if r := ada.run("adopt", "Passport/drop.txt"); r.code != 34 || !strings.Contains(r.stderr, "--deletions") {
		t.Errorf("a path that means two things: %v", r)
	}
	ada.ok("adopt", "--deletions", "Passport/drop.txt")
	ada.ok("adopt", "Passport/drop.txt")
	bob.ok("adopt", "--refuse", "Passport/keep.txt")
	for _, m := range []*mount{here, there} {
		waitRead(t, m.path("Passport", "drop.txt"), "in its place")
		waitRead(t, m.path("Passport", "keep.txt"), "keep.txt")
	}
	waitFor(t, "the server has both again", patience, func() bool { return len(c.files(p)) == 2 })
	if got := c.read(c.files(p)["keep.txt"]); got != "keep.txt" {
		t.Errorf("content %q", got)
	}
	for _, b := range []*bed{ada, bob} {
		waitFor(t, "nothing is left to decide", patience, func() bool { return len(b.listUnverified()) == 0 })
		if out := b.ok("trash list"); !strings.Contains(out, "Passport/drop.txt") || strings.Contains(out, "keep.txt") {
			t.Errorf("trash:\n%s", out)
		}
	}
	calm(t, ada, bob)
}

// TestAdoptUnmounted: without a mount the same commands do the same; what is
// refused goes from the server.
func TestAdoptUnmounted(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	ada := newDevice(t, "ada", s.url, nil, nil)
	ada.ok("asset add Bank")
	ada.ok("sync now")
	c := newAPIClient(t, ada, s.url)
	p := c.parents()["Bank"]
	spam := c.upload(p, "spam.txt", "buy")
	c.upload(p, "codes.txt", "1 2 3")
	if all := ada.listUnverified(); len(all) != 0 {
		t.Errorf("known before a sync: %v", all)
	}
	if r := ada.run("sync now"); r.code != 0 || !strings.Contains(r.stderr, "2 files that no device has signed") {
		t.Errorf("sync now: %v", r)
	}
	if all := ada.listUnverified(); len(all) != 2 || all[0].Path != "Bank/codes.txt" {
		t.Fatalf("listed %v", all)
	}
	if out := ada.ok("check"); !strings.Contains(out, "2 files that no device has signed") {
		t.Errorf("check:\n%s", out)
	}
	used := c.usage()
	ada.ok("adopt", "--refuse", "Bank/spam.txt")
	ada.ok("adopt", "Bank/codes.txt")
	if got := ada.ok("get", "Bank/codes.txt", "-"); got != "1 2 3" {
		t.Errorf("get: %q", got)
	}
	if r := ada.run("adopt", "Bank/codes.txt"); r.code != 20 {
		t.Errorf("adopted again: %v", r)
	}
	ada.ok("sync now")
	if files := c.files(p); len(files) != 1 || c.read(files["codes.txt"]) != "1 2 3" {
		t.Errorf("the server has %v", files)
	}
	if status, raw := c.try(http.MethodGet, api.PathAttachments+"/"+spam.ID, nil, nil); status != http.StatusGone {
		t.Errorf("what was refused: %d %s", status, raw)
	}
	if now := c.usage(); now != used-int64(len("buy")+28) {
		t.Errorf("the server counts %d bytes after %d", now, used)
	}
	bob := newDevice(t, "bob", s.url, nil, ada)
	if got := bob.ok("get", "Bank/codes.txt", "-"); got != "1 2 3" {
		t.Errorf("at another device: %q", got)
	}
	if all := bob.listUnverified(); len(all) != 0 {
		t.Errorf("a new device lists %v", all)
	}
	calm(t, ada, bob)
}

// usage gives the bytes that the server counts.
func (c *apiClient) usage() int64 {
	c.t.Helper()
	var u struct{ Usage int64 }
	c.do(http.MethodGet, "/v1/usage", nil, &u)
	return u.Usage
}

// TestUnverifiedDamaged: an object that the server altered reads as an error, is
// not taken over, and harms nothing.
func TestUnverifiedDamaged(t *testing.T) {
	t.Parallel()
	needFUSE(t)
	s := startServer(t)
	ada := newDevice(t, "ada", s.url, nil, nil)
	here := ada.mountAgain()
	here.expect("the server gives other bytes than its row says")
	must(t, os.WriteFile(filepath.Join(here.asset("Passport"), "scan.txt"), []byte("the scan"), 0o644))
	ada.ok("sync now")
	c := newAPIClient(t, ada, s.url)
	p := c.parents()["Passport"]
	c.upload(p, "bad.txt", strings.Repeat("altered at the server; ", 30_000))
	s.alterLargest()
	file := here.path(".vaultdrive", "unverified", "Passport", "bad.txt")
	waitFor(t, "it is shown", patience, func() bool { _, err := os.Stat(file); return err == nil })
	if got, err := os.ReadFile(file); !errors.Is(err, syscall.EIO) || len(got) > 0 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if r := ada.run("adopt", "Passport/bad.txt"); r.code != 31 || !strings.Contains(r.stderr, "Passport/bad.txt") {
		t.Errorf("adopt: %v", r)
	}
	if _, err := os.Stat(here.path("Passport", "bad.txt")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("half taken over: %v", err)
	}
	ada.ok("adopt", "--refuse", "Passport/bad.txt")
	ada.ok("sync now")
	if files := c.files(p); len(files) != 1 {
		t.Errorf("the server has %v", files)
	}
	calm(t, ada)
}

// alterLargest flips a byte of the largest object of the server.
func (s *served) alterLargest() {
	s.t.Helper()
	var largest string
	var size int64
	must(s.t, filepath.WalkDir(s.data, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.Contains(path, ".db") {
			return err
		}
		fi, err := e.Info()
		if err == nil && fi.Size() > size {
			largest, size = path, fi.Size()
		}
		return err
	}))
	content, err := os.ReadFile(largest)
	must(s.t, err)
	content[len(content)/2] ^= 1
	if bytes.HasPrefix(content, []byte("SQLite")) {
		s.t.Fatalf("%s is no object", largest)
	}
	must(s.t, os.WriteFile(largest, content, 0o600))
}
