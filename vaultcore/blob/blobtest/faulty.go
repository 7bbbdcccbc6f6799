package blobtest

import (
	"context"
	"io"
	"iter"
	"sync/atomic"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// Call is one call of a store.
type Call struct {
	Op  string // the method: "Put", "Get", …
	Key string // for List the prefix
	N   int    // counts all calls, from 1
}

// Fault says how a call goes wrong. The zero value lets it pass.
type Fault struct {
	// Err is what the call returns.
	Err error
	// LostAnswer lets the call do its work first, as a connection does that
	// breaks before the answer.
	LostAnswer bool
	// Cut makes the bytes of Put, Part or Get end in Err after so many of
	// them; the call itself goes through. 0 means no cut.
	Cut int64
}

// Faulty is a Store that fails where Plan says so.
type Faulty struct {
	Store blob.Store
	Plan  func(Call) Fault // called from any goroutine

	calls atomic.Int64
}

var _ blob.Store = (*Faulty)(nil)

func (f *Faulty) plan(op, key string) Fault {
	return f.Plan(Call{Op: op, Key: key, N: int(f.calls.Add(1))})
}

// around runs do, or not, as the fault wants.
func (f Fault) around(do func() error) error {
	if f.Err == nil || f.Cut > 0 {
		return do()
	}
	if f.LostAnswer {
		_ = do() // whatever it said, the answer is lost
	}
	return f.Err
}

func (f Fault) reader(r io.Reader) io.Reader {
	if f.Cut == 0 {
		return r
	}
	return io.MultiReader(io.LimitReader(r, f.Cut), failing{f.Err})
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// Put implements blob.Store.
func (f *Faulty) Put(ctx context.Context, key string, r io.Reader, size int64, createOnly bool) error {
	fault := f.plan("Put", key)
	return fault.around(func() error {
		return f.Store.Put(ctx, key, fault.reader(r), size, createOnly)
	})
}

// Get implements blob.Store.
func (f *Faulty) Get(ctx context.Context, key string, off, n int64) (body io.ReadCloser, err error) {
	fault := f.plan("Get", key)
	err = fault.around(func() error {
		body, err = f.Store.Get(ctx, key, off, n)
		return err
	})
	if err != nil {
		if body != nil {
			body.Close()
		}
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{fault.reader(body), body}, nil
}

// Head implements blob.Store.
func (f *Faulty) Head(ctx context.Context, key string) (attrs blob.Attrs, err error) {
	err = f.plan("Head", key).around(func() error {
		attrs, err = f.Store.Head(ctx, key)
		return err
	})
	return attrs, err
}

// List implements blob.Store. With Cut the listing breaks off after so many
// blobs.
func (f *Faulty) List(ctx context.Context, prefix, after string) iter.Seq2[blob.Attrs, error] {
	fault := f.plan("List", prefix)
	return func(yield func(blob.Attrs, error) bool) {
		if fault.Err != nil && fault.Cut == 0 {
			yield(blob.Attrs{}, fault.Err) // also where there is nothing to list
			return
		}
		left := fault.Cut
		for attrs, err := range f.Store.List(ctx, prefix, after) {
			if fault.Err != nil && left == 0 {
				yield(blob.Attrs{}, fault.Err)
				return
			}
			left--
			if !yield(attrs, err) {
				return
			}
		}
	}
}

// Delete implements blob.Store.
func (f *Faulty) Delete(ctx context.Context, key string) error {
	return f.plan("Delete", key).around(func() error { return f.Store.Delete(ctx, key) })
}

// Start implements blob.Store.
func (f *Faulty) Start(ctx context.Context, up blob.Upload) (out blob.Upload, err error) {
	err = f.plan("Start", up.Key).around(func() error {
		out, err = f.Store.Start(ctx, up)
		return err
	})
	return out, err
}

// Part implements blob.Store.
func (f *Faulty) Part(ctx context.Context, up blob.Upload, number int, r io.Reader, size int64) (part blob.Part, err error) {
	fault := f.plan("Part", up.Key)
	err = fault.around(func() error {
		part, err = f.Store.Part(ctx, up, number, fault.reader(r), size)
		return err
	})
	return part, err
}

// Finish implements blob.Store.
func (f *Faulty) Finish(ctx context.Context, up blob.Upload, createOnly bool) error {
	return f.plan("Finish", up.Key).around(func() error { return f.Store.Finish(ctx, up, createOnly) })
}
