package blob

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Names of the store's own files. They begin with a dot, so no key is one.
const (
	tempPrefix   = ".tmp-"
	uploadPrefix = ".up-"
)

var _ Store = (*Dir)(nil)

// Put implements Store: random temporary name in the target directory, write,
// sync, close, rename, sync the directory.
func (d *Dir) Put(ctx context.Context, key string, r io.Reader, size int64, createOnly bool) error {
	dir, name, err := d.parent(key, true)
	if err != nil {
		return err
	}
	defer dir.Close()
	if createOnly && exists(dir, name) {
		return fmt.Errorf("put %s: %w", key, ErrExist)
	}
	temp := tempPrefix + randomHex()
	err = d.putTemp(ctx, dir, temp, r, size)
	if err == nil {
		err = d.publish(dir, temp, name, createOnly)
	}
	if err != nil {
		_ = unlinkat(int(dir.Fd()), temp) // the first error is the one to tell
	}
	return Wrap("put", key, err)
}

func (d *Dir) putTemp(ctx context.Context, dir *os.File, temp string, r io.Reader, size int64) error {
	file, err := createIn(dir, temp)
	if err != nil {
		return err
	}
	_, err = copyExactly(ctx, file, r, size)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// publish gives a complete and synced temporary file its name.
func (d *Dir) publish(dir *os.File, temp, name string, createOnly bool) error {
	fd := int(dir.Fd())
	move := func() error {
		if createOnly {
			return d.renameNoReplace(fd, temp, name)
		}
		return rename(fd, temp, name)
	}
	err := move()
	if (err == unix.EEXIST || err == unix.EISDIR) && removeForeign(fd, name) {
		err = move()
	}
	if err == unix.EISDIR || err == unix.ENOTEMPTY {
		return fmt.Errorf("%w: it is a folder of other keys", ErrKey)
	}
	if err != nil {
		return err
	}
	return syncDir(fd)
}

// Get implements Store.
func (d *Dir) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if off < 0 {
		return nil, fmt.Errorf("get %s: negative offset", key)
	}
	file, size, err := d.openRegular(key)
	if err != nil {
		return nil, err
	}
	if n < 0 || n > size {
		n = size
	}
	return &reading{ctx: ctx, file: file, off: off, left: n}, nil
}

// readingPiece is how much of a file a writer is given at a time.
const readingPiece = 256 << 10

// reading is a part of a file, until its context ends.
type reading struct {
	ctx       context.Context
	file      *os.File
	off, left int64
}

func (r *reading) Close() error { return r.file.Close() }

func (r *reading) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	if r.left <= 0 {
		return 0, io.EOF
	}
	n, err := r.file.ReadAt(p[:min(int64(len(p)), r.left)], r.off)
	r.off, r.left = r.off+int64(n), r.left-int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

// WriteTo implements io.WriterTo: a writer that reads from files, such as a
// connection, is given this one, so that the kernel can copy.
func (r *reading) WriteTo(w io.Writer) (sent int64, err error) {
	if _, err := r.file.Seek(r.off, io.SeekStart); err != nil {
		return 0, err
	}
	for r.left > 0 {
		if err := r.ctx.Err(); err != nil {
			return sent, err
		}
		n, err := io.CopyN(w, r.file, min(r.left, readingPiece))
		sent, r.off, r.left = sent+n, r.off+n, r.left-n
		if err == io.EOF {
			return sent, nil // the file ends here
		}
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// openRegular opens without waiting and refuses what is no plain file: in a
// shared folder a pipe could hold a reader for ever.
func (d *Dir) openRegular(key string) (*os.File, int64, error) {
	dir, name, err := d.parent(key, false)
	if err != nil {
		return nil, 0, err
	}
	defer dir.Close()
	fd, err := retryEINTR(func() (int, error) {
		return unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err == unix.ELOOP || err == unix.ENXIO {
		err = ErrNotFound // a link or a socket is no blob
	}
	if err != nil {
		return nil, 0, Wrap("get", key, err)
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = ErrNotFound
	}
	if err == nil {
		err = unix.SetNonblock(fd, false)
	}
	if err != nil {
		unix.Close(fd)
		return nil, 0, Wrap("get", key, err)
	}
	return os.NewFile(uintptr(fd), path.Join(d.path, key)), st.Size, nil
}

// Head implements Store.
func (d *Dir) Head(ctx context.Context, key string) (Attrs, error) {
	if err := ctx.Err(); err != nil {
		return Attrs{}, err
	}
	dir, name, err := d.parent(key, false)
	if err != nil {
		return Attrs{}, err
	}
	defer dir.Close()
	var st unix.Stat_t
	err = lstatat(int(dir.Fd()), name, &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = ErrNotFound
	}
	if err != nil {
		return Attrs{}, Wrap("head", key, err)
	}
	return attrsOf(key, &st), nil
}

func attrsOf(key string, st *unix.Stat_t) Attrs {
	mtime := time.Unix(st.Mtim.Unix())
	etag := fmt.Sprintf("%x-%x-%x", st.Ino, st.Size, mtime.UnixNano())
	return Attrs{Key: key, Size: st.Size, ModTime: mtime, ETag: etag}
}

// Delete implements Store. Folders stay: another writer may be about to use
// them, and an empty one is nothing to anybody.
func (d *Dir) Delete(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	dir, name, err := d.parent(key, false)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	err = unlinkat(int(dir.Fd()), name)
	if err == unix.EISDIR {
		return nil // a folder of other keys is no blob
	}
	if err == nil {
		err = syncDir(int(dir.Fd()))
	}
	return Wrap("delete", key, err)
}

// List implements Store.
func (d *Dir) List(ctx context.Context, prefix, after string) iter.Seq2[Attrs, error] {
	return func(yield func(Attrs, error) bool) {
		root, err := d.reopen()
		if err != nil {
			yield(Attrs{}, Wrap("list", d.path, err))
			return
		}
		defer root.Close()
		w := lister{ctx: ctx, prefix: prefix, after: after, yield: yield}
		if _, err := w.walk(root, ""); err != nil {
			yield(Attrs{}, Wrap("list", d.path, err))
		}
	}
}

// lister walks folders in the order of whole keys.
type lister struct {
	ctx           context.Context
	prefix, after string
	yield         func(Attrs, error) bool
}

type entry struct {
	name string // with a final '/' for a folder, which is how keys sort
	stat unix.Stat_t
}

func (w *lister) walk(dir *os.File, base string) (more bool, err error) {
	entries, err := w.entries(dir, base)
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if err := w.ctx.Err(); err != nil {
			return false, err
		}
		key := base + e.name
		if !strings.HasSuffix(e.name, "/") {
			if !w.yield(attrsOf(key, &e.stat), nil) {
				return false, nil
			}
			continue
		}
		if more, err := w.descend(dir, base, e.name); !more || err != nil {
			return false, err
		}
	}
	return true, nil
}

// maxFolders is how many folders lie above a key at most. Each that a listing is in
// takes a descriptor, so somebody else's deeper ones are left alone.
const maxFolders = 16

func (w *lister) descend(dir *os.File, base, name string) (more bool, err error) {
	if strings.Count(base, "/") >= maxFolders {
		return true, nil
	}
	sub, err := openSubdir(int(dir.Fd()), strings.TrimSuffix(name, "/"), base+name)
	if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP {
		return true, nil // went away, or was no folder of ours
	}
	if err != nil {
		return false, err
	}
	defer sub.Close()
	return w.walk(sub, base+name)
}

// entries are the files and folders of one directory that can lead to wanted
// keys, sorted.
func (w *lister) entries(dir *os.File, base string) ([]entry, error) {
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var found []entry
	for _, name := range names {
		if checkName(name) != nil {
			continue
		}
		e := entry{name: name}
		if lstatat(int(dir.Fd()), name, &e.stat) != nil {
			continue
		}
		switch e.stat.Mode & unix.S_IFMT {
		case unix.S_IFREG:
		case unix.S_IFDIR:
			e.name += "/"
		default:
			continue
		}
		if w.wanted(base + e.name) {
			found = append(found, e)
		}
	}
	slices.SortFunc(found, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return found, nil
}

func (w *lister) wanted(key string) bool {
	if strings.HasSuffix(key, "/") {
		return (strings.HasPrefix(key, w.prefix) || strings.HasPrefix(w.prefix, key)) &&
			(key > w.after || strings.HasPrefix(w.after, key))
	}
	return strings.HasPrefix(key, w.prefix) && key > w.after
}

// parent opens the folder a key lies in, making it and those above if create
// is set, and gives the key's last component.
func (d *Dir) parent(key string, create bool) (*os.File, string, error) {
	if err := CheckKey(key); err != nil {
		return nil, "", err
	}
	dir, err := d.reopen()
	if err != nil {
		return nil, "", Wrap("open folder of", key, err)
	}
	parts := strings.Split(key, "/")
	for _, part := range parts[:len(parts)-1] {
		sub, err := stepInto(dir, part, create)
		dir.Close()
		if err == unix.ENOTDIR && create || err == unix.ELOOP {
			return nil, "", fmt.Errorf("open folder of %s: %w: %q is no folder", key, ErrKey, part)
		}
		if err != nil {
			return nil, "", Wrap("open folder of", key, err)
		}
		dir = sub
	}
	return dir, parts[len(parts)-1], nil
}

func stepInto(dir *os.File, name string, create bool) (*os.File, error) {
	fd := int(dir.Fd())
	sub, err := openSubdir(fd, name, path.Join(dir.Name(), name))
	if err != unix.ENOENT || !create {
		return sub, err
	}
	_, err = retryEINTR(func() (int, error) { return 0, unix.Mkdirat(fd, name, dirMode) })
	if err == nil {
		err = syncDir(fd)
	}
	if err != nil && err != unix.EEXIST {
		return nil, err
	}
	return openSubdir(fd, name, path.Join(dir.Name(), name))
}

func createIn(dir *os.File, name string) (*os.File, error) {
	fd, err := retryEINTR(func() (int, error) {
		return unix.Openat(int(dir.Fd()), name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, fileMode)
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path.Join(dir.Name(), name)), nil
}

// exists says whether a plain file has the name. Anything else is no blob, to
// Head and Get too, and gives way.
func exists(dir *os.File, name string) bool {
	var st unix.Stat_t
	return lstatat(int(dir.Fd()), name, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG
}

// removeForeign takes away what is neither a plain file nor a folder with
// something in it: a link, a pipe or an empty folder that somebody put where a
// blob belongs would keep the name from being used for ever.
func removeForeign(dir int, name string) bool {
	var st unix.Stat_t
	if lstatat(dir, name, &st) != nil {
		return false
	}
	flags := 0
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return false
	case unix.S_IFDIR:
		flags = unix.AT_REMOVEDIR
	}
	_, err := retryEINTR(func() (int, error) { return 0, unix.Unlinkat(dir, name, flags) })
	return err == nil
}

func randomHex() string {
	var b [16]byte
	rand.Read(b[:]) // never fails since Go 1.24
	return hex.EncodeToString(b[:])
}
