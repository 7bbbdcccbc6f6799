package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
)

// fsSubtype is what the kernel shows behind "fuse." for our mounts.
const fsSubtype = "vaultdrive"

// mountEntry is a line of /proc/self/mountinfo.
type mountEntry struct {
	device string // major:minor
	point  string
	fsType string
	source string
	owner  string // user id of who mounted a FUSE file system
}

// isOurs tells a mount of vaultdrive from others.
func (m mountEntry) isOurs() bool { return m.fsType == "fuse."+fsSubtype }

// readMounts lists the mounts of this process's namespace, in mount order.
func readMounts() ([]mountEntry, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	defer f.Close()
	return parseMounts(f)
}

func parseMounts(r io.Reader) ([]mountEntry, error) {
	var mounts []mountEntry
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		head, tail, ok := strings.Cut(lines.Text(), " - ")
		before, after := strings.Fields(head), strings.Fields(tail)
		if !ok || len(before) < 5 || len(after) < 2 {
			continue
		}
		mounts = append(mounts, mountEntry{
			device: before[2],
			point:  unescapeMount(before[4]),
			fsType: after[0],
			source: unescapeMount(after[1]),
			owner:  superOption(after[2:], "user_id"),
		})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	return mounts, nil
}

// superOption finds an option of the file system itself, which come last.
func superOption(fields []string, name string) string {
	for _, field := range fields {
		for option := range strings.SplitSeq(field, ",") {
			if value, ok := strings.CutPrefix(option, name+"="); ok {
				return value
			}
		}
	}
	return ""
}

// unescapeMount undoes the octal escapes the kernel uses for space, tab,
// newline and backslash.
func unescapeMount(s string) string {
	if !strings.ContainsRune(s, '\\') {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && isOctal(s[i+1:i+4]) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func isOctal(s string) bool {
	return strings.Trim(s, "01234567") == "" && s[0] <= '3'
}

// mountAt finds the topmost mount on exactly this path.
func mountAt(path string) (mountEntry, bool, error) {
	mounts, err := readMounts()
	if err != nil {
		return mountEntry{}, false, err
	}
	for i := len(mounts) - 1; i >= 0; i-- {
		if mounts[i].point == path {
			return mounts[i], true, nil
		}
	}
	return mountEntry{}, false, nil
}
