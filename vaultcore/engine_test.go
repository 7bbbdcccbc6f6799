package vaultcore

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/vaultdrive/vaultdrive/cache"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// testStore is a store over real directories, with rows that are a map.
type testStore struct {
	*store
	dir string
	v4  bool

	mu   sync.Mutex
	rows map[int64]testRow
	next int64
}

type testRow struct {
	blob   seal.ID
	sealed []byte
}

// tinyLimits make every threshold cheap to cross.
func tinyLimits() Limits {
	return Limits{
		OpenPlain: 300 << 10, IdlePlain: 100 << 10, IdleBuffers: 1 << 20,
		DraftFile: 192 << 10, DraftTotal: 512 << 10, DraftIndex: 1 << 10, LogDead: 64 << 10,
		V3Max: 150_000, StreamHead: 32 << 10, SealAhead: 16 << 10, FreshMax: 8 << 10, MaxFile: 4 << 20,
	}
}

func newTestStore(t testing.TB, l Limits) *testStore { return newTestStoreIn(t, t.TempDir(), l) }

func newTestStoreIn(t testing.TB, dir string, l Limits) *testStore {
	t.Helper()
	ts := openTestStore(t, dir, l)
	t.Cleanup(ts.shut)
	return ts
}

func openTestStore(t rapid.TB, dir string, l Limits) *testStore {
	t.Helper()
	ts := &testStore{dir: dir, rows: map[int64]testRow{}}
	vk := seal.NewKey()
	vault := seal.NewID()
	epoch := seal.DeriveEpoch(&vk, vault, 1)
	ts.open(t, vault, epoch, l)
	return ts
}

func (ts *testStore) shut() {
	ts.close()
	ts.attachments.Close()
	ts.scratch.Close()
}

func (ts *testStore) open(t rapid.TB, vault seal.ID, epoch *seal.EpochKeys, l Limits) {
	t.Helper()
	l = l.withDefaults()
	if err := l.check(); err != nil {
		t.Fatal(err)
	}
	dirs := [2]*blob.Dir{}
	for i, name := range []string{"attachments", "scratch"} {
		path := filepath.Join(ts.dir, name)
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		d, err := blob.OpenDir(path)
		if err != nil {
			t.Fatal(err)
		}
		dirs[i] = d
	}
	ts.store = newStore(storeConfig{
		vault: vault, attachments: dirs[0], scratch: dirs[1], keys: cache.NewFileKeys(64), limits: l,
		wrap: func(fk *seal.Key) ([]byte, uint32, error) {
			w, err := epoch.WrapFileKey(fk)
			return w, 1, err
		},
		unwrap: func(e uint32, wire []byte) (seal.Key, error) {
			if e != 1 {
				return seal.Key{}, fmt.Errorf("epoch %d", e)
			}
			return epoch.UnwrapFileKey(wire)
		},
		loadFresh: ts.loadFresh,
		writeV4:   func() bool { return ts.v4 },
	})
}

// restart is what a crash leaves: the same directories and keys, nothing in RAM.
func (ts *testStore) restart() {
	c := ts.storeConfig
	c.keys = cache.NewFileKeys(64)
	ts.store = newStore(c)
}

func (ts *testStore) loadFresh(row int64, id seal.ID) ([]byte, error) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	r, ok := ts.rows[row]
	if !ok || r.blob != id {
		return nil, ErrNotFound
	}
	return bytes.Clone(r.sealed), nil
}

// commit puts a finished content into a row and forgets its key.
func (ts *testStore) commit(sc *sealedContent) *content {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.keys.Purge()
	ts.next++
	place := int32(placeBin)
	if sc.fresh != nil {
		place = placeFresh
		ts.rows[ts.next] = testRow{sc.ref.blob, bytes.Clone(sc.fresh)}
	}
	return ts.newContent(sc.ref, place, ts.next)
}

// settle moves a fresh content to its file, as the settler does.
func (ts *testStore) settle(t rapid.TB, c *content) {
	t.Helper()
	if c.place.Load() != placeFresh {
		return
	}
	sealed := ts.rows[c.row.Load()].sealed
	err := ts.makeBin(c.ref.blob, len(sealed), func(f *blob.File) error {
		_, err := f.WriteAt(sealed, 0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	ts.mu.Lock()
	delete(ts.rows, c.row.Load())
	ts.mu.Unlock()
	c.place.Store(placeBin)
}

// files lists what lies in both directories.
func (ts *testStore) files(t rapid.TB) (names []string) {
	t.Helper()
	for _, dir := range []string{"attachments", "scratch"} {
		list, err := os.ReadDir(filepath.Join(ts.dir, dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			names = append(names, e.Name())
		}
	}
	return names
}

func (ts *testStore) path(name string) string {
	if strings.HasSuffix(name, logExt) {
		return filepath.Join(ts.dir, "scratch", name)
	}
	return filepath.Join(ts.dir, "attachments", name)
}

// idle checks that nothing is left in the common accounts, nor any descriptor.
func (ts *testStore) idle(t rapid.TB) {
	t.Helper()
	if got := ts.budget.used.Load(); got != 0 {
		t.Errorf("drafts hold %d bytes of RAM", got)
	}
	if got := len(ts.budget.drafts); got != 0 {
		t.Errorf("budget knows %d drafts", got)
	}
	if got := ts.space.promised; got != 0 {
		t.Errorf("%d bytes of disk are promised", got)
	}
	if got := ts.bufs.lent; got != 0 {
		t.Errorf("%d blocks are lent", got)
	}
	if got := ts.bufs.wide; got != 0 {
		t.Errorf("writers hold %d huge buffers", got)
	}
	for _, name := range openFiles(t, ts.dir) {
		t.Errorf("descriptor of %s is open", name)
	}
}

// openFiles lists the files under dir this process has open.
func openFiles(t rapid.TB, dir string) (names []string) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc")
	}
	for _, fd := range fds {
		target, err := os.Readlink("/proc/self/fd/" + fd.Name())
		if err == nil && strings.HasPrefix(target, dir) && strings.Contains(filepath.Base(target), ".") {
			names = append(names, target)
		}
	}
	return names
}

// noise is n bytes that depend on seed.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	src := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24)})
	src.Read(b)
	return b
}

// writeAll makes a content of data by writes of step bytes.
func (ts *testStore) writeAll(t rapid.TB, data []byte, step int) *content {
	t.Helper()
	d := ts.newDraft(nil, 0)
	for off := 0; off < len(data); off += step {
		if err := d.writeAt(data[off:min(off+step, len(data))], int64(off)); err != nil {
			t.Fatal(err)
		}
	}
	return ts.finish(t, d)
}

func (ts *testStore) finish(t rapid.TB, d *draft) *content {
	t.Helper()
	sc, err := d.finish()
	if err != nil {
		t.Fatal(err)
	}
	c := ts.commit(sc)
	for _, name := range d.committed() {
		ts.removeFile(name)
	}
	return c
}

// readBack reads a whole content in pieces of step bytes.
func (ts *testStore) readBack(t rapid.TB, c *content, step int) []byte {
	t.Helper()
	c.acquire()
	defer c.release()
	var out []byte
	buf := make([]byte, step)
	for {
		n, err := c.readAt(ts.store, buf, int64(len(out)))
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return out
		}
		out = append(out, buf[:n]...)
		if n < step {
			return out
		}
	}
}

func wantBytes(t rapid.TB, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	if len(got) != len(want) {
		t.Fatalf("%d bytes, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("byte %d (page %d) of %d differs: got %x, want %x", i, i/pageSize, len(got),
				got[i:min(i+8, len(got))], want[i:min(i+8, len(want))])
		}
	}
}

func wantErr(t rapid.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}
