package fs

import (
	"context"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// trashPrefix begins the directories that desktops make in the root of a
// drive for what is deleted there.
const trashPrefix = ".Trash"

// Mkdir makes a folder, or in the root of the vault an asset.
func (f *fileSystem) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	dir, st := f.writableDir(&in.InHeader)
	if !st.Ok() {
		return st
	}
	if reserved(in.NodeId, name) || in.NodeId == fuse.FUSE_ROOT_ID && strings.HasPrefix(name, trashPrefix) {
		return fuse.EPERM
	}
	n, attr, err := f.vault.Mkdir(dir, name, in.Mode&0o777)
	if err != nil {
		return f.errno("MKDIR", err)
	}
	f.entry(out, n, &attr)
	return fuse.OK
}

// Mknod makes a regular file that nobody has open. Pipes, sockets and devices
// have no place in a vault.
func (f *fileSystem) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	dir, st := f.writableDir(&in.InHeader)
	if !st.Ok() {
		return st
	}
	if kind := in.Mode & syscall.S_IFMT; reserved(in.NodeId, name) || kind != 0 && kind != syscall.S_IFREG {
		return fuse.EPERM
	}
	n, _, err := f.vault.Create(dir, name, in.Mode&0o777)
	if err != nil {
		return f.errno("MKNOD", err)
	}
	err = f.vault.Flush(n)
	f.vault.Release(n, true)
	if err != nil {
		st = f.errno("MKNOD", err)
		f.errno("MKNOD", f.vault.Unlink(dir, name))
		return st
	}
	attr := f.vault.Attr(n)
	f.entry(out, n, &attr)
	return fuse.OK
}

// Unlink takes a file's name away; open handles go on.
func (f *fileSystem) Unlink(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	dir, st := f.writableDir(h)
	if !st.Ok() {
		return st
	}
	if reserved(h.NodeId, name) {
		return fuse.EPERM
	}
	err := f.vault.Unlink(dir, name)
	f.ahead.hold.letGo()
	return f.errno("UNLINK", err)
}

// Rmdir removes an empty folder, or in the root of the vault an empty asset.
func (f *fileSystem) Rmdir(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	dir, st := f.writableDir(h)
	if !st.Ok() {
		return st
	}
	if reserved(h.NodeId, name) {
		return fuse.EPERM
	}
	return f.errno("RMDIR", f.vault.Rmdir(dir, name))
}

// Rename moves a name, in one transaction, also between assets.
func (f *fileSystem) Rename(cancel <-chan struct{}, in *fuse.RenameIn, name, newName string) fuse.Status {
	dir, st := f.writableDir(&in.InHeader)
	if !st.Ok() {
		return st
	}
	newDir, st := f.writable(in.Newdir)
	if !st.Ok() {
		return st
	}
	if reserved(in.NodeId, name) || reserved(in.Newdir, newName) {
		return fuse.EPERM
	}
	var flags vaultcore.RenameFlags
	switch in.Flags {
	case 0:
	case unix.RENAME_NOREPLACE:
		flags = vaultcore.RenameNoReplace
	case unix.RENAME_EXCHANGE:
		flags = vaultcore.RenameExchange
	default:
		return fuse.EINVAL
	}
	err := f.vault.RenameUntil(f.waits.caller(cancel, &in.InHeader), dir, name, newDir, newName, flags)
	f.ahead.hold.letGo()
	return f.errno("RENAME", err)
}

// Link gives a file made by TMPFILE its name. There are no hard links: an
// attachment has one name.
func (f *fileSystem) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	dir, st := f.writableDir(&in.InHeader)
	if !st.Ok() {
		return st
	}
	n, st := f.writable(in.Oldnodeid)
	if !st.Ok() {
		return st
	}
	if reserved(in.NodeId, name) {
		return fuse.EPERM
	}
	attr, err := f.vault.Link(n, dir, name)
	if err != nil {
		return f.errno("LINK", err)
	}
	f.entry(out, n, &attr)
	return fuse.OK
}

// Symlink makes a symbolic link; its target is content like any other.
func (f *fileSystem) Symlink(_ <-chan struct{}, h *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	dir, st := f.writableDir(h)
	if !st.Ok() {
		return st
	}
	if reserved(h.NodeId, name) {
		return fuse.EPERM
	}
	n, attr, err := f.vault.Symlink(dir, name, target)
	if err != nil {
		return f.errno("SYMLINK", err)
	}
	f.entry(out, n, &attr)
	return fuse.OK
}

// Readlink gives a link's target, which the kernel then keeps.
func (f *fileSystem) Readlink(_ <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	f.count(h)
	if isHidden(h.NodeId) {
		return f.hidden.readlink(h.NodeId)
	}
	n := f.nodes.get(h.NodeId)
	if n == nil {
		return nil, estale
	}
	target, err := f.vault.Readlink(n)
	if err != nil {
		return nil, f.errno("READLINK", err)
	}
	return []byte(target), fuse.OK
}

// FsyncDir makes the names in a directory durable. All who wait share one
// barrier, so it takes no deadline of its own.
func (f *fileSystem) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	f.count(&in.InHeader)
	if isHidden(in.NodeId) || f.readOnly {
		return fuse.OK
	}
	return f.errno("FSYNCDIR", f.vault.Barrier(context.Background()))
}
