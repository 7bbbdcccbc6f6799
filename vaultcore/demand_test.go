package vaultcore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// A range of a large content brings the pieces it lies in and no others; all of
// it makes an ordinary blob.
func TestReadByRange(t *testing.T) {
	t.Parallel()
	const size = 5*pieceSize + 12345
	_, bob, r, data := farAway(t, Limits{}, size)
	if _, err := bob.Stat(farFile); err != nil {
		t.Fatal(err)
	}
	if bob.residence(farFile) != ResidentRemote || r.asked() != 0 {
		t.Fatalf("listed: %s, %d requests", bob.residence(farFile), r.asked())
	}
	wantRange(t, bob.Vault, farFile, data, 3*pieceSize+100, 5000)
	if r.asked() != 1 || bob.residence(farFile) != ResidentPartly {
		t.Fatalf("%d requests, %s", r.asked(), bob.residence(farFile))
	}
	wantRange(t, bob.Vault, farFile, data, 3*pieceSize+20000, 100)
	if r.asked() != 1 {
		t.Fatal("a piece was fetched twice")
	}
	wantSound(t, bob.Vault)
	for _, off := range []int64{size - 10, pieceSize - 5, 0, 2*pieceSize - 1, 4 * pieceSize} {
		wantRange(t, bob.Vault, farFile, data, off, 4097)
	}
	eventually(t, "an ordinary blob", func() bool { return bob.residence(farFile) == ResidentHere })
	asked := r.asked()
	if asked > 6 || r.wholes != 0 {
		t.Fatalf("%d pieces and %d wholes of 6 pieces", asked, r.wholes)
	}
	wantRange(t, bob.Vault, farFile, data, 0, size)
	wantNoSparse(t, bob.Vault)
	bob.reopen()
	wantRange(t, bob.Vault, farFile, data, 0, size)
	wantSound(t, bob.Vault)
}

func wantNoSparse(t testing.TB, v *Vault) {
	t.Helper()
	eventually(t, "no sparse file", func() bool { return len(sparseFiles(t, v)) == 0 })
}

func sparseFiles(t testing.TB, v *Vault) (names []string) {
	t.Helper()
	all, err := os.ReadDir(filepath.Join(v.Home(), "attachments"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if strings.HasSuffix(e.Name(), sparseExt) {
			names = append(names, filepath.Join(v.Home(), "attachments", e.Name()))
		}
	}
	return names
}

// Sizes at the borders of chunks and pieces, read in steps of all sizes.
func TestReadByRangeBorders(t *testing.T) {
	t.Parallel()
	for _, size := range []int{65 << 10, pieceSize - 1, pieceSize, pieceSize + 1, 2*pieceSize - seal.ChunkSize, 2 * pieceSize} {
		for _, step := range []int64{seal.ChunkSize - 1, 300 << 10, 3 * pieceSize} {
			_, bob, _, data := farAway(t, Limits{}, size)
			for off := int64(0); off < int64(size); off += step {
				wantRange(t, bob.Vault, farFile, data, off, step)
			}
			eventually(t, "an ordinary blob", func() bool { return bob.residence(farFile) == ResidentHere })
			wantSound(t, bob.Vault)
		}
	}
}

// What was fetched is there in the next session, also without the remote.
func TestSparseSurvives(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"reopen", "kill", "power cut"} {
		t.Run(how, func(t *testing.T) {
			_, bob, r, data := farAway(t, Limits{}, 4*pieceSize)
			wantRange(t, bob.Vault, farFile, data, pieceSize, 100)
			switch how {
			case "reopen":
				bob.reopen()
			default:
				bob.kill(how == "power cut")
			}
			asked := r.asked()
			r.connect(bob)
			open := r.hang()
			defer open()
			wantRange(t, bob.Vault, farFile, data, pieceSize+5000, 100)
			if r.asked() != asked {
				t.Fatal("a piece that was here was fetched again")
			}
			wantSound(t, bob.Vault)
		})
	}
}

// A sparse file that lost or changed bytes, its map, or its end, is fetched
// anew, and gives no wrong byte.
func TestSparseDamaged(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(f *os.File, size int64) error{
		"zeros":      func(f *os.File, _ int64) error { _, err := f.WriteAt(make([]byte, pieceSize), 100); return err },
		"flip":       func(f *os.File, _ int64) error { _, err := f.WriteAt([]byte{1}, pieceSize+5000); return err },
		"header":     func(f *os.File, _ int64) error { _, err := f.WriteAt([]byte{1}, 20); return err },
		"map says 1": func(f *os.File, size int64) error { _, err := f.WriteAt([]byte{0xff}, size-1); return err },
		"cut":        func(f *os.File, size int64) error { return f.Truncate(size - 1) },
		"empty":      func(f *os.File, _ int64) error { return f.Truncate(0) },
	} {
		t.Run(name, func(t *testing.T) {
			_, bob, r, data := farAway(t, Limits{}, 4*pieceSize+99)
			wantRange(t, bob.Vault, farFile, data, pieceSize, 100)
			wantRange(t, bob.Vault, farFile, data, 0, 100)
			if err := bob.Close(context.Background()); err != nil {
				t.Fatal(err)
			}
			names := sparseFiles(t, bob.Vault)
			if len(names) != 1 {
				t.Fatal(names)
			}
			f, err := os.OpenFile(names[0], os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			fi, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(harm(f, fi.Size()), f.Close()); err != nil {
				t.Fatal(err)
			}
			bob.open()
			r.connect(bob)
			wantRange(t, bob.Vault, farFile, data, 0, int64(len(data)))
			eventually(t, "an ordinary blob", func() bool { return bob.residence(farFile) == ResidentHere })
			wantSound(t, bob.Vault)
		})
	}
}

// Pieces that turn out to be lost when a file is to become a blob, and that a reader
// has brought again before that has ended, do not keep it from becoming one.
func TestSparseMendedByAReader(t *testing.T) {
	t.Parallel()
	_, bob, r, data := farAway(t, Limits{}, 4*pieceSize+99)
	wantRange(t, bob.Vault, farFile, data, pieceSize, 100)
	wantRange(t, bob.Vault, farFile, data, 0, 100)
	if err := bob.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(sparseFiles(t, bob.Vault)[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(make([]byte, pieceSize), 100)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	bob.open()
	r.connect(bob)
	refs := func(sp *sparse) int {
		sp.s.fetches.mu.Lock()
		defer sp.s.fetches.mu.Unlock()
		return sp.refs
	}
	adopt := bob.store.fetches.adopt
	bob.store.fetches.adopt = func(ctx context.Context, sp *sparse) error {
		err := adopt(ctx, sp)
		if err != nil { // as a slow disk would have it; the first is the adopting itself
			before := refs(sp)
			flights, werr := sp.want(0, sp.pieces-1)
			if werr != nil || len(flights) == 0 {
				t.Errorf("%d flights, %v", len(flights), werr)
				return err
			}
			for _, f := range flights[1:] {
				<-f.done
			}
			eventually(t, "all of that has ended", func() bool { return refs(sp) <= before })
		}
		return err
	}
	wantRange(t, bob.Vault, farFile, data, 2*pieceSize, 2*pieceSize+99)
	eventually(t, "an ordinary blob", func() bool { return bob.residence(farFile) == ResidentHere })
	wantRange(t, bob.Vault, farFile, data, 0, int64(len(data)))
	wantSound(t, bob.Vault)
}

// A remote that alters, swaps, cuts or adds: no wrong byte is released, and the
// file can be read once it has come to its senses.
func TestFetchHostile(t *testing.T) {
	t.Parallel()
	sealedPiece := int64(pieceChunks * seal.SealedChunk)
	for name, c := range map[string]struct {
		bend   func(p []byte, off int64) ([]byte, error)
		damage bool
	}{
		"flip": {func(p []byte, _ int64) ([]byte, error) { p[len(p)/2] ^= 1; return p, nil }, true},
		"swap chunks": {func(p []byte, _ int64) ([]byte, error) {
			a, b := bytes.Clone(p[:seal.SealedChunk]), p[seal.SealedChunk:2*seal.SealedChunk]
			copy(p, b)
			copy(p[seal.SealedChunk:], a)
			return p, nil
		}, true},
		"zeros":     {func(p []byte, _ int64) ([]byte, error) { clear(p); return p, nil }, true},
		"short":     {func(p []byte, _ int64) ([]byte, error) { return p[:len(p)-1], nil }, true},
		"nothing":   {func(p []byte, _ int64) ([]byte, error) { return nil, io.ErrUnexpectedEOF }, false},
		"cut":       {func(p []byte, _ int64) ([]byte, error) { return p[:100], io.ErrUnexpectedEOF }, false},
		"too long":  {func(p []byte, _ int64) ([]byte, error) { return append(p, 0), nil }, false},
		"not there": {func(p []byte, _ int64) ([]byte, error) { return nil, blob.ErrNotFound }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, bob, r, data := farAway(t, Limits{}, 3*pieceSize)
			r.set(func() { r.bend = c.bend })
			pass := bob.stopFetchClock()
			got, err := readRange(bob.Vault, farFile, sealedPiece, 5000)
			if len(got) != 0 || errors.Is(err, ErrDamaged) != c.damage || !c.damage && !errors.Is(err, ErrTimeout) {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
			if c.damage {
				bob.hasAlarmText(farFile)
			}
			// Who asks at once gets the same answer, without another request.
			asked := r.asked()
			if _, err := readRange(bob.Vault, farFile, sealedPiece, 5000); err == nil || r.asked() != asked {
				t.Fatalf("%v, %d requests more", err, r.asked()-asked)
			}
			r.set(func() { r.bend = nil })
			pass(failedFor)
			if _, err := readRange(bob.Vault, farFile, sealedPiece, 5000); err != nil {
				t.Fatalf("not readable again: %v", err)
			}
			wantRange(t, bob.Vault, farFile, data, 0, int64(len(data)))
		})
	}
}

// stopFetchClock stops the clock by which a download failed just now; it goes on by
// what pass is told.
func (d *device) stopFetchClock() (pass func(time.Duration)) {
	fs, at := d.store.fetches, time.Now()
	set := func() {
		fs.mu.Lock()
		defer fs.mu.Unlock()
		now := at
		fs.now = func() time.Time { return now }
	}
	set()
	return func(d time.Duration) {
		at = at.Add(d)
		set()
	}
}

func (d *device) hasAlarmText(part string) {
	d.f.t.Helper()
	for _, a := range d.Status().Alarms {
		if strings.Contains(a, part) {
			return
		}
	}
	d.f.t.Fatalf("no alarm about %s in %q", part, d.Status().Alarms)
}

// Pieces of another blob of the same size.
func TestFetchOtherBlob(t *testing.T) {
	t.Parallel()
	f, bob, r, data := farAway(t, Limits{}, 2*pieceSize)
	ada := f.devices[0]
	other := writeFile(t, ada.Vault, "A/other", randomBytes(2*pieceSize, 8))
	ada.push()
	bob.pullBatches()
	far := bob.mustFind(farFile).content.ref.blob
	r.set(func() { r.blobs = map[seal.ID][]byte{far: f.blobs[other.content.ref.blob]} })
	if got, err := readRange(bob.Vault, farFile, 0, 100); !errors.Is(err, ErrDamaged) || len(got) > 0 {
		t.Fatalf("%q %v", got, err)
	}
	r.set(func() { r.blobs = nil })
	eventually(t, "readable again", func() bool {
		_, err := readRange(bob.Vault, farFile, 0, 100)
		return err == nil
	})
	wantRange(t, bob.Vault, farFile, data, 0, int64(len(data)))
}

// Many readers of one piece share one request; a failure is one failure.
func TestReadersShare(t *testing.T) {
	t.Parallel()
	_, bob, r, data := farAway(t, Limits{}, 3*pieceSize)
	open := r.hang()
	const readers = 40
	errs := make(chan error, readers)
	for i := range readers {
		go func() {
			off := int64(pieceSize + i*1000)
			got, err := readRange(bob.Vault, farFile, off, 500)
			if err == nil && !bytes.Equal(got, data[off:off+500]) {
				err = errors.New("wrong bytes")
			}
			errs <- err
		}()
	}
	eventually(t, "a request", func() bool { return r.asked() == 1 })
	open()
	for range readers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if r.asked() != 1 {
		t.Fatalf("%d requests for one piece", r.asked())
	}
	r.set(func() { r.bend = func([]byte, int64) ([]byte, error) { return nil, blob.ErrUnavailable } })
	bob.stopFetchClock()
	for range readers {
		go func() {
			_, err := readRange(bob.Vault, farFile, 0, 500)
			errs <- err
		}()
	}
	for range readers {
		if err := <-errs; !errors.Is(err, ErrTimeout) {
			t.Error(err)
		}
	}
	if n := r.asked(); n > 3 { // one, and its one second try
		t.Fatalf("%d requests", n)
	}
}

// A sequential reader is served ahead, a random one is not.
func TestPrefetchWindow(t *testing.T) {
	t.Parallel()
	const pieces = 40
	_, bob, r, data := farAway(t, Limits{}, pieces*pieceSize)
	for _, i := range []int64{30, 10, 20} {
		wantRange(t, bob.Vault, farFile, data, i*pieceSize, 100)
	}
	if r.asked() != 3 {
		t.Fatalf("%d requests of a random reader", r.asked())
	}
	n := bob.mustFind(farFile)
	if err := bob.Open(n, false, false); err != nil {
		t.Fatal(err)
	}
	defer bob.Release(n, false)
	buf := make([]byte, 128<<10)
	for off := int64(0); off < 5*pieceSize; off += int64(len(buf)) {
		if _, err := bob.ReadAt(n, buf, off); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "pieces ahead", func() bool {
		sp := n.content.sp.Load()
		if sp == nil {
			return true // complete already
		}
		_, missing := sp.firstMissing(5, 8)
		return !missing
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.most < 2 && len(r.ranges) < 8 {
		t.Fatalf("at most %d requests at a time, %d in all", r.most, len(r.ranges))
	}
}

// A wait ends with its deadline, or after a signal; what comes late is there.
func TestFetchDeadline(t *testing.T) {
	t.Parallel()
	_, bob, r, data := farAway(t, Limits{FetchWait: 50 * time.Millisecond}, 3*pieceSize)
	open := r.hang()
	defer open()
	for range 3 {
		if _, err := readRange(bob.Vault, farFile, 0, 100); !errors.Is(err, ErrTimeout) {
			t.Fatal(err)
		}
		eventually(t, "the request", func() bool { return r.asked() > 0 })
	}
	if r.asked() != 1 {
		t.Fatalf("%d requests while the first hangs", r.asked())
	}
	open()
	eventually(t, "what came late", func() bool {
		got, err := readRange(bob.Vault, farFile, 0, 100)
		return err == nil && bytes.Equal(got, data[:100])
	})
}

func TestFetchInterrupted(t *testing.T) {
	t.Parallel()
	_, bob, r, _ := farAway(t, Limits{FetchWait: time.Minute}, 3*pieceSize)
	defer r.hang()()
	n := bob.mustFind(farFile)
	if err := bob.Open(n, false, false); err != nil {
		t.Fatal(err)
	}
	defer bob.Release(n, false)
	cancel := make(chan struct{})
	close(cancel)
	began := time.Now()
	_, err := bob.ReadAtUntil(Caller{Interrupted: cancel}, n, make([]byte, 10), 0)
	if !errors.Is(err, ErrInterrupted) || time.Since(began) < interruptGrace {
		t.Fatalf("%v after %v", err, time.Since(began))
	}
}

// A wait whose deadline is hours away ends at once for a program that is killed,
// and for everybody when the drive goes.
func TestWaitsEndEarly(t *testing.T) {
	closed := make(chan struct{})
	close(closed)
	never := make(chan struct{})
	for name, c := range map[string]struct {
		who  Caller
		want error
	}{
		"killed":                   {Caller{Interrupted: closed, Thread: 7, Killed: func(thread uint32) bool { return thread == 7 }}, ErrInterrupted},
		"gone":                     {Caller{Gone: closed}, ErrTimeout},
		"gone while a signal came": {Caller{Interrupted: closed, Killed: func(uint32) bool { return false }, Gone: closed}, ErrTimeout},
	} {
		p := patience{until: time.Now().Add(time.Hour), grace: time.Hour, who: c.who}
		if err := p.wait(never); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// Every operation that waits for a network heeds that nobody waits any more.
func TestOperationsHeedTheirCaller(t *testing.T) {
	_, bob, r, _ := farAway(t, Limits{FetchWait: 24 * time.Hour}, 3*pieceSize)
	defer r.hang()()
	gone := make(chan struct{})
	close(gone)
	who := Caller{Gone: gone}
	n := bob.mustFind(farFile)
	if err := bob.Open(n, true, false); err != nil {
		t.Fatal(err)
	}
	defer bob.Release(n, true)
	for name, op := range map[string]func() error{
		"read":  func() error { _, err := bob.ReadAtUntil(who, n, make([]byte, 10), 0); return err },
		"write": func() error { _, err := bob.WriteAtUntil(who, n, []byte("part of a page"), 100); return err },
	} {
		if err := op(); !errors.Is(err, ErrTimeout) {
			t.Errorf("%s: %v, want ErrTimeout", name, err)
		}
	}
	if got := bob.Attr(n).Size; got != 3*pieceSize {
		t.Errorf("%d bytes afterwards", got)
	}
}

// Version 3 comes as a whole, once for all readers.
func TestFetchWholeV3(t *testing.T) {
	f := newFleet(t, "ada", "bob")
	ada, bob := f.devices[0], f.devices[1]
	data := randomBytes(3<<20, 1)
	ada.mkdir("A")
	writeFile(t, ada.Vault, farFile, data)
	ada.push()
	bob.pullBatches()
	r := f.demand(bob)
	open := r.hang()
	errs := make(chan error)
	for range 10 {
		go func() {
			_, err := readRange(bob.Vault, farFile, 1<<20, 100)
			errs <- err
		}()
	}
	eventually(t, "a request", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.wholes == 1
	})
	open()
	for range 10 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if r.wholes != 1 || r.asked() != 0 {
		t.Fatalf("%d wholes, %d ranges", r.wholes, r.asked())
	}
	wantRange(t, bob.Vault, farFile, data, 0, int64(len(data)))
	wantSound(t, bob.Vault)
}

// While downloads hang, nothing else waits for them: other files, the file's
// own attributes, its name, its closing, and the end of the session.
func TestHangingReadsHoldNothing(t *testing.T) {
	t.Parallel()
	f := newFleetOf(t, Limits{FetchWait: 24 * time.Hour}, "v4", "ada", "bob")
	ada, bob := f.devices[0], f.devices[1]
	ada.mkdir("A")
	const files = 12
	for i := range files {
		writeFile(t, ada.Vault, "A/far"+string(rune('a'+i)), randomBytes(2*pieceSize, int64(i)))
	}
	ada.push()
	bob.pullBatches()
	r := f.demand(bob)
	defer r.hang()()
	done := make(chan error, files)
	for i := range files {
		go func() {
			_, err := readRange(bob.Vault, "A/far"+string(rune('a'+i)), 0, 100)
			done <- err
		}()
	}
	eventually(t, "twelve requests", func() bool { return r.asked() == files })
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		bob.write("A/near", "near")
		bob.want2("A/near", "near")
		n := bob.mustFind("A/fara")
		for range 2 { // open and close beside a reader that hangs
			if err := bob.Open(n, true, false); err != nil {
				t.Error(err)
			}
			if err := bob.Flush(n); err != nil {
				t.Error(err)
			}
			bob.Release(n, true)
		}
		mode := uint32(0o600)
		if _, err := bob.SetAttr(n, SetAttr{Mode: &mode}); err != nil {
			t.Error(err)
		}
		bob.rename("A/fara", "A/renamed")
		bob.remove("A/farb")
		bob.Status()
		if _, err := bob.Check(t.Context(), CheckOptions{}); err != nil {
			t.Error(err)
		}
		if err := bob.Barrier(t.Context()); err != nil {
			t.Error(err)
		}
		if err := bob.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	select {
	case <-finished:
	case <-time.After(5 * time.Minute):
		t.Fatal("something waits for a download")
	}
	for range files {
		if err := <-done; err == nil {
			t.Error("a read succeeded without its bytes")
		}
	}
}

func (d *device) want2(path, data string) {
	d.f.t.Helper()
	if got := d.content(d.mustFind(path)); got != data {
		d.f.t.Errorf("%s shows %q", path, got)
	}
}
