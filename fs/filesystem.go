package fs

import (
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// pollHackName is the name go-fuse answers itself, in the mount's root, to
// keep the kernel from asking POLL. It can never be a real entry.
const pollHackName = ".go-fuse-epoll-hack"

// cacheFor is how long the kernel may keep names, attributes and the absence
// of names. It can be this long because every change that the kernel does
// not make itself is announced by the notifier.
const cacheFor = 24 * time.Hour

// blockSize is what stat recommends for one read or write: the C library and
// Python take their buffer size from it.
const blockSize = 128 << 10

const estale = fuse.Status(syscall.ESTALE)

// fileSystem answers the kernel. Requests come in parallel, each in its own
// goroutine; the vault does the locking.
type fileSystem struct {
	// Set at construction.
	vault    *vaultcore.Vault
	owner    fuse.Owner
	readOnly bool
	xattr    bool
	log      *slog.Logger
	hidden   *hiddenTree

	// Safe for concurrent use.
	nodes    *nodeTable
	handles  *handleTable
	notifier *notifier
	push     *pusher
	ahead    *ahead
	replies  sync.Pool
	arounds  sync.Pool
	said     saidOnce
	waits    waits
	requests [64]atomic.Uint64 // by opcode
	panics   atomic.Uint64
}

func newFileSystem(v *vaultcore.Vault, o Options) *fileSystem {
	root := o.Asset
	if root == nil {
		root = v.Root()
	}
	f := &fileSystem{
		vault:    v,
		owner:    fuse.Owner{Uid: o.Owner.UID, Gid: o.Owner.GID},
		readOnly: o.ReadOnly || v.ReadOnly(),
		xattr:    o.XAttr,
		log:      o.Log,
		nodes:    newNodeTable(root),
		handles:  newHandleTable(),
		waits:    waits{over: make(chan struct{})},
	}
	f.hidden = newHiddenTree(f, o)
	f.notifier = newNotifier(v, o.Log)
	f.push = newPusher(v, o.Log)
	f.ahead = newAhead(v, f.push, func(r any) { f.panicked(r) })
	f.replies.New = func() any { return &readReply{pool: &f.replies} }
	f.arounds.New = func() any { return &aroundReply{pool: &f.arounds, push: f.push} }
	return f
}

// String names the file system for go-fuse.
func (f *fileSystem) String() string { return fsType }

// Init is what a server of go-fuse's own would call; here there is none.
func (f *fileSystem) Init(*fuse.Server) {}

// OnUnmount is called after the last request. What the kernel will never
// release is released here, so that its drafts are committed.
func (f *fileSystem) OnUnmount() {
	f.ahead.stop()
	f.notifier.stop()
	for _, h := range f.handles.drain() {
		f.vault.Release(h.node, h.write)
	}
	f.hidden.closeAll()
	f.nodes.clear()
}

// count notes a request; round trips are the budget, so they are counted.
func (f *fileSystem) count(h *fuse.InHeader) { f.requests[h.Opcode%64].Add(1) }

// panicked turns a panic of a handler into EIO. The value's text is logged
// only when it comes from the runtime: ours could hold a name.
func (f *fileSystem) panicked(r any) fuse.Status {
	f.panics.Add(1)
	what := fmt.Sprintf("%T", r)
	if re, ok := r.(runtime.Error); ok {
		what = re.Error()
	}
	f.log.Error("panic in a request handler", slog.String("panic", what), slog.String("stack", string(debug.Stack())))
	return fuse.EIO
}

// writableDir gives the directory a request wants to change. Nothing can be
// changed below the hidden directory.
func (f *fileSystem) writableDir(h *fuse.InHeader) (*vaultcore.Node, fuse.Status) {
	f.count(h)
	return f.writable(h.NodeId)
}

func (f *fileSystem) writable(id uint64) (*vaultcore.Node, fuse.Status) {
	if isHidden(id) {
		return nil, fuse.EPERM
	}
	if f.readOnly {
		return nil, fuse.EROFS
	}
	n := f.nodes.get(id)
	if n == nil {
		return nil, estale
	}
	return n, fuse.OK
}

// reserved says whether a name in the mount's root belongs to the drive or
// to go-fuse, whatever directory of the vault that root shows.
func reserved(dir uint64, name string) bool {
	return dir == fuse.FUSE_ROOT_ID && (name == vaultcore.HiddenName || name == pollHackName)
}
