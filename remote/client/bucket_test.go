package client

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/server"
)

// fakeBucket gives objects at signed addresses, on another port of the server's
// own host, and notes what nobody there should see.
type fakeBucket struct {
	*httptest.Server
	asked  atomic.Int64
	status atomic.Int64 // 0: it works
	leaked atomic.Bool  // a header went there that should not
}

func newFakeBucket(t *testing.T, objects http.Handler) *fakeBucket {
	b := &fakeBucket{}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.asked.Add(1)
		for name := range r.Header {
			if name != "Range" && name != "User-Agent" && name != "Accept-Encoding" {
				t.Errorf("the bucket was sent %s", name)
				b.leaked.Store(true)
			}
		}
		if status := int(b.status.Load()); status != 0 {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "<Error><Code>Whatever</Code></Error>")
			return
		}
		objects.ServeHTTP(w, r)
	}))
	t.Cleanup(b.Close)
	return b
}

func (b *fakeBucket) sign(_ context.Context, key string, _ time.Duration) (string, error) {
	return b.URL + "/" + key + "?X-Amz-Signature=secret-of-the-address", nil
}

// TestBucket: contents come from the bucket that the server names, without the
// session going there; where the bucket fails they come through the server, and
// for a while the bucket is left alone.
func TestBucket(t *testing.T) {
	var w *world
	b := newFakeBucket(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		http.ServeFile(rw, r, filepath.Join(w.dir, "blobs", filepath.FromSlash(r.URL.Path)))
	}))
	w = newWorld(t, server.Options{Limits: server.NoLimits(), Sign: b.sign})
	r := w.enabled()
	content := random(1 << 20)
	must(t, r.PutBlob(t.Context(), upload(content, 1), bytes.NewReader(content)))
	read := func(what string, off, n, asked int64) {
		t.Helper()
		before := b.asked.Load()
		body, err := r.GetBlob(t.Context(), upload(content, 1).Blob, off, n)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		defer body.Close()
		want := content[off:]
		if n >= 0 {
			want = want[:n]
		}
		if got, err := io.ReadAll(body); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v; want %d", what, len(got), err, len(want))
		}
		if got := b.asked.Load() - before; got != asked {
			t.Errorf("%s: the bucket was asked %d times, want %d", what, got, asked)
		}
	}
	read("whole", 0, -1, 1)
	read("a range", 1000, 400_000, 1)
	read("a small range", 1000, 1000, 0)
	for _, status := range []int64{http.StatusForbidden, http.StatusNotFound, http.StatusServiceUnavailable} {
		b.status.Store(status)
		read(http.StatusText(int(status)), 0, -1, 1)
		read("then", 0, -1, 0)
		w.clock.Add(directFor.Milliseconds())
	}
	b.status.Store(0)
	read("it works again", 0, -1, 1)
	b.Close()
	read("it is gone", 0, -1, 0)
	if b.leaked.Load() {
		t.Error("what is the server's went to the bucket")
	}
	// What the server has lost is told as such, and no error has the address.
	w.clock.Add(directFor.Milliseconds())
	must(t, os.RemoveAll(filepath.Join(w.dir, "blobs", "vaults")))
	_, err := r.GetBlob(t.Context(), upload(content, 1).Blob, 0, -1)
	if err == nil || strings.Contains(err.Error(), "secret-of-the-address") {
		t.Errorf("%v", err)
	}
}
