package integration

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"syscall"
	"testing"
	"time"
)

// holdings is what a daemon holds: files by name, and goroutines if it tells.
type holdings struct {
	files      map[string]int
	goroutines int
}

// holdings reads the daemon's descriptors. Sockets and pipes come and go with
// the commands that talk to it, so they are left out.
func (m *mount) holdings() holdings {
	h := holdings{files: map[string]int{}}
	dir := fmt.Sprintf("/proc/%d/fd", m.cmd.Process.Pid)
	list, _ := os.ReadDir(dir)
	for _, e := range list {
		target, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err == nil && strings.HasPrefix(target, "/") {
			h.files[target]++
		}
	}
	if n, ok := m.b.status()["goroutines"].(float64); ok {
		h.goroutines = int(n)
	}
	return h
}

// leaked names what h holds beyond before. RELEASE is asynchronous and SQLite
// opens its log late, so the caller asks until nothing is left.
func (h holdings) leaked(before holdings) []string {
	var out []string
	for name, n := range h.files {
		late := strings.Contains(name, "vault.db")
		if !late && n > before.files[name] {
			out = append(out, name)
		}
	}
	// A few workers of go-fuse read the device in parallel when there was work.
	if h.goroutines > before.goroutines+16 {
		out = append(out, fmt.Sprintf("%d goroutines, %d at the start", h.goroutines, before.goroutines))
	}
	sort.Strings(out)
	return out
}

func (m *mount) checkHoldings() {
	m.b.t.Helper()
	if m.start.files == nil {
		return
	}
	var left []string
	if !poll(10*time.Second, func() bool {
		left = m.holdings().leaked(m.start)
		return len(left) == 0
	}) {
		m.b.t.Errorf("the daemon still holds %v", left)
	}
}

// checkLeftovers looks at the disk and the log after a clean unmount.
func (m *mount) checkLeftovers() {
	m.b.t.Helper()
	for _, pattern := range []string{"scratch/*", "attachments/*.part"} {
		if left, _ := filepath.Glob(filepath.Join(m.b.vault, pattern)); len(left) > 0 {
			m.b.t.Errorf("left behind: %v", left)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(m.b.dir, "run", "vaultdrive", "*.sock")); len(left) > 0 {
		m.b.t.Errorf("left behind: %v", left)
	}
	m.checkLog()
}

var loudLine = regexp.MustCompile(`(?i)level"?[=:]"?(warn|error)|^panic|goroutine \d+ \[|DATA RACE`)

// checkLog fails the test on every warning nobody expected.
func (m *mount) checkLog() {
	m.b.t.Helper()
lines:
	for line := range strings.Lines(m.logText()) {
		if !loudLine.MatchString(line) {
			continue
		}
		for _, part := range m.expected {
			if strings.Contains(line, part) {
				continue lines
			}
		}
		m.b.t.Errorf("unexpected in the log: %s", line)
	}
}

// isMounted tells whether something is mounted at dir.
func isMounted(dir string) bool {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return false
	}
	defer f.Close()
	for in := bufio.NewScanner(f); in.Scan(); {
		if words := strings.Fields(in.Text()); len(words) > 4 && words[4] == dir {
			return true
		}
	}
	return false
}

// unmountForSure takes whatever is mounted at dir away and ends when mountinfo
// does not name it. As root it aborts the connection, so that nobody waits for
// ever for a daemon that is gone.
func unmountForSure(t testing.TB, dir string) {
	t.Helper()
	if !isMounted(dir) {
		return
	}
	waitFor(t, dir+" is unmounted", 10*time.Second, func() bool {
		detach(dir)
		return !isMounted(dir)
	})
}

func detach(dir string) {
	if os.Geteuid() == 0 {
		syscall.Unmount(dir, syscall.MNT_FORCE) // aborts, and says EBUSY when it is in use
		syscall.Unmount(dir, syscall.MNT_DETACH)
		return
	}
	runWithin(exec.Command("fusermount3", "-u", "-z", dir), 10*time.Second)
}

// kernelStacks shows where the threads of a process wait, which only root may see.
func kernelStacks(pid int) string {
	var out strings.Builder
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	for _, task := range tasks {
		stack, _ := os.ReadFile(filepath.Join(task, "stack"))
		fmt.Fprintf(&out, "%s\n%s", filepath.Base(task), stack)
	}
	return out.String()
}
