package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// A network file system whose server is away holds every call in the kernel,
// whatever any context says. So calls run on the side, and one that does not
// come back is left there: at most maxHung of them, then further ones wait for
// their own deadline only.
const (
	maxHung   = 64
	hangGrace = time.Second // for calls that end by themselves with their context
	bodyStep  = 256 << 10   // bytes read at a time
)

// calls counts what is on its way to one directory.
type calls chan struct{}

type outcome[T any] struct {
	value T
	err   error
}

// aside runs do and waits for it as long as the context allows, and a moment
// more. What comes back too late goes to late, which may be nil.
func aside[T any](ctx context.Context, c calls, do func() (T, error), late func(T)) (T, error) {
	var none T
	select {
	case c <- struct{}{}:
	case <-ctx.Done():
		return none, hung(ctx)
	}
	done := make(chan outcome[T])
	left := make(chan struct{})
	go func() {
		defer func() { <-c }()
		value, err := do()
		select {
		case done <- outcome[T]{value, err}:
		case <-left:
			if err == nil && late != nil {
				late(value)
			}
		}
	}()
	select {
	case o := <-done:
		return o.value, o.err
	case <-ctx.Done():
	}
	timer := time.NewTimer(hangGrace)
	defer timer.Stop()
	select {
	case o := <-done:
		return o.value, o.err
	case <-timer.C:
		close(left)
		return none, hung(ctx)
	}
}

func hung(ctx context.Context) error {
	return blob.WithHint(fmt.Errorf("the directory does not answer: %w: %w", blob.ErrUnavailable, ctx.Err()), "is the server of that directory reachable?")
}

// lent is a reader that can be taken back from a call that was left behind.
type lent struct {
	mu   sync.Mutex
	from io.Reader
}

func (l *lent) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.from == nil {
		return 0, errors.New("the call is over")
	}
	return l.from.Read(p)
}

func (l *lent) takeBack() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.from = nil
}

// asideBody reads on the side, into memory of its own.
type asideBody struct {
	ctx   context.Context
	calls calls
	body  io.ReadCloser
	buf   []byte
	lost  bool // a read was left behind; it will close the body
}

func (b *asideBody) Read(p []byte) (int, error) {
	if b.lost {
		return 0, hung(b.ctx)
	}
	if b.buf == nil {
		b.buf = make([]byte, min(max(len(p), 4<<10), bodyStep))
	}
	own := b.buf[:min(len(p), len(b.buf))]
	var readErr error
	n, err := aside(b.ctx, b.calls, func() (int, error) {
		n, err := b.body.Read(own)
		if err != nil && n == 0 {
			return 0, err
		}
		readErr = err
		return n, nil
	}, nil)
	if errors.Is(err, blob.ErrUnavailable) && b.ctx.Err() != nil {
		b.lost = true // its memory belongs to that read now
		return 0, err
	}
	if err == nil {
		err = readErr
	}
	return copy(p, own[:n]), err
}

func (b *asideBody) Close() error {
	if b.lost {
		go b.body.Close() // may wait in the kernel as well
		return nil
	}
	return b.body.Close()
}
