package blob

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	dirMode  = 0o700
	fileMode = 0o600
	// dirFlags opens a directory and nothing else, symbolic links included.
	dirFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
)

// Dir is a directory of blobs. It is two things over the same files: the
// local doors below, flat names and no copies, for a vault's attachments and
// scratch folders, and a Store of keys with slashes for a remote that is a
// disk or a NAS.
//
// Every call is relative to the directory's descriptor and follows no link
// below it, so renaming the vault's folder or planting a link in it leads
// nowhere else. A Dir is safe for concurrent use; after Close all calls fail
// with os.ErrClosed.
type Dir struct {
	path string // for messages only
	file *os.File
	raw  syscall.RawConn

	// What this file system turned out not to have. Learnt from its answers,
	// so that a blob costs one system call and not three.
	noReplaceMissing atomic.Bool
	linkMissing      atomic.Bool
	noDirect         atomic.Bool // no direct I/O
	noAsking         atomic.Bool // no way to ask what the page cache has
	pace             pace

	overlay func(name string) (Section, bool) // nil: none
}

// OpenDir opens an existing directory; ErrNotFound if there is none. It does
// not make one: an unmounted NAS must not turn into an empty folder.
func OpenDir(path string) (*Dir, error) {
	fd, err := retryEINTR(func() (int, error) {
		return unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, Wrap("open directory", path, err)
	}
	file := os.NewFile(uintptr(fd), path)
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("open directory %s: %w", path, err)
	}
	return &Dir{path: path, file: file, raw: raw}, nil
}

// Close gives the descriptor back. Files handed out stay open.
func (d *Dir) Close() error { return d.file.Close() }

// at runs f with the directory's descriptor, which stays valid meanwhile.
func (d *Dir) at(f func(fd int) error) error {
	var inner error
	if err := d.raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return os.ErrClosed
	}
	return inner
}

// Create makes a new file, readable and writable, mode 0600. A name that is
// there gives ErrExist. Nothing is durable until the file and the directory
// have been synced.
func (d *Dir) Create(name string) (*os.File, error) {
	return d.openAt("create", name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL)
}

// Open opens a file for reading; ErrNotFound if there is none.
func (d *Dir) Open(name string) (*os.File, error) {
	return d.openAt("open", name, unix.O_RDONLY)
}

func (d *Dir) openAt(op, name string, flags int) (*os.File, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	var fd int
	err := d.at(func(dir int) (err error) {
		fd, err = retryEINTR(func() (int, error) {
			return unix.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, fileMode)
		})
		return err
	})
	if err != nil {
		return nil, Wrap(op, name, err)
	}
	return os.NewFile(uintptr(fd), filepath.Join(d.path, name)), nil
}

// ReadFull fills dst with a file's bytes from its start, a small file's without
// the upkeep of an os.File: they are read by the thousand. The file must have
// exactly as many bytes: ErrSize. ErrNotFound if there is none. How dst had
// better lie, and what may be overwritten behind it: see ReadPieces.
func (d *Dir) ReadFull(name string, dst []byte) error {
	if len(dst) >= directMin || d.overlay != nil {
		return d.ReadPieces(name, dst, nil)
	}
	if err := checkName(name); err != nil {
		return err
	}
	err := d.at(func(dir int) error { return readFullAt(dir, name, dst) })
	return Wrap("read", name, err)
}

// Rename gives a file its final name. It never replaces: ErrExist if the new
// name is taken, ErrNotFound if the old one is not there.
func (d *Dir) Rename(old, new string) error {
	if err := errors.Join(checkName(old), checkName(new)); err != nil {
		return err
	}
	err := d.at(func(fd int) error { return d.renameNoReplace(fd, old, new) })
	return Wrap("rename", old, err)
}

// Remove deletes a file. One that is not there is no error.
func (d *Dir) Remove(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	err := d.at(func(fd int) error { return unlinkat(fd, name) })
	return Wrap("remove", name, err)
}

// Stat gives the size of a file in bytes; ErrNotFound if there is none.
func (d *Dir) Stat(name string) (int64, error) {
	if err := checkName(name); err != nil {
		return 0, err
	}
	var st unix.Stat_t
	if err := d.at(func(fd int) error { return lstatat(fd, name, &st) }); err != nil {
		return 0, Wrap("stat", name, err)
	}
	return st.Size, nil
}

// Names calls fn for every regular file whose name this package could have
// made, in no order, until fn returns false. Files that come or go meanwhile
// may be missed.
func (d *Dir) Names(fn func(name string, size int64, mtime time.Time) bool) error {
	dir, err := d.reopen()
	if err != nil {
		return Wrap("list", d.path, err)
	}
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(1024)
		for _, name := range names {
			st, ok := d.regular(name)
			if ok && !fn(name, st.Size, time.Unix(st.Mtim.Unix())) {
				return nil
			}
		}
		if len(names) == 0 || err != nil {
			return Wrap("list", d.path, ignoreEOF(err))
		}
	}
}

// EachName is Names without sizes and times, which cost a call to the kernel
// for each file.
func (d *Dir) EachName(fn func(name string) bool) error {
	dir, err := d.reopen()
	if err != nil {
		return Wrap("list", d.path, err)
	}
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(1024)
		for _, name := range names {
			if checkName(name) == nil && !fn(name) {
				return nil
			}
		}
		if len(names) == 0 || err != nil {
			return Wrap("list", d.path, ignoreEOF(err))
		}
	}
}

func (d *Dir) regular(name string) (st unix.Stat_t, ok bool) {
	if checkName(name) != nil {
		return st, false
	}
	err := d.at(func(fd int) error { return lstatat(fd, name, &st) })
	return st, err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG
}

// reopen gives a descriptor with a reading position of its own.
func (d *Dir) reopen() (*os.File, error) {
	var file *os.File
	err := d.at(func(fd int) (err error) {
		file, err = openSubdir(fd, ".", d.path)
		return err
	})
	return file, err
}

// Sync makes names durable: what Create, Rename and Remove did before.
func (d *Dir) Sync() error {
	return Wrap("sync directory", d.path, d.at(syncDir))
}

// SyncFiles makes the contents of the named files durable, up to parallel of
// them at a time. A name that is not there is passed over: its file was
// removed, so nothing waits for it. The first failure is returned, after all
// have been tried.
func (d *Dir) SyncFiles(names []string, parallel int) error {
	var group errgroup.Group
	group.SetLimit(max(parallel, 1))
	for _, name := range names {
		group.Go(func() error { return d.syncFile(name) })
	}
	return group.Wait()
}

func (d *Dir) syncFile(name string) error {
	file, err := d.Open(name)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = retryEINTR(func() (int, error) { return 0, unix.Fdatasync(int(file.Fd())) })
	return Wrap("sync", name, err)
}

// Free says how many bytes an unprivileged process may still write, and how
// many the file system holds in all.
func (d *Dir) Free() (avail, total uint64, err error) {
	var st unix.Statfs_t
	err = d.at(func(fd int) error {
		_, err := retryEINTR(func() (int, error) { return 0, unix.Fstatfs(fd, &st) })
		return err
	})
	unit := uint64(st.Frsize)
	if unit == 0 {
		unit = uint64(st.Bsize)
	}
	return st.Bavail * unit, st.Blocks * unit, Wrap("ask free space of", d.path, err)
}
