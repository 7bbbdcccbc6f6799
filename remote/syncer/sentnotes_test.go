package syncer

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Whatever comes while others are written down is written together, and each who
// waits is told how that went.
func TestSentNotesTogether(t *testing.T) {
	const count = 100
	var s sentNotes
	enough := make(chan struct{})
	var writes [][]seal.ID
	fails := errors.New("no")
	s.write = func(_ context.Context, blobs []seal.ID) error {
		writes = append(writes, blobs)
		if len(writes) == 1 {
			<-enough
			return nil
		}
		return fails
	}
	first := make(chan error)
	go func() { first <- s.note(t.Context(), seal.NewID()) }()
	until(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.writing && len(s.waiting) == 0 })
	var wg sync.WaitGroup
	for range count {
		wg.Go(func() {
			if err := s.note(t.Context(), seal.NewID()); !errors.Is(err, fails) {
				t.Errorf("told %v", err)
			}
		})
	}
	until(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.waiting) == count })
	close(enough)
	wg.Wait()
	if err := <-first; err != nil {
		t.Errorf("the first was told %v", err)
	}
	if len(writes) != 2 || len(writes[1]) != count {
		t.Errorf("%d writes", len(writes))
	}
}

func until(t *testing.T, so func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come to that")
		}
	}
}
