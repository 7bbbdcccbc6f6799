package objects

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/remote/syncer/remotetest"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob/blobtest"
)

// endless is a store whose listings have no end: what somebody malicious says is there.
type endless struct {
	blob.Store
	name   func(i uint64) string // below the vault, ascending
	yields uint64
}

func (e *endless) List(_ context.Context, prefix, after string) iter.Seq2[blob.Attrs, error] {
	return func(yield func(blob.Attrs, error) bool) {
		for i := uint64(1); ; i++ {
			key := base(remotetest.Vault) + e.name(i)
			if !strings.HasPrefix(key, prefix) {
				return
			}
			if key <= after {
				continue
			}
			if e.yields++; !yield(blob.Attrs{Key: key, Size: 1}, nil) {
				return
			}
		}
	}
}

// A look at a remote that lists without end comes back with a bounded answer, and
// with a cursor that can be read again.
func TestEndlessListing(t *testing.T) {
	for what, name := range map[string]func(i uint64) string{
		"a chain":            func(i uint64) string { return syncer.BatchKey(remotetest.DeviceA, i) },
		"a chain with holes": func(i uint64) string { return syncer.BatchKey(remotetest.DeviceA, 2*i) },
		"devices":            func(i uint64) string { return syncer.BatchKey(fmt.Sprintf("%08x-0000-4000-8000-000000000000", i), 1) },
		"headers":            func(i uint64) string { return syncer.HeaderKey(i) },
		"checkpoints": func(i uint64) string {
			return syncer.CheckpointEnd(syncer.CheckpointName(remotetest.DeviceA, i))
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			store := blobtest.NewMemory()
			enabled(t, store)
			e := &endless{Store: store, name: name}
			r := open(t, e, Options{Device: remotetest.DeviceB, Caps: goodCaps})
			var cursor []byte
			for range 2 {
				ch, err := r.Changes(t.Context(), cursor, syncer.Reconcile)
				if err != nil {
					t.Fatal(err)
				}
				if len(ch.List) > maxChanges+1 || len(ch.Gone) > 1 {
					t.Errorf("%d changes, gone %v", len(ch.List), ch.Gone)
				}
				cursor = ch.Next
			}
			if e.yields > 4*maxChanges {
				t.Errorf("it listed %d names", e.yields)
			}
		})
	}
}

// What is longer than one look may find is found by the next ones, and nothing of it
// counts as gone.
func TestLongChainsAreFoundInTurn(t *testing.T) {
	store := blobtest.NewMemory()
	enabled(t, store)
	const all = maxChanges + maxChanges/2
	e := &endless{Store: store, name: func(i uint64) string {
		if i > all {
			return "x" // the end
		}
		return syncer.BatchKey(remotetest.DeviceA, i)
	}}
	r := open(t, e, Options{Device: remotetest.DeviceB, Caps: goodCaps})
	var cursor []byte
	found := uint64(0)
	for more := true; more; {
		ch, err := r.Changes(t.Context(), cursor, syncer.Reconcile)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range ch.List {
			if c.Kind == syncer.KindBatch {
				found = max(found, c.Seq)
			}
		}
		for _, c := range ch.Gone {
			if c.Kind == syncer.KindBatch {
				t.Errorf("gone: %v", c)
			}
		}
		cursor, more = ch.Next, ch.More
	}
	if found != all {
		t.Errorf("%d of %d batches were found", found, all)
	}
}
