package vaultcore

import (
	"context"
	"sync"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// shelfMax bounds the plaintext of unattested contents in memory. What was
// pushed out is fetched again by its next reader.
const shelfMax = 64 << 20

// shelfKey names an unattested content: a row that has changed is another one.
type shelfKey struct {
	id, blob seal.ID
	number   int64
}

func (u *unattested) key() shelfKey { return shelfKey{u.row.ID, u.row.Blob, u.row.Number} }

type pieceKey struct {
	of    shelfKey
	piece int64
}

// shelf holds pieces of the unattested contents that somebody has open. It is in
// memory only: none of it touches the disk.
type shelf struct {
	f *fetches

	mu     sync.Mutex
	used   int64
	clock  uint64
	opens  map[shelfKey]int
	pieces map[pieceKey]*shelfPiece
}

type shelfPiece struct {
	arrival
	data []byte // wiped under mu
	ends time.Time
	used uint64
}

func newShelf(f *fetches) *shelf {
	return &shelf{f: f, opens: make(map[shelfKey]int), pieces: make(map[pieceKey]*shelfPiece)}
}

func (s *shelf) open(k shelfKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opens[k]++
}

// close ends a use. The last one wipes what is here of the content.
func (s *shelf) close(k shelfKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opens[k]--; s.opens[k] > 0 {
		return
	}
	delete(s.opens, k)
	for at, p := range s.pieces {
		if at.of == k {
			s.dropLocked(at, p)
		}
	}
}

func (s *shelf) dropLocked(at pieceKey, p *shelfPiece) {
	select {
	case <-p.done:
	default:
		return // whoever brings it finds that nobody wants it
	}
	delete(s.pieces, at)
	s.used -= int64(len(p.data))
	clear(p.data)
	p.data = nil
}

// read copies from a piece, which load brings for all who wait. The download goes
// on when patience ends.
func (s *shelf) read(wait *patience, at pieceKey, dst []byte, off int64, load func(context.Context) ([]byte, error)) (int, error) {
	for {
		p, err := s.piece(at, load)
		if err != nil {
			return 0, err
		}
		if err := wait.wait(p.done); err != nil {
			return 0, err
		}
		if p.err != nil {
			return 0, p.err
		}
		if n, ok := s.copy(p, dst, off); ok {
			return n, nil
		}
	}
}

// copy is false for a piece that has been pushed out.
func (s *shelf) copy(p *shelfPiece, dst []byte, off int64) (int, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.data == nil || off >= int64(len(p.data)) {
		return 0, false
	}
	s.clock++
	p.used = s.clock
	return copy(dst, p.data[off:]), true
}

// piece joins the download of a piece, or begins it.
func (s *shelf) piece(at pieceKey, load func(context.Context) ([]byte, error)) (*shelfPiece, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.pieces[at]; p != nil && (p.ends.IsZero() || time.Since(p.ends) < failedFor) {
		return p, nil
	}
	if !s.f.begin() {
		return nil, ErrClosed
	}
	p := &shelfPiece{arrival: arrival{done: make(chan struct{})}}
	s.pieces[at] = p
	go func() {
		defer s.f.running.Done()
		s.bring(at, p, load)
	}()
	return p, nil
}

func (s *shelf) bring(at pieceKey, p *shelfPiece, load func(context.Context) ([]byte, error)) {
	ctx, cancel := context.WithTimeout(s.f.ctx, fetchWhole)
	defer cancel()
	var data []byte
	release, err := s.f.slot(ctx, s.f.demand)
	if err == nil {
		data, err = load(ctx)
		release()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer close(p.done)
	if p.err = err; err != nil {
		p.ends = time.Now()
		return
	}
	if s.opens[at.of] == 0 {
		delete(s.pieces, at)
		clear(data)
		p.err = ErrClosed
		return
	}
	s.roomLocked(int64(len(data)))
	s.clock++
	p.data, p.used = data, s.clock
	s.used += int64(len(data))
}

// roomLocked pushes out what was read longest ago.
func (s *shelf) roomLocked(n int64) {
	for s.used > 0 && s.used+n > shelfMax {
		var oldest pieceKey
		var found *shelfPiece
		for at, p := range s.pieces {
			if p.data != nil && (found == nil || p.used < found.used) {
				oldest, found = at, p
			}
		}
		if found == nil {
			return
		}
		s.dropLocked(oldest, found)
	}
}

// wipe drops everything; no reader is left.
func (s *shelf) wipe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at, p := range s.pieces {
		s.dropLocked(at, p)
	}
}
