package integration

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWhatIsHere: contents go from a device and come back, asked for or read,
// and what is pinned stays.
func TestWhatIsHere(t *testing.T) {
	t.Parallel()
	remote, _ := remotes["directory"](t)
	ada := newDevice(t, "ada", remote, nil, nil)
	here := ada.mountAgain()
	film := bytes.Repeat([]byte("film"), 8<<20)
	must(t, os.WriteFile(filepath.Join(here.asset("A"), "film"), film, 0o644))
	must(t, os.WriteFile(here.path("A", "text"), []byte("text"), 0o644))
	must(t, os.WriteFile(here.path("A", "stays"), []byte("stays"), 0o644))
	ada.ok("wait")
	bob := newBed(t)
	if r := bob.join("bob", remote, ada.address(), "--prefetch", "none"); r.code != 0 {
		t.Fatal(r)
	}
	there := bob.mountAgain()
	bob.ok("sync now")
	states := func(want ...string) {
		t.Helper()
		for i, name := range []string{"A/film", "A/text", "A/stays"} {
			if got := bob.fileState(name); got != want[i] {
				t.Errorf("%s is %s, want %s", name, got, want[i])
			}
		}
	}
	states("remote", "remote", "remote")
	bob.ok("pin", there.path("A", "stays"))
	states("remote", "remote", "clean")
	if got, err := os.ReadFile(there.path("A", "text")); string(got) != "text" || err != nil {
		t.Errorf("text reads %q, %v", got, err)
	}
	f, err := os.Open(there.path("A", "film"))
	must(t, err)
	part := make([]byte, 8)
	if _, err := f.ReadAt(part, 20<<20); err != nil || string(part) != "filmfilm" {
		t.Errorf("in the middle of the film: %q, %v", part, err)
	}
	must(t, f.Close())
	bob.ok("prefetch", "/")
	states("clean", "clean", "clean")
	if out := bob.run("evict", "A"); out.code != 0 || !strings.Contains(out.stderr, "A/stays: pinned") {
		t.Errorf("evict: %v", out)
	}
	states("remote", "remote", "clean")
	if got, err := os.ReadFile(there.path("A", "film")); !bytes.Equal(got, film) || err != nil {
		t.Errorf("the film: %d bytes, %v", len(got), err)
	}
	bob.ok("unpin", "A/stays")
	if r := bob.run("unpin", "A/stays"); r.code != 20 || !strings.Contains(r.stderr, "pin --list") {
		t.Errorf("unpin twice: %v", r)
	}
	there.unmount()
	if out := bob.ok("get", "A/text", "-"); out != "text" {
		t.Errorf("get without a mount: %q", out)
	}
	bob.checkClean()
}
