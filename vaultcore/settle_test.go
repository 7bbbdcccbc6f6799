package vaultcore

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

// TestRemovedYoungContent removes a small file that still lies in its row: who
// has it open reads it on, and once its removal is durable and it is closed,
// its content has no row that the settler would have to look for.
func TestRemovedYoungContent(t *testing.T) {
	v := newTestVault(t)
	ctx := context.Background()
	a := mustMkdir(t, v, "A")
	data := randomBytes(4096, 1)
	writeFile(t, v, "A/stays", data)
	n := writeFile(t, v, "A/gone", data)
	if err := v.Open(n, false, false); err != nil {
		t.Fatal(err)
	}
	c := n.content
	if err := v.Unlink(a, "gone"); err != nil {
		t.Fatal(err)
	}
	if err := v.Barrier(ctx); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(data))
	if _, err := v.ReadAt(n, got, 0); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("read of an open file that was removed: %v", err)
	}
	if c.row.Load() == 0 {
		t.Error("an open content lost its row number")
	}
	v.Release(n, false)
	writeFile(t, v, "A/later", data)
	if err := v.Barrier(ctx); err != nil {
		t.Fatal(err)
	}
	if c.row.Load() != 0 {
		t.Error("the settler would still look for the row of a removed content")
	}
	for {
		batch, _ := v.fresh.take(time.Now(), settleBatch, true)
		if len(batch) == 0 {
			break
		}
		err := v.settle(batch)
		v.fresh.done(batch, err)
		if err != nil {
			t.Fatal(err)
		}
	}
	wantFile(t, v, "A/stays", data)
	wantSound(t, v)
}

// TestSettlePause: the settler takes a tenth of the time while there is room, and does
// not pause when the rows are nearly full.
func TestSettlePause(t *testing.T) {
	t.Parallel()
	for bytes, want := range map[int64]time.Duration{0: 900 * time.Millisecond, settleHard / 2: 450 * time.Millisecond, settleHard: 0, maxFresh: 0} {
		if got := settlePauseAt(100*time.Millisecond, bytes); got != want {
			t.Errorf("%d bytes in rows: %v, want %v", bytes, got, want)
		}
	}
}

// TestSettlesBesideWork: while something else has work the settler pauses after some
// contents, and settles all of them all the same; who asks for it waits for no pause.
func TestSettlesBesideWork(t *testing.T) {
	v := newTestVault(t)
	var busy atomic.Bool
	busy.Store(true)
	v.SettleGently(busy.Load)
	mustMkdir(t, v, "A")
	save := func(name string, count int) {
		for i := range count {
			writeFile(t, v, fmt.Sprintf("A/%s%d", name, i), randomBytes(100, int64(i)))
		}
	}
	waiting := func() int {
		v.fresh.mu.Lock()
		defer v.fresh.mu.Unlock()
		return len(v.fresh.items)
	}
	eventually(t, "a pause", func() bool { // the vault's own settler may have been there first
		save("a", gentleBatch/10)
		v.fresh.mu.Lock()
		for i := range v.fresh.items {
			v.fresh.items[i].born = time.Time{} // old enough
		}
		v.fresh.mu.Unlock()
		pause, err := v.settleDue(false)
		return err == nil && pause > 0
	})
	eventually(t, "all are settled", func() bool { return waiting() == 0 })
	save("b", gentleBatch+1)
	if _, err := v.settleDue(true); err != nil || waiting() != 0 {
		t.Fatalf("%d contents wait for a pause: %v", waiting(), err)
	}
	wantSound(t, v)
}
