package fs

import (
	"sync"
	"time"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// buffers are what one reader needs: room for the largest request and for the
// largest answer. They are mapped, so that only what is used takes memory.
type buffers struct {
	in, out []byte
	mapped  []byte
	request [1][]byte
	reply   [1][]byte
}

// headroom is room for a header before bytes that begin a page.
const headroom = 4096

func newBuffers() (*buffers, error) {
	const each = headroom + maxWrite
	m, err := unix.Mmap(-1, 0, 2*each, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, err
	}
	return &buffers{
		mapped: m,
		in:     m[headroom-int(unsafe.Sizeof(fuse.WriteIn{})) : each],
		out:    m[each+headroom-int(unsafe.Sizeof(fuse.OutHeader{})):],
	}, nil
}

func (b *buffers) unmap() {
	_ = unix.Munmap(b.mapped) // it is a mapping of ours
}

// Bounds of the buffers kept for readers to come, of at most 2 MiB each. Readers
// come and go with every burst of large requests, and fresh memory costs them more
// than the cipher does; what a while has not needed goes back to the kernel.
const (
	spareMost  = 8 // kept at all
	spareIdle  = 2 // kept for ever
	spareEvery = time.Second
)

// spares are buffers nobody uses. Safe for concurrent use.
type spares struct {
	mu       sync.Mutex
	free     []*buffers
	least    int  // fewest that were free since the last look
	trimming bool // a look is due
}

// spareBuffers serve all mounts of the process.
var spareBuffers spares

// take gives buffers, whose content is anything. Error: the kernel's, if it has no
// memory.
func (s *spares) take() (*buffers, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.free)
	if n == 0 {
		return newBuffers()
	}
	b := s.free[n-1]
	s.free = s.free[:n-1]
	s.least = min(s.least, n-1)
	return b, nil
}

// give takes back what take gave.
func (s *spares) give(b *buffers) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.free) == spareMost {
		b.unmap()
		return
	}
	s.free = append(s.free, b)
	if len(s.free) > spareIdle && !s.trimming {
		s.lookLaterLocked()
	}
}

func (s *spares) lookLaterLocked() {
	s.least, s.trimming = len(s.free), true
	time.AfterFunc(spareEvery, s.trim)
}

// trim gives back what was free all the time since the last look, but for spareIdle.
func (s *spares) trim() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range min(s.least, len(s.free)-spareIdle) {
		n := len(s.free) - 1
		s.free[n].unmap()
		s.free = s.free[:n]
	}
	if s.trimming = len(s.free) > spareIdle; s.trimming {
		s.lookLaterLocked()
	}
}
