package fs

import (
	"os"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// passesAll says whether every program that gets into a mount of this process
// passes whatever modes say, if no other user is let in: it is root's, and root
// owns the files. The kernel need not check modes then, which it pays for with
// a GETATTR of the directory after each name that is made, moved or removed in
// it: one request of the two that unlink costs.
//
// A process of root that has given that privilege up is no other user: it owns
// the files and may set their modes.
func passesAll(owner *Owner) bool {
	if os.Geteuid() != 0 || owner.UID != 0 {
		return false
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have [2]unix.CapUserData
	return unix.Capget(&header, &have[0]) == nil && have[0].Effective&(1<<unix.CAP_DAC_OVERRIDE) != 0
}

// Access answers access(2) and chdir(2) for root: all may be done but running a
// file that nobody may run. The kernel itself sees to that when one is run, and
// to what cannot be written because the mount is read-only. It is not asked
// where the kernel checks modes.
func (f *fileSystem) Access(_ <-chan struct{}, in *fuse.AccessIn) fuse.Status {
	f.count(&in.InHeader)
	if in.Mask&unix.X_OK == 0 {
		return fuse.OK
	}
	var a fuse.Attr
	if _, st := f.attrOf(in.NodeId, &a); !st.Ok() {
		return st
	}
	if a.Mode&unix.S_IFMT == unix.S_IFREG && a.Mode&0o111 == 0 {
		return fuse.EACCES
	}
	return fuse.OK
}
