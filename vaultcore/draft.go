package vaultcore

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// noCut: nothing was cut off since the log was last appended to.
const noCut = math.MaxInt64

// draft is one file that is being written. What it holds has one of three
// shapes, all over what shows of its lower content:
//
//   - flat: a new file that is small, in one buffer that can be sealed in place;
//   - stream: a new file written in order that outgrew the buffer;
//   - pages: everything else, 4 KiB pages in RAM, in the log, or below.
//
// flat and stream may become pages at any time, and flat a stream; pages stay.
// A draft is safe for concurrent use. Lock order: mu, then the content's and
// the store's locks. A draft's mu is only tried while another's is held.
type draft struct {
	// Set at construction.
	s    *store
	base *content // acquired; nil if none

	ram atomic.Int64 // bytes held in RAM

	mu       sync.Mutex
	length   int64
	changed  bool // something was written since the base
	frozen   bool // found after a crash: only read, never spilled
	short    bool // found without all that its row had counted
	ended    bool // committed or discarded
	lower    lower
	flat     *flat
	stream   *stream
	pages    pageSet
	log      *draftLog
	cutTo    int64 // smallest length since the log was last appended to
	promised int64 // bytes of disk, see spaceGuard

	// The result of the last finish, while nothing was written after it.
	done *sealedContent

	// What the caller's row says, and the files only it may still name.
	isKept    bool
	rowFailed bool
	rowLoose  bool   // what it names was perhaps not on the disk
	rowCount  uint32 // records of the log when it was written
	rowState  []byte
	rowFiles  []string
	obsolete  []string
}

// lower is what shows through where a draft has nothing of its own: at most
// one of a content, the chunks of a stream, and a draft found after a crash.
type lower struct {
	content *content
	part    *part
	frozen  *draft
	shown   int64 // bytes of it that show; zeros follow
}

// part is a file of sealed chunks that belongs to the draft and is only read.
type part struct {
	r    *v4Reader
	blob seal.ID
	fk   seal.Key
	from int64 // the file has no chunks before this offset
	size int64 // plaintext that can be read
	done bool  // its name is <blob>.bin
	// synced: the file and its name are on the disk.
	synced bool
}

func newPart(st *stream, chunks uint64) *part {
	p := &part{r: st.r, blob: st.w.blob, fk: st.w.fk, from: int64(st.headCap), size: int64(chunks) * seal.ChunkSize}
	p.r.size, p.r.sealedLen = p.size, seal.SealedOffV4(chunks)
	return p
}

func (p *part) name() string {
	if p.done {
		return binName(p.blob)
	}
	return partName(p.blob)
}

// readAt fills dst, with zeros beyond what shows.
func (l *lower) readAt(s *store, dst []byte, off int64) error {
	n := max(min(l.shown-off, int64(len(dst))), 0)
	clear(dst[n:])
	if n == 0 {
		return nil
	}
	switch dst = dst[:n]; {
	case l.content != nil:
		got, err := l.content.readAt(s, dst, off)
		if err == nil && got < len(dst) {
			err = fmt.Errorf("%w: content shorter than its draft says", ErrDamaged)
		}
		return err
	case l.part != nil:
		if off < l.part.from {
			return fmt.Errorf("%w: start of a stream", ErrDamaged)
		}
		return l.part.r.readAt(dst, off)
	default:
		l.frozen.mu.Lock()
		defer l.frozen.mu.Unlock()
		return l.frozen.readLocked(dst, off)
	}
}

// newDraft begins a draft over base, of which the first size bytes show, or
// over nothing. It acquires base until committed or discard.
func (s *store) newDraft(base *content, size int64) *draft {
	d := &draft{s: s, base: base, length: size, cutTo: noCut, pages: pageSet{bufs: s.bufs}}
	if base != nil {
		base.acquire()
		d.lower = lower{content: base, shown: min(size, base.ref.size)}
	}
	if d.lower.shown == 0 {
		d.lower = lower{}
		d.flat = &flat{buf: &plainBuf{}}
	}
	return d
}

// size is the length of the file as it is now.
func (d *draft) size() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.length
}

// dirty says whether something was written that finish has not sealed.
func (d *draft) dirty() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed && d.done == nil
}

// writeAt writes all of p or nothing. p is copied or sealed when it returns.
// Errors: ErrNoSpace when the file could not be sealed whole any more,
// ErrTooLarge, ErrDamaged when a page that p fills in part cannot be read,
// else the disk's.
func (d *draft) writeAt(p []byte, off int64) error {
	if off < 0 {
		return ErrInvalid
	}
	if len(p) == 0 {
		return nil
	}
	if off > d.s.limits.MaxFile-int64(len(p)) {
		return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, d.s.limits.MaxFile)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	end := off + int64(len(p))
	defer d.settleLocked()
	if err := d.touchLocked(max(end, d.length)); err != nil {
		return err
	}
	if err := d.putLocked(p, off); err != nil {
		return diskError(err)
	}
	d.length, d.changed = max(d.length, end), true
	return nil
}

// touchLocked prepares a change that leaves the file length bytes long: the
// disk must hold it sealed whole, and what finish made is undone. It also
// refuses a draft that has ended.
func (d *draft) touchLocked(length int64) error {
	if d.ended || d.frozen {
		return ErrClosed
	}
	if err := d.promiseLocked(max(d.neededLocked(length), d.promised)); err != nil {
		return err
	}
	return d.unfinishLocked()
}

// neededLocked is how many bytes finish will still write for a file of length.
func (d *draft) neededLocked(length int64) int64 {
	n := seal.SealedSizeV4(length)
	switch {
	case d.stream != nil:
		n -= d.stream.w.handed
	case d.flat != nil && d.flat.ahead != nil:
		n -= d.flat.ahead.sent
	}
	return max(n, 0)
}

func (d *draft) promiseLocked(n int64) error {
	if n > d.promised {
		if err := d.s.space.promise(n - d.promised); err != nil {
			return err
		}
	} else if n < d.promised {
		d.s.space.release(d.promised - n)
	}
	d.promised = n
	return nil
}

// settleLocked brings the common accounts up to what the draft is now.
func (d *draft) settleLocked() {
	n := int64(0)
	if d.changed && d.done == nil {
		n = min(d.neededLocked(d.length), d.promised) // never more than was asked for
	}
	_ = d.promiseLocked(n)
	ram := int64(d.pages.ram) * pageSize
	if d.flat != nil {
		ram += int64(cap(d.flat.buf.b)) // of the heap
		if d.flat.buf.mapping != nil {
			ram = int64(d.flat.buf.inRAM())
		}
	}
	if d.stream != nil {
		ram += int64(d.stream.headCap) + 3*segmentPlain // huge buffers have a bound of their own
	}
	d.s.budget.change(d, ram-d.ram.Load())
}

// putLocked writes p in whatever shape fits what the draft becomes.
func (d *draft) putLocked(p []byte, off int64) error {
	if d.flat != nil {
		if d.flatTakes(off, off+int64(len(p))) {
			return d.flatWriteLocked(p, off)
		}
		if err := d.leaveFlatLocked(off); err != nil {
			return err
		}
	}
	if d.stream != nil {
		return d.streamWriteLocked(p, off)
	}
	return d.pagesWriteLocked(p, off)
}

// spillLocked moves what the draft holds from RAM to the disk: what is written in
// order so far to where it will be sealed, as version 3 if it may yet become that,
// else to a stream, and the rest to the log. A stream and its few buffers stay. Who
// asks for room may come to a draft that has just ended.
func (d *draft) spillLocked() error {
	if d.ended || d.frozen || d.done != nil || d.stream != nil || d.flat == nil && d.pages.ram == 0 {
		return nil
	}
	defer d.settleLocked()
	if d.flat == nil {
		if err := d.appendDirtyLocked(); err != nil {
			return err
		}
		d.pages.dropClean()
		return nil
	}
	if d.shedsLocked() {
		if err := d.shedLocked(); err == nil || d.flat.isShed() {
			return err
		}
	}
	if d.flat.isShed() || d.log == nil && d.flat.filled > d.s.limits.StreamHead {
		return d.toStreamLocked()
	}
	if err := d.appendDirtyLocked(); err != nil {
		return err
	}
	d.dropFlatLocked()
	return nil
}

// truncate sets the length. What is cut off is gone, what is added is zeros.
// Errors as for writeAt.
func (d *draft) truncate(size int64) error {
	if size < 0 {
		return ErrInvalid
	}
	if size > d.s.limits.MaxFile {
		return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, d.s.limits.MaxFile)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if size == d.length {
		return nil
	}
	defer d.settleLocked()
	if err := d.touchLocked(size); err != nil {
		return err
	}
	if size < d.length {
		if err := d.cutLocked(size); err != nil {
			return diskError(err)
		}
	}
	d.length, d.changed = size, true
	return nil
}

// allocate makes sure of room for n bytes from off on, and extends the file
// to them unless keep.
func (d *draft) allocate(off, n int64, keep bool) error {
	if off < 0 || n <= 0 {
		return ErrInvalid
	}
	if off > d.s.limits.MaxFile-n {
		return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, d.s.limits.MaxFile)
	}
	if length := d.size(); off+n <= length {
		return nil
	} else if keep {
		return d.s.space.fits(seal.SealedSizeV4(off+n) - seal.SealedSizeV4(length))
	}
	return d.truncate(off + n)
}

// cutLocked drops what lies beyond size.
func (d *draft) cutLocked(size int64) error {
	if size > 0 && d.flat.isShed() {
		if err := d.toStreamLocked(); err != nil {
			return err
		}
	}
	switch {
	case size == 0:
		d.emptyLocked()
	case d.flat != nil:
		if err := d.unsealFlatLocked(); err != nil {
			return err
		}
		d.openAheadLocked()
		d.flat.filled, d.flat.logged = min(d.flat.filled, size), min(d.flat.logged, size)
		d.pages.cut((size + pageSize - 1) / pageSize)
	case d.stream != nil:
		if !d.stream.cut(size) {
			return d.breakStreamLocked(size)
		}
	default:
		if err := d.cutPagesLocked(size); err != nil {
			return err
		}
	}
	d.lower.shown = min(d.lower.shown, size)
	if d.log != nil {
		d.cutTo = min(d.cutTo, size)
	}
	return nil
}

// emptyLocked makes the draft the flat one of an empty file. The log goes on.
func (d *draft) emptyLocked() {
	if d.stream != nil {
		d.dropStreamLocked()
	}
	if d.flat != nil {
		d.dropFlatLocked()
	}
	d.pages.clear()
	d.flat = &flat{buf: &plainBuf{}}
}

// readAt fills dst from off; it is short only at the end of the file.
func (d *draft) readAt(dst []byte, off int64) (int, error) {
	if off < 0 {
		return 0, ErrInvalid
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return 0, ErrClosed
	}
	if off >= d.length || len(dst) == 0 {
		return 0, nil
	}
	dst = dst[:min(int64(len(dst)), d.length-off)]
	if err := d.readLocked(dst, off); err != nil {
		clear(dst)
		return 0, err
	}
	return len(dst), nil
}

// readLocked fills dst; off+len(dst) is within the file.
func (d *draft) readLocked(dst []byte, off int64) error {
	filled := int64(0)
	switch {
	case d.flat != nil:
		if !d.flat.isShed() {
			if err := d.unsealFlatLocked(); err != nil {
				return err
			}
		}
		filled = d.flat.filled
	case d.stream != nil:
		filled = d.stream.filled
		if err := d.settleStreamLocked(min(off+int64(len(dst)), d.stream.tailStart())); err != nil {
			return err
		}
	}
	if d.flat == nil && d.stream == nil {
		return d.readPagesLocked(dst, off)
	}
	n := max(min(filled-off, int64(len(dst))), 0)
	clear(dst[n:])
	if n == 0 {
		return nil
	}
	if d.flat != nil {
		got, err := d.readAheadLocked(dst[:n], off)
		if err == nil && int64(got) < n {
			copy(dst[got:n], d.flat.data()[off+int64(got):])
		}
		return err
	}
	return d.stream.readAt(dst[:n], off)
}
