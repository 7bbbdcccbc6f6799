package fs

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mountEntry is one line of /proc/self/mountinfo (proc(5)).
type mountEntry struct {
	dev    device
	point  string
	fsType string
}

func (m mountEntry) ours() bool   { return m.fsType == "fuse."+fsType }
func (m mountEntry) isFUSE() bool { return m.fsType == "fuse" || strings.HasPrefix(m.fsType, "fuse.") }

// topMount gives the mount that is seen at a directory; an entry without a
// point if the directory is no mount point.
func topMount(point string) (top mountEntry, err error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return top, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if m, ok := parseMount(lines.Text()); ok && m.point == point {
			top = m // later lines lie above earlier ones
		}
	}
	return top, lines.Err()
}

// parseMount reads "36 35 98:0 /root /point rw,noatime master:1 - type source
// options"; the number of fields before the dash varies.
func parseMount(line string) (m mountEntry, ok bool) {
	before, after, ok := strings.Cut(line, " - ")
	if !ok {
		return m, false
	}
	fields, tail := strings.Fields(before), strings.Fields(after)
	if len(fields) < 5 || len(tail) < 1 {
		return m, false
	}
	_, err := fmt.Sscanf(fields[2], "%d:%d", &m.dev.major, &m.dev.minor)
	m.point, m.fsType = unescapeMount(fields[4]), tail[0]
	return m, err == nil
}

// unescapeMount undoes the kernel's octal form of space, tab, newline and
// backslash.
func unescapeMount(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// device is the number of a mounted file system; of a FUSE mount, the minor
// is the number of its connection too.
type device struct{ major, minor uint32 }

// setReadAhead tries to raise the kernel's readahead. Only root may, and a
// mount that reads a little slower is still right.
func (d device) setReadAhead(kb int) {
	path := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", d.major, d.minor)
	if f, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil {
		_, _ = f.WriteString(strconv.Itoa(kb))
		f.Close()
	}
}

// controlDir is where the kernel's control files for FUSE usually are.
const controlDir = "/sys/fs/fuse/connections"

// abort cuts the connection off, whatever is stuck. Where nobody has mounted
// the control files, root can do so for the moment; one that is not among them
// then has ended by itself.
func (d device) abort() error {
	if d == (device{}) {
		return os.ErrNotExist
	}
	err := d.abortIn(controlDir)
	if !errors.Is(err, os.ErrNotExist) || os.Geteuid() != 0 {
		return err
	}
	dir, err := os.MkdirTemp("", "fusectl-")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	if err := unix.Mount("fusectl", dir, "fusectl", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	if err = d.abortIn(dir); errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, unix.Unmount(dir, 0))
}

func (d device) abortIn(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, strconv.FormatUint(uint64(d.minor), 10), "abort"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("1")
	return errors.Join(err, f.Close())
}
