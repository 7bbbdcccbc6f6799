package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync/atomic"

	"github.com/vaultdrive/vaultdrive/remote/objects"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

const hintMount = "is the directory mounted? Mount it, or plug the disk in"

// folder is a directory that may come and go: a disk, a NAS. Every call opens it
// anew, so that nothing keeps it from being unmounted, and looks for the vault's
// marker there first: what is written into an empty mount point would be lost
// under the next mount, and what an empty one does not have is not deleted.
type folder struct {
	path, vault string
	seen        atomic.Bool // the marker was there once; so it must be
}

var _ blob.Store = (*folder)(nil)

func newFolder(path, vault string, enabled bool) *folder {
	f := &folder{path: path, vault: vault}
	f.seen.Store(enabled)
	return f
}

// open gives the directory if it is the right one for a call on key.
func (f *folder) open(ctx context.Context, key string, write bool) (*blob.Dir, error) {
	d, err := blob.OpenDir(f.path)
	if errors.Is(err, blob.ErrNotFound) {
		return nil, f.away(err)
	}
	if err != nil {
		return nil, err
	}
	if err := f.check(ctx, d, key, write); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (f *folder) check(ctx context.Context, d *blob.Dir, key string, write bool) error {
	if f.vault == "" {
		return nil // somebody looks which vaults there are
	}
	marker := objects.MarkerKey(f.vault)
	_, err := d.Head(ctx, marker)
	if err == nil {
		f.seen.Store(true)
		return nil
	}
	if !errors.Is(err, blob.ErrNotFound) {
		return err
	}
	if f.seen.Load() || write && key != marker && !objects.IsProbe(f.vault, key) {
		return f.away(errors.New("the vault's marker is not there"))
	}
	return nil
}

func (f *folder) away(err error) error {
	return blob.WithHint(fmt.Errorf("directory %s: %w: %w (%v)", f.path, blob.ErrUnavailable, blob.ErrNoStore, err), hintMount)
}

// with runs one call on the directory.
func (f *folder) with(ctx context.Context, key string, write bool, do func(*blob.Dir) error) error {
	if err := blob.CheckKey(key); err != nil {
		return err
	}
	d, err := f.open(ctx, key, write)
	if err != nil {
		return err
	}
	return errors.Join(do(d), d.Close())
}

// Put implements blob.Store.
func (f *folder) Put(ctx context.Context, key string, r io.Reader, size int64, createOnly bool) error {
	return f.with(ctx, key, true, func(d *blob.Dir) error { return d.Put(ctx, key, r, size, createOnly) })
}

// Get implements blob.Store. The body stays open without the directory.
func (f *folder) Get(ctx context.Context, key string, off, n int64) (body io.ReadCloser, err error) {
	err = f.with(ctx, key, false, func(d *blob.Dir) error {
		body, err = d.Get(ctx, key, off, n)
		return err
	})
	return body, err
}

// Head implements blob.Store.
func (f *folder) Head(ctx context.Context, key string) (attrs blob.Attrs, err error) {
	err = f.with(ctx, key, false, func(d *blob.Dir) error {
		attrs, err = d.Head(ctx, key)
		return err
	})
	return attrs, err
}

// List implements blob.Store.
func (f *folder) List(ctx context.Context, prefix, after string) iter.Seq2[blob.Attrs, error] {
	return func(yield func(blob.Attrs, error) bool) {
		d, err := f.open(ctx, prefix, false)
		if err != nil {
			yield(blob.Attrs{}, err)
			return
		}
		defer d.Close()
		for attrs, err := range d.List(ctx, prefix, after) {
			if !yield(attrs, err) {
				return
			}
		}
	}
}

// Delete implements blob.Store.
func (f *folder) Delete(ctx context.Context, key string) error {
	return f.with(ctx, key, true, func(d *blob.Dir) error { return d.Delete(ctx, key) })
}

// Start implements blob.Store.
func (f *folder) Start(ctx context.Context, up blob.Upload) (out blob.Upload, err error) {
	err = f.with(ctx, up.Key, true, func(d *blob.Dir) error {
		out, err = d.Start(ctx, up)
		return err
	})
	return out, err
}

// Part implements blob.Store.
func (f *folder) Part(ctx context.Context, up blob.Upload, number int, r io.Reader, size int64) (part blob.Part, err error) {
	err = f.with(ctx, up.Key, true, func(d *blob.Dir) error {
		part, err = d.Part(ctx, up, number, r, size)
		return err
	})
	return part, err
}

// Finish implements blob.Store.
func (f *folder) Finish(ctx context.Context, up blob.Upload, createOnly bool) error {
	return f.with(ctx, up.Key, true, func(d *blob.Dir) error { return d.Finish(ctx, up, createOnly) })
}
