package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMovesOfRemote takes a mounted vault of two devices from a directory to a
// bucket, to a server and back, while both write. The second device holds nothing
// itself: it may not move before its contents are there too.
func TestMovesOfRemote(t *testing.T) {
	t.Parallel()
	nas, _ := remotes["directory"](t)
	bucket, keys := remotes["bucket"](t)
	server, _ := remotes["server"](t)
	ada := newDevice(t, "ada", nas, keys, nil)
	bob := newDevice(t, "bob", nas, keys, ada)
	ada.enroll() // Argon2id for each command takes its time
	bob.enroll()
	bob.ok("sync enable", "--prefetch", "none")
	here, there := ada.mountAgain(), bob.mountAgain()
	want := map[string]string{}
	write := func(m *mount, name string) {
		want[name] = strings.Repeat(name+" ", 20_000)
		must(t, os.WriteFile(m.path("Letters", name), []byte(want[name]), 0o644))
	}
	here.asset("Letters")
	write(here, "first")
	syncAll(ada, bob)
	for _, next := range []string{bucket, server, nas} {
		write(here, "ada before "+filepath.Base(next)[:3])
		syncAll(ada, bob)
		write(there, "bob before "+filepath.Base(next)[:3])
		syncAll(bob, ada) // or ada's last look may find a content that it would lose
		r := bob.run("sync enable", next)
		if r.code != 51 || !strings.Contains(r.stderr, "prefetch") {
			t.Fatalf("bob moves away from what it does not have: %v; want 51 and what to do", r)
		}
		if s := bob.syncStatus(); s.Remote == next || s.State == "disabled" {
			t.Fatalf("after the refusal: %+v", s)
		}
		if r := ada.run("sync enable", next); r.code != 0 || !strings.Contains(r.stderr, "It has moved from") {
			t.Fatalf("ada moves: %v", r)
		}
		write(here, "ada after "+filepath.Base(next)[:3])
		ada.ok("sync now")
		bob.ok("sync enable", next)
		write(there, "bob after "+filepath.Base(next)[:3])
		syncAll(bob, ada)
		for _, m := range []*mount{here, there} {
			for name, text := range want {
				if got, err := os.ReadFile(m.path("Letters", name)); string(got) != text || err != nil {
					t.Errorf("%s: %d bytes, %v", name, len(got), err)
				}
			}
		}
		bob.ok("evict", "/")
		for _, b := range []*bed{ada, bob} {
			if s := b.syncStatus(); s.Remote != next || len(s.Conditions) != 0 || s.State != "idle" {
				t.Errorf("at %s: %+v", next, s)
			}
		}
	}
	here.unmount()
	there.unmount()
	ada.checkClean()
	bob.checkClean()
}

// TestMoveByPrefetch: who is alone with a vault that lies elsewhere gets it here
// first, as the refusal says.
func TestMoveByPrefetch(t *testing.T) {
	t.Parallel()
	nas, _ := remotes["directory"](t)
	next, _ := remotes["directory"](t)
	ada := newDevice(t, "ada", nas, nil, nil)
	ada.ok("asset add", "Letters")
	ada.putText("a letter", "Letters/one")
	ada.ok("sync now")
	ada.ok("evict", "/")
	if r := ada.run("sync enable", next); r.code != 51 || !strings.Contains(r.stderr, "prefetch /") {
		t.Fatalf("moving away from the only copy: %v; want 51 and what to do", r)
	}
	ada.ok("sync disable")
	if r := ada.run("sync enable", next); r.code != 51 || !strings.Contains(r.stderr, "sync enable") {
		t.Fatalf("the same while it is off: %v; want 51 and what to do", r)
	}
	ada.ok("sync enable")
	ada.ok("prefetch", "/")
	ada.ok("sync enable", next)
	ada.ok("sync now")
	must(t, os.RemoveAll(strings.TrimPrefix(nas, "file://")))
	must(t, os.Mkdir(strings.TrimPrefix(nas, "file://"), 0o700)) // the test's own end removes it
	if got := ada.ok("get", "Letters/one", "-"); got != "a letter" {
		t.Errorf("it reads %q", got)
	}
	waitFor(t, "all is done at the new place", patience, func() bool { return ada.syncStatus().Queue == 0 })
}
