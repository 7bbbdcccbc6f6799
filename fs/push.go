package fs

import (
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// pusher puts decrypted bytes into the kernel's page cache before it asks for
// them: a round trip costs more than the bytes do.
//
// Three rules keep it right. What is pushed cannot change meanwhile: it is
// pushed under a vaultcore.Still, and no further than the end of the file,
// because the kernel takes more for growth. A push waits for the kernel's
// lock of each page, which a READ under way holds until it is answered: so
// whoever pushes holds nothing that an answer needs, no page either, which
// rules out pushing before the own READ is answered. And it is an extra: few
// at a time, none is tried twice, and what fails is what the kernel asks for
// later.
type pusher struct {
	// Set at construction and by start.
	vault  *vaultcore.Vault
	log    *slog.Logger
	kernel *kernelConn

	refused atomic.Bool // the kernel does not know how
	busy    atomic.Int32
	done    atomic.Uint64 // pushes that went in
	bufs    sync.Pool     // *pushBuf
}

// maxPushes is how many may wait in the kernel at a time.
const maxPushes = 8

// smallFile is the largest file, in bytes, that the kernel gets at OPEN.
const smallFile = 32 << 10

type pushBuf [max(vaultcore.OpenedMax, smallFile)]byte

func newPusher(v *vaultcore.Vault, log *slog.Logger) *pusher {
	p := &pusher{vault: v, log: log}
	p.bufs.New = func() any { return new(pushBuf) }
	return p
}

func (p *pusher) start(c *kernelConn) { p.kernel = c }

// on says whether pushing is of use: there is a kernel that takes it.
func (p *pusher) on() bool { return p.kernel != nil && !p.refused.Load() }

// enter asks for one of the places to push; false if all are taken.
func (p *pusher) enter() bool {
	if p.busy.Add(1) <= maxPushes {
		return true
	}
	p.busy.Add(-1)
	return false
}

func (p *pusher) leave() { p.busy.Add(-1) }

// around pushes what reading at off has decrypted beside what was asked for.
func (p *pusher) around(n *vaultcore.Node, id uint64, off int64, asked int) {
	if !p.enter() {
		return
	}
	defer p.leave()
	still, ok := p.vault.Still(n)
	if !ok {
		return
	}
	defer still.End()
	buf := p.bufs.Get().(*pushBuf)
	defer p.bufs.Put(buf)
	if got, at := still.Opened(buf[:], off); got > asked {
		p.store(id, at, buf[:got])
	}
}

// whole pushes all of a small file at OPEN, so that it is read without a
// request. Only the first handle of a file the kernel was not given yet does:
// no READ can be under way then.
func (p *pusher) whole(n *vaultcore.Node, id uint64) {
	if n.Kept.Load() || !p.enter() {
		return
	}
	defer p.leave()
	still, ok := p.vault.Still(n)
	if !ok {
		return
	}
	defer still.End()
	if still.Alone() {
		p.small(still, n, id)
	}
}

// ahead decrypts a small file that nobody has open but the caller, and pushes
// it if the kernel knows the file; if not, it lies ready for its OPEN.
func (p *pusher) ahead(n *vaultcore.Node) {
	still, ok := p.vault.Still(n)
	if !ok {
		return
	}
	defer still.End()
	if !still.Alone() || !still.Warm(smallFile) {
		return
	}
	if id := n.Ref.Load(); id != 0 && !n.Kept.Load() && p.enter() {
		p.small(still, n, id)
		p.leave()
	}
}

func (p *pusher) small(still vaultcore.Still, n *vaultcore.Node, id uint64) {
	buf := p.bufs.Get().(*pushBuf)
	defer p.bufs.Put(buf)
	if size, ok := still.Small(buf[:smallFile]); ok && p.store(id, 0, buf[:size]) {
		n.Kept.Store(true)
	}
}

// missed notes that the kernel asks for bytes: what it was given is gone.
func missed(n *vaultcore.Node) {
	if n.Kept.Load() {
		n.Kept.Store(false)
	}
}

// store gives bytes to the kernel. ENOENT means that it has forgotten the
// file, and what comes after the end of the mount is of no interest; a kernel
// that does not know how is asked once.
func (p *pusher) store(id uint64, off int64, data []byte) bool {
	st := p.kernel.InodeNotifyStoreCache(id, off, data)
	switch st {
	case fuse.OK:
		p.done.Add(1)
		return true
	case fuse.ENOSYS, fuse.EINVAL:
		if !p.refused.Swap(true) {
			p.log.Info("the kernel takes no bytes ahead", slog.Int("errno", int(st)))
		}
	}
	return false
}

// around says whether a READ that was answered with n bytes is a small one
// inside a chunk, so that the rest of the chunk is worth a push. A program
// that goes around the page cache has no use for it.
func around(in *fuse.ReadIn, n int) bool {
	page := uint64(os.Getpagesize())
	const chunk = vaultcore.OpenedMax
	return n > 0 && in.Size < chunk && in.Offset%page == 0 && chunk%page == 0 &&
		in.Offset/chunk == (in.Offset+uint64(n)-1)/chunk && in.Flags&syscall.O_DIRECT == 0
}

// aroundReply is a readReply after which bytes are pushed, once the kernel has
// its answer: a push before could wait for a page that this READ holds.
type aroundReply struct {
	data   []byte
	pool   *sync.Pool
	push   *pusher
	node   *vaultcore.Node
	id     uint64
	off    int64
	unique uint64 // names the request
}

func (f *fileSystem) replyAround(n *vaultcore.Node, in *fuse.ReadIn, data []byte) fuse.ReadResult {
	r := f.arounds.Get().(*aroundReply)
	r.data, r.node, r.id, r.off, r.unique = data, n, in.NodeId, int64(in.Offset), in.Unique
	return r
}

func (r *aroundReply) Bytes([]byte) ([]byte, fuse.Status) { return r.data, fuse.OK }
func (r *aroundReply) Size() int                          { return len(r.data) }

// Done comes before the answer is sent; answered after it.
func (r *aroundReply) Done() { r.push.kernel.after(r.unique, r) }

func (r *aroundReply) answered() {
	n, asked := r.node, len(r.data)
	r.data, r.node = nil, nil
	r.push.around(n, r.id, r.off, asked)
	r.pool.Put(r)
}
