package fs

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// kernelConn is one mount's connection to the kernel. go-fuse takes requests
// apart and makes the answers; reading and writing them is done here, because
// who reads decides how fast small requests go.
//
// Most programs send one request at a time and wait for its answer. Then one
// goroutine does everything: the kernel wakes the thread that has just slept,
// on the processor where it ran, and a round trip costs 6 µs. With a few that
// take turns, as go-fuse's own server has them, each request wakes another
// one on another processor: 40 µs on a virtual machine, and nothing of it is
// in a cache. So a second reader comes only when it is wanted: requests wait
// while one is answered, a request is large, or its answer takes long.
type kernelConn struct {
	// Set at construction.
	fd       int
	waits    *waits
	protocol *fuse.ProtocolServer
	log      *slog.Logger
	most     int32 // readers that may wait at once

	mu    sync.Mutex
	gone  bool           // under mu: no reader is started any more
	loops sync.WaitGroup // Add under mu

	waiting atomic.Int32  // readers that wait for a request, or are about to
	busy    atomic.Int32  // requests being answered that somebody waits for
	crowd   atomic.Int32  // how often requests have come side by side of late
	taken   atomic.Uint64 // requests read
	noLook  atomic.Uint64 // up to this request, what waits tells nothing

	// Work for after an answer, by the number of its request.
	laterMu sync.Mutex
	later   map[uint64]*aroundReply
	laters  atomic.Int32

	watching atomic.Bool
	watch    chan struct{}
	ended    chan struct{}
}

const (
	// A request of this size is worth a second processor.
	largeRequest = 64 << 10
	// One request of so many looks whether others wait beside it.
	lookEvery = 4
	// crowd rises by crowdStep with each request that came beside another and
	// falls by one with each that did not; above crowdAt several readers wait.
	crowdStep = 4
	crowdAt   = 16
	crowdMost = 64
	// An answer that takes longer than this gets a reader beside it.
	watchEvery = 10 * time.Millisecond
	// So many quiet rounds end the watch.
	watchIdle = 10
)

// Opcodes that matter here, as FUSE numbers them.
const (
	opUnlink      = 10
	opRmdir       = 11
	opRead        = 15
	opWrite       = 16
	opRelease     = 18
	opFsync       = 20
	opFsyncDir    = 30
	opReleaseDir  = 29
	opInterrupt   = 36
	opBatchForget = 42
)

// dial mounts at point and shakes hands with the kernel.
func dial(f *fileSystem, point string, m *fuse.MountOptions) (*kernelConn, error) {
	fd, err := mountKernel(point, m)
	if err != nil {
		return nil, err
	}
	c := &kernelConn{
		fd: fd, waits: &f.waits, protocol: fuse.NewProtocolServer(f, m), log: f.log, later: make(map[uint64]*aroundReply),
		most:  int32(max(2, runtime.GOMAXPROCS(0))),
		watch: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	if err := c.shakeHands(); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return c, nil
}

// shakeHands answers INIT, the first request.
func (c *kernelConn) shakeHands() error {
	b, err := spareBuffers.take()
	if err != nil {
		return err
	}
	defer spareBuffers.give(b)
	n, err := c.read(b.in)
	if err != nil {
		return fmt.Errorf("first request: %w", err)
	}
	size, ok := c.handle(b, n)
	if !ok || !c.write(b.out[:size]) {
		return fmt.Errorf("first request: %w", unix.EPROTO)
	}
	return nil
}

// serve answers until the kernel lets go.
func (c *kernelConn) serve() {
	go c.watchLoop()
	c.another()
	c.loops.Wait()
	close(c.ended)
}

func (c *kernelConn) close() {
	if err := unix.Close(c.fd); err != nil {
		c.log.Warn("connection to the kernel not closed", "err", err)
	}
}

// another starts a reader, unless the mount is gone.
func (c *kernelConn) another() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return
	}
	c.waiting.Add(1)
	c.loops.Add(1)
	go c.loop()
}

// lost ends the serving: nothing can be read any more.
func (c *kernelConn) lost(err error) {
	if !errors.Is(err, unix.ENODEV) {
		c.log.Error("requests cannot be read", "err", err)
	}
	c.waits.end() // nobody takes an answer any more
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
	c.waiting.Add(-1)
}

// loop reads and answers until it is one too many, or the mount is gone.
func (c *kernelConn) loop() {
	defer c.loops.Done()
	b := c.buffers()
	defer spareBuffers.give(b)
	for {
		n, err := c.read(b.in)
		if err != nil {
			c.lost(err)
			return
		}
		waits := c.took(b.in[:n])
		size, _ := c.handle(b, n)
		if waits {
			// First: the next request of the same program may overtake this.
			c.busy.Add(-1)
		}
		c.write(b.out[:size])
		c.answered(b.in)
		if !c.stay() {
			return
		}
	}
}

// buffers waits for memory if need be: a reader that is counted must read, or
// all others may leave because of it.
func (c *kernelConn) buffers() *buffers {
	for said := false; ; said = true {
		b, err := spareBuffers.take()
		if err == nil {
			return b
		}
		if !said {
			c.log.Error("no memory for requests yet", "err", err)
		}
		time.Sleep(watchEvery)
	}
}

// stay counts a reader that has answered among those that wait, unless there
// are enough without it. It is one step: were a reader that is about to leave
// counted for a moment, another could leave because of it, and nobody would
// be left to read.
func (c *kernelConn) stay() bool {
	for {
		n := c.waiting.Load()
		if n >= c.readers() {
			return false
		}
		if c.waiting.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// readers is how many may wait for requests.
func (c *kernelConn) readers() int32 {
	if c.crowd.Load() > crowdAt {
		return c.most
	}
	return 1
}

// took counts a request just read and calls another reader if it is wanted.
// It says whether a program waits for the answer; it is busy then.
func (c *kernelConn) took(in []byte) (waits bool) {
	count := c.taken.Add(1)
	op, large := requestKind(in)
	waits = op != opRelease && op != opReleaseDir && op != opForget && op != opBatchForget && op != opInterrupt
	if waits {
		beside := c.busy.Add(1) > 1
		if beside || count%lookEvery == 0 && count > c.noLook.Load() {
			c.noteCrowd(beside || c.pending())
		}
	}
	if op == opUnlink || op == opRmdir || op == opForget || op == opBatchForget {
		c.noLook.Store(count + lookEvery) // a FORGET waits, which is nobody's
	}
	if c.waiting.Add(-1) > 0 {
		return waits
	}
	if large || c.crowd.Load() > crowdAt {
		c.another()
		return waits
	}
	if !c.watching.Load() && c.watching.CompareAndSwap(false, true) {
		c.watch <- struct{}{}
	}
	return waits
}

// pending says whether another request waits. While one is not answered yet,
// it comes from another program, or from another thread.
func (c *kernelConn) pending() bool {
	fds := [1]unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds[:], 0)
	return err == nil && n > 0 && fds[0].Revents&unix.POLLIN != 0
}

func (c *kernelConn) noteCrowd(beside bool) {
	have := c.crowd.Load()
	switch {
	case beside && have < crowdMost:
		c.crowd.Add(crowdStep)
	case !beside && have > 0:
		c.crowd.Add(-1)
	}
}

// after has r told when the request it belongs to is answered.
func (c *kernelConn) after(unique uint64, r *aroundReply) {
	c.laterMu.Lock()
	defer c.laterMu.Unlock()
	c.later[unique] = r
	c.laters.Add(1)
}

// answered does what was left for after the answer to the request in in.
func (c *kernelConn) answered(in []byte) {
	if c.laters.Load() == 0 {
		return
	}
	unique := (*fuse.InHeader)(unsafe.Pointer(&in[0])).Unique
	c.laterMu.Lock()
	r := c.later[unique]
	if r != nil {
		delete(c.later, unique)
		c.laters.Add(-1)
	}
	c.laterMu.Unlock()
	if r == nil {
		return
	}
	// It may wait for a page that a READ holds which nobody has read yet.
	if c.waiting.Load() == 0 && c.pending() {
		c.another()
	}
	r.answered()
}

// requestKind gives the opcode, and whether answering is much work or a wait
// for the disk.
func requestKind(in []byte) (op uint32, large bool) {
	h := (*fuse.InHeader)(unsafe.Pointer(&in[0]))
	switch h.Opcode {
	case opRead:
		large = len(in) >= int(unsafe.Sizeof(fuse.ReadIn{})) && (*fuse.ReadIn)(unsafe.Pointer(&in[0])).Size >= largeRequest
	case opWrite:
		large = len(in) >= largeRequest
	case opFsync, opFsyncDir:
		large = true
	}
	return h.Opcode, large
}

// watchLoop calls a reader when the only one has been at the same request for
// a while: nothing may wait behind a download, a full disk or a lock. It
// sleeps while nothing comes.
func (c *kernelConn) watchLoop() {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		select {
		case <-c.ended:
			return
		case <-c.watch:
		}
		tick.Reset(watchEvery)
		c.watchBusy(tick)
		tick.Reset(time.Hour)
	}
}

func (c *kernelConn) watchBusy(tick *time.Ticker) {
	seen := c.taken.Load()
	for quiet := 0; ; {
		select {
		case <-c.ended:
			return
		case <-tick.C:
		}
		now := c.taken.Load()
		if now != seen {
			seen, quiet = now, 0
			continue
		}
		if c.waiting.Load() == 0 {
			c.crowd.Store(crowdAt + 2*crowdStep)
			c.another()
		}
		if quiet++; quiet < watchIdle {
			continue
		}
		c.watching.Store(false)
		// A request between the look and the store has called nobody.
		if c.taken.Load() == seen || !c.watching.CompareAndSwap(false, true) {
			return
		}
		quiet = 0
	}
}

// read takes one request.
func (c *kernelConn) read(b []byte) (int, error) {
	for {
		n, err := unix.Read(c.fd, b)
		switch {
		case err == nil && n >= int(unsafe.Sizeof(fuse.InHeader{})):
			return n, nil
		case err == nil:
			return 0, unix.EPROTO
		case !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EAGAIN):
			return 0, err
		}
		// ENOENT: the request was taken back.
	}
}

// handle makes the answer to the request in b.in[:n], in b.out[:size]; size 0
// for what wants none.
func (c *kernelConn) handle(b *buffers, n int) (size int, ok bool) {
	b.request[0], b.reply[0] = b.in[:n], b.out
	size, status := c.protocol.HandleRequest(b.request[:], b.reply[:])
	if !status.Ok() {
		c.log.Error("request not understood", "status", int(status))
		return 0, false
	}
	return size, true
}

// write sends an answer. ENOENT: nobody waits for it any more.
func (c *kernelConn) write(b []byte) bool {
	for len(b) > 0 {
		_, err := unix.Write(c.fd, b)
		switch {
		case err == nil:
			return true
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV):
			c.log.Warn("answer refused", "err", err)
		}
		return false
	}
	return true
}
