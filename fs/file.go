package fs

import (
	"errors"
	"math"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// Open counts a handle; nothing is fetched or decrypted before the first
// READ but a small file that is here, which the kernel gets at once. A handle that can only read sends no FLUSH: there is nothing to
// commit, and it is a round trip less.
func (f *fileSystem) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	f.count(&in.InHeader)
	if isHidden(in.NodeId) {
		return f.hidden.openFile(in.NodeId, in.Flags, out)
	}
	n := f.nodes.get(in.NodeId)
	if n == nil {
		return estale
	}
	truncate := in.Flags&syscall.O_TRUNC != 0
	write := in.Flags&syscall.O_ACCMODE != syscall.O_RDONLY || truncate
	if write && f.readOnly {
		return fuse.EROFS
	}
	if err := f.vault.Open(n, write, truncate); err != nil {
		return f.errno("OPEN", err)
	}
	out.Fh = f.handles.add(n, write)
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	if write {
		n.Kept.Store(false)
		return fuse.OK
	}
	out.OpenFlags |= fuse.FOPEN_NOFLUSH
	if in.Flags&syscall.O_DIRECT == 0 && f.push.on() {
		f.ahead.opened(n)
		f.push.whole(n, in.NodeId)
	}
	return fuse.OK
}

// Create makes and opens a file. The kernel has looked the name up before;
// when somebody else made it since, the request is an ordinary open.
func (f *fileSystem) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	dir, st := f.writableDir(&in.InHeader)
	if !st.Ok() {
		return st
	}
	if reserved(in.NodeId, name) {
		return fuse.EPERM
	}
	n, attr, err := f.vault.Create(dir, name, in.Mode&0o777)
	if errors.Is(err, vaultcore.ErrExist) && in.Flags&syscall.O_EXCL == 0 {
		return f.openExisting(cancel, in, dir, name, out)
	}
	if err != nil {
		return f.errno("CREATE", err)
	}
	f.entry(&out.EntryOut, n, &attr)
	f.created(n, out)
	return fuse.OK
}

// created adds the handle of a new file. It gets its FLUSH even if the
// program can only read: that is what gives the empty file its row.
func (f *fileSystem) created(n *vaultcore.Node, out *fuse.CreateOut) {
	out.Fh = f.handles.add(n, true)
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
}

func (f *fileSystem) openExisting(cancel <-chan struct{}, in *fuse.CreateIn, dir *vaultcore.Node, name string, out *fuse.CreateOut) fuse.Status {
	n, _, err := f.vault.Lookup(dir, name)
	if err != nil {
		return f.errno("CREATE", err)
	}
	if n.Kind() != vaultcore.KindFile {
		return fuse.Status(syscall.EEXIST)
	}
	id := f.nodes.ref(n)
	open := fuse.OpenIn{InHeader: in.InHeader, Flags: in.Flags}
	open.NodeId = id
	if st := f.Open(cancel, &open, &out.OpenOut); !st.Ok() {
		f.nodes.forget(id, 1)
		return st
	}
	attr := f.vault.Attr(n)
	f.entry(&out.EntryOut, n, &attr)
	f.nodes.forget(id, 1) // entry has counted the reference that the reply gives
	return fuse.OK
}

// Tmpfile makes and opens a file without a name; LINK can give it one.
func (f *fileSystem) Tmpfile(_ <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	dir, st := f.writableDir(&in.InHeader)
	if !st.Ok() {
		return st
	}
	n, attr, err := f.vault.Tmpfile(dir, in.Mode&0o777)
	if err != nil {
		return f.errno("TMPFILE", err)
	}
	f.entry(&out.EntryOut, n, &attr)
	f.created(n, out)
	return fuse.OK
}

// readReply hands the filled part of the reply buffer to go-fuse. It comes
// from a pool: READ allocates nothing.
type readReply struct {
	data []byte
	pool *sync.Pool
}

func (r *readReply) Bytes([]byte) ([]byte, fuse.Status) { return r.data, fuse.OK }
func (r *readReply) Size() int                          { return len(r.data) }
func (r *readReply) Done()                              { r.data = nil; r.pool.Put(r) }

func (f *fileSystem) reply(data []byte) fuse.ReadResult {
	r := f.replies.Get().(*readReply)
	r.data = data
	return r
}

// Read decrypts straight into the reply buffer. A short answer means the end
// of the file to the kernel, so what is missing is an error, never a part.
func (f *fileSystem) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	f.count(&in.InHeader)
	if isHidden(in.NodeId) {
		n, st := f.hidden.read(f.waits.caller(cancel, &in.InHeader), in.Fh, buf, int64(in.Offset))
		if !st.Ok() {
			return nil, st
		}
		return f.reply(buf[:n]), fuse.OK
	}
	node := f.nodes.get(in.NodeId)
	if node == nil {
		return nil, estale
	}
	if in.Offset > math.MaxInt64 {
		return nil, fuse.EINVAL
	}
	missed(node)
	n, err := f.vault.ReadAtUntil(f.waits.caller(cancel, &in.InHeader), node, buf, int64(in.Offset))
	if err != nil {
		return nil, f.errno("READ", err)
	}
	if around(in, n) && f.push.on() {
		return f.replyAround(node, in, buf[:n]), fuse.OK
	}
	return f.reply(buf[:n]), fuse.OK
}

// Write stores all or nothing. The node alone decides: in a request that
// comes from a mapping, handle and process mean nothing.
func (f *fileSystem) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	n, st := f.writableDir(&in.InHeader)
	if !st.Ok() {
		return 0, st
	}
	if in.Offset > math.MaxInt64-uint64(len(data)) {
		return 0, fuse.Status(syscall.EFBIG)
	}
	written, err := f.vault.WriteAtUntil(f.waits.caller(cancel, &in.InHeader), n, data, int64(in.Offset))
	if err != nil {
		return 0, f.errno("WRITE", err)
	}
	return uint32(written), fuse.OK
}

// Writev is what go-fuse calls for WRITE. On a Linux device the data is one
// piece; a reply may tell of the pieces that went in.
func (f *fileSystem) Writev(cancel <-chan struct{}, in *fuse.WriteIn, data [][]byte) (uint32, fuse.Status) {
	if len(data) == 1 {
		return f.Write(cancel, in, data[0])
	}
	var total uint32
	at := *in
	for _, d := range data {
		n, st := f.Write(cancel, &at, d)
		if !st.Ok() {
			if total > 0 {
				break
			}
			return 0, st
		}
		total += n
		at.Offset += uint64(n)
	}
	return total, fuse.OK
}

// Flush commits what was written; its error is the error of close. It comes
// once per descriptor that is closed, so it can come before the first WRITE.
func (f *fileSystem) Flush(_ <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	f.count(&in.InHeader)
	if isHidden(in.NodeId) {
		return fuse.OK
	}
	n := f.nodes.get(in.NodeId)
	if n == nil {
		return estale
	}
	return f.errno("FLUSH", f.vault.Flush(n))
}

// Fsync makes the file durable as it is, at a cost of its dirty bytes.
func (f *fileSystem) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	f.count(&in.InHeader)
	if isHidden(in.NodeId) {
		return fuse.OK
	}
	n := f.nodes.get(in.NodeId)
	if n == nil {
		return estale
	}
	return f.errno("FSYNC", f.vault.Fsync(n))
}

// Release ends a handle. It comes at any time after the last close, when the
// file may have lost its name, and nobody sees an answer.
func (f *fileSystem) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	f.count(&in.InHeader)
	if isHidden(in.NodeId) {
		f.hidden.release(in.Fh)
		return
	}
	if h, ok := f.handles.remove(in.Fh); ok {
		f.vault.Release(h.node, h.write)
	}
}

// Fallocate takes space ahead. Punching holes and the like are not offered:
// there are no holes in a sealed file.
func (f *fileSystem) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	n, st := f.writableDir(&in.InHeader)
	if !st.Ok() {
		return st
	}
	if in.Mode != 0 && in.Mode != unix.FALLOC_FL_KEEP_SIZE {
		return eopnotsupp
	}
	if in.Length > math.MaxInt64 || in.Offset > math.MaxInt64-in.Length {
		return fuse.Status(syscall.EFBIG)
	}
	keep := in.Mode == unix.FALLOC_FL_KEEP_SIZE
	return f.errno("FALLOCATE", f.vault.Allocate(n, int64(in.Offset), int64(in.Length), keep))
}

// CopyFileRange leaves the copy to the kernel: the copy has a key of its own,
// so there is no sealed byte that could be shared.
func (f *fileSystem) CopyFileRange(_ <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	f.count(&in.InHeader)
	return 0, eopnotsupp
}

// Ioctl answers what a plain file answers to a question for terminals.
func (f *fileSystem) Ioctl(_ <-chan struct{}, in *fuse.IoctlIn, _ []byte, _ *fuse.IoctlOut, _ []byte) fuse.Status {
	f.count(&in.InHeader)
	return fuse.Status(syscall.ENOTTY)
}
