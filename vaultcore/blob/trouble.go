package blob

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// What else can be the matter with a store that is somewhere else. They come in
// the chain of an error beside ErrUnavailable where waiting may help.
var (
	// ErrDenied: the store knows us not, or lets us not do this. Asking again
	// changes nothing until somebody changes credentials or permissions.
	ErrDenied = errors.New("the blob store denies access")
	// ErrNoStore: the place itself is missing: no such bucket, a directory that
	// is not mounted. Always with ErrUnavailable: nothing may be concluded about
	// any blob.
	ErrNoStore = errors.New("the blob store is not there")
	// ErrUntrusted: who answers cannot prove to be the store. With ErrUnavailable.
	ErrUntrusted = errors.New("the certificate is not trusted")
	// ErrClock: our clock and the store's differ too much for it to listen.
	ErrClock = errors.New("the clocks of this machine and of the blob store differ")
	// ErrTooLarge: more bytes than the store takes in one blob.
	ErrTooLarge = errors.New("too large for the blob store")
	// ErrChanged: a write that was to replace a certain content met another.
	ErrChanged = errors.New("the blob has changed meanwhile")
)

// RetryError is an answer that says when to come back. It is ErrUnavailable.
type RetryError struct {
	After time.Duration // from now
	Err   error
}

func (e *RetryError) Error() string {
	return fmt.Sprintf("%v (again in %v)", e.Err, e.After.Round(time.Second))
}

// Unwrap gives the kind and the cause.
func (e *RetryError) Unwrap() []error { return []error{ErrUnavailable, e.Err} }

// RetryAfter says how long an error asks to wait; 0 if it does not say.
func RetryAfter(err error) time.Duration {
	var retry *RetryError
	if errors.As(err, &retry) {
		return retry.After
	}
	return 0
}

// hinted is an error that knows what to do about it.
type hinted struct {
	error
	hint string
}

func (h *hinted) Unwrap() error { return h.error }

// WithHint adds to an error what a person can do about it. nil stays nil.
func WithHint(err error, hint string) error {
	if err == nil || hint == "" {
		return err
	}
	return &hinted{err, hint}
}

// Hint is what an error says a person can do about it; "" if it says nothing.
func Hint(err error) string {
	var h *hinted
	if errors.As(err, &h) {
		return h.hint
	}
	return ""
}

// plain is an error that knows the one sentence it is for a person.
type plain struct {
	error
	said string
}

func (p *plain) Unwrap() error { return p.error }

// WithSaying gives an error the sentence that a person is shown in the place of its
// text, which is for the log: there each layer says where it was. nil stays nil.
func WithSaying(err error, said string) error {
	if err == nil || said == "" {
		return err
	}
	return &plain{err, said}
}

// Saying is the sentence an error is for a person; "" if it has none but its text.
func Saying(err error) string {
	var p *plain
	if errors.As(err, &p) {
		return p.said
	}
	return ""
}

// NoConnection is the sentence for an error of the network that ended before anybody
// could be asked; "" for any other error.
func NoConnection(err error) string {
	var name *net.DNSError
	if errors.As(err, &name) {
		if name.IsNotFound {
			return fmt.Sprintf("the remote cannot be reached: no host %s is known", name.Name)
		}
		return fmt.Sprintf("the remote cannot be reached: the name %s cannot be looked up (%s)", name.Name, name.Err)
	}
	var call *net.OpError
	if !errors.As(err, &call) || call.Op != "dial" || call.Addr == nil {
		return ""
	}
	why := call.Err
	var system *os.SyscallError
	if errors.As(why, &system) {
		why = system.Err
	}
	return fmt.Sprintf("the remote at %s cannot be reached: %v", call.Addr, why)
}

// NoAnswer says for a person why a network brought no answer, or not all of one; any
// other error says it itself.
func NoAnswer(err error) string {
	for _, ended := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED} {
		if errors.Is(err, ended) {
			return "it closed the connection"
		}
	}
	var call net.Error
	if errors.As(err, &call) && call.Timeout() {
		return "no answer in time"
	}
	return err.Error()
}
