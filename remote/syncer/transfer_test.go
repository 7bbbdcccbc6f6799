package syncer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// wanted gives the contents that a device does not have.
func (d *device) wanted() []vaultcore.WantedBlob {
	d.f.t.Helper()
	w, err := d.v.WantedBlobs(context.Background())
	d.f.must(err)
	return w
}

// id is that of the attachment at a path.
func (d *device) id(path string) seal.ID {
	d.f.t.Helper()
	i, err := d.v.Stat(path)
	d.f.must(err)
	id, err := seal.ParseUUID(i.ID)
	d.f.must(err)
	return id
}

// Twelve downloads that hang do not hold up another file, and who waits for one
// of them goes at his own time.
func TestHangingDownloads(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop", "desktop")
	laptop, desktop := f.devices[0], f.devices[1]
	for i := range 20 {
		laptop.write(fmt.Sprintf("Letters/%d.txt", i), fmt.Sprint("letter ", i))
	}
	laptop.sync()
	desktop.o.Prefetch = syncer.PrefetchNone
	var mu sync.Mutex
	hanging := make(map[string]bool)
	desktop.engineWith(func(op, key string) fault {
		mu.Lock()
		defer mu.Unlock()
		return fault{hang: op == "GetBlob" && hanging[key]}
	})
	desktop.sync()
	desktop.run()
	blobs := desktop.wanted()
	if len(blobs) != 20 {
		t.Fatalf("%d contents are not here", len(blobs))
	}
	var wg sync.WaitGroup
	ctx, giveUp := context.WithCancel(context.Background())
	defer giveUp()
	mu.Lock()
	for _, b := range blobs[:12] {
		hanging[b.Blob.Hex()] = true
	}
	mu.Unlock()
	var gone atomic.Int32
	for _, b := range blobs[:12] {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := desktop.Fetch(ctx, b.Blob); errors.Is(err, context.Canceled) {
				gone.Add(1)
			}
		}()
	}
	desktop.until("they hang", func() bool { return desktop.Status().Down.Active == 12 })
	within, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, b := range blobs[12:] {
		f.must(desktop.Fetch(within, b.Blob))
	}
	if n := desktop.Status().Down.Active; n != 12 {
		t.Errorf("%d of 12 still hang: the others may have waited for them", n)
	}
	giveUp()
	wg.Wait()
	if gone.Load() != 12 {
		t.Errorf("%d of 12 who waited went when they gave up", gone.Load())
	}
}

// Contents go up while the batches behind theirs are still made and pushed.
func TestUploadsBesideBatches(t *testing.T) {
	t.Parallel()
	laptop := newFleet(t, folder(t), "laptop").devices[0]
	laptop.sync()
	const count = seal.MaxOps + 10 // more than a batch takes
	for i := range count {
		laptop.write(fmt.Sprintf("Letters/%d.txt", i), fmt.Sprint("letter ", i))
	}
	begun := make(chan struct{})
	var once sync.Once
	var batches atomic.Int32
	laptop.engineWith(func(op, key string) fault {
		switch {
		case op == "PutBlob":
			once.Do(func() { close(begun) })
		case op == "Put" && strings.HasPrefix(key, "log/") && batches.Add(1) == 2:
			select {
			case <-begun:
			case <-time.After(patience):
				t.Error("no content went up before the second batch")
			}
		}
		return fault{}
	})
	laptop.sync()
	if n := batches.Load(); n < 2 {
		t.Errorf("%d batches", n)
	}
}

// Two who ask for one content get it from one download.
func TestFetchJoins(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop", "desktop")
	laptop, desktop := f.devices[0], f.devices[1]
	laptop.write("Letters/a.txt", "dear")
	laptop.sync()
	desktop.o.Prefetch = syncer.PrefetchNone
	var gets atomic.Int32
	desktop.engineWith(func(op, _ string) fault {
		if op == "GetBlob" {
			gets.Add(1)
		}
		return fault{}
	})
	desktop.sync()
	id := desktop.wanted()[0].Blob
	var wg sync.WaitGroup
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := desktop.Fetch(context.Background(), id); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	if n := gets.Load(); n < 1 || n > 8 {
		t.Errorf("%d downloads", n)
	}
	if got := desktop.read("Letters/a.txt"); got != "dear" {
		t.Errorf("read %q", got)
	}
}

// Who opens a file whose author is still sending it waits for that, and nobody
// is alarmed.
func TestFetchWhileSending(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop", "desktop")
	laptop, desktop := f.devices[0], f.devices[1]
	var sending atomic.Bool
	sending.Store(true)
	laptop.engineWith(func(op, _ string) fault {
		if op == "PutBlob" && sending.Load() {
			return fault{err: syncer.ErrUnavailable}
		}
		return fault{}
	})
	laptop.write("Letters/a.txt", strings.Repeat("dear ", 20_000))
	_ = laptop.trySync() // the batch goes, the content does not
	var asked atomic.Int32
	desktop.engineWith(func(op, _ string) fault {
		if op == "GetBlob" {
			asked.Add(1)
		}
		return fault{}
	})
	desktop.sync()
	got := make(chan string, 1)
	go func() { got <- desktop.read("Letters/a.txt") }()
	desktop.until("it is looked for more than once", func() bool { return asked.Load() > 1 })
	desktop.hasNone()
	sending.Store(false)
	laptop.sync()
	if text := <-got; len(text) != 100_000 {
		t.Errorf("read %.80q", text)
	}
	desktop.hasNone()
}

// A download that is cut goes on where it was.
func TestCutDownload(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop", "desktop")
	laptop, desktop := f.devices[0], f.devices[1]
	content := strings.Repeat("0123456789abcdef", 40_000)
	laptop.write("Letters/a.txt", content)
	laptop.sync()
	desktop.engineWith(func(op, _ string) fault {
		if op == "GetBlob" {
			return fault{err: fmt.Errorf("%w: cut", syncer.ErrUnavailable), cut: 100_000}
		}
		return fault{}
	})
	desktop.sync()
	if got := desktop.read("Letters/a.txt"); got != content {
		t.Errorf("read %d bytes", len(got))
	}
}

// A remote that asks to wait is not knocked at again, not even by a program that
// was started anew, and other classes of requests go on.
func TestGate(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop")
	d := f.devices[0]
	var puts atomic.Int32
	plan := func(op, _ string) fault {
		if op != "PutBlob" {
			return fault{}
		}
		puts.Add(1)
		return fault{err: &blob.RetryError{After: time.Hour, Err: errors.New("too many")}}
	}
	d.engineWith(plan)
	d.write("Letters/a.txt", "dear")
	if err := d.trySync(); !errors.Is(err, syncer.ErrUnavailable) {
		t.Fatalf("sync now: %v", err)
	}
	d.restart()
	d.engineWith(plan)
	d.write("Letters/b.txt", "dearest")
	if err := d.trySync(); !errors.Is(err, syncer.ErrUnavailable) {
		t.Fatalf("sync now: %v", err)
	}
	s := d.Status()
	if puts.Load() != 1 || len(s.Waiting) != 1 || s.Waiting[0].Class != "up" || time.Until(s.Waiting[0].Until) < 50*time.Minute {
		t.Errorf("%d attempts, gates %+v", puts.Load(), s.Waiting)
	}
	if s.Unpushed != 0 || s.Unsealed != 0 || !s.Online {
		t.Errorf("what is not gated did not go on: %+v", s)
	}
}

// Without the remote the vault works on, and catches up by itself.
func TestOffline(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop", "desktop")
	laptop, desktop := f.devices[0], f.devices[1]
	laptop.write("Letters/a.txt", "dear")
	f.sync()
	var off atomic.Bool
	for _, d := range f.devices {
		d.engineWith(func(string, string) fault {
			if off.Load() {
				return fault{err: syncer.ErrUnavailable}
			}
			return fault{}
		})
		d.run()
	}
	laptop.until("online", func() bool { return laptop.Status().Online })
	off.Store(true)
	laptop.until("offline", func() bool { laptop.Poke(); return laptop.Status().State == syncer.StateOffline })
	before, err := laptop.v.LastSealed(context.Background())
	f.must(err)
	laptop.write("Letters/b.txt", "meanwhile")
	desktop.write("Letters/a.txt", "dearest")
	laptop.until("it is seen as changed", func() bool { return laptop.Status().Unsealed > 0 })
	if last, _ := laptop.v.LastSealed(context.Background()); last != before {
		t.Error("sealed while the remote did not answer")
	}
	off.Store(false)
	laptop.until("caught up", func() bool { return laptop.read("Letters/a.txt") == "dearest" })
	desktop.until("caught up", func() bool { return desktop.read("Letters/b.txt") == "meanwhile" })
	desktop.hasNone()
}

// Wait returns when one file is safe, and says what is in the way if it is not.
func TestWait(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop")
	d := f.devices[0]
	var off atomic.Bool
	var refused atomic.Int32
	short, giveUp := context.WithCancel(context.Background())
	defer giveUp()
	d.engineWith(func(op, _ string) fault {
		if !off.Load() || op != "PutBlob" {
			return fault{}
		}
		if refused.Add(1) == 2 {
			giveUp() // by now Wait knows of the first refusal
		}
		return fault{err: syncer.ErrUnavailable}
	})
	d.write("Letters/a.txt", "dear")
	id := d.id("Letters/a.txt")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	f.must(d.Wait(ctx, []seal.ID{id}))
	f.must(d.Wait(ctx, nil))
	if got := len(f.objects("blobs/*")); got != 1 {
		t.Errorf("%d contents on the remote", got)
	}
	off.Store(true)
	d.write("Letters/b.txt", "dearest")
	if err := d.Wait(short, nil); !errors.Is(err, context.Canceled) || !errors.Is(err, syncer.ErrUnavailable) {
		t.Errorf("wait: %v", err)
	}
	f.must(d.Wait(ctx, []seal.ID{id}))
}

// With a bandwidth limit a transfer takes its time.
func TestLimit(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop", "desktop")
	laptop, desktop := f.devices[0], f.devices[1]
	laptop.o.UpLimit, desktop.o.DownLimit = 1<<20, 1<<20
	for _, d := range f.devices {
		d.engine()
	}
	laptop.write("Letters/a.bin", strings.Repeat("x", 3<<20))
	for _, d := range f.devices {
		start := time.Now()
		d.sync()
		if took := time.Since(start); took < 1500*time.Millisecond {
			t.Errorf("%s: 3 MiB at 1 MiB/s took %v", d.name, took)
		}
	}
	f.agree()
}

// Only what is pinned comes by itself if that is what the user wants.
func TestPrefetch(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop", "desktop")
	laptop, desktop := f.devices[0], f.devices[1]
	laptop.write("Letters/a.txt", "dear")
	laptop.write("Letters/b.txt", "dearest")
	laptop.sync()
	desktop.o.Prefetch = syncer.PrefetchPinned
	desktop.engine()
	desktop.sync()
	if n := len(desktop.wanted()); n != 2 {
		t.Fatalf("%d contents are not here, want both", n)
	}
	f.must(desktop.v.Pin(context.Background(), desktop.id("Letters/b.txt")))
	desktop.sync()
	if n := len(desktop.wanted()); n != 1 {
		t.Errorf("%d contents are not here, want all but the pinned one", n)
	}
	if got := desktop.read("Letters/a.txt"); got != "dear" {
		t.Errorf("asked for: %q", got)
	}
}

// Who asks for all of it gets it from a remote that was started anew meanwhile: a
// look of the loop that broke with the old one is not the end.
func TestSyncNowOutlivesRestart(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop", "desktop")
	laptop, desktop := f.devices[0], f.devices[1]
	laptop.write("Letters/a.txt", "dear")
	laptop.write("Letters/b.txt", "sir")
	laptop.sync()
	var fetching, breaks, broken atomic.Bool
	looked := make(chan struct{})
	desktop.o.Prefetch = syncer.PrefetchAll
	desktop.engineWith(func(op, key string) fault {
		switch {
		case op == "GetBlob" && !fetching.Swap(true):
			<-looked
			return fault{err: syncer.ErrUnavailable}
		case op == "Changes" && breaks.Load() && !broken.Swap(true):
			return fault{err: syncer.ErrUnavailable}
		}
		return fault{}
	})
	done := make(chan error)
	go func() { done <- desktop.trySync() }()
	desktop.until("it fetches, and its own look is over", func() bool { return fetching.Load() && desktop.Status().Online })
	breaks.Store(true)
	desktop.run()
	desktop.until("the remote is away", func() bool { return broken.Load() && !desktop.Status().Online })
	close(looked)
	f.must(<-done)
	if desktop.read("Letters/a.txt")+desktop.read("Letters/b.txt") != "dearsir" || len(desktop.wanted()) != 0 {
		t.Error("not all is here")
	}
}

// While programs work in the mount all the time, the loop sends one published content
// after the other by itself, and at once what somebody waits for.
func TestSendsBesideWork(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop")
	laptop := f.devices[0]
	laptop.o.Busy = func() bool { return true }
	laptop.engine()
	laptop.sync()
	laptop.run()
	defer laptop.halt()
	save := func(count int) {
		for i := range count {
			laptop.write(fmt.Sprintf("Letters/%d.txt", i), fmt.Sprint("letter ", i))
		}
	}
	save(4)
	f.must(laptop.Publish(context.Background()))
	laptop.until("all are sent", func() bool {
		s := laptop.Status()
		return s.Unsealed+s.Unpushed+s.Up.Count == 0
	})
	save(20)
	laptop.sync()
	if s := laptop.Status(); s.Up.Count > 0 {
		t.Errorf("%d contents are left after sync now", s.Up.Count)
	}
}
