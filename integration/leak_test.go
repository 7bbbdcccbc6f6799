package integration

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// holdings is what a daemon holds: files by name, and goroutines.
type holdings struct {
	files      map[string]int
	goroutines int
	stacks     string // theirs
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
	h.stacks = m.goroutines()
	for block := range strings.SplitSeq(h.stacks, "\n\n") {
		// How many readers wait for requests depends on what came last.
		head := goroutineCount.FindStringSubmatch(block)
		if head != nil && !strings.Contains(block, "(*kernelConn).loop") {
			n, _ := strconv.Atoi(head[1])
			h.goroutines += n
		}
	}
	if h.goroutines == 0 {
		m.b.t.Errorf("the daemon does not tell its goroutines: %q", h.stacks)
	}
	return h
}

// goroutineCount starts a block of Go's goroutine profile: so many have this stack.
var goroutineCount = regexp.MustCompile(`(?m)^(\d+) @ `)

// goroutines is the daemon's goroutine profile. The daemon listens for it on a
// port that the kernel chose (mount asks for one), found like any of its sockets.
func (m *mount) goroutines() (text string) {
	m.b.t.Helper()
	// The kernel's list can leave out what it has while other processes' sockets come
	// and go.
	if !poll(patience, func() bool { text = m.profile(); return text != "" }) {
		m.b.t.Errorf("the daemon serves no profiles")
	}
	return text
}

// profile is empty when the daemon's listener is not in the kernel's list.
func (m *mount) profile() string {
	m.b.t.Helper()
	pid := m.cmd.Process.Pid
	listeners, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", pid))
	must(m.b.t, err)
	sockets := map[string]bool{}
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil {
			sockets[target] = true
		}
	}
	for line := range strings.Lines(string(listeners)) {
		const local, state, inode, listening = 1, 3, 9, "0A"
		words := strings.Fields(line)
		if len(words) <= inode || words[state] != listening || !sockets["socket:["+words[inode]+"]"] {
			continue
		}
		_, port, _ := strings.Cut(words[local], ":")
		n, err := strconv.ParseUint(port, 16, 16)
		must(m.b.t, err)
		text, err := fetch(fmt.Sprintf("http://127.0.0.1:%d/debug/pprof/goroutine?debug=1", n))
		must(m.b.t, err)
		return text
	}
	return ""
}

func fetch(url string) (string, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	answer, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return string(text), err
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
	if h.goroutines > before.goroutines+4 { // a few begin with the first work
		out = append(out, fmt.Sprintf("%d goroutines, %d at the start:\n%s", h.goroutines, before.goroutines, h.stacks))
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
	if !poll(patience, func() bool {
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
	waitFor(t, dir+" is unmounted", patience, func() bool {
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
