package fs

import (
	"strconv"
	"strings"

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
}

// GetXAttr answers for the attributes of ours. Others of a user are absent;
// so are those of the system, which the kernel and tools ask for by habit.
func (f *fileSystem) GetXAttr(_ <-chan struct{}, h *fuse.InHeader, attr string, dest []byte) (uint32, fuse.Status) {
	f.count(h)
	if isHidden(h.NodeId) || !strings.HasPrefix(attr, ownXAttr) {
		return 0, fuse.ENODATA
	}
	n := f.nodes.get(h.NodeId)
	if n == nil {
		return 0, estale
	}
	info := f.vault.InfoOf(n)
	for _, x := range ownXAttrs {
		if v := x.value(&info); x.name == attr && v != "" {
			return fits(v, dest)
		}
	}
	return 0, fuse.ENODATA
}

// ListXAttr names the attributes of ours, each closed by a NUL.
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
	return fits(list.String(), dest)
}

// fits copies a value, or gives its size and ERANGE when it does not fit.
func fits(v string, dest []byte) (uint32, fuse.Status) {
	if len(v) > len(dest) {
		return uint32(len(v)), fuse.ERANGE
	}
	return uint32(copy(dest, v)), fuse.OK
}

// SetXAttr refuses: the attributes of ours are facts, and a vault keeps no
// others.
func (f *fileSystem) SetXAttr(_ <-chan struct{}, in *fuse.SetXAttrIn, attr string, _ []byte) fuse.Status {
	f.count(&in.InHeader)
	if strings.HasPrefix(attr, ownXAttr) {
		return fuse.EPERM
	}
	return eopnotsupp
}

// RemoveXAttr refuses like SetXAttr; what is not there cannot be removed.
func (f *fileSystem) RemoveXAttr(_ <-chan struct{}, h *fuse.InHeader, attr string) fuse.Status {
	f.count(h)
	if strings.HasPrefix(attr, ownXAttr) {
		return fuse.EPERM
	}
	return fuse.ENODATA
}
