package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// One script, two doors: what the kernel shows of a vault is what the vault does.
// A line is a verb, its operands, and behind "=>" the answer, if it is not
// silence: a content, a listing, or "error" and its kind.
const driverScript = `
	mkdir A
	mkdir A => error exists
	write rootfile x => error not permitted
	write A/one hello
	read A/one => hello
	list A => one
	list . => A
	patch A/one 3 XY
	read A/one => helXY
	patch A/one 8 end
	read A/one => helXY\0\0\0end
	truncate A/one 4
	read A/one => helX
	truncate A/one 6
	read A/one => helX\0\0
	write A/one again
	read A/one => again
	write A/none/x text => error not found
	read A/none => error not found
	write A/one/x text => error not a directory
	read A => error is a directory
	mkdir A/folder
	mkdir A/folder/deep
	write A/folder/deep/two 2
	rmdir A/folder/deep => error not empty
	rmdir A/folder => error not empty
	remove A/folder => error is a directory
	rmdir A/one => error not a directory
	rename A/folder A/renamed
	list A => one renamed
	list A/renamed/deep => two
	read A/folder/deep/two => error not found
	mkdir B
	rename A/renamed/deep B/deep
	read B/deep/two => 2
	list A/renamed => 
	rename A/renamed A/renamed/inside => error invalid
	rename B/deep A/renamed/deep
	list B => 
	write A/target old
	write A/source new
	rename A/source A/target
	read A/target => new
	list A => one renamed target
	rename A/target A/renamed => error is a directory
	rename A/renamed A/target => error not a directory
	mkdir A/empty
	rename A/empty A/renamed => error not empty
	rename A/renamed/deep A/empty
	list A/empty => two
	rename A/renamed C => error crosses
	rename B A/b => error crosses
	rename B C
	list . => A C
	symlink to/nowhere A/link
	readlink A/link => to/nowhere
	symlink x A/link => error exists
	remove A/link
	remove A/link => error not found
	rmdir A => error not empty
	rmdir C
	list . => A
	remove A/one
	remove A/target
	list A => empty renamed
	write A/.~lock.x# lock
	read A/.~lock.x# => lock
	rename A/.~lock.x# A/plain
	read A/plain => lock
	write A/%2F.. strange
	read A/%2F.. => strange
	list A => %2F.. empty plain renamed
`

// door is one way into a vault. Paths are relative to its root.
type door interface {
	mkdir(path string) error
	rmdir(path string) error
	remove(path string) error
	write(path string, data string) error
	patch(path string, off int64, data string) error
	truncate(path string, size int64) error
	read(path string) (string, error)
	list(path string) ([]string, error)
	rename(from, to string) error
	symlink(target, path string) error
	readlink(path string) (string, error)
}

func TestOneScriptTwoDoors(t *testing.T) {
	t.Parallel()
	t.Run("vaultcore", func(t *testing.T) {
		t.Parallel()
		playScript(t, openCore(t))
	})
	t.Run("kernel", func(t *testing.T) {
		t.Parallel()
		b := newVault(t)
		m := b.mount()
		m.expect("the root of the drive holds assets only") // the log says why a file is refused there
		playScript(t, kernelDoor{m.dir})
		m.unmount()
		b.checkClean()
	})
}

func playScript(t *testing.T, d door) {
	t.Helper()
	for line := range strings.Lines(driverScript) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		call, want, _ := strings.Cut(line, "=>")
		got := play(d, strings.Fields(call))
		if want = strings.TrimSpace(want); got != want {
			t.Errorf("%s\n  got  %q\n  want %q", strings.TrimSpace(call), got, want)
		}
	}
}

func play(d door, words []string) string {
	var answer string
	var err error
	switch a := words[1]; words[0] {
	case "mkdir":
		err = d.mkdir(a)
	case "rmdir":
		err = d.rmdir(a)
	case "remove":
		err = d.remove(a)
	case "write":
		err = d.write(a, words[2])
	case "patch":
		var off int64
		fmt.Sscan(words[2], &off)
		err = d.patch(a, off, words[3])
	case "truncate":
		var size int64
		fmt.Sscan(words[2], &size)
		err = d.truncate(a, size)
	case "read":
		answer, err = d.read(a)
		answer = strings.ReplaceAll(answer, "\x00", `\0`)
	case "list":
		var names []string
		names, err = d.list(a)
		sort.Strings(names)
		answer = strings.Join(names, " ")
	case "rename":
		err = d.rename(a, words[2])
	case "symlink":
		err = d.symlink(a, words[2])
	case "readlink":
		answer, err = d.readlink(a)
	default:
		answer = "no such verb"
	}
	if err != nil {
		return "error " + kindOf(err)
	}
	return answer
}

// kindOf gives both vocabularies of errors one name.
func kindOf(err error) string {
	for _, k := range []struct {
		name  string
		core  error
		errno syscall.Errno
	}{
		{"exists", vaultcore.ErrExist, syscall.EEXIST},
		{"not found", vaultcore.ErrNotFound, syscall.ENOENT},
		{"not empty", vaultcore.ErrNotEmpty, syscall.ENOTEMPTY},
		{"is a directory", vaultcore.ErrIsDir, syscall.EISDIR},
		{"not a directory", vaultcore.ErrNotDir, syscall.ENOTDIR},
		{"crosses", vaultcore.ErrCrossAsset, syscall.EXDEV},
		{"not permitted", vaultcore.ErrPermission, syscall.EPERM},
		{"invalid", vaultcore.ErrInvalid, syscall.EINVAL},
	} {
		if errors.Is(err, k.core) || errors.Is(err, k.errno) {
			return k.name
		}
	}
	return err.Error()
}

// kernelDoor goes through a mount. It calls the system calls themselves, which
// os.Remove and others would choose between.
type kernelDoor struct{ root string }

func (k kernelDoor) at(path string) string { return filepath.Join(k.root, path) }

func (k kernelDoor) mkdir(path string) error  { return syscall.Mkdir(k.at(path), 0o755) }
func (k kernelDoor) rmdir(path string) error  { return syscall.Rmdir(k.at(path)) }
func (k kernelDoor) remove(path string) error { return syscall.Unlink(k.at(path)) }
func (k kernelDoor) write(path, data string) error {
	return os.WriteFile(k.at(path), []byte(data), 0o644)
}
func (k kernelDoor) truncate(path string, size int64) error { return os.Truncate(k.at(path), size) }
func (k kernelDoor) rename(from, to string) error           { return syscall.Rename(k.at(from), k.at(to)) }
func (k kernelDoor) symlink(target, path string) error      { return os.Symlink(target, k.at(path)) }
func (k kernelDoor) readlink(path string) (string, error)   { return os.Readlink(k.at(path)) }

func (k kernelDoor) patch(path string, off int64, data string) error {
	f, err := os.OpenFile(k.at(path), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(data), off)
	return errors.Join(err, f.Close())
}

func (k kernelDoor) read(path string) (string, error) {
	data, err := os.ReadFile(k.at(path))
	return string(data), err
}

func (k kernelDoor) list(path string) ([]string, error) {
	entries, err := os.ReadDir(k.at(path))
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// coreDoor calls the vault as the kernel layer does, without a kernel.
type coreDoor struct{ v *vaultcore.Vault }

func openCore(t *testing.T) coreDoor {
	t.Helper()
	ctx, home, password := context.Background(), filepath.Join(t.TempDir(), "vault"), []byte(testPassword)
	_, err := vaultcore.Create(ctx, vaultcore.CreateOptions{Home: home, Password: password, Params: seal.LowKDF()})
	must(t, err)
	v, err := vaultcore.Open(ctx, home, vaultcore.Credentials{Password: password}, vaultcore.Options{})
	must(t, err)
	t.Cleanup(func() {
		if err := v.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return coreDoor{v}
}

// find walks a path; the kernel's path lookup does the same.
func (c coreDoor) find(p string) (*vaultcore.Node, error) {
	n := c.v.Root()
	if p == "." {
		return n, nil
	}
	for name := range strings.SplitSeq(p, "/") {
		next, _, err := c.v.Lookup(n, name)
		if err != nil {
			return nil, err
		}
		n = next
	}
	return n, nil
}

func (c coreDoor) parent(p string) (*vaultcore.Node, string, error) {
	dir, err := c.find(path.Dir(p))
	return dir, path.Base(p), err
}

func (c coreDoor) mkdir(p string) error {
	dir, name, err := c.parent(p)
	if err == nil {
		_, _, err = c.v.Mkdir(dir, name, 0o755)
	}
	return err
}

func (c coreDoor) rmdir(p string) error {
	dir, name, err := c.parent(p)
	if err == nil {
		err = c.v.Rmdir(dir, name)
	}
	return err
}

func (c coreDoor) remove(p string) error {
	dir, name, err := c.parent(p)
	if err == nil {
		err = c.v.Unlink(dir, name)
	}
	return err
}

func (c coreDoor) write(p, data string) error {
	dir, name, err := c.parent(p)
	if err != nil {
		return err
	}
	n, _, err := c.v.Create(dir, name, 0o644)
	if errors.Is(err, vaultcore.ErrExist) {
		if n, err = c.find(p); err == nil {
			err = c.v.Open(n, true, true)
		}
	}
	if err != nil {
		return err
	}
	return c.finish(n, 0, data)
}

// finish writes into an opened file and closes it: FLUSH, then RELEASE.
func (c coreDoor) finish(n *vaultcore.Node, off int64, data string) error {
	_, err := c.v.WriteAt(n, []byte(data), off)
	err = errors.Join(err, c.v.Flush(n))
	c.v.Release(n, true)
	return err
}

func (c coreDoor) patch(p string, off int64, data string) error {
	n, err := c.find(p)
	if err == nil {
		err = c.v.Open(n, true, false)
	}
	if err != nil {
		return err
	}
	return c.finish(n, off, data)
}

func (c coreDoor) truncate(p string, size int64) error {
	n, err := c.find(p)
	if err == nil {
		_, err = c.v.SetAttr(n, vaultcore.SetAttr{Size: &size})
	}
	return err
}

func (c coreDoor) read(p string) (string, error) {
	n, err := c.find(p)
	if err != nil {
		return "", err
	}
	if k := n.Kind(); k != vaultcore.KindFile && k != vaultcore.KindSymlink {
		return "", vaultcore.ErrIsDir
	}
	if err := c.v.Open(n, false, false); err != nil {
		return "", err
	}
	defer c.v.Release(n, false)
	buf := make([]byte, c.v.Attr(n).Size)
	k, err := c.v.ReadAt(n, buf, 0)
	return string(buf[:k]), err
}

func (c coreDoor) list(p string) ([]string, error) {
	n, err := c.find(p)
	if err != nil {
		return nil, err
	}
	var names []string
	err = c.v.ReadDir(n, 0, func(e *vaultcore.DirEntry) bool {
		names = append(names, strings.Clone(e.Name))
		return true
	})
	return names, err
}

func (c coreDoor) rename(from, to string) error {
	dir, name, err := c.parent(from)
	if err != nil {
		return err
	}
	newDir, newName, err := c.parent(to)
	if err == nil {
		err = c.v.Rename(dir, name, newDir, newName, 0)
	}
	return err
}

func (c coreDoor) symlink(target, p string) error {
	dir, name, err := c.parent(p)
	if err == nil {
		_, _, err = c.v.Symlink(dir, name, target)
	}
	return err
}

func (c coreDoor) readlink(p string) (string, error) {
	n, err := c.find(p)
	if err != nil {
		return "", err
	}
	return c.v.Readlink(n)
}
