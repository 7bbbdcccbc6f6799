package fs

import (
	"errors"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// maxName is the longest name, in bytes, that a directory can hold.
const maxName = vaultcore.MaxComponent

// Lookup answers from the tree in memory. That a name is absent is an answer
// too, which the kernel keeps: no node, but a timeout.
func (f *fileSystem) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	f.count(h)
	if isHidden(h.NodeId) {
		return f.hidden.lookup(h.NodeId, name, out)
	}
	if reserved(h.NodeId, name) {
		return f.hidden.entry(hiddenRoot, out)
	}
	dir := f.nodes.get(h.NodeId)
	if dir == nil {
		return estale
	}
	if len(name) > maxName {
		return fuse.Status(syscall.ENAMETOOLONG)
	}
	n, attr, err := f.vault.Lookup(dir, name)
	if err == nil {
		f.entry(out, n, &attr)
		return fuse.OK
	}
	// A name that is not UTF-8 cannot be there; creating it says EILSEQ.
	if errors.Is(err, vaultcore.ErrNotFound) || errors.Is(err, vaultcore.ErrName) {
		out.SetEntryTimeout(cacheFor)
		return fuse.OK
	}
	return f.errno("LOOKUP", err)
}

// entry fills the reply that gives the kernel a node, and counts the
// reference it holds from then on.
func (f *fileSystem) entry(out *fuse.EntryOut, n *vaultcore.Node, a *vaultcore.Attr) {
	out.NodeId = f.nodes.ref(n)
	out.Generation = 1
	out.SetEntryTimeout(cacheFor)
	out.SetAttrTimeout(cacheFor)
	f.fill(&out.Attr, a)
}

// Forget takes back references the kernel held.
func (f *fileSystem) Forget(id, lookups uint64) {
	f.requests[opForget].Add(1)
	if isHidden(id) {
		f.hidden.forget(id, lookups)
		return
	}
	f.nodes.forget(id, lookups)
}

// opForget is the opcode of FORGET, which go-fuse hands on without a header.
const opForget = 2

// OpenDir tells the kernel to stop asking: it then caches listings itself,
// and a second ls sends nothing. Directory reads are stateless after that.
func (f *fileSystem) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, _ *fuse.OpenOut) fuse.Status {
	f.count(&in.InHeader)
	return fuse.ENOSYS
}

// The cookies of "." and ".."; the vault's own begin after them.
const (
	cookieSelf   = 1
	cookieParent = 2
)

// ReadDir lists names and kinds from the cookie in the request on.
func (f *fileSystem) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.list(in, out, out.AddDirEntry)
}

// ReadDirPlus lists names with their nodes and attributes, so that a listing
// that stats each file needs no request for any. "." and ".." stay without a
// node: the kernel would count no reference for them.
func (f *fileSystem) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.list(in, out, func(e fuse.DirEntry) bool { return out.AddDirLookupEntry(e) != nil })
}

// list writes a part of a listing. plain adds an entry that carries no node.
func (f *fileSystem) list(in *fuse.ReadIn, out *fuse.DirEntryList, plain func(fuse.DirEntry) bool) fuse.Status {
	f.count(&in.InHeader)
	if isHidden(in.NodeId) {
		return f.hidden.list(in.NodeId, in.Offset, plain)
	}
	dir := f.nodes.get(in.NodeId)
	if dir == nil {
		return estale
	}
	parent := dir
	if in.NodeId != fuse.FUSE_ROOT_ID {
		parent = f.vault.ParentOf(dir)
	}
	if !dots(in.Offset, dir.Ino(), parent.Ino(), plain) {
		return fuse.OK
	}
	after := max(in.Offset, cookieParent)
	err := f.vault.ReadDir(dir, after, func(e *vaultcore.DirEntry) bool {
		if reserved(in.NodeId, e.Name) {
			return true
		}
		entry := fuse.DirEntry{Name: e.Name, Ino: e.Attr.Ino, Off: e.Cookie, Mode: typeBits(e.Attr.Kind)}
		if in.Opcode != opReadDirPlus {
			return plain(entry)
		}
		o := out.AddDirLookupEntry(entry)
		if o == nil {
			return false
		}
		f.entry(o, e.Node, &e.Attr)
		return true
	})
	return f.errno("READDIR", err)
}

// opReadDirPlus is the opcode of READDIRPLUS.
const opReadDirPlus = 44

// dots adds "." and ".." unless they lie before the offset; false when the
// reply is full.
func dots(offset, self, parent uint64, add func(fuse.DirEntry) bool) bool {
	if offset < cookieSelf && !add(fuse.DirEntry{Name: ".", Ino: self, Off: cookieSelf, Mode: fuse.S_IFDIR}) {
		return false
	}
	return offset >= cookieParent || add(fuse.DirEntry{Name: "..", Ino: parent, Off: cookieParent, Mode: fuse.S_IFDIR})
}
