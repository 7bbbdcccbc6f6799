package vaultcore

import (
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// A sparse file holds what is here of a version 4 content that is elsewhere
// (FORMAT.md "Sparse cache file"): the sealed bytes at their offsets, holes for
// what is missing, and behind them a bitmap of the pieces that are there. It
// promises nothing: what does not authenticate is fetched again.
const (
	sparseExt   = ".sparse"
	sparseMagic = "VDSPARS1"
	pieceChunks = 64
	pieceSize   = pieceChunks * seal.ChunkSize // plaintext, 1 MiB
	// spoiledMax is how often a piece may turn out bad before the disk is taken
	// for a broken one.
	spoiledMax = 3
)

func sparseName(blob seal.ID) string { return blob.Hex() + sparseExt }

// sparse is an open sparse file, shared by all contents that name its blob.
// It is open while a content in use or a download refers to it.
//
// Lock order: reads, mu, then that of the fetches.
type sparse struct {
	// Set at construction.
	s      *store
	ref    contentRef
	f      *blob.File
	r      *v4Reader
	pieces int64

	refs   int          // guarded by fetches.mu
	gone   atomic.Bool  // it is a whole blob now, or was given up
	needed atomic.Int32 // drafts that wait for all of it: nothing is shed
	last   atomic.Int64 // piece that was read last; -1: none

	// reads is held, shared, while pieces are read: none is shed meanwhile.
	reads sync.RWMutex

	mu      sync.Mutex
	have    []byte // one bit a piece, the lowest first
	count   int64
	flights map[int64]*arrival
	window  int64         // pieces that are fetched ahead of the reader
	spoiled map[int64]int // how often a piece was written and did not open
	closing *arrival      // it is being made a whole blob; nil: not
}

// sparseOf gives the sparse file of a content in use, and makes it if there is
// none.
func (s *store) sparseOf(c *content) (*sparse, error) {
	if sp := c.sp.Load(); sp != nil && !sp.gone.Load() {
		return sp, nil
	}
	f := s.fetches
	f.mu.Lock()
	defer f.mu.Unlock()
	old := c.sp.Load()
	if old != nil && !old.gone.Load() {
		return old, nil
	}
	sp := f.sparse[c.ref.blob]
	if sp == nil || sp.gone.Load() {
		var err error
		if sp, err = s.openSparse(c); err != nil {
			return nil, err
		}
		f.sparse[c.ref.blob] = sp
		sp.resumeLocked()
	}
	sp.refs++
	c.sp.Store(sp)
	if old != nil {
		old.dropLocked()
	}
	return sp, nil
}

// resumeLocked goes on where a session ended that had fetched all of it;
// fetches.mu is held.
func (sp *sparse) resumeLocked() {
	if sp.count < sp.pieces || !sp.s.fetches.beginLocked() {
		return
	}
	sp.refs++
	go func() {
		defer sp.s.fetches.running.Done()
		defer sp.put()
		sp.complete()
	}()
}

// put gives a reference back. A file that was opened while its content came
// another way has no use.
func (sp *sparse) put() {
	f := sp.s.fetches
	f.mu.Lock()
	sp.dropLocked()
	closed := sp.refs == 0
	f.mu.Unlock()
	if closed && !sp.gone.Load() {
		f.closed(sp.ref.blob)
	}
}

// dropLocked is put with fetches.mu held.
func (sp *sparse) dropLocked() {
	sp.refs--
	if sp.refs > 0 {
		return
	}
	if f := sp.s.fetches; f.sparse[sp.ref.blob] == sp {
		delete(f.sparse, sp.ref.blob)
	}
	sp.r.close()
}

// openSparse opens the file of a content, or makes it anew if there is none
// that fits.
func (s *store) openSparse(c *content) (*sparse, error) {
	if err := seal.CheckSizeV4(c.ref.sealedLen, c.ref.size); err != nil {
		return nil, damaged(err)
	}
	key, err := c.key(s)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	chunks, err := seal.OpenHeaderV4(&key, s.vault, c.ref.blob, c.ref.hdr[:])
	if err != nil {
		return nil, damaged(err)
	}
	// The end mark of a content of whole pieces lies in the last of them.
	sp := &sparse{s: s, ref: c.ref, pieces: (c.ref.size + pieceSize - 1) / pieceSize}
	sp.have = make([]byte, (sp.pieces+7)/8)
	sp.flights, sp.spoiled = make(map[int64]*arrival), make(map[int64]int)
	sp.last.Store(-1)
	if err := sp.load(); err != nil {
		return nil, err
	}
	sp.r = s.newV4Reader(sp.f, chunks, c.ref.size, c.ref.sealedLen)
	return sp, nil
}

// load opens the file and reads its bitmap.
func (sp *sparse) load() error {
	dir, name := sp.s.attachments, sparseName(sp.ref.blob)
	f, err := dir.ReopenFile(name)
	if err == nil {
		if sp.f = f; sp.readMap() {
			sp.s.fetches.size(sp.ref.blob, sp.bytesLocked())
			return nil
		}
		f.Close()
		sp.s.removeSparse(sp.ref.blob)
	} else if !errors.Is(err, blob.ErrNotFound) {
		return err
	}
	if sp.f, err = sp.s.makeFile(dir, name); err != nil {
		return diskError(err)
	}
	if err = sp.writeMap(); err != nil {
		sp.f.Close()
		return errors.Join(diskError(err), dir.Remove(name))
	}
	return nil
}

// mapOff is where the bitmap begins, after its magic.
func (sp *sparse) mapOff() int64 {
	return (sp.ref.sealedLen+pageSize-1)&^(pageSize-1) + int64(len(sparseMagic))
}

// readMap says whether the file is one of this content.
func (sp *sparse) readMap() bool {
	if checkLength(sp.f, sp.mapOff()+int64(len(sp.have))) != nil {
		return false
	}
	var header [seal.HeaderV4]byte
	if _, err := sp.f.ReadAt(header[:], 0); err != nil || header != sp.ref.hdr {
		return false
	}
	buf := make([]byte, len(sparseMagic)+len(sp.have))
	if _, err := sp.f.ReadAt(buf, sp.mapOff()-int64(len(sparseMagic))); err != nil || string(buf[:len(sparseMagic)]) != sparseMagic {
		return false
	}
	copy(sp.have, buf[len(sparseMagic):])
	if rest := sp.pieces % 8; rest != 0 {
		sp.have[len(sp.have)-1] &= 1<<rest - 1
	}
	sp.count = 0
	for _, b := range sp.have {
		sp.count += int64(bits.OnesCount8(b))
	}
	return true
}

func (sp *sparse) writeMap() error {
	if _, err := sp.f.WriteAt(sp.ref.hdr[:], 0); err != nil {
		return err
	}
	_, err := sp.f.WriteAt(append([]byte(sparseMagic), sp.have...), sp.mapOff()-int64(len(sparseMagic)))
	return err
}

// span gives where piece i lies in the blob.
func (sp *sparse) span(i int64) (off, n int64) {
	off = seal.SealedOffV4(uint64(i) * pieceChunks)
	if i == sp.pieces-1 {
		return off, sp.ref.sealedLen - off
	}
	return off, pieceChunks * seal.SealedChunk
}

// piecesOf gives the pieces that n bytes of plaintext at off lie in.
func piecesOf(off, n int64) (first, last int64) {
	return off / pieceSize, (off + max(n, 1) - 1) / pieceSize
}

func (sp *sparse) hasLocked(i int64) bool { return sp.have[i/8]&(1<<(i%8)) != 0 }

// firstMissing gives the first piece of first…last that is not here.
func (sp *sparse) firstMissing(first, last int64) (int64, bool) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	for i := first; i <= last; i++ {
		if !sp.hasLocked(i) {
			return i, true
		}
	}
	return 0, false
}

// markLocked enters whether piece i is here, in memory and in the file.
func (sp *sparse) markLocked(i int64, here bool) error {
	if sp.hasLocked(i) == here {
		return nil
	}
	if here {
		sp.count++
	} else {
		sp.count--
	}
	sp.have[i/8] ^= 1 << (i % 8)
	sp.s.fetches.size(sp.ref.blob, sp.bytesLocked())
	_, err := sp.f.WriteAt(sp.have[i/8:i/8+1], sp.mapOff()+i/8)
	return err
}

// bytesLocked is how much of the disk the pieces take.
func (sp *sparse) bytesLocked() int64 {
	n := sp.count * pieceChunks * seal.SealedChunk
	if sp.pieces > 0 && sp.hasLocked(sp.pieces-1) {
		_, last := sp.span(sp.pieces - 1)
		n += last - pieceChunks*seal.SealedChunk
	}
	return n
}

// readSparse reads from what is here of a content that is elsewhere.
// Error: *awayError when something is missing.
func (c *content) readSparse(dst []byte, off int64) error {
	sp := c.sp.Load()
	if sp == nil || sp.gone.Load() {
		return &awayError{c, off, int64(len(dst))}
	}
	first, last := piecesOf(off, int64(len(dst)))
	sp.reads.RLock()
	defer sp.reads.RUnlock()
	if i, missing := sp.firstMissing(first, last); missing {
		from := max(off, i*pieceSize)
		return &awayError{c, from, off + int64(len(dst)) - from}
	}
	if err := sp.r.readAt(dst, off); err != nil {
		if errors.Is(err, ErrDamaged) && sp.spoil(first, last) {
			return &awayError{c, off, int64(len(dst))}
		}
		return err
	}
	sp.readOn(first, last)
	return nil
}

// spoil gives up pieces that were here and did not open: a power cut may have
// taken them. False once that has come too often.
func (sp *sparse) spoil(first, last int64) bool {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	ok := true
	if sp.closing != nil {
		return ok // which is looking for such pieces itself
	}
	for i := first; i <= last; i++ {
		ok = sp.spoilLocked(i) == nil && ok
	}
	return ok
}

func (sp *sparse) spoilLocked(i int64) error {
	if sp.spoiled[i]++; sp.spoiled[i] > spoiledMax {
		return fmt.Errorf("%w: the disk does not keep what is written", ErrDamaged)
	}
	return sp.markLocked(i, false)
}

// missing gives what of n bytes at off is not here, nil if all is.
func (c *content) missing(off, n int64) *awayError {
	switch {
	case c.place.Load() != placeElsewhere || n <= 0:
		return nil
	case c.whole():
		return &awayError{c, 0, c.ref.size}
	}
	first, last := piecesOf(off, n)
	if sp := c.sp.Load(); sp != nil && !sp.gone.Load() {
		i, missing := sp.firstMissing(first, last)
		if !missing {
			return nil
		}
		off, n = max(off, i*pieceSize), n-(max(off, i*pieceSize)-off)
	}
	return &awayError{c, off, min(n, bringStep*pieceSize)}
}

// removeSparse removes the file of a blob, if there is one.
func (s *store) removeSparse(id seal.ID) {
	if err := s.attachments.Remove(sparseName(id)); err != nil {
		s.log.Warn("sparse file not removed", "blob", id.Hex(), "err", err)
		return
	}
	s.fetches.size(id, 0)
}

// verifyPieces drops the pieces that do not open and says how many those were.
func (sp *sparse) verifyPieces() (bad int, err error) {
	buf := make([]byte, (pieceChunks+1)*seal.SealedChunk)
	plain := make([]byte, pieceSize)
	defer clear(plain)
	for i := range sp.pieces {
		off, n := sp.span(i)
		if _, err := sp.f.ReadAt(buf[:n], off); err != nil {
			return bad, fmt.Errorf("sparse file: %w", err)
		}
		if _, err := sp.r.chunks.OpenChunks(plain, buf[:n], uint64(i)*pieceChunks); err == nil {
			continue
		}
		bad++
		sp.mu.Lock()
		err := sp.spoilLocked(i)
		sp.mu.Unlock()
		if err != nil {
			return bad, err
		}
	}
	return bad, nil
}
