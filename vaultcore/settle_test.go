package vaultcore

import (
	"bytes"
	"context"
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
		batch, _ := v.fresh.take(time.Now(), true)
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
