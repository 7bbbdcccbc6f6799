package syncer

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// bigObjects is a remote whose small objects are all as large as one may be.
type bigObjects struct {
	Remote
	asked atomic.Int64
}

func (r *bigObjects) Get(context.Context, string) ([]byte, error) {
	r.asked.Add(1)
	return make([]byte, seal.MaxBatch), nil
}

// What is fetched at a time has a bound in bytes and not only in number: a device that
// writes the largest batches fills nobody's memory.
func TestFetchBound(t *testing.T) {
	r := &bigObjects{}
	e := &Engine{o: Options{Remote: r}}
	var run []ref
	for seq := range uint64(fetchRun) {
		run = append(run, ref{seal.ID{1}, seq + 1})
	}
	frames, err := e.fetchBatches(t.Context(), run)
	if err != nil {
		t.Fatal(err)
	}
	if most := runBytes/seal.MaxBatch + fetchParallel; len(frames) == 0 || len(frames) > most || int(r.asked.Load()) != len(frames) {
		t.Errorf("%d batches fetched, %d asked for; want at most %d", len(frames), r.asked.Load(), most)
	}
	for i, b := range frames {
		if len(b) == 0 {
			t.Errorf("batch %d left out", i)
		}
	}
	var keys []string
	for i := range fetchRun {
		keys = append(keys, fmt.Sprint(i))
	}
	if all, err := e.getAll(t.Context(), keys); err != nil || len(all) != len(keys) {
		t.Errorf("%d of all, %v", len(all), err)
	}
}

// A chain that waits for others is fetched no further once what waits is large.
func TestWaitingBound(t *testing.T) {
	c := &chain{listed: map[uint64]bool{1: true, 2: true, 3: true, 4: true}, held: 2, count: 2, size: heldBytes - 1}
	if got := c.wanted(seal.ID{1}, 0); len(got) != 2 {
		t.Errorf("wanted %v", got)
	}
	if c.size++; len(c.wanted(seal.ID{1}, 0)) > 0 {
		t.Error("more is fetched of a chain that waits with all it may")
	}
}
