package main

import (
	"context"
	"errors"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// systemPatience is how long a call of the system may take that a file system
// without a living process can hold up for ever. One that is alive answers within
// seconds on a machine that does far too much at a time.
const systemPatience = 5 * time.Second

// errNoAnswer ends the wait for such a call.
var errNoAnswer = errors.New("no answer")

// bounded runs fn and gives up waiting after d, or with ctx. What it waits for
// cannot be called back: the goroutine, with its one thread, is left to end
// with the answer or with this process. fn must share nothing with the caller.
func bounded[T any](ctx context.Context, d time.Duration, fn func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		value, err := fn()
		answers <- answer{value, err}
	}()
	timer := time.NewTimer(d)
	defer timer.Stop()
	var zero T
	select {
	case a := <-answers:
		return a.value, a.err
	case <-timer.C:
		return zero, errNoAnswer
	case <-ctx.Done():
		return zero, ctx.Err()
	}
}

// pulse is what can be told of the process behind a mount.
type pulse int

const (
	pulseAlive pulse = iota
	pulseDead
	pulseSilent // it is there, perhaps, and does not answer
)

// pulseOf asks the mount at path. Attributes may still come from the kernel's
// cache; statfs is always asked.
func pulseOf(ctx context.Context, path string) pulse {
	_, err := bounded(ctx, systemPatience, func() (none, error) {
		var st unix.Statfs_t
		return none{}, unix.Statfs(path, &st)
	})
	switch {
	case errors.Is(err, syscall.ENOTCONN), errors.Is(err, syscall.ECONNABORTED):
		return pulseDead
	case errors.Is(err, errNoAnswer), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return pulseSilent
	}
	return pulseAlive
}
