package remote

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob/blobtest"
)

func TestFolderIsAStore(t *testing.T) {
	blobtest.Run(t, func(t *testing.T) blob.Store { return newFolder(t.TempDir(), "", false) }, 100)
}

// A call that the kernel holds holds its caller until the deadline only, and
// what it brings back later is taken care of.
func TestHungCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := make(calls, 2)
		release := make(chan struct{})
		var late sync.WaitGroup
		late.Add(2)
		for range 3 { // the third finds no place any more
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			start := time.Now()
			_, err := aside(ctx, c, func() (int, error) { <-release; return 7, nil }, func(int) { late.Done() })
			if !errors.Is(err, blob.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 11*time.Second {
				t.Errorf("%v after %v", err, time.Since(start))
			}
			cancel()
		}
		close(release)
		late.Wait()
		synctest.Wait()
		if n, err := aside(t.Context(), c, func() (int, error) { return 3, nil }, nil); n != 3 || err != nil {
			t.Errorf("afterwards: %d, %v", n, err)
		}
	})
}

type hungBody struct{ release chan struct{} }

func (h hungBody) Read(p []byte) (int, error) {
	<-h.release
	return copy(p, bytes.Repeat([]byte("x"), len(p))), nil
}

func (h hungBody) Close() error { return nil }

func TestHungBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		h := hungBody{make(chan struct{})}
		b := &asideBody{ctx: ctx, calls: make(calls, 1), body: h}
		p := make([]byte, 10)
		for range 2 {
			if n, err := b.Read(p); n != 0 || !errors.Is(err, blob.ErrUnavailable) {
				t.Errorf("%d, %v", n, err)
			}
		}
		b.Close()
		close(h.release)
		synctest.Wait()
		if !bytes.Equal(p, make([]byte, 10)) {
			t.Error("a late read wrote into its caller's memory")
		}
	})
}

func TestLentReader(t *testing.T) {
	l := &lent{from: bytes.NewReader([]byte("abc"))}
	if b, err := io.ReadAll(l); string(b) != "abc" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	l.takeBack()
	if _, err := l.Read(make([]byte, 1)); err == nil {
		t.Error("a reader that was taken back still reads")
	}
}
