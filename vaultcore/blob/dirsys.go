package blob

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Wrap turns an error of the operating system into one of this package's,
// keeping the original in the chain, and says what was done to what. It is
// also for those who write to a file that Create handed out. nil stays nil.
func Wrap(op, name string, err error) error {
	if err == nil {
		return nil
	}
	kind := sentinel(err)
	if kind == nil || errors.Is(err, kind) {
		return fmt.Errorf("%s %s: %w", op, name, err)
	}
	return fmt.Errorf("%s %s: %w (%w)", op, name, kind, err)
}

// sentinel is the table from errno to this package's errors. EIO is not in
// it: a disk that cannot read one file is not a store that is away.
func sentinel(err error) error {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return nil
	}
	switch errno {
	case unix.ENOENT, unix.ENOTDIR:
		return ErrNotFound
	case unix.EEXIST:
		return ErrExist
	case unix.ENOSPC, unix.EDQUOT:
		return ErrNoSpace
	case unix.EACCES, unix.EPERM, unix.EROFS:
		return ErrDenied
	case unix.EFBIG:
		return ErrTooLarge
	case unix.ESTALE, unix.ENODEV, unix.ENXIO, unix.ENOTCONN, unix.EHOSTDOWN,
		unix.EHOSTUNREACH, unix.ENETDOWN, unix.ENETUNREACH, unix.ETIMEDOUT:
		return ErrUnavailable
	}
	return nil
}

// retryEINTR repeats a call that a signal cut short, which network file
// systems allow anywhere.
func retryEINTR(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != unix.EINTR {
			return n, err
		}
	}
}

func openSubdir(dir int, name, path string) (*os.File, error) {
	fd, err := retryEINTR(func() (int, error) { return unix.Openat(dir, name, dirFlags, 0) })
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

func lstatat(dir int, name string, st *unix.Stat_t) error {
	_, err := retryEINTR(func() (int, error) {
		return 0, unix.Fstatat(dir, name, st, unix.AT_SYMLINK_NOFOLLOW)
	})
	return err
}

// unlinkat removes a file; a missing one is no error.
func unlinkat(dir int, name string) error {
	_, err := retryEINTR(func() (int, error) { return 0, unix.Unlinkat(dir, name, 0) })
	if err == unix.ENOENT {
		return nil
	}
	return err
}

// syncDir flushes a directory. Some network and FUSE file systems have no
// such thing and answer EINVAL; there the rename is all we can ask for.
func syncDir(dir int) error {
	_, err := retryEINTR(func() (int, error) { return 0, unix.Fsync(dir) })
	if err == unix.EINVAL || err == unix.ENOTSUP {
		return nil
	}
	return err
}

// renameNoReplace moves old to new in one directory and leaves a new that
// exists alone (EEXIST). Where the file system cannot do that in one step, a
// hard link can; where it has neither we look first, and two writers at the
// same instant could both win, which random names make harmless.
func (d *Dir) renameNoReplace(dir int, old, new string) error {
	if !d.noReplaceMissing.Load() {
		_, err := retryEINTR(func() (int, error) {
			return 0, unix.Renameat2(dir, old, dir, new, unix.RENAME_NOREPLACE)
		})
		if err != unix.EINVAL && err != unix.ENOSYS && err != unix.ENOTSUP {
			return err
		}
		d.noReplaceMissing.Store(true)
	}
	if !d.linkMissing.Load() {
		err := unix.Linkat(dir, old, dir, new, 0)
		if err == nil {
			return unlinkat(dir, old)
		}
		if err != unix.EPERM && err != unix.ENOSYS && err != unix.ENOTSUP && err != unix.EMLINK {
			return err
		}
		d.linkMissing.Store(true)
	}
	var st unix.Stat_t
	if err := lstatat(dir, new, &st); err == nil {
		return unix.EEXIST
	} else if err != unix.ENOENT {
		return err
	}
	return rename(dir, old, new)
}

func rename(dir int, old, new string) error {
	_, err := retryEINTR(func() (int, error) { return 0, unix.Renameat(dir, old, dir, new) })
	return err
}

func ignoreEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

// readFullAt is ReadFull below an open directory.
func readFullAt(dir int, name string, dst []byte) error {
	fd, err := retryEINTR(func() (int, error) {
		return unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for off := 0; off < len(dst); {
		n, err := retryEINTR(func() (int, error) { return unix.Pread(fd, dst[off:], int64(off)) })
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("%w: it ends after %d of %d bytes", ErrSize, off, len(dst))
		}
		off += n
	}
	var more [1]byte
	n, err := retryEINTR(func() (int, error) { return unix.Pread(fd, more[:], int64(len(dst))) })
	if err == nil && n > 0 {
		err = fmt.Errorf("%w: it is longer than %d bytes", ErrSize, len(dst))
	}
	return err
}
