package server

import (
	"net/http"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob/blobtest"
)

// TestStoreIsFull: a server whose own disk is full says so, and when to come again; it
// is not away, what is there can be read, and it goes on once there is room.
func TestStoreIsFull(t *testing.T) {
	onBoth(t, Options{Limits: NoLimits()}, func(t *testing.T, w *world) {
		p := w.register()
		parent := p.parent("item")
		content := randomBytes(300 << 10)
		p.do("POST", api.PathAttachments, uploadBody("item", parent, content)).want(http.StatusCreated)
		full := &blobtest.Faulty{Store: w.blobs, Plan: func(c blobtest.Call) blobtest.Fault {
			if c.Op == "Put" || c.Op == "Start" {
				return blobtest.Fault{Err: blob.ErrNoSpace}
			}
			return blobtest.Fault{}
		}}
		w.o.Blobs = full
		a := p.do("POST", api.PathAttachments, uploadBody("item", parent, content))
		a.code(api.CodeStorageFull)
		if a.header.Get("Retry-After") != "60" {
			t.Errorf("again in %q", a.header.Get("Retry-After"))
		}
		p.do("GET", api.PathUsage, nil).want(http.StatusOK)
		w.o.Blobs = w.blobs
		p.do("POST", api.PathAttachments, uploadBody("item", parent, content)).want(http.StatusCreated)
	})
}
