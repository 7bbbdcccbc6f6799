package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// TestMain lets the test binary stand in for the program where it starts
// itself again, and for another user's process.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == vaultcore.KDFChildArg {
		if err := vaultcore.AnswerKDF(os.Stdin, os.Stdout, quickKDF); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) > 1 && os.Args[1] == daemonCommand {
		os.Exit(run(os.Args))
	}
	if len(os.Args) > 1 && os.Args[1] == "vaultdrive-under-test" {
		os.Exit(run(os.Args[1:]))
	}
	if path := os.Getenv("VAULTDRIVE_TEST_DIAL"); path != "" {
		os.Exit(dialAndRead(path))
	}
	dir, err := os.MkdirTemp("", "vaultdrive-model-")
	if err != nil {
		panic(err)
	}
	modelDir = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// quickKDF stands in for Argon2id in the child that derives keys: the commands
// are tested here, and the derivation in vaultcore and with the built program.
func quickKDF(ctx context.Context, password []byte, p seal.KDFParams) (seal.Key, error) {
	if err := errors.Join(ctx.Err(), p.Check()); err != nil {
		return seal.Key{}, err
	}
	if !utf8.Valid(password) {
		return seal.Key{}, seal.ErrPassword
	}
	sum := sha256.Sum256(append(p.Salt[:], password...))
	return seal.KeyFromBytes(sum[:])
}

// dialAndRead exits with 0 if the listener greets, with 3 if it hangs up.
func dialAndRead(path string) int {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return 4
	}
	defer conn.Close()
	if n, _ := conn.Read(make([]byte, 1)); n == 1 {
		return 0
	}
	return 3
}

// TestSocketIsForItsUserOnly connects as ourselves and as another user, who
// has been let through by file modes.
func TestSocketIsForItsUserOnly(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	dir, err := os.MkdirTemp("", "vaultdrive-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "v.sock")
	l, err := listenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket mode %v, %v; want 0600", st.Mode(), err)
	}
	binary := filepath.Join(dir, "test")
	if err := copyExecutable(binary); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{dir: 0o755, path: 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Write([]byte("x"))
			conn.Close()
		}
	}()
	for uid, want := range map[uint32]int{0: 0, 65534: 3} {
		cmd := exec.Command(binary)
		cmd.Dir = "/"
		cmd.Env = []string{"VAULTDRIVE_TEST_DIAL=" + path}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		_ = cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("user %d: exit code %d, want %d", uid, got, want)
		}
	}
}

func copyExecutable(to string) error {
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o755)
}

func TestDialRefusesForeignServer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v.sock")
	l, err := listenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, pid, err := dialSocket(path)
	if err != nil || pid != os.Getpid() {
		t.Fatalf("our own socket: pid %d, %v", pid, err)
	}
	conn.Close()
}

func TestCheckPrivate(t *testing.T) {
	base := t.TempDir()
	good := filepath.Join(base, "good")
	open := filepath.Join(base, "open")
	link := filepath.Join(base, "link")
	file := filepath.Join(base, "file")
	for path, mode := range map[string]os.FileMode{good: 0o700, open: 0o750} {
		if err := errors.Join(os.Mkdir(path, mode), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink(good, link), os.WriteFile(file, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := checkPrivate(good); err != nil {
		t.Errorf("a directory of ours: %v", err)
	}
	for _, path := range []string{open, link, file} {
		if err := checkPrivate(path); !errors.Is(err, errRuntimeDir) {
			t.Errorf("%s: %v, want errRuntimeDir", path, err)
		}
	}
	if err := checkPrivate(filepath.Join(base, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if os.Geteuid() == 0 {
		foreign := filepath.Join(base, "foreign")
		if err := errors.Join(os.Mkdir(foreign, 0o700), os.Chown(foreign, 65534, 65534)); err != nil {
			t.Fatal(err)
		}
		if err := checkPrivate(foreign); !errors.Is(err, errRuntimeDir) {
			t.Errorf("another user's: %v", err)
		}
	}
}

// TestLongSocketPath: a runtime directory may be deeper than sun_path is long.
func TestLongSocketPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("deep/", 30))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "v.sock")
	for range 2 { // the second finds a stale socket
		l, err := listenSocket(path)
		if err != nil {
			t.Fatal(err)
		}
		accepted := make(chan error, 1)
		go func() {
			conn, err := l.Accept()
			if err == nil {
				conn.Close()
			}
			accepted <- err
		}()
		conn, _, err := dialSocket(path)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		if err := errors.Join(<-accepted, l.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if cl, err := dialPath(t.Context(), path); cl != nil || err != nil {
		t.Errorf("a stale socket: %v, %v; want nothing", cl, err)
	}
	if cl, err := dialPath(t.Context(), path+"x"); cl != nil || err != nil {
		t.Errorf("no socket: %v, %v; want nothing", cl, err)
	}
}

func TestClientLooksWhereADaemonMayBe(t *testing.T) {
	base := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", base)
	dir, err := serveDir()
	if err != nil || dir != filepath.Join(base, "vaultdrive") {
		t.Fatalf("serveDir = %s, %v", dir, err)
	}
	if dirs := clientDirs(); len(dirs) == 0 || dirs[0] != dir {
		t.Errorf("clientDirs = %v, want %s first", dirs, dir)
	}
	l, err := listenSocket(filepath.Join(dir, "id"+socketSuffix))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := socketsHere()["id"]; got != filepath.Join(dir, "id"+socketSuffix) {
		t.Errorf("socketsHere: %q", got)
	}
}
