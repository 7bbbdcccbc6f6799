package vaultcore

import (
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// draftModel drives a draft beside the plain bytes it must hold.
type draftModel struct {
	t    *rapid.T
	ts   *testStore
	d    *draft
	base *content
	want []byte

	state    []byte // of the last keep, as its row holds it
	atKeep   []byte // want at the last keep
	seed     uint64
	ballast  string // a file that fills the disk
	full     bool
	chunkSum map[chunkKey][32]byte
}

// failed says that the disk was full, and then that nothing has changed.
func (m *draftModel) failed(err error) bool {
	if err == nil {
		return false
	}
	if !m.full || !errors.Is(err, ErrNoSpace) {
		m.t.Fatal(err)
	}
	got := make([]byte, len(m.want)+1)
	n, err := m.d.readAt(got, 0)
	if err != nil {
		m.t.Fatal(err)
	}
	wantBytes(m.t, got[:n], m.want)
	return true
}

// fillDisk takes every free block, freeDisk gives them back.
func (m *draftModel) fillDisk(t *rapid.T) {
	if m.full {
		return
	}
	m.full = true
	f, err := os.Create(m.ballast)
	if err != nil {
		return // not even an inode
	}
	defer f.Close()
	left := rapid.SampledFrom([]int{0, pageSize, 80 << 10, 300 << 10}).Draw(t, "left")
	for size := int64(0); err == nil; size += pageSize {
		if _, err = f.Write(make([]byte, pageSize)); err != nil {
			_ = f.Truncate(max(size-int64(left), 0)) // a full disk can always be cut
			return
		}
	}
}

func (m *draftModel) freeDisk(*rapid.T) {
	os.Remove(m.ballast)
	m.full = false
}

type chunkKey struct {
	blob  string
	index int
}

func (m *draftModel) begin(base *content, want []byte) {
	m.base, m.want, m.state, m.atKeep = base, want, nil, nil
	m.d = m.ts.newDraft(base, int64(len(want)))
}

// edges are offsets where something changes: pages, chunks, blocks, the
// stream's head, the limit of version 3.
func (m *draftModel) offset(label string, most int64) int64 {
	edges := []int64{0, pageSize, seal.ChunkSize, 32 << 10, blockSize, 150_000, int64(len(m.want))}
	edge := rapid.SampledFrom(edges).Draw(m.t, label+" edge")
	delta := rapid.Int64Range(-2, 2).Draw(m.t, label+" delta")
	if rapid.Bool().Draw(m.t, label+" anywhere") {
		edge, delta = 0, rapid.Int64Range(0, most).Draw(m.t, label)
	}
	return min(max(edge+delta, 0), most)
}

func (m *draftModel) write(off int64, n int) {
	m.seed++
	p := noise(m.seed, n)
	if m.failed(m.d.writeAt(p, off)) {
		return
	}
	if end := int(off) + n; end > len(m.want) {
		m.want = append(m.want, make([]byte, end-len(m.want))...)
	}
	copy(m.want[off:], p)
}

func (m *draftModel) appendSome(t *rapid.T) {
	m.t = t
	n := rapid.SampledFrom([]int{1, 100, pageSize, 10_000, seal.ChunkSize, 70_000, 300_000}).Draw(t, "n")
	if len(m.want)+n < 900_000 {
		m.write(int64(len(m.want)), n)
	}
}

func (m *draftModel) writeSome(t *rapid.T) {
	m.t = t
	off := m.offset("off", 500_000)
	m.write(off, rapid.SampledFrom([]int{1, 10, pageSize, 5000, seal.ChunkSize, 60_000}).Draw(t, "n"))
}

func (m *draftModel) truncate(t *rapid.T) {
	m.t = t
	size := m.offset("size", 600_000)
	if m.failed(m.d.truncate(size)) {
		return
	}
	if int(size) <= len(m.want) {
		m.want = m.want[:size:size]
	} else {
		m.want = append(m.want, make([]byte, int(size)-len(m.want))...)
	}
}

func (m *draftModel) read(t *rapid.T) {
	m.t = t
	off := m.offset("off", 600_000)
	buf := make([]byte, rapid.SampledFrom([]int{1, pageSize, 20_000, 131_072}).Draw(t, "n"))
	n, err := m.d.readAt(buf, off)
	if err != nil {
		t.Fatal(err)
	}
	want := m.want[min(int(off), len(m.want)):min(int(off)+len(buf), len(m.want))]
	wantBytes(t, buf[:n], want)
}

func (m *draftModel) keep(t *rapid.T) {
	m.t = t
	state, changed, err := m.d.keep(rapid.Bool().Draw(t, "sync"))
	if m.failed(err) {
		return
	}
	if changed || m.state == nil {
		m.state = append([]byte(nil), state...)
		if rapid.Bool().Draw(t, "recorded") {
			m.d.recorded()
		}
	}
	m.atKeep = append([]byte{}, m.want...)
}

func (m *draftModel) spill(t *rapid.T) {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	m.t = t
	if err := m.d.spillLocked(); err != nil && !(m.full && errors.Is(err, ErrNoSpace)) {
		t.Fatal(err)
	}
}

// finishOnly is a finish whose row commit fails.
func (m *draftModel) finishOnly(t *rapid.T) {
	m.t = t
	_, err := m.d.finish()
	m.failed(err)
}

// commit ends the draft as a new content and goes on with a draft over that.
func (m *draftModel) commit(t *rapid.T) {
	if m.d.size() != int64(len(m.want)) {
		t.Fatalf("size is %d, want %d", m.d.size(), len(m.want))
	}
	m.t = t
	sc, err := m.d.finish()
	if m.failed(err) {
		return
	}
	if v4 := m.ts.v4 || len(m.want) > 150_000; (sc.ref.version == seal.V4) != v4 {
		t.Fatalf("%d bytes are sealed in version %d", len(m.want), sc.ref.version)
	}
	c := m.ts.commit(sc)
	m.noLeftovers(t, m.d.committed())
	m.forget(m.base)
	if err := m.ts.verify(c, true); err != nil {
		t.Fatal(err)
	}
	wantBytes(t, m.ts.readBack(t, c, 50_000), m.want)
	if !m.full && rapid.Bool().Draw(t, "settle") {
		m.ts.settle(t, c)
	}
	size := rapid.SampledFrom([]int{0, len(m.want), len(m.want) / 2}).Draw(t, "shown")
	m.begin(c, m.want[:size:size])
}

// forget removes a content that no draft stands on any more.
func (m *draftModel) forget(c *content) {
	if c == nil {
		return
	}
	if n := c.users(); n != 0 {
		m.t.Fatalf("%d users of a content nobody uses", n)
	}
	m.ts.removeFile(binName(c.ref.blob))
}

// noLeftovers checks that a draft that has ended left only what its row may name.
func (m *draftModel) noLeftovers(t *rapid.T, kept []string) {
	for _, name := range kept {
		if _, err := os.Stat(m.ts.path(name)); err != nil {
			t.Errorf("kept file is gone: %v", err)
		}
		m.ts.removeFile(name)
	}
	for _, name := range m.ts.files(t) {
		if strings.HasSuffix(name, partExt) || strings.HasSuffix(name, logExt) {
			t.Errorf("%s is left", name)
		}
	}
}

// crash loses the RAM and takes the draft up again as it was last kept.
func (m *draftModel) crash(t *rapid.T) {
	if m.state == nil {
		return
	}
	named := m.d.files()
	kill(m.d)
	m.ts.restart()
	base := m.base
	if base != nil {
		base = m.ts.newContent(base.ref, base.place.Load(), base.row.Load())
	}
	d, err := m.ts.recoverDraft(seal.NewID(), m.state, base)
	if err != nil {
		t.Fatal(err)
	}
	// What nothing names is what the cleanup after an unlock removes.
	for _, name := range m.ts.files(t) {
		keep := base != nil && name == binName(base.ref.blob)
		for _, n := range named {
			keep = keep || strings.Split(n, ".")[0] == strings.Split(name, ".")[0]
		}
		if !keep {
			m.ts.removeFile(name)
		}
	}
	m.d, m.base = d, base
	got := make([]byte, d.size())
	if _, err := d.readAt(got, 0); err != nil {
		t.Fatal(err)
	}
	if d.short {
		t.Fatal("the log has less than its row counts")
	}
	wantBytes(t, got, m.atKeep) // not what was spilled since: nobody has saved that
	m.want = slices.Clone(got)
	if rapid.Bool().Draw(t, "commit it") {
		m.commit(t)
	}
}

// kill closes the descriptors of a draft and leaves its files.
func kill(d *draft) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if st := d.stream; st != nil {
		st.close()
		st.w.take()
		st.w.f.Close()
		d.stream = nil
	}
	d.closeLocked()
}

// sealedOnce checks that no chunk of a salt, which is one a blob, was written
// with two different contents.
func (m *draftModel) sealedOnce(t *rapid.T) {
	for _, name := range m.ts.files(t) {
		stem, ext, _ := strings.Cut(name, ".")
		if ext == "tmp" {
			continue
		}
		b, err := os.ReadFile(m.ts.path(name))
		if err != nil || len(b) < seal.HeaderV4 {
			continue
		}
		for i := 0; seal.SealedOffV4(uint64(i+1)) <= int64(len(b)); i++ {
			chunk := b[seal.SealedOffV4(uint64(i)):seal.SealedOffV4(uint64(i+1))]
			if allZero(chunk) {
				continue // not written yet: the head of a stream
			}
			key, sum := chunkKey{stem, i}, sha256.Sum256(chunk)
			if old, ok := m.chunkSum[key]; ok && old != sum {
				t.Fatalf("chunk %d of %s was sealed twice", i, name)
			}
			m.chunkSum[key] = sum
		}
	}
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

func testModel(t *testing.T, v4 bool) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		sub, err := os.MkdirTemp(dir, "")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(sub)
		ts := openTestStore(rt, sub, tinyLimits())
		defer ts.shut()
		ts.v4 = v4
		m := &draftModel{t: rt, ts: ts, chunkSum: map[chunkKey][32]byte{}}
		m.begin(nil, nil)
		rt.Repeat(map[string]func(*rapid.T){
			"append":  m.appendSome,
			"append2": m.appendSome,
			"append3": m.appendSome,
			"write":   m.writeSome, "truncate": m.truncate, "read": m.read,
			"keep": m.keep, "spill": m.spill, "finish": m.finishOnly, "commit": m.commit, "crash": m.crash,
			"": m.sealedOnce,
		})
		if m.d.size() != int64(len(m.want)) {
			rt.Fatalf("size is %d, want %d", m.d.size(), len(m.want))
		}
		got := make([]byte, len(m.want))
		if n, err := m.d.readAt(got, 0); err != nil || n != len(got) {
			rt.Fatal(n, err)
		}
		wantBytes(rt, got, m.want)
		m.d.discard()
		m.noLeftovers(rt, nil)
		if _, err := m.d.readAt(got, 0); len(got) > 0 && !errors.Is(err, ErrClosed) {
			rt.Fatalf("a discarded draft reads: %v", err)
		}
		ts.idle(rt)
	})
}

// TestDraftModelFullDisk lets the disk be full again and again, unknown to the
// guard: what fails changes nothing, and what was written is never lost.
func TestDraftModelFullDisk(t *testing.T) {
	dir := tinyDisk(t, "8m")
	rapid.Check(t, func(rt *rapid.T) {
		sub, err := os.MkdirTemp(dir, "")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(sub)
		ts := openTestStore(rt, sub, tinyLimits())
		defer ts.shut()
		ts.lie()
		ts.v4 = rapid.Bool().Draw(rt, "v4")
		m := &draftModel{t: rt, ts: ts, chunkSum: map[chunkKey][32]byte{}, ballast: filepath.Join(sub, "ballast")}
		m.begin(nil, nil)
		defer func() { kill(m.d) }()
		rt.Repeat(map[string]func(*rapid.T){
			"append": m.appendSome, "append2": m.appendSome, "append3": m.appendSome,
			"write": m.writeSome, "truncate": m.truncate, "read": m.read,
			"keep": m.keep, "spill": m.spill, "finish": m.finishOnly, "commit": m.commit,
			"fill": m.fillDisk, "free": m.freeDisk, "": m.sealedOnce,
		})
		m.freeDisk(rt)
		m.commit(rt)
		m.d.discard()
		m.noLeftovers(rt, nil)
		ts.idle(rt)
	})
}

func TestDraftModel(t *testing.T)   { testModel(t, false) }
func TestDraftModelV4(t *testing.T) { testModel(t, true) }
