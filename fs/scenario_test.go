package fs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// scenarios run in a client, each in an empty directory of its own.
var scenarios = map[string]func(*testing.T, string){
	"FlushByDupAndFork":    flushByDupAndFork,
	"FlushBeforeWrite":     flushBeforeWrite,
	"WriteAfterClose":      writeAfterClose,
	"RenameOverOpen":       renameOverOpen,
	"UnlinkOpen":           unlinkOpen,
	"UnlinkedContent":      unlinkedContent,
	"TmpfileLink":          tmpfileLink,
	"TruncateOpen":         truncateOpen,
	"Exchange":             exchange,
	"CookiesUnderDeletion": cookiesUnderDeletion,
	"Modes":                modes,
	"Times":                times,
	"SymlinkLong":          symlinkLong,
	"ParentTimes":          parentTimes,
	"Refusals":             refusals,
	"Exec":                 execFile,
	"Sparse":               sparse,
	"InodeKept":            inodeKept,
	"DeepPath":             deepPath,
}

func TestClientScenarios(t *testing.T) {
	dir := clientDir(t)
	syscall.Umask(0)
	for name, f := range scenarios {
		t.Run(name, func(t *testing.T) {
			sub := filepath.Join(dir, name)
			check(t, os.Mkdir(sub, 0o755))
			f(t, sub)
			check(t, os.RemoveAll(sub))
		})
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErrno(t *testing.T, what string, got error, want syscall.Errno) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func wantContent(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s: got %.60q (%d bytes), %v; want %.60q (%d bytes)", filepath.Base(path), got, len(got), err, want, len(want))
	}
}

func stat(t *testing.T, path string) (st unix.Stat_t) {
	t.Helper()
	check(t, unix.Lstat(path, &st))
	return st
}

func fstat(t *testing.T, f *os.File) (st unix.Stat_t) {
	t.Helper()
	check(t, unix.Fstat(int(f.Fd()), &st))
	return st
}

// flushByDupAndFork closes copies of a descriptor between writes: each is a
// FLUSH, and none may end the file.
func flushByDupAndFork(t *testing.T, dir string) {
	f, err := os.Create(dir + "/f")
	check(t, err)
	want := ""
	for i := range 6 {
		check(t, dupClose(int(f.Fd())))
		child := exec.Command("/bin/sh", "-c", fmt.Sprintf("echo child %d >&3", i))
		child.ExtraFiles = []*os.File{f}
		check(t, child.Run())
		want += fmt.Sprintf("child %d\n", i)
		part := strings.Repeat("x", 20_000)
		_, err := f.WriteString(part)
		check(t, err)
		want += part
		wantContent(t, dir+"/f", want)
	}
	check(t, f.Close())
	wantContent(t, dir+"/f", want)
}

func flushBeforeWrite(t *testing.T, dir string) {
	check(t, exec.Command("/bin/sh", "-c", "echo one > $0/f; echo two >> $0/f; { echo 3; echo 4; } >> $0/f", dir).Run())
	wantContent(t, dir+"/f", "one\ntwo\n3\n4\n")
}

// writeAfterClose writes through a mapping whose descriptor is closed.
func writeAfterClose(t *testing.T, dir string) {
	check(t, os.WriteFile(dir+"/f", bytes.Repeat([]byte("."), 10_000), 0o600))
	check(t, mapWrite(&call{Path: dir + "/f", N: 10_000, Off: 5_000, Data: []byte("mapped")}))
	want := strings.Repeat(".", 5_000) + "mapped" + strings.Repeat(".", 4_994)
	wantContent(t, dir+"/f", want)
}

func renameOverOpen(t *testing.T, dir string) {
	check(t, os.WriteFile(dir+"/old", []byte("old content"), 0o600))
	old, err := os.OpenFile(dir+"/old", os.O_RDWR, 0)
	check(t, err)
	defer old.Close()
	fresh, err := os.Create(dir + "/new")
	check(t, err)
	_, err = fresh.WriteString("new content")
	check(t, err)
	check(t, os.Rename(dir+"/new", dir+"/old")) // dirty: GLib renames before it closes
	wantContent(t, dir+"/old", "new content")
	_, err = fresh.WriteString(", and more")
	check(t, err)
	check(t, fresh.Close())
	wantContent(t, dir+"/old", "new content, and more")

	if st := fstat(t, old); st.Nlink != 0 || st.Size != 11 {
		t.Errorf("overwritten file: nlink %d, size %d", st.Nlink, st.Size)
	}
	buf := make([]byte, 20)
	if n, _ := old.ReadAt(buf, 0); string(buf[:n]) != "old content" {
		t.Errorf("overwritten file reads %q", buf[:n])
	}
	_, err = old.WriteAt([]byte("OLD"), 0)
	check(t, err)
	check(t, old.Close())
	wantContent(t, dir+"/old", "new content, and more")
}

func unlinkOpen(t *testing.T, dir string) {
	f, err := os.OpenFile(dir+"/f", os.O_CREATE|os.O_RDWR, 0o600)
	check(t, err)
	defer f.Close()
	_, err = f.WriteString("before")
	check(t, err)
	check(t, os.Remove(dir+"/f"))
	_, err = f.WriteString(" and after")
	check(t, err)
	check(t, f.Sync())
	if st := fstat(t, f); st.Nlink != 0 || st.Size != 16 {
		t.Errorf("nlink %d, size %d", st.Nlink, st.Size)
	}
	buf := make([]byte, 32)
	if n, _ := f.ReadAt(buf, 0); string(buf[:n]) != "before and after" {
		t.Errorf("reads %q", buf[:n])
	}
	// The name is free for another file while the old one is open.
	check(t, os.WriteFile(dir+"/f", []byte("another"), 0o600))
	check(t, f.Close())
	wantContent(t, dir+"/f", "another")
}

// unlinkedContent opens closed files and takes their names away before the
// first read: small ones lie in their rows, large ones in files.
func unlinkedContent(t *testing.T, dir string) {
	for _, size := range []int{5, 30_000, 300_000} {
		for name, take := range map[string]func(string) error{
			"unlink": os.Remove,
			"rename over": func(path string) error {
				if err := os.WriteFile(path+".new", []byte("other"), 0o600); err != nil {
					return err
				}
				return os.Rename(path+".new", path)
			},
		} {
			want := bytes.Repeat([]byte("c"), size)
			path := fmt.Sprintf("%s/%s %d", dir, name, size)
			check(t, os.WriteFile(path, want, 0o600))
			f, err := os.Open(path)
			check(t, err)
			check(t, take(path))
			got := make([]byte, size+1)
			if n, err := f.ReadAt(got, 0); !bytes.Equal(got[:n], want) {
				t.Errorf("%s, %d bytes: reads %d bytes, %v", name, size, n, err)
			}
			check(t, f.Close())
		}
	}
}

func tmpfileLink(t *testing.T, dir string) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR, 0o640)
	check(t, err)
	f := os.NewFile(uintptr(fd), "tmpfile")
	defer f.Close()
	_, err = f.WriteString("no name yet")
	check(t, err)
	if st := fstat(t, f); st.Nlink != 0 {
		t.Errorf("nlink %d before link", st.Nlink)
	}
	check(t, unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, dir+"/named", unix.AT_SYMLINK_FOLLOW))
	wantContent(t, dir+"/named", "no name yet")
	if st := stat(t, dir+"/named"); st.Nlink != 1 || st.Mode&0o777 != 0o640 {
		t.Errorf("nlink %d, mode %o after link", st.Nlink, st.Mode)
	}
	_, err = f.WriteString(", now more")
	check(t, err)
	check(t, f.Close())
	wantContent(t, dir+"/named", "no name yet, now more")
	wantErrno(t, "link of a named file", os.Link(dir+"/named", dir+"/again"), unix.EPERM)
}

func truncateOpen(t *testing.T, dir string) {
	check(t, os.WriteFile(dir+"/f", bytes.Repeat([]byte("long "), 20_000), 0o600))
	other, err := os.Open(dir + "/f")
	check(t, err)
	defer other.Close()
	f, err := os.OpenFile(dir+"/f", os.O_RDWR|os.O_TRUNC, 0)
	check(t, err)
	if st := fstat(t, other); st.Size != 0 {
		t.Errorf("size %d right after O_TRUNC", st.Size)
	}
	_, err = f.WriteString("short")
	check(t, err)
	check(t, f.Close())
	wantContent(t, dir+"/f", "short")

	check(t, os.Truncate(dir+"/f", 3)) // nobody has it open for writing
	wantContent(t, dir+"/f", "sho")
	check(t, os.Truncate(dir+"/f", 6))
	wantContent(t, dir+"/f", "sho\x00\x00\x00")
	check(t, exec.Command("/bin/sh", "-c", ": > "+dir+"/f").Run())
	wantContent(t, dir+"/f", "")
}

func exchange(t *testing.T, dir string) {
	a, b := dir+"/a", dir+"/b"
	swap := func() error { return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE) }
	check(t, os.WriteFile(a, []byte("A"), 0o600))
	wantErrno(t, "exchange with nothing", swap(), unix.ENOENT)
	check(t, os.WriteFile(b, []byte("B"), 0o600))
	inoA := stat(t, a).Ino
	check(t, swap())
	wantContent(t, a, "B")
	wantContent(t, b, "A")
	if stat(t, b).Ino != inoA {
		t.Error("a file left its inode behind")
	}
	check(t, os.Remove(b))
	check(t, os.Mkdir(b, 0o755))
	check(t, os.WriteFile(b+"/in", []byte("inside"), 0o600))
	check(t, swap()) // a file against a folder
	wantContent(t, a+"/in", "inside")
	wantContent(t, b, "B")
	if n := stat(t, dir).Nlink; n != 3 {
		t.Errorf("nlink of the parent: %d, want 3", n)
	}
	err := unix.Renameat2(unix.AT_FDCWD, b, unix.AT_FDCWD, a, unix.RENAME_NOREPLACE)
	wantErrno(t, "no-replace", err, unix.EEXIST)
	err = unix.Renameat2(unix.AT_FDCWD, b, unix.AT_FDCWD, dir+"/c", unix.RENAME_WHITEOUT)
	wantErrno(t, "whiteout", err, unix.EINVAL)
}

// cookiesUnderDeletion deletes what a listing has shown, while it goes on:
// every name must be seen, and none twice.
func cookiesUnderDeletion(t *testing.T, dir string) {
	const files = 700
	for i := range files {
		check(t, os.WriteFile(fmt.Sprintf("%s/file-%04d", dir, i), nil, 0o600))
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	check(t, err)
	defer unix.Close(fd)
	seen := make(map[string]bool)
	buf := make([]byte, 2_000)
	for {
		n, err := unix.ReadDirent(fd, buf)
		check(t, err)
		if n == 0 {
			break
		}
		_, _, names := unix.ParseDirent(buf[:n], -1, nil)
		for i, name := range names {
			if seen[name] {
				t.Fatalf("%s is listed twice", name)
			}
			seen[name] = true
			if i%2 == 0 {
				check(t, os.Remove(dir+"/"+name))
			}
		}
	}
	if len(seen) != files {
		t.Errorf("saw %d names of %d", len(seen), files)
	}
}

func modes(t *testing.T, dir string) {
	for _, mode := range []uint32{0, 0o001, 0o444, 0o640, 0o777} {
		name := fmt.Sprintf("%s/%o", dir, mode)
		fd, err := unix.Open(name, unix.O_CREAT|unix.O_RDWR, mode)
		check(t, err)
		_, err = unix.Write(fd, []byte("x"))
		check(t, err)
		check(t, unix.Close(fd))
		if got := stat(t, name).Mode & 0o7777; got != mode {
			t.Errorf("created %o, got %o", mode, got)
		}
		check(t, unix.Chmod(name, mode^0o421))
		if got := stat(t, name).Mode & 0o7777; got != mode^0o421 {
			t.Errorf("chmod %o, got %o", mode^0o421, got)
		}
	}
	check(t, unix.Chmod(dir+"/777", 0o6755))
	if got := stat(t, dir+"/777").Mode & 0o7777; got != 0o755 {
		t.Errorf("set-id bits: got %o", got)
	}
	owner := stat(t, dir+"/777").Uid
	if os.Geteuid() == 0 {
		check(t, os.Lchown(dir+"/777", 4711, 4711))
	}
	if got := stat(t, dir+"/777").Uid; got != owner {
		t.Errorf("chown took effect: %d", got)
	}
}

func times(t *testing.T, dir string) {
	set := func(path string, atime, mtime unix.Timespec) {
		t.Helper()
		check(t, unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{atime, mtime}, unix.AT_SYMLINK_NOFOLLOW))
	}
	f, l := dir+"/f", dir+"/l"
	check(t, os.WriteFile(f, []byte("x"), 0o600))
	check(t, os.Symlink("f", l))
	omit := unix.Timespec{Nsec: unix.UTIME_OMIT}
	for _, path := range []string{f, l} {
		set(path, unix.Timespec{Sec: 1_000, Nsec: 1}, unix.Timespec{Sec: 2_000, Nsec: 999_999_999})
		set(path, omit, unix.Timespec{Sec: 3_000, Nsec: 123_456_789})
		if st := stat(t, path); st.Atim.Sec != 1_000 || st.Mtim.Sec != 3_000 || st.Mtim.Nsec != 123_456_789 {
			t.Errorf("%s: atime %v, mtime %v", filepath.Base(path), st.Atim, st.Mtim)
		}
		set(path, unix.Timespec{Sec: 5_000}, omit)
		if st := stat(t, path); st.Atim.Sec != 5_000 || st.Mtim.Sec != 3_000 {
			t.Errorf("%s: atime %v, mtime %v", filepath.Base(path), st.Atim, st.Mtim)
		}
		set(path, omit, unix.Timespec{Sec: -86_400, Nsec: 5}) // before 1970
		if st := stat(t, path); st.Mtim.Sec != -86_400 || st.Mtim.Nsec != 5 {
			t.Errorf("%s: mtime %v", filepath.Base(path), st.Mtim)
		}
	}
	// tar and cp -p set times before they close.
	w, err := os.OpenFile(f, os.O_WRONLY|os.O_APPEND, 0)
	check(t, err)
	_, err = w.WriteString("more")
	check(t, err)
	set(f, unix.Timespec{Sec: 7}, unix.Timespec{Sec: 8, Nsec: 9})
	check(t, w.Close())
	if st := stat(t, f); st.Mtim.Sec != 8 || st.Mtim.Nsec != 9 {
		t.Errorf("mtime after close: %v", st.Mtim)
	}
}

func symlinkLong(t *testing.T, dir string) {
	target := strings.Repeat("t", 4095)
	check(t, os.Symlink(target, dir+"/l"))
	got, err := os.Readlink(dir + "/l")
	if err != nil || got != target {
		t.Errorf("target of %d bytes, %v", len(got), err)
	}
	if st := stat(t, dir+"/l"); st.Size != 4095 {
		t.Errorf("size %d", st.Size)
	}
}

// parentTimes wants a directory's mtime and ctime to move with each change,
// and its nlink to count folders.
func parentTimes(t *testing.T, dir string) {
	other := dir + "/other"
	check(t, os.Mkdir(other, 0o755))
	steps := []struct {
		name string
		do   func() error
		dirs []string
	}{
		{"create", func() error { return os.WriteFile(dir+"/f", nil, 0o600) }, []string{dir}},
		{"mkdir", func() error { return os.Mkdir(dir+"/d", 0o755) }, []string{dir}},
		{"symlink", func() error { return os.Symlink("x", dir+"/l") }, []string{dir}},
		{"rename", func() error { return os.Rename(dir+"/f", other+"/f") }, []string{dir, other}},
		{"rename folder", func() error { return os.Rename(dir+"/d", other+"/d") }, []string{dir, other}},
		{"unlink", func() error { return os.Remove(other + "/f") }, []string{other}},
		{"rmdir", func() error { return os.Remove(other + "/d") }, []string{other}},
	}
	for _, s := range steps {
		var before []unix.Stat_t
		for _, d := range s.dirs {
			before = append(before, stat(t, d))
		}
		if err := s.do(); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		for i, d := range s.dirs {
			now := stat(t, d)
			if now.Mtim.Nano() <= before[i].Mtim.Nano() || now.Ctim.Nano() <= before[i].Ctim.Nano() {
				t.Errorf("%s: times of %s did not move", s.name, filepath.Base(d))
			}
		}
	}
	if a, b := stat(t, dir).Nlink, stat(t, other).Nlink; a != 3 || b != 2 {
		t.Errorf("nlink %d and %d, want 3 and 2", a, b)
	}
}

func refusals(t *testing.T, dir string) {
	d, f := dir+"/d", dir+"/f"
	check(t, os.MkdirAll(d+"/e", 0o755))
	check(t, os.WriteFile(f, []byte("x"), 0o600))
	wantErrno(t, "folder into itself", os.Rename(d, d+"/e/d"), unix.EINVAL)
	wantErrno(t, "rmdir of a full folder", unix.Rmdir(d), unix.ENOTEMPTY)
	wantErrno(t, "rmdir of a file", unix.Rmdir(f), unix.ENOTDIR)
	wantErrno(t, "unlink of a folder", unix.Unlink(d), unix.EISDIR)
	wantErrno(t, "file over folder", unix.Rename(f, d), unix.EISDIR)
	wantErrno(t, "folder over file", unix.Rename(d, f), unix.ENOTDIR)
	check(t, os.MkdirAll(dir+"/g", 0o755))
	wantErrno(t, "folder over a full one", unix.Rename(dir+"/g", d), unix.ENOTEMPTY)
	wantErrno(t, "fifo", unix.Mkfifo(dir+"/p", 0o600), unix.EPERM)
	wantErrno(t, "device", unix.Mknod(dir+"/n", unix.S_IFCHR|0o600, 0x103), unix.EPERM)
	check(t, unix.Mknod(dir+"/plain", unix.S_IFREG|0o600, 0))
	wantContent(t, dir+"/plain", "")
	wantErrno(t, "mknod again", unix.Mknod(dir+"/plain", unix.S_IFREG|0o600, 0), unix.EEXIST)
	wantErrno(t, "not UTF-8", os.WriteFile(dir+"/\xff\xfe", nil, 0o600), unix.EILSEQ)
	wantErrno(t, "stat of not UTF-8", unix.Lstat(dir+"/\xff\xfe", &unix.Stat_t{}), unix.ENOENT)
	wantErrno(t, "long name", os.WriteFile(dir+"/"+strings.Repeat("n", 256), nil, 0o600), unix.ENAMETOOLONG)
	check(t, os.WriteFile(dir+"/"+strings.Repeat("n", 255), nil, 0o600))

	fd, err := unix.Open(f, unix.O_RDWR, 0)
	check(t, err)
	defer unix.Close(fd)
	wantErrno(t, "punch", unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 1), unix.EOPNOTSUPP)
	wantErrno(t, "too large", unix.Ftruncate(fd, 1<<62), unix.EFBIG)
	_, err = unix.IoctlGetTermios(fd, unix.TCGETS)
	wantErrno(t, "ioctl", err, unix.ENOTTY)
	_, err = os.OpenFile(f, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0)
	wantErrno(t, "exclusive create", err, unix.EEXIST)
}

func execFile(t *testing.T, dir string) {
	check(t, os.WriteFile(dir+"/run", []byte("#!/bin/sh\necho ran\n"), 0o700))
	if out, err := exec.Command(dir + "/run").Output(); err != nil || string(out) != "ran\n" {
		t.Errorf("script: %q, %v", out, err)
	}
	check(t, exec.Command("cp", "/bin/true", dir+"/true").Run())
	check(t, exec.Command(dir+"/true").Run())
}

// sparse writes far behind the end: what lies between reads as zeros.
func sparse(t *testing.T, dir string) {
	f, err := os.Create(dir + "/f")
	check(t, err)
	_, err = f.WriteAt([]byte("end"), 300_000)
	check(t, err)
	check(t, f.Close())
	wantContent(t, dir+"/f", strings.Repeat("\x00", 300_000)+"end")
}

// inodeKept wants the inode number to stay over save, rename and reopening.
func inodeKept(t *testing.T, dir string) {
	check(t, os.WriteFile(dir+"/a", []byte("1"), 0o600))
	ino := stat(t, dir+"/a").Ino
	check(t, os.WriteFile(dir+"/a", []byte("22"), 0o600))
	check(t, os.WriteFile(dir+"/b", []byte("333"), 0o600))
	check(t, os.Rename(dir+"/a", dir+"/b"))
	if got := stat(t, dir+"/b").Ino; got != ino {
		t.Errorf("inode %d after rename, was %d", got, ino)
	}
	wantContent(t, dir+"/b", "22")
}

// deepPath makes a path near the limit of the kernel, part by part.
func deepPath(t *testing.T, dir string) {
	back, err := os.Getwd()
	check(t, err)
	defer os.Chdir(back)
	check(t, os.Chdir(dir))
	part := strings.Repeat("p", 200)
	for range 18 {
		check(t, os.Mkdir(part, 0o755))
		check(t, os.Chdir(part))
	}
	check(t, os.WriteFile("f", []byte("deep"), 0o600))
	path := dir + strings.Repeat("/"+part, 18) + "/f"
	if len(path) > 3_600 {
		wantContent(t, path, "deep")
	}
}
