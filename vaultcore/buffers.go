package vaultcore

import (
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

const (
	pageSize   = 4096
	blockSize  = 64 << 10 // pages are kept, logged and sealed in blocks of 16
	blockPages = blockSize / pageSize

	smallPlain = 32 << 10 // plaintext up to here lies in the heap
	plainHead  = 12       // room for the IV in front of the plaintext, see seal.SealV3

	segmentChunks = 16 // chunks handled at a time: 256 KiB, which stays in the cache of a core
	segmentPlain  = segmentChunks * seal.ChunkSize
	// What goes past the page cache goes in larger pieces: as long as the
	// largest request of the kernel, so that one read answers it.
	directChunks = 64
	directPlain  = directChunks * seal.ChunkSize

	slabSize = 4 << 20

	hugePage = 2 << 20
)

// Sizes of mapped plaintext buffers. The largest holds any version 3 content
// sealed in place; memory is only taken for the pages that are touched. The
// sealed bytes, not the plaintext, begin on a page: the kernel copies them
// half as fast to and from any other place.
var plainClasses = [...]int{blockSize + pageSize, mib + pageSize, seal.MaxV3 + pageSize}

// buffers is the memory of contents and drafts, taken from the kernel and
// kept for the next user, because a fresh buffer per file costs more than the
// cipher. It is not cleared in between: whoever takes a buffer overwrites
// what it shows, and tracks how far that reaches.
type buffers struct {
	idleMax int64

	sealedSmall, sealedLarge sync.Pool // *sealedBuf

	mu    sync.Mutex
	huge  []*sealedBuf                   // free ones, in RAM
	wide  int                            // huge ones that writers hold
	plain [len(plainClasses)][]*plainBuf // free ones
	idle  int64                          // bytes of free plainBufs that are in RAM
	warm  []*pageBlock                   // free, in RAM
	cold  []*pageBlock                   // free, given back to the kernel
	slabs [][]byte
	lent  int // blocks in use
}

func newBuffers(idleMax int64) *buffers {
	b := &buffers{idleMax: idleMax}
	b.sealedSmall.New = func() any { return &sealedBuf{mem: make([]byte, blob.MemFor(pageSize-1, sealedSmall))} }
	b.sealedLarge.New = func() any { return &sealedBuf{mem: make([]byte, blob.MemFor(pageSize-1, sealedLarge))} }
	return b
}

// sealedBuf holds ciphertext on its way to or from a file, b within mem, which
// begins on a page: what goes past the page cache needs that.
type sealedBuf struct {
	mem, b []byte
	raw    []byte // what was mapped, of a huge one
	writer bool   // counted in wide
}

// What the kinds of sealedBuf hold: two chunks; a segment and a chunk behind a
// header; and what is read or written past the page cache at a time, with a
// chunk more that dst begins in, or that the block before ended in.
const (
	sealedSmall = 2 * seal.SealedChunk
	sealedLarge = seal.HeaderV4 + (segmentChunks+1)*seal.SealedChunk
	sealedHuge  = (directChunks + 2) * seal.SealedChunk
)

// hugeIdle is how many free huge buffers stay in RAM, and hugeWriters how many
// writers may hold in all; a stream has two while it writes, and does with
// large ones, through the page cache, when there is none.
const (
	hugeIdle    = 4
	hugeWriters = 16
)

// sealed gives an empty buffer for n bytes, sealedHuge at most, at offset off
// of a file. They lie in a page as they do in the file's: the kernel copies
// twice as fast that way.
func (b *buffers) sealed(n int, off int64) *sealedBuf {
	var buf *sealedBuf
	switch {
	case n <= sealedSmall:
		buf = b.sealedSmall.Get().(*sealedBuf)
	case n <= sealedLarge:
		buf = b.sealedLarge.Get().(*sealedBuf)
	default:
		buf = b.takeHuge()
	}
	buf.move(off)
	return buf
}

// sealedForWriter gives a huge buffer, or a large one if writers hold enough.
func (b *buffers) sealedForWriter(off int64) *sealedBuf {
	b.mu.Lock()
	ok := b.wide < hugeWriters
	if ok {
		b.wide++
	}
	b.mu.Unlock()
	if !ok {
		return b.sealed(sealedLarge, off)
	}
	buf := b.sealed(sealedHuge, off)
	buf.writer = true
	return buf
}

func (b *buffers) takeHuge() *sealedBuf {
	b.mu.Lock()
	if n := len(b.huge); n > 0 {
		buf := b.huge[n-1]
		b.huge = b.huge[:n-1]
		b.mu.Unlock()
		return buf
	}
	b.mu.Unlock()
	buf, err := mapPlain(hugePage)
	if err != nil {
		return &sealedBuf{mem: make([]byte, hugePage)}
	}
	return &sealedBuf{mem: buf.mapping, raw: buf.raw}
}

func (b *buffers) putHuge(buf *sealedBuf) {
	b.mu.Lock()
	if buf.writer {
		buf.writer = false
		b.wide--
	}
	keep := buf.raw != nil && len(b.huge) < hugeIdle
	if keep {
		b.huge = append(b.huge, buf)
	}
	b.mu.Unlock()
	if !keep && buf.raw != nil {
		unix.Munmap(buf.raw)
	}
}

// move makes the buffer the empty one for another offset.
func (buf *sealedBuf) move(off int64) {
	in := off % pageSize
	buf.b = buf.mem[in:in]
}

// chunks is how many whole chunks go into the buffer, behind a header.
func (buf *sealedBuf) chunks() int {
	if len(buf.mem) == hugePage {
		return directChunks + 1
	}
	return segmentChunks + 1
}

func (b *buffers) putSealed(buf *sealedBuf) {
	switch {
	case len(buf.mem) == hugePage:
		b.putHuge(buf)
	case len(buf.mem) > sealedLarge:
		b.sealedLarge.Put(buf)
	default:
		b.sealedSmall.Put(buf)
	}
}

// plainBuf is a buffer for one content, plaintext or sealed in place.
type plainBuf struct {
	b       []byte // cap is what it can hold
	mapping []byte // nil in the heap
	raw     []byte // what was mapped; mapping lies in it
	class   int
	touched int // bytes of mapping in RAM, from its start
	shed    int // of these, a start that was given back but for its first page
}

// shedTo gives the pages before offset to back to the kernel, but for the first.
func (buf *plainBuf) shedTo(to int) {
	if from := max(buf.shed, pageSize); to > from {
		// It fails only for what is not mapped; then the pages stay in RAM.
		_ = unix.Madvise(buf.mapping[from:to:to], unix.MADV_DONTNEED)
		buf.shed = to
	}
}

// inRAM is how many bytes of the mapping are.
func (buf *plainBuf) inRAM() int { return buf.touched - max(buf.shed-pageSize, 0) }

// plainSized gives a buffer with room for n bytes: of the heap while small or
// when the kernel has no mapping left.
func (b *buffers) plainSized(n int) *plainBuf {
	if n <= smallPlain+seal.OverheadV3 {
		return &plainBuf{b: make([]byte, 0, n)}
	}
	for class, size := range plainClasses {
		if n > size {
			continue
		}
		if buf := b.takePlain(class); buf != nil {
			return buf
		}
		buf, err := mapPlain(size)
		if err != nil {
			break
		}
		buf.class = class
		return buf
	}
	return &plainBuf{b: make([]byte, 0, n)}
}

// mapPlain maps a buffer. A large one gets huge pages where the kernel gives
// them: taking 25 MiB page by page costs as much as decrypting it.
func mapPlain(size int) (*plainBuf, error) {
	room := size
	if size >= hugePage {
		room += hugePage
	}
	raw, err := unix.Mmap(-1, 0, room, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, err
	}
	m := raw[:size:size]
	if size >= hugePage {
		skip := -int(uintptr(unsafe.Pointer(&raw[0]))) & (hugePage - 1)
		m = raw[skip:][:size:size]
		_ = unix.Madvise(m[:size&^(hugePage-1)], unix.MADV_HUGEPAGE) // without it only slower
	}
	return &plainBuf{b: m[:0], mapping: m, raw: raw}, nil
}

func (b *buffers) takePlain(class int) *plainBuf {
	b.mu.Lock()
	defer b.mu.Unlock()
	free := b.plain[class]
	if len(free) == 0 {
		return nil
	}
	buf := free[len(free)-1]
	b.plain[class] = free[:len(free)-1]
	b.idle -= int64(buf.touched)
	return buf
}

// putPlain takes a buffer back. What would make the idle ones too large in
// sum goes back to the kernel.
func (b *buffers) putPlain(buf *plainBuf) {
	if buf == nil || buf.mapping == nil {
		return
	}
	if buf.shed > 0 {
		unix.Munmap(buf.raw)
		return
	}
	buf.touched = max(buf.touched, min(len(buf.b)+pageSize, len(buf.mapping)))
	buf.b = buf.mapping[:0]
	b.mu.Lock()
	keep := int(max(min(int64(buf.touched), b.idleMax-b.idle), 0)) &^ (pageSize - 1)
	if keep >= smallPlain {
		b.idle += int64(keep)
	}
	b.mu.Unlock()
	if keep < smallPlain {
		unix.Munmap(buf.raw)
		return
	}
	if keep < buf.touched {
		unix.Madvise(buf.mapping[keep:], unix.MADV_DONTNEED)
	}
	buf.touched = keep
	b.mu.Lock()
	b.plain[buf.class] = append(b.plain[buf.class], buf)
	b.mu.Unlock()
}

// pageBlock is the memory of 16 pages of a draft.
type pageBlock [blockSize]byte

// block gives a block whose content is undefined.
func (b *buffers) block() *pageBlock {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lent++
	for _, list := range []*[]*pageBlock{&b.warm, &b.cold} {
		if n := len(*list); n > 0 {
			p := (*list)[n-1]
			*list = (*list)[:n-1]
			return p
		}
	}
	slab, err := unix.Mmap(-1, 0, slabSize, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return new(pageBlock)
	}
	b.slabs = append(b.slabs, slab)
	for off := blockSize; off < slabSize; off += blockSize {
		b.cold = append(b.cold, (*pageBlock)(slab[off:]))
	}
	return (*pageBlock)(slab)
}

func (b *buffers) putBlock(p *pageBlock) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lent--
	if int64(len(b.warm)+1)*blockSize <= b.idleMax {
		b.warm = append(b.warm, p)
		return
	}
	unix.Madvise(p[:], unix.MADV_DONTNEED)
	b.cold = append(b.cold, p)
}

// trim gives the memory of all free buffers back to the kernel, and with it
// the plaintext in them.
func (b *buffers) trim() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for class, free := range b.plain {
		for _, buf := range free {
			unix.Munmap(buf.raw)
		}
		b.plain[class] = nil
	}
	b.idle = 0
	for _, p := range b.warm {
		unix.Madvise(p[:], unix.MADV_DONTNEED)
	}
	b.cold = append(b.cold, b.warm...)
	b.warm = nil
	for _, buf := range b.huge {
		unix.Munmap(buf.raw)
	}
	b.huge = nil
}

// close gives everything back that nobody holds.
func (b *buffers) close() {
	b.trim()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lent > 0 {
		return // a draft that could not be committed may still be read
	}
	for _, slab := range b.slabs {
		unix.Munmap(slab)
	}
	b.slabs, b.cold = nil, nil
}
