package vaultcore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"github.com/vaultdrive/vaultdrive/cache"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Where the sealed bytes of a content are (column place).
const (
	placeElsewhere = 0 // at a remote only
	placeBin       = 1 // attachments/<blob>.bin
	placeFresh     = 2 // in its row
)

// wholeMax is the largest sealed version 4 content that is opened whole, like
// every version 3 content: it may lie in its row, and a descriptor and a key
// schedule would cost more than it holds.
const wholeMax = 64 << 10

// storeConfig is what a store stands on. All of it is set by the vault.
type storeConfig struct {
	vault       seal.ID
	attachments *blob.Dir
	scratch     *blob.Dir
	keys        *cache.FileKeys
	wrap        func(fk *seal.Key) (wire []byte, epoch uint32, err error)
	unwrap      func(epoch uint32, wire []byte) (seal.Key, error)
	// loadFresh gives the sealed bytes of a content that lies in its row, a
	// copy that may be opened in place.
	loadFresh  func(row int64, blob seal.ID) ([]byte, error)
	writeV4    func() bool  // the vault's write setting is v4
	onLowSpace func() bool  // frees something on the disk; false if nothing went. May be nil
	beforeFile func() error // called before a file is made. May be nil
	limits     Limits
	log        *slog.Logger
}

// store is what contents and drafts stand on: the directories, the keys, and
// the memory they share. It knows neither rows nor names.
type store struct {
	storeConfig
	bufs   *buffers
	plain  *plainCache
	chunks *chunkCache
	budget *draftBudget
	space  *spaceGuard
	// fetches bring contents that are at a remote only.
	fetches *fetches
	// sealing bounds the buffers of drafts that have left RAM and are sealed whole.
	sealing *semaphore.Weighted
}

func newStore(c storeConfig) *store {
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.limits = c.limits.withDefaults()
	s := &store{storeConfig: c, bufs: newBuffers(c.limits.IdleBuffers), chunks: &chunkCache{}}
	s.sealing = semaphore.NewWeighted(sealingMax)
	s.plain = newPlainCache(c.limits.OpenPlain, c.limits.IdlePlain, s.bufs)
	s.budget = &draftBudget{perFile: c.limits.DraftFile, total: c.limits.DraftTotal, drafts: map[*draft]struct{}{}}
	s.fetches = newFetches()
	s.space = &spaceGuard{free: c.attachments.Free, low: c.onLowSpace, reserve: c.limits.Reserve}
	return s
}

// trim gives back the memory, and wipes out the plaintext, that waits for the
// next reader or writer; for a mount that has been idle for a while.
func (s *store) trim() {
	s.plain.trim()
	s.bufs.trim()
}

// close gives everything back. All contents and drafts have been let go.
func (s *store) close() {
	s.fetches.end()
	s.plain.trim()
	s.bufs.close()
}

// contentRef is what a row says of its content.
type contentRef struct {
	version         uint8
	epoch           uint32
	size, sealedLen int64
	blob            seal.ID
	wrapped         [seal.WrappedKeySize]byte
	hdr             [seal.HeaderV4]byte // version 3: IV ‖ tag in its first 28 bytes
}

// content is one immutable sealed content and, while somebody uses it, its
// opened state. A vault has one for each file it shows, so it is small.
type content struct {
	ref   contentRef
	place atomic.Int32  // placeElsewhere, placeBin, placeFresh
	used  atomic.Uint32 // when it was opened last, s since 1970, while that matters; see recency
	row   atomic.Int64  // where a fresh content lies

	v4    atomic.Pointer[v4Reader]   // set by the first read of a version 4 content
	plain atomic.Pointer[plainEntry] // guarded by its cache's mu
	sp    atomic.Pointer[sparse]     // what is here of a content that is elsewhere

	mu    sync.Mutex // guards inUse, and the closing of v4
	inUse int32
	open  sync.Mutex // held by who opens v4; the others wait
}

// makeFile makes a new file of ciphertext.
func (s *store) makeFile(dir *blob.Dir, name string) (*blob.File, error) {
	if s.beforeFile != nil {
		if err := s.beforeFile(); err != nil {
			return nil, err
		}
	}
	return dir.CreateFile(name)
}

// newContent describes a content; nothing is read.
func (s *store) newContent(ref contentRef, place int32, row int64) *content {
	c := &content{ref: ref}
	c.place.Store(place)
	c.row.Store(row)
	return c
}

// acquire counts a user: an open handle, or a draft over this content.
func (c *content) acquire() {
	c.mu.Lock()
	c.inUse++
	first := c.inUse == 1
	c.mu.Unlock()
	if e := c.plain.Load(); first && e != nil {
		e.cache.setIdle(c, false)
	}
}

// release ends a use. The last one closes the descriptor and drops the key;
// plaintext of a content opened whole may stay as idle.
func (c *content) release() {
	c.mu.Lock()
	c.inUse--
	var r *v4Reader
	var sp *sparse
	last := c.inUse == 0
	if last {
		r, sp = c.v4.Swap(nil), c.sp.Swap(nil)
	}
	c.mu.Unlock()
	if r != nil {
		r.close()
	}
	if sp != nil {
		sp.put()
	}
	if e := c.plain.Load(); last && e != nil {
		e.cache.setIdle(c, true)
	}
}

func (c *content) users() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int(c.inUse)
}

// whole says that the content is opened in one piece.
func (c *content) whole() bool { return c.ref.version == seal.V3 || c.ref.sealedLen <= wholeMax }

// readAt fills dst from plaintext offset off; it is short only at the end of
// the content. The caller has acquired c. On error dst is cleared: nothing
// unauthenticated and no part of an answer gets out. It works while the
// content moves from its row to its file, or goes. It waits for no network.
// Errors: ErrDamaged for what cannot be authenticated or is not there,
// *awayError for what is elsewhere, else the disk's.
func (c *content) readAt(s *store, dst []byte, off int64) (int, error) {
	if off < 0 {
		return 0, ErrInvalid
	}
	if off >= c.ref.size || len(dst) == 0 {
		return 0, nil
	}
	dst = dst[:min(int64(len(dst)), c.ref.size-off)]
	if err := c.read(s, dst, off); err != nil {
		clear(dst)
		return 0, fmt.Errorf("content %s: %w", c.ref.blob.Hex(), err)
	}
	return len(dst), nil
}

func (c *content) read(s *store, dst []byte, off int64) (err error) {
	away := c.place.Load() == placeElsewhere
	switch {
	case c.whole() && away:
		if !s.plain.peek(c, dst, off) {
			err = &awayError{c, 0, c.ref.size}
		}
		return err
	case c.whole():
		err = s.plain.readAt(s, c, dst, off)
	case away && c.v4.Load() == nil:
		return c.readSparse(dst, off)
	default:
		err = c.readV4(s, dst, off)
	}
	if errors.Is(err, blob.ErrNotFound) && c.evicted(s) {
		return &awayError{c, off, int64(len(dst))}
	}
	return err
}

// evicted says whether a content whose file is missing has been evicted just
// now.
func (c *content) evicted(s *store) bool {
	if c.place.Load() == placeBin && s.fetches.elsewhere(c.ref.blob) {
		c.place.CompareAndSwap(placeBin, placeElsewhere)
	}
	return c.place.Load() == placeElsewhere
}

func (c *content) readV4(s *store, dst []byte, off int64) error {
	r := c.v4.Load()
	if r == nil {
		var err error
		if r, err = c.openV4(s); err != nil {
			return err
		}
	}
	return r.readAt(dst, off)
}

// openV4 opens the blob's file and key, once for all readers.
func (c *content) openV4(s *store) (*v4Reader, error) {
	c.open.Lock()
	defer c.open.Unlock()
	if r := c.v4.Load(); r != nil {
		return r, nil
	}
	key, err := c.key(s)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	r, err := s.openV4File(&c.ref, &key)
	if err != nil {
		return nil, err
	}
	c.v4.Store(r)
	return r, nil
}

func (c *content) key(s *store) (seal.Key, error) {
	key, err := s.keys.Get(context.Background(), c.ref.blob, func() (seal.Key, error) {
		return s.unwrap(c.ref.epoch, c.ref.wrapped[:])
	})
	return key, damaged(err)
}

// openWhole loads and opens all of the content. data lies in buf.
func (c *content) openWhole(s *store) (buf *plainBuf, data []byte, err error) {
	key, err := c.key(s)
	if err != nil {
		return nil, nil, err
	}
	defer key.Wipe()
	if c.ref.version == seal.V3 && c.ref.sealedLen >= partsMin && c.place.Load() == placeBin {
		return c.openParts(s, &key) // a row holds none of that length
	}
	sealed, err := c.load(s)
	if err != nil {
		return nil, nil, err
	}
	if c.ref.version == seal.V3 {
		data, err = seal.OpenV3(&key, sealed.b, c.ref.size, c.ref.hdr[:seal.HdrV3])
		if err != nil {
			s.bufs.putPlain(sealed)
			return nil, nil, damaged(err)
		}
		return sealed, data, nil
	}
	defer s.bufs.putPlain(sealed)
	buf = s.bufs.plainSized(int(c.ref.size))
	buf.b = buf.b[:c.ref.size]
	if err := c.openSmallV4(s, &key, buf.b, sealed.b); err != nil {
		s.bufs.putPlain(buf)
		return nil, nil, damaged(err)
	}
	return buf, buf.b, nil
}

func (c *content) openSmallV4(s *store, key *seal.Key, dst, sealed []byte) error {
	if err := seal.CheckSizeV4(int64(len(sealed)), c.ref.size); err != nil {
		return err
	}
	if err := seal.VerifyHeaderV4(sealed[:seal.HeaderV4], c.ref.hdr[:]); err != nil {
		return err
	}
	v4, err := seal.OpenHeaderV4(key, s.vault, c.ref.blob, sealed[:seal.HeaderV4])
	if err != nil {
		return err
	}
	_, err = v4.OpenChunks(dst, sealed[seal.HeaderV4:], 0)
	return err
}

// load reads the sealed bytes from where they are. They may move from the row
// to the file meanwhile, so what is not in one place is looked for in the other.
func (c *content) load(s *store) (*plainBuf, error) {
	switch c.place.Load() {
	case placeFresh:
		buf, err := c.loadFresh(s)
		if err == nil {
			return buf, nil
		}
		if buf, binErr := c.loadBin(s); binErr == nil {
			return buf, nil
		}
		return nil, err
	case placeBin:
		buf, err := c.loadBin(s)
		if errors.Is(err, blob.ErrNotFound) {
			if buf, freshErr := c.loadFresh(s); freshErr == nil {
				return buf, nil
			}
		}
		return buf, err
	}
	return nil, errElsewhere()
}

func (c *content) loadFresh(s *store) (*plainBuf, error) {
	b, err := s.loadFresh(c.row.Load(), c.ref.blob)
	if err != nil {
		return nil, damaged(err)
	}
	if int64(len(b)) != c.ref.sealedLen {
		return nil, damaged(fmt.Errorf("%w: %d bytes in its row, not %d", seal.ErrSize, len(b), c.ref.sealedLen))
	}
	return &plainBuf{b: b}, nil
}

func (c *content) loadBin(s *store) (*plainBuf, error) {
	buf := s.bufs.plainSized(int(c.ref.sealedLen))
	buf.b = buf.b[:c.ref.sealedLen]
	if err := s.attachments.ReadFull(binName(c.ref.blob), buf.b); err != nil {
		s.bufs.putPlain(buf)
		return nil, damaged(err)
	}
	return buf, nil
}

// damaged marks what authentication, or the absence of a blob, has refused.
// Errors of the disk itself stay what they are.
func damaged(err error) error {
	if err == nil || errors.Is(err, ErrDamaged) {
		return err
	}
	for _, cause := range []error{
		seal.ErrAuth, seal.ErrBlobMismatch, seal.ErrKeyCommit, seal.ErrSize, seal.ErrTruncated,
		seal.ErrFormat, seal.ErrTooLarge, seal.ErrVersion, blob.ErrNotFound, blob.ErrSize, ErrNotFound,
	} {
		if errors.Is(err, cause) {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	return err
}

// Names of files: a finished blob, one being written, a draft log. The first
// two lie in attachments, the last in scratch.
const (
	binExt  = ".bin"
	partExt = ".part"
	logExt  = ".tmp"
)

func binName(blob seal.ID) string  { return blob.Hex() + binExt }
func partName(blob seal.ID) string { return blob.Hex() + partExt }
func logName(log seal.ID) string   { return log.Hex() + logExt }
