package vaultcore

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// benchStore lies in memory where there is a memory file system, so that the
// figures are of this code.
func benchStore(b *testing.B, v4 bool) *testStore {
	b.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "vaultdrive-bench-")
	if err != nil {
		dir = b.TempDir()
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	ts := newTestStoreIn(b, dir, Limits{})
	ts.v4 = v4
	return ts
}

// BenchmarkDraft writes new files of a size in requests of 1 MiB at most.
func BenchmarkDraft(b *testing.B) {
	for _, c := range []struct {
		name string
		size int
		v4   bool
	}{
		{"fresh-4KiB", 4 << 10, false}, {"v3-64KiB", 64 << 10, false}, {"v3-5MiB", 5 << 20, false},
		{"v4-5MiB", 5 << 20, true}, {"v4-1GiB", 1 << 30, false},
	} {
		b.Run(c.name, func(b *testing.B) {
			ts := benchStore(b, c.v4)
			data := noise(1, min(c.size, mib))
			b.SetBytes(int64(c.size))
			b.ReportAllocs()
			for b.Loop() {
				d := ts.newDraft(nil, 0)
				for off := 0; off < c.size; off += len(data) {
					if err := d.writeAt(data, int64(off)); err != nil {
						b.Fatal(err)
					}
				}
				sc, err := d.finish()
				if err != nil {
					b.Fatal(err)
				}
				d.committed()
				ts.keys.Remove(sc.ref.blob)
				if sc.fresh == nil {
					ts.removeFile(binName(sc.ref.blob))
				}
			}
		})
	}
}

// BenchmarkDraftSmallWrites appends 4 KiB at a time to one stream.
func BenchmarkDraftSmallWrites(b *testing.B) {
	ts := benchStore(b, false)
	data := noise(1, pageSize)
	d := ts.newDraft(nil, 0)
	b.SetBytes(pageSize)
	b.ReportAllocs()
	off := int64(0)
	for b.Loop() {
		if off == 1<<30 {
			d.discard()
			d, off = ts.newDraft(nil, 0), 0
		}
		if err := d.writeAt(data, off); err != nil {
			b.Fatal(err)
		}
		off += pageSize
	}
	d.discard()
}

// BenchmarkDraftRandomWrites writes pages of a file of 64 MiB in any order,
// then keeps and finishes it.
func BenchmarkDraftRandomWrites(b *testing.B) {
	ts := benchStore(b, false)
	base := ts.writeAll(b, make([]byte, 64*mib), mib)
	data := noise(1, pageSize)
	order := rand.New(rand.NewPCG(1, 2)).Perm(64 * mib / pageSize)
	b.Run("write", func(b *testing.B) {
		d := ts.newDraft(base, base.ref.size)
		b.ReportAllocs()
		b.SetBytes(pageSize)
		i := 0
		for b.Loop() {
			if err := d.writeAt(data, int64(order[i%len(order)])*pageSize); err != nil {
				b.Fatal(err)
			}
			i++
		}
		d.discard()
	})
	b.Run("all-keep-finish", func(b *testing.B) {
		b.SetBytes(64 * mib)
		for b.Loop() {
			d := ts.newDraft(base, base.ref.size)
			for _, page := range order {
				if err := d.writeAt(data, int64(page)*pageSize); err != nil {
					b.Fatal(err)
				}
			}
			if _, _, err := d.keep(true); err != nil {
				b.Fatal(err)
			}
			sc, err := d.finish()
			if err != nil {
				b.Fatal(err)
			}
			for _, name := range d.committed() {
				ts.removeFile(name)
			}
			ts.removeFile(binName(sc.ref.blob))
		}
	})
}

// BenchmarkRead reads contents that are in the page cache.
func BenchmarkRead(b *testing.B) {
	for _, c := range []struct {
		name   string
		size   int
		v4     bool
		step   int
		random bool
	}{
		{"v4-random-4KiB", 64 << 20, true, 4 << 10, true},
		{"v4-sequential-4KiB", 64 << 20, true, 4 << 10, false},
		{"v4-sequential-128KiB", 64 << 20, true, 128 << 10, false},
		{"v4-sequential-1MiB", 64 << 20, true, 1 << 20, false},
		{"v3-random-4KiB", 20 << 20, false, 4 << 10, true},
		{"v3-sequential-128KiB", 20 << 20, false, 128 << 10, false},
	} {
		b.Run(c.name, func(b *testing.B) {
			ts := benchStore(b, c.v4)
			ct := ts.writeAll(b, make([]byte, c.size), mib)
			ct.acquire()
			defer ct.release()
			buf := make([]byte, c.step)
			order := rand.New(rand.NewPCG(1, 2)).Perm(c.size / c.step)
			b.SetBytes(int64(c.step))
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				k := i % len(order)
				if c.random {
					k = order[k]
				}
				if _, err := ct.readAt(ts.store, buf, int64(k*c.step)); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}

// BenchmarkOpen opens contents that nobody has open, reads their start and
// lets them go: what a program costs that looks at many files.
func BenchmarkOpen(b *testing.B) {
	for _, c := range []struct {
		size int
		v4   bool
	}{{4 << 10, false}, {64 << 10, false}, {5 << 20, false}, {20 << 20, false}, {4 << 10, true}, {20 << 20, true}} {
		b.Run(fmt.Sprintf("v%d-%dKiB", map[bool]int{false: seal.V3, true: seal.V4}[c.v4], c.size>>10), func(b *testing.B) {
			ts := benchStore(b, c.v4)
			ct := ts.writeAll(b, make([]byte, c.size), mib)
			ts.settle(b, ct)
			buf := make([]byte, min(c.size, 64<<10))
			b.SetBytes(int64(c.size))
			b.ReportAllocs()
			for b.Loop() {
				ct.acquire()
				if _, err := ct.readAt(ts.store, buf, 0); err != nil {
					b.Fatal(err)
				}
				ct.release()
				ts.plain.trim()
			}
		})
	}
}

func TestReadsAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector pools forget at random")
	}
	for _, v4 := range []bool{false, true} {
		ts := newTestStore(t, Limits{})
		ts.v4 = v4
		c := ts.writeAll(t, noise(1, 2*mib), mib)
		c.acquire()
		buf := make([]byte, 1200<<10)
		got := testing.AllocsPerRun(200, func() {
			for _, n := range []int{1, 4096, 16384, 130 << 10, len(buf)} {
				if _, err := c.readAt(ts.store, buf[:n], 100_000); err != nil {
					t.Fatal(err)
				}
			}
		})
		c.release()
		if got >= 1 { // a collection may empty the pools once
			t.Errorf("v4=%v: %.1f allocations for five reads", v4, got)
		}
	}
}
