package vaultcore

import (
	"bytes"
	"context"
	"io"
	"sync"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// slowRemote gives a device what the fleet's remote holds, and misbehaves as a
// test says.
type slowRemote struct {
	f *fleet

	mu     sync.Mutex
	ranges []int64 // offsets asked for, in order
	wholes int
	active int
	most   int           // ranges under way at a time
	gate   chan struct{} // while not nil, requests hang until it is closed
	bend   func(p []byte, off int64) ([]byte, error)
	blobs  map[seal.ID][]byte // instead of the fleet's
}

// demand connects a device with a remote for what it reads.
func (f *fleet) demand(d *device) *slowRemote {
	r := &slowRemote{f: f}
	r.connect(d)
	return r
}

func (r *slowRemote) connect(d *device) {
	d.OnFetchRange(r.fetchRange)
	d.OnFetch(func(ctx context.Context, id seal.ID) error {
		if err := r.enter(ctx, -1); err != nil {
			return err
		}
		defer r.leave()
		data, ok := r.blob(id)
		if !ok {
			return blob.ErrNotFound
		}
		return d.PutBlob(ctx, id, bytes.NewReader(data))
	})
}

func (r *slowRemote) blob(id seal.ID) ([]byte, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if data, ok := r.blobs[id]; ok {
		return data, true
	}
	data, ok := r.f.blobs[id]
	return data, ok
}

func (r *slowRemote) enter(ctx context.Context, off int64) error {
	r.mu.Lock()
	if off < 0 {
		r.wholes++
	} else {
		r.ranges = append(r.ranges, off)
	}
	r.active++
	r.most = max(r.most, r.active)
	gate := r.gate
	r.mu.Unlock()
	if gate == nil {
		return nil
	}
	select {
	case <-gate:
		return nil
	case <-ctx.Done():
		r.leave()
		return ctx.Err()
	}
}

func (r *slowRemote) leave() {
	r.mu.Lock()
	r.active--
	r.mu.Unlock()
}

func (r *slowRemote) fetchRange(ctx context.Context, id seal.ID, off, n int64, w io.WriterAt) error {
	if err := r.enter(ctx, off); err != nil {
		return err
	}
	defer r.leave()
	data, ok := r.blob(id)
	if !ok {
		return blob.ErrNotFound
	}
	p := bytes.Clone(data[off : off+n])
	r.mu.Lock()
	bend := r.bend
	r.mu.Unlock()
	if bend != nil {
		var err error
		if p, err = bend(p, off); err != nil {
			w.WriteAt(p, off)
			return err
		}
	}
	_, err := w.WriteAt(p, off)
	return err
}

func (r *slowRemote) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

func (r *slowRemote) asked() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.ranges)
}

// hang makes requests hang until the result is called.
func (r *slowRemote) hang() (open func()) {
	gate := make(chan struct{})
	r.set(func() { r.gate = gate })
	return sync.OnceFunc(func() {
		r.set(func() { r.gate = nil })
		close(gate)
	})
}

const farFile = "A/far"

// farAway gives two devices, the second of which knows a file of size bytes
// whose content is on the remote only.
func farAway(t testing.TB, limits Limits, size int) (f *fleet, bob *device, r *slowRemote, data []byte) {
	t.Helper()
	f = newFleetOf(t, limits, "v4", "ada", "bob")
	ada, bob := f.devices[0], f.devices[1]
	data = randomBytes(size, 7)
	for _, d := range f.devices {
		d.useRemote()
	}
	ada.mkdir("A")
	writeFile(t, ada.Vault, farFile, data)
	ada.push()
	bob.pullBatches()
	return f, bob, f.demand(bob), data
}

func (d *device) useRemote() {
	d.f.t.Helper()
	if err := d.SetRemote(context.Background(), RemoteSettings{URL: "file:///nowhere", ID: d.f.remote, Enabled: true}); err != nil {
		d.f.t.Fatal(err)
	}
}

func readRange(v *Vault, path string, off, n int64) ([]byte, error) {
	r, err := v.OpenRead(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	buf := make([]byte, n)
	got, err := v.ReadAt(r.n, buf, off)
	return buf[:got], err
}

// wantRange reads a part of a file and holds it against what was written.
func wantRange(t testing.TB, v *Vault, path string, data []byte, off, n int64) {
	t.Helper()
	got, err := readRange(v, path, off, n)
	if err != nil || !bytes.Equal(got, data[off:min(off+n, int64(len(data)))]) {
		t.Fatalf("%d bytes of %s at %d: %d bytes, %v", n, path, off, len(got), err)
	}
}

func (d *device) residence(path string) string {
	d.f.t.Helper()
	i, err := d.Stat(path)
	if err != nil {
		d.f.t.Fatal(err)
	}
	return i.Content
}
