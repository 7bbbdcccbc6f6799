package vaultcore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

const (
	// bringStep is how many pieces one reader asks for at a time.
	bringStep = 8
	// windowMax is how many pieces are fetched ahead of a sequential reader.
	windowMax = 16
	// nearBy is how far from the last piece a read counts as sequential: the
	// kernel sends the reads of its own readahead in any order.
	nearBy = 2
)

// bringRange has n bytes of plaintext at off brought here.
func (s *store) bringRange(p *patience, c *content, off, n int64) error {
	sp, err := s.sparseOf(c)
	if err != nil {
		return err
	}
	first, last := piecesOf(off, n)
	for ; first <= last; first += bringStep {
		to := min(first+bringStep-1, last)
		flights, err := sp.want(first, to)
		if err != nil {
			return fetchError(err)
		}
		sp.readOn(first, to)
		for _, f := range flights {
			if err := p.wait(f.done); err != nil {
				return err
			}
			if f.err != nil {
				return fetchError(f.err)
			}
		}
	}
	return nil
}

// want joins or begins the downloads of the pieces first…last that are not
// here.
func (sp *sparse) want(first, last int64) ([]*arrival, error) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	var out []*arrival
	if sp.closing != nil { // it may find that pieces are lost
		out = append(out, sp.closing)
	}
	for i := first; i <= last; i++ {
		if sp.hasLocked(i) {
			continue
		}
		f := sp.flights[i]
		if f == nil {
			if err := sp.s.fetches.lately(sp.ref.blob); err != nil {
				return nil, err
			}
			if f = sp.flyLocked(i, nil); f == nil {
				return nil, ErrClosed
			}
		}
		out = append(out, f)
	}
	return out, nil
}

// flyLocked begins the download of a piece. release gives back the place it
// has; nil: it waits for one of those on demand.
func (sp *sparse) flyLocked(i int64, release func()) *arrival {
	fs := sp.s.fetches
	fs.mu.Lock()
	ok := fs.beginLocked()
	if ok {
		sp.refs++
	}
	fs.mu.Unlock()
	if !ok {
		return nil
	}
	f := &arrival{done: make(chan struct{})}
	sp.flights[i] = f
	go func() {
		defer fs.running.Done()
		defer sp.put()
		err := sp.download(i, release)
		sp.landed(f, i, err)
	}()
	return f
}

// download brings a piece: after a failure that may pass once more.
func (sp *sparse) download(i int64, release func()) (err error) {
	fs := sp.s.fetches
	ctx, cancel := context.WithTimeout(fs.ctx, fetchPiece)
	defer cancel()
	if release == nil {
		if release, err = fs.slot(ctx, fs.demand); err != nil {
			return err
		}
	}
	defer release()
	err = sp.fetch(ctx, i)
	if err == nil || ctx.Err() != nil || errors.Is(err, ErrNoSpace) || errors.Is(err, blob.ErrNotFound) {
		return err
	}
	select {
	case <-time.After(retryPause):
	case <-ctx.Done():
		return err
	}
	return sp.fetch(ctx, i)
}

// landed tells everybody how a download ended. Who brings the last piece makes
// the file a whole blob.
func (sp *sparse) landed(f *arrival, i int64, err error) {
	sp.mu.Lock()
	delete(sp.flights, i)
	sp.mu.Unlock()
	sp.s.fetches.note(sp.ref.blob, err)
	if err != nil {
		sp.s.log.Info("piece of a content not fetched", "blob", sp.ref.blob.Hex(), "piece", i, "err", err)
	}
	if errors.Is(err, ErrDamaged) {
		sp.s.fetches.corrupt(sp.ref.blob)
	}
	f.err = err
	close(f.done)
	if err == nil {
		sp.complete()
	}
}

// complete makes the file a whole blob if all of it is here. One that the cache
// cannot hold stays as it is, so that what was read of it can be shed.
func (sp *sparse) complete() {
	if !sp.s.fetches.fits(sp.ref.sealedLen) {
		return
	}
	sp.mu.Lock()
	ready := sp.count == sp.pieces && sp.closing == nil && !sp.gone.Load()
	f := &arrival{done: make(chan struct{})}
	if ready {
		sp.closing = f
	}
	sp.mu.Unlock()
	if !ready {
		return
	}
	err := sp.s.fetches.adopt(sp.s.fetches.ctx, sp)
	sp.mu.Lock()
	sp.closing = nil
	sp.mu.Unlock()
	close(f.done)
	if err != nil {
		sp.s.log.Warn("content not adopted", "blob", sp.ref.blob.Hex(), "err", err)
		if sp.again() && errors.Is(err, ErrDamaged) {
			sp.complete() // a reader has brought what was lost in the meantime
		}
	}
}

// again fetches the pieces that turned out to be lost, and says whether none is.
// Without such the next who opens the file tries to adopt it again, where it was
// not their fault.
func (sp *sparse) again() (whole bool) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	whole = sp.count == sp.pieces && !sp.gone.Load()
	for i := int64(0); i < sp.pieces && !sp.gone.Load(); i++ {
		whole = whole && sp.spoiled[i] <= spoiledMax
		if !sp.hasLocked(i) && sp.flights[i] == nil && sp.spoiled[i] <= spoiledMax {
			sp.flyLocked(i, nil)
		}
	}
	return whole
}

// fetch brings a piece once and writes it down if it is authentic.
func (sp *sparse) fetch(ctx context.Context, i int64) error {
	fn := sp.s.fetches.ranged.Load()
	if fn == nil {
		return errElsewhere()
	}
	off, n := sp.span(i)
	if err := sp.s.space.fits(n); err != nil {
		return err
	}
	buf := pieceBuf{bufs: sp.s.bufs, off: off, n: n}
	defer buf.free()
	if err := (*fn)(ctx, sp.ref.blob, off, n, &buf); err != nil {
		return err
	}
	if buf.mem == nil {
		return fmt.Errorf("%w: nothing came", blob.ErrUnavailable)
	}
	plain := sp.s.bufs.plainSized(pieceSize)
	_, err := sp.r.chunks.OpenChunks(plain.b[:pieceSize], buf.mem, uint64(i)*pieceChunks)
	plain.b = plain.b[:pieceSize]
	sp.s.bufs.putPlain(plain)
	if err != nil {
		return damaged(err)
	}
	if _, err := sp.f.WriteAt(buf.mem, off); err != nil {
		return diskError(err)
	}
	sp.s.space.written(n)
	sp.mu.Lock()
	err = sp.markLocked(i, true)
	sp.mu.Unlock()
	sp.s.fetches.grown()
	return diskError(err)
}

// pieceBuf takes the sealed bytes of a piece at their offsets in the blob. Its
// memory comes with the first of them: who hangs costs none.
type pieceBuf struct {
	bufs   *buffers
	off, n int64
	mu     sync.Mutex
	buf    *plainBuf
	mem    []byte
}

func (b *pieceBuf) free() { b.bufs.putPlain(b.buf) }

// WriteAt is that of io.WriterAt.
func (b *pieceBuf) WriteAt(p []byte, off int64) (int, error) {
	if off < b.off || off-b.off > b.n-int64(len(p)) {
		return 0, fmt.Errorf("%w: %d bytes at %d were not asked for", blob.ErrSize, len(p), off)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mem == nil {
		b.buf = b.bufs.plainSized(int(b.n))
		b.buf.b = b.buf.b[:b.n]
		b.mem = b.buf.b
	}
	return copy(b.mem[off-b.off:], p), nil
}

// readOn notes that pieces are read and keeps the download ahead of a reader
// that goes on from where it was: of twice as many pieces each time.
func (sp *sparse) readOn(first, last int64) {
	if sp.last.Load() == last {
		return
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	before := sp.last.Load()
	if before < 0 || first < before-nearBy || first > before+nearBy {
		sp.window = 0
		sp.last.Store(last)
		return
	}
	if last <= before {
		return
	}
	sp.window = min(max(2*sp.window, 1), windowMax)
	sp.last.Store(last)
	if sp.s.fetches.lately(sp.ref.blob) != nil || sp.s.fetches.ranged.Load() == nil {
		return
	}
	for i := last + 1; i <= min(last+sp.window, sp.pieces-1); i++ {
		if sp.hasLocked(i) || sp.flights[i] != nil {
			continue
		}
		if !sp.aheadLocked(i) {
			return
		}
	}
}

// aheadLocked begins a download that nobody waits for yet, if there is a place.
func (sp *sparse) aheadLocked(i int64) bool {
	slots := sp.s.fetches.ahead
	select {
	case slots <- struct{}{}:
	default:
		return false
	}
	release := func() { <-slots }
	if sp.flyLocked(i, release) == nil {
		release()
		return false
	}
	return true
}

// shed gives the disk space of pieces back that nobody is near, until it has
// given up need bytes.
func (sp *sparse) shed(need int64) (freed int64) {
	if sp.needed.Load() > 0 {
		return 0
	}
	sp.reads.Lock()
	defer sp.reads.Unlock()
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.closing != nil {
		return 0
	}
	near := sp.last.Load()
	for i := int64(0); i < sp.pieces && freed < need; i++ {
		if !sp.hasLocked(i) || i >= near-nearBy && i <= near+windowMax {
			continue
		}
		off, n := sp.span(i)
		if sp.markLocked(i, false) != nil || sp.f.Punch(off, n) != nil {
			return freed
		}
		freed += n
	}
	return freed
}
