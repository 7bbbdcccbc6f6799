package vaultcore

import (
	"bytes"
	"fmt"
	"os"
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

// TestFinishStreamCostsTail: finishing writes no more than head and tail.
func TestFinishStreamCostsTail(t *testing.T) {
	ts := newTestStore(t, Limits{})
	d := ts.newDraft(nil, 0)
	data := noise(1, mib)
	for off := range 40 {
		write(t, d, data, int64(off)*mib)
	}
	before := d.stream.w.handed
	c := ts.finish(t, d)
	if cost := c.ref.sealedLen - before; cost > 600<<10 {
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

// TestLogCutAnywhere cuts a log within and between records: what an append
// brought in before is there, what was cut off is not.
func TestLogCutAnywhere(t *testing.T) {
	l := tinyLimits()
	l.LogDead, l.DraftIndex = 1<<30, 1<<30
	ts := newTestStore(t, l)
	base := ts.writeAll(t, noise(1, 100_000), 1<<20)
	d := ts.newDraft(base, 100_000)
	want := noise(1, 100_000)
	var snapshots [][]byte
	var ends []int64
	var state []byte
	for i := range 12 { // each keep appends one record
		switch {
		case i%4 == 3:
			if err := d.truncate(int64(len(want) - 5001)); err != nil {
				t.Fatal(err)
			}
			want = want[: len(want)-5001 : len(want)-5001]
			if err := d.truncate(int64(len(want)) &^ (pageSize - 1)); err != nil {
				t.Fatal(err)
			}
			want = want[:len(want)&^(pageSize-1)]
		default:
			p := noise(uint64(i), pageSize)
			copy(want[i*pageSize:], p)
			write(t, d, p, int64(i)*pageSize)
		}
		s, _, err := d.keep(true)
		if err != nil {
			t.Fatal(err)
		}
		if state == nil {
			state = bytes.Clone(s)
		} else if !bytes.Equal(state, s) {
			t.Fatal("a later keep changed the row")
		}
		if got := len(d.log.offs); got > i+2 { // one cut also logs the page it cuts into
			t.Fatalf("%d records after %d keeps", got, i+1)
		}
		snapshots, ends = append(snapshots, bytes.Clone(want)), append(ends, d.log.end)
	}
	name := ts.path(logName(d.log.id))
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	kill(d)
	check := func(content []byte, want []byte) {
		t.Helper()
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := ts.recoverDraft(seal.NewID(), state, base)
		if err != nil {
			t.Fatal(err)
		}
		wantDraft(t, again, want)
		kill(again)
		if after, _ := os.ReadFile(name); !bytes.Equal(after, content) {
			t.Fatal("a found log was changed")
		}
	}
	before, start := noise(1, 100_000), int64(0)
	for i, end := range ends {
		for _, cut := range []int64{start, start + 1, start + 3, start + 20, (start + end) / 2, end - 1} {
			check(whole[:cut], before)
		}
		torn := bytes.Clone(whole) // the same, with the record there but wrong
		torn[(start+end)/2] ^= 1
		check(torn, before)
		before, start = snapshots[i], end
	}
	check(whole, before)
	ts.plain.trim()
	ts.idle(t)
}

// TestRecoveredStreamNeverSealsIntoFound: the found file stays as it is and
// the result has another key and salt.
func TestRecoveredStreamNeverSealsIntoFound(t *testing.T) {
	ts := newTestStore(t, tinyLimits())
	for _, finished := range []bool{false, true} {
		d := ts.newDraft(nil, 0)
		want := noise(1, 300_100)
		write(t, d, want[:300_000], 0)
		write(t, d, want[300_000:], 300_000)
		state, changed, err := d.keep(true)
		if err != nil || !changed {
			t.Fatal(changed, err)
		}
		state = bytes.Clone(state)
		if finished { // the crash comes between rename and row
			if _, err := d.finish(); err != nil {
				t.Fatal(err)
			}
		} else {
			write(t, d, noise(2, 50_000), 300_100)
		}
		kill(d)
		name := ts.files(t)[0]
		before, _ := os.ReadFile(ts.path(name))
		ts.restart()
		again, err := ts.recoverDraft(seal.NewID(), state, nil)
		if err != nil {
			t.Fatal(err)
		}
		wantDraft(t, again, want)
		write(t, again, []byte("more"), 300_100)
		sc, err := again.finish()
		if err != nil {
			t.Fatal(err)
		}
		if after, _ := os.ReadFile(ts.path(name)); !bytes.Equal(before, after) {
			t.Error("the found file was changed")
		}
		c := ts.commit(sc)
		if kept := again.committed(); len(kept) != 1 || kept[0] != name {
			t.Errorf("kept %v, want %s", kept, name)
		}
		ts.removeFile(name)
		wantBytes(t, ts.readBack(t, c, 10_000), append(bytes.Clone(want), "more"...))
		ts.removeFile(binName(c.ref.blob))
		if left := ts.files(t); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		ts.idle(t)
	}
}

// TestKeptFilesStayUntilRecorded: what an older row names goes only when the
// newer row is known to be durable.
func TestKeptFilesStayUntilRecorded(t *testing.T) {
	ts := newTestStore(t, tinyLimits())
	d := ts.newDraft(nil, 0)
	write(t, d, noise(1, 60_000), 0)
	if _, changed, err := d.keep(true); err != nil || !changed {
		t.Fatal(changed, err)
	}
	first := d.files()
	if len(first) != 1 || !d.kept() {
		t.Fatalf("files %v", first)
	}
	for i := range 8 { // until the log is written anew
		write(t, d, noise(uint64(i), 60_000), 0)
		if _, _, err := d.keep(true); err != nil {
			t.Fatal(err)
		}
	}
	if d.files()[0] == first[0] {
		t.Fatal("the log was not compacted")
	}
	if _, err := os.Stat(ts.path(first[0])); err != nil {
		t.Errorf("the first row's log is gone: %v", err)
	}
	d.recorded()
	if got := ts.files(t); len(got) != 1 || got[0] != d.files()[0] {
		t.Errorf("after recorded: %v", got)
	}
	kept := d.files()
	if got := d.dropped(); len(got) != 1 || got[0] != kept[0] {
		t.Errorf("dropped gave %v, want %v", got, kept)
	}
	if _, err := os.Stat(ts.path(kept[0])); err != nil {
		t.Errorf("a file the row names was removed: %v", err)
	}
	ts.idle(t)
}

// TestStreamKeptOftenBecomesPages: small appends with fsync do not write head
// and tail again each time.
func TestStreamKeptOftenBecomesPages(t *testing.T) {
	ts := newTestStore(t, tinyLimits())
	d := ts.newDraft(nil, 0)
	want := noise(1, 200_000)
	write(t, d, want, 0)
	last := 0
	for i := range 30 {
		p := noise(uint64(i), 100)
		write(t, d, p, int64(len(want)))
		want = append(want, p...)
		state, changed, err := d.keep(true)
		if err != nil {
			t.Fatal(err)
		}
		if last = 0; changed {
			last = len(state)
		}
	}
	if last != 0 {
		t.Errorf("the row still changes, %d bytes", last)
	}
	wantDraft(t, d, want)
	c := ts.finish(t, d)
	wantBytes(t, ts.readBack(t, c, 10_000), want)
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

func TestStateIsStrict(t *testing.T) {
	full := draftState{
		flags: stateLog | statePart | stateHead | stateTail, size: 100_000, shown: 99, log: seal.NewBlobID(), sk: seal.NewKey(),
		blob: seal.NewBlobID(), fk: seal.NewKey(), from: 32 << 10, partSize: 64 << 10, head: noise(1, 50), tail: noise(2, 60),
	}
	copy(full.header[:], noise(3, 64))
	b := full.encode()
	back, err := parseState(b)
	if err != nil || !bytes.Equal(back.encode(), b) {
		t.Fatalf("not the same again: %v", err)
	}
	for n := range b {
		if _, err := parseState(b[:n]); err == nil {
			t.Errorf("accepted cut to %d of %d bytes", n, len(b))
		}
	}
	for name, harm := range map[string]func(s *draftState){
		"two lowers": func(s *draftState) { s.flags |= stateBase },
		"shown":      func(s *draftState) { s.shown = s.size + 1 },
		"size":       func(s *draftState) { s.size = 1 << 41 },
		"negative":   func(s *draftState) { s.from = -1 },
		"flag":       func(s *draftState) { s.flags |= 1 << 7 },
	} {
		s := full
		harm(&s)
		if _, err := parseState(s.encode()); err == nil {
			t.Errorf("accepted: %s", name)
		}
	}
	if _, err := parseState(append(b, 0)); err == nil {
		t.Error("accepted with a rest")
	}
}

func FuzzParseState(f *testing.F) {
	for _, flags := range []uint8{0, stateLog, stateBase, statePart | stateHead | stateTail, stateLog | stateBelow} {
		s := draftState{flags: flags, size: 5, head: []byte("head")}
		f.Add(s.encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseState(b); err == nil && !bytes.Equal(s.encode(), b) {
			t.Error("another encoding of the same state")
		}
		stateFiles(b)
	})
}

// TestRecoverRefusesOthers: base and files must be the ones the state names.
func TestRecoverRefusesOthers(t *testing.T) {
	ts := newTestStore(t, tinyLimits())
	base := ts.writeAll(t, noise(1, 50_000), 1<<20)
	other := ts.writeAll(t, noise(2, 50_000), 1<<20)
	d := ts.newDraft(base, 50_000)
	write(t, d, []byte("x"), 10)
	state, _, err := d.keep(false)
	if err != nil {
		t.Fatal(err)
	}
	state = bytes.Clone(state)
	kill(d)
	for name, base := range map[string]*content{"none": nil, "other": other} {
		_, err := ts.recoverDraft(seal.NewID(), state, base)
		if wantErr(t, err, ErrDamaged); err == nil {
			t.Error(name)
		}
	}
	for _, name := range stateFiles(state) {
		ts.removeFile(name)
	}
	_, err = ts.recoverDraft(seal.NewID(), state, base)
	wantErr(t, err, ErrDamaged)
	if base.users() != 0 {
		t.Errorf("%d users", base.users())
	}
	ts.plain.trim()
	ts.idle(t)
}

func ExampleLimits() {
	l := Limits{}.withDefaults()
	fmt.Println(l.V3Max>>20, l.DraftTotal>>20, l.FileKeys)
	// Output: 25 128 16384
}
