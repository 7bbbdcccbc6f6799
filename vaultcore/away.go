package vaultcore

import (
	"errors"
	"fmt"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// interruptGrace is how long a wait for a network goes on after a signal: any
// signal interrupts, and EINTR reaches programs that do not expect it.
const interruptGrace = 2 * time.Second

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
	until  time.Time
	cancel <-chan struct{} // closed when the program was interrupted; nil: never
}

func (s *store) patience(cancel <-chan struct{}) patience {
	return patience{until: time.Now().Add(s.limits.FetchWait), cancel: cancel}
}

// wait returns nil when done is closed. Errors: ErrTimeout, ErrInterrupted.
func (p *patience) wait(done <-chan struct{}) error {
	timer := time.NewTimer(time.Until(p.until))
	defer timer.Stop()
	cancel := p.cancel
	var grace <-chan time.Time
	for {
		select {
		case <-done:
			return nil
		case <-cancel:
			cancel = nil
			t := time.NewTimer(interruptGrace)
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
func (s *store) again(err error, cancel <-chan struct{}, op func() error) error {
	p := s.patience(cancel)
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
	err = v.store.again(read(), nil, read)
	return n, err
}
