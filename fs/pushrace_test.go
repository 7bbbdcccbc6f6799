package fs

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPushesAreNeverOld lets readers, writers and truncations race on a file
// that is opened whole and on a chunked one.
func TestPushesAreNeverOld(t *testing.T) {
	m := mountVault(t, nil)
	inClient(t, "^TestStampsInClient$", m.a)
	if m.s.Counters().Pushed == 0 {
		t.Error("nothing was pushed")
	}
}

func TestStampsInClient(t *testing.T) {
	dir := clientDir(t)
	for _, pages := range []int{6, 64} {
		t.Run(fmt.Sprint(pages), func(t *testing.T) { raceStamps(t, fmt.Sprintf("%s/%d", dir, pages), pages) })
	}
}

const stampPage = 4096

// stamped is a file whose pages are full of one number each: the version
// that was written last, 0 where a truncation has been.
type stamped struct {
	path  string
	floor []atomic.Uint64 // version<<1 that every later read must show at least; +1: or zeros
	cuts  atomic.Uint64   // truncations announced
	last  uint64
	stop  atomic.Bool
}

func newStamped(t *testing.T, path string, pages int) *stamped {
	t.Helper()
	check(t, os.WriteFile(path, make([]byte, pages*stampPage), 0o600))
	return &stamped{path: path, floor: make([]atomic.Uint64, pages)}
}

func raceStamps(t *testing.T, path string, pages int) {
	s := newStamped(t, path, pages)
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			if err := s.read(); err != nil {
				t.Error(err)
			}
		})
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for round := 0; round < 400 && !t.Failed(); round++ {
		check(t, s.write(rng, round))
	}
	s.stop.Store(true)
	readers.Wait()
}

// write opens the file, writes a few pages, cuts it now and then, and closes
// it, so that there are times with and times without a writer.
func (s *stamped) write(rng *rand.Rand, round int) error {
	if round%7 == 3 {
		// By path: no handle of the program's.
		if err := s.cut(rng.IntN(len(s.floor)), func(size int64) error { return unix.Truncate(s.path, size) }); err != nil {
			return err
		}
	}
	fd, err := unix.Open(s.path, unix.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if round%5 == 4 {
		if err := s.cut(rng.IntN(len(s.floor)), func(size int64) error { return unix.Ftruncate(fd, size) }); err != nil {
			return err
		}
	}
	for range 4 {
		p := rng.IntN(len(s.floor))
		s.last++
		if round%3 == 0 {
			err = s.putMapped(fd, p)
		} else {
			_, err = unix.Pwrite(fd, s.page(), int64(p)*stampPage)
		}
		if err != nil {
			return err
		}
		s.floor[p].Store(s.last << 1)
	}
	return nil
}

func (s *stamped) page() []byte {
	var b []byte
	for len(b) < stampPage {
		b = binary.LittleEndian.AppendUint64(b, s.last)
	}
	return b
}

func (s *stamped) putMapped(fd, p int) error {
	if err := unix.Ftruncate(fd, int64(len(s.floor)*stampPage)); err != nil {
		return err
	}
	m, err := unix.Mmap(fd, int64(p)*stampPage, stampPage, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	copy(m, s.page())
	return unix.Munmap(m)
}

// cut shortens the file and makes it long again: the pages behind are zeros.
func (s *stamped) cut(at int, truncate func(int64) error) error {
	for p := at; p < len(s.floor); p++ {
		s.floor[p].Store(s.floor[p].Load() | 1)
	}
	s.cuts.Add(1) // for readers that have just seen the floor without zeros
	s.last++
	if err := truncate(int64(at) * stampPage); err != nil {
		return err
	}
	if err := truncate(int64(len(s.floor)) * stampPage); err != nil {
		return err
	}
	for p := at; p < len(s.floor); p++ {
		s.floor[p].Store(s.last<<1 | 1)
	}
	return nil
}

// read looks at random pages through handles of its own, and has the kernel
// forget the file often enough to need the server.
func (s *stamped) read() error {
	rng := rand.New(rand.NewPCG(rand.Uint64(), 3))
	for !s.stop.Load() {
		fd, err := unix.Open(s.path, unix.O_RDONLY, 0)
		if err != nil {
			return err
		}
		if err := unix.Fadvise(fd, 0, 0, unix.FADV_RANDOM); err != nil {
			return err
		}
		for range 20 {
			if err := s.look(fd, rng.IntN(len(s.floor))); err != nil {
				unix.Close(fd)
				return err
			}
		}
		unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED)
		unix.Close(fd)
	}
	return nil
}

func (s *stamped) look(fd, p int) error {
	cuts := s.cuts.Load()
	floor := s.floor[p].Load()
	var b [stampPage]byte
	n, err := unix.Pread(fd, b[:], int64(p)*stampPage)
	if err != nil || n < stampPage {
		return err // cut just now
	}
	for i := 0; i < stampPage; i += 8 {
		v := binary.LittleEndian.Uint64(b[i:])
		zeros := v == 0 && (floor&1 != 0 || s.cuts.Load() != cuts)
		if v < floor>>1 && !zeros {
			return fmt.Errorf("page %d of %d shows version %d after %d", p, len(s.floor), v, floor>>1)
		}
	}
	return nil
}
