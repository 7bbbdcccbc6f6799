package blob_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// alignedMem gives n bytes that begin at a multiple of blob.Align.
func alignedMem(n int) []byte {
	b := make([]byte, n+blob.Align)
	skip := -int(uintptr(unsafe.Pointer(&b[0]))) & (blob.Align - 1)
	return b[skip:][:n:n]
}

func randomBytes(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// placed is b in memory that lies as off does in a file, with room behind it.
func placed(b []byte, off int64) []byte {
	mem := alignedMem(int(blob.MemFor(off, int64(len(b)))))
	dst := mem[off%blob.Align:][:len(b)]
	copy(dst, b)
	return dst
}

// everyWay runs f on directories with and without direct I/O, real and feigned.
func everyWay(t *testing.T, f func(t *testing.T, d *blob.Dir)) {
	t.Run("disk", func(t *testing.T) { f(t, openDir(t, t.TempDir())) })
	t.Run("no direct", func(t *testing.T) {
		d := openDir(t, t.TempDir())
		blob.PretendBuffered(d)
		f(t, d)
	})
	t.Run("mute", func(t *testing.T) {
		d := openDir(t, t.TempDir())
		blob.PretendMute(d)
		f(t, d)
	})
	t.Run("memory", func(t *testing.T) {
		dir, err := os.MkdirTemp("/dev/shm", "vaultdrive-test-")
		if err != nil {
			t.Skip("no file system in memory")
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		f(t, openDir(t, dir))
	})
	t.Run("no O_DIRECT", func(t *testing.T) {
		dir := t.TempDir()
		if err := unix.Mount("ramfs", dir, "ramfs", 0, ""); err != nil {
			t.Skip("cannot mount a file system without O_DIRECT: ", err)
		}
		t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
		f(t, openDir(t, dir))
	})
}

// dropCached takes a file out of the page cache.
func dropCached(t *testing.T, f *os.File) {
	t.Helper()
	if err := errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)); err != nil {
		t.Fatal(err)
	}
}

// edges are lengths and offsets around which direct I/O changes its course.
var edges = []int{0, 1, 511, 512, 4095, 4096, 4097, 8191, 8192, 12_289, 131_071, 131_072, 131_073, 1<<20 - 1, 1 << 20, 1<<20 + 1, 3<<20 + 77}

func TestDirectEdges(t *testing.T) {
	everyWay(t, func(t *testing.T, d *blob.Dir) {
		all := randomBytes(1, 5<<20)
		for i, size := range edges {
			name := fmt.Sprintf("f%d", i)
			f, err := d.CreateFile(name)
			if err != nil {
				t.Fatal(err)
			}
			// Written in two pieces that meet at a border or beside it.
			cut := size / 2
			if i%2 == 0 {
				cut &^= blob.Align - 1
			}
			for _, p := range [][2]int{{0, cut}, {cut, size}} {
				if err := f.WriteDirect(placed(all[p[0]:p[1]], int64(p[0])), int64(p[0])); err != nil {
					t.Fatal(err)
				}
			}
			for _, cold := range []bool{false, true} {
				if cold {
					dropCached(t, f.File)
				}
				checkRanges(t, f, all[:size])
				checkWhole(t, d, name, all[:size])
			}
			f.Close()
		}
	})
}

// checkRanges reads f between all edges; want is all it holds.
func checkRanges(t *testing.T, f *blob.File, want []byte) {
	t.Helper()
	mem := alignedMem(5 << 20)
	for _, off := range edges {
		for _, n := range []int{1, 4095, 4096, 16_400, 1 << 20} {
			got, err := f.ReadInto(mem, int64(off), int64(n))
			if off+n > len(want) {
				if err != io.ErrUnexpectedEOF {
					t.Fatalf("%d bytes at %d of %d: %v", n, off, len(want), err)
				}
				continue
			}
			if err != nil || !bytes.Equal(got, want[off:off+n]) {
				t.Fatalf("%d bytes at %d of %d: %v, or they differ", n, off, len(want), err)
			}
		}
	}
}

// checkWhole reads the file whole, in pieces and at once, into memory that is
// good for direct I/O, too short for it, and not aligned.
func checkWhole(t *testing.T, d *blob.Dir, name string, want []byte) {
	t.Helper()
	for _, mem := range [][]byte{placed(want, 0), alignedMem(len(want)), placed(want, 77)} {
		clear(mem)
		var mu sync.Mutex
		var seen int
		err := d.ReadPieces(name, mem, func(from, to int) {
			mu.Lock()
			defer mu.Unlock()
			seen += to - from
			if from%(512<<10) != 0 || !bytes.Equal(mem[from:to], want[from:to]) {
				t.Errorf("piece %d to %d of %d is not there", from, to, len(want))
			}
		})
		if err != nil || seen != len(want) {
			t.Fatalf("%d of %d bytes told: %v", seen, len(want), err)
		}
		clear(mem)
		if err := d.ReadFull(name, mem); err != nil || !bytes.Equal(mem, want) {
			t.Fatalf("whole file of %d: %v, or it differs", len(want), err)
		}
	}
	for _, n := range []int{len(want) - 1, len(want) + 1, len(want) + 1<<20} {
		if n < 0 {
			continue
		}
		if err := d.ReadFull(name, alignedMem(n)); !errors.Is(err, blob.ErrSize) {
			t.Errorf("a file of %d bytes read as %d: %v", len(want), n, err)
		}
	}
}

// TestDirectGoesPast: on a disk that can do it, nothing stays in the page cache.
func TestDirectGoesPast(t *testing.T) {
	d := openDir(t, t.TempDir())
	f, err := d.CreateFile("f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data := randomBytes(2, 2<<20)
	if err := f.WriteDirect(placed(data, 0), 0); err != nil {
		t.Fatal(err)
	}
	if !blob.IsDirect(f) {
		t.Skip("no direct I/O in ", filepath.Dir(f.Name()))
	}
	if _, err := f.ReadInto(alignedMem(2<<20), 0, 2<<20); err != nil {
		t.Fatal(err)
	}
	iov := [][]byte{make([]byte, 1)}
	if n, err := unix.Preadv2(int(f.Fd()), iov, 1<<20, unix.RWF_NOWAIT); err != unix.EAGAIN {
		t.Errorf("%d bytes in the page cache, %v", n, err)
	}
	// What is only in the page cache is read from there.
	if _, err := f.WriteAt(data[:5000], 1<<20); err != nil {
		t.Fatal(err)
	}
	copy(data[1<<20:], data[:5000])
	got, err := f.ReadInto(alignedMem(2<<20), 0, 2<<20)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("read of a file half in the page cache: %v, or it differs", err)
	}
}

// TestDirectBreaks: when direct I/O fails half way, nobody notices.
func TestDirectBreaks(t *testing.T) {
	d := openDir(t, t.TempDir())
	f, err := d.CreateFile("f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data := randomBytes(3, 3<<20)
	if err := f.WriteDirect(placed(data[:1<<20], 0), 0); err != nil {
		t.Fatal(err)
	}
	blob.BreakDirect(f)
	if err := f.WriteDirect(placed(data[1<<20:], 1<<20), 1<<20); err != nil {
		t.Fatal(err)
	}
	dropCached(t, f.File)
	checkRanges(t, f, data)
	checkWhole(t, d, "f", data)
	if blob.IsDirect(f) {
		t.Error("direct after all")
	}
}

// TestDirectRenamed: a file that is no more under its name is read all the same.
func TestDirectRenamed(t *testing.T) {
	d := openDir(t, t.TempDir())
	data := randomBytes(4, 1<<20)
	for _, first := range []bool{false, true} {
		f, err := d.CreateFile("a")
		if err != nil {
			t.Fatal(err)
		}
		if first {
			err = f.WriteDirect(placed(data, 0), 0)
		} else {
			_, err = f.WriteAt(data, 0)
		}
		if err = errors.Join(err, d.Rename("a", "b"), d.Remove("b")); err != nil {
			t.Fatal(err)
		}
		dropCached(t, f.File)
		checkRanges(t, f, data)
		f.Close()
	}
}

func TestDirectMisuse(t *testing.T) {
	d := openDir(t, t.TempDir())
	writeFile(t, d, "f", "text")
	f, err := d.OpenFile("f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	mem := alignedMem(blob.Align)
	for _, c := range [][2]int64{{-1, 1}, {0, -1}, {0, blob.Align + 1}, {4000, 200}} {
		if _, err := f.ReadInto(mem, c[0], c[1]); err == nil || err == io.ErrUnexpectedEOF {
			t.Errorf("%d bytes at %d: %v", c[1], c[0], err)
		}
	}
	if err := f.WriteDirect(placed(make([]byte, 8192), 0), 0); err == nil {
		t.Error("wrote a file that is only read")
	}
	if _, err := d.OpenFile("none"); !errors.Is(err, blob.ErrNotFound) {
		t.Error(err)
	}
	if _, err := d.CreateFile("f"); !errors.Is(err, blob.ErrExist) {
		t.Error(err)
	}
}

func TestDirectAllocatesNothing(t *testing.T) {
	d := openDir(t, t.TempDir())
	f, err := d.CreateFile("f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, mem := placed(randomBytes(5, 1<<20), 0), alignedMem(1<<20)
	if err := f.WriteDirect(data, 0); err != nil {
		t.Fatal(err)
	}
	got := testing.AllocsPerRun(50, func() {
		if _, err := f.ReadInto(mem, 16_464, 900_000); err != nil {
			t.Fatal(err)
		}
		if err := f.WriteDirect(data[:8192], 0); err != nil {
			t.Fatal(err)
		}
	})
	if got != 0 {
		t.Errorf("%.1f allocations", got)
	}
}
