package syncer

import (
	"context"
	"sync"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// sentNotes writes down which contents the remote has confirmed. All that are
// confirmed while others are written share one write.
type sentNotes struct {
	write func(ctx context.Context, blobs []seal.ID) error

	mu      sync.Mutex
	waiting []sentNote
	writing bool
}

type sentNote struct {
	blob seal.ID
	done chan error
}

// note returns when the content is written down. That is not given up with ctx:
// others wait for it too.
func (s *sentNotes) note(ctx context.Context, blob seal.ID) error {
	n := sentNote{blob, make(chan error, 1)}
	s.mu.Lock()
	s.waiting = append(s.waiting, n)
	lead := !s.writing
	s.writing = true
	s.mu.Unlock()
	if lead {
		s.run(context.WithoutCancel(ctx))
	}
	return <-n.done
}

// run writes until nobody waits.
func (s *sentNotes) run(ctx context.Context) {
	for {
		s.mu.Lock()
		some := s.waiting
		s.waiting = nil
		s.writing = len(some) > 0
		s.mu.Unlock()
		if len(some) == 0 {
			return
		}
		blobs := make([]seal.ID, len(some))
		for i, n := range some {
			blobs[i] = n.blob
		}
		err := s.write(ctx, blobs)
		for _, n := range some {
			n.done <- err
		}
	}
}
