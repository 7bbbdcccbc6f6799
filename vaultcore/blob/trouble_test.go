package blob_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

func TestNoConnection(t *testing.T) {
	addr := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}
	for want, err := range map[string]error{
		"the remote cannot be reached: no host no.such.host is known":                          &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "no.such.host", Server: "10.1.1.1:53", IsNotFound: true}},
		"the remote cannot be reached: the name host cannot be looked up (server misbehaving)": &net.DNSError{Err: "server misbehaving", Name: "host"},
		"the remote at 127.0.0.1:1 cannot be reached: connection refused":                      fmt.Errorf("post: %w", &net.OpError{Op: "dial", Net: "tcp", Addr: addr, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}),
		"the remote at 127.0.0.1:1 cannot be reached: i/o timeout":                             &net.OpError{Op: "dial", Net: "tcp", Addr: addr, Err: os.ErrDeadlineExceeded},
	} {
		if got := blob.NoConnection(err); got != want {
			t.Errorf("%v is said as %q, not %q", err, got, want)
		}
	}
	if got := blob.NoConnection(&net.OpError{Op: "read", Net: "tcp", Addr: addr, Err: syscall.ECONNRESET}); got != "" {
		t.Errorf("a connection that broke is said as %q", got)
	}
}

// A sentence and a hint hold through layers, in whatever order they were given.
func TestSaying(t *testing.T) {
	cause := errors.New("cause")
	for _, err := range []error{
		fmt.Errorf("a: %w", blob.WithHint(blob.WithSaying(cause, "said"), "hint")),
		fmt.Errorf("a: %w", blob.WithSaying(blob.WithHint(cause, "hint"), "said")),
	} {
		if blob.Saying(err) != "said" || blob.Hint(err) != "hint" || !errors.Is(err, cause) || err.Error() != "a: cause" {
			t.Errorf("%v says %q, hint %q", err, blob.Saying(err), blob.Hint(err))
		}
	}
	if blob.WithSaying(nil, "said") != nil || blob.Saying(blob.WithSaying(cause, "")) != "" {
		t.Error("nothing became something")
	}
}
