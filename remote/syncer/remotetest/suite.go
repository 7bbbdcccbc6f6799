// Package remotetest is what every syncer.Remote has to do, as tests.
//
// It refuses to know any real remote. Only tests import it.
package remotetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob/blobtest"
)

// The vault of the tests, its remote's id, and three devices.
const (
	Vault    = "0f000000-0000-4000-8000-000000000001"
	RemoteID = "00112233445566778899aabbccddeeff"
	DeviceA  = "aaaaaaaa-0000-4000-8000-000000000001"
	DeviceB  = "bbbbbbbb-0000-4000-8000-000000000002"
	DeviceC  = "cccccccc-0000-4000-8000-000000000003"
)

// World is one empty place. Each call gives a remote of its own on that place,
// as a process of that device has it.
type World func(t *testing.T, device string) syncer.Remote

// Run puts a remote through everything the contract promises.
func Run(t *testing.T, open func(*testing.T) World) {
	cases := []struct {
		name string
		run  func(*testing.T, World)
	}{
		{"Marker", testMarker},
		{"SmallObjects", testSmallObjects},
		{"HostileKeys", testHostileKeys},
		{"HeaderRace", testHeaderRace},
		{"Changes", testChanges},
		{"Gap", testGap},
		{"Reconcile", testReconcile},
		{"HostileCursor", testHostileCursor},
		{"Blobs", testBlobs},
		{"BlobTwice", testBlobTwice},
		{"BlobRace", testBlobRace},
		{"LargeBlobResumed", testLargeBlobResumed},
		{"Cancelled", testCancelled},
		{"Settle", testSettle},
		{"Concurrent", testConcurrent},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
	}
}

// Marker is the one of the tests.
func Marker() []byte { return syncer.Marker{Vault: Vault, Remote: RemoteID}.Encode() }

// Enabled gives a remote whose place has the marker.
func Enabled(t *testing.T, w World, device string) syncer.Remote {
	t.Helper()
	r := w(t, device)
	must(t, r.Put(t.Context(), syncer.MarkerKey, Marker()))
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// ID gives the blob id of a number.
func ID(n int) string { return fmt.Sprintf("%032x", n) }

// PutBlob stores a whole blob.
func PutBlob(ctx context.Context, r syncer.Remote, id string, content []byte) error {
	return r.PutBlob(ctx, syncer.Upload{Blob: id, Size: int64(len(content))}, bytes.NewReader(content))
}

// ReadBlob reads n bytes of a blob from off.
func ReadBlob(ctx context.Context, r syncer.Remote, id string, off, n int64) ([]byte, error) {
	body, err := r.GetBlob(ctx, id, off, n)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(body)
}

func testMarker(t *testing.T, w World) {
	a := w(t, DeviceA)
	_, err := a.Get(t.Context(), syncer.MarkerKey)
	wantErr(t, "Get before there is one", err, syncer.ErrNotFound)
	foreign := syncer.Marker{Vault: DeviceC, Remote: RemoteID}.Encode()
	wantErr(t, "Put of another vault's", a.Put(t.Context(), syncer.MarkerKey, foreign), syncer.ErrForeign)
	wantErr(t, "Put of rubbish", a.Put(t.Context(), syncer.MarkerKey, []byte("x")), syncer.ErrForeign)
	for range 2 {
		must(t, a.Put(t.Context(), syncer.MarkerKey, Marker()))
	}
	other := syncer.Marker{Vault: Vault, Remote: strings.Repeat("e", 32)}.Encode()
	if err := w(t, DeviceB).Put(t.Context(), syncer.MarkerKey, other); !errors.Is(err, syncer.ErrOtherBytes) && !errors.Is(err, syncer.ErrForeign) {
		t.Errorf("Put over the marker: %v", err)
	}
	b, err := w(t, DeviceB).Get(t.Context(), syncer.MarkerKey)
	if err != nil || !bytes.Equal(b, Marker()) {
		t.Errorf("marker %q, %v", b, err)
	}
}

func testSmallObjects(t *testing.T, w World) {
	a, b := Enabled(t, w, DeviceA), w(t, DeviceB)
	name := syncer.CheckpointName(DeviceA, 9)
	for key, limit := range map[string]int{
		syncer.HeaderKey(1):           1 << 20,
		syncer.BatchKey(DeviceA, 1):   4 << 20,
		syncer.CheckpointKey(name, 1): 4 << 20,
		syncer.CheckpointEnd(name):    4 << 20,
		syncer.PairQuestion(ID(1)):    8 << 10,
		syncer.PairAnswer(ID(1)):      8 << 10,
	} {
		_, err := a.Get(t.Context(), key)
		wantErr(t, "Get of the missing "+key, err, syncer.ErrNotFound)
		content := blobtest.Bytes(1000)
		must(t, a.Put(t.Context(), key, content))
		must(t, b.Put(t.Context(), key, content))
		wantErr(t, "Put of others over "+key, b.Put(t.Context(), key, blobtest.Bytes(1000)[1:]), syncer.ErrOtherBytes)
		wantErr(t, "Put of more over "+key, b.Put(t.Context(), key, blobtest.Bytes(1001)), syncer.ErrOtherBytes)
		got, err := b.Get(t.Context(), key)
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("Get %s: %d bytes, %v", key, len(got), err)
		}
		wantErr(t, "Put of too much as "+key, a.Put(t.Context(), key, make([]byte, limit+1)), syncer.ErrTooLarge)
	}
}

func testHostileKeys(t *testing.T, w World) {
	a := Enabled(t, w, DeviceA)
	for _, key := range append([]string{"tip", "gc/x", "blobs/" + ID(1) + ".bin", "log/x/1", "headers/../vault"}, blobtest.HostileKeys...) {
		_, err := a.Get(t.Context(), key)
		wantErr(t, fmt.Sprintf("Get %.30q", key), err, syncer.ErrKey)
		wantErr(t, fmt.Sprintf("Put %.30q", key), a.Put(t.Context(), key, nil), syncer.ErrKey)
		wantErr(t, fmt.Sprintf("PutBlob %.30q", key), PutBlob(t.Context(), a, key, nil), syncer.ErrKey)
		_, err = a.GetBlob(t.Context(), key, 0, -1)
		wantErr(t, fmt.Sprintf("GetBlob %.30q", key), err, syncer.ErrKey)
		_, err = a.StatBlobs(t.Context(), []string{key})
		wantErr(t, fmt.Sprintf("StatBlobs %.30q", key), err, syncer.ErrKey)
	}
}

// One header of a number, whoever comes first.
func testHeaderRace(t *testing.T, w World) {
	Enabled(t, w, DeviceA)
	var won atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		r := w(t, DeviceA)
		wg.Go(func() {
			err := r.Put(t.Context(), syncer.HeaderKey(2), blobtest.Bytes(int64(100+i)))
			if err == nil {
				won.Add(1)
			} else if !errors.Is(err, syncer.ErrOtherBytes) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d headers of one number", won.Load())
	}
}

// Follow is a device that reads changes and remembers how far.
type Follow struct {
	Remote syncer.Remote
	Cursor []byte
}

// Next gives what is new as text, "header 1", "batch a 2", sorted by chain.
func (f *Follow) Next(t *testing.T, full bool) []string {
	t.Helper()
	changes, err := f.Remote.Changes(t.Context(), f.Cursor, wait(full))
	must(t, err)
	f.Cursor = changes.Next
	if len(changes.Gone) > 0 {
		t.Errorf("gone: %v", changes.Gone)
	}
	return Text(changes.List)
}

// Text writes changes down, without those that name no blob.
func Text(list []syncer.Change) (text []string) {
	last := map[string]uint64{}
	for _, c := range list {
		switch c.Kind {
		case syncer.KindHeader:
			text = append(text, fmt.Sprintf("header %d", c.Seq))
		case syncer.KindBatch:
			if c.Seq <= last[c.Device] {
				text = append(text, "out of order:")
			}
			last[c.Device] = c.Seq
			text = append(text, fmt.Sprintf("batch %s %d", c.Device[:1], c.Seq))
		case syncer.KindCheckpoint:
			text = append(text, fmt.Sprintf("checkpoint %s %d", c.Device[:1], c.Seq))
		}
	}
	slices.Sort(text)
	return text
}

func wait(full bool) time.Duration {
	if full {
		return syncer.Reconcile
	}
	return 0
}

func wantText(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func putBatches(t *testing.T, r syncer.Remote, device string, seqs ...uint64) {
	t.Helper()
	for _, seq := range seqs {
		must(t, r.Put(t.Context(), syncer.BatchKey(device, seq), fmt.Appendf(nil, "%s %d", device, seq)))
	}
}

func settle(t *testing.T, r syncer.Remote) {
	t.Helper()
	_, err := r.Settle(t.Context(), syncer.Settlement{})
	must(t, err)
}

func testChanges(t *testing.T, w World) {
	a := Enabled(t, w, DeviceA)
	b := Follow{Remote: w(t, DeviceB)}
	wantText(t, "nothing yet", b.Next(t, false))
	must(t, a.Put(t.Context(), syncer.HeaderKey(1), []byte("header")))
	putBatches(t, a, DeviceA, 1, 2, 3)
	settle(t, a)
	wantText(t, "first", b.Next(t, false), "batch a 1", "batch a 2", "batch a 3", "header 1")
	wantText(t, "idle", b.Next(t, false))
	putBatches(t, a, DeviceA, 4)
	name := syncer.CheckpointName(DeviceA, 4)
	must(t, a.Put(t.Context(), syncer.CheckpointKey(name, 1), []byte("part")))
	settle(t, a)
	wantText(t, "a batch", b.Next(t, false), "batch a 4")
	must(t, a.Put(t.Context(), syncer.CheckpointEnd(name), []byte("end")))
	settle(t, a)
	wantText(t, "a checkpoint", b.Next(t, false), "checkpoint a 4")
	putBatches(t, b.Remote, DeviceB, 1)
	settle(t, b.Remote)
	c := Follow{Remote: w(t, DeviceC)}
	wantText(t, "everything", c.Next(t, false), "batch a 1", "batch a 2", "batch a 3", "batch a 4", "batch b 1", "checkpoint a 4", "header 1")
	wantText(t, "idle", c.Next(t, false))
}

// What is behind a gap is told, and told again once the gap is filled.
func testGap(t *testing.T, w World) {
	a := Enabled(t, w, DeviceA)
	b := Follow{Remote: w(t, DeviceB)}
	putBatches(t, a, DeviceA, 1)
	settle(t, a)
	wantText(t, "first", b.Next(t, false), "batch a 1")
	putBatches(t, a, DeviceA, 3)
	settle(t, a)
	wantText(t, "gap", b.Next(t, false), "batch a 3")
	putBatches(t, w(t, DeviceC), DeviceA, 2)
	got := b.Next(t, true)
	if !slices.Contains(got, "batch a 2") {
		t.Errorf("filled: %q", got)
	}
	wantText(t, "whole", b.Next(t, true))
}

func testReconcile(t *testing.T, w World) {
	a := Enabled(t, w, DeviceA)
	for seq := range uint64(3) {
		must(t, a.Put(t.Context(), syncer.HeaderKey(seq+1), []byte("header")))
	}
	putBatches(t, a, DeviceA, 1, 2, 3, 4)
	putBatches(t, a, DeviceC, 1)
	b := Follow{Remote: w(t, DeviceB)}
	all := []string{"batch a 1", "batch a 2", "batch a 3", "batch a 4", "batch c 1", "header 1", "header 2", "header 3"}
	wantText(t, "all", b.Next(t, true), all...)
	for range 2 {
		wantText(t, "nothing new", b.Next(t, true))
	}
	putBatches(t, a, DeviceC, 2)
	putBatches(t, a, DeviceB, 1)
	must(t, a.Put(t.Context(), syncer.HeaderKey(4), []byte("header")))
	wantText(t, "some", b.Next(t, true), "batch b 1", "batch c 2", "header 4")
}

func testHostileCursor(t *testing.T, w World) {
	a := Enabled(t, w, DeviceA)
	for _, text := range []string{"x", "[]", `{"v":2}`, `{"v":1,"log":[]}`, strings.Repeat("x", 2<<20)} {
		if _, err := a.Changes(t.Context(), []byte(text), 0); !errors.Is(err, syncer.ErrKey) && !errors.Is(err, syncer.ErrStartOver) {
			t.Errorf("cursor %.20q: %v", text, err)
		}
	}
}

func testBlobs(t *testing.T, w World) {
	a, b := Enabled(t, w, DeviceA), w(t, DeviceB)
	lengths := []int64{0, 1, 4096, 300_000}
	var ids []string
	for i, n := range lengths {
		must(t, PutBlob(t.Context(), a, ID(i), blobtest.Bytes(n)))
		ids = append(ids, ID(i))
		got, err := ReadBlob(t.Context(), b, ID(i), 0, -1)
		if err != nil || !bytes.Equal(got, blobtest.Bytes(n)) {
			t.Errorf("blob of %d: %d bytes, %v", n, len(got), err)
		}
	}
	got, err := ReadBlob(t.Context(), b, ID(3), 1000, 50)
	if err != nil || !bytes.Equal(got, blobtest.Bytes(300_000)[1000:1050]) {
		t.Errorf("range: %d bytes, %v", len(got), err)
	}
	sizes, err := b.StatBlobs(t.Context(), append(ids, ID(99)))
	if err != nil || !slices.Equal(sizes, append(slices.Clone(lengths), syncer.Missing)) {
		t.Errorf("StatBlobs: %v, %v", sizes, err)
	}
	_, err = b.GetBlob(t.Context(), ID(99), 0, -1)
	wantErr(t, "GetBlob of a missing one", err, syncer.ErrNotFound)
	settle(t, a)
	changes, err := b.Changes(t.Context(), nil, 0)
	must(t, err)
	if !slices.ContainsFunc(changes.List, func(c syncer.Change) bool { return c.Kind == syncer.KindBlob }) {
		t.Errorf("no word of blobs: %v", changes.List)
	}
}

func testBlobTwice(t *testing.T, w World) {
	a, b := Enabled(t, w, DeviceA), w(t, DeviceB)
	content := blobtest.Bytes(100_000)
	for range 2 {
		must(t, PutBlob(t.Context(), a, ID(1), content))
	}
	up := syncer.Upload{Blob: ID(1), Size: 100_000, Again: true}
	must(t, b.PutBlob(t.Context(), up, bytes.NewReader(content)))
	other := slices.Clone(content)
	other[99_999]++
	for _, again := range []bool{false, true} {
		up := syncer.Upload{Blob: ID(1), Size: 100_000, Again: again}
		wantErr(t, "other bytes", b.PutBlob(t.Context(), up, bytes.NewReader(other)), syncer.ErrOtherBytes)
	}
	wantErr(t, "fewer bytes", PutBlob(t.Context(), b, ID(1), content[1:]), syncer.ErrOtherBytes)
	got, err := ReadBlob(t.Context(), b, ID(1), 0, -1)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("the first bytes are gone: %v", err)
	}
}

func testBlobRace(t *testing.T, w World) {
	Enabled(t, w, DeviceA)
	content := blobtest.Bytes(50_000)
	var wg sync.WaitGroup
	for range 6 {
		r := w(t, DeviceA)
		wg.Go(func() {
			if err := PutBlob(t.Context(), r, ID(5), content); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

var errBroken = errors.New("the disk broke")

// breaking fails behind an offset.
type breaking struct {
	io.ReaderAt
	at int64
}

func (b breaking) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > b.at {
		return 0, errBroken
	}
	return b.ReaderAt.ReadAt(p, off)
}

// An upload in parts goes on in another process with what was saved.
func testLargeBlobResumed(t *testing.T, w World) {
	const size = 33<<20 + 1
	Enabled(t, w, DeviceA)
	content := blobtest.Bytes(size)
	var state []byte
	var sent atomic.Int64
	up := syncer.Upload{
		Blob: ID(7), Size: size,
		Save: func(s []byte) error { state = slices.Clone(s); return nil },
		Sent: func(n int64) { sent.Add(n) },
	}
	err := w(t, DeviceA).PutBlob(t.Context(), up, breaking{bytes.NewReader(content), 20 << 20})
	wantErr(t, "a broken source", err, errBroken)
	if sizes, err := w(t, DeviceB).StatBlobs(t.Context(), []string{ID(7)}); err != nil || sizes[0] != syncer.Missing {
		t.Errorf("half a blob shows: %v, %v", sizes, err)
	}
	first := sent.Load()
	up.State, up.Again = state, true
	must(t, w(t, DeviceA).PutBlob(t.Context(), up, bytes.NewReader(content)))
	if state != nil || first > 0 && sent.Load() != size {
		t.Errorf("%d and %d of %d bytes sent, state %q left", first, sent.Load()-first, size, state)
	}
	up.State = []byte(`{"id":"nobody-knows-it","part":16777216}`)
	must(t, w(t, DeviceB).PutBlob(t.Context(), up, bytes.NewReader(content)))
	got, err := ReadBlob(t.Context(), w(t, DeviceB), ID(7), 0, -1)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes came back: %v", len(got), err)
	}
}

func testCancelled(t *testing.T, w World) {
	r := Enabled(t, w, DeviceA)
	must(t, PutBlob(t.Context(), r, ID(1), []byte("x")))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := r.Changes(ctx, nil, 0)
	wantErr(t, "Changes", err, context.Canceled)
	_, err = r.Get(ctx, syncer.MarkerKey)
	wantErr(t, "Get", err, context.Canceled)
	wantErr(t, "Put", r.Put(ctx, syncer.HeaderKey(9), []byte("x")), context.Canceled)
	wantErr(t, "PutBlob", PutBlob(ctx, r, ID(2), []byte("x")), context.Canceled)
	_, err = ReadBlob(ctx, r, ID(1), 0, -1)
	wantErr(t, "GetBlob", err, context.Canceled)
	_, err = r.StatBlobs(ctx, []string{ID(1)})
	wantErr(t, "StatBlobs", err, context.Canceled)
	_, err = r.Settle(ctx, syncer.Settlement{})
	wantErr(t, "Settle", err, context.Canceled)
}

func testSettle(t *testing.T, w World) {
	a := Enabled(t, w, DeviceA)
	must(t, a.Put(t.Context(), syncer.PairQuestion(ID(1)), []byte("q")))
	must(t, PutBlob(t.Context(), a, ID(1), []byte("x")))
	must(t, PutBlob(t.Context(), a, ID(2), []byte("y")))
	_, err := a.Settle(t.Context(), syncer.Settlement{Done: []string{syncer.HeaderKey(1)}})
	wantErr(t, "a header as done", err, syncer.ErrKey)
	collect := &syncer.Collection{Named: func(id string) bool { return id == ID(1) }}
	for range 2 {
		_, err = a.Settle(t.Context(), syncer.Settlement{Done: []string{syncer.PairQuestion(ID(1))}, Collect: collect})
		must(t, err)
	}
	_, err = a.Get(t.Context(), syncer.PairQuestion(ID(1)))
	wantErr(t, "a pairing that is done", err, syncer.ErrNotFound)
	sizes, err := a.StatBlobs(t.Context(), []string{ID(1), ID(2)})
	if err != nil || sizes[0] != 1 || sizes[1] != 1 {
		t.Errorf("nothing may go at once: %v, %v", sizes, err)
	}
}

// Everything at the same time on one remote.
func testConcurrent(t *testing.T, w World) {
	r := Enabled(t, w, DeviceA)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			ctx := t.Context()
			_, getErr := r.Get(ctx, syncer.MarkerKey)
			_, statErr := r.StatBlobs(ctx, []string{ID(i), ID(i + 1)})
			_, changesErr := r.Changes(ctx, nil, syncer.Reconcile)
			err := errors.Join(getErr, statErr, changesErr,
				r.Put(ctx, syncer.BatchKey(DeviceA, uint64(i+1)), []byte{byte(i)}),
				PutBlob(ctx, r, ID(i), blobtest.Bytes(int64(i))))
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	settle(t, r)
	f := Follow{Remote: w(t, DeviceB)}
	if got := f.Next(t, false); len(got) != 8 {
		t.Errorf("%q", got)
	}
}
