package blob

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Align is what offsets in a file, lengths and addresses in memory are
// multiples of to go past the page cache. No disk asks for more than a page.
const Align = 4096

// Bounds of direct reading. A disk takes several large requests at a time;
// what is shorter than directMin costs less through the page cache than a
// second descriptor does.
const (
	readPiece    = 512 << 10
	readParallel = 8
	directMin    = 128 << 10
)

// File is a file of ciphertext that goes to and from the disk past the page
// cache where the file system lets it: the kernel would copy every byte once
// more, and keep what nobody but this program, which opens it once, can use.
// Where direct I/O is refused everything goes through the page cache, and a
// direct call that fails is answered by what the page cache says.
//
// Reads and writes of an os.File, and those below, may be mixed at will; one
// block of Align bytes should be written in one of the two ways only. Safe for
// concurrent use, but for Close.
type File struct {
	*os.File // through the page cache
	dir      *Dir
	name     string // as it was opened
	flags    int
	part     *Section // of another file; nil: all of this one

	opening sync.Mutex
	direct  atomic.Pointer[os.File]
	refused atomic.Bool // there is no direct, and will be none
}

// CreateFile is Create for a File.
func (d *Dir) CreateFile(name string) (*File, error) {
	f, err := d.Create(name)
	if err != nil {
		return nil, err
	}
	return &File{File: f, dir: d, name: name, flags: unix.O_RDWR}, nil
}

// OpenFile is Open for a File.
func (d *Dir) OpenFile(name string) (*File, error) {
	if f, err := d.openSection(name); f != nil || err != nil {
		return f, err
	}
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	return &File{File: f, dir: d, name: name, flags: unix.O_RDONLY}, nil
}

// Close closes the file. Nobody may be using it.
func (f *File) Close() error {
	if direct := f.direct.Swap(nil); direct != nil {
		direct.Close() // every write has been answered; nothing is kept back
	}
	return f.File.Close()
}

// directFile gives the descriptor without page cache, opened when it is first
// needed, or nil. A file whose name has changed by then goes without.
func (f *File) directFile() *os.File {
	if file := f.direct.Load(); file != nil {
		return file
	}
	if f.refused.Load() || f.dir.noDirect.Load() {
		return nil
	}
	f.opening.Lock()
	defer f.opening.Unlock()
	if file := f.direct.Load(); file != nil {
		return file
	}
	file, err := f.dir.openAt("open", f.name, f.flags|unix.O_DIRECT)
	if err != nil {
		f.refuse(err)
		return nil
	}
	f.direct.Store(file)
	return file
}

// refuse notes that direct I/O failed: for all files if the file system has
// none. Other errors are told by the page cache, if they last.
func (f *File) refuse(err error) {
	f.refused.Store(true)
	if errors.Is(err, unix.EINVAL) {
		f.dir.noDirect.Store(true)
	}
}

// MemFor is how many bytes of memory ReadInto needs for n bytes at off.
func MemFor(off, n int64) int64 { return roundUp(off%Align + n) }

// ReadInto reads n bytes at off into mem, of which the result is a part, and
// may overwrite the rest. mem begins at a multiple of Align, as the memory of
// a mapping does, and holds MemFor(off, n). What the page cache has comes from
// there, which also spares what was just written the way to the disk and back.
// Short reads go through it in any case: the kernel reads on where most of a
// file is wanted, and neighbours share blocks.
// Error: io.ErrUnexpectedEOF if the file ends before, else the disk's.
func (f *File) ReadInto(mem []byte, off, n int64) ([]byte, error) {
	if n < 0 || off < 0 || MemFor(off, n) > int64(len(mem)) {
		return nil, fmt.Errorf("read %d bytes at %d into %d of memory", n, off, len(mem))
	}
	return f.readInto(mem, off, n)
}

// readInto is ReadInto for memory that may also be too short, by less than
// Align, or not aligned; such a read goes through the page cache.
func (f *File) readInto(mem []byte, off, n int64) ([]byte, error) {
	in := off % Align
	dst := mem[in : in+n]
	if n == 0 {
		return dst, nil
	}
	if n >= directMin && f.part == nil && aligned(mem) && MemFor(off, n) <= int64(len(mem)) && !f.isCached(off, n) {
		if file := f.directFile(); file != nil {
			err := readBlocks(file, mem[:MemFor(off, n)], off-in, in+n)
			if err == nil || err == io.ErrUnexpectedEOF {
				return dst, err
			}
			f.refuse(err)
		}
	}
	if f.part != nil {
		if off+n > f.part.Size {
			return dst, io.ErrUnexpectedEOF
		}
		off += f.part.Off
	}
	return dst, preadFull(int(f.Fd()), dst, off)
}

// isCached says that the page cache has all of a range, or some of it that is
// not on the disk yet. It asks rather than reads with RWF_NOWAIT, which makes
// the kernel fetch what it does not have. A kernel that cannot say is taken to
// have nothing: then what was not on the disk is brought there first.
func (f *File) isCached(off, n int64) bool {
	if f.dir.noAsking.Load() {
		return false
	}
	from := off &^ (Align - 1)
	where := unix.CachestatRange{Off: uint64(from), Len: uint64(off + n - from)}
	var st unix.Cachestat_t
	if err := unix.Cachestat(uint(f.Fd()), &where, &st, 0); err != nil {
		f.dir.noAsking.Store(true)
		return false
	}
	page := int64(os.Getpagesize())
	return st.Dirty+st.Writeback > 0 || int64(st.Cache) >= (off+n-1)/page-from/page+1
}

// readBlocks fills mem, which is aligned like off and its own length, of which
// the first n bytes must be there: a file ends where it likes.
func readBlocks(file *os.File, mem []byte, off, n int64) error {
	for got := int64(0); got < n; {
		m, err := retryEINTR(func() (int, error) { return unix.Pread(int(file.Fd()), mem[got:], off+got) })
		if err != nil {
			return err
		}
		if got += int64(m); got < n && (m == 0 || m%Align != 0) {
			return io.ErrUnexpectedEOF
		}
	}
	return nil
}

// preadFull fills dst through the page cache.
func preadFull(fd int, dst []byte, off int64) error {
	for len(dst) > 0 {
		n, err := retryEINTR(func() (int, error) { return unix.Pread(fd, dst, off) })
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
		dst, off = dst[n:], off+int64(n)
	}
	return nil
}

// ReadPieces is ReadFull for who can use the bytes as they come: done is
// called for each piece [from, to) of dst that is in, in any order and by
// several goroutines at a time, but not after ReadPieces has returned. The
// borders of pieces are the multiples of 512 KiB and the end of dst; without an
// error they cover dst, each once. Pieces may be told of before an error is
// met in another. done may be nil.
//
// To go past the page cache dst begins at a multiple of Align and has the
// capacity for its length rounded up to one, and bytes behind its length are
// overwritten.
func (d *Dir) ReadPieces(name string, dst []byte, done func(from, to int)) error {
	f, err := d.OpenFile(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err = f.checkSize(len(dst)); err == nil {
		err = f.readPieces(dst, done)
	}
	if err == io.ErrUnexpectedEOF {
		err = fmt.Errorf("%w: it ends early", ErrSize)
	}
	return Wrap("read", name, err)
}

func (f *File) checkSize(want int) error {
	size, err := f.Len()
	if err != nil {
		return err
	}
	if size != int64(want) {
		return fmt.Errorf("%w: it has %d bytes, not %d", ErrSize, size, want)
	}
	return nil
}

func (f *File) readPieces(dst []byte, done func(from, to int)) error {
	size := len(dst)
	mem := dst[:min(int(roundUp(int64(size))), cap(dst))]
	read := func(from, to int) error {
		_, err := f.readInto(mem[from:], int64(from), int64(to-from))
		if err == nil && done != nil {
			done(from, to)
		}
		return err
	}
	if size <= readPiece {
		return read(0, size)
	}
	var group errgroup.Group
	group.SetLimit(readParallel)
	for from := 0; from < size; from += readPiece {
		group.Go(func() error { return read(from, min(from+readPiece, size)) })
	}
	return group.Wait()
}

// WriteDirect writes all of p at off, past the page cache what of it is whole
// blocks, if p lies in its block of memory as it will in that of the file; the
// ends, or all of it, as WriteAt does. The bytes are in the file then for all
// readers, and durable once it has been synced.
// Errors: those of WriteAt.
func (f *File) WriteDirect(p []byte, off int64) error {
	head := min(-off&(Align-1), int64(len(p)))
	body := (int64(len(p)) - head) &^ (Align - 1)
	if len(p) < directMin || !aligned(p[head:]) {
		return f.writeCached(p, off)
	}
	if err := f.writeCached(p[:head], off); err != nil {
		return err
	}
	p, off = p[head:], off+head
	n := f.writeBlocks(p[:body], off)
	return f.writeCached(p[n:], off+n)
}

// writeBlocks writes aligned blocks directly, as far as that goes: what is
// left, which may be all, the page cache takes or refuses.
func (f *File) writeBlocks(p []byte, off int64) (done int64) {
	file := f.directFile()
	if file == nil || f.dir.pace.yields(len(p)) {
		return 0
	}
	begun := time.Now()
	for done < int64(len(p)) {
		n, err := retryEINTR(func() (int, error) { return unix.Pwrite(int(file.Fd()), p[done:], off+done) })
		if err != nil {
			f.refuse(err)
			return done
		}
		if done += int64(n); n == 0 || n%Align != 0 {
			return done &^ (Align - 1)
		}
	}
	f.dir.pace.took(len(p), time.Since(begun))
	return done
}

// Bounds of pace: a disk that takes a MiB in longer than slowDisk, slowTimes
// in a row, is left alone for the next slowBytes.
const (
	slowDisk  = 4 * time.Millisecond
	slowTimes = 3
	slowBytes = 64 << 20
)

// pace lets writers go past the page cache while the disk keeps up with them.
// A slow one would hold them back to its own speed at once, where the page
// cache takes what memory there is.
type pace struct {
	slow   atomic.Int32 // direct writes in a row that were slow
	cached atomic.Int64 // bytes that still go through the page cache
}

// yields says that n bytes go through the page cache.
func (p *pace) yields(n int) bool {
	return p.cached.Load() > 0 && p.cached.Add(int64(-n)) > 0
}

// took notes how long a direct write of n bytes took.
func (p *pace) took(n int, d time.Duration) {
	switch {
	case d <= max(slowDisk, slowDisk*time.Duration(n)>>20):
		p.slow.Store(0)
	case p.slow.Add(1) >= slowTimes:
		p.slow.Store(0)
		p.cached.Store(slowBytes)
	}
}

func (f *File) writeCached(p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	_, err := f.WriteAt(p, off)
	return err
}

// AlignedBuffer makes n bytes of memory that go past the page cache.
func AlignedBuffer(n int) []byte {
	b := make([]byte, n+Align-1)
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (Align - 1))
	return b[skip : skip+n : skip+n]
}

func aligned(b []byte) bool { return uintptr(unsafe.Pointer(unsafe.SliceData(b)))%Align == 0 }

func roundUp(n int64) int64 { return (n + Align - 1) &^ (Align - 1) }
