package fs

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// errnos is the only place where an error of the vault becomes a number for
// the kernel. ENOSYS is not in it and must never be: the kernel takes it as
// "this call does not exist" for the life of the mount, and for FLUSH, FSYNC
// and FSYNCDIR as "succeed without asking".
var errnos = []struct {
	err error
	st  fuse.Status
	// tell: worth a line in the log, because the number says too little.
	tell bool
}{
	{vaultcore.ErrNotFound, fuse.ENOENT, false},
	{vaultcore.ErrExist, fuse.Status(syscall.EEXIST), false},
	{vaultcore.ErrNotEmpty, fuse.Status(syscall.ENOTEMPTY), false},
	{vaultcore.ErrIsDir, fuse.EISDIR, false},
	{vaultcore.ErrNotDir, fuse.ENOTDIR, false},
	{vaultcore.ErrName, fuse.Status(syscall.EILSEQ), false},
	{vaultcore.ErrNameTooLong, fuse.Status(syscall.ENAMETOOLONG), false},
	{vaultcore.ErrNoSpace, fuse.Status(syscall.ENOSPC), false},
	{vaultcore.ErrTooLarge, fuse.Status(syscall.EFBIG), false},
	{vaultcore.ErrQuota, fuse.Status(syscall.EDQUOT), false},
	{vaultcore.ErrCrossAsset, fuse.EXDEV, false},
	{vaultcore.ErrPermission, fuse.EPERM, true},
	{vaultcore.ErrReadOnly, fuse.EROFS, false},
	{vaultcore.ErrReadOnlyDisk, fuse.EROFS, true},
	{vaultcore.ErrInvalid, fuse.EINVAL, false},
	{vaultcore.ErrDamaged, fuse.EIO, true},
	{vaultcore.ErrTimeout, fuse.Status(syscall.ETIMEDOUT), true},
	{vaultcore.ErrInterrupted, fuse.EINTR, false},
	{vaultcore.ErrStale, estale, false}, // the kernel looks the name up again
	{vaultcore.ErrBusy, fuse.EBUSY, false},
	{vaultcore.ErrNotSupported, fuse.Status(syscall.EOPNOTSUPP), false},
	{vaultcore.ErrClosed, fuse.EIO, true},
	{vaultcore.ErrDatabase, fuse.EIO, true},
}

const eopnotsupp = fuse.Status(syscall.EOPNOTSUPP)

// errno translates what the vault answered. An error that is not in the
// table is EIO. What the number alone would not explain is logged, once for
// each different text, with the whole chain.
func (f *fileSystem) errno(call string, err error) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	st, tell := translate(err)
	if tell && f.said.first(call+": "+err.Error()) {
		level := slog.LevelWarn
		if st == fuse.EPERM {
			level = slog.LevelInfo // refused by design; the log says why
		}
		f.log.Log(context.Background(), level, "request failed", slog.String("call", call), slog.Int("errno", int(st)), slog.Any("error", err))
	}
	return st
}

func translate(err error) (st fuse.Status, tell bool) {
	for i := range errnos {
		if errors.Is(err, errnos[i].err) {
			return errnos[i].st, errnos[i].tell
		}
	}
	return fuse.EIO, true
}

// saidOnce remembers what has been logged, so that a program that tries a
// damaged file again and again does not fill the log.
type saidOnce struct {
	mu   sync.Mutex
	said map[string]struct{}
}

const maxSaid = 1024

func (s *saidOnce) first(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.said[text]; ok {
		return false
	}
	if s.said == nil || len(s.said) >= maxSaid {
		s.said = make(map[string]struct{})
	}
	s.said[text] = struct{}{}
	return true
}
