// Package mounttest keeps what tests mount from outliving them, however they end.
package mounttest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// insideVariable says to a test program that its mounts are its own.
const insideVariable = "VAULTDRIVE_TEST_OWN_MOUNTS"

// Main is TestMain of a package whose tests mount something in their process. As
// root it runs them in a process with a mount namespace of its own, so that the
// kernel takes their mounts away with it: nothing that kills the tests leaves one
// behind. Otherwise, and where that is not allowed, it runs them as they are.
func Main(m *testing.M) {
	if os.Getenv(insideVariable) == "" && os.Geteuid() == 0 {
		if code, err := again(); err == nil {
			os.Exit(code)
		}
	}
	if apart() {
		if err := letGo(); err != nil {
			fmt.Fprintln(os.Stderr, "mounts of other tests:", err)
		}
	}
	os.Exit(m.Run())
}

// apart says whether this process has other mounts than who started it.
func apart() bool {
	ours, err := os.Readlink("/proc/self/ns/mnt")
	theirs, err2 := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", os.Getppid()))
	return os.Getenv(insideVariable) != "" && err == nil && err2 == nil && ours != theirs
}

// drive is the type of the file system that this project mounts.
const drive = "fuse.vaultdrive"

// letGo detaches, in this namespace, what FUSE file systems tests of other packages
// have just mounted, and every drive, wherever it is: a namespace begins with all
// mounts of the machine, and those would not end, whoever unmounts them, before the
// last test here has.
func letGo() error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	work, err := os.Getwd()
	if err != nil {
		return err
	}
	var failed []error
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		if len(fields) < 3 || !strings.HasPrefix(fields[2], "fuse") {
			continue
		}
		dir := unescape.Replace(fields[1])
		if fields[2] != drive && !below(dir, os.TempDir()) || below(work, dir) {
			continue // no test's
		}
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			failed = append(failed, fmt.Errorf("%s: %w", dir, err))
		}
	}
	return errors.Join(failed...)
}

// unescape is how the kernel writes paths in lists of mounts.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// below says whether a path lies in a directory, at any depth.
func below(path, dir string) bool {
	return strings.HasPrefix(filepath.Clean(path), filepath.Clean(dir)+string(filepath.Separator))
}

// again runs this program once more, inside. Error: it could not be started.
func again() (code int, err error) {
	program, err := os.Executable()
	if err != nil {
		return 0, err
	}
	// The kernel ends the child with the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command(program, os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	if err := cmd.Start(); err != nil {
		signal.Stop(signals)
		return 0, err
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, err)
	}
	if code = cmd.ProcessState.ExitCode(); code < 0 { // by a signal
		code = 2
	}
	return code, nil
}
