package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// pairOf are ada, who has files in A and has sent them, and bob, who has joined.
func pairOf(t *testing.T, files map[string][]byte) (ada, bob *bed, remote string) {
	t.Helper()
	needFUSE(t)
	remote = "file://" + shortTemp(t, "nas")
	ada = newDevice(t, "ada", remote, nil, nil)
	ada.enroll()
	ada.ok("asset add", "A")
	for name, data := range files {
		ada.ok("put", ada.file(name, string(data)), "A/"+name)
	}
	ada.ok("sync now")
	bob = newDevice(t, "bob", remote, nil, ada)
	bob.enroll()
	return ada, bob, remote
}

// noneOrphaned fails for files beside the contents that nothing will ever remove.
func (b *bed) noneOrphaned() {
	b.t.Helper()
	b.checkClean()
	names, err := filepath.Glob(filepath.Join(b.vault, "attachments", "*"))
	must(b.t, err)
	for _, name := range names {
		if strings.HasSuffix(name, ".part") {
			b.t.Errorf("%s stays behind", filepath.Base(name))
		}
	}
}

// sizesOfContents are one of each kind: in a row, whole, and in pieces.
func sizesOfContents() map[string][]byte {
	return map[string][]byte{"small": pattern(1, 1, 900), "middle": pattern(2, 1, 200_000), "large": pattern(3, 1, 5<<20), "other": pattern(4, 1, 1_100_000)}
}

// diesIn mounts with a daemon that dies at its n-th of some calls, and runs a command,
// which may find nobody. It says whether the daemon died of that.
func (b *bed) diesIn(calls string, n int, command string, args ...string) bool {
	m := b.prepare()
	m.cmd = b.dying(m.cmd, calls, n)
	if m.launch() == nil {
		b.run(command, args...)
	}
	return m.end()
}

// The daemon dies anywhere while contents come: afterwards each is here or is
// fetched again, and no half of one stays.
func TestKilledWhileContentsCome(t *testing.T) {
	t.Parallel()
	needTool(t, "strace", "strace")
	files := sizesOfContents()
	for _, lethal := range lethalCalls {
		t.Run(lethal.name, func(t *testing.T) {
			t.Parallel()
			ada, bob, _ := pairOf(t, files)
			m := bob.mountAgain()
			bob.ok("sync now")
			died := 0
			for i, n := range steps(120) {
				m.unmount()
				name := fmt.Sprintf("new-%d", i)
				files := map[string][]byte{name: pattern(uint32(n), 2, 300_000), name + "-l": pattern(uint32(n), 3, 3<<20)}
				for name, data := range files {
					ada.ok("put", ada.file(name, string(data)), "A/"+name)
				}
				ada.ok("sync now")
				if bob.diesIn(lethal.calls, n, "sync now") {
					died++
				}
				m = bob.mountAgain()
				bob.ok("sync now")
				m.sameFiles(files)
			}
			m.sameFiles(files)
			m.unmount()
			bob.noneOrphaned()
			enoughDeaths(t, died)
		})
	}
}

// The daemon dies anywhere while it gives contents up: each is here, or comes
// again from the remote.
func TestKilledWhileEvicting(t *testing.T) {
	t.Parallel()
	needTool(t, "strace", "strace")
	files := sizesOfContents()
	for _, lethal := range lethalCalls {
		t.Run(lethal.name, func(t *testing.T) {
			t.Parallel()
			_, bob, _ := pairOf(t, files)
			died := 0
			for _, n := range steps(120) {
				m := bob.mountAgain()
				bob.ok("sync now")
				bob.ok("prefetch", "A")
				m.sameFiles(files)
				m.unmount()
				if bob.diesIn(lethal.calls, n, "evict", "A") {
					died++
				}
				m = bob.mountAgain()
				m.sameFiles(files)
				m.unmount()
				bob.noneOrphaned()
			}
			enoughDeaths(t, died)
		})
	}
}

// join dies anywhere: it can be done again, with the same device or another, and
// brings everything.
func TestJoinKilledBetweenCalls(t *testing.T) {
	t.Parallel()
	needTool(t, "strace", "strace")
	files := sizesOfContents()
	for _, lethal := range lethalCalls {
		t.Run(lethal.name, func(t *testing.T) {
			t.Parallel()
			ada, _, remote := pairOf(t, files)
			address, died := ada.address(), 0
			for _, n := range steps(250) {
				bob := newBed(t)
				args := []string{"join", "--vault", bob.vault, "--password-file", bob.password, "--device-name", "bob", "--remote", remote, "--yes", address}
				r := bob.finish(bob.dying(bob.plain(args...), lethal.calls, n))
				if r.code == 0 {
					break
				}
				died++
				if r := bob.join("bob", remote, address); r.code != 0 {
					// What there is of the vault works, then.
					if _, err := os.Stat(filepath.Join(bob.vault, "header.json")); err != nil {
						t.Fatalf("call %d: joining again: %v", n, r)
					}
				}
				bob.ok("sync now")
				waitFor(t, "everything is there", patience, func() bool { return bob.run("get", "A/large", "-").stdout == string(files["large"]) })
				for name, data := range files {
					if got := bob.ok("get", "A/"+name, "-"); got != string(data) {
						t.Fatalf("call %d: %s: %s", n, name, describe([]byte(got)))
					}
				}
				bob.checkClean()
			}
			enoughDeaths(t, died)
		})
	}
}
