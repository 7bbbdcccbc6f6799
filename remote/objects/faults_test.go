package objects

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/remote/syncer/remotetest"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob/blobtest"
)

// once makes the first call of that method on a key with that part fail.
func once(op, part string, fault blobtest.Fault) func(blobtest.Call) blobtest.Fault {
	done := false
	return func(c blobtest.Call) blobtest.Fault {
		if done || c.Op != op || !strings.Contains(c.Key, part) {
			return blobtest.Fault{}
		}
		done = true
		return fault
	}
}

// What got lost is sent again and found to be there.
func TestLostAnswers(t *testing.T) {
	key := syncer.BatchKey(remotetest.DeviceA, 1)
	for _, fault := range []blobtest.Fault{
		{Err: blob.ErrUnavailable},
		{Err: blob.ErrUnavailable, LostAnswer: true},
		{Err: blob.ErrUnavailable, Cut: 3},
	} {
		rec := &recorder{fault: once("Put", "log/", fault)}
		r := enabled(t, rec.around(blobtest.NewMemory()))
		if err := r.Put(t.Context(), key, []byte("a batch")); !errors.Is(err, syncer.ErrUnavailable) {
			t.Errorf("%+v: %v", fault, err)
		}
		for range 2 {
			must(t, r.Put(t.Context(), key, []byte("a batch")))
		}
		if err := r.Put(t.Context(), key, []byte("another")); !errors.Is(err, syncer.ErrOtherBytes) {
			t.Errorf("%+v, other bytes: %v", fault, err)
		}
	}
}

func TestBlobFaults(t *testing.T) {
	content := blobtest.Bytes(1000)
	for _, fault := range []blobtest.Fault{
		{Err: blob.ErrUnavailable, LostAnswer: true},
		{Err: blob.ErrUnavailable, Cut: 500},
		{Err: blob.ErrNoSpace},
	} {
		rec := &recorder{fault: once("Put", "blobs/", fault)}
		r := enabled(t, rec.around(blobtest.NewMemory()))
		if err := remotetest.PutBlob(t.Context(), r, remotetest.ID(1), content); !errors.Is(err, fault.Err) {
			t.Errorf("%+v: %v", fault, err)
		}
		for _, again := range []bool{true, false} {
			up := syncer.Upload{Blob: remotetest.ID(1), Size: 1000, Again: again}
			must(t, r.PutBlob(t.Context(), up, bytes.NewReader(content)))
		}
	}
	rec := &recorder{}
	r := enabled(t, rec.around(blobtest.NewMemory()))
	must(t, remotetest.PutBlob(t.Context(), r, remotetest.ID(1), content))
	rec.fault = once("Get", "blobs/", blobtest.Fault{Err: blob.ErrUnavailable, Cut: 10})
	if b, err := remotetest.ReadBlob(t.Context(), r, remotetest.ID(1), 0, -1); !errors.Is(err, syncer.ErrUnavailable) || len(b) != 10 {
		t.Errorf("a cut body: %d bytes, %v", len(b), err)
	}
}

// At every call of an upload in parts something goes wrong once; the next
// attempt ends well and the blob is whole.
func TestUploadFaults(t *testing.T) {
	const size = 33 << 20
	content := blobtest.Bytes(size)
	for _, op := range []string{"Start", "Part", "Finish", "Head"} {
		for _, lost := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s lost %v", op, lost), func(t *testing.T) {
				store := blobtest.NewMemory()
				enabled(t, store)
				rec := &recorder{fault: once(op, "blobs/", blobtest.Fault{Err: blob.ErrUnavailable, LostAnswer: lost})}
				r := open(t, rec.around(store), Options{Device: remotetest.DeviceA, Caps: goodCaps})
				var state []byte
				up := syncer.Upload{Blob: remotetest.ID(1), Size: size, Save: func(s []byte) error { state = slices.Clone(s); return nil }}
				if err := r.PutBlob(t.Context(), up, bytes.NewReader(content)); !errors.Is(err, syncer.ErrUnavailable) {
					t.Errorf("first: %v", err)
				}
				up.State = state
				must(t, r.PutBlob(t.Context(), up, bytes.NewReader(content)))
				if state != nil {
					t.Errorf("state left: %q", state)
				}
				got, err := remotetest.ReadBlob(t.Context(), r, remotetest.ID(1), 0, -1)
				if err != nil || !bytes.Equal(got, content) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			})
		}
	}
}

// An upload that the store threw away begins anew, and one whose name was taken
// by others ends with a name for that.
func TestUploadLost(t *testing.T) {
	const size = 17 << 20
	content := blobtest.Bytes(size)
	store := blobtest.NewMemory()
	r := enabled(t, store)
	up := syncer.Upload{Blob: remotetest.ID(1), Size: size, Save: func(state []byte) error {
		if state != nil {
			return errors.New("killed here")
		}
		return nil
	}}
	if err := r.PutBlob(t.Context(), up, bytes.NewReader(content)); err == nil {
		t.Error("Save's error was lost")
	}
	up.State, up.Save = []byte(`{"id":"gone","part":16777216}`), nil
	must(t, r.PutBlob(t.Context(), up, bytes.NewReader(content)))
	other := slices.Clone(content)
	other[0]++
	if err := r.PutBlob(t.Context(), up, bytes.NewReader(other)); !errors.Is(err, syncer.ErrOtherBytes) {
		t.Errorf("other bytes: %v", err)
	}
}

// A tip that cannot be written fails no put; Settle tells.
func TestTipRefused(t *testing.T) {
	rec := &recorder{}
	r := enabled(t, rec.around(blobtest.NewMemory()))
	rec.fault = func(c blobtest.Call) blobtest.Fault {
		if strings.HasSuffix(c.Key, "/tip") {
			return blobtest.Fault{Err: blob.ErrDenied}
		}
		return blobtest.Fault{}
	}
	must(t, r.Put(t.Context(), syncer.BatchKey(remotetest.DeviceA, 1), []byte("x")))
	if _, err := r.Settle(t.Context(), syncer.Settlement{}); !errors.Is(err, syncer.ErrDenied) {
		t.Errorf("Settle: %v", err)
	}
	rec.fault = nil
	if _, err := r.Settle(t.Context(), syncer.Settlement{}); err != nil {
		t.Error(err)
	}
}

// A listing that breaks off tells of nothing missing and moves no cursor.
func TestListingCut(t *testing.T) {
	store := blobtest.NewMemory()
	a := enabled(t, store)
	for seq := range uint64(5) {
		must(t, a.Put(t.Context(), syncer.BatchKey(remotetest.DeviceA, seq+1), []byte("x")))
	}
	first, err := a.Changes(t.Context(), nil, 0)
	must(t, err)
	for _, prefix := range []string{"log/", "headers/", "checkpoints/"} {
		rec := &recorder{fault: once("List", prefix, blobtest.Fault{Err: blob.ErrUnavailable})}
		r := open(t, rec.around(store), Options{Device: remotetest.DeviceB, Caps: goodCaps})
		c, err := r.Changes(t.Context(), first.Next, syncer.Reconcile)
		if !errors.Is(err, syncer.ErrUnavailable) || len(c.List)+len(c.Gone)+len(c.Next) > 0 {
			t.Errorf("%s: %+v, %v", prefix, c, err)
		}
	}
}
