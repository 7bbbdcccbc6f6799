package vaultcore

import (
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// streamLimits make a stream of what is longer than 64 KiB.
func streamLimits() Limits { return Limits{V3Max: 64 << 10, StreamHead: 32 << 10} }

// onDisks runs f on a store in the temporary directory and on one whose file
// system has no direct I/O.
func onDisks(t *testing.T, f func(t *testing.T, ts *testStore)) {
	t.Run("disk", func(t *testing.T) { f(t, newTestStore(t, streamLimits())) })
	t.Run("no direct", func(t *testing.T) {
		dir := t.TempDir()
		if err := unix.Mount("ramfs", dir, "ramfs", 0, ""); err != nil {
			t.Skip("cannot mount a file system without O_DIRECT: ", err)
		}
		t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
		ts := newTestStoreIn(t, dir, streamLimits())
		ts.space.free = func() (uint64, uint64, error) { return 1 << 40, 1 << 41, nil }
		f(t, ts)
	})
}

// TestStreamBlocks ends streams beside every border of their blocks, and reads,
// keeps and goes on with them there.
func TestStreamBlocks(t *testing.T) {
	t.Parallel()
	const head, first, block = 32 << 10, 17 * seal.ChunkSize, directPlain
	onDisks(t, func(t *testing.T, ts *testStore) {
		for _, border := range []int{head + first, head + first + block, head + first + 2*block} {
			for _, beside := range []int{-seal.ChunkSize - 1, -1, 0, 1, seal.ChunkSize, 100_000} {
				data := noise(uint64(border+beside), border+beside+70_001)
				for _, keep := range []bool{false, true} {
					d := ts.newDraft(nil, 0)
					for off := 0; off < border+beside; off += 150_000 {
						write(t, d, data[off:min(off+150_000, border+beside)], int64(off))
					}
					if keep {
						if _, _, err := d.keep(true); err != nil {
							t.Fatal(err)
						}
					}
					wantDraft(t, d, data[:border+beside])
					for off := border + beside; off < len(data); off += 9000 {
						write(t, d, data[off:min(off+9000, len(data))], int64(off))
					}
					if d.stream == nil {
						t.Fatal("no stream")
					}
					c := ts.finish(t, d)
					wantBytes(t, ts.readBack(t, c, 300_001), data)
					if err := ts.verify(c, true); err != nil {
						t.Fatal(err)
					}
					ts.removeFile(binName(c.ref.blob))
				}
			}
		}
		ts.idle(t)
	})
}

// TestBrokenStreamBlocks: what a stream holds when it breaks, in its file, on
// the way there and in its buffer, is all there in the pages it becomes.
func TestBrokenStreamBlocks(t *testing.T) {
	t.Parallel()
	onDisks(t, func(t *testing.T, ts *testStore) {
		for size := 400_000; size < 3_500_000; size += 130_001 {
			want := noise(uint64(size), size)
			d := ts.newDraft(nil, 0)
			for off := 0; off < size; off += 150_000 {
				write(t, d, want[off:min(off+150_000, size)], int64(off))
			}
			write(t, d, []byte("over"), int64(size)/2)
			copy(want[size/2:], "over")
			if d.stream != nil {
				t.Fatal("still a stream")
			}
			wantDraft(t, d, want)
			c := ts.finish(t, d)
			wantBytes(t, ts.readBack(t, c, mib), want)
			ts.removeFile(binName(c.ref.blob))
		}
		ts.idle(t)
	})
}

// TestManyStreams: streams beyond those that get huge buffers go on without.
func TestManyStreams(t *testing.T) {
	ts := newTestStore(t, streamLimits())
	data := noise(1, 2*mib)
	var wg sync.WaitGroup
	drafts := make([]*draft, 3*hugeWriters)
	for i := range drafts {
		drafts[i] = ts.newDraft(nil, 0)
		wg.Go(func() {
			for off := 0; off < len(data); off += 200_000 {
				if err := drafts[i].writeAt(data[off:min(off+200_000, len(data))], int64(off)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	ts.bufs.mu.Lock()
	if got := ts.bufs.wide; got == 0 || got > hugeWriters {
		t.Errorf("writers hold %d huge buffers", got)
	}
	ts.bufs.mu.Unlock()
	for _, d := range drafts {
		c := ts.finish(t, d)
		wantBytes(t, ts.readBack(t, c, mib), data)
		ts.removeFile(binName(c.ref.blob))
	}
	ts.idle(t)
	ts.trim()
	if got := len(ts.bufs.huge); got != 0 {
		t.Errorf("%d huge buffers after trim", got)
	}
}
