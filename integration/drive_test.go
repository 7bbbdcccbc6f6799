package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const testPassword = "correct horse battery staple"

// bed is one user's machine: directories of her own, a password file, a vault.
type bed struct {
	t        testing.TB
	dir      string // everything of this bed lies below
	vault    string // the vault's home
	password string // file with the password
	unlock   []string
	env      []string
	mounts   int
}

// newBed makes the directories, not yet a vault.
func newBed(t testing.TB) *bed {
	t.Helper()
	needProgram(t)
	b := &bed{t: t, dir: shortTemp(t, "bed")}
	b.vault = filepath.Join(b.dir, "vault")
	b.password = b.file("password", testPassword+"\n")
	b.unlock = []string{"--password-file", b.password}
	for _, name := range []string{"home", "run", "logs"} {
		must(t, os.Mkdir(filepath.Join(b.dir, name), 0o700))
	}
	home := filepath.Join(b.dir, "home")
	b.env = []string{"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8", "HOME=" + home, "TMPDIR=" + os.TempDir(),
		"XDG_RUNTIME_DIR=" + filepath.Join(b.dir, "run"), "XDG_DATA_HOME=" + filepath.Join(home, "data"),
		"XDG_CACHE_HOME=" + filepath.Join(home, "cache"), "XDG_STATE_HOME=" + filepath.Join(home, "state"),
		"XDG_CONFIG_HOME=" + filepath.Join(home, "config"),
		"GORACE=log_path=" + filepath.Join(b.dir, "logs", "race")}
	t.Cleanup(b.checkRaces)
	t.Cleanup(func() { unmountForSure(t, filepath.Join(b.dir, "mnt")) })
	return b
}

// newVault makes a bed with a vault that needs no second for its password.
func newVault(t testing.TB) *bed {
	t.Helper()
	b := newBed(t)
	b.init()
	return b
}

func (b *bed) init() {
	b.t.Helper()
	b.mustRun("init", "--vault", b.vault, "--password-file", b.password, "--kdf", "low")
}

func (b *bed) file(name, text string) string {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	must(b.t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// result is what a command did.
type result struct {
	code           int
	stdout, stderr string
}

func (r result) String() string {
	return fmt.Sprintf("exit code %d\nstdout: %s\nstderr: %s", r.code, r.stdout, r.stderr)
}

// command prepares one vaultdrive command. The verb may be two words ("asset add");
// the vault and how to unlock it are put behind it, before the operands.
func (b *bed) command(verb string, args ...string) *exec.Cmd {
	full := append(strings.Fields(verb), "--vault", b.vault)
	full = append(append(full, b.unlock...), args...)
	return b.plain(full...)
}

func (b *bed) plain(args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Env, cmd.Dir = b.env, b.dir
	return cmd
}

// run runs a command on the bed's vault.
func (b *bed) run(verb string, args ...string) result {
	b.t.Helper()
	return b.finish(b.command(verb, args...))
}

func (b *bed) finish(cmd *exec.Cmd) result {
	b.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := runWithin(cmd, patience)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		b.t.Fatalf("%v: %v\n%s", cmd.Args, err, stderr.String())
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// ok runs a command that must succeed and returns what it prints.
func (b *bed) ok(verb string, args ...string) string {
	b.t.Helper()
	r := b.run(verb, args...)
	if r.code != 0 {
		b.t.Fatalf("%s %v: %v", verb, args, r)
	}
	return r.stdout
}

func (b *bed) mustRun(args ...string) string {
	b.t.Helper()
	r := b.finish(b.plain(args...))
	if r.code != 0 {
		b.t.Fatalf("%v: %v", args, r)
	}
	return r.stdout
}

// status is what `status --json` says.
func (b *bed) status() map[string]any {
	b.t.Helper()
	var out map[string]any
	must(b.t, json.Unmarshal([]byte(b.ok("status", "--json")), &out))
	return out
}

// checkClean demands that check finds nothing.
func (b *bed) checkClean() {
	b.t.Helper()
	r := b.run("check", "--deep", "--json")
	var report struct {
		Problems []map[string]any
		Orphans  int
	}
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil || r.code != 0 || report.Orphans != 0 || len(report.Problems) != 0 {
		b.t.Fatalf("check is not content (%v): %v", err, r)
	}
}

// checkRaces fails the test when the race detector spoke in any process of the bed.
func (b *bed) checkRaces() {
	found, _ := filepath.Glob(filepath.Join(b.dir, "logs", "race*"))
	for _, name := range found {
		text, _ := os.ReadFile(name)
		b.t.Errorf("data race:\n%s", text)
	}
}

// mount is one life of the daemon.
type mount struct {
	b        *bed
	dir      string
	cmd      *exec.Cmd
	log      string
	exited   chan struct{}
	exitErr  error
	stop     sync.Once
	start    holdings // what it held when it was ready; zero: do not compare
	expected []string // parts of log lines that this test provokes
}

// mount mounts the vault in the foreground of a child and returns when it says
// that it is ready. The test's cleanup unmounts it and looks for leaks.
func (b *bed) mount(options ...string) *mount {
	b.t.Helper()
	m := b.mountAgain(append([]string{"--debug-addr", "127.0.0.1:0"}, options...)...)
	m.start = m.holdings()
	return m
}

// mountAgain is mount without looking for leaks: tests that mount hundreds of
// times use it between kills.
func (b *bed) mountAgain(options ...string) *mount {
	b.t.Helper()
	m := b.prepare(options...)
	if err := m.launch(); err != nil {
		b.t.Fatal(err)
	}
	return m
}

// prepare makes the mount point and the command.
func (b *bed) prepare(options ...string) *mount {
	b.t.Helper()
	needFUSE(b.t)
	b.mounts++
	m := &mount{b: b, dir: filepath.Join(b.dir, "mnt"), exited: make(chan struct{})}
	if err := os.Mkdir(m.dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		b.t.Fatal(err)
	}
	m.cmd = b.command("mount", append(append([]string{"--foreground"}, options...), m.dir)...)
	return m
}

// launchAndKill starts a mount and kills it after a while, ready or not.
func (b *bed) launchAndKill(after time.Duration) {
	b.t.Helper()
	m := b.prepare()
	must(b.t, m.spawn())
	time.Sleep(after) // the random moment itself; nothing waits for it
	m.cmd.Process.Kill()
	m.afterDeath()
}

// spawn starts m.cmd; what it says goes to a file.
func (m *mount) spawn() error {
	m.log = filepath.Join(m.b.dir, "logs", fmt.Sprintf("daemon-%d", m.b.mounts))
	log, err := os.Create(m.log)
	if err != nil {
		return err
	}
	defer log.Close()
	m.cmd.Stdout, m.cmd.Stderr = log, log
	if err := m.cmd.Start(); err != nil {
		return err
	}
	go func() { m.exitErr = m.cmd.Wait(); close(m.exited) }()
	m.b.t.Cleanup(m.tell)
	return nil
}

// tell shows what the daemon of a failed test has said and how it ended.
func (m *mount) tell() {
	if !m.b.t.Failed() {
		return
	}
	select {
	case <-m.exited:
		m.b.t.Logf("the daemon ended: %v", m.exitErr)
	default:
	}
	text, err := os.ReadFile(m.log)
	if err != nil {
		return // never started
	}
	const most = 32 << 10
	m.b.t.Logf("the daemon said:\n%s", text[max(0, len(text)-most):])
}

// launch starts m.cmd and waits for READY=1, as systemd does.
func (m *mount) launch() error {
	b := m.b
	socket := filepath.Join(b.dir, fmt.Sprintf("notify-%d", b.mounts))
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	m.cmd.Env = append(append([]string{}, m.cmd.Env...), "NOTIFY_SOCKET="+socket)
	if err := m.spawn(); err != nil {
		notify.Close()
		return err
	}
	ready := make(chan struct{})
	go func() {
		defer notify.Close()
		buf := make([]byte, 4096)
		for {
			n, err := notify.Read(buf)
			if err != nil {
				return
			}
			if strings.Contains(string(buf[:n]), "READY=1") {
				close(ready)
				return
			}
		}
	}()
	select {
	case <-ready:
	case <-m.exited:
		notify.Close()
		return fmt.Errorf("mount ended before it was ready: %v\n%s", m.exitErr, m.logText())
	case <-time.After(patience):
		notify.Close()
		m.cmd.Process.Kill()
		return fmt.Errorf("mount is not ready after five minutes\n%s", m.logText())
	}
	b.t.Cleanup(m.unmount)
	return nil
}

// path names something in the mount.
func (m *mount) path(elem ...string) string {
	return filepath.Join(append([]string{m.dir}, elem...)...)
}

// asset makes an asset by mkdir and returns its directory.
func (m *mount) asset(title string) string {
	m.b.t.Helper()
	must(m.b.t, os.Mkdir(m.path(title), 0o755))
	return m.path(title)
}

func (m *mount) logText() string {
	text, _ := os.ReadFile(m.log)
	return string(text)
}

// expect allows log lines that contain part.
func (m *mount) expect(part string) { m.expected = append(m.expected, part) }

// kill ends the daemon the hard way, clears the dead mount and waits for the
// process. Whatever the kernel had not handed over is lost, as after a crash.
func (m *mount) kill() {
	m.b.t.Helper()
	m.cmd.Process.Kill()
	m.afterDeath()
}

// halt stops every thread of the daemon. Until the last one stands it may still answer.
func (m *mount) halt() {
	m.b.t.Helper()
	must(m.b.t, m.cmd.Process.Signal(syscall.SIGSTOP))
	waitFor(m.b.t, "the daemon stands still", patience, func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", m.cmd.Process.Pid))
		return err == nil && len(threads) > 0 && !slices.ContainsFunc(threads, func(path string) bool {
			stat, err := os.ReadFile(path)
			return err == nil && !strings.Contains(string(stat), ") T ")
		})
	})
}

// afterDeath clears what a daemon that died leaves in the mount table.
func (m *mount) afterDeath() {
	m.b.t.Helper()
	m.stop.Do(func() {
		select {
		case <-m.exited:
		case <-time.After(patience):
			m.b.t.Errorf("the daemon does not die:\n%s", kernelStacks(m.cmd.Process.Pid))
		}
		unmountForSure(m.b.t, m.dir)
	})
}

// unmount ends a mount as a user does and looks at what it leaves. It is safe to
// call again: the cleanup does.
func (m *mount) unmount() {
	m.b.t.Helper()
	m.stop.Do(func() {
		m.b.t.Helper()
		m.checkHoldings()
		var r result
		// The stressor "io" of TestStressNG opens every mount of the machine for a moment.
		poll(patience, func() bool {
			r = m.b.finish(m.b.plain("umount", m.dir))
			return !strings.Contains(r.stderr, "in use by stress-ng-io")
		})
		if r.code != 0 {
			m.b.t.Errorf("umount: %v", r)
		}
		select {
		case <-m.exited:
			if m.exitErr != nil {
				m.b.t.Errorf("the daemon ended with %v\n%s", m.exitErr, m.logText())
			}
		case <-time.After(patience):
			m.b.t.Errorf("the daemon lives five minutes after umount\n%s", m.logText())
			m.cmd.Process.Kill()
		}
		unmountForSure(m.b.t, m.dir)
		m.checkLeftovers()
	})
}

// enroll gives this device a key file, so that a mount costs no Argon2id.
func (b *bed) enroll() {
	b.t.Helper()
	key := filepath.Join(b.dir, "device.key")
	b.ok("device enroll", "--device-key", key)
	b.unlock = []string{"--device-key", key}
}

// fileState is the state that the vault gives a path: clean, dirty, scratch …
func (b *bed) fileState(path string) string {
	b.t.Helper()
	var infos []struct{ State string }
	must(b.t, json.Unmarshal([]byte(b.ok("status", "--json", path)), &infos))
	return infos[0].State
}

// changePassword gives the vault a new password, kept in the bed's password file.
func (b *bed) changePassword(password string) {
	b.t.Helper()
	next := b.file("password.new", password+"\n")
	b.ok("passwd", "--new-password-file", next)
	must(b.t, os.Rename(next, b.password))
}
