package vaultcore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// oneWithRemote gives a device with files that are confirmed on a remote.
func oneWithRemote(t testing.TB, limits Limits, files ...string) (f *fleet, ada *device, r *slowRemote) {
	t.Helper()
	f = newFleetOf(t, limits, "v4", "ada")
	ada = f.devices[0]
	ada.useRemote()
	r = f.demand(ada)
	ada.mkdir("A")
	for i, path := range files {
		writeFile(t, ada.Vault, path, contentOf(i))
	}
	ada.push()
	return f, ada, r
}

func contentOf(i int) []byte { return randomBytes(pieceSize+200<<10+i, int64(i)) }

func (d *device) evict(paths ...string) Evicted {
	d.f.t.Helper()
	var ids []seal.ID
	for _, p := range paths {
		ids = append(ids, d.mustFind(p).id)
	}
	out, err := d.Evict(context.Background(), ids)
	if err != nil {
		d.f.t.Fatal(err)
	}
	return out
}

// blobFiles counts the blobs that lie on this device.
func (d *device) blobFiles() (n int) {
	d.f.t.Helper()
	if err := d.attachments.EachName(func(name string) bool {
		if len(name) > len(binExt) && name[len(name)-len(binExt):] == binExt {
			n++
		}
		return true
	}); err != nil {
		d.f.t.Fatal(err)
	}
	return n
}

func TestEvict(t *testing.T) {
	_, ada, r := oneWithRemote(t, Limits{}, "A/one", "A/two")
	before := ada.blobFiles()
	out := ada.evict("A/one")
	if out.Files != 1 || out.Bytes < int64(len(contentOf(0))) || len(out.Kept) != 0 {
		t.Fatalf("%+v", out)
	}
	eventually(t, "the file unlinked", func() bool { return ada.blobFiles() == before-1 })
	if ada.residence("A/one") != ResidentRemote || ada.residence("A/two") != ResidentHere {
		t.Fatal(ada.residence("A/one"), ada.residence("A/two"))
	}
	wantSound(t, ada.Vault)
	ada.reopen()
	r.connect(ada)
	wantRange(t, ada.Vault, "A/one", contentOf(0), 0, pieceSize*2)
	eventually(t, "back", func() bool { return ada.residence("A/one") == ResidentHere })
	// Again, a part of it, and all that is in the asset.
	ada.evict("A/one")
	wantRange(t, ada.Vault, "A/one", contentOf(0), 0, 10)
	if ada.residence("A/one") != ResidentPartly {
		t.Fatal(ada.residence("A/one"))
	}
	eventually(t, "the end of reading ahead", func() bool {
		fetches := ada.store.fetches
		fetches.mu.Lock()
		defer fetches.mu.Unlock()
		return len(fetches.sparse) == 0
	})
	if out := ada.evict("A"); out.Files != 1 || out.Bytes < 2*pieceSize {
		t.Fatalf("%+v", out)
	}
	if ada.residence("A/one") != ResidentRemote {
		t.Fatal("a part is left")
	}
	wantNoSparse(t, ada.Vault)
	wantRange(t, ada.Vault, "A/two", contentOf(1), 5, 1000)
	wantSound(t, ada.Vault)
}

// What must stay, stays, and is told why.
func TestEvictRefuses(t *testing.T) {
	for why, prepare := range map[string]func(d *device){
		whyPinned: func(d *device) {
			if err := d.Pin(context.Background(), d.mustFind("A").id); err != nil {
				d.f.t.Fatal(err)
			}
		},
		whyOpen: func(d *device) {
			n := mustOpen(d.f.t, d.Vault, "A/one", false)
			d.f.t.(*testing.T).Cleanup(func() { d.Release(n, false) })
		},
		whyChanged: func(d *device) { writeFile(d.f.t, d.Vault, "A/one", contentOf(7)) },
		whyUnsent: func(d *device) {
			writeFile(d.f.t, d.Vault, "A/one", contentOf(8))
			d.sealAll(SealOptions{})
			d.pushBatches()
		},
		"only sent by somebody else": func(d *device) {
			id := d.mustFind("A/one").content.ref.blob
			if _, err := d.com.do(func(t *txn) error {
				return t.exec("UPDATE blob_presence SET state=1 WHERE blob=?", id[:])
			}); err != nil {
				d.f.t.Fatal(err)
			}
		},
		whyAsked: func(d *device) {
			id := d.mustFind("A/one").content.ref.blob
			if _, err := d.com.do(func(t *txn) error { return t.exec(sqlQueueUpload, id[:], int64(1), int64(0)) }); err != nil {
				d.f.t.Fatal(err)
			}
		},
		whyNoFetch: func(d *device) {
			s, _, err := d.Remote(context.Background())
			if err != nil {
				d.f.t.Fatal(err)
			}
			s.Enabled = false
			if err := d.SetRemote(context.Background(), s); err != nil {
				d.f.t.Fatal(err)
			}
		},
	} {
		t.Run(why, func(t *testing.T) {
			_, ada, _ := oneWithRemote(t, Limits{}, "A/one")
			prepare(ada)
			if why == "only sent by somebody else" {
				why = whyUnsent
			}
			out := ada.evict("A/one")
			if out.Files != 0 || len(out.Kept) != 1 || out.Kept[0].Why != why || out.Kept[0].Path != "A/one" {
				t.Fatalf("%+v", out)
			}
			if ada.residence("A/one") != ResidentHere {
				t.Fatal(ada.residence("A/one"))
			}
		})
	}
}

// What others say is on the remote is looked for there before it is given up.
func TestEvictConfirms(t *testing.T) {
	f, bob, _, data := farAway(t, Limits{}, 2*pieceSize)
	id := bob.mustFind(farFile).content.ref.blob
	if err := bob.PutBlob(t.Context(), id, bytes.NewReader(f.blobs[id])); err != nil {
		t.Fatal(err)
	}
	if out := bob.evict(farFile); len(out.Kept) != 1 || out.Kept[0].Why != whyUnsent {
		t.Fatalf("%+v", out)
	}
	there := false
	bob.OnConfirm(func(_ context.Context, blobs []WantedBlob) (ids []seal.ID, err error) {
		for _, b := range blobs {
			if there && int64(len(f.blobs[b.Blob])) == b.Len {
				ids = append(ids, b.Blob)
			}
		}
		return ids, nil
	})
	if out := bob.evict(farFile); len(out.Kept) != 1 || out.Kept[0].Why != whyUnsent {
		t.Fatalf("%+v", out)
	}
	there = true
	if out := bob.evict(farFile); out.Files != 1 {
		t.Fatalf("%+v", out)
	}
	wantRange(t, bob.Vault, farFile, data, 0, 100)
}

// A kill, or a power cut, at any moment of an eviction leaves a content here or
// on the remote.
func TestEvictCrash(t *testing.T) {
	f, ada, r := oneWithRemote(t, Limits{}, "A/one")
	var homes []string
	snap := func() { homes = append(homes, crashCopy(t, ada.Vault, len(homes)%2 == 1)) }
	snap()
	todo := ada.evictees(map[seal.ID]bool{ada.mustFind("A/one").content.ref.blob: true})
	no, err := ada.evictRows(todo)
	if err != nil || no == 0 {
		t.Fatal(no, err)
	}
	snap() // the row says so, the file is there
	snap()
	for _, e := range todo {
		for _, c := range e.contents {
			c.place.Store(placeElsewhere)
		}
		ada.retired.addBlob(e.blob, no)
	}
	ada.bar.commit()
	if err := ada.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	snap()
	ada.retired.wait()
	snap()
	snap()
	for i, home := range homes {
		d := &device{f: f, name: "ada", home: home}
		d.open()
		r.connect(d)
		wantSound(t, d.Vault)
		wantRange(t, d.Vault, "A/one", contentOf(0), 0, 2*pieceSize)
		eventually(t, "back", func() bool { return d.residence("A/one") == ResidentHere })
		wantSound(t, d.Vault)
		if err := d.Close(context.Background()); err != nil {
			t.Fatalf("copy %d: %v", i, err)
		}
	}
}

// A kill, or a power cut, at any moment of making a sparse file a blob.
func TestAdoptCrash(t *testing.T) {
	f, bob, r, data := farAway(t, Limits{}, 2*pieceSize+9)
	bob.store.fetches.fits = func(int64) bool { return false } // by hand
	n := mustOpen(t, bob.Vault, farFile, false)
	buf := make([]byte, len(data))
	if _, err := bob.ReadAt(n, buf, 0); err != nil {
		t.Fatal(err)
	}
	bob.store.fetches.end()
	var homes []string
	snap := func() {
		homes = append(homes, crashCopy(t, bob.Vault, false), crashCopy(t, bob.Vault, true))
	}
	snap()
	sp := n.content.sp.Load()
	id := sp.ref.blob
	if err := sp.f.Truncate(sp.ref.sealedLen); err != nil {
		t.Fatal(err)
	}
	snap()
	want, err := bob.wanted(t.Context(), id)
	if err != nil || want == nil {
		t.Fatal(want, err)
	}
	if err := bob.adoptFile(want, sparseName(id)); err != nil {
		t.Fatal(err)
	}
	snap()
	if err := bob.placeBlob(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	sp.gone.Store(true)
	snap()
	bob.Release(n, false)
	for _, home := range homes {
		d := &device{f: f, name: "bob", home: home}
		d.open()
		r.connect(d)
		wantRange(t, d.Vault, farFile, data, 0, int64(len(data)))
		eventually(t, "all of it", func() bool { return d.residence(farFile) == ResidentHere })
		wantSound(t, d.Vault)
	}
}

// Readers, and evictions of what they read, at the same time: no wrong byte.
func TestEvictBesideReaders(t *testing.T) {
	_, ada, _ := oneWithRemote(t, Limits{}, "A/one", "A/two")
	stop := make(chan struct{})
	errs := make(chan error, 4)
	for i := range 4 {
		go func() {
			var err error
			data := contentOf(i % 2)
			path := []string{"A/one", "A/two"}[i%2]
			for off := int64(0); err == nil; off = (off + 77777) % int64(len(data)-500) {
				var got []byte
				if got, err = readRange(ada.Vault, path, off, 500); err == nil && !slices.Equal(got, data[off:off+500]) {
					err = fmt.Errorf("wrong bytes at %d", off)
				}
				select {
				case <-stop:
					errs <- err
					return
				default:
				}
			}
			errs <- err
		}()
	}
	for range 30 {
		ada.evict("A")
	}
	close(stop)
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	wantSound(t, ada.Vault)
}

// What was evicted is not fetched ahead, unless it is pinned or was read, and
// nothing is beyond the room of the cache.
func TestWorthFetching(t *testing.T) {
	_, ada, _ := oneWithRemote(t, Limits{}, "A/one", "A/two", "A/three")
	worth := func(pinned bool) (n int) {
		t.Helper()
		wanted, err := ada.WantedBlobs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n, err := ada.CountWanted(t.Context()); err != nil || n != len(wanted) {
			t.Fatalf("%d contents are wanted, counted are %d: %v", len(wanted), n, err)
		}
		return len(ada.WorthFetching(wanted, pinned))
	}
	ada.evict("A")
	if n := worth(false); n != 0 {
		t.Fatalf("%d evicted contents are fetched ahead", n)
	}
	if err := ada.Pin(t.Context(), ada.mustFind("A/one").id); err != nil {
		t.Fatal(err)
	}
	if a, b := worth(false), worth(true); a != 1 || b != 1 {
		t.Fatal(a, b)
	}
	if _, err := ada.com.do(func(t *txn) error { return t.exec("DELETE FROM evicted") }); err != nil {
		t.Fatal(err)
	}
	if a, b := worth(false), worth(true); a != 3 || b != 1 {
		t.Fatal(a, b)
	}
	ada.SetCacheSize(int64(len(contentOf(0)) * 5 / 2))
	if a, b := worth(false), worth(true); a != 2 || b != 1 {
		t.Fatal(a, b)
	}
	// Read again, and evicted again.
	wantRange(t, ada.Vault, "A/two", contentOf(1), 0, 3*pieceSize)
	eventually(t, "back", func() bool { return ada.residence("A/two") == ResidentHere })
	ada.reopen()
	if n := worth(false); n != 2 {
		t.Fatal(n)
	}
}

// Rescue, and a rename over a file, fetch what they need.
func TestRescueFar(t *testing.T) {
	for _, write := range []string{"v4", ""} {
		f := newFleetOf(t, Limits{}, write, "ada")
		ada := f.devices[0]
		ada.useRemote()
		f.demand(ada)
		ada.mkdir("A")
		n := writeFile(t, ada.Vault, "A/one", contentOf(0))
		ada.push()
		ada.evict("A")
		var out bytes.Buffer
		if _, err := ada.Rescue(t.Context(), "live:"+n.id.UUID(), &out, false); err != nil || !bytes.Equal(out.Bytes(), contentOf(0)) {
			t.Fatalf("%q: %d bytes, %v", write, out.Len(), err)
		}
	}
}

func TestRenameFarOver(t *testing.T) {
	_, ada, r := oneWithRemote(t, Limits{FetchWait: 100 * time.Millisecond}, "A/one", "A/two")
	ada.evict("A")
	open := r.hang()
	page := string(make([]byte, pageSize))
	n := mustOpen(t, ada.Vault, "A/one", true)
	mustWriteAt(t, ada.Vault, n, page, 0)
	if err := ada.Flush(n); err != nil {
		t.Fatal(err)
	}
	ada.Release(n, true)
	dir := ada.mustFind("A")
	if err := ada.Rename(dir, "one", dir, "two", 0); !errors.Is(err, ErrTimeout) {
		t.Fatal(err)
	}
	open()
	eventually(t, "the rename", func() bool { return ada.Rename(dir, "one", dir, "two", 0) == nil })
	want := overlay(contentOf(0), page, 0)
	wantRange(t, ada.Vault, "A/two", want, 0, int64(len(want)))
	ada.reopen()
	wantRange(t, ada.Vault, "A/two", want, 0, int64(len(want)))
	wantSound(t, ada.Vault)
}

func TestPins(t *testing.T) {
	f, ada, r := oneWithRemote(t, Limits{}, "A/one", "A/two")
	ctx := context.Background()
	ada.mkdir("A/d")
	writeFile(t, ada.Vault, "A/d/three", contentOf(3))
	ada.push()
	pin := func(path string) {
		t.Helper()
		if err := ada.Pin(ctx, ada.mustFind(path).id); err != nil {
			t.Fatal(err)
		}
	}
	pin("A/d")
	pin("A/one")
	if err := ada.Pin(ctx, seal.NewID()); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	wantPins := func(want ...string) {
		t.Helper()
		var got []string
		for _, p := range ada.Pins() {
			got = append(got, p.Path)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%q pinned, want %q", got, want)
		}
	}
	wantPins("A/d", "A/one")
	ada.reopen()
	r.connect(ada)
	wantPins("A/d", "A/one")
	// What comes into a pinned folder later is pinned; a rename takes it along.
	writeFile(t, ada.Vault, "A/d/four", contentOf(4))
	ada.push()
	ada.rename("A/d", "A/e")
	ada.push()
	wantPins("A/e", "A/one")
	if i, err := ada.Stat("A/e/four"); err != nil || !i.Pinned {
		t.Fatalf("%+v %v", i, err)
	}
	if out := ada.evict("A"); out.Files != 1 || len(out.Kept) != 3 {
		t.Fatalf("%+v", out)
	}
	if err := ada.Unpin(ctx, ada.mustFind("A/e").id); err != nil {
		t.Fatal(err)
	}
	if err := ada.Unpin(ctx, ada.mustFind("A/e").id); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	if out := ada.evict("A"); out.Files != 2 || len(out.Kept) != 1 {
		t.Fatalf("%+v", out)
	}
	// What is wanted says what of it is pinned.
	bob := f.join(ada, "bob")
	bob.pullBatches()
	if err := bob.Pin(ctx, bob.mustFind("A/two").id); err != nil {
		t.Fatal(err)
	}
	wanted, err := bob.WantedBlobs(ctx)
	if err != nil || len(wanted) != 5 {
		t.Fatal(wanted, err)
	}
	for _, w := range wanted {
		if w.Pinned != (w.Blob == bob.mustFind("A/two").content.ref.blob) {
			t.Errorf("%s: pinned %v", w.Blob.Hex(), w.Pinned)
		}
	}
}

// The bound on what lies here: the longest unopened goes first, also after a
// restart, and what may not go stays.
func TestCacheSize(t *testing.T) {
	t.Parallel()
	var paths []string
	for i := range 6 {
		paths = append(paths, fmt.Sprintf("A/%d", i))
	}
	_, ada, r := oneWithRemote(t, Limits{}, paths...)
	size := int64(len(contentOf(0))) + 4096
	here := func() (out []string) {
		for _, p := range paths {
			if ada.residence(p) == ResidentHere {
				out = append(out, p)
			}
		}
		return out
	}
	if err := ada.Pin(t.Context(), ada.mustFind("A/0").id); err != nil {
		t.Fatal(err)
	}
	ada.SetCacheSize(100 * size)
	for _, i := range []int{5, 4, 3, 2, 1} {
		ada.f.clock.Add(10_000)
		wantRange(t, ada.Vault, paths[i], contentOf(i), 0, 10)
	}
	ada.reopen() // writes down what was opened when
	r.connect(ada)
	ada.SetCacheSize(3 * size)
	eventually(t, "within the bound", func() bool { return ada.CacheUse().Bytes <= 3*size })
	if got := here(); !slices.Equal(got, []string{"A/0", "A/1", "A/2"}) {
		t.Fatalf("left: %q", got)
	}
	// A fetch pushes the next one out.
	wantRange(t, ada.Vault, "A/5", contentOf(5), 0, 2*pieceSize)
	eventually(t, "within the bound again", func() bool {
		return ada.CacheUse().Bytes <= 3*size && ada.residence("A/5") == ResidentHere
	})
	if got := here(); !slices.Equal(got, []string{"A/0", "A/1", "A/5"}) {
		t.Fatalf("left: %q", got)
	}
	// What is not confirmed stays, whatever the bound.
	writeFile(t, ada.Vault, "A/new", contentOf(9))
	ada.SetCacheSize(1)
	eventually(t, "all the rest gone", func() bool { return ada.CacheUse().Bytes < 3*size })
	if ada.residence("A/new") != ResidentHere || ada.residence("A/0") != ResidentHere {
		t.Fatal("something was lost")
	}
	wantSound(t, ada.Vault)
}

// The bound holds for what is read of a file larger than it, while it is open.
func TestCacheSizeOfPieces(t *testing.T) {
	t.Parallel()
	const pieces = 40
	_, bob, _, data := farAway(t, Limits{}, pieces*pieceSize)
	const limit = 22 * pieceSize
	bob.SetCacheSize(limit)
	n := mustOpen(t, bob.Vault, farFile, false)
	buf := make([]byte, 256<<10)
	for round := range 2 {
		for off := int64(0); off < pieces*pieceSize; off += int64(len(buf)) {
			if _, err := bob.ReadAt(n, buf, off); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(buf, data[off:off+int64(len(buf))]) {
				t.Fatalf("wrong bytes at %d in round %d", off, round)
			}
			if off%(8*pieceSize) == 0 {
				eventually(t, "within the bound", func() bool { return bob.CacheUse().Bytes <= limit })
			}
		}
	}
	bob.Release(n, false)
	eventually(t, "within the bound", func() bool { return bob.CacheUse().Bytes <= limit })
	wantSound(t, bob.Vault)
}

// Sparse files that nothing needs go at the next start, others are counted.
func TestSparseAtStart(t *testing.T) {
	_, bob, r, data := farAway(t, Limits{}, 4*pieceSize)
	wantRange(t, bob.Vault, farFile, data, 0, 10)
	if err := bob.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	strange := bob.home + "/attachments/" + sparseName(seal.NewID())
	if err := writeAll(strange, "left"); err != nil {
		t.Fatal(err)
	}
	bob.open()
	r.connect(bob)
	eventually(t, "one sparse file", func() bool { return len(sparseFiles(t, bob.Vault)) == 1 })
	eventually(t, "its size", func() bool { return bob.CacheUse().Partial >= pieceSize })
	if bob.residence(farFile) != ResidentPartly {
		t.Fatal(bob.residence(farFile))
	}
	bob.remove(farFile)
	if _, _, err := bob.EmptyTrash(nil); err != nil {
		t.Fatal(err)
	}
	wantSound(t, bob.Vault)
}
