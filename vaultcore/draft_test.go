package vaultcore

import (
	"bytes"
	"fmt"
	"sync"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// write does so and fails the test if it cannot.
func write(t testing.TB, d *draft, p []byte, off int64) {
	t.Helper()
	if err := d.writeAt(p, off); err != nil {
		t.Fatal(err)
	}
}

// wantDraft compares all of a draft.
func wantDraft(t testing.TB, d *draft, want []byte) {
	t.Helper()
	got := make([]byte, d.size()+1)
	n, err := d.readAt(got, 0)
	if err != nil {
		t.Fatal(err)
	}
	wantBytes(t, got[:n], want)
}

// TestDraftOverwritesEveryEdge writes near every edge into a draft of every
// shape, and reads it whole before and after it is sealed.
func TestDraftOverwritesEveryEdge(t *testing.T) {
	t.Parallel()
	ts := newTestStore(t, tinyLimits())
	for _, size := range []int{0, 5000, 140_000, 150_001, 400_000} {
		data := noise(uint64(size), size)
		for _, over := range []bool{false, true} {
			var base *content
			if over {
				base = ts.writeAll(t, data, 1<<20)
			}
			for _, edge := range edgeSizes {
				for _, n := range []int{1, 4096, 20_000} {
					d := ts.newDraft(base, 0)
					want := bytes.Clone(data)
					if over {
						d.discard()
						d = ts.newDraft(base, int64(size))
					} else {
						for off := 0; off < size; off += 10_000 {
							write(t, d, data[off:min(off+10_000, size)], int64(off))
						}
					}
					p := noise(uint64(n), n)
					write(t, d, p, int64(edge))
					if end := edge + n; end > len(want) {
						want = append(want, make([]byte, end-len(want))...)
					}
					copy(want[edge:], p)
					wantDraft(t, d, want)
					c := ts.finish(t, d)
					wantBytes(t, ts.readBack(t, c, 100_000), want)
					ts.removeFile(binName(c.ref.blob))
				}
			}
		}
	}
	ts.idle(t)
}

// TestDraftTruncatesEveryEdge cuts and grows again: zeros, never old bytes.
func TestDraftTruncatesEveryEdge(t *testing.T) {
	t.Parallel()
	ts := newTestStore(t, tinyLimits())
	for _, size := range []int{10_000, 140_000, 400_000} {
		data := noise(uint64(size), size)
		base := ts.writeAll(t, data, 1<<20)
		for _, cut := range edgeSizes {
			if cut >= size {
				continue
			}
			for shape := range 4 {
				d := ts.newDraft(base, int64(size))
				if shape > 0 {
					d.discard()
					d = ts.newDraft(nil, 0)
					write(t, d, data, 0)
				}
				if shape > 1 {
					if _, _, err := d.keep(shape == 3); err != nil {
						t.Fatal(err)
					}
				}
				for _, n := range []int64{int64(cut), int64(size) + 5} {
					if err := d.truncate(n); err != nil {
						t.Fatal(err)
					}
				}
				want := append(bytes.Clone(data[:cut]), make([]byte, size+5-cut)...)
				wantDraft(t, d, want)
				state, _, err := d.keep(false)
				if err != nil {
					t.Fatal(err)
				}
				again, err := ts.recoverDraft(seal.NewID(), state, base)
				if err != nil {
					t.Fatal(err)
				}
				wantDraft(t, again, want)
				kill(again)
				c := ts.finish(t, d)
				wantBytes(t, ts.readBack(t, c, 100_000), want)
				ts.removeFile(binName(c.ref.blob))
			}
		}
	}
	ts.plain.trim()
	ts.idle(t)
}

func TestDraftShapes(t *testing.T) {
	ts := newTestStore(t, tinyLimits())
	d := ts.newDraft(nil, 0)
	shape := func(want string) {
		t.Helper()
		got := "pages"
		if d.flat != nil {
			got = "flat"
		} else if d.stream != nil {
			got = "stream"
		}
		if got != want {
			t.Fatalf("shape is %s, want %s", got, want)
		}
	}
	shape("flat")
	write(t, d, noise(1, 100_000), 0)
	write(t, d, noise(2, 500), 40_000)
	shape("flat")
	write(t, d, noise(3, 400_000), 100_000)
	shape("stream")
	write(t, d, noise(4, 32<<10), 0) // the head
	write(t, d, noise(5, 100), 500_000-50)
	shape("stream")
	name := d.stream.w.name()
	write(t, d, noise(6, 100), 32<<10)
	shape("pages")
	if d.lower.part == nil || d.lower.part.name() != name {
		t.Error("what was sealed is not the base")
	}
	if err := d.truncate(0); err != nil {
		t.Fatal(err)
	}
	shape("flat")
	d.discard()
	if got := ts.files(t); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
	ts.idle(t)
}

// TestStreamCut cuts a stream where it need not become pages, and where it must.
func TestStreamCut(t *testing.T) {
	ts := newTestStore(t, tinyLimits())
	for _, c := range []struct {
		filled, size int
		stream       bool
	}{
		{200_000, 199_999, true}, {200_000, 12 * seal.ChunkSize, true}, {200_000, 12*seal.ChunkSize - 1, false},
		{200_000, 32 << 10, false}, {200_000, 100, false}, {200_000, 0, false}, {12 * seal.ChunkSize, 190_000, false},
	} {
		d := ts.newDraft(nil, 0)
		want := noise(1, c.filled)
		write(t, d, want, 0)
		if err := d.truncate(int64(c.size)); err != nil {
			t.Fatal(err)
		}
		if got := d.stream != nil; got != c.stream {
			t.Errorf("%d cut to %d: stream %v", c.filled, c.size, got)
		}
		if err := d.truncate(210_000); err != nil {
			t.Fatal(err)
		}
		want = append(bytes.Clone(want[:c.size]), make([]byte, 210_000-c.size)...)
		wantDraft(t, d, want)
		tail := noise(2, 50_000)
		write(t, d, tail, 215_000)
		want = append(append(want, make([]byte, 5000)...), tail...)
		wantDraft(t, d, want)
		back := ts.finish(t, d)
		wantBytes(t, ts.readBack(t, back, 10_000), want)
	}
	ts.idle(t)
}

// TestFinishStreamCostsTail: finishing writes no more than the head and one
// block.
func TestFinishStreamCostsTail(t *testing.T) {
	ts := newTestStore(t, Limits{})
	d := ts.newDraft(nil, 0)
	data := noise(1, mib)
	for off := range 40 {
		write(t, d, data, int64(off)*mib)
	}
	before := d.stream.w.handed
	c := ts.finish(t, d)
	if cost := c.ref.sealedLen - before; cost > 256<<10+sealedHuge {
		t.Errorf("finishing wrote %d bytes", cost)
	}
	if c.ref.version != seal.V4 {
		t.Errorf("version %d", c.ref.version)
	}
	wantBytes(t, ts.readBack(t, c, mib), bytes.Repeat(data, 40))
}

// TestFinishTwice: the same result until something is written.
func TestFinishTwice(t *testing.T) {
	ts := newTestStore(t, tinyLimits())
	for _, size := range []int{100, 100_000, 400_000} {
		d := ts.newDraft(nil, 0)
		want := noise(1, size)
		write(t, d, want, 0)
		one, err := d.finish()
		if err != nil {
			t.Fatal(err)
		}
		wantDraft(t, d, want)
		two, err := d.finish()
		if err != nil || one != two || d.dirty() {
			t.Fatalf("not the same: %v", err)
		}
		write(t, d, []byte("new"), 50)
		copy(want[50:], "new")
		three, err := d.finish()
		if err != nil {
			t.Fatal(err)
		}
		if three.ref.blob == one.ref.blob || three.key.Equal(&one.key) {
			t.Error("a changed content under the old key")
		}
		c := ts.commit(three)
		d.committed()
		wantBytes(t, ts.readBack(t, c, 1000), want)
		for _, name := range ts.files(t) {
			if name != binName(c.ref.blob) {
				t.Errorf("%s is left", name)
			}
		}
		ts.removeFile(binName(c.ref.blob))
	}
	ts.plain.trim()
	ts.idle(t)
}

// TestDraftsShareBudget writes more than the budget from several goroutines,
// with readers beside them.
func TestDraftsShareBudget(t *testing.T) {
	l := tinyLimits()
	l.DraftFile, l.DraftTotal, l.V3Max = 2*mib, 3*mib, 4*mib
	ts := newTestStore(t, l)
	var wg sync.WaitGroup
	for g := range 5 {
		wg.Go(func() {
			want := make([]byte, 1500_000)
			base := ts.writeAll(t, want, 1<<20)
			d := ts.newDraft(base, int64(len(want)))
			if g == 0 {
				d.discard()
				d = ts.newDraft(nil, 0)
				write(t, d, want, 0)
			}
			done := make(chan struct{})
			var reader sync.WaitGroup
			reader.Go(func() {
				buf := make([]byte, 9000)
				for i := 0; ; i++ {
					select {
					case <-done:
						return
					default:
					}
					if _, err := d.readAt(buf, int64(i*7001%len(want))); err != nil {
						t.Error(err)
						return
					}
				}
			})
			for i := range 400 {
				p := noise(uint64(g*1000+i), 5000)
				off := (i*48_611 + g) % (len(want) - len(p))
				write(t, d, p, int64(off))
				copy(want[off:], p)
				if i%100 == 50 {
					if _, _, err := d.keep(false); err != nil {
						t.Error(err)
					}
				}
			}
			close(done)
			reader.Wait()
			wantDraft(t, d, want)
			c := ts.finish(t, d)
			wantBytes(t, ts.readBack(t, c, 1<<20), want)
		})
	}
	wg.Wait()
	ts.plain.trim()
	ts.idle(t)
}

// TestSpillAfterEnd: a draft that ended while another looked for room begins
// no log any more.
func TestSpillAfterEnd(t *testing.T) {
	ts := newTestStore(t, tinyLimits())
	for _, size := range []int{1000, 100_000} {
		d := ts.newDraft(nil, 0)
		write(t, d, noise(1, size), 0)
		d.discard()
		d.mu.Lock()
		if err := d.spillLocked(); err != nil {
			t.Error(err)
		}
		d.mu.Unlock()
	}
	if left := ts.files(t); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	ts.idle(t)
}

func TestDraftBounds(t *testing.T) {
	ts := newTestStore(t, tinyLimits())
	d := ts.newDraft(nil, 0)
	most := ts.limits.MaxFile
	wantErr(t, d.writeAt([]byte("x"), most), ErrTooLarge)
	wantErr(t, d.writeAt([]byte("x"), 1<<62), ErrTooLarge)
	wantErr(t, d.writeAt([]byte("x"), -1), ErrInvalid)
	wantErr(t, d.truncate(most+1), ErrTooLarge)
	wantErr(t, d.truncate(-1), ErrInvalid)
	wantErr(t, d.allocate(most, 1, false), ErrTooLarge)
	wantErr(t, d.allocate(0, 0, false), ErrInvalid)
	if d.size() != 0 || d.dirty() {
		t.Error("a refused change changed something")
	}
	if err := d.allocate(10, 90, true); err != nil || d.size() != 0 {
		t.Error("allocate with keep:", err, d.size())
	}
	if err := d.allocate(10, 90, false); err != nil || d.size() != 100 {
		t.Error("allocate:", err, d.size())
	}
	write(t, d, []byte("x"), most-1)
	c := ts.finish(t, d)
	if c.ref.size != most {
		t.Errorf("size %d", c.ref.size)
	}
	got := ts.readBack(t, c, 1<<20)
	if got[most-1] != 'x' || !allZero(got[:most-1]) {
		t.Error("wrong bytes")
	}
	ts.idle(t)
}

func ExampleLimits() {
	l := Limits{}.withDefaults()
	fmt.Println(l.V3Max>>20, l.DraftTotal>>20, l.FileKeys)
	// Output: 25 128 16384
}
