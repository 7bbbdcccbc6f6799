// Package fs shows an open vault to the kernel: an asset is a directory, an
// attachment a file. It takes requests apart, makes one call to the vault
// and translates the answer, keeps the kernel's nodeids and handles, and
// tells the kernel what changed beside it. It speaks go-fuse's raw protocol,
// because the vault's tree is in memory already and a second one would only
// cost. It refuses to know what is behind a node: no keys, no SQL, no
// network, no paths of its own.
package fs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// fsType is the subtype in /proc/self/mountinfo: "fuse.vaultdrive".
const fsType = "vaultdrive"

const (
	// maxWrite is the largest READ and WRITE; the kernel's own limit.
	maxWrite = 1 << 20
	// maxBackground allows this many reads ahead at once. With the usual 12,
	// twelve that wait for a download would stop all others.
	maxBackground = 256
	// readAheadKB replaces the kernel's 128 where that is allowed.
	readAheadKB = 1024
)

// Options say what is mounted and how.
type Options struct {
	// MountPoint is an empty directory.
	MountPoint string
	// Asset shows one asset's folder as the whole mount; nil: all assets.
	Asset *vaultcore.Node
	// ReadOnly mounts without write access, also of an open vault that has it.
	ReadOnly bool
	// AllowOther lets other users in, as far as modes allow.
	AllowOther bool
	// XAttr shows the state of files in extended attributes.
	XAttr bool
	// Label is what df and mount show as the source; empty: "vaultdrive".
	Label string
	// Owner of every file; nil: the mounting user.
	Owner *Owner
	// Seal takes write permission from the directory below the mount, so that
	// nothing lands in it by mistake while nothing is mounted.
	Seal bool
	// StatusJSON makes the content of /.vaultdrive/status.json.
	StatusJSON func() []byte
	// Log gets what goes wrong, ids only; nil: discarded.
	Log *slog.Logger
}

// Owner is a user and group.
type Owner struct{ UID, GID uint32 }

// Server is one mount.
type Server struct {
	// Set at construction.
	vault  *vaultcore.Vault
	point  string
	dev    device
	fs     *fileSystem
	kernel *kernelConn
	log    *slog.Logger

	done chan struct{} // closed when the kernel has let go and all is released
}

// Mount shows the vault at a mount point and returns when the mount answers.
// A dead mount of an earlier daemon there is cleared first. The errors it
// gives for the mount point and the machine are those of mountpoint.go; the
// vault must stay open until Wait has returned.
func Mount(ctx context.Context, v *vaultcore.Vault, o Options) (*Server, error) {
	o = withDefaults(o)
	if err := checkMachine(o.AllowOther); err != nil {
		return nil, err
	}
	point, err := preparePoint(ctx, o.MountPoint, v.Home())
	if err != nil {
		return nil, err
	}
	below, err := openBelow(point, o.Seal)
	if err != nil {
		return nil, err
	}
	defer below.close()

	f := newFileSystem(v, o)
	kernel, err := dial(f, point, mountOptions(f, o))
	if err != nil {
		f.OnUnmount()
		// It may have been mounted before that failed.
		return nil, errors.Join(mountError(point, err), clearDead(ctx, point))
	}
	s := &Server{vault: v, point: point, fs: f, kernel: kernel, log: o.Log, done: make(chan struct{})}
	f.push.start(kernel)
	f.ahead.start()
	f.notifier.start(kernel)
	v.OnChange(f.notifier.push)
	go s.serve()
	if err := s.ready(ctx); err != nil {
		return nil, errors.Join(err, s.Abort())
	}
	below.seal()
	return s, nil
}

func withDefaults(o Options) Options {
	if o.Owner == nil {
		o.Owner = &Owner{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Label == "" {
		o.Label = fsType
	}
	if o.StatusJSON == nil {
		o.StatusJSON = func() []byte { return []byte("{}\n") }
	}
	return o
}

func mountOptions(f *fileSystem, o Options) *fuse.MountOptions {
	m := &fuse.MountOptions{
		FsName:        o.Label,
		Name:          fsType,
		AllowOther:    o.AllowOther,
		MaxWrite:      maxWrite,
		MaxBackground: maxBackground,
		DisableXAttrs: !o.XAttr,
		// Every READ is answered from memory: splicing would cost three calls.
		DisableSplice: true,
		// A changed mtime alone must not drop a file's pages.
		ExplicitDataCacheControl: true,
		EnableSymlinkCaching:     true,
		// No GETXATTR before every write, one request for open(O_TRUNC), plain
		// listings where nobody asks for attributes.
		ExtraCapabilities: fuse.CAP_HANDLE_KILLPRIV_V2 | fuse.CAP_ATOMIC_O_TRUNC | fuse.CAP_READDIRPLUS_AUTO,
		PanicHandler:      f.panicked,
		Logger:            slog.NewLogLogger(o.Log.Handler(), slog.LevelWarn),
	}
	if f.readOnly {
		m.Options = append(m.Options, "ro")
	}
	if o.AllowOther || !passesAll(o.Owner) {
		// The kernel checks modes, and sends no ACCESS.
		m.Options = append(m.Options, "default_permissions")
	}
	return m
}

// serve answers until the kernel lets go: after an unmount of ours or of
// anybody else, or an abort.
func (s *Server) serve() {
	s.kernel.serve()
	s.vault.OnChange(nil)
	s.fs.OnUnmount()
	s.kernel.close()
	close(s.done)
}

// ready finds the device of the mount. The mount answers by now: INIT was
// answered before it was served, what comes next waits for serve.
//
// go-fuse's WaitMount would open a file in the mount from this process. Were
// the process killed in that moment, its own thread would wait for an answer
// from itself for ever, keep /dev/fuse open with that, and hang every program
// that uses the mount. No file of the mount is ever opened here, so there is
// no need either for what WaitMount does: teach the kernel not to ask POLL.
func (s *Server) ready(ctx context.Context) error {
	m, err := topMount(s.point)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %s: %w", ErrMount, s.point, err)
	case !m.ours():
		return fmt.Errorf("%w: %s was unmounted at once", ErrMount, s.point)
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %s: %w", ErrMount, s.point, ctx.Err())
	}
	s.dev = m.dev
	s.dev.setReadAhead(readAheadKB)
	return nil
}

// mountError says what kept the kernel or the helper from mounting.
func mountError(point string, err error) error {
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		return fmt.Errorf("%w: %s: %w", ErrPointDenied, point, err)
	}
	return fmt.Errorf("%w: %s: %w", ErrMount, point, err)
}

// MountPoint is the mounted directory, absolute and without symlinks.
func (s *Server) MountPoint() string { return s.point }

// Requests is how many requests the kernel has sent so far: whether the mount is
// in use, and how much.
func (s *Server) Requests() (n uint64) {
	for i := range s.fs.requests {
		n += s.fs.requests[i].Load()
	}
	return n
}

// Done is closed when the mount is gone and every handle is released.
func (s *Server) Done() <-chan struct{} { return s.done }

// Wait returns when the mount is gone, by whomever it was unmounted, and
// every handle is released. The drafts of the vault can be committed then.
func (s *Server) Wait() { <-s.done }

// Settled waits until the kernel has been told of every change made beside
// it so far. It must not be called by a process that holds up a request.
func (s *Server) Settled(ctx context.Context) error { return s.fs.notifier.settled(ctx) }

// Counters show what the mount has done since it was made.
type Counters struct {
	Requests map[string]uint64 `json:"requests"` // by name of the call
	Nodes    int               `json:"nodes"`    // known to the kernel
	Handles  int               `json:"handles"`  // open files
	Panics   uint64            `json:"panics"`   // of handlers, answered with EIO
	Pushed   uint64            `json:"pushed"`   // times that the kernel got bytes before it asked
}

// Counters reads the counters.
func (s *Server) Counters() Counters {
	c := Counters{
		Requests: make(map[string]uint64),
		Nodes:    s.fs.nodes.len(),
		Handles:  s.fs.handles.len(),
		Panics:   s.fs.panics.Load(),
		Pushed:   s.fs.push.done.Load(),
	}
	for op, name := range callNames {
		if n := s.fs.requests[op].Load(); n > 0 {
			c.Requests[name] = n
		}
	}
	return c
}

// callNames are the calls by opcode, as FUSE numbers them.
var callNames = map[int]string{
	1: "LOOKUP", 2: "FORGET", 3: "GETATTR", 4: "SETATTR", 5: "READLINK", 6: "SYMLINK", 8: "MKNOD", 9: "MKDIR",
	10: "UNLINK", 11: "RMDIR", 12: "RENAME", 13: "LINK", 14: "OPEN", 15: "READ", 16: "WRITE", 17: "STATFS",
	18: "RELEASE", 20: "FSYNC", 21: "SETXATTR", 22: "GETXATTR", 23: "LISTXATTR", 24: "REMOVEXATTR", 25: "FLUSH",
	27: "OPENDIR", 28: "READDIR", 30: "FSYNCDIR", 34: "ACCESS", 35: "CREATE", 39: "IOCTL", 43: "FALLOCATE",
	44: "READDIRPLUS", 45: "RENAME2", 46: "LSEEK", 47: "COPY_FILE_RANGE", 51: "TMPFILE", 52: "STATX",
}
