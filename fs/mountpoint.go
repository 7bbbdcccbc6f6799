package fs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Why a mount was refused before it was tried, or failed. The error around
// them names the directory or file that is meant.
var (
	// ErrNoFUSE: there is no /dev/fuse: module or container setting missing.
	ErrNoFUSE = errors.New("no FUSE on this machine")
	// ErrFUSEDenied: /dev/fuse is there and this user may not open it.
	ErrFUSEDenied = errors.New("no permission to use FUSE")
	// ErrNoHelper: only root mounts without fusermount3, and it is missing.
	ErrNoHelper = errors.New("fusermount3 is not installed")
	// ErrAllowOther: a user may not let others in on this machine.
	ErrAllowOther = errors.New("allow_other is not permitted to users")
	// ErrPointMissing: the mount point does not exist.
	ErrPointMissing = errors.New("mount point does not exist")
	// ErrPointNotDir: the mount point is no directory.
	ErrPointNotDir = errors.New("mount point is not a directory")
	// ErrPointNotEmpty: files in it would be covered.
	ErrPointNotEmpty = errors.New("mount point is not empty")
	// ErrPointBusy: a live FUSE mount is there already.
	ErrPointBusy = errors.New("mount point is in use")
	// ErrPointInVault: the mount point lies inside the vault's home.
	ErrPointInVault = errors.New("mount point lies inside the vault")
	// ErrVaultInPoint: the mount would cover the vault's own files.
	ErrVaultInPoint = errors.New("vault lies inside the mount point")
	// ErrPointDenied: no permission to mount there.
	ErrPointDenied = errors.New("no permission to mount here")
	// ErrMount: the kernel or fusermount3 refused.
	ErrMount = errors.New("mount failed")
)

const (
	fuseDevice = "/dev/fuse"
	fuseConfig = "/etc/fuse.conf"
)

// checkMachine looks for what every mount needs.
func checkMachine(allowOther bool) error {
	fd, err := unix.Open(fuseDevice, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case err == nil:
		unix.Close(fd)
	case errors.Is(err, iofs.ErrPermission):
		return fmt.Errorf("%w: %s", ErrFUSEDenied, describeDevice(fuseDevice))
	default:
		return fmt.Errorf("%w: %s: %w", ErrNoFUSE, fuseDevice, err)
	}
	if os.Geteuid() == 0 {
		return nil
	}
	if helper() == "" {
		return ErrNoHelper
	}
	if allowOther && !userAllowOther() {
		return fmt.Errorf("%w: user_allow_other is not set in %s", ErrAllowOther, fuseConfig)
	}
	return nil
}

// describeDevice says who may open a device.
func describeDevice(path string) string {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return path
	}
	return fmt.Sprintf("%s has mode %04o and belongs to user %d, group %d", path, st.Mode&0o7777, st.Uid, st.Gid)
}

// helper is the program that mounts and unmounts for users, empty if absent.
func helper() string {
	for _, name := range []string{"fusermount3", "fusermount"} {
		for _, where := range []string{name, "/bin/" + name} {
			if path, err := exec.LookPath(where); err == nil {
				return path
			}
		}
	}
	return ""
}

func userAllowOther() bool {
	f, err := os.Open(fuseConfig)
	if err != nil {
		return false
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if strings.TrimSpace(lines.Text()) == "user_allow_other" {
			return true
		}
	}
	return false
}

// preparePoint resolves the mount point, clears a dead mount of ours from it
// and checks that it can be mounted on without harm.
func preparePoint(ctx context.Context, path, home string) (string, error) {
	point, err := resolvePoint(path)
	if err != nil {
		return "", err
	}
	if err := clearDead(ctx, point); err != nil {
		return "", err
	}
	if err := Apart(point, home); err != nil {
		return "", err
	}
	m, err := topMount(point)
	if err != nil {
		return "", err
	}
	if m.isFUSE() {
		return "", fmt.Errorf("%w: %s is a mount of type %s", ErrPointBusy, point, m.fsType)
	}
	return point, checkEmpty(point)
}

// resolvePoint makes the path absolute and free of symlinks. The last part is
// not looked at when it cannot be: it may be a dead mount.
func resolvePoint(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	point, err := filepath.EvalSymlinks(abs)
	if errors.Is(err, unix.ENOTCONN) {
		var dir string
		if dir, err = filepath.EvalSymlinks(filepath.Dir(abs)); err == nil {
			return filepath.Join(dir, filepath.Base(abs)), nil
		}
	}
	return point, pointError(abs, err)
}

func pointError(path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, iofs.ErrNotExist):
		return fmt.Errorf("%w: %s", ErrPointMissing, path)
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%w: %s", ErrPointNotDir, path)
	case errors.Is(err, iofs.ErrPermission):
		return fmt.Errorf("%w: %s: %w", ErrPointDenied, path, err)
	}
	return fmt.Errorf("%w: %s: %w", ErrMount, path, err)
}

// Apart refuses a mount that would cover the vault, or lie in it, where its
// files would be found by whatever walks the vault's home.
func Apart(point, home string) error {
	real, err := filepath.EvalSymlinks(home)
	if err != nil {
		return err
	}
	if real, err = filepath.Abs(real); err != nil {
		return err
	}
	switch {
	case within(point, real):
		return fmt.Errorf("%w: %s", ErrPointInVault, point)
	case within(real, point):
		return fmt.Errorf("%w: %s", ErrVaultInPoint, point)
	}
	return nil
}

func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

func checkEmpty(point string) error {
	f, err := os.OpenFile(point, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return pointError(point, err)
	}
	defer f.Close()
	switch _, err := f.Readdirnames(1); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return pointError(point, err)
	}
	return fmt.Errorf("%w: %s", ErrPointNotEmpty, point)
}

// deadAfter is how long a mount may take to say that it lives.
const deadAfter = 5 * time.Second

// clearDead unmounts what daemons of ours that were killed left at a mount
// point, however many lie on each other.
func clearDead(ctx context.Context, point string) error {
	for range 16 {
		m, err := topMount(point)
		if err != nil {
			return err
		}
		if !m.ours() || !isDead(ctx, point) {
			return nil
		}
		if err := unmountLazily(point); err != nil {
			return fmt.Errorf("%w: a dead mount at %s cannot be cleared: %w", ErrPointBusy, point, err)
		}
	}
	return nil
}

// isDead asks for the file system's figures, which the kernel never answers
// from its cache; stat it may.
func isDead(ctx context.Context, point string) bool {
	answer := make(chan error, 1)
	go func() {
		var st unix.Statfs_t
		answer <- unix.Statfs(point, &st)
	}()
	timeout := time.NewTimer(deadAfter)
	defer timeout.Stop()
	select {
	case err := <-answer:
		return errors.Is(err, unix.ENOTCONN)
	case <-timeout.C:
	case <-ctx.Done():
	}
	return false // somebody serves it, if slowly
}

// below is the directory under the mount, opened before the mount covers it.
type below struct {
	dir  *os.File
	mode uint32
}

// openBelow prepares to take write permission from a mount point of ours. A
// user can mount only where it may write, so that comes back first.
func openBelow(point string, wanted bool) (below, error) {
	if !wanted {
		return below{}, nil
	}
	dir, err := os.Open(point)
	if err != nil {
		return below{}, pointError(point, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil || int(st.Uid) != os.Geteuid() {
		return below{}, dir.Close() // not ours to change
	}
	b := below{dir, st.Mode & 0o7777}
	if b.mode&0o200 == 0 && os.Geteuid() != 0 {
		if err := unix.Fchmod(int(dir.Fd()), b.mode|0o200); err != nil {
			return below{}, errors.Join(pointError(point, err), dir.Close())
		}
	}
	return b, nil
}

func (b below) seal() {
	if b.dir != nil {
		_ = unix.Fchmod(int(b.dir.Fd()), b.mode&^0o222) // a courtesy, not a promise
	}
}

func (b below) close() {
	if b.dir != nil {
		b.dir.Close()
	}
}
