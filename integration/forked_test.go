package integration

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestWaitForForkedWriter: the children of a program close, one after the other, what
// it writes, and one of them has it open for as long as it runs. What the program closes
// is safe elsewhere once wait says so.
func TestWaitForForkedWriter(t *testing.T) {
	t.Parallel()
	remote, _ := remotes["directory"](t)
	ada := newDevice(t, "ada", remote, nil, nil)
	here := ada.mountAgain()
	film := bytes.Repeat([]byte("film"), 1<<20)
	f, err := os.Create(filepath.Join(here.asset("A"), "film"))
	must(t, err)
	fork := func() *os.File {
		// Not for what other tests run meanwhile.
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		must(t, err)
		return os.NewFile(uintptr(fd), "film")
	}
	_, err = f.Write(film[:1<<20])
	must(t, err)
	must(t, fork().Close())
	_, err = f.Write(film[1<<20:])
	must(t, err)
	child := fork()
	must(t, f.Close())
	ada.ok("wait")
	bob := newBed(t)
	if r := bob.join("bob", remote, ada.address()); r.code != 0 {
		t.Fatal(r)
	}
	there := bob.mountAgain()
	bob.ok("sync now")
	if got, err := os.ReadFile(there.path("A", "film")); !bytes.Equal(got, film) || err != nil {
		t.Errorf("the film: %d bytes, %v", len(got), err)
	}
	must(t, child.Close())
}
