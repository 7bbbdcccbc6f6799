package objects

import (
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/remote/syncer/remotetest"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob/blobtest"
)

// Whoever collects dies at any of its calls that change something, before or after
// the store has done it. Another device does it some days later: what is named
// stays, and of the rest nothing is left.
func TestCollectKilled(t *testing.T) {
	want, calls := collectKilled(t, 0, false)
	if calls < 8 {
		t.Fatalf("a collection is %d calls", calls)
	}
	for at := 1; at <= calls; at++ {
		for _, late := range []bool{false, true} {
			if got, _ := collectKilled(t, at, late); !maps.Equal(got, want) {
				t.Errorf("killed at call %d, after it %v: left\n%q\nwant\n%q", at, late, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
			}
		}
	}
}

// collectKilled collects what was due for days, dies at a changing call, and lets
// another device collect. It gives what is there then, and how many such calls the
// first collection had.
func collectKilled(t *testing.T, at int, late bool) (left map[string]bool, calls int) {
	left = make(map[string]bool)
	synctest.Test(t, func(t *testing.T) {
		store, rec := blobtest.NewMemory(), &recorder{}
		enabled(t, store)
		a := open(t, rec.around(store), Options{Device: remotetest.DeviceA, Caps: goodCaps})
		b := open(t, store, Options{Device: remotetest.DeviceB, Caps: goodCaps})
		for i := range 5 {
			must(t, remotetest.PutBlob(t.Context(), a, remotetest.ID(i+1), []byte("x")))
			must(t, a.Put(t.Context(), syncer.BatchKey(remotetest.DeviceA, uint64(i+1)), []byte("x")))
		}
		old := syncer.CheckpointName(remotetest.DeviceA, 2)
		for part := 1; part <= 3; part++ {
			must(t, a.Put(t.Context(), syncer.CheckpointKey(old, part), []byte("p")))
		}
		must(t, a.Put(t.Context(), syncer.CheckpointEnd(old), []byte("m")))
		what := syncer.Settlement{Collect: &syncer.Collection{
			Named: func(id string) bool { return id == remotetest.ID(1) }, Heads: map[string]uint64{remotetest.DeviceA: 4}, Checkpoints: []string{old},
		}}
		_, err := a.Settle(t.Context(), syncer.Settlement{Collect: &syncer.Collection{Named: what.Collect.Named}})
		must(t, err)
		time.Sleep(8 * day)
		var count, dead atomic.Int64
		rec.fault = func(c blobtest.Call) blobtest.Fault {
			if dead.Load() > 0 {
				return blobtest.Fault{Err: blob.ErrUnavailable}
			}
			if c.Op != "Put" && c.Op != "Delete" {
				return blobtest.Fault{}
			}
			if count.Add(1) != int64(at) {
				return blobtest.Fault{}
			}
			dead.Store(1)
			return blobtest.Fault{Err: blob.ErrUnavailable, LostAnswer: late}
		}
		_, err = a.Settle(t.Context(), what)
		if at == 0 {
			must(t, err)
		}
		calls = int(count.Load())
		for range 3 { // what was nobody's candidate before is one first
			time.Sleep(8 * day)
			_, err := b.Settle(t.Context(), what)
			must(t, err)
		}
		for attrs, err := range store.List(t.Context(), base(remotetest.Vault), "") {
			must(t, err)
			key := strings.TrimPrefix(attrs.Key, base(remotetest.Vault))
			if !strings.HasPrefix(key, cyclePrefix) && key != "tip" {
				left[key] = true
			}
		}
	})
	if want := "blobs/" + remotetest.ID(1) + ".bin"; !left[want] {
		t.Fatalf("what is named is gone: %s", want)
	}
	return left, calls
}
