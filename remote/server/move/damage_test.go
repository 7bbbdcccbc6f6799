package move

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/server/metadb"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob/blobtest"
)

// TestDamagedSource: what the source has lost is named, and can be left out: then
// the destination asks for it.
func TestDamagedSource(t *testing.T) {
	from, to := local(t), scaled(t)
	a := register(t, from)
	good, missing, short, wrong := a.store(t, from, []byte("good")), a.store(t, from, []byte("missing")), a.store(t, from, []byte("short")), a.store(t, from, []byte("wrong"))
	must(t, from.Blobs.Delete(ctx, missing.StorageKey))
	must(t, from.Blobs.Put(ctx, short.StorageKey, strings.NewReader("sho"), 3, false))
	must(t, from.Blobs.Put(ctx, wrong.StorageKey, strings.NewReader("WRONG"), 5, false))
	r, err := Run(ctx, options(from, to))
	if !errors.Is(err, ErrDamaged) || len(r.Damaged) != 3 {
		t.Fatalf("%+v, %v", r, err)
	}
	must(t, from.DB.MayServe(ctx))
	why := map[string]string{}
	for _, d := range r.Damaged {
		why[d.Key] = d.Reason
	}
	if why[missing.StorageKey] != "missing" || why[short.StorageKey] != "length" || why[wrong.StorageKey] != "hash" {
		t.Errorf("%v", why)
	}
	for _, u := range []metadb.Upload{missing, short, wrong} {
		if _, err := to.Blobs.Head(ctx, u.StorageKey); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("%s got to the destination: %v", u.StorageKey, err)
		}
	}
	o := options(from, to)
	o.SkipDamaged = true
	if r, err = Run(ctx, o); err != nil || r.Blobs != 1 || len(r.Damaged) != 3 {
		t.Fatalf("%+v, %v", r, err)
	}
	if b, err := to.DB.Blob(ctx, a.ID, good.Blob); err != nil || b.State != api.BlobPresent {
		t.Errorf("%+v, %v", b, err)
	}
	for _, u := range []metadb.Upload{missing, short, wrong} {
		if _, err := to.DB.Blob(ctx, a.ID, u.Blob); !api.IsCode(err, api.CodeBlobGone) {
			t.Errorf("%s: %v", u.Blob, err)
		}
	}
	changes, err := to.DB.Changes(ctx, a.ID, a.usage(t, from).Head, 10)
	must(t, err)
	if len(changes.Changes) != 3 {
		t.Errorf("told of: %+v", changes.Changes)
	}
}

// TestBlobsStay: where the store of the blobs stays, what is to be deleted from
// it still is.
func TestBlobsStay(t *testing.T) {
	from, to := local(t), local(t)
	to.Blobs, to.Store = from.Blobs, from.Store
	a := register(t, from)
	a.store(t, from, []byte("kept"))
	half := metadb.Upload{Account: a.ID, Slot: "half", Attempt: "half", Blob: "half", StorageKey: "vaults/half", Stored: 10}
	_, _, err := from.DB.Admit(ctx, half)
	must(t, err)
	dead := metadb.Upload{Account: a.ID, Slot: "dead", Attempt: "dead", Blob: "dead", StorageKey: "vaults/dead", Stored: 10}
	_, _, err = from.DB.Admit(ctx, dead)
	must(t, err)
	must(t, from.DB.Abort(ctx, dead))
	o := options(from, to)
	o.Kept = true
	r, err := Run(ctx, o)
	must(t, err)
	if r.Blobs != 1 || r.CopiedBlobs != 0 {
		t.Errorf("%+v", r)
	}
	due, err := to.DB.DueObjects(ctx)
	must(t, err)
	if len(due) != 2 {
		t.Errorf("to delete: %v", due)
	}
}

// TestDestinationFails: what stops the destination comes through, told from what
// would be the source's fault; a store that only does not answer is asked again.
func TestDestinationFails(t *testing.T) {
	from := local(t)
	a := register(t, from)
	for i := range 3 {
		a.store(t, from, fmt.Appendf(nil, "content %d", i))
	}
	for _, kind := range []error{blob.ErrNoSpace, blob.ErrDenied, fmt.Errorf("%w: %w", blob.ErrUnavailable, blob.ErrNoStore)} {
		o := options(from, local(t))
		o.To.Blobs = &blobtest.Faulty{Store: o.To.Blobs, Plan: func(c blobtest.Call) blobtest.Fault {
			if c.Op == "Put" && strings.HasPrefix(c.Key, "vaults/") {
				return blobtest.Fault{Err: kind}
			}
			return blobtest.Fault{}
		}}
		if _, err := Run(ctx, o); !errors.Is(err, kind) || !strings.HasPrefix(err.Error(), "destination: ") {
			t.Errorf("%v: %v", kind, err)
		}
		must(t, from.DB.MayServe(ctx))
	}
	o := options(from, local(t))
	var failed atomic.Bool
	o.To.Blobs = &blobtest.Faulty{Store: o.To.Blobs, Plan: func(c blobtest.Call) blobtest.Fault {
		if c.Op == "Put" && strings.HasPrefix(c.Key, "vaults/") && failed.CompareAndSwap(false, true) {
			return blobtest.Fault{Err: blob.ErrUnavailable}
		}
		return blobtest.Fault{}
	}}
	o.From.Blobs = &blobtest.Faulty{Store: from.Blobs, Plan: func(c blobtest.Call) blobtest.Fault {
		if c.Op == "Get" && c.N == 1 {
			return blobtest.Fault{Err: blob.ErrUnavailable, Cut: 3}
		}
		return blobtest.Fault{}
	}}
	if r, err := Run(ctx, o); err != nil || r.CopiedBlobs != 3 || len(r.Damaged) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}
