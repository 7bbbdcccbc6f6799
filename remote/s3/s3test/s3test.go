// Package s3test starts S3 servers for tests: a fake in this process, and a
// real gateway where its program is found.
//
// It refuses to know what is tested. Only tests import it.
package s3test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"golang.org/x/sys/unix"

	"github.com/vaultdrive/vaultdrive/remote/s3"
)

// Bucket is the one that both servers have.
const Bucket = "vaults"

// The only account of the servers here.
const (
	access = "test"
	secret = "testtest"
)

// Fake starts a server in memory. wrap, if not nil, stands before it and may
// answer in its place.
func Fake(t *testing.T, wrap func(http.Handler) http.Handler) s3.Options {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket(Bucket); err != nil {
		t.Fatal(err)
	}
	handler := gofakes3.New(backend, gofakes3.WithTimeSkewLimit(0)).Server()
	if wrap != nil {
		handler = wrap(handler)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return options(server.URL)
}

func options(endpoint string) s3.Options {
	return s3.Options{Bucket: Bucket, Endpoint: endpoint, Region: "us-east-1", Style: "path", AccessKey: access, SecretKey: secret}
}

// Open opens a store below a prefix of its own, so that tests share a server.
func Open(t *testing.T, o s3.Options) *s3.Store {
	t.Helper()
	o.Prefix = fmt.Sprintf("t%d", time.Now().UnixNano())
	s, err := s3.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// Gateway is a running versitygw over a directory.
type Gateway struct {
	Options s3.Options
	Dir     string // the bucket's objects as files
	program string
	address string
	cmd     *exec.Cmd
}

// StartGateway starts versitygw over a temporary directory, or skips the test
// and says why. VERSITYGW names the program; else it is looked for in PATH.
func StartGateway(t *testing.T) *Gateway {
	t.Helper()
	program := os.Getenv("VERSITYGW")
	if program == "" {
		program, _ = exec.LookPath("versitygw")
	}
	if program == "" {
		t.Skip("no versitygw: go install github.com/versity/versitygw/cmd/versitygw@v1.8.0, or set VERSITYGW")
	}
	root := t.TempDir()
	if err := unix.Setxattr(root, "user.vaultdrive", []byte("1"), 0); err != nil {
		t.Skipf("versitygw keeps metadata in extended attributes, which %s has not: %v", root, err)
	}
	g := &Gateway{Dir: filepath.Join(root, Bucket), program: program, address: Host() + ":7070"}
	if err := os.Mkdir(g.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	g.Options = options("http://" + g.address)
	g.Start(t)
	t.Cleanup(g.Kill)
	return g
}

// Host gives an address of this machine that nobody else uses: what is free there
// stays free until who was given it listens, and while it is started again. At
// 127.0.0.1 any connection of any test may take a port meanwhile.
func Host() string {
	return fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))
}

// Start runs the program again after Kill, and waits until it answers.
func (g *Gateway) Start(t *testing.T) {
	t.Helper()
	g.cmd = exec.Command(g.program, "--port", g.address, "--keep-alive", "--quiet", "posix", filepath.Dir(g.Dir))
	g.cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+access, "ROOT_SECRET_KEY="+secret)
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out := &tail{}
	g.cmd.Stdout, g.cmd.Stderr = out, out
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(5 * time.Minute); ; {
		conn, err := net.Dial("tcp", g.address)
		if err == nil {
			// Listening is not answering yet.
			fmt.Fprintf(conn, "GET / HTTP/1.0\r\n\r\n")
			_, err = bufio.NewReader(conn).ReadByte()
			conn.Close()
			if err == nil {
				return
			}
		}
		if time.Now().After(end) {
			g.Kill()
			t.Fatalf("versitygw does not answer: %s", out)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Kill ends the program as a power cut would.
func (g *Gateway) Kill() {
	if g.cmd != nil {
		_ = g.cmd.Process.Kill()
		_ = g.cmd.Wait()
		g.cmd = nil
	}
}

// tail keeps the first bytes that were written.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (w *tail) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.text) < 4096 {
		w.text = append(w.text, p...)
	}
	return len(p), nil
}

func (w *tail) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.text)
}
