package integration

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What is on the disk is what a new mount shows: each scenario ends with one.
func remount(t *testing.T, b *bed, m *mount, want map[string]string) {
	t.Helper()
	m.unmount()
	m = b.mount()
	for name, text := range want {
		got, err := os.ReadFile(m.path(name))
		if text == absent {
			if !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s should be gone: %v", name, err)
			}
			continue
		}
		if err != nil || string(got) != text {
			t.Errorf("%s: %v, got %s, want %s", name, err, describe(got), describe([]byte(text)))
		}
	}
	m.unmount()
	b.checkClean()
}

const absent = "\x00absent"

// dup and fork send more FLUSHes than there are files, some before the first write.
func TestExtraFlush(t *testing.T) {
	t.Parallel()
	b := newVault(t)
	m := b.mount()
	dir := m.asset("A")
	f, err := os.Create(filepath.Join(dir, "dup"))
	must(t, err)
	want := ""
	for _, part := range []string{"", "one ", "two ", "three"} {
		_, err = f.WriteString(part)
		must(t, err)
		want += part
		// Closed on exec: a child of a parallel test would keep the mount busy.
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		must(t, err)
		must(t, syscall.Close(fd))
		got, err := os.ReadFile(f.Name())
		must(t, err)
		if string(got) != want {
			t.Errorf("after a flush: got %q, want %q", got, want)
		}
	}
	must(t, f.Close())

	big := string(pattern(1, 1, 200_000))
	f, err = os.Create(filepath.Join(dir, "forks"))
	must(t, err)
	for off := 0; off < len(big); off += 20_000 {
		_, err = f.WriteString(big[off : off+20_000])
		must(t, err)
		child := exec.Command("true")
		child.Stdout = f
		must(t, child.Run())
	}
	must(t, f.Close())
	tool(t, dir, "sh", "-c", "echo x > shell; (echo y; echo z) >> shell")
	remount(t, b, m, map[string]string{"A/dup": want, "A/forks": big, "A/shell": "x\ny\nz\n"})
}

// A mapping writes after the descriptor was closed, and after the last FLUSH.
func TestMappingWritesAfterClose(t *testing.T) {
	t.Parallel()
	b := newVault(t)
	m := b.mount()
	dir := m.asset("A")
	want := map[string]string{}
	for name, size := range map[string]int{"small": 5000, "large": 3 << 20} {
		text := pattern(1, 1, size)
		must(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
		must(t, err)
		mem, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		must(t, err)
		must(t, f.Close())
		copy(mem[4000:], "written by the mapping")
		copy(text[4000:], "written by the mapping")
		must(t, unix.Munmap(mem))
		want["A/"+name] = string(text)
		got, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		if string(got) != string(text) {
			t.Errorf("%s: %s", name, describe(got))
		}
	}
	remount(t, b, m, want)
}

// A mapping that is being read sees what it mapped, though the file is replaced.
func TestRenameOverOpenFile(t *testing.T) {
	t.Parallel()
	b := newVault(t)
	m := b.mount()
	dir := m.asset("A")
	at := func(name string) string { return filepath.Join(dir, name) }
	old, next := pattern(1, 1, 100_000), pattern(1, 2, 50_000)
	must(t, os.WriteFile(at("file"), old, 0o600))
	f, err := os.OpenFile(at("file"), os.O_RDWR, 0)
	must(t, err)
	must(t, os.WriteFile(at("temp"), next, 0o600))
	must(t, os.Rename(at("temp"), at("file")))
	got := make([]byte, len(old))
	if _, err := f.ReadAt(got, 0); err != nil || string(got) != string(old) {
		t.Errorf("the open file: %v, %s", err, describe(got))
	}
	_, err = f.WriteAt([]byte("into what is gone"), 0)
	must(t, err)
	info, err := f.Stat()
	must(t, err)
	if n := info.Sys().(*syscall.Stat_t).Nlink; n != 0 {
		t.Errorf("%d links of an overwritten file", n)
	}
	must(t, f.Close())

	// GLib renames before it closes: the flush belongs to the new name.
	g, err := os.Create(at(".goutputstream-ABCDEF"))
	must(t, err)
	_, err = g.Write(old[:40_000])
	must(t, err)
	must(t, g.Sync())
	must(t, os.Rename(g.Name(), at("saved")))
	must(t, g.Close())
	remount(t, b, m, map[string]string{"A/file": string(next), "A/saved": string(old[:40_000]), "A/temp": absent})
}

func TestUnlinkWhileOpen(t *testing.T) {
	t.Parallel()
	b := newVault(t)
	m := b.mount()
	dir := m.asset("A")
	file := filepath.Join(dir, "file")
	must(t, os.WriteFile(file, pattern(1, 1, 70_000), 0o600))
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	must(t, err)
	must(t, os.Remove(file))
	_, err = f.WriteAt([]byte("still here"), 60_000)
	must(t, err)
	must(t, f.Truncate(80_000))
	must(t, f.Sync())
	got := make([]byte, 10)
	if _, err := f.ReadAt(got, 60_000); err != nil || string(got) != "still here" {
		t.Errorf("%v, %q", err, got)
	}
	must(t, os.WriteFile(file, []byte("another file"), 0o600))
	must(t, f.Close())
	remount(t, b, m, map[string]string{"A/file": "another file"})
}

// Truncation only, through a handle, by path, and by O_TRUNC without a write.
func TestTruncations(t *testing.T) {
	t.Parallel()
	b := newVault(t)
	m := b.mount()
	dir := m.asset("A")
	at := func(name string) string { return filepath.Join(dir, name) }
	text := pattern(1, 1, 100_000)
	for _, name := range []string{"shorter", "longer", "handle", "emptied"} {
		must(t, os.WriteFile(at(name), text, 0o600))
	}
	must(t, os.Truncate(at("shorter"), 50_001))
	must(t, os.Truncate(at("longer"), 150_000))
	f, err := os.OpenFile(at("handle"), os.O_RDWR, 0)
	must(t, err)
	must(t, f.Truncate(10))
	must(t, f.Truncate(20_000))
	must(t, f.Close())
	f, err = os.OpenFile(at("emptied"), os.O_WRONLY|os.O_TRUNC, 0)
	must(t, err)
	must(t, f.Close())
	zeros := string(make([]byte, 50_000))
	remount(t, b, m, map[string]string{"A/shorter": string(text[:50_001]), "A/longer": string(text) + zeros,
		"A/handle": string(text[:10]) + zeros[:19_990], "A/emptied": ""})
}

// SIGTERM with an open writer: everything written until then is committed.
func TestTerminate(t *testing.T) {
	t.Parallel()
	b := newVault(t)
	m := b.mount()
	dir := m.asset("A")
	f, err := os.Create(filepath.Join(dir, "open"))
	must(t, err)
	text := pattern(1, 1, 300_000)
	_, err = f.Write(text)
	must(t, err)
	must(t, m.cmd.Process.Signal(syscall.SIGTERM))
	waitFor(t, "the mount point is free", patience, func() bool { return !isMounted(m.dir) })
	must(t, f.Close())
	select {
	case <-m.exited:
	case <-time.After(5 * time.Minute):
		t.Fatalf("the daemon does not end\n%s", m.logText())
	}
	m.afterDeath()
	m = b.mount()
	remount(t, b, m, map[string]string{"A/open": string(text)})
}

// SIGTERM at any moment of a start: the process ends, and nothing of a mount is left,
// whether it came to it or not.
func TestTerminateWhileStarting(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(seedOf(t), 7))
	b := newVault(t)
	b.enroll()
	for range 30 {
		m := b.prepare()
		must(t, m.spawn())
		time.Sleep(time.Duration(rnd.IntN(120)) * time.Millisecond) // the random moment itself
		must(t, m.cmd.Process.Signal(syscall.SIGTERM))
		select {
		case <-m.exited:
		case <-time.After(patience):
			m.kill()
			t.Fatalf("the daemon does not end\n%s", m.logText())
		}
		state := m.cmd.ProcessState.Sys().(syscall.WaitStatus)
		if code := m.cmd.ProcessState.ExitCode(); code != 0 && code != 130 && state.Signal() != syscall.SIGTERM {
			t.Errorf("exit code %d\n%s", code, m.logText())
		}
		if isMounted(m.dir) {
			t.Errorf("it left its mount behind\n%s", m.logText())
		}
		m.afterDeath()
		m.checkLeftovers()
	}
	b.checkClean()
}

// A foreign unmount is as good as ours.
func TestForeignUnmount(t *testing.T) {
	t.Parallel()
	b := newVault(t)
	m := b.mount()
	must(t, os.WriteFile(filepath.Join(m.asset("A"), "file"), []byte("text"), 0o600))
	// A child that another test is just starting has for a moment what this one had open.
	waitFor(t, "somebody unmounts", patience, func() bool {
		if os.Geteuid() == 0 {
			return syscall.Unmount(m.dir, 0) == nil
		}
		_, err := tryTool(b.dir, "fusermount3", "-u", m.dir)
		return err == nil
	})
	select {
	case <-m.exited:
		if m.exitErr != nil {
			t.Errorf("the daemon ended with %v\n%s", m.exitErr, m.logText())
		}
	case <-time.After(5 * time.Minute):
		t.Fatalf("the daemon does not notice\n%s", m.logText())
	}
	m.afterDeath()
	m.checkLeftovers()
	m = b.mount()
	remount(t, b, m, map[string]string{"A/file": "text"})
}

// The background form: mount returns when the mount answers, umount when it is gone.
func TestBackgroundMount(t *testing.T) {
	t.Parallel()
	needFUSE(t)
	b := newVault(t)
	dir := filepath.Join(b.dir, "mnt")
	must(t, os.Mkdir(dir, 0o700))
	t.Cleanup(func() { unmountForSure(t, dir) })
	for range 2 {
		b.ok("mount", dir)
		if !isMounted(dir) {
			t.Fatal("mount returned and nothing is mounted")
		}
		must(t, os.MkdirAll(filepath.Join(dir, "A"), 0o700))
		must(t, os.WriteFile(filepath.Join(dir, "A", "file"), []byte("text"), 0o600))
		status := b.status()
		if status["mountpoint"] != dir {
			t.Errorf("status: mountpoint %v, want %s", status["mountpoint"], dir)
		}
		for _, key := range []string{"vault", "pid", "dirty", "queued", "alarms"} {
			if _, ok := status[key]; !ok {
				t.Errorf("status has no %q", key)
			}
		}
		pid := int(status["pid"].(float64))
		b.mustRun("umount", dir)
		if isMounted(dir) {
			t.Fatal("umount returned and the mount is there")
		}
		waitFor(t, "the daemon has ended", patience, func() bool { return syscall.Kill(pid, 0) != nil })
	}
	b.checkClean()
}

// A mount point whose daemon was killed is cleared by the next mount.
func TestStaleMountPoint(t *testing.T) {
	t.Parallel()
	b := newVault(t)
	m := b.mount()
	must(t, os.WriteFile(filepath.Join(m.asset("A"), "file"), []byte("text"), 0o600))
	must(t, m.cmd.Process.Kill())
	<-m.exited
	m.stop.Do(func() {}) // the dead mount stays for the next one to find
	next := b.mount()
	remount(t, b, next, map[string]string{"A/file": "text"})
}

// umount of a mount in use says so and leaves it; --lazy takes the names away, and
// what the open writer still writes is kept.
func TestUmountBusyAndLazy(t *testing.T) {
	t.Parallel()
	b := newVault(t)
	m := b.mount()
	f, err := os.Create(filepath.Join(m.asset("A"), "open"))
	must(t, err)
	_, err = f.WriteString("before ")
	must(t, err)
	clearError(t, b.finish(b.plain("umount", m.dir)), "umount of a busy mount", 43)
	_, err = f.WriteString("between ")
	must(t, err)
	lazy := b.plain("umount", "--lazy", m.dir)
	must(t, lazy.Start())
	waitFor(t, "the mount point is free", patience, func() bool { return !isMounted(m.dir) })
	_, err = f.WriteString("after")
	must(t, err)
	must(t, f.Close())
	must(t, lazy.Wait())
	m.stop.Do(func() {})
	select {
	case <-m.exited:
	case <-time.After(5 * time.Minute):
		t.Fatalf("the daemon does not end\n%s", m.logText())
	}
	m = b.mount()
	remount(t, b, m, map[string]string{"A/open": "before between after"})
}

// The helper of mount(8), as a line of fstab calls it.
func TestMountHelper(t *testing.T) {
	t.Parallel()
	needFUSE(t)
	b := newVault(t)
	helper := filepath.Join(b.dir, "mount.vaultdrive")
	must(t, os.Symlink(program, helper))
	dir := filepath.Join(b.dir, "mnt")
	must(t, os.Mkdir(dir, 0o700))
	t.Cleanup(func() { unmountForSure(t, dir) })
	call := func(args ...string) result {
		cmd := b.plain()
		cmd.Path, cmd.Args = helper, append([]string{helper}, args...)
		return b.finish(cmd)
	}
	if r := call(b.vault, dir, "-o", "rw,noauto,password-file="+b.password); r.code != 0 {
		t.Fatal(r)
	}
	must(t, os.MkdirAll(filepath.Join(dir, "A"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "A", "file"), []byte("text"), 0o600))
	b.mustRun("umount", dir)
	if r := call(b.vault, dir, "-o", "ro,password-file="+b.file("wrong", "not the password\n")); r.code == 0 || strings.Count(r.stderr, "\n") != 1 {
		t.Errorf("a wrong password should be one line: %v", r)
	}
	if r := call(b.vault, dir, "-o", "ro,password-file="+b.password); r.code != 0 {
		t.Fatal(r)
	}
	if err := os.WriteFile(filepath.Join(dir, "A", "new"), nil, 0o600); !errors.Is(err, syscall.EROFS) {
		t.Errorf("writing to a read-only mount: %v", err)
	}
	b.mustRun("umount", dir)
	b.checkClean()
}

// Names that file systems, shells and archives trip over come back as they went in.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	b := newVault(t)
	m := b.mount()
	dir := m.asset("A")
	want := map[string]string{}
	for i, name := range []string{"new\nline", "tab\tand \x01 control", " spaces ", "-rf", "*", "~", "%2F", "%", "a%00b", "..a", "...", ".hidden",
		"\u202etxt.exe", "e\u0301 and \u00e9", "\u00e9", "日本語", "🔑", strings.Repeat("x", 255), strings.Repeat("é", 127), "CON", "a:b|c<d>e\"f?g", "back\\slash"} {
		want["A/"+name] = string(pattern(uint32(i), 1, 100+i))
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(want["A/"+name]), 0o600))
	}
	for name, errno := range map[string]syscall.Errno{strings.Repeat("x", 256): syscall.ENAMETOOLONG, "bad \xff utf": syscall.EILSEQ} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); !errors.Is(err, errno) {
			t.Errorf("%q: %v, want %v", name, err, errno)
		}
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != len(want) {
		t.Errorf("%d names of %d, %v", len(list), len(want), err)
	}
	remount(t, b, m, want)
}

// --asset shows one asset as the whole mount.
func TestAssetMount(t *testing.T) {
	t.Parallel()
	b := newVault(t)
	b.ok("asset add", "Only")
	b.ok("asset add", "Hidden")
	m := b.mount("--asset", "Only")
	must(t, os.WriteFile(m.path("file"), []byte("text"), 0o600))
	if _, err := os.Stat(m.path("Hidden")); err == nil {
		t.Error("another asset is reachable")
	}
	m.unmount()
	m = b.mount()
	remount(t, b, m, map[string]string{"Only/file": "text"})
}

// A daemon that is stopped answers nobody. No command waits for it: each says so
// and changes nothing, not even later, and all is well when the daemon goes on.
func TestStoppedDaemonHangsNoCommand(t *testing.T) {
	t.Parallel()
	b := newVault(t)
	m := b.mount()
	must(t, os.WriteFile(filepath.Join(m.asset("A"), "file"), []byte("text"), 0o600))
	before := b.ok("ls", "-r", "--json")
	local, second := b.file("local", "new password of the vault\n"), filepath.Join(b.dir, "second")
	must(t, os.Mkdir(second, 0o700))
	cmds := []*exec.Cmd{b.plain("umount", "--timeout", "2s", m.dir), b.plain("lock", "--vault", b.vault)}
	for _, line := range [][]string{
		{"ls"}, {"ls", "-r"}, {"status"}, {"get", "A/file", "-"}, {"put", local, "A/new"}, {"rm", "A/file"}, {"mv", "A/file", "A/other"},
		{"asset add", "B"}, {"asset list"}, {"asset rename", "A", "C"}, {"asset rm", "A"}, {"check"}, {"rescue"}, {"trash list"},
		{"trash empty", "--yes"}, {"passwd", "--new-password-file", local}, {"mount", second},
	} {
		cmds = append(cmds, b.command(line[0], line[1:]...))
	}
	goOn := sync.OnceFunc(func() { m.cmd.Process.Signal(syscall.SIGCONT) })
	t.Cleanup(goOn)
	m.halt()
	var group sync.WaitGroup
	for _, cmd := range cmds {
		group.Go(func() {
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			err := runWithin(cmd, 3*time.Minute)
			if errors.Is(err, errTooSlow) {
				t.Errorf("%q waits for a stopped daemon", cmd.Args[1:])
			} else if code := cmd.ProcessState.ExitCode(); code != 45 || !strings.Contains(out.String(), "\nhint: ") {
				t.Errorf("%q: exit code %d, want 45, an error and a hint\n%s", cmd.Args[1:], code, out.String())
			}
		})
	}
	group.Wait()
	goOn()
	if after := b.ok("ls", "-r", "--json"); after != before {
		t.Errorf("commands that failed changed the vault from\n%s\nto\n%s", before, after)
	}
	remount(t, b, m, map[string]string{"A/file": "text"})
}
