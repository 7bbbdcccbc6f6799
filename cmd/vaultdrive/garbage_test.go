package main

import (
	"runtime"
	"testing"
	"time"
)

// TestGarbagePercent: a small vault's garbage is Go's usual, a large one's bounded,
// and never so tightly that collecting is all that goes on.
func TestGarbagePercent(t *testing.T) {
	for live, want := range map[uint64]int64{0: 100, 4 << 20: 100, 48 << 20: 100, 96 << 20: 50, 112 << 20: 42, 1 << 30: 33} {
		if got := garbagePercent(live); got != want {
			t.Errorf("%d MiB in use: %d percent, want %d", live>>20, got, want)
		}
	}
}

// TestAfterCollections: the function is called after collections, again and again.
func TestAfterCollections(t *testing.T) {
	calls := make(chan struct{})
	done := make(chan struct{})
	afterCollections(func() {
		select {
		case calls <- struct{}{}:
		case <-done:
		}
	})
	defer close(done)
	deadline := time.After(5 * time.Minute)
	for i := 0; i < 3; {
		runtime.GC()
		select {
		case <-calls:
			i++
		case <-deadline:
			t.Fatalf("called after %d collections", i)
		case <-time.After(10 * time.Millisecond):
		}
	}
}
