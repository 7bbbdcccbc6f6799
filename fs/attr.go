package fs

import (
	"math"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// GetAttr answers stat for a node, also for one that has no name any more.
func (f *fileSystem) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	f.count(&in.InHeader)
	if isHidden(in.NodeId) {
		return f.hidden.getAttr(in.NodeId, &out.Attr)
	}
	n := f.nodes.get(in.NodeId)
	if n == nil {
		return estale
	}
	a := f.vault.Attr(n)
	f.attrReply(out, &a)
	return fuse.OK
}

// SetAttr changes size, mode and times. A change of owner is answered with
// success and has no effect: a mount has one owner, the kernel has already
// refused what a user may not do, and an error would stop rsync -a of root.
func (f *fileSystem) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	n, st := f.writableDir(&in.InHeader)
	if !st.Ok() {
		return st
	}
	change, some, st := changeOf(in)
	if !st.Ok() {
		return st
	}
	var a vaultcore.Attr
	if change.Size != nil {
		n.Kept.Store(false)
	}
	if some {
		var err error
		if a, err = f.vault.SetAttrUntil(f.waits.caller(cancel, &in.InHeader), n, change); err != nil {
			return f.errno("SETATTR", err)
		}
	} else {
		a = f.vault.Attr(n)
	}
	f.attrReply(out, &a)
	return fuse.OK
}

func changeOf(in *fuse.SetAttrIn) (c vaultcore.SetAttr, some bool, st fuse.Status) {
	if size, ok := in.GetSize(); ok {
		if size > math.MaxInt64 {
			return c, false, fuse.Status(syscall.EFBIG)
		}
		s := int64(size)
		c.Size = &s
	}
	if mode, ok := in.GetMode(); ok {
		mode &= 0o777
		c.Mode = &mode
	}
	now := time.Now().UnixNano()
	c.Mtime = timeOf(in.Valid, fuse.FATTR_MTIME, fuse.FATTR_MTIME_NOW, in.Mtime, in.Mtimensec, now)
	c.Atime = timeOf(in.Valid, fuse.FATTR_ATIME, fuse.FATTR_ATIME_NOW, in.Atime, in.Atimensec, now)
	return c, c != vaultcore.SetAttr{}, fuse.OK
}

// timeOf gives the time a request sets, nil if it sets none. Times that 64
// bits of nanoseconds cannot hold (before 1678, after 2262) go to the limit.
func timeOf(valid, set, useNow uint32, sec uint64, nsec uint32, now int64) *int64 {
	if valid&set == 0 {
		return nil
	}
	if valid&useNow != 0 {
		return &now
	}
	const limit = math.MaxInt64/int64(time.Second) - 1
	s := min(max(int64(sec), -limit), limit)
	t := s*int64(time.Second) + int64(nsec)
	return &t
}

// attrOf gives the attributes of a node, and what the vault says of it unless it
// is a hidden one.
func (f *fileSystem) attrOf(id uint64, out *fuse.Attr) (*vaultcore.Attr, fuse.Status) {
	if isHidden(id) {
		return nil, f.hidden.getAttr(id, out)
	}
	n := f.nodes.get(id)
	if n == nil {
		return nil, estale
	}
	a := f.vault.Attr(n)
	f.fill(out, &a)
	return &a, fuse.OK
}

// Statx is asked only by programs that want the time of birth.
func (f *fileSystem) Statx(_ <-chan struct{}, in *fuse.StatxIn, out *fuse.StatxOut) fuse.Status {
	f.count(&in.InHeader)
	var a fuse.Attr
	out.Mask = unix.STATX_BASIC_STATS
	va, st := f.attrOf(in.NodeId, &a)
	if !st.Ok() {
		return st
	}
	if va != nil {
		out.SetTimeout(cacheFor)
		sec, nsec := split(va.Btime)
		out.Btime = fuse.SxTime{Sec: sec, Nsec: nsec}
		out.Mask |= unix.STATX_BTIME
	}
	out.Blksize, out.Nlink, out.Uid, out.Gid = a.Blksize, a.Nlink, a.Uid, a.Gid
	out.Mode, out.Ino, out.Size, out.Blocks = uint16(a.Mode), a.Ino, a.Size, a.Blocks
	out.Atime = fuse.SxTime{Sec: a.Atime, Nsec: a.Atimensec}
	out.Mtime = fuse.SxTime{Sec: a.Mtime, Nsec: a.Mtimensec}
	out.Ctime = fuse.SxTime{Sec: a.Ctime, Nsec: a.Ctimensec}
	return fuse.OK
}

// StatFs tells how much can be written. It must not answer zeros: file
// managers refuse to copy onto a full drive.
func (f *fileSystem) StatFs(_ <-chan struct{}, h *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	f.count(h)
	s, err := f.vault.StatFS()
	if err != nil {
		return f.errno("STATFS", err)
	}
	out.Bsize, out.Frsize, out.NameLen = s.BlockSize, s.BlockSize, maxName
	out.Blocks, out.Bfree, out.Bavail = s.Blocks, s.Free, s.Avail
	out.Files = s.Files
	return fuse.OK
}

func (f *fileSystem) attrReply(out *fuse.AttrOut, a *vaultcore.Attr) {
	out.SetTimeout(cacheFor)
	f.fill(&out.Attr, a)
}

func (f *fileSystem) fill(out *fuse.Attr, a *vaultcore.Attr) {
	out.Ino = a.Ino
	out.Size = uint64(a.Size)
	out.Blocks = (uint64(a.Size) + 511) / 512
	out.Atime, out.Atimensec = split(a.Atime)
	out.Mtime, out.Mtimensec = split(a.Mtime)
	out.Ctime, out.Ctimensec = split(a.Ctime)
	out.Mode = typeBits(a.Kind) | a.Mode&0o777
	out.Nlink = a.Nlink
	out.Owner = f.owner
	out.Blksize = blockSize
}

// split cuts nanoseconds since the epoch as the kernel wants them: the
// nanoseconds are never negative.
func split(t int64) (sec uint64, nsec uint32) {
	s, n := t/int64(time.Second), t%int64(time.Second)
	if n < 0 {
		s, n = s-1, n+int64(time.Second)
	}
	return uint64(s), uint32(n)
}

func typeBits(k vaultcore.Kind) uint32 {
	switch k {
	case vaultcore.KindFile:
		return fuse.S_IFREG
	case vaultcore.KindSymlink:
		return fuse.S_IFLNK
	default:
		return fuse.S_IFDIR
	}
}
