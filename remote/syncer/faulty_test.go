package syncer_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
)

// fault says how a call of a remote goes wrong. The zero value lets it pass.
type fault struct {
	err  error  // what the call returns
	late bool   // it does its work first: the answer is lost
	cut  int64  // a body ends in err after so many bytes
	hang bool   // until the context of the call ends
	then func() // after the call has done its work
}

// faulty is a remote that fails where plan says so.
type faulty struct {
	syncer.Remote
	plan func(op, key string) fault // called from any goroutine

	calls atomic.Int64
}

func (f *faulty) around(ctx context.Context, op, key string, do func() error) error {
	f.calls.Add(1)
	w := f.plan(op, key)
	switch {
	case w.hang:
		<-ctx.Done()
		return fmt.Errorf("%w: %w", syncer.ErrUnavailable, ctx.Err())
	case w.then != nil:
		err := do()
		w.then()
		return err
	case w.err == nil || w.cut > 0:
		return do()
	case w.late:
		_ = do() // whatever it said
	}
	return w.err
}

func (f *faulty) Changes(ctx context.Context, cursor []byte, wait time.Duration) (c syncer.Changes, err error) {
	err = f.around(ctx, "Changes", "", func() (err error) {
		c, err = f.Remote.Changes(ctx, cursor, wait)
		return err
	})
	return c, err
}

func (f *faulty) Get(ctx context.Context, key string) (b []byte, err error) {
	err = f.around(ctx, "Get", key, func() (err error) {
		b, err = f.Remote.Get(ctx, key)
		return err
	})
	if err != nil {
		b = nil
	}
	return b, err
}

func (f *faulty) Put(ctx context.Context, key string, content []byte) error {
	return f.around(ctx, "Put", key, func() error { return f.Remote.Put(ctx, key, content) })
}

func (f *faulty) PutBlob(ctx context.Context, up syncer.Upload, content io.ReaderAt) error {
	return f.around(ctx, "PutBlob", up.Blob, func() error { return f.Remote.PutBlob(ctx, up, content) })
}

func (f *faulty) GetBlob(ctx context.Context, blob string, off, n int64) (io.ReadCloser, error) {
	f.calls.Add(1)
	w := f.plan("GetBlob", blob)
	if w.hang {
		<-ctx.Done()
		return nil, fmt.Errorf("%w: %w", syncer.ErrUnavailable, ctx.Err())
	}
	if w.err != nil && w.cut == 0 {
		return nil, w.err
	}
	body, err := f.Remote.GetBlob(ctx, blob, off, n)
	if w.then != nil {
		w.then()
	}
	if err != nil || w.cut == 0 {
		return body, err
	}
	return &cutBody{ReadCloser: body, left: w.cut, err: w.err}, nil
}

func (f *faulty) StatBlobs(ctx context.Context, blobs []string) (sizes []int64, err error) {
	err = f.around(ctx, "StatBlobs", "", func() (err error) {
		sizes, err = f.Remote.StatBlobs(ctx, blobs)
		return err
	})
	return sizes, err
}

func (f *faulty) Settle(ctx context.Context, s syncer.Settlement) (done syncer.Settled, err error) {
	key := strings.Join(s.False, " ")
	err = f.around(ctx, "Settle", key, func() (err error) {
		done, err = f.Remote.Settle(ctx, s)
		return err
	})
	return done, err
}

// cutBody ends in an error.
type cutBody struct {
	io.ReadCloser
	left int64
	err  error
}

func (c *cutBody) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, c.err
	}
	n, err := c.ReadCloser.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}
