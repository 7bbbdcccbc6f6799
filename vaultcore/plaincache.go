package vaultcore

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// plainCache holds contents that were opened whole, newest use first: those in
// use and, within a bound of their own, those that nobody has open any more.
// One caller opens a content, all others wait for it. What was pushed out is
// opened again by its next reader.
//
// More readers than there is room for take turns: were each to push out what
// the one before has just opened, every request would open a whole content. So
// a large one that is being read from its start on stays until its end was read,
// and whoever needs room waits for that; but not for a reader that has stopped,
// and for none longer than protect.
//
// mu is held for list work only; opening and copying happen outside.
type plainCache struct {
	max, idleMax   int64
	quiet, protect time.Duration
	bufs           *buffers

	turn     sync.Mutex // held by who waits for room; locked before mu
	mu       sync.Mutex
	change   sync.Cond // an opening ended, or who waits for room may look again
	wanting  bool      // somebody waits for room
	used     int64
	idle     int64      // of used: contents nobody has open
	lru      plainEntry // ring; lru.next is the newest
	openings int        // so far, for tests and figures
}

// How long ago a content was read last, and how long it may have been open, for
// it to go to make room before all of it was read.
const (
	plainQuiet   = 50 * time.Millisecond
	plainProtect = 500 * time.Millisecond
)

// A content below plainLarge is opened again in no time, and up to plainAhead
// requests overtake each other where the kernel reads ahead.
const (
	plainLarge = mib
	plainAhead = 2 * mib
)

// plainEntry is one content's plaintext. Its content points at it for as long
// as it is in the ring.
type plainEntry struct {
	cache      *plainCache
	c          *content
	next, prev *plainEntry
	cost       int64
	// Guarded by cache.mu, but for what a pin protects.
	ready bool
	idle  bool
	way   int64 // up to where it was read, if that was from its start on; else -1
	pins  int
	since time.Time // when it was opened
	last  time.Time // when it was pinned last
	err   error     // of the opening, for those who waited
	buf   *plainBuf
	data  []byte
}

func newPlainCache(max, idleMax int64, bufs *buffers) *plainCache {
	p := &plainCache{max: max, idleMax: idleMax, quiet: plainQuiet, protect: plainProtect, bufs: bufs}
	p.change.L = &p.mu
	p.lru.next, p.lru.prev = &p.lru, &p.lru
	return p
}

// readAt copies from the plaintext of c, opening it first if need be.
func (p *plainCache) readAt(s *store, c *content, dst []byte, off int64) error {
	e, err := p.pin(s, c)
	if err != nil {
		return err
	}
	n := copy(dst, e.data[off:])
	p.unpin(e, off, n)
	return nil
}

// peek copies from the plaintext of c if it is here, and is no use of it.
func (p *plainCache) peek(c *content, dst []byte, off int64) bool {
	p.mu.Lock()
	e := c.plain.Load()
	ready := e != nil && e.ready
	if ready {
		e.pins++
	}
	p.mu.Unlock()
	if ready {
		copy(dst, e.data[off:])
		p.unpin(e, off, 0)
	}
	return ready
}

func (p *plainCache) pin(s *store, c *content) (*plainEntry, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		e := c.plain.Load()
		switch {
		case e == nil:
			return p.openLocked(s, c)
		case e.ready:
			e.pins++
			e.last = time.Now()
			p.moveFrontLocked(e)
			return e, nil
		}
		for !e.ready && e.err == nil {
			p.change.Wait()
		}
		if e.err != nil {
			return nil, e.err // trying again would fail everybody in turn
		}
	}
}

// unpin ends a use in which n bytes at off were read.
func (p *plainCache) unpin(e *plainEntry, off int64, n int) {
	p.mu.Lock()
	e.pins--
	e.readLocked(off, n)
	p.mayGoLocked(e)
	p.mu.Unlock()
}

func (e *plainEntry) readLocked(off int64, n int) {
	switch end := off + int64(n); {
	case n == 0 || e.way < 0:
	case off > e.way+plainAhead || end == int64(len(e.data)):
		e.way = -1
	default:
		e.way = max(e.way, end)
	}
}

// mayGoLocked wakes who waits for room if e could make some.
func (p *plainCache) mayGoLocked(e *plainEntry) {
	if p.wanting && p.goesLocked(e, time.Now()) {
		p.change.Broadcast()
	}
}

// openLocked opens c for everybody and returns its entry pinned. It unlocks
// mu meanwhile.
func (p *plainCache) openLocked(s *store, c *content) (*plainEntry, error) {
	e := &plainEntry{cache: p, c: c, cost: c.ref.sealedLen}
	c.plain.Store(e)
	p.makeRoomLocked(e.cost)
	p.openings++
	p.mu.Unlock()
	buf, data, err := c.openWhole(s)
	p.mu.Lock()
	if err != nil {
		p.used -= e.cost
		e.err = err
		c.plain.Store(nil)
		p.change.Broadcast()
		return nil, err
	}
	e.buf, e.data, e.ready, e.pins = buf, data, true, 1
	e.since = time.Now()
	e.last = e.since
	p.pushFrontLocked(e)
	p.change.Broadcast()
	return e, nil
}

// makeRoomLocked counts cost bytes, as soon as there is room for them.
func (p *plainCache) makeRoomLocked(cost int64) {
	if p.fitsLocked(cost) {
		p.used += cost
		return
	}
	p.mu.Unlock()
	p.turn.Lock()
	defer p.turn.Unlock()
	p.mu.Lock()
	p.wanting = true
	for !p.fitsLocked(cost) {
		if !p.evictLocked() {
			p.waitLocked()
		}
	}
	p.wanting = false
	p.used += cost
}

// fitsLocked: a content larger than all room is opened alone.
func (p *plainCache) fitsLocked(cost int64) bool { return p.used+cost <= p.max || p.used == 0 }

// waitLocked returns when something may have changed, of which time is a part.
func (p *plainCache) waitLocked() {
	timer := time.AfterFunc(min(p.quiet, p.protect), func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.change.Broadcast()
	})
	p.change.Wait()
	timer.Stop()
}

// evictLocked drops the entry that was used longest ago of those that may go;
// false if there is none.
func (p *plainCache) evictLocked() bool {
	now := time.Now()
	for e := p.lru.prev; e != &p.lru; e = e.prev {
		if p.goesLocked(e, now) {
			p.dropLocked(e)
			return true
		}
	}
	return false
}

// goesLocked says whether an entry may go: nobody copies from it, and nobody is
// on the way from its start to its end.
func (p *plainCache) goesLocked(e *plainEntry, now time.Time) bool {
	if e.pins > 0 {
		return false
	}
	onWay := e.way > 0 && e.cost >= plainLarge && !e.idle
	return !onWay || now.Sub(e.last) >= p.quiet || now.Sub(e.since) >= p.protect
}

func (p *plainCache) dropLocked(e *plainEntry) {
	e.next.prev, e.prev.next = e.prev, e.next
	e.c.plain.Store(nil)
	p.used -= e.cost
	if e.idle {
		p.idle -= e.cost
	}
	p.bufs.putPlain(e.buf)
	e.buf, e.data = nil, nil
}

// setIdle says whether anybody has the content open.
func (p *plainCache) setIdle(c *content, idle bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := c.plain.Load()
	if e == nil || !e.ready || e.idle == idle {
		return
	}
	e.idle = idle
	if !idle {
		p.idle -= e.cost
		return
	}
	p.idle += e.cost
	p.mayGoLocked(e)
	p.shrinkIdleLocked(p.idleMax)
}

// shrinkIdleLocked drops contents nobody has open, longest unused first.
func (p *plainCache) shrinkIdleLocked(most int64) {
	for e := p.lru.prev; e != &p.lru && p.idle > most; {
		prev := e.prev
		if e.idle && e.pins == 0 {
			p.dropLocked(e)
		}
		e = prev
	}
}

// trim drops all contents that nobody has open.
func (p *plainCache) trim() {
	p.mu.Lock()
	p.shrinkIdleLocked(0)
	p.mu.Unlock()
}

func (p *plainCache) pushFrontLocked(e *plainEntry) {
	e.next, e.prev = p.lru.next, &p.lru
	e.next.prev, e.prev.next = e, e
}

func (p *plainCache) moveFrontLocked(e *plainEntry) {
	e.next.prev, e.prev.next = e.prev, e.next
	p.pushFrontLocked(e)
}

// chunkSlots is the size of the chunk cache: 4 MiB, however many files are open.
const chunkSlots = 256

// chunkCache keeps chunks that were opened for a part of them, so that small
// sequential reads open each once. A chunk has one slot it can be in. The
// plaintext in a slot goes when its file is closed.
type chunkCache struct {
	slots [chunkSlots]chunkSlot
	ids   atomic.Uint64
}

type chunkSlot struct {
	mu    sync.Mutex
	owner uint64 // id of a v4Reader; 0 free
	chunk uint64
	n     int
	buf   *[seal.ChunkSize]byte
}

func (c *chunkCache) slot(owner, chunk uint64) *chunkSlot {
	// A multiplier without a pattern keeps the runs of several files apart.
	return &c.slots[(owner*0x9e3779b97f4a7c15+chunk)%chunkSlots]
}

// get copies from offset in of a chunk, if it is here.
func (c *chunkCache) get(owner, chunk uint64, dst []byte, in int) bool {
	s := c.slot(owner, chunk)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner != owner || s.chunk != chunk {
		return false
	}
	copy(dst, s.buf[in:s.n])
	return true
}

// open opens a sealed chunk into its slot and copies from offset in of it.
func (c *chunkCache) open(r *v4Reader, chunk uint64, sealed, dst []byte, in int) error {
	s := c.slot(r.id, chunk)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.buf == nil {
		s.buf = new([seal.ChunkSize]byte)
	}
	if s.owner != r.id || s.chunk != chunk {
		s.owner = 0
		n, err := r.chunks.OpenChunks(s.buf[:], sealed, chunk)
		if err != nil {
			return err
		}
		s.owner, s.chunk, s.n = r.id, chunk, n
	}
	copy(dst, s.buf[in:s.n])
	return nil
}

// drop wipes what a file has in the cache.
func (c *chunkCache) drop(owner uint64) {
	for i := range c.slots {
		s := &c.slots[i]
		s.mu.Lock()
		if s.owner == owner {
			clear(s.buf[:s.n])
			s.owner = 0
		}
		s.mu.Unlock()
	}
}
