// Package mounttest keeps what tests mount from outliving them, however they end.
package mounttest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"testing"
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
	os.Exit(m.Run())
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
