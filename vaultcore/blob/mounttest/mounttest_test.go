package mounttest

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { Main(m) }

// TestMountIsSeenHereAlone: who started the tests sees nothing of what they mount,
// so there is nothing to take away when they end.
func TestMountIsSeenHereAlone(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("cannot mount: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	sees := func(pid int) bool {
		mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(mounts), " "+dir+" ")
	}
	if !sees(os.Getpid()) || sees(os.Getppid()) {
		t.Errorf("the tests see it: %v, who started them: %v", sees(os.Getpid()), sees(os.Getppid()))
	}
}
