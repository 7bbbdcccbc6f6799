package objects

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/remote/syncer/remotetest"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob/blobtest"
)

const day = 24 * time.Hour

func TestSweep(t *testing.T) {
	now := time.Date(2030, 1, 31, 0, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	there := []stored{
		{"old", 1, ago(30 * day)}, {"named", 1, ago(30 * day)}, {"young", 1, ago(6 * day)}, {"other", 1, ago(30 * day)}, {"week", 1, ago(7 * day)},
	}
	named := func(id string) bool { return id == "named" }
	for _, c := range []struct {
		what   string
		cycles []cycle
		remove []string
		over   int
	}{
		{"no cycle", nil, nil, 0},
		{"a day too early", []cycle{{Blobs: []string{"old"}, made: ago(6 * day)}}, nil, 0},
		{"a moment too early", []cycle{{Blobs: []string{"old"}, made: ago(7*day - 1)}}, nil, 0},
		{"in time", []cycle{{Blobs: []string{"old", "named", "young", "week", "elsewhere"}, made: ago(7 * day)}}, []string{"old", "week"}, 1},
		{"two cycles", []cycle{{Blobs: []string{"old"}, made: ago(8 * day)}, {Blobs: []string{"other"}, made: ago(2 * day)}}, []string{"old"}, 1},
		{"in the future", []cycle{{Blobs: []string{"old"}, made: ago(-90 * day)}}, nil, 0},
		{"damaged", []cycle{{made: ago(90 * day)}}, nil, 1},
	} {
		remove, over := sweep(there, named, c.cycles, now)
		var got []string
		for _, b := range remove {
			got = append(got, b.id)
		}
		if !slices.Equal(got, c.remove) || len(over) != c.over {
			t.Errorf("%s: removes %q, ends %d", c.what, got, len(over))
		}
	}
}

func TestCandidates(t *testing.T) {
	there := []stored{{id: "a"}, {id: "b"}, {id: "c"}}
	named := func(id string) bool { return id == "a" }
	if got := candidates(there, named, nil); !slices.Equal(got, []string{"b", "c"}) {
		t.Errorf("%q", got)
	}
	if got := candidates(there, named, []cycle{{Blobs: []string{"b"}}}); !slices.Equal(got, []string{"c"}) {
		t.Errorf("beside a running cycle: %q", got)
	}
	many := make([]stored, maxCandidates+10)
	if got := candidates(many, named, nil); len(got) != maxCandidates {
		t.Errorf("%d at once", len(got))
	}
}

// A month of collections by two devices: at most one a day, nothing younger
// than its grace goes, nothing named goes, and what nobody needs does.
func TestCollectOverTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := blobtest.NewMemory()
		a := enabled(t, store)
		b := open(t, store, Options{Device: remotetest.DeviceB, Caps: goodCaps})
		names := map[string]bool{remotetest.ID(1): true, remotetest.ID(2): true}
		named := func(id string) bool { return names[id] }
		for i := range 4 {
			must(t, remotetest.PutBlob(t.Context(), a, remotetest.ID(i), []byte("content")))
		}
		left := func() string {
			sizes, err := a.StatBlobs(t.Context(), []string{remotetest.ID(0), remotetest.ID(1), remotetest.ID(2), remotetest.ID(3)})
			must(t, err)
			var text []string
			for _, size := range sizes {
				if size == syncer.Missing {
					text = append(text, "-")
				} else {
					text = append(text, "x")
				}
			}
			return strings.Join(text, "")
		}
		want := map[int]string{0: "xxxx", 6: "xxxx", 7: "-xxx", 9: "-xxx", 16: "-xxx", 17: "-x-x", 30: "-x-x"}
		for today := range 31 {
			if today == 5 {
				names[remotetest.ID(3)] = true // undeleted in time
			}
			if today == 10 {
				names[remotetest.ID(2)] = false
			}
			ran := 0
			for _, r := range []*Remote{a, b, a} {
				done, err := r.Settle(t.Context(), syncer.Settlement{Collect: &syncer.Collection{Named: named}})
				must(t, err)
				if done.Collected {
					ran++
				}
			}
			if ran != 1 {
				t.Errorf("day %d: %d collections", today, ran)
			}
			if w, ok := want[today]; ok && left() != w {
				t.Errorf("day %d: %s, want %s", today, left(), w)
			}
			time.Sleep(day)
		}
		cycles := 0
		for range store.List(t.Context(), base(remotetest.Vault)+cyclePrefix, "") {
			cycles++
		}
		if cycles > 8 {
			t.Errorf("%d cycles left", cycles)
		}
	})
}

// The time that counts is the store's, also for a device years ahead.
func TestCollectByTheStoresClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := blobtest.NewMemory()
		enabled(t, store)
		ahead := time.Duration(0)
		r := open(t, store, Options{Device: remotetest.DeviceA, Caps: goodCaps, Now: func() time.Time { return time.Now().Add(ahead) }})
		must(t, remotetest.PutBlob(t.Context(), r, remotetest.ID(1), []byte("x")))
		for range 5 {
			_, err := r.Settle(t.Context(), syncer.Settlement{Collect: &syncer.Collection{Named: func(string) bool { return false }}})
			must(t, err)
			ahead += 400 * day
		}
		if sizes, err := r.StatBlobs(t.Context(), []string{remotetest.ID(1)}); err != nil || sizes[0] != 1 {
			t.Errorf("%v, %v", sizes, err)
		}
	})
}

func TestTrim(t *testing.T) {
	store := blobtest.NewMemory()
	a := enabled(t, store)
	for seq := range uint64(5) {
		must(t, a.Put(t.Context(), syncer.BatchKey(remotetest.DeviceA, seq+1), []byte("x")))
		must(t, a.Put(t.Context(), syncer.BatchKey(remotetest.DeviceB, seq+1), []byte("x")))
	}
	old, base2 := syncer.CheckpointName(remotetest.DeviceA, 2), syncer.CheckpointName(remotetest.DeviceA, 4)
	for _, name := range []string{old, base2} {
		must(t, a.Put(t.Context(), syncer.CheckpointKey(name, 1), []byte("p")))
		must(t, a.Put(t.Context(), syncer.CheckpointEnd(name), []byte("m")))
	}
	first, err := a.Changes(t.Context(), nil, 0)
	must(t, err)
	_, err = a.Settle(t.Context(), syncer.Settlement{Collect: &syncer.Collection{
		Named: func(string) bool { return true }, Heads: map[string]uint64{remotetest.DeviceA: 4}, Checkpoints: []string{old},
	}})
	must(t, err)
	f := remotetest.Follow{Remote: open(t, store, Options{Device: remotetest.DeviceC, Caps: goodCaps})}
	want := []string{"batch a 4", "batch a 5", "batch b 1", "batch b 2", "batch b 3", "batch b 4", "batch b 5", "checkpoint a 4"}
	if got := f.Next(t, true); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	for attrs := range store.List(t.Context(), base(remotetest.Vault)+"checkpoints/"+old, "") {
		t.Errorf("left: %s", attrs.Key)
	}
	f = remotetest.Follow{Remote: a, Cursor: first.Next}
	if got := f.Next(t, true); len(got) > 0 {
		t.Errorf("for one who had all: %q", got)
	}
}

// Nothing is removed while a listing is incomplete or the place is a stranger's.
func TestCollectStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := blobtest.NewMemory()
		rec := &recorder{}
		enabled(t, store)
		r := open(t, rec.around(store), Options{Device: remotetest.DeviceA, Caps: goodCaps})
		must(t, remotetest.PutBlob(t.Context(), r, remotetest.ID(1), []byte("x")))
		settlement := syncer.Settlement{Collect: &syncer.Collection{Named: func(string) bool { return false }}}
		_, err := r.Settle(t.Context(), settlement)
		must(t, err)
		time.Sleep(8 * day)
		for _, part := range []string{"blobs/", "gc/"} {
			rec.fault = once("List", part, blobtest.Fault{Err: blob.ErrUnavailable})
			if _, err := r.Settle(t.Context(), settlement); err == nil {
				t.Errorf("it went through without %s", part)
			}
		}
		rec.fault = nil
		putText(t, store, MarkerKey(remotetest.Vault), "somebody else's")
		if _, err := r.Settle(t.Context(), settlement); err == nil {
			t.Error("it went through under a foreign marker")
		}
		putText(t, store, MarkerKey(remotetest.Vault), string(remotetest.Marker()))
		if sizes, err := r.StatBlobs(t.Context(), []string{remotetest.ID(1)}); err != nil || sizes[0] != 1 {
			t.Errorf("%v, %v", sizes, err)
		}
		done, err := r.Settle(t.Context(), settlement)
		if err != nil || done.Removed != 1 || done.Freed != 1 {
			t.Errorf("%+v, %v", done, err)
		}
	})
}

// What killed pairings left goes when it is too old to serve; what is under way
// stays.
func TestCollectSweepsPairs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := blobtest.NewMemory()
		r := enabled(t, store)
		put := func(name string) (key string) {
			key = syncer.PairQuestion(strings.Repeat(name, 32))
			if err := r.Put(t.Context(), key, []byte("question")); err != nil {
				t.Fatal(err)
			}
			return key
		}
		old := put("a")
		time.Sleep(syncer.PairTime)
		young := put("b")
		time.Sleep(time.Minute)
		settled, err := r.Settle(t.Context(), syncer.Settlement{Collect: &syncer.Collection{Named: func(string) bool { return true }}})
		if err != nil || !settled.Collected || settled.Removed != 1 {
			t.Fatalf("%+v, %v", settled, err)
		}
		if _, err := r.Get(t.Context(), old); !errors.Is(err, syncer.ErrNotFound) {
			t.Errorf("the old one: %v", err)
		}
		if _, err := r.Get(t.Context(), young); err != nil {
			t.Errorf("the one under way: %v", err)
		}
	})
}
