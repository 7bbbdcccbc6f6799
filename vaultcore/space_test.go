package vaultcore

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

func TestSpaceGuard(t *testing.T) {
	avail, calls := uint64(100*mib), 0
	g := &spaceGuard{reserve: 64 * mib, free: func() (uint64, uint64, error) {
		calls++
		return avail, 10 << 30, nil
	}}
	if err := g.promise(30 * mib); err != nil {
		t.Fatal(err)
	}
	if err := g.promise(5 * mib); err != nil {
		t.Fatal(err)
	}
	if calls > 1 && time.Since(g.asked) < freeMaxAge/2 {
		t.Errorf("asked %d times", calls)
	}
	wantErr(t, g.promise(2*mib), ErrNoSpace)
	wantErr(t, g.fits(2*mib), ErrNoSpace)
	if err := g.fits(mib / 2); err != nil {
		t.Error(err)
	}
	g.release(10 * mib)
	g.written(3 * mib)
	avail -= 3 * mib
	if err := g.promise(5 * mib); err != nil {
		t.Error(err)
	}
	tries := 0
	g.low = func() bool {
		tries++
		avail += 10 * mib
		return tries < 3
	}
	if err := g.promise(20 * mib); err != nil || tries != 2 {
		t.Errorf("%v after %d tries", err, tries)
	}
	wantErr(t, g.promise(500*mib), ErrNoSpace)
	g.free = func() (uint64, uint64, error) { return 0, 0, errors.New("gone") }
	g.forget()
	if err := g.promise(1); err == nil {
		t.Error("no error of the disk")
	}
}

func TestReserve(t *testing.T) {
	for _, c := range []struct{ total, want int64 }{
		{1 << 40, 64 * mib}, {1 << 30, 64 * mib}, {512 * mib, 32 * mib}, {8 * mib, mib}, {0, mib},
	} {
		if got := reserveOf(c.total, 64*mib); got != c.want {
			t.Errorf("of %d: %d, want %d", c.total, got, c.want)
		}
	}
}

// tinyDisk is a file system of its own of so many bytes.
func tinyDisk(t *testing.T, size string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skip("cannot mount a small file system: ", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// TestFullDiskIsSeenAtWrite: write fails before close can, and what was
// written before can be closed.
func TestFullDiskIsSeenAtWrite(t *testing.T) {
	for _, overwrite := range []bool{false, true} {
		ts := newTestStoreIn(t, tinyDisk(t, "16m"), Limits{V3Max: 2 * mib, DraftFile: 4 * mib, DraftTotal: 8 * mib})
		d := ts.newDraft(nil, 0)
		var want []byte
		var err error
		for i := 0; err == nil; i++ {
			p := noise(uint64(i), 300_000)
			if err = d.writeAt(p, int64(len(want))); err == nil {
				want = append(want, p...)
			}
			if overwrite && err == nil && len(want) > 500_000 {
				p := noise(uint64(i), 100)
				write(t, d, p, 400_000) // pages, and a log for them
				copy(want[400_000:], p)
			}
			if len(want) > 20*mib {
				t.Fatal("more than the disk was written")
			}
		}
		wantErr(t, err, ErrNoSpace)
		wantErr(t, d.truncate(40*mib), ErrNoSpace)
		wantErr(t, d.allocate(0, 40*mib, true), ErrNoSpace)
		if min := 4 * mib; len(want) < min {
			t.Errorf("only %d bytes could be written", len(want))
		}
		wantDraft(t, d, want)
		c := ts.finish(t, d)
		wantBytes(t, ts.readBack(t, c, mib), want)
		ts.idle(t)
	}
}

// TestLowSpaceIsMade: what the vault frees lets the write go on.
func TestLowSpaceIsMade(t *testing.T) {
	ts := newTestStoreIn(t, tinyDisk(t, "16m"), Limits{V3Max: 2 * mib})
	trash := filepath.Join(ts.dir, "trash")
	if err := os.WriteFile(trash, make([]byte, 12*mib), 0o600); err != nil {
		t.Fatal(err)
	}
	freed := 0
	ts.space.low = func() bool {
		if freed++; freed > 1 {
			return false
		}
		return os.Remove(trash) == nil
	}
	c := ts.writeAll(t, noise(1, 8*mib), mib)
	if freed != 1 {
		t.Errorf("asked %d times", freed)
	}
	ts.removeFile(binName(c.ref.blob))
}

// ballast fills the disk to the last block behind the guard's back.
func ballast(t *testing.T, dir string) (remove func()) {
	t.Helper()
	name := filepath.Join(dir, "ballast")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, pageSize))
	}
	return func() { os.Remove(name) }
}

// lie makes the guard believe in an endless disk, so that writes fail late.
func (ts *testStore) lie() {
	ts.space.free = func() (uint64, uint64, error) { return 1 << 50, 1 << 51, nil }
	ts.space.forget()
}

// TestWritesFailLate lets every kind of write to the disk fail for real. The
// draft keeps what it had, nothing is sealed twice under one index, and when
// there is room again all goes on.
func TestWritesFailLate(t *testing.T) {
	for _, shape := range []string{"flat", "stream", "stream in small writes", "finish of a stream", "pages", "log", "v4 pages"} {
		t.Run(shape, func(t *testing.T) {
			ts := newTestStoreIn(t, tinyDisk(t, "16m"), Limits{V3Max: 2 * mib, DraftFile: 6 * mib, DraftTotal: 8 * mib, StreamHead: 64 << 10})
			ts.lie()
			d := ts.newDraft(nil, 0)
			size := map[bool]int{true: mib, false: 3 * mib}[shape == "flat" || shape == "pages"]
			want := noise(1, size)
			for off := 0; off < size; off += 100_000 {
				write(t, d, want[off:min(off+100_000, size)], int64(off))
			}
			if shape == "pages" || shape == "v4 pages" || shape == "log" {
				write(t, d, []byte("over"), 700_000)
				copy(want[700_000:], "over")
			}
			if shape == "pages" {
				if err := d.truncate(0); err != nil {
					t.Fatal(err)
				}
				write(t, d, want[len(want)/2:], int64(len(want)/2))
				write(t, d, want[:len(want)/2], 0)
				d.toPagesForTest(t)
			}
			sealed := ts.chunks16(t)
			remove := ballast(t, ts.dir)
			switch shape {
			case "stream", "stream in small writes":
				step := map[string]int{"stream": mib, "stream in small writes": 5000}[shape]
				var err error
				for i := 0; err == nil && i < 10*mib/step; i++ {
					p := noise(uint64(i), step)
					// An acknowledged write counts, whatever comes of the next.
					if err = d.writeAt(p, int64(len(want))); err == nil {
						want = append(want, p...)
					}
				}
				wantErr(t, err, ErrNoSpace)
				if d.stream != nil {
					t.Error("the stream goes on after a failed write")
				}
			case "log":
				_, _, err := d.keep(true)
				wantErr(t, err, ErrNoSpace)
				if d.kept() {
					t.Error("kept nevertheless")
				}
			default:
				_, err := d.finish()
				wantErr(t, err, ErrNoSpace)
			}
			wantDraft(t, d, want)
			remove()
			for key, sum := range ts.chunks16(t) {
				if old, ok := sealed[key]; ok && old != sum {
					t.Errorf("chunk %d of %s was sealed twice", key.index, key.blob)
				}
			}
			wantDraft(t, d, want)
			write(t, d, []byte("after"), 10)
			copy(want[10:], "after")
			if _, _, err := d.keep(true); err != nil {
				t.Fatal(err)
			}
			c := ts.finish(t, d)
			wantBytes(t, ts.readBack(t, c, mib), want)
			ts.plain.trim()
			ts.idle(t)
			for _, name := range ts.files(t) {
				if name != binName(c.ref.blob) {
					t.Errorf("%s is left", name)
				}
			}
		})
	}
}

func (d *draft) toPagesForTest(t *testing.T) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.flat != nil {
		if err := d.toPagesLocked(); err != nil {
			t.Fatal(err)
		}
	}
}

// chunks16 gives the first bytes of every chunk in every file.
func (ts *testStore) chunks16(t *testing.T) map[chunkKey]string {
	t.Helper()
	out := map[chunkKey]string{}
	for _, name := range ts.files(t) {
		b, err := os.ReadFile(ts.path(name))
		if err != nil {
			t.Fatal(err)
		}
		stem, _, _ := bytes.Cut([]byte(name), []byte("."))
		for i := 0; seal.SealedOffV4(uint64(i+1)) <= int64(len(b)); i++ {
			if c := b[seal.SealedOffV4(uint64(i)):][:16]; !allZero(c) {
				out[chunkKey{string(stem), i}] = string(c)
			}
		}
	}
	return out
}

// What is fetched ahead leaves room to who saves, and nothing is given up for it.
func TestSpare(t *testing.T) {
	free, lows := int64(100*mib), 0
	g := &spaceGuard{reserve: 10 * mib, low: func() bool { lows++; return false }}
	g.free = func() (uint64, uint64, error) { return uint64(free), uint64(1000 * mib), nil }
	if err := g.spare(81 * mib); !errors.Is(err, ErrNoSpace) || lows > 0 {
		t.Fatalf("%v, room was made %d times", err, lows)
	}
	if err := g.spare(80 * mib); err != nil {
		t.Fatal(err)
	}
	if err := g.promise(10 * mib); err != nil {
		t.Fatalf("a save finds no room: %v", err)
	}
	if err := g.promise(1); !errors.Is(err, ErrNoSpace) || lows == 0 {
		t.Fatalf("%v, room was made %d times", err, lows)
	}
	free = 200 * mib
	g.release(90 * mib)
	if err := g.spare(180 * mib); err != nil {
		t.Fatalf("after room was made: %v", err)
	}
}
