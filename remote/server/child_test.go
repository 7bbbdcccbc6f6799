package server

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/server/metadb"
	"github.com/vaultdrive/vaultdrive/remote/server/metatest"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// A server in a process of its own is this test program, started again.
const childEnv = "VAULTDRIVE_TEST_SERVE"

func TestMain(m *testing.M) {
	if config := os.Getenv(childEnv); config != "" {
		runChild(config)
		return
	}
	metatest.Main(m)
}

// childConfig is what a child serves from.
type childConfig struct {
	Database, Blobs, Temp string
	FileLimit, Quota      int64
	Limits                Limits
}

// headerKill asks a child to kill itself at the n-th step of the request.
const headerKill = "Kill-At"

// steps counts down what happens in a child, to the kill.
var steps atomic.Int64

func step() {
	if steps.Add(-1) == 0 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // nothing more happens in this process
	}
}

// runChild serves until its input ends or it is killed.
func runChild(config string) {
	var c childConfig
	failed := func(err error) {
		if err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
	}
	failed(json.Unmarshal([]byte(config), &c))
	db, err := metadb.Open(context.Background(), c.Database)
	failed(err)
	db.SetClock(func() time.Time { step(); return time.Now() }) // asked as each transaction begins
	dir, err := blob.OpenDir(c.Blobs)
	failed(err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	failed(err)
	s, err := New(context.Background(), Options{DB: db, Blobs: &steppingStore{dir}, Temp: c.Temp, Audience: "http://" + l.Addr().String(), Registration: RegistrationOpen,
		FileLimit: c.FileLimit, Quota: c.Quota, Limits: c.Limits, Log: slog.New(slog.NewJSONHandler(os.Stderr, nil))})
	failed(err)
	h := s.HTTP()
	h.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.ParseInt(r.Header.Get(headerKill), 10, 64) // 0: never
		steps.Store(n)
		s.ServeHTTP(&steppingWriter{w}, r)
	})
	go s.Run(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	os.Stdout.WriteString(l.Addr().String() + "\n")
	failed(h.Serve(l))
}

type steppingWriter struct{ http.ResponseWriter }

func (w *steppingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *steppingWriter) WriteHeader(status int) {
	step()
	w.Header().Set(headerKill, strconv.FormatInt(steps.Load(), 10)) // what is left of it
	w.ResponseWriter.WriteHeader(status)
}

// steppingStore counts what a store begins and what it has done.
type steppingStore struct{ *blob.Dir }

func (s *steppingStore) Put(ctx context.Context, key string, r io.Reader, size int64, createOnly bool) error {
	step()
	defer step()
	return s.Dir.Put(ctx, key, &steppingReader{r: r}, size, createOnly)
}

func (s *steppingStore) Start(ctx context.Context, up blob.Upload) (blob.Upload, error) {
	step()
	defer step()
	return s.Dir.Start(ctx, up)
}

func (s *steppingStore) Part(ctx context.Context, up blob.Upload, n int, r io.Reader, size int64) (blob.Part, error) {
	step()
	defer step()
	return s.Dir.Part(ctx, up, n, &steppingReader{r: r}, size)
}

func (s *steppingStore) Finish(ctx context.Context, up blob.Upload, createOnly bool) error {
	step()
	defer step()
	return s.Dir.Finish(ctx, up, createOnly)
}

// steppingReader is a step in the middle of what is stored.
type steppingReader struct {
	r    io.Reader
	seen bool
}

func (s *steppingReader) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	if !s.seen {
		s.seen = true
		step()
	}
	return n, err
}

// child is such a process, as a world to send requests to.
type child struct {
	*world
	config childConfig
	cmd    *exec.Cmd
	errors *lockedBuffer
}

func newChild(t *testing.T, config childConfig) *child {
	t.Helper()
	c := &child{config: config, errors: &lockedBuffer{}}
	c.world = &world{t: t, client: &http.Client{Transport: &http.Transport{}}, http: &httptest.Server{}}
	c.start()
	t.Cleanup(func() { c.kill() })
	return c
}

func (c *child) start() {
	c.t.Helper()
	self, err := os.Executable()
	must(c.t, err)
	c.cmd = exec.Command(self)
	c.cmd.Env = append(os.Environ(), childEnv+"="+string(mustJSON(c.config)))
	c.cmd.Stderr = c.errors
	_, err = c.cmd.StdinPipe() // ends with this process
	must(c.t, err)
	out, err := c.cmd.StdoutPipe()
	must(c.t, err)
	must(c.t, c.cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		_ = c.cmd.Wait()
		c.t.Fatalf("a server of its own does not start: %v\n%s", err, c.errors.String())
	}
	c.http.URL = "http://" + strings.TrimSpace(line)
	c.clock.Store(time.Now().UnixMilli())
}

// kill ends it, if it has not done so itself.
func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may be gone
	_ = c.cmd.Wait()
	c.client.CloseIdleConnections()
}

// again starts it anew after its end.
func (c *child) again() {
	c.t.Helper()
	c.kill()
	c.start()
}

// peak is the most memory that it has had at a time, in bytes.
func (c *child) peak() int64 {
	c.t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(c.cmd.Process.Pid) + "/status")
	must(c.t, err)
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	must(c.t, err)
	return kib << 10
}

// configs are a child's on SQLite and on PostgreSQL.
func onChildren(t *testing.T, limits Limits, run func(t *testing.T, c *child)) {
	for name, at := range map[string]func(t *testing.T) string{
		"sqlite":   func(t *testing.T) string { return filepath.Join(t.TempDir(), "meta.db") },
		"postgres": func(t *testing.T) string { return metatest.Postgres(t) },
	} {
		t.Run(name, func(t *testing.T) {
			config := childConfig{Database: at(t), Blobs: t.TempDir(), Temp: filepath.Join(t.TempDir(), "tmp"), FileLimit: 1 << 30, Quota: 1 << 30, Limits: limits}
			run(t, newChild(t, config))
		})
	}
}

// opened is a server of this process on what children have left.
func (c *child) opened() *world {
	c.t.Helper()
	w := &world{t: c.t, dir: c.t.TempDir(), logs: &lockedBuffer{}}
	w.clock.Store(time.Now().UnixMilli())
	db, err := metadb.Open(context.Background(), c.config.Database)
	must(c.t, err)
	c.t.Cleanup(func() { must(c.t, db.Close()) })
	db.SetClock(w.now)
	w.blobs, err = blob.OpenDir(c.config.Blobs)
	must(c.t, err)
	must(c.t, os.Symlink(c.config.Blobs, filepath.Join(w.dir, "blobs")))
	w.Server, err = New(context.Background(), Options{DB: db, Blobs: w.blobs, Temp: filepath.Join(w.dir, "tmp"), Audience: "http://x", Now: w.now,
		Log: slog.New(slog.NewJSONHandler(w.logs, nil))})
	must(c.t, err)
	return w
}

// sendKilled asks a child that kills itself at a step; nil if it did.
func (c *child) sendKilled(p *person, n int, method, path string, body any, headers ...string) *answer {
	c.t.Helper()
	req := p.request(method, path, body, append(headers, headerKill, strconv.Itoa(n))...)
	a, err := c.try(req)
	if err != nil {
		return nil
	}
	a.asDocumented(req)
	return a
}
