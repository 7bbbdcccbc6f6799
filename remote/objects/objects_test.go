package objects

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/remote/syncer/remotetest"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob/blobtest"
)

var goodCaps = syncer.Caps{Version: 1, CreateOnly: true, Range: true, Delete: true, PartMin: 1, PartMax: 1 << 30, MaxParts: 1000, Parallel: 4}

func open(t *testing.T, store blob.Store, o Options) *Remote {
	t.Helper()
	o.Vault = remotetest.Vault
	r, err := New(store, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// enabled gives device A on a store that has the marker.
func enabled(t *testing.T, store blob.Store) *Remote {
	t.Helper()
	r := open(t, store, Options{Device: remotetest.DeviceA, Caps: goodCaps})
	must(t, r.Put(t.Context(), syncer.MarkerKey, remotetest.Marker()))
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func putText(t *testing.T, store blob.Store, key, text string) {
	t.Helper()
	must(t, store.Put(t.Context(), key, strings.NewReader(text), int64(len(text)), false))
}

func readText(t *testing.T, store blob.Store, key string) string {
	t.Helper()
	body, err := store.Get(t.Context(), key, 0, -1)
	must(t, err)
	defer body.Close()
	b, err := io.ReadAll(body)
	must(t, err)
	return string(b)
}

func TestMemory(t *testing.T) {
	remotetest.Run(t, func(*testing.T) remotetest.World {
		store := blobtest.NewMemory()
		return func(t *testing.T, device string) syncer.Remote {
			return open(t, store, Options{Device: device, Caps: goodCaps})
		}
	})
}

// recorder counts the calls of a store.
type recorder struct {
	mu    sync.Mutex
	calls []string
	fault func(blobtest.Call) blobtest.Fault
}

func (r *recorder) around(store blob.Store) blob.Store {
	return &blobtest.Faulty{Store: store, Plan: func(c blobtest.Call) blobtest.Fault {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.calls = append(r.calls, c.Op+" "+strings.TrimPrefix(c.Key, base(remotetest.Vault)))
		if r.fault != nil {
			return r.fault(c)
		}
		return blobtest.Fault{}
	}}
}

func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	calls := r.calls
	r.calls = nil
	return calls
}

func TestIdlePollIsOneRequest(t *testing.T) {
	store, rec := blobtest.NewMemory(), &recorder{}
	a := enabled(t, store)
	must(t, a.Put(t.Context(), syncer.BatchKey(remotetest.DeviceA, 1), []byte("x")))
	b := remotetest.Follow{Remote: open(t, rec.around(store), Options{Device: remotetest.DeviceB, Caps: goodCaps})}
	b.Next(t, true)
	rec.take()
	b.Next(t, false)
	if calls := rec.take(); !slices.Equal(calls, []string{"Head tip"}) {
		t.Errorf("an idle poll is %q", calls)
	}
	must(t, b.Remote.Put(t.Context(), syncer.BatchKey(remotetest.DeviceB, 1), []byte("x")))
	b.Next(t, false)
	rec.take()
	b.Next(t, false)
	if calls := rec.take(); !slices.Equal(calls, []string{"Head tip"}) {
		t.Errorf("an idle poll after an own push is %q", calls)
	}
}

// A reconcile costs about one listing for each chain, however long they are.
func TestReconcileJumps(t *testing.T) {
	store, rec := blobtest.NewMemory(), &recorder{}
	a := enabled(t, store)
	for seq := range uint64(50) {
		for _, device := range []string{remotetest.DeviceA, remotetest.DeviceB, remotetest.DeviceC} {
			must(t, a.Put(t.Context(), syncer.BatchKey(device, seq+1), []byte("x")))
		}
	}
	f := remotetest.Follow{Remote: open(t, rec.around(store), Options{Device: remotetest.DeviceB, Caps: goodCaps})}
	if got := f.Next(t, true); len(got) != 150 {
		t.Errorf("%d changes", len(got))
	}
	rec.take()
	f.Next(t, true)
	if calls := rec.take(); len(calls) > 10 {
		t.Errorf("%d calls: %q", len(calls), calls)
	}
}

func TestTipAtMostOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, rec := blobtest.NewMemory(), &recorder{}
		r := enabled(t, rec.around(store))
		start := time.Now()
		for seq := range uint64(100) {
			must(t, r.Put(t.Context(), syncer.BatchKey(remotetest.DeviceA, seq+1), []byte("x")))
			time.Sleep(50 * time.Millisecond)
		}
		_, err := r.Settle(t.Context(), syncer.Settlement{})
		must(t, err)
		written := 0
		for _, call := range rec.take() {
			if call == "Put tip" {
				written++
			}
		}
		if seconds := int(time.Since(start)/time.Second) + 1; written > seconds || written < 2 {
			t.Errorf("%d in %d seconds", written, seconds)
		}
		if got := parseTip([]byte(readText(t, store, base(remotetest.Vault)+tipKey))); got.Log[remotetest.DeviceA] != 100 {
			t.Errorf("tip %+v", got)
		}
	})
}

// Who finds its own entry behind writes again.
func TestTipMended(t *testing.T) {
	for what, spoil := range map[string]func(store blob.Store, key string){
		"deleted":  func(store blob.Store, key string) { store.Delete(t.Context(), key) },
		"rubbish":  func(store blob.Store, key string) { putText(t, store, key, "rubbish") },
		"too long": func(store blob.Store, key string) { putText(t, store, key, strings.Repeat("x", maxTip+1)) },
		"older": func(store blob.Store, key string) {
			putText(t, store, key, `{"v":1,"log":{"`+remotetest.DeviceA+`":1}}`)
		},
		"newer form": func(store blob.Store, key string) { putText(t, store, key, `{"v":2}`) },
	} {
		synctest.Test(t, func(t *testing.T) {
			store := blobtest.NewMemory()
			a := remotetest.Follow{Remote: enabled(t, store)}
			for seq := range uint64(3) {
				must(t, a.Remote.Put(t.Context(), syncer.BatchKey(remotetest.DeviceA, seq+1), []byte("x")))
			}
			_, err := a.Remote.Settle(t.Context(), syncer.Settlement{})
			must(t, err)
			a.Next(t, false)
			spoil(store, base(remotetest.Vault)+tipKey)
			// Another process of the same device: what it put it knows by its cursor.
			a.Remote = open(t, store, Options{Device: remotetest.DeviceA, Caps: goodCaps})
			a.Next(t, false)
			if got := parseTip([]byte(readText(t, store, base(remotetest.Vault)+tipKey))); got.Log[remotetest.DeviceA] != 3 {
				t.Errorf("%s: %+v", what, got)
			}
		})
	}
}

// A false tip costs a look, and hides nothing from a reconcile.
func TestFalseTip(t *testing.T) {
	store := blobtest.NewMemory()
	a := enabled(t, store)
	must(t, a.Put(t.Context(), syncer.BatchKey(remotetest.DeviceA, 1), []byte("x")))
	text := `{"v":1,"log":{"` + remotetest.DeviceA + `":18446744073709551615,"` + remotetest.DeviceC + `":7,"../x":3},"header":99,"blobs":1,"checkpoint":"../../x"}`
	putText(t, store, base(remotetest.Vault)+tipKey, text)
	b := remotetest.Follow{Remote: open(t, store, Options{Device: remotetest.DeviceB, Caps: goodCaps})}
	if got := b.Next(t, false); !slices.Equal(got, []string{"batch a 1"}) {
		t.Errorf("%q", got)
	}
	must(t, a.Put(t.Context(), syncer.BatchKey(remotetest.DeviceA, 2), []byte("x")))
	if got := b.Next(t, true); !slices.Equal(got, []string{"batch a 2"}) {
		t.Errorf("%q", got)
	}
}

func TestTipSwapped(t *testing.T) {
	store := blobtest.NewMemory()
	enabled(t, store)
	caps := goodCaps
	caps.Swap = true
	var wg sync.WaitGroup
	devices := []string{remotetest.DeviceA, remotetest.DeviceB, remotetest.DeviceC}
	for _, device := range devices {
		r := open(t, store, Options{Device: device, Caps: caps, Swap: swapOf(store)})
		wg.Go(func() {
			if err := r.Put(t.Context(), syncer.BatchKey(device, 1), []byte("x")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got := parseTip([]byte(readText(t, store, base(remotetest.Vault)+tipKey)))
	for _, device := range devices {
		if got.Log[device] != 1 {
			t.Errorf("%s is lost from %+v", device, got)
		}
	}
}

var swapping sync.Mutex

func swapOf(store blob.Store) func(context.Context, string, io.Reader, int64, string) error {
	return func(ctx context.Context, key string, r io.Reader, size int64, etag string) error {
		swapping.Lock()
		defer swapping.Unlock()
		attrs, err := store.Head(ctx, key)
		if err != nil || attrs.ETag != etag {
			return errors.Join(blob.ErrChanged, err)
		}
		return store.Put(ctx, key, r, size, false)
	}
}

func TestMarkerChanges(t *testing.T) {
	store := blobtest.NewMemory()
	enabled(t, store)
	r := open(t, store, Options{Device: remotetest.DeviceA, Remote: remotetest.RemoteID, Caps: goodCaps})
	_, err := r.Changes(t.Context(), nil, 0)
	must(t, err)
	marker := MarkerKey(remotetest.Vault)
	for _, text := range []string{
		"rubbish",
		string(syncer.Marker{Vault: remotetest.DeviceC, Remote: remotetest.RemoteID}.Encode()),
		string(syncer.Marker{Vault: remotetest.Vault, Remote: strings.Repeat("e", 32)}.Encode()),
		strings.Repeat("x", 1<<20),
	} {
		putText(t, store, marker, text)
		if _, err := r.Changes(t.Context(), nil, syncer.Reconcile); !errors.Is(err, syncer.ErrForeign) {
			t.Errorf("Changes with %.20q: %v", text, err)
		}
		if err := r.Put(t.Context(), syncer.HeaderKey(1), []byte("x")); !errors.Is(err, syncer.ErrForeign) {
			t.Errorf("Put with %.20q: %v", text, err)
		}
	}
	must(t, store.Delete(t.Context(), marker))
	_, err = r.Changes(t.Context(), nil, syncer.Reconcile)
	if !errors.Is(err, syncer.ErrNoStore) || !errors.Is(err, syncer.ErrUnavailable) || errors.Is(err, syncer.ErrNotFound) || blob.Hint(err) == "" {
		t.Errorf("without a marker: %v", err)
	}
	putText(t, store, marker, string(remotetest.Marker()))
	must(t, r.Put(t.Context(), syncer.HeaderKey(1), []byte("x")))
}

// What went away is told, every time, and is no deletion.
func TestGone(t *testing.T) {
	store := blobtest.NewMemory()
	a := enabled(t, store)
	must(t, a.Put(t.Context(), syncer.HeaderKey(1), []byte("h")))
	must(t, a.Put(t.Context(), syncer.HeaderKey(2), []byte("h")))
	for seq := range uint64(3) {
		must(t, a.Put(t.Context(), syncer.BatchKey(remotetest.DeviceA, seq+1), []byte("x")))
		must(t, a.Put(t.Context(), syncer.BatchKey(remotetest.DeviceC, seq+1), []byte("x")))
	}
	first, err := a.Changes(t.Context(), nil, 0)
	must(t, err)
	for _, key := range []string{syncer.HeaderKey(2), syncer.BatchKey(remotetest.DeviceA, 3), syncer.BatchKey(remotetest.DeviceA, 2)} {
		must(t, store.Delete(t.Context(), base(remotetest.Vault)+key))
	}
	cursor := first.Next
	for range 2 {
		c, err := a.Changes(t.Context(), cursor, syncer.Reconcile)
		must(t, err)
		if got := remotetest.Text(c.Gone); !slices.Equal(got, []string{"batch a 3", "header 2"}) || len(remotetest.Text(c.List)) > 0 {
			t.Errorf("gone %q, new %q", got, remotetest.Text(c.List))
		}
		cursor = c.Next
	}
	must(t, a.Put(t.Context(), syncer.HeaderKey(2), []byte("h")))
	must(t, a.Put(t.Context(), syncer.BatchKey(remotetest.DeviceA, 3), []byte("x")))
	c, err := a.Changes(t.Context(), cursor, syncer.Reconcile)
	must(t, err)
	if len(c.Gone) > 0 {
		t.Errorf("still gone: %v", c.Gone)
	}
}

// forgetful is a store that lets every condition pass.
type forgetful struct{ blob.Store }

func (f forgetful) Put(ctx context.Context, key string, r io.Reader, size int64, _ bool) error {
	return f.Store.Put(ctx, key, r, size, false)
}

func TestProbe(t *testing.T) {
	lying := func(context.Context, string, io.Reader, int64, string) error { return nil }
	none := func(context.Context, string, io.Reader, int64, string) error { return errors.ErrUnsupported }
	memory := blobtest.NewMemory()
	for _, c := range []struct {
		what              string
		store             blob.Store
		swap              func(context.Context, string, io.Reader, int64, string) error
		createOnly, swap2 bool
	}{
		{"good", memory, swapOf(memory), true, true},
		{"no swap", blobtest.NewMemory(), nil, true, false},
		{"unsupported swap", blobtest.NewMemory(), none, true, false},
		{"lying swap", blobtest.NewMemory(), lying, true, false},
		{"forgetful", forgetful{blobtest.NewMemory()}, nil, false, false},
	} {
		caps, err := Probe(t.Context(), c.store, Options{Vault: remotetest.Vault, Swap: c.swap}, syncer.Caps{MaxBlob: 7, PartMin: 1})
		want := syncer.Caps{Version: 1, CreateOnly: c.createOnly, Swap: c.swap2, Range: true, Delete: true, MaxBlob: 7, PartMin: 1}
		got, _ := json.Marshal(caps)
		if wanted, _ := json.Marshal(want); err != nil || !bytes.Equal(got, wanted) {
			t.Errorf("%s: %s, %v", c.what, got, err)
		}
		for attrs := range c.store.List(t.Context(), "", "") {
			t.Errorf("%s: left %s", c.what, attrs.Key)
		}
	}
	broken := errors.New("broken")
	faulty := &blobtest.Faulty{Store: blobtest.NewMemory(), Plan: func(blobtest.Call) blobtest.Fault { return blobtest.Fault{Err: broken} }}
	if _, err := Probe(t.Context(), faulty, Options{Vault: remotetest.Vault}, syncer.Caps{}); !errors.Is(err, broken) {
		t.Error(err)
	}
}

// Without create-only a header is believed after a pause, and the loser of a
// race learns that it lost.
func TestHeadersWithoutCreateOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := forgetful{blobtest.NewMemory()}
		caps := goodCaps
		caps.CreateOnly = false
		enabled(t, store)
		results := make(chan error, 2)
		for _, text := range []string{"one", "two"} {
			r := open(t, store, Options{Device: remotetest.DeviceA, Caps: caps})
			go func() { results <- r.Put(t.Context(), syncer.HeaderKey(1), []byte(text)) }()
		}
		time.Sleep(10 * time.Second)
		b := remotetest.Follow{Remote: open(t, store, Options{Device: remotetest.DeviceB, Caps: caps})}
		if got := b.Next(t, true); len(got) > 0 {
			t.Errorf("believed after 10 s: %q", got)
		}
		if _, err := b.Remote.Get(t.Context(), syncer.HeaderKey(1)); !errors.Is(err, syncer.ErrNotFound) {
			t.Errorf("Get after 10 s: %v", err)
		}
		first, second := <-results, <-results
		if (first == nil) == (second == nil) || !errors.Is(errors.Join(first, second), syncer.ErrOtherBytes) {
			t.Errorf("%v and %v", first, second)
		}
		if got := b.Next(t, true); !slices.Equal(got, []string{"header 1"}) {
			t.Errorf("after the pause: %q", got)
		}
	})
}
