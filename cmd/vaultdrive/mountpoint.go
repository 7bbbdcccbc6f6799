package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/vaultdrive/vaultdrive/fs"
)

// checkPoint finds out what is wrong with a mount point before anybody types a
// password. fs looks again, and closer, when it mounts. A dead mount there is
// no obstacle: fs clears it.
func checkPoint(path string) error {
	mount, covered, err := mountAt(path)
	switch {
	case err != nil:
		return err
	case covered && mount.isOurs() && pulseOf(context.Background(), path) == pulseDead:
		return nil
	case covered && mount.isOurs():
		return fail(errMounted, "", "%s: a vault is mounted here already", path)
	}
	dir, err := os.Open(path)
	if err != nil {
		return pointFailure(path, err)
	}
	defer dir.Close()
	switch _, err := dir.Readdirnames(1); {
	case errors.Is(err, io.EOF):
		return errors.Join(checkAccess(dir), checkApart(path))
	case err != nil:
		return pointFailure(path, err)
	}
	return fmt.Errorf("%w: %s", fs.ErrPointNotEmpty, path)
}

// checkAccess says before fusermount3 does that a user mounts only where it
// may write. The mode of a directory of its own is no obstacle: fs changes it.
func checkAccess(dir *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return pointFailure(dir.Name(), err)
	}
	if int(st.Uid) == os.Geteuid() || unix.Access(dir.Name(), unix.W_OK) == nil {
		return nil
	}
	return fmt.Errorf("%w: %s", fs.ErrPointDenied, dir.Name())
}

func pointFailure(path string, err error) error {
	switch {
	case errors.Is(err, iofs.ErrNotExist):
		return fmt.Errorf("%w: %s", fs.ErrPointMissing, path)
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%w: %s", fs.ErrPointNotDir, path)
	case errors.Is(err, iofs.ErrPermission):
		return fmt.Errorf("%w: %s", fs.ErrPointDenied, path)
	}
	return fmt.Errorf("%w: %w", fs.ErrMount, err)
}

// checkApart refuses a mount that would cover files this process goes on to
// use by name: it would wait for itself.
func checkApart(path string) error {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return pointFailure(path, err)
	}
	if within(stateDir(), real) {
		return fail(fs.ErrVaultInPoint, "choose another directory", "mount point %s would cover the log in %s", path, stateDir())
	}
	for _, dir := range clientDirs() {
		if within(dir, real) {
			return fail(fs.ErrVaultInPoint, "choose another directory", "mount point %s would cover the sockets in %s", path, dir)
		}
	}
	return nil
}

// within reports whether path is dir or below it.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// unmountDirect unmounts without the mount's process, whose connection it is:
// a dead one, a silent one, or one of another user. The kernel may want to
// write back first, which only that process could let it do.
func unmountDirect(ctx context.Context, path string, lazy bool) error {
	flags, option := unix.UMOUNT_NOFOLLOW, "-u"
	if lazy {
		flags, option = flags|unix.MNT_DETACH, "-uz"
	}
	_, err := bounded(ctx, systemPatience, func() (none, error) { return none{}, unix.Unmount(path, flags) })
	switch {
	case errors.Is(err, syscall.EPERM):
		return fusermount(ctx, option, "--", path)
	case errors.Is(err, errNoAnswer):
		// The mount may be out of sight although the call has not come back.
		if _, covered, listErr := mountAt(path); listErr == nil && !covered {
			return nil
		}
	}
	return err
}
