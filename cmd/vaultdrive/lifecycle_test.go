package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zalando/go-keyring"
)

// mounted mounts the vault in the background and gives its process and root.
func (p *place) mounted(options ...string) (pid int, root string) {
	p.t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		p.t.Skip("no /dev/fuse")
	}
	root = filepath.Join(p.dir, "mnt")
	if err := os.Mkdir(root, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = unmountDirect(context.Background(), root, true) })
	p.ok(append(append([]string{"mount"}, options...), root)...)
	return p.status().PID, root
}

func (p *place) status() (view statusView) {
	p.t.Helper()
	if err := json.Unmarshal([]byte(p.ok("status", "--json")), &view); err != nil {
		p.t.Fatal(err)
	}
	return view
}

// gone reports whether a process that is no child of ours has ended.
func gone(pid int) bool {
	for range 30_000 { // five minutes
		if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
			return true
		}
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

func TestMountAndUmount(t *testing.T) {
	p := newPlace(t)
	pid, root := p.mounted()
	view := p.status()
	if view.State != "mounted" || view.MountPoint != root || view.Alarms == nil {
		t.Errorf("status: %+v", view)
	}
	if err := errors.Join(os.Mkdir(filepath.Join(root, "A"), 0o700), os.WriteFile(filepath.Join(root, "A", "f"), []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if out := p.ok("ls", "-R"); out != "A/\nA/f\n" {
		t.Errorf("ls beside the mount: %q", out)
	}
	p.input = "new"
	p.ok("put", "-f", "-", "A/f")
	if b, err := os.ReadFile(filepath.Join(root, "A", "f")); string(b) != "new" {
		t.Errorf("read after put: %q, %v", b, err)
	}
	if code, _, said := p.run("mount", root); code != 6 {
		t.Errorf("second mount: exit code %d, %s", code, said)
	}
	p.ok("umount", root)
	if !gone(pid) {
		t.Error("umount returned before the process had ended")
	}
	if st, err := os.Stat(root); err != nil || st.Mode().Perm() != 0o555 {
		t.Errorf("mount point afterwards: %v, %v; want 0555", st.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(p.dir, "run", "vaultdrive", "*")); len(left) > 0 {
		t.Errorf("left in the runtime directory: %q", left)
	}
	for _, args := range [][]string{{"umount", root}, {"umount"}} {
		if code, _, said := p.run(args...); code != 44 {
			t.Errorf("%q again: exit code %d, %s; want 44", args, code, said)
		}
	}
	p.mounted() // the next mount finds it writable enough
	p.ok("lock")
}

func TestBusyMounts(t *testing.T) {
	p := newPlace(t)
	p.ok("asset", "add", "A")
	pid, root := p.mounted()
	sleeper := exec.Command("sleep", "3600")
	sleeper.Dir = filepath.Join(root, "A")
	if err := sleeper.Start(); err != nil {
		t.Skipf("no sleep: %v", err)
	}
	t.Cleanup(func() { sleeper.Process.Kill(); sleeper.Wait() })
	code, _, said := p.run("umount", root)
	if code != 43 || !strings.Contains(said, "("+strconv.Itoa(sleeper.Process.Pid)+")") {
		t.Errorf("busy: exit code %d, %s; want 43 and the process", code, said)
	}
	if view := p.status(); view.State != "mounted" || view.PID != pid {
		t.Errorf("after a refused umount: %+v", view)
	}
	if code, _, said := p.run("lock"); code != 43 || !strings.Contains(said, "lock --force") {
		t.Errorf("busy lock: exit code %d, %s; want 43 and lock --force", code, said)
	}
	p.ok("umount", "--lazy", root)
	if view := p.status(); view.State != "unmounting" || view.PID != pid {
		t.Errorf("after umount --lazy: state %q", view.State)
	}
	p.ok("lock", "--force")
	if !gone(pid) {
		t.Error("lock --force returned before the process had ended")
	}
}

// TestOpenFileAtTheEnd: what was written before the process was told to end is
// kept, by whatever way it is told.
func TestOpenFileAtTheEnd(t *testing.T) {
	for name, end := range map[string]func(p *place, pid int){
		"lock": func(p *place, _ int) { p.ok("lock", "--force") },
		"signals": func(p *place, pid int) {
			syscall.Kill(pid, syscall.SIGTERM)
			time.Sleep(300 * time.Millisecond)
			syscall.Kill(pid, syscall.SIGTERM)
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			p.ok("asset", "add", "A")
			pid, root := p.mounted()
			f, err := os.Create(filepath.Join(root, "A", "open"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteString("written"); err != nil {
				t.Fatal(err)
			}
			end(p, pid)
			if !gone(pid) {
				t.Fatal("the process goes on")
			}
			if out := p.ok("get", "A/open", "-"); out != "written" {
				t.Errorf("kept: %q", out)
			}
		})
	}
}

func TestKilledMountIsCleared(t *testing.T) {
	p := newPlace(t)
	p.ok("asset", "add", "A")
	pid, root := p.mounted()
	if err := os.WriteFile(filepath.Join(root, "A", "f"), []byte("closed"), 0o600); err != nil {
		t.Fatal(err)
	}
	syscall.Kill(pid, syscall.SIGKILL)
	if !gone(pid) {
		t.Fatal("not killed")
	}
	if out := p.ok("status", "--json"); !strings.Contains(out, `"state": "dead"`) || !strings.Contains(out, `"mountpoint": "`+root+`"`) {
		t.Errorf("status after the kill: %s", out)
	}
	pid, _ = p.mounted()
	if b, err := os.ReadFile(filepath.Join(root, "A", "f")); string(b) != "closed" {
		t.Errorf("closed before the kill: %q, %v", b, err)
	}
	syscall.Kill(pid, syscall.SIGKILL)
	if !gone(pid) {
		t.Fatal("not killed")
	}
	p.ok("umount", root)
	if _, covered, err := mountAt(root); covered || err != nil {
		t.Errorf("still mounted: %v, %v", covered, err)
	}
}

// TestNextMountKeepsItsSocket: a mount that waits for one that ends has its socket at
// the same place, from the moment it has the vault. The one that ends has taken its own
// away by then.
func TestNextMountKeepsItsSocket(t *testing.T) {
	p := newPlace(t)
	home, err := selectVault(p.home + "/")
	if err != nil {
		t.Fatal(err)
	}
	open := func() *daemon {
		t.Helper()
		source := passwordSource{fd: -1}
		creds, err := source.credentials(t.Context(), &ui{err: io.Discard}, home)
		if err != nil {
			t.Fatal(err)
		}
		d := &daemon{home: home, log: slog.New(slog.DiscardHandler)}
		if err := errors.Join(d.openVault(t.Context(), creds), d.listen(), writeRecord(d.socket, mountRecord{Vault: home.id})); err != nil {
			t.Fatal(err)
		}
		return d
	}
	left := func() int {
		names, err := filepath.Glob(filepath.Join(p.dir, "run", "vaultdrive", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	ending := open()
	if left() != 2 {
		t.Fatalf("%d files of a mount, want its socket and its record", left())
	}
	if err := ending.closeVault(); err != nil || left() != 0 {
		t.Errorf("the vault is free, and %d files of the mount that had it are still to be removed, %v", left(), err)
	}
	next := open()
	if err := errors.Join(ending.listener.Close(), next.closeVault(), next.listener.Close()); err != nil {
		t.Error(err)
	}
}

func TestMountAndUmountBySomebodyElse(t *testing.T) {
	p := newPlace(t)
	pid, root := p.mounted()
	if err := unmountDirect(p.t.Context(), root, false); err != nil {
		t.Fatal(err)
	}
	if !gone(pid) {
		t.Error("the process goes on after a foreign unmount")
	}
}

func TestMountRefusals(t *testing.T) {
	p := newPlace(t)
	full := filepath.Join(p.dir, "full")
	if err := os.MkdirAll(filepath.Join(full, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	wrong := p.file("wrong", "another password\n")
	empty := filepath.Join(p.dir, "empty")
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		code int
		args []string
	}{
		"missing":        {40, []string{"mount", filepath.Join(p.dir, "none")}},
		"not empty":      {40, []string{"mount", full}},
		"covers vault":   {40, []string{"mount", p.dir}},
		"wrong password": {3, []string{"mount", "--password-file", wrong, empty}},
		"no vault":       {5, []string{"mount", "--vault", full + "/", empty}},
		"no asset":       {20, []string{"mount", "--asset", "None", empty}},
	} {
		code, out, said := p.run(test.args...)
		if code != test.code || out != "" || !strings.HasPrefix(said, "error: ") {
			t.Errorf("%s: exit code %d, %s%s; want %d", name, code, out, said, test.code)
		}
	}
}

func TestPasswordChangeBesideAMount(t *testing.T) {
	p := newPlace(t)
	p.ok("asset", "add", "A")
	_, root := p.mounted()
	if err := os.WriteFile(filepath.Join(root, "A", "f"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	next := p.file("next", "another long password\n")
	if code, _, said := p.run("passwd", "--password-file", next, "--new-password-file", p.file("third", "a third long password\n")); code != 3 {
		t.Errorf("wrong old password: exit code %d, %s", code, said)
	}
	p.ok("passwd", "--password-file", filepath.Join(p.dir, "pw"), "--new-password-file", next)
	if b, err := os.ReadFile(filepath.Join(root, "A", "f")); string(b) != "x" {
		t.Errorf("read afterwards: %q, %v", b, err)
	}
	kit := filepath.Join(p.dir, "kit")
	p.ok("kit", "create", "--password-file", next, "--out", kit)
	p.ok("umount", root)
	if code, _, _ := p.run("ls", "--password-file", filepath.Join(p.dir, "pw")); code != 3 {
		t.Errorf("the old password: exit code %d, want 3", code)
	}
	p.ok("kit", "restore", "--kit-file", kit, "--new-password-file", filepath.Join(p.dir, "pw"))
	if out := p.ok("get", "A/f", "-", "--password-file", filepath.Join(p.dir, "pw")); out != "x" {
		t.Errorf("after the kit: %q", out)
	}
}

func TestKeyring(t *testing.T) {
	keyring.MockInit()
	p := newPlace(t)
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	p.ok("device", "enroll", "--password-file", filepath.Join(p.dir, "pw"))
	p.ok("ls")
	if out := p.ok("device", "list"); !strings.Contains(out, "this device, enrolled") {
		t.Errorf("device list: %q", out)
	}
	next := p.file("next", "another long password\n")
	p.ok("passwd", "--password-file", filepath.Join(p.dir, "pw"), "--new-password-file", next)
	p.ok("ls") // the key was carried over
	p.ok("device", "unenroll")
	if code, _, said := p.run("ls"); code != 4 {
		t.Errorf("after unenroll: exit code %d, %s; want 4, nobody to ask", code, said)
	}
	keyring.MockInitWithError(errors.New("no keyring today"))
	if code, _, _ := p.run("device", "enroll", "--password-file", next); code != 12 {
		t.Errorf("without a keyring: exit code %d, want 12", code)
	}
	if out := p.ok("device", "list"); strings.Contains(out, "enrolled") {
		t.Errorf("a key that could not be kept was not taken back: %q", out)
	}
}

func TestDemo(t *testing.T) {
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("no /dev/fuse")
	}
	p := newPlace(t)
	t.Setenv("TMPDIR", p.dir)
	dir := filepath.Join(p.dir, "demo")
	cmd := exec.Command("/proc/self/exe", "vaultdrive-under-test", "demo", dir)
	said := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unmountDirect(context.Background(), dir, true) })
	pdf := filepath.Join(dir, "Insurance", "policy.pdf")
	for range 30_000 {
		if _, err := os.Stat(pdf); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if b, err := os.ReadFile(pdf); err != nil || string(b) != string(demoPDF(t)) {
		t.Errorf("the PDF: %d bytes, %v", len(b), err)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("demo: %v\n%s", err, said)
	}
	if left, _ := filepath.Glob(filepath.Join(p.dir, "*demo*")); len(left) > 0 {
		t.Errorf("left behind: %q\n%s", left, said)
	}
}
