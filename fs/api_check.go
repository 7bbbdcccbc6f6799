package fs

import "github.com/hanwen/go-fuse/v2/fuse"

// Every call the kernel can send has its answer in this package: nothing is
// embedded, so a call that is new in go-fuse does not compile until somebody
// has decided on it. go-fuse's defaults would be ENOSYS, which the kernel
// remembers as "never ask again", and for FLUSH, FSYNC and FSYNCDIR as
// "succeed without asking".
var _ fuse.RawFileSystem = (*fileSystem)(nil)
var _ fuse.ReadResult = (*readReply)(nil)
var _ fuse.ReadResult = (*aroundReply)(nil)

// The calls below are the ones for which ENOSYS is the right answer.

// Lseek tells the kernel once that there are no holes; it then answers
// SEEK_DATA and SEEK_HOLE itself.
func (f *fileSystem) Lseek(_ <-chan struct{}, in *fuse.LseekIn, _ *fuse.LseekOut) fuse.Status {
	f.count(&in.InHeader)
	return fuse.ENOSYS
}

// GetLk is not asked: locks are the kernel's, which is right for one mount.
func (f *fileSystem) GetLk(_ <-chan struct{}, in *fuse.LkIn, _ *fuse.LkOut) fuse.Status {
	f.count(&in.InHeader)
	return fuse.ENOSYS
}

// SetLk is not asked.
func (f *fileSystem) SetLk(_ <-chan struct{}, in *fuse.LkIn) fuse.Status {
	f.count(&in.InHeader)
	return fuse.ENOSYS
}

// SetLkw is not asked.
func (f *fileSystem) SetLkw(_ <-chan struct{}, in *fuse.LkIn) fuse.Status {
	f.count(&in.InHeader)
	return fuse.ENOSYS
}

// ReleaseDir is not sent after OPENDIR was answered with ENOSYS.
func (f *fileSystem) ReleaseDir(in *fuse.ReleaseIn) { f.count(&in.InHeader) }

// SetDebug does nothing: what go-fuse would print holds names and contents.
func (f *fileSystem) SetDebug(bool) {}
