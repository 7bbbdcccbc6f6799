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
