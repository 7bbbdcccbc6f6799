// Package integration tests the built program from outside, as a person and as
// the kernel see it: real mounts, real programs, kills, power cuts, full disks.
// It refuses to know how anything works inside; the few tests that open a door
// in the code (driver_test.go, layers_test.go) say so.
package integration

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/vaultdrive/vaultdrive/remote/server/metatest"
)

var (
	crashRounds = flag.Int("crash.rounds", 200, "kill -9 rounds of TestCrashLoop")
	crashSeed   = flag.Uint64("crash.seed", 0, "seed of the crash and power-loss tests; 0: from the clock, printed")
	powerRounds = flag.Int("power.rounds", 40, "power cuts of TestPowerLoss")
	updateData  = flag.Bool("update", false, "make testdata anew")
)

// roleVariable turns the test binary into one of its own children.
const roleVariable = "VAULTDRIVE_TEST_ROLE"

// Set once by TestMain.
var (
	testBinary string // this program
	program    string // the vaultdrive under test
	buildError error  // why there is no program
)

func TestMain(m *testing.M) {
	var err error
	if testBinary, err = os.Executable(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(playRole(role))
	}
	flag.Parse()
	zerolog.SetGlobalLevel(zerolog.Disabled) // toxiproxy's toxics trace to a logger of their own
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "vaultdrive-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	defer os.RemoveAll(dir)
	defer metatest.Stop()
	program, buildError = build(dir)
	return m.Run()
}

// build makes the program under test, with the race detector if the tests have it.
func build(dir string) (string, error) {
	out := filepath.Join(dir, "vaultdrive")
	args := []string{"build", "-o", out}
	if raceEnabled {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "github.com/vaultdrive/vaultdrive/cmd/vaultdrive")...)
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go %s: %v\n%s", strings.Join(args, " "), err, text)
	}
	return out, nil
}

// playRole is main of a child process.
func playRole(role string) int {
	var err error
	switch role {
	case "powerbox":
		err = servePowerBox()
	default:
		err = fmt.Errorf("no role %q", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func needProgram(t testing.TB) {
	t.Helper()
	if buildError != nil {
		t.Fatal(buildError)
	}
}

// needFUSE skips where no file system can be mounted at all.
func needFUSE(t testing.TB) {
	t.Helper()
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no mounts here: %v", err)
	}
	f.Close()
	if os.Geteuid() != 0 {
		needTool(t, "fusermount3", "fuse3")
	}
}

func needRoot(t testing.TB, why string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skipf("only root can %s", why)
	}
}

// needTool skips when a program is missing; .ci/run installs them all.
func needTool(t testing.TB, name, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed (Debian: apt-get install %s)", name, debianPackage)
	}
	return path
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// shortTemp is t.TempDir with a short name: socket paths end at 108 bytes.
func shortTemp(t testing.TB, name string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "vd-"+name+"-")
	must(t, err)
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("%s stays behind: %v", dir, err)
		}
	})
	return dir
}

// patience is for what has to happen, on however busy a machine: nothing waits that
// long if all is well.
const patience = 5 * time.Minute

// waitFor polls a condition: there is no sleep anywhere that only hopes.
func waitFor(t testing.TB, what string, limit time.Duration, cond func() bool) {
	t.Helper()
	if !poll(limit, cond) {
		t.Fatalf("not within %v: %s", limit, what)
	}
}

func poll(limit time.Duration, cond func() bool) bool {
	for end := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		if cond() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// tool runs a foreign program in dir and returns what it prints; it fails the
// test when the program fails or takes longer than ten minutes.
func tool(t testing.TB, dir, name string, args ...string) string {
	t.Helper()
	out, err := tryTool(dir, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func tryTool(dir, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := runWithin(cmd, 10*time.Minute)
	return out.String(), err
}

var errTooSlow = errors.New("did not end in time")

// runWithin is cmd.Run with a deadline after which the process is killed. It does
// not wait for one that is stuck in the kernel.
func runWithin(cmd *exec.Cmd, limit time.Duration) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		return err
	case <-time.After(limit):
		cmd.Process.Kill()
		return errTooSlow
	}
}
