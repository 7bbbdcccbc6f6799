package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// stopped mounts and stops the process of the mount, which then answers
// neither the kernel nor a command.
func (p *place) stopped() (pid int, root string) {
	p.t.Helper()
	pid, root = p.mounted()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		p.t.Fatal(err)
	}
	// The signal arrives when it arrives; until then it may still answer.
	for range 30_000 { // five minutes
		threads, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/stat")
		if err != nil || len(threads) == 0 {
			p.t.Fatalf("no process %d: %v", pid, err)
		}
		if !slices.ContainsFunc(threads, func(path string) bool {
			stat, err := os.ReadFile(path)
			return err == nil && !strings.Contains(string(stat), ") T ")
		}) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	p.t.Cleanup(func() {
		syscall.Kill(pid, syscall.SIGCONT)
		syscall.Kill(pid, syscall.SIGTERM)
	})
	return pid, root
}

// TestStoppedDaemonIsNotWaitedFor: no command hangs because a mount does. Its
// process stays stopped, so a command that waited for it would never end. The
// package integration asks all commands; these ask at once, each in its process.
func TestStoppedDaemonIsNotWaitedFor(t *testing.T) {
	p := newPlace(t)
	pid, root := p.stopped()
	var group sync.WaitGroup
	for _, args := range [][]string{
		{"umount", "--timeout", "2s", root}, {"umount", "--timeout", "2s"}, {"status"}, {"mount", root},
	} {
		group.Go(func() {
			cmd := exec.Command("/proc/self/exe", append([]string{"vaultdrive-under-test"}, args...)...)
			out, _ := cmd.CombinedOutput()
			code, said := cmd.ProcessState.ExitCode(), string(out)
			if code != 45 || !strings.Contains(said, "does not answer") || !strings.Contains(said, "umount --lazy "+root) || !strings.Contains(said, "lock --force") {
				t.Errorf("%q: exit code %d, %s; want 45 and the ways out", args, code, said)
			}
		})
	}
	group.Wait()
	p.ok("umount", "--lazy", root)
	if _, covered, err := mountAt(root); covered || err != nil {
		t.Errorf("still mounted: %v, %v", covered, err)
	}
	p.ok("lock", "--force")
	if !gone(pid) {
		t.Error("the process still holds the keys")
	}
}

func TestLockByForceEndsAStoppedDaemon(t *testing.T) {
	p := newPlace(t)
	pid, root := p.stopped()
	if out := p.ok("lock", "--force", "--json"); !strings.Contains(out, `"locked": true`) {
		t.Errorf("lock: %s", out)
	}
	if _, covered, _ := mountAt(root); covered || !gone(pid) {
		t.Errorf("mounted %v, or the process goes on", covered)
	}
	p.mounted()
	p.ok("umount", root)
}

// TestOtherMountsAreLeftAlone: a mount that hangs is nobody's business but of
// who asks for it.
func TestOtherMountsAreLeftAlone(t *testing.T) {
	other := newPlace(t)
	other.stopped()
	home, err := selectVault(other.home + "/")
	if err != nil {
		t.Fatal(err)
	}
	record, ok := recordOf(home)
	if !ok {
		t.Fatal("no record")
	}
	asked := countCalls(t, record.socket)
	runtime := os.Getenv("XDG_RUNTIME_DIR")
	p := newPlace(t)
	t.Setenv("XDG_RUNTIME_DIR", runtime)
	p.home = filepath.Join(p.dir, "second")
	t.Setenv("VAULTDRIVE_VAULT", p.home+"/")
	p.ok("init", "--kdf", "low", "--password-file", filepath.Join(p.dir, "pw"))
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	_, root := p.mounted("--password-file", filepath.Join(p.dir, "pw"))
	p.ok("umount", root)
	if n := asked(); n > 0 {
		t.Errorf("umount of another mount called the one that hangs %d times", n)
	}
}

// countCalls puts a listener in the place of a socket, and counts who calls.
func countCalls(t *testing.T, socket string) (calls func() int) {
	t.Helper()
	if err := os.Rename(socket, socket+".away"); err != nil {
		t.Fatal(err)
	}
	listener, err := listenSocket(socket)
	if err != nil {
		t.Fatal(err)
	}
	l, ok := listener.(interface {
		net.Listener
		SetDeadline(time.Time) error
	})
	if !ok {
		t.Fatalf("%T has no deadline", listener)
	}
	t.Cleanup(func() { l.Close() })
	return func() (n int) {
		for { // who has called is in the queue, and comes at once
			if err := l.SetDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			conn, err := l.Accept()
			if err != nil {
				return n
			}
			conn.Close()
			n++
		}
	}
}

// TestSilenceInTheMiddle: a process that stops while it works is noticed too.
func TestSilenceInTheMiddle(t *testing.T) {
	life, end := context.WithCancelCause(t.Context())
	cl := newClient(func() (net.Conn, error) {
		near, far := net.Pipe()
		go io.Copy(io.Discard, far) // takes every question
		context.AfterFunc(life, func() { near.Close() })
		return near, nil
	})
	cl.life, cl.pid = life, 1
	go cl.watch(life, time.Millisecond, 50*time.Millisecond, end)
	if err := cl.call(t.Context(), callBarrier, none{}, nil); !errors.Is(err, errDaemonSilent) {
		t.Errorf("a call that nobody answers: %v, want errDaemonSilent", err)
	}
}

// TestInterruptedInTheKernel: a command that cannot heed an interrupt is left.
func TestInterruptedInTheKernel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		held := make(chan error)
		defer close(held)
		if err := interruptible(ctx, &ui{}, func() error { return <-held }); !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want Canceled", err)
		}
	})
}

// TestInterruptedBeforeItDrains: a command that ends what is under way is not left in
// the middle of that, also when the interrupt came before it had begun.
func TestInterruptedBeforeItDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		u, drained := &ui{}, errors.New("drained")
		err := interruptible(ctx, u, func() error {
			time.Sleep(interruptGrace / 2)
			u.draining.Store(true)
			time.Sleep(time.Minute)
			return drained
		})
		if err != drained {
			t.Errorf("%v, want what the command says in the end", err)
		}
	})
}

// TestInterruptedBeforeAMount: an interrupt that comes before the process listens for
// them itself mounts nothing.
func TestInterruptedBeforeAMount(t *testing.T) {
	p := newPlace(t)
	home, err := selectVault(p.home + "/")
	if err != nil {
		t.Fatal(err)
	}
	point := filepath.Join(p.dir, "mnt")
	if err := os.Mkdir(point, 0o700); err != nil {
		t.Fatal(err)
	}
	source := passwordSource{fd: -1}
	creds, err := source.credentials(t.Context(), &ui{err: io.Discard}, home)
	if err != nil {
		t.Fatal(err)
	}
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	hooks := daemonHooks{log: slog.New(slog.DiscardHandler), ready: func(d *daemon) {
		t.Error("it mounts")
		d.forced.Do(func() { close(d.cut) })
	}}
	if err := runDaemon(ctx, mountPlan{Home: home.path, MountPoint: point, Source: "vaultdrive"}, creds, hooks); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want Canceled", err)
	}
	p.ok("ls") // the vault is free
}

func TestUmountOfAMountNobodyRecorded(t *testing.T) {
	p := newPlace(t)
	pid, root := p.stopped()
	home, err := selectVault(p.home + "/")
	if err != nil {
		t.Fatal(err)
	}
	r, ok := recordOf(home)
	if !ok {
		t.Fatal("no record")
	}
	if err := errors.Join(os.Rename(r.socket, r.socket+".away"), os.Rename(recordPath(r.socket), r.socket+".away2")); err != nil {
		t.Fatal(err)
	}
	code, _, said := p.run("umount", "--timeout", "5s", root)
	if code != 45 || !strings.Contains(said, "umount --lazy") {
		t.Errorf("exit code %d, %s; want 45", code, said)
	}
	if _, _, said := p.run("umount", "--lazy", root); strings.Contains(said, "user") {
		t.Errorf("a process of ours was given to another user: %s", said)
	}
	if _, covered, _ := mountAt(root); covered {
		t.Error("still mounted")
	}
	syscall.Kill(pid, syscall.SIGKILL)
}

func TestDeadMountIsNamed(t *testing.T) {
	p := newPlace(t)
	pid, root := p.mounted()
	syscall.Kill(pid, syscall.SIGKILL)
	if !gone(pid) {
		t.Fatal("not killed")
	}
	var view lockedView
	if err := json.Unmarshal([]byte(p.ok("status", "--json")), &view); err != nil || view.State != "dead" || view.MountPoint != root {
		t.Errorf("status: %+v, %v", view, err)
	}
	if out := p.ok("status"); !strings.Contains(out, "dead: ") || !strings.Contains(out, "vaultdrive umount "+root) {
		t.Errorf("status: %s", out)
	}
	p.ok("umount")
	if out := p.ok("status", "--json"); !strings.Contains(out, `"state": "locked"`) {
		t.Errorf("status afterwards: %s", out)
	}
	pid, _ = p.mounted()
	syscall.Kill(pid, syscall.SIGKILL)
	gone(pid)
	p.ok("lock")
	if _, covered, _ := mountAt(root); covered {
		t.Error("lock left the dead mount")
	}
}

func TestTheMountedVaultIsFound(t *testing.T) {
	p := newPlace(t)
	p.ok("asset", "add", "A")
	_, root := p.mounted()
	t.Setenv("VAULTDRIVE_VAULT", "")
	if out := p.ok("ls"); out != "A/\n" {
		t.Errorf("ls: %q", out)
	}
	if out := p.ok("ls", "-R", filepath.Join(root, "A"), root); !strings.Contains(out, "A/\n") {
		t.Errorf("ls of a path in the mount: %q", out)
	}
	p.input = "x"
	p.ok("put", "-", filepath.Join(root, "A", "f"))
	if b, err := os.ReadFile(filepath.Join(root, "A", "f")); string(b) != "x" {
		t.Errorf("put: %q, %v", b, err)
	}
	if out := p.ok("status", filepath.Join(root, "A", "f")); !strings.Contains(out, "path        A/f\n") {
		t.Errorf("status: %q", out)
	}
	p.ok("rm", filepath.Join(root, "A", "f"))
	p.ok("umount")
	if code, _, _ := p.run("ls"); code != 5 {
		t.Errorf("not mounted: exit code %d, want 5", code)
	}
}
