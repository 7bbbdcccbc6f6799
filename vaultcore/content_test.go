package vaultcore

import (
	"bytes"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// edgeSizes are lengths around which something changes with tinyLimits.
var edgeSizes = []int{
	0, 1, 100, pageSize - 1, pageSize, pageSize + 1, 8<<10 - 28, 8<<10 - 27, seal.ChunkSize - 1, seal.ChunkSize,
	seal.ChunkSize + 1, 32<<10 - 1, 32 << 10, 32<<10 + 1, blockSize - 1, blockSize, blockSize + 1,
	65_300, 65_536 + 5000, 149_999, 150_000, 150_001, 10 * seal.ChunkSize, 300_000, 20 * seal.ChunkSize, 20*seal.ChunkSize + 1,
}

func TestWriteReadEveryEdge(t *testing.T) {
	t.Parallel()
	ts := newTestStore(t, tinyLimits())
	for _, v4 := range []bool{false, true} {
		ts.v4 = v4
		for _, size := range edgeSizes {
			data := noise(uint64(size), size)
			for _, step := range []int{4096, 10_000, seal.ChunkSize, 70_000, 1 << 20} {
				c := ts.writeAll(t, data, step)
				if c.ref.size != int64(size) {
					t.Fatalf("size %d, want %d", c.ref.size, size)
				}
				if err := ts.verify(c, true); err != nil {
					t.Fatal(err)
				}
				for _, read := range []int{1000, 4096, seal.ChunkSize, 50_000, 131_072, 400_000} {
					wantBytes(t, ts.readBack(t, c, read), data)
				}
				ts.removeFile(binName(c.ref.blob))
			}
		}
	}
	ts.idle(t)
}

// TestReadRanges reads every combination of offsets near edges.
func TestReadRanges(t *testing.T) {
	ts := newTestStore(t, tinyLimits())
	data := noise(7, 20*seal.ChunkSize+77)
	var edges []int
	for _, e := range []int{0, pageSize, seal.ChunkSize, 2 * seal.ChunkSize, 16 * seal.ChunkSize, 17 * seal.ChunkSize, 20 * seal.ChunkSize, len(data)} {
		edges = append(edges, e-1, e, e+1)
	}
	for _, v4 := range []bool{false, true} {
		ts.v4 = v4
		c := ts.writeAll(t, data, len(data))
		c.acquire()
		for _, from := range edges {
			for _, to := range edges {
				if from < 0 || to <= from {
					continue
				}
				buf := bytes.Repeat([]byte{0xEE}, to-from)
				n, err := c.readAt(ts.store, buf, int64(from))
				if err != nil {
					t.Fatalf("%d…%d: %v", from, to, err)
				}
				wantBytes(t, buf[:n], data[min(from, len(data)):min(to, len(data))])
			}
		}
		if _, err := c.readAt(ts.store, make([]byte, 1), -1); err == nil {
			t.Error("a negative offset reads")
		}
		c.release()
	}
	ts.idle(t)
}

func TestDamagedContent(t *testing.T) {
	ts := newTestStore(t, tinyLimits())
	other := ts.writeAll(t, noise(1, 200_000), 1<<20)
	otherBytes := ts.rawFile(t, other)
	for _, tc := range []struct {
		name string
		harm func(b []byte) []byte
	}{
		{"first byte", func(b []byte) []byte { b[0] ^= 1; return b }},
		{"header", func(b []byte) []byte { b[20] ^= 1; return b }},
		{"a middle chunk", func(b []byte) []byte { b[len(b)/2] ^= 1; return b }},
		{"last byte", func(b []byte) []byte { b[len(b)-1] ^= 1; return b }},
		{"cut", func(b []byte) []byte { return b[:len(b)-1] }},
		{"cut at a chunk", func(b []byte) []byte { return b[:seal.HeaderV4+2*seal.SealedChunk] }},
		{"empty", func(b []byte) []byte { return nil }},
		{"longer", func(b []byte) []byte { return append(b, 0) }},
		{"other blob", func([]byte) []byte { return otherBytes }},
	} {
		for _, size := range []int{40_000, 200_000} {
			c := ts.writeAll(t, noise(2, size), 1<<20)
			raw := tc.harm(ts.rawFile(t, c))
			if err := os.WriteFile(ts.path(binName(c.ref.blob)), raw, 0o600); err != nil {
				t.Fatal(err)
			}
			t.Run(fmt.Sprintf("%s of %d", tc.name, size), func(t *testing.T) { ts.wantDamaged(t, c) })
		}
	}
	gone := ts.writeAll(t, noise(3, 200_000), 1<<20)
	ts.removeFile(binName(gone.ref.blob))
	t.Run("missing", func(t *testing.T) { ts.wantDamaged(t, gone) })
	gone.place.Store(placeElsewhere)
	t.Run("elsewhere", func(t *testing.T) {
		gone.acquire()
		defer gone.release()
		_, err := gone.readAt(ts.store, make([]byte, 10), 0)
		wantErr(t, err, ErrTimeout)
		wantErr(t, err, blob.ErrUnavailable)
	})
	fresh := ts.writeAll(t, noise(4, 100), 100)
	ts.rows[fresh.row.Load()].sealed[50] ^= 1
	t.Run("fresh", func(t *testing.T) { ts.wantDamaged(t, fresh) })
	ts.idle(t)
}

func (ts *testStore) rawFile(t *testing.T, c *content) []byte {
	t.Helper()
	b, err := os.ReadFile(ts.path(binName(c.ref.blob)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// wantDamaged reads all of c in one request: it fails and releases nothing.
func (ts *testStore) wantDamaged(t *testing.T, c *content) {
	t.Helper()
	wantErr(t, ts.verify(c, true), ErrDamaged)
	c.acquire()
	defer c.release()
	for range 2 { // the second time nothing may have become right
		buf := bytes.Repeat([]byte{0xEE}, int(c.ref.size))
		n, err := c.readAt(ts.store, buf, 0)
		wantErr(t, err, ErrDamaged)
		if n != 0 || !allZero(buf) {
			t.Errorf("a read that failed left %d bytes", n)
		}
	}
}

// TestDamagedChunkCostsItself: what is whole of a version 4 file can be read.
func TestDamagedChunkCostsItself(t *testing.T) {
	ts := newTestStore(t, tinyLimits())
	data := noise(1, 300_000)
	c := ts.writeAll(t, data, 1<<20)
	raw := ts.rawFile(t, c)
	raw[seal.SealedOffV4(5)+100] ^= 1
	if err := os.WriteFile(ts.path(binName(c.ref.blob)), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	c.acquire()
	defer c.release()
	buf := make([]byte, 5*seal.ChunkSize)
	if _, err := c.readAt(ts.store, buf, 0); err != nil {
		t.Error(err)
	}
	wantBytes(t, buf, data[:len(buf)])
	for range 2 {
		_, err := c.readAt(ts.store, buf[:10], 5*seal.ChunkSize+10)
		wantErr(t, err, ErrDamaged)
	}
	if err := ts.verify(c, false); err != nil {
		t.Errorf("only the deep check opens every chunk, but: %v", err)
	}
	wantErr(t, ts.verify(c, true), ErrDamaged)
}

// TestReadWhileSettling reads a content that moves from its row to its file.
func TestReadWhileSettling(t *testing.T) {
	ts := newTestStore(t, tinyLimits())
	for _, v4 := range []bool{false, true} {
		ts.v4 = v4
		for i := range 30 {
			data := noise(uint64(i), 5000)
			c := ts.writeAll(t, data, len(data))
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() {
					for range 20 {
						wantBytes(t, ts.readBack(t, c, 3000), data)
						ts.plain.trim()
					}
				})
			}
			ts.settle(t, c)
			wg.Wait()
			ts.removeFile(binName(c.ref.blob))
		}
	}
}

// TestOneOpener: however many read a closed content, it is opened once.
func TestOneOpener(t *testing.T) {
	ts := newTestStore(t, tinyLimits())
	data := noise(1, 140_000)
	c := ts.writeAll(t, data, len(data))
	c.acquire()
	defer c.release()
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			buf := make([]byte, 1000)
			if _, err := c.readAt(ts.store, buf, int64(i)*1000); err != nil {
				t.Error(err)
			} else if !bytes.Equal(buf, data[i*1000:][:1000]) {
				t.Error("wrong bytes")
			}
		})
	}
	wg.Wait()
	if ts.plain.openings != 1 {
		t.Errorf("opened %d times", ts.plain.openings)
	}
}

// TestPlainBudget reads more than fits from many goroutines at once.
func TestPlainBudget(t *testing.T) {
	ts := newTestStore(t, tinyLimits())
	var cs []*content
	var want [][]byte
	for i := range 8 {
		want = append(want, noise(uint64(i), 100_000+i))
		cs = append(cs, ts.writeAll(t, want[i], 1<<20))
		cs[i].acquire()
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			buf := make([]byte, 30_000)
			for i := range 200 {
				k := (i*7 + g*3) % len(cs)
				off := i * 333 % 60_000
				if _, err := cs[k].readAt(ts.store, buf, int64(off)); err != nil {
					t.Error(err)
					return
				}
				if !bytes.Equal(buf, want[k][off:][:len(buf)]) {
					t.Error("wrong bytes")
				}
				ts.plain.mu.Lock()
				if ts.plain.used > ts.plain.max {
					t.Errorf("%d bytes of plaintext, at most %d", ts.plain.used, ts.plain.max)
				}
				ts.plain.mu.Unlock()
			}
		})
	}
	wg.Wait()
	for _, c := range cs {
		c.release()
	}
	if ts.plain.idle > ts.plain.idleMax || ts.plain.idle != ts.plain.used {
		t.Errorf("idle %d of %d, at most %d", ts.plain.idle, ts.plain.used, ts.plain.idleMax)
	}
	openings := ts.plain.openings
	ts.readBack(t, cs[7], 1<<20)
	ts.readBack(t, cs[7], 1<<20)
	if n := ts.plain.openings - openings; n > 1 {
		t.Errorf("a content used just now was opened %d times", n)
	}
	ts.trim()
	if ts.plain.used != 0 || ts.bufs.idle != 0 {
		t.Errorf("after trim %d and %d bytes are left", ts.plain.used, ts.bufs.idle)
	}
	ts.idle(t)
}

// TestReadersTakeTurns reads more large contents at once than there is room for,
// each from its start to its end, and wants each to be opened once.
func TestReadersTakeTurns(t *testing.T) {
	const streams, size, step = 12, 3 * mib / 2, 128 << 10
	ts := newTestStore(t, Limits{OpenPlain: 4 * mib, IdlePlain: 1})
	ts.plain.quiet, ts.plain.protect = time.Hour, time.Hour
	var started, ended sync.WaitGroup
	started.Add(streams)
	for i := range streams {
		want := noise(uint64(i), size)
		c := ts.writeAll(t, want, size)
		c.acquire()
		ended.Go(func() {
			defer c.release()
			started.Done()
			started.Wait()
			buf := make([]byte, step)
			for off := 0; off < size; off += step {
				if _, err := c.readAt(ts.store, buf, int64(off)); err != nil || !bytes.Equal(buf, want[off:off+step]) {
					t.Errorf("content %d at %d: %v, or wrong bytes", i, off, err)
				}
			}
		})
	}
	ended.Wait()
	if ts.plain.openings != streams {
		t.Errorf("%d contents were opened %d times", streams, ts.plain.openings)
	}
	ts.idle(t)
}

// TestReadersThatStop reads the start of more large contents than there is room
// for, and goes on with none: nobody waits for them for ever. Nor for those who
// read on and on without coming to the end.
func TestReadersThatStop(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(*plainCache){
		"stopped": func(p *plainCache) { p.quiet, p.protect = 10*time.Millisecond, time.Hour },
		"slow":    func(p *plainCache) { p.quiet, p.protect = time.Hour, 10*time.Millisecond },
	} {
		t.Run(name, func(t *testing.T) {
			ts := newTestStore(t, Limits{OpenPlain: 4 * mib})
			set(ts.plain)
			buf := make([]byte, 1000)
			for i := range 8 {
				want := noise(uint64(i), 3*mib/2)
				c := ts.writeAll(t, want, len(want))
				c.acquire()
				defer c.release()
				if _, err := c.readAt(ts.store, buf, 0); err != nil || !bytes.Equal(buf, want[:1000]) {
					t.Errorf("content %d: %v, or wrong bytes", i, err)
				}
			}
		})
	}
}

// TestLargerThanBudget: a single content above the budget can be read.
func TestLargerThanBudget(t *testing.T) {
	l := tinyLimits()
	l.OpenPlain = 50_000
	ts := newTestStore(t, l)
	data := noise(1, 120_000)
	c := ts.writeAll(t, data, 1<<20)
	wantBytes(t, ts.readBack(t, c, 10_000), data)
}

func TestReleaseClosesDescriptor(t *testing.T) {
	ts := newTestStore(t, tinyLimits())
	c := ts.writeAll(t, noise(1, 400_000), 1<<20)
	c.acquire()
	c.acquire()
	if _, err := c.readAt(ts.store, make([]byte, 10), 5); err != nil {
		t.Fatal(err)
	}
	if n := len(openFiles(t, ts.dir)); n != 1 {
		t.Errorf("%d descriptors while it is open", n)
	}
	c.release()
	if c.users() != 1 || c.v4.Load() == nil {
		t.Error("closed while somebody uses it")
	}
	id := c.v4.Load().id
	c.release()
	ts.idle(t)
	for i := range ts.chunks.slots {
		if s := &ts.chunks.slots[i]; s.owner == id || s.buf != nil && !allZero(s.buf[:]) {
			t.Error("plaintext of a closed file is in the chunk cache")
		}
	}
}

// TestReadersShareContent is for the race detector.
func TestReadersShareContent(t *testing.T) {
	ts := newTestStore(t, tinyLimits())
	for _, size := range []int{100_000, 500_000} {
		data := noise(uint64(size), size)
		c := ts.writeAll(t, data, 1<<20)
		var wg sync.WaitGroup
		for g := range 6 {
			wg.Go(func() {
				for i := range 30 {
					c.acquire()
					buf := make([]byte, 1+(i*7919+g)%40_000)
					off := (i*104_729 + g*31) % (size - len(buf))
					if _, err := c.readAt(ts.store, buf, int64(off)); err != nil {
						t.Error(err)
					} else if !bytes.Equal(buf, data[off:][:len(buf)]) {
						t.Errorf("wrong bytes at %d", off)
					}
					c.release()
				}
			})
		}
		wg.Wait()
	}
	ts.plain.trim()
	ts.idle(t)
}

func TestLimits(t *testing.T) {
	if err := (Limits{}).withDefaults().check(); err != nil {
		t.Errorf("the defaults are refused: %v", err)
	}
	for _, l := range []Limits{
		{V3Max: seal.MaxV3 + 1}, {StreamHead: 1000}, {StreamHead: 512 << 10}, {FreshMax: 1 << 20}, {MaxFile: 1 << 41},
		{V3Max: 100_000, StreamHead: 128 << 10}, {OpenPlain: -1}, {TrashShare: 101}, {Reserve: -5}, {DraftFile: 1},
	} {
		if err := l.withDefaults().check(); err == nil {
			t.Errorf("accepted: %+v", l)
		}
	}
}
