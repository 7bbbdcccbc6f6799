package vaultcore

import (
	"errors"
	"fmt"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// interruptGrace is how long a wait for a network goes on after a signal that
// does not end the program: any signal interrupts, and EINTR reaches programs
// that do not expect it.
const interruptGrace = 2 * time.Second

// Caller is who an operation is done for, as far as that ends a wait for a
// network before Limits.FetchWait does. The zero value waits that long.
type Caller struct {
	// Interrupted is closed when a signal has come. A wait goes on for two seconds
	// then, and ends with ErrInterrupted. nil: never.
	Interrupted <-chan struct{}
	// Killed says, once Interrupted is closed, whether the signal ends Thread; then
	// the wait ends at once. nil: it does not.
	Killed func(thread uint32) bool
	Thread uint32
	// Gone is closed when nobody waits for a network any more: all that does ends
	// at once, with ErrTimeout. nil: never.
	Gone <-chan struct{}
}

func (c *Caller) killed() bool { return c.Killed != nil && c.Killed(c.Thread) }

func errGone() error {
	return fmt.Errorf("%w: the content is at the remote only, and the drive is being taken away", ErrTimeout)
}

// awayError says that bytes are needed which are at a remote only. Nobody waits
// for them where it comes up, with locks held: whoever holds none any more has
// them brought and does its work again.
type awayError struct {
	c      *content
	off, n int64 // plaintext
}

func (e *awayError) Error() string { return errElsewhere().Error() }

// Unwrap makes it what who cannot wait answers.
func (e *awayError) Unwrap() error { return errElsewhere() }

func errElsewhere() error {
	return fmt.Errorf("%w: the content is not here: %w", ErrTimeout, blob.ErrUnavailable)
}

// patience is how long one file operation waits for a network, all its waits
// together.
type patience struct {
	until time.Time
	grace time.Duration // after a signal
	who   Caller
}

func (s *store) patience(who Caller) patience {
	return patience{until: time.Now().Add(s.limits.FetchWait), grace: interruptGrace, who: who}
}

// wait returns nil when done is closed. Errors: ErrTimeout, ErrInterrupted.
func (p *patience) wait(done <-chan struct{}) error {
	timer := time.NewTimer(time.Until(p.until))
	defer timer.Stop()
	interrupted := p.who.Interrupted
	var grace <-chan time.Time
	for {
		select {
		case <-done:
			return nil
		case <-p.who.Gone:
			return errGone()
		case <-interrupted:
			if p.who.killed() {
				return ErrInterrupted
			}
			interrupted = nil
			t := time.NewTimer(p.grace)
			defer t.Stop()
			grace = t.C
		case <-grace:
			return ErrInterrupted
		case <-timer.C:
			return fmt.Errorf("%w: the content is at the remote only", ErrTimeout)
		}
	}
}

// again has what op missed brought here and does op again, until it misses
// nothing or patience ends. err is what op has answered; no lock is held.
func (s *store) again(err error, who Caller, op func() error) error {
	p := s.patience(who)
	for {
		var away *awayError
		if !errors.As(err, &away) {
			return err
		}
		if err := s.bring(&p, away); err != nil {
			return err
		}
		err = op()
	}
}

// readAnywhere reads a content that is in use, wherever it is.
func (v *Vault) readAnywhere(c *content, dst []byte, off int64) (n int, err error) {
	read := func() (err error) {
		n, err = c.readAt(v.store, dst, off)
		return err
	}
	err = v.store.again(read(), Caller{}, read)
	return n, err
}
