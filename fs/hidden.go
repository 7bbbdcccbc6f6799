package fs

import (
	"errors"
	"io"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// Nodeids of the hidden directory lie far above those of the tree, so one
// comparison tells them apart. They are also the inode numbers.
const (
	hiddenBase = 1 << 62

	hiddenRoot       = hiddenBase + 0
	hiddenTrash      = hiddenBase + 1
	hiddenUnverified = hiddenBase + 2
	hiddenConflicts  = hiddenBase + 3
	hiddenStatus     = hiddenBase + 4
	hiddenTrashFiles = hiddenBase + 16 // and above: files in trash/

	hiddenUnverifiedNodes = hiddenBase + 1<<60 // and above: what is in unverified/
	hiddenConflictLinks   = hiddenBase + 1<<61 // and above: links in conflicts/
)

func isHidden(id uint64) bool { return id >= hiddenBase }

const (
	hiddenDirMode  = fuse.S_IFDIR | 0o500
	hiddenFileMode = fuse.S_IFREG | 0o400
	hiddenLinkMode = fuse.S_IFLNK | 0o777
)

// fixed are the entries of the hidden directory itself.
var fixed = []struct {
	name string
	id   uint64
	mode uint32
}{
	{"trash", hiddenTrash, hiddenDirMode},
	{"unverified", hiddenUnverified, hiddenDirMode},
	{"conflicts", hiddenConflicts, hiddenDirMode},
	{"status.json", hiddenStatus, hiddenFileMode},
}

// hiddenTree is the directory that the root does not list: what the drive
// has to show beside the user's files. All of it is read-only, and the
// kernel keeps nothing of it: every timeout is 0.
type hiddenTree struct {
	fs         *fileSystem
	status     func() []byte
	trash      *trashView
	unverified *unverifiedView
	conflicts  *conflictView

	mu   sync.Mutex
	last uint64
	open map[uint64]hiddenHandle
}

// hiddenHandle is an open file, of the trash or unverified, or a status made at
// OPEN.
type hiddenHandle struct {
	file interface {
		ReadAtUntil(who vaultcore.Caller, p []byte, off int64) (int, error)
		io.Closer
	}
	status []byte
}

func newHiddenTree(f *fileSystem, o Options) *hiddenTree {
	return &hiddenTree{
		fs: f, status: o.StatusJSON, trash: newTrashView(f.vault), unverified: newUnverifiedView(f.vault, o.Asset),
		conflicts: newConflictView(f.vault, o.Asset),
		open:      make(map[uint64]hiddenHandle),
	}
}

func (h *hiddenTree) lookup(dir uint64, name string, out *fuse.EntryOut) fuse.Status {
	switch dir {
	case hiddenRoot:
		for _, e := range fixed {
			if e.name == name {
				return h.entry(e.id, out)
			}
		}
	case hiddenTrash:
		id, err := h.trash.lookup(name)
		return h.found(id, err, out)
	case hiddenConflicts:
		id, err := h.conflicts.lookup(name)
		return h.found(id, err, out)
	default:
		if dir != hiddenUnverified && !h.unverified.isDir(dir) {
			return fuse.ENOTDIR
		}
		id, err := h.unverified.lookup(dir, name)
		return h.found(id, err, out)
	}
	return fuse.ENOENT
}

// found answers a lookup with the nodeid that a view gave.
func (h *hiddenTree) found(id uint64, err error, out *fuse.EntryOut) fuse.Status {
	switch {
	case err != nil:
		return h.fs.errno("LOOKUP", err)
	case id == 0:
		return fuse.ENOENT
	}
	return h.entry(id, out)
}

func (h *hiddenTree) entry(id uint64, out *fuse.EntryOut) fuse.Status {
	out.NodeId, out.Generation = id, 1
	return h.getAttr(id, &out.Attr)
}

func (h *hiddenTree) forget(id, lookups uint64) {
	switch {
	case id >= hiddenConflictLinks:
		h.conflicts.forget(id, lookups)
	case id >= hiddenUnverifiedNodes:
		h.unverified.forget(id, lookups)
	case id >= hiddenTrashFiles:
		h.trash.forget(id, lookups)
	}
}

// readlink gives where a link in conflicts/ leads.
func (h *hiddenTree) readlink(id uint64) ([]byte, fuse.Status) {
	if id < hiddenConflictLinks {
		return nil, fuse.EINVAL
	}
	l, ok := h.conflicts.get(id)
	if !ok {
		return nil, estale
	}
	return []byte(l.target), fuse.OK
}

// getAttr gives every thing the time of now. For directories that is what
// keeps the kernel's listing cache honest: it compares modification times,
// and a path walk, which caches nothing here, always brings a new one.
func (h *hiddenTree) getAttr(id uint64, out *fuse.Attr) fuse.Status {
	now := time.Now().UnixNano()
	a := fuse.Attr{Ino: id, Mode: hiddenDirMode, Nlink: 2}
	switch {
	case id >= hiddenConflictLinks:
		l, ok := h.conflicts.get(id)
		if !ok {
			return estale
		}
		a.Mode, a.Nlink, a.Size = hiddenLinkMode, 1, uint64(len(l.target))
		now = l.changed
	case id >= hiddenUnverifiedNodes:
		u, ok := h.unverified.get(id)
		if !ok {
			return estale
		}
		if !u.dir {
			a.Mode, a.Nlink, a.Size, now = hiddenFileMode, 1, uint64(u.size), u.added
		}
	case id >= hiddenTrashFiles:
		t, ok := h.trash.get(id)
		if !ok {
			return estale
		}
		a.Mode, a.Nlink, a.Size = hiddenFileMode, 1, uint64(t.size)
		now = t.deleted
	case id == hiddenStatus:
		a.Mode, a.Nlink = hiddenFileMode, 1
	case id == hiddenRoot:
		a.Nlink = 5
	}
	a.Blocks = (a.Size + 511) / 512
	a.Mtime, a.Mtimensec = split(now)
	a.Ctime, a.Ctimensec = a.Mtime, a.Mtimensec
	a.Atime, a.Atimensec = a.Mtime, a.Mtimensec
	a.Owner, a.Blksize = h.fs.owner, blockSize
	*out = a
	return fuse.OK
}

// list writes a listing without nodes: the kernel would not keep them.
func (h *hiddenTree) list(dir, offset uint64, add func(fuse.DirEntry) bool) fuse.Status {
	parent := uint64(hiddenRoot)
	if dir == hiddenRoot {
		parent = h.fs.nodes.get(fuse.FUSE_ROOT_ID).Ino()
	}
	if !dots(offset, dir, parent, add) {
		return fuse.OK
	}
	switch dir {
	case hiddenRoot:
		for i, e := range fixed {
			cookie := uint64(cookieParent + 1 + i)
			if cookie > offset && !add(fuse.DirEntry{Name: e.name, Ino: e.id, Off: cookie, Mode: e.mode}) {
				break
			}
		}
	case hiddenTrash:
		return h.fs.errno("READDIR", h.trash.entries(max(offset, cookieParent), add))
	case hiddenConflicts:
		return h.fs.errno("READDIR", h.conflicts.entries(max(offset, cookieParent), add))
	default:
		if dir != hiddenUnverified && !h.unverified.isDir(dir) {
			return fuse.ENOTDIR
		}
		return h.fs.errno("READDIR", h.unverified.entries(dir, max(offset, cookieParent), add))
	}
	return fuse.OK
}

// openFile opens a file for reading. The status has no size, because it is made here:
// without the page cache the kernel asks until an answer is empty.
func (h *hiddenTree) openFile(id uint64, flags uint32, out *fuse.OpenOut) fuse.Status {
	if flags&syscall.O_ACCMODE != syscall.O_RDONLY || flags&syscall.O_TRUNC != 0 {
		return fuse.EPERM
	}
	o, st := h.content(id)
	if !st.Ok() {
		return st
	}
	h.mu.Lock()
	h.last++
	out.Fh = h.last
	h.open[h.last] = o
	h.mu.Unlock()
	out.OpenFlags = fuse.FOPEN_NOFLUSH
	if o.file == nil {
		out.OpenFlags |= fuse.FOPEN_DIRECT_IO
	} else {
		out.OpenFlags |= fuse.FOPEN_KEEP_CACHE
	}
	return fuse.OK
}

func (h *hiddenTree) content(id uint64) (hiddenHandle, fuse.Status) {
	if id >= hiddenConflictLinks {
		return hiddenHandle{}, fuse.EINVAL
	}
	if id == hiddenStatus {
		return hiddenHandle{status: h.status()}, fuse.OK
	}
	if id >= hiddenUnverifiedNodes {
		return h.unverifiedContent(id)
	}
	t, ok := h.trash.get(id)
	if !ok {
		return hiddenHandle{}, estale
	}
	r, err := h.fs.vault.OpenTrash(t.id)
	if err != nil {
		return hiddenHandle{}, h.fs.errno("OPEN", err)
	}
	return hiddenHandle{file: r}, fuse.OK
}

func (h *hiddenTree) unverifiedContent(id uint64) (hiddenHandle, fuse.Status) {
	u, ok := h.unverified.get(id)
	if !ok || u.dir {
		return hiddenHandle{}, estale
	}
	r, err := h.fs.vault.OpenUnverified(u.id, u.version)
	switch {
	case errors.Is(err, vaultcore.ErrBusy), errors.Is(err, vaultcore.ErrNotFound):
		h.unverified.outdated()
		return hiddenHandle{}, estale // the kernel looks the name up again
	case err != nil:
		return hiddenHandle{}, h.fs.errno("OPEN", err)
	}
	return hiddenHandle{file: r}, fuse.OK
}

func (h *hiddenTree) read(who vaultcore.Caller, fh uint64, buf []byte, off int64) (int, fuse.Status) {
	h.mu.Lock()
	o, ok := h.open[fh]
	h.mu.Unlock()
	switch {
	case !ok:
		return 0, fuse.EBADF
	case o.file == nil:
		if off < 0 || off >= int64(len(o.status)) {
			return 0, fuse.OK
		}
		return copy(buf, o.status[off:]), fuse.OK
	}
	n, err := o.file.ReadAtUntil(who, buf, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, h.fs.errno("READ", err)
	}
	return n, fuse.OK
}

func (h *hiddenTree) release(fh uint64) {
	h.mu.Lock()
	o := h.open[fh]
	delete(h.open, fh)
	h.mu.Unlock()
	h.close(o)
}

func (h *hiddenTree) close(o hiddenHandle) {
	if o.file == nil {
		return
	}
	if err := o.file.Close(); err != nil {
		h.fs.errno("RELEASE", err)
	}
}

// closeAll ends what the kernel will not release any more.
func (h *hiddenTree) closeAll() {
	h.mu.Lock()
	left := h.open
	h.open = make(map[uint64]hiddenHandle)
	h.mu.Unlock()
	for _, o := range left {
		h.close(o)
	}
}
