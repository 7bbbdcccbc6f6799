package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// contestant is one file system under test. A plain directory has no command.
type contestant struct {
	name, version string
	ours          bool // a vaultdrive
	mnt           string
	log           string
	argv          []string // stays in the foreground
	env           []string
	process       *exec.Cmd
	peak          int64 // largest resident memory of any mount, KiB
}

const password = "benchmark password\n"

// maker makes a fresh volume of one contestant, or none: not installed.
type maker struct {
	name string
	make func(work, program string) (*contestant, error)
}

var makers = []maker{
	{"plain", newPlain},
	{"vaultdrive", func(work, program string) (*contestant, error) { return newDrive(work, program, "vaultdrive", "auto") }},
	{"vaultdrive-v4", func(work, program string) (*contestant, error) { return newDrive(work, program, "vaultdrive-v4", "v4") }},
	{"gocryptfs", newGocryptfs},
}

// contestants makes a fresh volume for each that is wanted and installed.
func contestants(work string, o options) ([]*contestant, error) {
	if o.contestants != "" {
		for name := range strings.SplitSeq(o.contestants, ",") {
			if !slices.ContainsFunc(makers, func(m maker) bool { return m.name == name }) {
				return nil, fmt.Errorf("there is no contestant %q", name)
			}
		}
	}
	var all []*contestant
	for _, m := range makers {
		if !o.wants(m.name) {
			continue
		}
		c, err := m.make(work, o.program)
		if err != nil {
			return nil, err
		}
		if c != nil {
			all = append(all, c)
		}
	}
	return all, nil
}

func newPlain(work, _ string) (*contestant, error) {
	c, err := newContestant(work, "plain")
	if err == nil {
		c.version = "a directory without a file system of its own"
	}
	return c, err
}

func newContestant(work, name string) (*contestant, error) {
	dir := filepath.Join(work, name)
	c := &contestant{name: name, mnt: filepath.Join(dir, "mnt"), log: filepath.Join(dir, "log"), env: os.Environ()}
	return c, errors.Join(os.MkdirAll(c.mnt, 0o700), os.WriteFile(filepath.Join(dir, "password"), []byte(password), 0o600))
}

// newDrive makes a vault whose contents are written in the given format.
func newDrive(work, program, name, write string) (*contestant, error) {
	c, err := newContestant(work, name)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(c.mnt)
	vault, pass, key := filepath.Join(dir, "vault"), filepath.Join(dir, "password"), filepath.Join(dir, "device.key")
	c.ours = true
	c.env = append(c.env, "XDG_RUNTIME_DIR="+dir)
	for _, args := range [][]string{
		{"init", "--vault", vault, "--password-file", pass, "--write", write},
		{"asset", "add", "--vault", vault, "--password-file", pass, "bench"},
		{"device", "enroll", "--vault", vault, "--password-file", pass, "--device-key", key},
	} {
		if err := c.command(program, args...); err != nil {
			return nil, err
		}
	}
	c.version = firstLine(program, "--version") + ", write=" + write
	c.argv = []string{program, "mount", "--foreground", "--asset", "bench", "--vault", vault, "--device-key", key, c.mnt}
	return c, nil
}

func newGocryptfs(work, _ string) (*contestant, error) {
	path, err := exec.LookPath("gocryptfs")
	if err != nil {
		return nil, nil
	}
	c, err := newContestant(work, "gocryptfs")
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(c.mnt)
	store, pass := filepath.Join(dir, "store"), filepath.Join(dir, "password")
	if err := os.Mkdir(store, 0o700); err != nil {
		return nil, err
	}
	c.version = firstLine(path, "--version")
	c.argv = []string{path, "-q", "-fg", "-passfile", pass, store, c.mnt}
	return c, c.command(path, "-q", "-init", "-passfile", pass, store)
}

func (c *contestant) command(program string, args ...string) error {
	cmd := exec.Command(program, args...)
	cmd.Env = c.env
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", filepath.Base(program), strings.Join(args, " "), err, text)
	}
	return nil
}

func firstLine(program string, args ...string) string {
	text, _ := exec.Command(program, args...).CombinedOutput()
	line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	return line
}

// mount returns how long it took from the start of the program to the first stat
// that sees the mounted root.
func (c *contestant) mount() (time.Duration, error) {
	if c.argv == nil {
		return 0, nil
	}
	log, err := os.OpenFile(c.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	outside, err := device(filepath.Dir(c.mnt))
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(c.argv[0], c.argv[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = c.env, log, log
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	c.process = cmd
	for time.Since(start) < time.Minute {
		if inside, err := device(c.mnt); err == nil && inside != outside {
			return time.Since(start), nil
		}
		time.Sleep(300 * time.Microsecond)
	}
	return 0, fmt.Errorf("%s is not mounted after a minute, see %s", c.name, c.log)
}

func device(path string) (uint64, error) {
	var st syscall.Stat_t
	err := syscall.Stat(path, &st)
	return uint64(st.Dev), err
}

func (c *contestant) unmount() error {
	if c.process == nil {
		return nil
	}
	c.peak = max(c.peak, peakMemory(c.process.Process.Pid))
	var err error
	for range 100 {
		if err = exec.Command("fusermount3", "-u", c.mnt).Run(); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", c.name, err)
	}
	err = c.process.Wait()
	c.process = nil
	return err
}

// cold unmounts, has the kernel forget everything, and mounts again.
func (c *contestant) cold() error {
	if err := c.unmount(); err != nil {
		return err
	}
	dropCaches()
	_, err := c.mount()
	return err
}

// dropCaches works for root only; the report says so.
func dropCaches() {
	syscall.Sync()
	_ = os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
}

// peakMemory is the largest resident set of a process so far, in KiB.
func peakMemory(pid int) int64 { return statusField(pid, "VmHWM") }

// statusField reads one field of /proc/<pid>/status that is given in KiB.
func statusField(pid int, name string) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(text)) {
		var n int64
		if _, err := fmt.Sscanf(line, name+": %d kB", &n); err == nil {
			return n
		}
	}
	return 0
}
