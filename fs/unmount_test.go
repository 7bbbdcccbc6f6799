package fs

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// TestLazyUnmountServesOpenWriter unmounts under a program that writes: it
// must be able to finish, and what it wrote must be in the vault.
func TestLazyUnmountServesOpenWriter(t *testing.T) {
	m := mountVault(t, nil)
	c := startClient(t)
	fd := c.open(m.a+"/f", os.O_CREATE|os.O_RDWR)
	c.must(call{Op: "pwrite", FD: fd, Data: []byte("before, ")})

	short, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if err := m.s.TryUnmount(short); !errors.Is(err, ErrBusy) {
		t.Fatalf("plain unmount: got %v, want busy", err)
	}
	if got := c.read(m.a + "/f"); got != "before, " {
		t.Errorf("after a refused unmount: %q", got)
	}
	short, cancel = context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	var busy *BusyError
	if err := m.s.Unmount(short); !errors.As(err, &busy) || busy.Handles != 1 || !busy.Lazy {
		t.Fatalf("lazy unmount: got %v (%+v)", err, busy)
	}
	c.fails(call{Op: "stat", Path: m.a}, syscall.ENOENT)
	c.must(call{Op: "pwrite", FD: fd, Off: 8, Data: []byte("after")})
	c.must(call{Op: "close", FD: fd})
	select {
	case <-m.s.Done():
	case <-time.After(generous):
		t.Fatal("still served after the last close")
	}
	if got := m.get("A/f"); got != "before, after" {
		t.Errorf("vault holds %q", got)
	}
}

// TestAbortOfAnEndedConnection: what has ended by itself meanwhile needs no cut, and
// is no error. The last number of all is nobody's.
func TestAbortOfAnEndedConnection(t *testing.T) {
	err := device{minor: 1<<20 - 1}.abort()
	if errors.Is(err, os.ErrNotExist) && os.Geteuid() != 0 || errors.Is(err, syscall.EPERM) {
		t.Skipf("only who may mount the control files sees all connections: %v", err)
	}
	if err != nil {
		t.Error(err)
	}
}

// TestAbortCutsOpenFiles cuts a program off; what it wrote and did not close
// is committed, because the handle ends.
func TestAbortCutsOpenFiles(t *testing.T) {
	m := mountVault(t, nil)
	if list, _ := os.ReadDir(controlDir); len(list) == 0 && os.Geteuid() != 0 {
		t.Skip("a user cannot cut a connection here: the control files are not mounted")
	}
	c := startClient(t)
	fd := c.open(m.a+"/f", os.O_CREATE|os.O_RDWR)
	c.must(call{Op: "pwrite", FD: fd, Data: []byte("not closed")})
	if err := m.s.Abort(); err != nil {
		t.Fatal(err)
	}
	c.fails(call{Op: "pwrite", FD: fd, Data: []byte("x")}, syscall.ENOTCONN)
	if got := m.get("A/f"); got != "not closed" {
		t.Errorf("vault holds %q", got)
	}
	if err := m.s.Unmount(context.Background()); err != nil {
		t.Errorf("unmount after abort: %v", err)
	}
}

// TestForeignUnmount lets somebody else unmount, as a logout does.
func TestForeignUnmount(t *testing.T) {
	m := mountVault(t, nil)
	c := startClient(t)
	c.write(m.a+"/f", "x")
	c.must(call{Op: "mapwrite", Path: m.a + "/f", N: 1, Data: []byte("y")})
	if err := unmountNow(m.dir); err != nil {
		t.Fatal(err)
	}
	m.s.Wait()
	if got := m.get("A/f"); got != "y" {
		t.Errorf("vault holds %q", got)
	}
}

// TestNothingLeft checks descriptors, goroutines and mounts after a mount
// that was used and taken away.
func TestNothingLeft(t *testing.T) {
	needFUSE(t)
	round := func() {
		m := &mounted{t: t, home: newVault(t), log: &logLines{}}
		v, err := vaultcore.Open(context.Background(), m.home, vaultcore.Credentials{Password: []byte(testPassword)}, vaultcore.Options{KDF: quickKDF})
		if err != nil {
			t.Fatal(err)
		}
		m.v = v
		if _, err := v.AddAsset("A", "item"); err != nil {
			t.Fatal(err)
		}
		m.mount(nil)
		c := startClient(t)
		for _, name := range []string{"a", "b", "c"} {
			c.write(m.a+"/"+name, strings.Repeat(name, 100_000))
			c.read(m.a + "/" + name)
		}
		c.must(call{Op: "lsl", Path: m.a})
		c.end()
		eventually(t, "every handle is released", func() bool { return m.s.Counters().Handles == 0 })
		m.unmount()
		closeVault(t, v)
	}
	round() // what is made once for the process is made here
	fds, goroutines := openFiles(t), runtime.NumGoroutine()
	round()
	eventually(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= goroutines })
	var after []string
	defer func() {
		if t.Failed() {
			t.Logf("descriptors left:\n%s", strings.Join(after, "\n"))
		}
	}()
	eventually(t, "descriptors are closed", func() bool { after = openFiles(t); return len(after) <= len(fds) })
}

func openFiles(t *testing.T) (list []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && !strings.HasPrefix(to, "/proc/") {
			list = append(list, to)
		}
	}
	return list
}
