package server

import (
	"context"
	"sync"
	"time"
)

// farEvery bounds how often other processes are told of changes, many accounts
// in one message.
const farEvery = 50 * time.Millisecond

// farPause is the wait before a lost connection is tried again.
const farPause = time.Second

// far tells other processes on the same database of changes, and hears theirs.
type far struct {
	mu      sync.Mutex
	pending map[int64]bool
	poke    chan struct{} // something is pending
}

func newFar() *far { return &far{pending: make(map[int64]bool), poke: make(chan struct{}, 1)} }

// tell notes that an account has changed. It never waits.
func (f *far) tell(account int64) {
	f.mu.Lock()
	f.pending[account] = true
	f.mu.Unlock()
	select {
	case f.poke <- struct{}{}:
	default:
	}
}

func (f *far) take() (list []int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id := range f.pending {
		list = append(list, id)
	}
	clear(f.pending)
	return list
}

// speak sends what is pending until ctx ends.
func (s *Server) speak(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.far.poke:
		}
		if list := s.far.take(); len(list) > 0 {
			if err := s.o.DB.Notify(ctx, list); err != nil && ctx.Err() == nil {
				s.log.Warn("other processes were not told of changes; their long polls end late", "err", err)
			}
		}
		if pause(ctx, farEvery) != nil {
			return
		}
	}
}

// hear wakes who waits here for what other processes changed.
func (s *Server) hear(ctx context.Context) {
	for ctx.Err() == nil {
		err := s.o.DB.Listen(ctx, s.wakeups.wake)
		if ctx.Err() != nil {
			return
		}
		s.log.Warn("not listening to other processes", "err", err)
		_ = pause(ctx, farPause) // the loop sees that ctx ended
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
