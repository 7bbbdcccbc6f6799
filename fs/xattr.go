package fs

import (
	"errors"
	"strconv"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// ownXAttr begins the attributes that show a file's state. They exist with
// -o xattr only: they cost ls -l two requests a file that are never cached.
const ownXAttr = "user.vaultdrive."

// ownXAttrs are their names and values; an empty value is an attribute that
// the node has not.
var ownXAttrs = []struct {
	name  string
	value func(*vaultcore.Info) string
}{
	{ownXAttr + "id", func(i *vaultcore.Info) string { return i.ID }},
	{ownXAttr + "state", func(i *vaultcore.Info) string { return i.State }},
	{ownXAttr + "revision", func(i *vaultcore.Info) string { return strconv.FormatUint(i.Revision, 10) }},
	{ownXAttr + "version", func(i *vaultcore.Info) string {
		if i.Version == 0 {
			return "" // no content
		}
		return strconv.Itoa(i.Version)
	}},
	{ownXAttr + "type", func(i *vaultcore.Info) string {
		if i.Type != "" {
			return i.Type // of an asset
		}
		return i.MIME
	}},
	{ownXAttr + "content", func(i *vaultcore.Info) string { return i.Content }},
	{ownXAttr + "pinned", func(i *vaultcore.Info) string {
		if !i.Pinned {
			return ""
		}
		return "yes"
	}},
}

// userXAttr begins the attributes that programs may set.
const userXAttr = "user."

// GetXAttr answers for our attributes and the user's. Those of the system,
// which the kernel and tools ask for by habit, are absent.
func (f *fileSystem) GetXAttr(_ <-chan struct{}, h *fuse.InHeader, attr string, dest []byte) (uint32, fuse.Status) {
	f.count(h)
	if isHidden(h.NodeId) || !strings.HasPrefix(attr, userXAttr) {
		return 0, fuse.ENODATA
	}
	n := f.nodes.get(h.NodeId)
	if n == nil {
		return 0, estale
	}
	if !strings.HasPrefix(attr, ownXAttr) {
		v, err := f.vault.XAttr(n, attr)
		if err != nil {
			return 0, fuse.ENODATA
		}
		return fits(v, dest)
	}
	info := f.vault.InfoOf(n)
	for _, x := range ownXAttrs {
		if v := x.value(&info); x.name == attr && v != "" {
			return fits(v, dest)
		}
	}
	return 0, fuse.ENODATA
}

// ListXAttr names the attributes, each closed by a NUL.
func (f *fileSystem) ListXAttr(_ <-chan struct{}, h *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	f.count(h)
	if isHidden(h.NodeId) {
		return 0, fuse.OK
	}
	n := f.nodes.get(h.NodeId)
	if n == nil {
		return 0, estale
	}
	info := f.vault.InfoOf(n)
	var list strings.Builder
	for _, x := range ownXAttrs {
		if x.value(&info) != "" {
			list.WriteString(x.name + "\x00")
		}
	}
	for _, name := range f.vault.XAttrNames(n) {
		list.WriteString(name + "\x00")
	}
	return fits(list.String(), dest)
}

// fits copies a value, or gives its size and ERANGE when it does not fit.
func fits(v string, dest []byte) (uint32, fuse.Status) {
	if len(v) > len(dest) {
		return uint32(len(v)), fuse.ERANGE
	}
	return uint32(copy(dest, v)), fuse.OK
}

// SetXAttr keeps what is the user's. Attributes of ours are facts; those of
// the system (security, ACLs) would promise what nobody enforces.
func (f *fileSystem) SetXAttr(_ <-chan struct{}, in *fuse.SetXAttrIn, attr string, data []byte) fuse.Status {
	f.count(&in.InHeader)
	n, st := f.xattrNode(&in.InHeader, attr)
	if !st.Ok() {
		return st
	}
	return f.xattrErrno("SETXATTR", f.vault.SetXAttr(n, attr, data, vaultcore.XAttrMode(in.Flags&3)))
}

// RemoveXAttr takes an attribute of the user's away.
func (f *fileSystem) RemoveXAttr(_ <-chan struct{}, h *fuse.InHeader, attr string) fuse.Status {
	f.count(h)
	n, st := f.xattrNode(h, attr)
	if !st.Ok() {
		return st
	}
	return f.xattrErrno("REMOVEXATTR", f.vault.RemoveXAttr(n, attr))
}

// xattrNode gives the node whose attribute may be changed.
func (f *fileSystem) xattrNode(h *fuse.InHeader, attr string) (*vaultcore.Node, fuse.Status) {
	switch {
	case strings.HasPrefix(attr, ownXAttr), isHidden(h.NodeId):
		return nil, fuse.EPERM
	case !strings.HasPrefix(attr, userXAttr):
		return nil, eopnotsupp
	case f.readOnly:
		return nil, fuse.EROFS
	}
	n := f.nodes.get(h.NodeId)
	if n == nil {
		return nil, estale
	}
	return n, fuse.OK
}

// xattrErrno is errno but for the two that have names of their own here.
func (f *fileSystem) xattrErrno(op string, err error) fuse.Status {
	switch {
	case errors.Is(err, vaultcore.ErrNotFound):
		return fuse.ENODATA
	case errors.Is(err, vaultcore.ErrTooLarge):
		return fuse.Status(syscall.E2BIG)
	}
	return f.errno(op, err)
}
