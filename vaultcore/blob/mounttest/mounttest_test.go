package mounttest

import (
	"fmt"
	"os"
	"os/exec"
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
	if !sees(t, os.Getpid(), dir) || sees(t, os.Getppid(), dir) {
		t.Errorf("the tests see it: %v, who started them: %v", sees(t, os.Getpid(), dir), sees(t, os.Getppid(), dir))
	}
}

// sees says whether a process has something mounted at dir.
func sees(t *testing.T, pid int, dir string) bool {
	t.Helper()
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(mounts), " "+dir+" ")
}

const othersVariable = "VAULTDRIVE_TEST_MOUNT_OF_OTHERS"

// TestMountOfOthersEnds: a drive that another package's test has mounted when these
// begin ends when that test unmounts it, while these go on. So does one that somebody
// uses elsewhere on the machine.
func TestMountOfOthersEnds(t *testing.T) {
	for kind, temp := range map[string]string{"fuse.other": os.TempDir(), drive: t.TempDir()} {
		dir := t.TempDir()
		device, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Skipf("no /dev/fuse: %v", err)
		}
		defer unix.Close(device)
		if err := unix.Mount("other", dir, kind, 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", device)); err != nil {
			t.Skipf("cannot mount: %v", err)
		}
		t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
		cmd := exec.Command("/proc/self/exe", "-test.run", "^TestInsideBesideOthers$", "-test.v")
		for _, v := range os.Environ() {
			if !strings.HasPrefix(v, insideVariable+"=") {
				cmd.Env = append(cmd.Env, v)
			}
		}
		cmd.Env = append(cmd.Env, othersVariable+"="+dir, "TMPDIR="+temp)
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Errorf("%s: %v\n%s", kind, err, out)
		}
		if !sees(t, os.Getpid(), dir) {
			t.Errorf("%s was unmounted where it was mounted", kind)
		}
	}
}

func TestInsideBesideOthers(t *testing.T) {
	dir := os.Getenv(othersVariable)
	if dir == "" {
		t.Skip("part of TestMountOfOthersEnds")
	}
	if sees(t, os.Getpid(), dir) || !sees(t, os.Getppid(), dir) {
		t.Errorf("held here: %v, there: %v", sees(t, os.Getpid(), dir), sees(t, os.Getppid(), dir))
	}
}
