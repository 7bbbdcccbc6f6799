package fs

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestReadsAhead opens files in the order of the listing and wants those that
// follow to be there before they are opened; in another order, nothing.
func TestReadsAhead(t *testing.T) {
	m := mountVault(t, nil)
	c := startClient(t)
	const files = 30
	name := func(i int) string { return fmt.Sprintf("d/%02d", i) }
	for i := range files {
		m.put("A/"+name(i), fmt.Sprint("content of ", i))
	}
	read := func(i int) {
		t.Helper()
		if got := c.read(m.a + "/" + name(i)); got != fmt.Sprint("content of ", i) {
			t.Errorf("%d reads %q", i, got)
		}
	}
	c.must(call{Op: "lsl", Path: m.a + "/d"})
	for i := files - 1; i >= files-6; i-- {
		read(i)
	}
	if n := m.s.Counters().Pushed; n != 6 {
		t.Errorf("%d pushes for 6 files", n)
	}
	for i := range 3 {
		read(i)
	}
	for i := 3; i < 3+aheadFiles; i++ {
		n := m.node("A/" + name(i))
		eventually(t, fmt.Sprint("the kernel has ", i), n.Kept.Load)
	}
	if m.node("A/" + name(4+aheadFiles)).Kept.Load() {
		t.Error("reads too far ahead")
	}
	m.done(m.v.Remove("A/"+name(4), false)) // leaving one out is no other order
	for i := 3; i < files; i++ {
		if i != 4 {
			read(i)
		}
	}
	eventually(t, "RELEASE", func() bool { return m.s.Counters().Handles == 0 })
}

// TestAheadStops unmounts while files are being read ahead.
func TestAheadStops(t *testing.T) {
	m := mountVault(t, nil)
	c := startClient(t)
	for i := range 20 {
		m.put(fmt.Sprintf("A/d/%02d", i), "content")
	}
	c.must(call{Op: "lsl", Path: m.a + "/d"})
	for range 5 {
		for i := range 4 {
			c.read(fmt.Sprintf("%s/d/%02d", m.a, i))
		}
		m.unmount()
		m.mount(nil)
	}
}

// TestAheadIsNeverOld lets files be written that others read in order.
func TestAheadIsNeverOld(t *testing.T) {
	m := mountVault(t, nil)
	inClient(t, "^TestStampedFilesInClient$", m.a)
}

func TestStampedFilesInClient(t *testing.T) {
	dir := clientDir(t)
	var files [12]*stamped
	for i := range files {
		files[i] = newStamped(t, fmt.Sprintf("%s/%02d", dir, i), 1)
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				for _, s := range files {
					if err := s.readOnce(); err != nil {
						t.Error(err)
					}
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	rng := rand.New(rand.NewPCG(4, 5))
	for start := time.Now(); time.Since(start) < time.Second && !t.Failed(); {
		check(t, files[rng.IntN(len(files))].write(rng, rng.IntN(1000)))
	}
	close(stop)
	readers.Wait()
}

func (s *stamped) readOnce() error {
	fd, err := unix.Open(s.path, unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = s.look(fd, 0)
	unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED)
	return err
}
