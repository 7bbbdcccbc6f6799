package fs

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

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
	for end := time.Now().Add(generous); m.s.fs.handles.len() > 1 && time.Now().Before(end); time.Sleep(time.Millisecond) {
		// The kernel tells of a close when it has time.
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

// TestMomentsOfUse: what is in use for a moment is unmounted all the same, and what is
// in use for longer is not waited for.
func TestMomentsOfUse(t *testing.T) {
	for what, c := range map[string]struct {
		patience, use time.Duration
		want          error
	}{
		"unused":                         {busyPatience, 0, nil},
		"used by who is just starting":   {busyPatience, 800 * time.Millisecond, nil},
		"used to the end of the time":    {busyPatience, busyPatience, nil},
		"used by a program":              {busyPatience, time.Minute, unix.EBUSY},
		"closed, the kernel is about it": {closePatience, 80 * time.Millisecond, nil},
		"lazily, used by a program":      {closePatience, time.Minute, unix.EBUSY},
	} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			err := trying(t.Context(), c.patience, nil, func() error {
				if time.Since(start) < c.use {
					return unix.EBUSY
				}
				return nil
			})
			if took := time.Since(start); err != c.want || took > c.patience+tryingMost {
				t.Errorf("%s: %v after %v", what, err, took)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		busy := func() error { return unix.EBUSY }
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if err := trying(ctx, time.Hour, nil, busy); err != unix.EBUSY || time.Since(start) != 300*time.Millisecond {
			t.Errorf("nobody waits any more: %v after %v", err, time.Since(start))
		}
		gone := make(chan struct{})
		close(gone)
		if err := trying(t.Context(), time.Hour, gone, busy); err != nil {
			t.Errorf("unmounted by somebody else: %v", err)
		}
	})
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
