package fs

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

func TestMountPointRefused(t *testing.T) {
	needFUSE(t)
	home := newVault(t)
	v := openVault(t, home, vaultcore.Options{})
	dir := t.TempDir()
	file, full, link := filepath.Join(dir, "file"), filepath.Join(dir, "full"), filepath.Join(dir, "link")
	for _, err := range []error{
		os.WriteFile(file, nil, 0o600),
		os.MkdirAll(filepath.Join(full, "x"), 0o700),
		os.Symlink(filepath.Join(home, "scratch"), link),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		point string
		want  error
	}{
		{filepath.Join(dir, "none"), ErrPointMissing},
		{file, ErrPointNotDir},
		{filepath.Join(file, "below"), ErrPointNotDir},
		{full, ErrPointNotEmpty},
		{home, ErrPointInVault},
		{filepath.Join(home, "scratch"), ErrPointInVault},
		{link, ErrPointInVault},
		{filepath.Dir(home), ErrVaultInPoint},
	} {
		_, err := Mount(context.Background(), v, Options{MountPoint: c.point})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.point, err, c.want)
		}
		if err != nil && !strings.Contains(err.Error(), filepath.Base(c.point)) && c.point != link {
			t.Errorf("%v does not name %s", err, c.point)
		}
	}
}

func TestMountPointBusy(t *testing.T) {
	m := mountVault(t, nil)
	other := openVault(t, newVault(t), vaultcore.Options{})
	if _, err := Mount(context.Background(), other, Options{MountPoint: m.dir}); !errors.Is(err, ErrPointBusy) {
		t.Errorf("got %v, want %v", err, ErrPointBusy)
	}
	c := startClient(t)
	c.write(m.a+"/f", "still served")
}

// TestDeadMountCleared leaves a mount whose daemon is gone and mounts there
// again.
func TestDeadMountCleared(t *testing.T) {
	m := mountVault(t, nil)
	c := startClient(t)
	c.write(m.a+"/f", "content")
	if err := m.s.dev.abort(); err != nil {
		t.Skipf("connections cannot be cut here: %v", err)
	}
	m.s.Wait()
	if e, err := topMount(m.dir); err != nil || !e.ours() {
		t.Fatalf("the dead mount is gone: %+v, %v", e, err)
	}
	s, err := Mount(context.Background(), m.v, Options{MountPoint: m.dir})
	if err != nil {
		t.Fatal(err)
	}
	m.s = s // unmounted by the cleanup
	if got := c.read(m.a + "/f"); got != "content" {
		t.Errorf("reads %q", got)
	}
}

// TestKilledDaemonHangsNobody kills daemons in the moment of mounting. None
// may leave a thread that waits for an answer from itself: the mount has to
// be dead for everybody, and can be cleared.
func TestKilledDaemonHangsNobody(t *testing.T) {
	needFUSE(t)
	home, dir := newVault(t), t.TempDir()
	c := startClient(t)
	for range 5 {
		kill := startDaemon(t, home, dir)
		eventually(t, "the daemon mounts", func() bool {
			m, err := topMount(dir)
			return err == nil && m.ours()
		})
		kill()
		c.fails(call{Op: "statfs", Path: dir}, syscall.ENOTCONN)
		if err := clearDead(context.Background(), dir); err != nil {
			t.Fatal(err)
		}
	}
}

// startDaemon mounts a vault from a process of its own.
func startDaemon(t *testing.T, home, dir string) (kill func()) {
	t.Helper()
	daemon := exec.Command(os.Args[0], home, dir)
	daemon.Env = append(os.Environ(), clientEnv+"=daemon")
	daemon.Stderr = os.Stderr
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		daemon.Process.Kill()
		daemon.Wait()
	})
	t.Cleanup(func() {
		kill()
		if err := clearDead(context.Background(), dir); err != nil {
			t.Error(err)
		}
	})
	return kill
}

func TestMountCancelled(t *testing.T) {
	needFUSE(t)
	v := openVault(t, newVault(t), vaultcore.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	dir := t.TempDir()
	s, err := Mount(ctx, v, Options{MountPoint: dir})
	if err == nil { // the mount answered first
		if err := s.Unmount(context.Background()); err != nil {
			t.Error(err)
		}
	}
	if e, err := topMount(dir); err != nil || e.point != "" {
		t.Errorf("still mounted: %+v, %v", e, err)
	}
}

func TestSealedMountPoint(t *testing.T) {
	m := mountVault(t, func(_ *mounted, o *Options) { o.Seal = true })
	ctx, cancel := context.WithTimeout(context.Background(), generous)
	defer cancel()
	if err := m.s.Unmount(ctx); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(m.dir)
	if err != nil || st.Mode()&0o222 != 0 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if s, err := Mount(ctx, m.v, Options{MountPoint: m.dir, Seal: true}); err != nil {
		t.Errorf("again: %v", err)
	} else {
		m.s = s
	}
}

func TestParseMount(t *testing.T) {
	m, ok := parseMount(`91 27 0:63 / /mnt/a\040b\134c rw,nosuid shared:5 master:1 - fuse.vaultdrive my\040label rw,user_id=0`)
	if !ok || m.point != `/mnt/a b\c` || m.dev != (device{0, 63}) || !m.ours() || !m.isFUSE() {
		t.Errorf("got %+v, %v", m, ok)
	}
	if _, ok := parseMount("nonsense"); ok {
		t.Error("nonsense was parsed")
	}
	if m, _ := parseMount("1 2 8:1 / / rw - ext4 /dev/sda1 rw"); m.ours() || m.isFUSE() {
		t.Errorf("ext4 taken for FUSE: %+v", m)
	}
}

func TestWithin(t *testing.T) {
	for _, c := range []struct {
		path, dir string
		want      bool
	}{{"/a/b", "/a", true}, {"/a", "/a", true}, {"/ab", "/a", false}, {"/a", "/", true}, {"/", "/a", false}} {
		if got := within(c.path, c.dir); got != c.want {
			t.Errorf("within(%s, %s) = %v", c.path, c.dir, got)
		}
	}
}
