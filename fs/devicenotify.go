package fs

import (
	"encoding/binary"
	"errors"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Notifications, as FUSE numbers and lays them out.
const (
	notifyInode  = 2
	notifyEntry  = 3
	notifyStore  = 4
	notifyDelete = 6
)

// InodeNotify drops a node's attributes and, from off on, its pages; a
// negative off leaves the pages.
func (c *kernelConn) InodeNotify(node uint64, off, length int64) fuse.Status {
	b := binary.NativeEndian.AppendUint64(notification(notifyInode, 24), node)
	b = binary.NativeEndian.AppendUint64(b, uint64(off))
	b = binary.NativeEndian.AppendUint64(b, uint64(length))
	return c.notify(b)
}

// EntryNotify drops what the kernel knows of a name.
func (c *kernelConn) EntryNotify(parent uint64, name string) fuse.Status {
	b := binary.NativeEndian.AppendUint64(notification(notifyEntry, 16+len(name)+1), parent)
	b = binary.NativeEndian.AppendUint32(b, uint32(len(name)))
	b = binary.NativeEndian.AppendUint32(b, 0) // flags
	return c.notify(append(append(b, name...), 0))
}

// InodeNotifyStoreCache puts bytes into a node's pages.
func (c *kernelConn) InodeNotifyStoreCache(node uint64, off int64, data []byte) fuse.Status {
	b := binary.NativeEndian.AppendUint64(notification(notifyStore, 24+len(data)), node)
	b = binary.NativeEndian.AppendUint64(b, uint64(off))
	b = binary.NativeEndian.AppendUint32(b, uint32(len(data)))
	b = binary.NativeEndian.AppendUint32(b, 0) // padding
	for {
		_, err := unix.Writev(c.fd, [][]byte{b, data})
		if !errors.Is(err, unix.EINTR) {
			return notified(err)
		}
	}
}

// DeleteNotify says that a directory is gone, also to who stands in it.
func (c *kernelConn) DeleteNotify(parent, child uint64, name string) fuse.Status {
	b := binary.NativeEndian.AppendUint64(notification(notifyDelete, 24+len(name)+1), parent)
	b = binary.NativeEndian.AppendUint64(b, child)
	b = binary.NativeEndian.AppendUint32(b, uint32(len(name)))
	b = binary.NativeEndian.AppendUint32(b, 0) // padding
	return c.notify(append(append(b, name...), 0))
}

// notification begins one whose body has size bytes.
func notification(code uint32, size int) []byte {
	total := int(unsafe.Sizeof(fuse.OutHeader{})) + size
	b := binary.NativeEndian.AppendUint32(make([]byte, 0, 64), uint32(total))
	b = binary.NativeEndian.AppendUint32(b, code)
	return binary.NativeEndian.AppendUint64(b, 0) // an answer to nothing
}

func (c *kernelConn) notify(b []byte) fuse.Status {
	for {
		_, err := unix.Write(c.fd, b)
		if !errors.Is(err, unix.EINTR) {
			return notified(err)
		}
	}
}

// notified makes of EINVAL, which a kernel gives that does not know the kind,
// what it means.
func notified(err error) fuse.Status {
	if errors.Is(err, unix.EINVAL) {
		return fuse.ENOSYS
	}
	return fuse.ToStatus(err)
}
