package integration

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"
)

// Twelve readers and a writer on one file, each kind of content, each way of
// saving. A reader that opened the file sees one revision, or a later one, whole.
func TestTwelveReadersAndAWriter(t *testing.T) {
	t.Parallel()
	b := newVault(t)
	m := b.mount()
	dir := m.asset("A")
	const rounds = 30
	for name, size := range map[string]int{"row": 9000, "file": 400_000, "stream": 27 << 20} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, name)
			must(t, os.WriteFile(file, pattern(1, 0, size), 0o600))
			n := rounds
			if size > 1<<20 {
				n = 4
			}
			var done atomic.Bool
			var reads atomic.Int64
			var group errgroup.Group
			for range 12 {
				group.Go(func() error {
					for !done.Load() {
						if err := readRevision(file, size); err != nil {
							return err
						}
						reads.Add(1)
					}
					return nil
				})
			}
			group.Go(func() error {
				defer done.Store(true)
				for rev := 1; rev <= n; rev++ {
					temp := file + ".new"
					if err := os.WriteFile(temp, pattern(1, uint32(rev), size), 0o600); err != nil {
						return err
					}
					if err := os.Rename(temp, file); err != nil {
						return err
					}
				}
				return nil
			})
			must(t, group.Wait())
			if reads.Load() < 12 {
				t.Errorf("only %d reads", reads.Load())
			}
		})
	}
	m.unmount()
	b.checkClean()
}

// readRevision reads a file that is replaced under its name: an open file is one
// revision to its end.
func readRevision(file string, size int) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	if len(data) != size {
		return fmt.Errorf("read %d bytes of %d", len(data), size)
	}
	rev := binary.BigEndian.Uint32(data[4:])
	if string(data) != string(pattern(1, rev, size)) {
		return errors.New("a mixture: " + describe(data))
	}
	return nil
}

// Readers of a file that is written in place see bytes that were written to that
// page, never anything else, and the last state is right. A page may be half old
// and half new: the kernel copies to and from its cache at the same time.
func TestReadersOfAFileWrittenInPlace(t *testing.T) {
	t.Parallel()
	b := newVault(t)
	m := b.mount()
	file := filepath.Join(m.asset("A"), "file")
	const page, pages = 4096, 200
	must(t, os.WriteFile(file, make([]byte, page*pages), 0o600))
	var done atomic.Bool
	var group errgroup.Group
	for range 12 {
		group.Go(func() error {
			buf := make([]byte, page)
			for !done.Load() {
				f, err := os.Open(file)
				if err != nil {
					return err
				}
				for i := range pages {
					if _, err := f.ReadAt(buf, int64(i)*page); err != nil {
						f.Close()
						return err
					}
					for _, c := range buf {
						if c != 0 && int(c)%3 != i%3 {
							f.Close()
							return fmt.Errorf("page %d holds %d, which was never written there", i, c)
						}
					}
				}
				f.Close()
			}
			return nil
		})
	}
	last := make([]byte, pages)
	group.Go(func() error {
		defer done.Store(true)
		for round := 1; round <= 20; round++ {
			f, err := os.OpenFile(file, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			for i := round % 3; i < pages; i += 3 {
				data := make([]byte, page)
				for j := range data {
					data[j] = byte(round)
				}
				last[i] = byte(round)
				if _, err := f.WriteAt(data, int64(i)*page); err != nil {
					return err
				}
			}
			if round%4 == 0 {
				if err := f.Sync(); err != nil {
					return err
				}
			}
			if err := f.Close(); err != nil {
				return err
			}
		}
		return nil
	})
	must(t, group.Wait())
	m.unmount()
	m = b.mount()
	data, err := os.ReadFile(m.path("A", "file"))
	must(t, err)
	for i, want := range last {
		if data[i*page] != want {
			t.Errorf("page %d holds %d, want %d", i, data[i*page], want)
		}
	}
	m.unmount()
	b.checkClean()
}

// Many writers in one directory, names coming and going, listings beside them.
func TestBusyDirectory(t *testing.T) {
	t.Parallel()
	b := newVault(t)
	m := b.mount()
	dir := m.asset("A")
	const still = 200 // files nobody touches: each listing has each of them once
	for i := range still {
		must(t, os.WriteFile(filepath.Join(dir, fmt.Sprint("still-", i)), []byte("still"), 0o600))
	}
	var group errgroup.Group
	var done atomic.Bool
	var writers sync.WaitGroup
	for w := range 6 {
		writers.Add(1)
		group.Go(func() error {
			defer writers.Done()
			rnd := rand.New(rand.NewPCG(uint64(w), 9))
			for i := range 150 {
				name := filepath.Join(dir, fmt.Sprintf("w%d-%d", w, rnd.IntN(20)))
				var err error
				switch i % 4 {
				case 0, 1:
					err = os.WriteFile(name, pattern(uint32(w), uint32(i), 8+rnd.IntN(50_000)), 0o600)
				case 2:
					err = os.Rename(name, fmt.Sprintf("%s-moved", name))
				case 3:
					err = os.Remove(name)
				}
				if err != nil && !errors.Is(err, os.ErrNotExist) {
					return err
				}
			}
			return nil
		})
	}
	for range 2 {
		group.Go(func() error {
			for !done.Load() {
				list, err := os.ReadDir(dir)
				if err != nil {
					return err
				}
				seen := map[string]int{}
				for _, e := range list {
					seen[e.Name()]++
					if _, err := e.Info(); err != nil && !errors.Is(err, os.ErrNotExist) {
						return err
					}
				}
				for i := range still {
					if n := seen[fmt.Sprint("still-", i)]; n != 1 {
						return fmt.Errorf("still-%d is listed %d times", i, n)
					}
				}
			}
			return nil
		})
	}
	writers.Wait()
	done.Store(true)
	must(t, group.Wait())
	want := snapshot(t, dir)
	m.unmount()
	m = b.mount()
	sameTree(t, snapshot(t, dir), want)
	m.unmount()
	b.checkClean()
}
