package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

const (
	viewPrefix = "view-"
	viewLabel  = "backup"
)

// View is a backup as a vault that can be read. Its rows lie, sealed, in a
// private directory; its contents stay in the file of the backup and are read
// there by offset. Every byte is authenticated when it is read.
type View struct {
	Report *Report
	Home   string // of the vault, to be opened with Options

	file  *os.File
	index map[seal.ID]section
	dir   string
	lock  *os.File
}

type section struct{ off, size int64 }

// OpenView reads headers and log of the backup in file, and looks at no content.
// parent is a private directory on a disk with room for the rows; what killed
// processes left there is removed. The caller keeps file open until Close.
func OpenView(ctx context.Context, file *os.File, o Opening, parent string) (_ *View, err error) {
	removeViews(parent)
	v := &View{file: file}
	if v.dir, v.lock, err = newViewDir(parent); err != nil {
		return nil, err
	}
	if err := v.open(ctx, o); err != nil {
		return nil, errors.Join(err, v.Close())
	}
	return v, nil
}

func (v *View) open(ctx context.Context, o Opening) error {
	v.Home = filepath.Join(v.dir, "vault")
	x, err := rebuild(ctx, io.NewSectionReader(v.file, 0, 1<<62), o, vaultcore.RebuildOptions{Home: v.Home, Label: viewLabel})
	if err != nil {
		return err
	}
	fi, err := v.file.Stat()
	if err == nil && fi.Size() != x.b.Size {
		err = fmt.Errorf("%w: it has %d bytes, and its manifest says %d", ErrLayout, fi.Size(), x.b.Size)
	}
	if err == nil {
		err = x.r.Place(ctx, v.makeIndex(x.b))
	}
	if err == nil {
		err = x.r.Publish(ctx)
	}
	if err != nil {
		_ = x.r.Abort() // the first error is the one to tell
		return err
	}
	v.Report = x.b.Report()
	v.Report.Opened = true
	return nil
}

// makeIndex computes where the contents lie, which the manifest fixes.
func (v *View) makeIndex(b *Reader) (ids []seal.ID) {
	off := memberSize(nameManifest, int64(len(b.raw))) + memberSize(nameSig, seal.BackupSigSize) + memberSize(nameMAC, seal.BackupMACSize)
	v.index = make(map[seal.ID]section)
	for i := range b.Manifest.Files {
		f := &b.Manifest.Files[i]
		next := off + memberSize("", f.Size)
		if f.Kind == seal.FileBlob {
			v.index[f.ID] = section{next - padding(f.Size) - f.Size, f.Size}
			ids = append(ids, f.ID)
		}
		off = next
	}
	return ids
}

// Options are those with which the vault in Home is opened.
func (v *View) Options(o vaultcore.Options) vaultcore.Options {
	o.ReadOnly = true
	o.Overlay = v.find
	return o
}

// find gives the content that a vault would keep in a file of that name.
func (v *View) find(name string) (blob.Section, bool) {
	hex, ok := strings.CutSuffix(name, ".bin")
	if !ok {
		return blob.Section{}, false
	}
	id, err := seal.ParseHex(hex)
	s, found := v.index[id]
	if err != nil || !found {
		return blob.Section{}, false
	}
	return blob.Section{File: v.file, Off: s.off, Size: s.size}, true
}

// Close removes the directory. The vault has been closed before.
func (v *View) Close() error {
	if v.dir == "" {
		return nil
	}
	err := errors.Join(os.RemoveAll(v.dir), v.lock.Close())
	v.dir = ""
	return err
}

// newViewDir makes a directory, locked as long as we live.
func newViewDir(parent string) (string, *os.File, error) {
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return "", nil, err
	}
	dir := filepath.Join(parent, viewPrefix+seal.NewBlobID().Hex())
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", nil, err
	}
	lock, err := lockViewDir(dir)
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	return dir, lock, nil
}

func lockViewDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// removeViews clears away what killed processes left. One that is just being made
// is empty and may not have its lock yet.
func removeViews(parent string) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return // it is in nobody's way
	}
	for _, e := range entries {
		dir := filepath.Join(parent, e.Name())
		if !strings.HasPrefix(e.Name(), viewPrefix) || !e.IsDir() || isEmpty(dir) {
			continue
		}
		if lock, err := lockViewDir(dir); err == nil {
			_ = os.RemoveAll(dir) // what is left is tried again next time
			lock.Close()
		}
	}
}

func isEmpty(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) == 0
}
