package vaultcore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Bounds of downloads that readers wait for.
const (
	// fetchWhole and fetchPiece end a download that does not get on, so that the
	// next reader begins another. They are longer than a reader waits: what
	// comes late is there for who asks again.
	fetchWhole = 10 * time.Minute
	fetchPiece = time.Minute
	// failedFor is how long a failed download answers all who ask: many readers
	// would else try, and fail, one after the other.
	failedFor = time.Second
	// demandMax and aheadMax are how many downloads go on at a time: those that
	// a reader waits for, and those ahead of readers.
	demandMax = 64
	aheadMax  = 8
	// retryPause is the wait before the one second try.
	retryPause = 200 * time.Millisecond
)

type (
	fetchFunc      func(ctx context.Context, blob seal.ID) error
	fetchRangeFunc func(ctx context.Context, blob seal.ID, off, n int64, w io.WriterAt) error
)

// fetches are the downloads under way for readers, and what they have brought
// of contents that are not here as a whole.
type fetches struct {
	whole  atomic.Pointer[fetchFunc]
	ranged atomic.Pointer[fetchRangeFunc]
	// adopt gives a complete sparse file its name and its rows. Set by the vault.
	adopt func(ctx context.Context, sp *sparse) error
	// named says whether a row has the file of a blob, elsewhere whether one says
	// that it is at a remote only. Set by the vault.
	named, elsewhere func(blob seal.ID) bool
	// fits says whether the cache may hold a whole content of n bytes. Set by the
	// vault.
	fits func(n int64) bool
	// closed is told that a sparse file is not open any more, grown that the disk
	// holds more than before, found that a content
	// has come from the remote, corrupt that other bytes than were signed have.
	// Set by the vault.
	grown                  func()
	closed, found, corrupt func(blob seal.ID)

	ctx    context.Context // ends with the store
	stop   context.CancelFunc
	demand chan struct{}
	ahead  chan struct{}

	sizesMu sync.Mutex
	sizes   map[seal.ID]int64 // bytes in sparse files, open or not

	mu      sync.Mutex
	now     func() time.Time // by which failures are recent
	running sync.WaitGroup   // Add under mu
	ended   bool
	flights map[seal.ID]*arrival // of whole contents
	failed  map[seal.ID]failure
	sparse  map[seal.ID]*sparse // open ones
}

// arrival is one download that everybody who needs it waits for. err is set
// before done is closed.
type arrival struct {
	done chan struct{}
	err  error
}

// failure is how the last download of something ended.
type failure struct {
	err error
	at  time.Time
}

func newFetches() *fetches {
	f := &fetches{
		flights: make(map[seal.ID]*arrival), failed: make(map[seal.ID]failure), sparse: make(map[seal.ID]*sparse),
		sizes: make(map[seal.ID]int64), demand: make(chan struct{}, demandMax), ahead: make(chan struct{}, aheadMax), now: time.Now,
	}
	f.adopt = func(context.Context, *sparse) error { return errElsewhere() }
	f.named, f.elsewhere = func(seal.ID) bool { return false }, func(seal.ID) bool { return false }
	f.fits = func(int64) bool { return true }
	f.grown, f.closed, f.found, f.corrupt = func() {}, func(seal.ID) {}, func(seal.ID) {}, func(seal.ID) {}
	f.ctx, f.stop = context.WithCancel(context.Background())
	return f
}

// end stops all downloads and waits for them. None is begun any more.
func (f *fetches) end() {
	f.stop()
	f.mu.Lock()
	f.ended = true
	f.mu.Unlock()
	f.running.Wait()
}

// size notes how many bytes a sparse file holds; 0: there is none.
func (f *fetches) size(id seal.ID, bytes int64) {
	f.sizesMu.Lock()
	defer f.sizesMu.Unlock()
	if bytes == 0 {
		delete(f.sizes, id)
	} else {
		f.sizes[id] = bytes
	}
}

// sizeOf gives the bytes that the sparse file of a blob holds.
func (f *fetches) sizeOf(id seal.ID) int64 {
	f.sizesMu.Lock()
	defer f.sizesMu.Unlock()
	return f.sizes[id]
}

// sparseSizes gives the bytes of every sparse file.
func (f *fetches) sparseSizes() map[seal.ID]int64 {
	f.sizesMu.Lock()
	defer f.sizesMu.Unlock()
	return maps.Clone(f.sizes)
}

// begin counts a goroutine that end waits for; false once it was called.
func (f *fetches) begin() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.beginLocked()
}

func (f *fetches) beginLocked() bool {
	if f.ended {
		return false
	}
	f.running.Add(1)
	return true
}

// OnFetch sets what brings a content that is not here, by PutBlob, before it
// returns. Everybody who waits for a content shares one call; each waits no
// longer than Limits.FetchWait, and the call goes on. fn returns when ctx ends.
// Without it, and when it fails, reading such a content is ErrTimeout and
// blob.ErrUnavailable.
func (v *Vault) OnFetch(fn func(ctx context.Context, blob seal.ID) error) {
	if !v.opt.ReadOnly {
		f := fetchFunc(fn)
		v.store.fetches.whole.Store(&f)
	}
}

// OnFetchRange sets what brings n sealed bytes at off of a content, of version
// 4, that is not here: it writes them to w, at their offsets in the blob, and
// returns when they are there or ctx ends. Several calls may run at a time. Bytes
// are believed only after they were authenticated. Without it such contents are
// fetched as others are.
func (v *Vault) OnFetchRange(fn func(ctx context.Context, blob seal.ID, off, n int64, w io.WriterAt) error) {
	if !v.opt.ReadOnly {
		f := fetchRangeFunc(fn)
		v.store.fetches.ranged.Store(&f)
	}
}

// bring has what away says brought here; no lock is held. Errors: ErrTimeout
// and ErrInterrupted when patience ended, else how the download failed.
func (s *store) bring(p *patience, away *awayError) error {
	c := away.c
	c.acquire()
	defer c.release()
	if s.cameHere(c) {
		return nil
	}
	if fn := s.fetches.ranged.Load(); fn != nil && !c.whole() {
		return s.bringRange(p, c, away.off, away.n)
	}
	return s.bringWhole(p, c)
}

// cameHere says whether a content is here by now. One that is not in the tree,
// as of a handle whose file was replaced, is told by its rows only.
func (s *store) cameHere(c *content) bool {
	if c.place.Load() != placeElsewhere {
		return true
	}
	if sp := c.sp.Load(); sp != nil && !sp.gone.Load() || !s.fetches.named(c.ref.blob) {
		return false
	}
	c.place.CompareAndSwap(placeElsewhere, placeBin)
	return true
}

func (s *store) bringWhole(p *patience, c *content) error {
	f, err := s.flightOf(c)
	if err != nil {
		return err
	}
	if err := p.wait(f.done); err != nil {
		return err
	}
	if s.cameHere(c) {
		return nil
	}
	if f.err == nil {
		return errElsewhere()
	}
	return fetchError(f.err)
}

// flightOf joins the download of a whole content, or begins it.
func (s *store) flightOf(c *content) (*arrival, error) {
	fn, fs := s.fetches.whole.Load(), s.fetches
	if fn == nil {
		return nil, errElsewhere()
	}
	id := c.ref.blob
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f := fs.flights[id]; f != nil {
		return f, nil
	}
	if err := fs.latelyLocked(id); err != nil {
		return nil, fetchError(err)
	}
	if !fs.beginLocked() {
		return nil, ErrClosed
	}
	f := &arrival{done: make(chan struct{})}
	fs.flights[id] = f
	go fs.fly(f, id, *fn)
	return f, nil
}

func (f *fetches) fly(fl *arrival, id seal.ID, fn fetchFunc) {
	defer f.running.Done()
	ctx, cancel := context.WithTimeout(f.ctx, fetchWhole)
	defer cancel()
	release, err := f.slot(ctx, f.demand)
	if err == nil {
		if err = fn(ctx, id); err == nil {
			f.found(id)
		}
		release()
	}
	f.mu.Lock()
	delete(f.flights, id)
	f.noteLocked(id, err)
	f.mu.Unlock()
	fl.err = err
	close(fl.done)
}

// awaited says whether a reader waits for a whole content.
func (f *fetches) awaited(id seal.ID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.flights[id] != nil
}

// note is noteLocked for who does not hold mu.
func (f *fetches) note(id seal.ID, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.noteLocked(id, err)
}

// lately gives how a download of a blob failed within the last second.
func (f *fetches) lately(id seal.ID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.latelyLocked(id)
}

func (f *fetches) latelyLocked(id seal.ID) error {
	if last := f.failed[id]; f.now().Sub(last.at) < failedFor {
		return last.err
	}
	return nil
}

// noteLocked keeps the failures of the last second.
func (f *fetches) noteLocked(id seal.ID, err error) {
	for old := range f.failed {
		if f.latelyLocked(old) == nil {
			delete(f.failed, old)
		}
	}
	delete(f.failed, id)
	if err != nil {
		f.failed[id] = failure{err, f.now()}
	}
}

// slot waits for one of the places of a bound.
func (f *fetches) slot(ctx context.Context, slots chan struct{}) (release func(), err error) {
	select {
	case slots <- struct{}{}:
		return func() { <-slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fetchError gives how a download failed its name among ours. What was not
// authentic, or finds no room, is that; everything else is an absence.
func fetchError(err error) error {
	switch {
	case err == nil, errors.Is(err, ErrNoSpace), errors.Is(err, ErrDamaged), errors.Is(err, ErrClosed):
		return err
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return fmt.Errorf("%w: the content is at the remote only: %w", ErrTimeout, err)
	}
	return fmt.Errorf("%w: the content is not here: %w: %w", ErrTimeout, blob.ErrUnavailable, err)
}
