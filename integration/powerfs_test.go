package integration

import (
	"context"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// diskNode shows one entry of a disk to the kernel. Every change goes through
// disk.countLocked, so that a cut can fall between any two.
type diskNode struct {
	fusefs.Inode
	d *disk
	e *entry
}

var (
	_ fusefs.NodeLookuper  = (*diskNode)(nil)
	_ fusefs.NodeGetattrer = (*diskNode)(nil)
	_ fusefs.NodeSetattrer = (*diskNode)(nil)
	_ fusefs.NodeCreater   = (*diskNode)(nil)
	_ fusefs.NodeMkdirer   = (*diskNode)(nil)
	_ fusefs.NodeUnlinker  = (*diskNode)(nil)
	_ fusefs.NodeRmdirer   = (*diskNode)(nil)
	_ fusefs.NodeRenamer   = (*diskNode)(nil)
	_ fusefs.NodeOpener    = (*diskNode)(nil)
	_ fusefs.NodeReader    = (*diskNode)(nil)
	_ fusefs.NodeWriter    = (*diskNode)(nil)
	_ fusefs.NodeFsyncer   = (*diskNode)(nil)
	_ fusefs.NodeFlusher   = (*diskNode)(nil)
	_ fusefs.NodeReaddirer = (*diskNode)(nil)
	_ fusefs.NodeAllocater = (*diskNode)(nil)
	_ fusefs.NodeStatfser  = (*diskNode)(nil)
)

// mountDisk serves d at dir until the server is unmounted.
func mountDisk(d *disk, dir string) (*fuse.Server, error) {
	forever := time.Hour // the kernel is the only one who changes anything
	return fusefs.Mount(dir, &diskNode{d: d, e: d.root}, &fusefs.Options{
		EntryTimeout: &forever, AttrTimeout: &forever, NullPermissions: true,
		MountOptions: fuse.MountOptions{FsName: "powerdisk", Name: "powerdisk", MaxWrite: 1 << 20, DirectMount: true},
	})
}

func (n *diskNode) child(ctx context.Context, e *entry, out *fuse.EntryOut) *fusefs.Inode {
	n.fill(e, &out.Attr)
	return n.NewInode(ctx, &diskNode{d: n.d, e: e}, fusefs.StableAttr{Mode: e.mode & syscall.S_IFMT, Ino: e.ino})
}

func (n *diskNode) fill(e *entry, out *fuse.Attr) {
	out.Ino, out.Mode, out.Nlink, out.Size = e.ino, e.mode, 1, uint64(len(e.data))
	out.Blocks = (out.Size + 511) / 512
	out.Blksize = 4096
	out.SetTimes(nil, &e.mtime, &e.mtime)
}

func (n *diskNode) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	e := n.e.names[name]
	if e == nil {
		return nil, syscall.ENOENT
	}
	return n.child(ctx, e, out), 0
}

func (n *diskNode) Getattr(ctx context.Context, f fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	n.fill(n.e, &out.Attr)
	return 0
}

func (n *diskNode) Setattr(ctx context.Context, f fusefs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	if errno := n.d.countLocked(); errno != 0 {
		return errno
	}
	if size, ok := in.GetSize(); ok {
		n.d.truncateLocked(n.e, int64(size))
	}
	if mode, ok := in.GetMode(); ok {
		n.e.mode = n.e.mode&syscall.S_IFMT | mode&0o7777
	}
	if mtime, ok := in.GetMTime(); ok {
		n.e.mtime = mtime
	}
	n.fill(n.e, &out.Attr)
	return 0
}

// add makes a new entry and its name.
func (n *diskNode) add(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	if errno := n.d.countLocked(); errno != 0 {
		return nil, errno
	}
	e := n.d.newEntry(mode)
	n.e.names[name] = e
	n.d.journal = append(n.d.journal, &nameOp{kind: nameAdd, dir: n.e, name: name, node: e})
	return n.child(ctx, e, out), 0
}

func (n *diskNode) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fusefs.Inode, fusefs.FileHandle, uint32, syscall.Errno) {
	node, errno := n.add(ctx, name, syscall.S_IFREG|mode&0o7777, out)
	return node, nil, fuse.FOPEN_KEEP_CACHE, errno
}

func (n *diskNode) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	return n.add(ctx, name, syscall.S_IFDIR|mode&0o7777, out)
}

func (n *diskNode) Unlink(ctx context.Context, name string) syscall.Errno {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	if errno := n.d.countLocked(); errno != 0 {
		return errno
	}
	e := n.e.names[name]
	if e == nil {
		return syscall.ENOENT
	}
	if len(e.names) > 0 {
		return syscall.ENOTEMPTY
	}
	delete(n.e.names, name)
	n.d.journal = append(n.d.journal, &nameOp{kind: nameRemove, dir: n.e, name: name, node: e})
	return 0
}

func (n *diskNode) Rmdir(ctx context.Context, name string) syscall.Errno { return n.Unlink(ctx, name) }

func (n *diskNode) Rename(ctx context.Context, name string, to fusefs.InodeEmbedder, toName string, flags uint32) syscall.Errno {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	if errno := n.d.countLocked(); errno != 0 {
		return errno
	}
	e, target := n.e.names[name], to.(*diskNode).e
	old := target.names[toName]
	switch {
	case e == nil:
		return syscall.ENOENT
	case flags == 1 && old != nil: // RENAME_NOREPLACE
		return syscall.EEXIST
	case flags > 1:
		return syscall.EINVAL
	case old != nil && len(old.names) > 0:
		return syscall.ENOTEMPTY
	}
	delete(n.e.names, name)
	target.names[toName] = e
	n.d.journal = append(n.d.journal, &nameOp{kind: nameMove, dir: n.e, name: name, to: target, toName: toName, node: e})
	return 0
}

func (n *diskNode) Open(ctx context.Context, flags uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	if flags&syscall.O_TRUNC != 0 {
		n.d.mu.Lock()
		defer n.d.mu.Unlock()
		if errno := n.d.countLocked(); errno != 0 {
			return nil, 0, errno
		}
		n.d.truncateLocked(n.e, 0)
	}
	return nil, fuse.FOPEN_KEEP_CACHE, 0
}

func (n *diskNode) Read(ctx context.Context, f fusefs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	if off >= int64(len(n.e.data)) {
		return fuse.ReadResultData(nil), 0
	}
	return fuse.ReadResultData(dest[:copy(dest, n.e.data[off:])]), 0
}

func (n *diskNode) Write(ctx context.Context, f fusefs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	if errno := n.d.countLocked(); errno != 0 {
		return 0, errno
	}
	n.d.writeLocked(n.e, data, off)
	return uint32(len(data)), 0
}

// Fsync serves files and directories: the model knows no difference.
func (n *diskNode) Fsync(ctx context.Context, f fusefs.FileHandle, flags uint32) syscall.Errno {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	if errno := n.d.countLocked(); errno != 0 {
		return errno
	}
	n.d.syncLocked(n.e)
	return 0
}

func (n *diskNode) Flush(ctx context.Context, f fusefs.FileHandle) syscall.Errno { return 0 }

func (n *diskNode) Readdir(ctx context.Context) (fusefs.DirStream, syscall.Errno) {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	var list []fuse.DirEntry
	for name, e := range n.e.names {
		list = append(list, fuse.DirEntry{Name: name, Mode: e.mode, Ino: e.ino})
	}
	return fusefs.NewListDirStream(list), 0
}

func (n *diskNode) Allocate(ctx context.Context, f fusefs.FileHandle, off, size uint64, mode uint32) syscall.Errno {
	if mode != 0 {
		return syscall.EOPNOTSUPP
	}
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	if errno := n.d.countLocked(); errno != 0 {
		return errno
	}
	if end := int64(off + size); end > int64(len(n.e.data)) {
		n.d.truncateLocked(n.e, end)
	}
	return 0
}

func (n *diskNode) Statfs(ctx context.Context, out *fuse.StatfsOut) syscall.Errno {
	*out = fuse.StatfsOut{Blocks: 1 << 20, Bfree: 1 << 20, Bavail: 1 << 20, Files: 1 << 20, Ffree: 1 << 20, Bsize: 4096, Frsize: 4096, NameLen: 255}
	return 0
}
