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
	calls       calls
	seen        atomic.Bool // the marker was there once; so it must be
}

var _ blob.Store = (*folder)(nil)

func newFolder(path, vault string, enabled bool) *folder {
	f := &folder{path: path, vault: vault, calls: make(calls, maxHung)}
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
	err = fmt.Errorf("directory %s: %w: %w (%v)", f.path, blob.ErrUnavailable, blob.ErrNoStore, err)
	return blob.WithHint(blob.WithSaying(err, "the directory "+f.path+" of the remote is not there"), hintMount)
}

// on runs one call on the directory.
func on[T any](ctx context.Context, f *folder, key string, write bool, late func(T), do func(*blob.Dir) (T, error)) (T, error) {
	if err := blob.CheckKey(key); err != nil {
		var none T
		return none, err
	}
	return aside(ctx, f.calls, func() (T, error) {
		d, err := f.open(ctx, key, write)
		if err != nil {
			var none T
			return none, err
		}
		value, err := do(d)
		return value, errors.Join(err, d.Close())
	}, late)
}

// none is what calls return that have no value.
type none = struct{}

// Put implements blob.Store.
func (f *folder) Put(ctx context.Context, key string, r io.Reader, size int64, createOnly bool) error {
	l := &lent{from: r}
	defer l.takeBack()
	_, err := on(ctx, f, key, true, nil, func(d *blob.Dir) (none, error) {
		return none{}, d.Put(ctx, key, l, size, createOnly)
	})
	return err
}

// Get implements blob.Store. The body stays open without the directory.
func (f *folder) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	body, err := on(ctx, f, key, false, func(late io.ReadCloser) { late.Close() }, func(d *blob.Dir) (io.ReadCloser, error) {
		return d.Get(ctx, key, off, n)
	})
	if err != nil {
		return nil, err
	}
	return &asideBody{ctx: ctx, calls: f.calls, body: body}, nil
}

// Head implements blob.Store.
func (f *folder) Head(ctx context.Context, key string) (blob.Attrs, error) {
	return on(ctx, f, key, false, nil, func(d *blob.Dir) (blob.Attrs, error) { return d.Head(ctx, key) })
}

// listStep is how many entries of a listing are fetched on the side at a time:
// many, because every time the folder is read again.
const listStep = 20_000

// List implements blob.Store.
func (f *folder) List(ctx context.Context, prefix, after string) iter.Seq2[blob.Attrs, error] {
	return func(yield func(blob.Attrs, error) bool) {
		for {
			page, err := aside(ctx, f.calls, func() ([]blob.Attrs, error) { return f.page(ctx, prefix, after) }, nil)
			for _, attrs := range page {
				if !yield(attrs, nil) {
					return
				}
			}
			if err != nil {
				yield(blob.Attrs{}, err)
			}
			if err != nil || len(page) < listStep {
				return
			}
			after = page[len(page)-1].Key
		}
	}
}

func (f *folder) page(ctx context.Context, prefix, after string) (page []blob.Attrs, err error) {
	d, err := f.open(ctx, prefix, false)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	for attrs, err := range d.List(ctx, prefix, after) {
		if err != nil {
			return page, err
		}
		if page = append(page, attrs); len(page) == listStep {
			break
		}
	}
	return page, nil
}

// Delete implements blob.Store.
func (f *folder) Delete(ctx context.Context, key string) error {
	_, err := on(ctx, f, key, true, nil, func(d *blob.Dir) (none, error) { return none{}, d.Delete(ctx, key) })
	return err
}

// Start implements blob.Store.
func (f *folder) Start(ctx context.Context, up blob.Upload) (blob.Upload, error) {
	return on(ctx, f, up.Key, true, nil, func(d *blob.Dir) (blob.Upload, error) { return d.Start(ctx, up) })
}

// Part implements blob.Store.
func (f *folder) Part(ctx context.Context, up blob.Upload, number int, r io.Reader, size int64) (blob.Part, error) {
	l := &lent{from: r}
	defer l.takeBack()
	return on(ctx, f, up.Key, true, nil, func(d *blob.Dir) (blob.Part, error) { return d.Part(ctx, up, number, l, size) })
}

// Finish implements blob.Store.
func (f *folder) Finish(ctx context.Context, up blob.Upload, createOnly bool) error {
	_, err := on(ctx, f, up.Key, true, nil, func(d *blob.Dir) (none, error) { return none{}, d.Finish(ctx, up, createOnly) })
	return err
}
