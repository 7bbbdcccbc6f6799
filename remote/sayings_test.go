package remote_test

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vaultdrive/vaultdrive/remote"
	"github.com/vaultdrive/vaultdrive/remote/s3"
	"github.com/vaultdrive/vaultdrive/remote/syncer/remotetest"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// deaf is an address of this machine where nobody listens, and nobody can: it is
// taken, and nothing more.
func deaf(t *testing.T) string {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", at.(*unix.SockaddrInet4).Port)
}

// TestSayings: whoever cannot reach a remote is told in one sentence which it is and
// what it does; who calls whom for that is in the text of the error.
func TestSayings(t *testing.T) {
	closed := deaf(t)
	cut := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	reset := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
		}
	}))
	denies := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte("<Error><Code>SignatureDoesNotMatch</Code></Error>"))
	}))
	empty := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte("<Error><Code>NoSuchBucket</Code></Error>"))
	}))
	strange := httptest.NewUnstartedServer(http.NotFoundHandler())
	strange.Config.ErrorLog = log.New(io.Discard, "", 0)
	strange.StartTLS()
	for _, s := range []*httptest.Server{cut, reset, denies, empty, strange} {
		t.Cleanup(s.Close)
	}
	away := filepath.Join(t.TempDir(), "my disk")
	bucket := func(url string) string { return "s3://bkt/p?endpoint=" + url }
	host := func(s *httptest.Server) string { return s.Listener.Addr().String() }
	for address, want := range map[string]string{
		"file://" + strings.ReplaceAll(away, " ", "%20"): "the directory " + away + " of the remote is not there",
		bucket("http://" + closed):                       "the remote at " + closed + " cannot be reached: connection refused",
		bucket(cut.URL):                                  "the bucket bkt at " + host(cut) + " does not answer: it closed the connection",
		bucket(reset.URL):                                "the bucket bkt at " + host(reset) + " does not answer: it closed the connection",
		reset.URL:                                        "the server at " + reset.URL + " does not answer: it closed the connection",
		bucket(denies.URL):                               "the bucket bkt at " + host(denies) + " denies access (SignatureDoesNotMatch, status 403)",
		bucket(empty.URL):                                "there is no bucket bkt at " + host(empty),
		bucket(strange.URL):                              "the certificate of the bucket bkt at " + host(strange) + " is not trusted: x509",
		strange.URL:                                      "the certificate of " + strange.URL + " is not trusted: x509",
		"http://" + closed:                               "the remote at " + closed + " cannot be reached: connection refused",
		cut.URL:                                          "the server at " + cut.URL + " does not answer: it closed the connection",
	} {
		if _, err := os.Stat(away); err == nil {
			t.Fatal("something made the directory that is away")
		}
		r, err := remote.Open(address, remote.Options{Vault: remotetest.Vault, S3: s3.Options{AccessKey: "k", SecretKey: "s"}})
		if err != nil {
			t.Fatalf("%s: %v", address, err)
		}
		_, err = r.Changes(t.Context(), nil, 0)
		if got := blob.Saying(err); !strings.HasPrefix(got, want) {
			t.Errorf("%s\nsays  %q\nnot   %q\nof    %v", address, got, want, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}
