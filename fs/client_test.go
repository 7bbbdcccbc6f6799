package fs

import (
	"encoding/gob"
	"errors"
	"io"
	"os"
	"os/exec"
	"sort"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The tests are served by this process, and a process must not use a mount
// that it serves: with one processor that deadlocks, and a mapping or an exec
// deadlocks with any number. So everything that touches a mount runs in a
// child, the same binary run again: either a whole test (TestInClient) or a
// client that takes single calls over a pipe.

const clientEnv = "VAULTDRIVE_FS_TEST_CLIENT"

// call is one system call, or a small group that belongs together.
type call struct {
	Op       string
	Path, To string
	Data     []byte
	FD, N    int
	Flags    int
	Mode     uint32
	Off      int64
}

type answer struct {
	Errno syscall.Errno
	FD, N int
	Data  []byte
	Names []string
	Stat  unix.Stat_t
	Fs    unix.Statfs_t
}

func serveClient(r io.Reader, w io.Writer) {
	dec, enc := gob.NewDecoder(r), gob.NewEncoder(w)
	for {
		var c call
		if dec.Decode(&c) != nil {
			return
		}
		var a answer
		if err := c.run(&a); err != nil && !errors.As(err, &a.Errno) {
			a.Errno = syscall.EPROTO
		}
		if enc.Encode(a) != nil {
			return
		}
	}
}

var clientCalls = map[string]func(*call, *answer) error{
	"open": func(c *call, a *answer) (err error) {
		a.FD, err = unix.Open(c.Path, c.Flags|unix.O_CLOEXEC, c.Mode)
		return err
	},
	"close":    func(c *call, _ *answer) error { return unix.Close(c.FD) },
	"dupclose": func(c *call, _ *answer) error { return dupClose(c.FD) },
	"pread": func(c *call, a *answer) (err error) {
		a.Data = make([]byte, c.N)
		a.N, err = unix.Pread(c.FD, a.Data, c.Off)
		a.Data = a.Data[:max(a.N, 0)]
		return err
	},
	"pwrite": func(c *call, a *answer) (err error) {
		a.N, err = unix.Pwrite(c.FD, c.Data, c.Off)
		return err
	},
	"fadvise":   func(c *call, _ *answer) error { return unix.Fadvise(c.FD, 0, 0, unix.FADV_RANDOM) },
	"dontneed":  func(c *call, _ *answer) error { return unix.Fadvise(c.FD, 0, 0, unix.FADV_DONTNEED) },
	"truncate":  func(c *call, _ *answer) error { return unix.Truncate(c.Path, c.Off) },
	"fsync":     func(c *call, _ *answer) error { return unix.Fsync(c.FD) },
	"ftruncate": func(c *call, _ *answer) error { return unix.Ftruncate(c.FD, c.Off) },
	"fallocate": func(c *call, _ *answer) error { return unix.Fallocate(c.FD, c.Mode, c.Off, int64(c.N)) },
	"fstat":     func(c *call, a *answer) error { return unix.Fstat(c.FD, &a.Stat) },
	"stat":      func(c *call, a *answer) error { return unix.Lstat(c.Path, &a.Stat) },
	"statfs":    func(c *call, a *answer) error { return unix.Statfs(c.Path, &a.Fs) },
	"mkdir":     func(c *call, _ *answer) error { return unix.Mkdir(c.Path, c.Mode) },
	"rmdir":     func(c *call, _ *answer) error { return unix.Rmdir(c.Path) },
	"unlink":    func(c *call, _ *answer) error { return unix.Unlink(c.Path) },
	"rename":    func(c *call, _ *answer) error { return unix.Renameat2(-100, c.Path, -100, c.To, uint(c.Flags)) },
	"link":      func(c *call, _ *answer) error { return unix.Link(c.Path, c.To) },
	"symlink":   func(c *call, _ *answer) error { return unix.Symlink(c.To, c.Path) },
	"mknod":     func(c *call, _ *answer) error { return unix.Mknod(c.Path, c.Mode, c.N) },
	"chmod":     func(c *call, _ *answer) error { return unix.Chmod(c.Path, c.Mode) },
	"fchmod":    func(c *call, _ *answer) error { return unix.Fchmod(c.FD, c.Mode) },
	"utimes":    func(c *call, _ *answer) error { return unix.Utimes(c.Path, []unix.Timeval{{Sec: c.Off}, {Sec: c.Off}}) },
	"access":    func(c *call, _ *answer) error { return unix.Access(c.Path, uint32(c.N)) },
	"run":       func(c *call, _ *answer) error { return exec.Command(c.Path).Run() },
	"chdir":     func(c *call, _ *answer) error { return unix.Chdir(c.Path) },
	"setxattr":  func(c *call, _ *answer) error { return unix.Lsetxattr(c.Path, c.To, c.Data, 0) },
	"rmxattr":   func(c *call, _ *answer) error { return unix.Lremovexattr(c.Path, c.To) },
	"getxattr": func(c *call, a *answer) (err error) {
		a.Data = make([]byte, c.N)
		a.N, err = unix.Lgetxattr(c.Path, c.To, a.Data)
		a.Data = a.Data[:min(max(a.N, 0), c.N)]
		return err
	},
	"listxattr": func(c *call, a *answer) (err error) {
		a.Data = make([]byte, c.N)
		a.N, err = unix.Llistxattr(c.Path, a.Data)
		a.Data = a.Data[:min(max(a.N, 0), c.N)]
		return err
	},
	"readlink": func(c *call, a *answer) (err error) {
		s, err := os.Readlink(c.Path)
		a.Data = []byte(s)
		return err
	},
	"read": func(c *call, a *answer) (err error) {
		a.Data, err = os.ReadFile(c.Path)
		return err
	},
	"write": func(c *call, _ *answer) error { return os.WriteFile(c.Path, c.Data, 0o600) },
	"list": func(c *call, a *answer) error {
		entries, err := os.ReadDir(c.Path)
		for _, e := range entries {
			a.Names = append(a.Names, e.Name())
		}
		sort.Strings(a.Names)
		return err
	},
	"lsl":      func(c *call, a *answer) error { return listLong(c.Path, a) },
	"mapwrite": func(c *call, _ *answer) error { return mapWrite(c) },
}

func (c *call) run(a *answer) error {
	f := clientCalls[c.Op]
	if f == nil {
		return syscall.ENOSYS
	}
	return f(c, a)
}

// listLong is ls -l: names, then stat of each.
func listLong(dir string, a *answer) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		var st unix.Stat_t
		if err := unix.Lstat(dir+"/"+e.Name(), &st); err != nil {
			return err
		}
		a.Names = append(a.Names, e.Name())
	}
	return nil
}

func dupClose(fd int) error {
	d, err := unix.Dup(fd)
	if err != nil {
		return err
	}
	return unix.Close(d)
}

// mapWrite writes through a shared mapping whose file is closed already, so
// the bytes arrive after the last FLUSH.
func mapWrite(c *call) error {
	fd, err := unix.Open(c.Path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	m, err := unix.Mmap(fd, 0, c.N, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	if err := unix.Close(fd); err != nil {
		return err
	}
	copy(m[c.Off:], c.Data)
	return unix.Munmap(m)
}

// client is a child that uses a mount on behalf of a test.
type client struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	enc *gob.Encoder
	dec *gob.Decoder
}

func startClient(t *testing.T) *client {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), clientEnv+"=calls")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, cmd: cmd, in: in, enc: gob.NewEncoder(in), dec: gob.NewDecoder(out)}
	t.Cleanup(c.end)
	return c
}

// end closes the client; one that hangs in the kernel is killed, and left.
func (c *client) end() {
	if c.cmd == nil {
		return
	}
	c.in.Close()
	ended := make(chan error, 1)
	go func(cmd *exec.Cmd) { ended <- cmd.Wait() }(c.cmd)
	select {
	case err := <-ended:
		if err != nil {
			c.t.Errorf("client: %v", err)
		}
	case <-time.After(generous):
		c.cmd.Process.Kill()
		c.t.Error("client hangs")
	}
	c.cmd = nil
}

// do makes one call in the client and gives whatever it answered.
func (c *client) do(x call) answer {
	c.t.Helper()
	if err := c.enc.Encode(x); err != nil {
		c.t.Fatalf("client %s: %v", x.Op, err)
	}
	var a answer
	got := make(chan error, 1)
	go func() { got <- c.dec.Decode(&a) }()
	select {
	case err := <-got:
		if err != nil {
			c.t.Fatalf("client %s: %v", x.Op, err)
		}
	case <-time.After(generous):
		c.cmd.Process.Kill()
		c.t.Fatalf("client %s %s hangs", x.Op, x.Path)
	}
	return a
}

// must is do for a call that has to succeed.
func (c *client) must(x call) answer {
	c.t.Helper()
	a := c.do(x)
	if a.Errno != 0 {
		c.t.Fatalf("%s %s: %v", x.Op, x.Path, a.Errno)
	}
	return a
}

// fails wants an errno.
func (c *client) fails(x call, want syscall.Errno) {
	c.t.Helper()
	if a := c.do(x); a.Errno != want {
		c.t.Errorf("%s %s %s: got %v, want %v", x.Op, x.Path, x.To, a.Errno, want)
	}
}

// refused wants EPERM, or EACCES where the kernel asked the modes first, as it
// does for everybody but root.
func (c *client) refused(x call) {
	c.t.Helper()
	if a := c.do(x); a.Errno != syscall.EPERM && (a.Errno != syscall.EACCES || os.Geteuid() == 0) {
		c.t.Errorf("%s %s %s: got %v, want EPERM", x.Op, x.Path, x.To, a.Errno)
	}
}

func (c *client) write(path, data string) {
	c.t.Helper()
	c.must(call{Op: "write", Path: path, Data: []byte(data)})
}

func (c *client) read(path string) string {
	c.t.Helper()
	return string(c.must(call{Op: "read", Path: path}).Data)
}

func (c *client) open(path string, flags int) int {
	c.t.Helper()
	return c.must(call{Op: "open", Path: path, Flags: flags, Mode: 0o600}).FD
}
