package fs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

func TestMain(m *testing.M) {
	switch os.Getenv(clientEnv) {
	case "calls":
		serveClient(os.Stdin, os.Stdout)
	case "daemon":
		runDaemon(os.Args[1], os.Args[2])
	default:
		os.Exit(m.Run())
	}
}

// runDaemon mounts a vault and serves until it is killed.
func runDaemon(home, point string) {
	ctx := context.Background()
	v, err := vaultcore.Open(ctx, home, vaultcore.Credentials{Password: []byte(testPassword)}, vaultcore.Options{KDF: quickKDF})
	if err != nil {
		log.Fatal(err)
	}
	s, err := Mount(ctx, v, Options{MountPoint: point})
	if err != nil {
		log.Fatal(err)
	}
	s.Wait()
}

const testPassword = "correct horse battery staple"

// quickKDF stands in for Argon2id, which no test here is about.
func quickKDF(ctx context.Context, password []byte, p seal.KDFParams) (seal.Key, error) {
	sum := sha256.Sum256(append(p.Salt[:], password...))
	return seal.KeyFromBytes(sum[:])
}

// newVault makes a vault in a temporary directory.
func newVault(t testing.TB) string {
	t.Helper()
	home := filepath.Join(t.TempDir(), "home")
	_, err := vaultcore.Create(context.Background(), vaultcore.CreateOptions{
		Home: home, Password: []byte(testPassword), KDF: quickKDF,
	})
	if err != nil {
		t.Fatal(err)
	}
	return home
}

func openVault(t testing.TB, home string, o vaultcore.Options) *vaultcore.Vault {
	t.Helper()
	o.KDF = quickKDF
	v, err := vaultcore.Open(context.Background(), home, vaultcore.Credentials{Password: []byte(testPassword)}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeVault(t, v) })
	return v
}

func closeVault(t testing.TB, v *vaultcore.Vault) {
	t.Helper()
	if err := v.Close(context.Background()); err != nil {
		t.Errorf("close vault: %v", err)
	}
}

// mounted is a vault with an asset "A", and its mount.
type mounted struct {
	t    testing.TB
	home string
	v    *vaultcore.Vault
	s    *Server
	dir  string // mount point
	log  *logLines
	a    string // directory of asset A in the mount

	ahead  atomic.Int64 // by how much the vault's clock is fast
	panics uint64       // that the test provokes
}

func (m *mounted) now() time.Time { return time.Now().Add(time.Duration(m.ahead.Load())) }

func needFUSE(t testing.TB) {
	t.Helper()
	if err := checkMachine(false); err != nil {
		t.Skipf("mounts cannot be tested here: %v", err)
	}
}

// mountVault makes a vault and mounts it; change may alter the options.
func mountVault(t testing.TB, change func(*mounted, *Options)) *mounted {
	t.Helper()
	needFUSE(t)
	m := &mounted{t: t, home: newVault(t), log: &logLines{}}
	m.v = openVault(t, m.home, vaultcore.Options{Now: m.now})
	if _, err := m.v.AddAsset("A", "item"); err != nil {
		t.Fatal(err)
	}
	m.mount(change)
	return m
}

func (m *mounted) mount(change func(*mounted, *Options)) {
	m.t.Helper()
	m.dir = m.t.TempDir()
	o := Options{MountPoint: m.dir, Log: slog.New(slog.NewTextHandler(m.log, nil))}
	if change != nil {
		change(m, &o)
	}
	s, err := Mount(context.Background(), m.v, o)
	if err != nil {
		m.t.Fatal(err)
	}
	m.s, m.a = s, m.dir+"/A"
	if o.Asset != nil {
		m.a = m.dir
	}
	m.t.Cleanup(m.unmount)
}

// unmount takes the mount away whatever state it is in, and says if it had
// to be forced, or if a request met a panic.
func (m *mounted) unmount() {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), generous)
	defer cancel()
	if err := m.s.Unmount(ctx); err != nil {
		m.t.Errorf("unmount: %v", err)
		if err := m.s.Abort(); err != nil {
			m.t.Errorf("abort: %v", err)
		}
	}
	if e, err := topMount(m.dir); err != nil || e.point != "" {
		m.t.Errorf("still mounted: %+v, %v", e, err)
	}
	if n := m.s.Counters().Panics; n != m.panics {
		m.t.Errorf("%d panics:\n%s", n, m.log.all())
	}
}

// node finds a node by its path from the root of the vault.
func (m *mounted) node(path string) *vaultcore.Node {
	m.t.Helper()
	n := m.v.Root()
	for _, part := range strings.Split(path, "/") {
		var err error
		if n, _, err = m.v.Lookup(n, part); err != nil {
			m.t.Fatalf("%s: %v", path, err)
		}
	}
	return n
}

// put writes a file beside the mount and waits until the kernel knows.
func (m *mounted) put(path, data string) {
	m.t.Helper()
	w, err := m.v.OpenWrite(path, vaultcore.WriteOptions{Parents: true})
	if err != nil {
		m.t.Fatal(err)
	}
	if _, err := w.Write([]byte(data)); err != nil {
		m.t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		m.t.Fatal(err)
	}
	m.settled()
}

// get reads a file beside the mount.
func (m *mounted) get(path string) string {
	m.t.Helper()
	r, err := m.v.OpenRead(path)
	if err != nil {
		m.t.Fatal(err)
	}
	defer r.Close()
	data := make([]byte, r.Size())
	if n, err := r.ReadAt(data, 0); n != len(data) {
		m.t.Fatalf("%s: read %d of %d bytes: %v", path, n, len(data), err)
	}
	return string(data)
}

func (m *mounted) settled() {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), generous)
	defer cancel()
	if err := m.s.Settled(ctx); err != nil {
		m.t.Fatalf("notifications: %v", err)
	}
}

// requests gives what the kernel sent while f ran, but for FORGET and
// RELEASE, which come when they like.
func (m *mounted) requests(f func()) map[string]uint64 {
	before := m.s.Counters().Requests
	f()
	sent := m.s.Counters().Requests
	for k, n := range before {
		if sent[k] -= n; sent[k] == 0 {
			delete(sent, k)
		}
	}
	delete(sent, "FORGET")
	delete(sent, "RELEASE")
	return sent
}

func total(requests map[string]uint64) (n uint64) {
	for _, k := range requests {
		n += k
	}
	return n
}

// eventually waits for something that happens after an answer, as RELEASE.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(generous)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		runtime.Gosched()
		time.Sleep(time.Millisecond)
	}
}

// inClient runs a test of this package in a child that finds the directory
// to work in in its environment.
func inClient(t *testing.T, run, dir string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run="+run, "-test.v", "-test.timeout=120s")
	cmd.Env = append(os.Environ(), clientEnv+"=test", "VAULTDRIVE_FS_TEST_DIR="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, line := range strings.Split(string(out), "\n") {
		if strings.Contains(line, "--- SKIP") || testing.Verbose() {
			t.Log(line)
		}
	}
}

// clientDir is the directory of a test that inClient started; others skip.
func clientDir(t *testing.T) string {
	t.Helper()
	if os.Getenv(clientEnv) != "test" {
		t.Skip("runs in a client of another test")
	}
	return os.Getenv("VAULTDRIVE_FS_TEST_DIR")
}

// logLines collects what a mount logs.
type logLines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logLines) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
