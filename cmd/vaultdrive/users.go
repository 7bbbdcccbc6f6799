package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// maxUsers bounds the list of processes an error names.
const maxUsers = 5

// usersOf lists the processes with something open below a mount point, as far
// as /proc lets this user see. It reads links only and never touches the
// mount itself.
func usersOf(mountPoint string) []string {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var users []string
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if !usesMount(filepath.Join("/proc", e.Name()), mountPoint) {
			continue
		}
		if len(users) == maxUsers {
			return append(users, "others")
		}
		users = append(users, fmt.Sprintf("%s (%d)", commandName(pid), pid))
	}
	return users
}

func usesMount(proc, mountPoint string) bool {
	for _, link := range []string{"cwd", "root", "exe"} {
		if target, err := os.Readlink(filepath.Join(proc, link)); err == nil && within(target, mountPoint) {
			return true
		}
	}
	fds, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil {
		return false
	}
	return slices.ContainsFunc(fds, func(fd os.DirEntry) bool {
		target, err := os.Readlink(filepath.Join(proc, "fd", fd.Name()))
		return err == nil && within(target, mountPoint)
	}) || mapsFrom(proc, mountPoint)
}

// mapsFrom finds mappings whose descriptor is closed already.
func mapsFrom(proc, mountPoint string) bool {
	maps, err := os.ReadFile(filepath.Join(proc, "maps"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(maps)) {
		if i := strings.IndexByte(line, '/'); i >= 0 && within(strings.TrimSuffix(line[i:], "\n"), mountPoint) {
			return true
		}
	}
	return false
}

func commandName(pid int) string {
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return "?"
	}
	return strings.TrimSpace(string(comm))
}
