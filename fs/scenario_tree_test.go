package fs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

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
