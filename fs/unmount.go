package fs

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// ErrBusy: programs still use files of the mount.
var ErrBusy = errors.New("mount is in use")

// BusyError says what is left. It is an ErrBusy.
type BusyError struct {
	MountPoint string
	Handles    int // open files
	Lazy       bool
}

func (e *BusyError) Error() string {
	if e.Lazy {
		return fmt.Sprintf("%s is unmounted, %d files are still open", e.MountPoint, e.Handles)
	}
	return fmt.Sprintf("%s is in use, %d files are open", e.MountPoint, e.Handles)
}

// Is makes errors.Is(err, ErrBusy) true.
func (e *BusyError) Is(target error) bool { return target == ErrBusy }

// TryUnmount commits every draft and unmounts unless a program uses the
// mount; then it gives a *BusyError and the mount stays.
func (s *Server) TryUnmount(ctx context.Context) error {
	return s.unmount(ctx, false)
}

// Unmount commits every draft and unmounts. When programs use the mount, it
// leaves the tree at once and is served on until they close their files or
// ctx ends; then the error is a *BusyError, the server still answers, and
// Abort cuts the rest off. What fails to commit is reported and does not
// keep the mount: its draft is kept in the vault.
func (s *Server) Unmount(ctx context.Context) error {
	return s.unmount(ctx, true)
}

func (s *Server) unmount(ctx context.Context, lazy bool) error {
	if s.ended() {
		return nil
	}
	committed := s.vault.CommitAll(ctx)
	patience := closePatience
	if !lazy {
		patience = busyPatience
	}
	err := trying(ctx, patience, s.done, func() error { return s.unmountTop(unmountNow) })
	if err != nil && !s.ended() {
		if !lazy {
			return errors.Join(committed, s.busy(false))
		}
		if err := s.unmountTop(unmountLazily); err != nil && !s.ended() {
			return errors.Join(committed, fmt.Errorf("%w: %s: %w", ErrBusy, s.point, err))
		}
	}
	select {
	case <-s.done:
		return committed
	case <-ctx.Done():
		return errors.Join(committed, s.busy(lazy))
	}
}

const (
	// closePatience is for the kernel: a file counts as open until it has done with
	// the close that the program already forgot.
	closePatience = 100 * time.Millisecond
	// busyPatience is for what has a file open for a moment: a program that looks
	// through all files, or a child that is just starting and has not yet closed what
	// it has from its parent. On a machine that does far too much at a time that
	// moment is long.
	busyPatience = time.Second
	tryingMost   = 100 * time.Millisecond // between two attempts
)

// trying attempts again and again, for so long and once more, until it succeeds, the
// mount has gone without it, or ctx ends.
func trying(ctx context.Context, patience time.Duration, gone <-chan struct{}, attempt func() error) error {
	end := time.Now().Add(patience)
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, tryingMost) {
		last := !time.Now().Before(end)
		err := attempt()
		if err == nil || last {
			return err
		}
		select {
		case <-gone:
			return nil
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

// unmountTop unmounts if what is seen at the mount point is this mount. If
// somebody else has unmounted it, lazily perhaps, there is nothing to do.
func (s *Server) unmountTop(how func(string) error) error {
	seen, err := s.seen()
	if err != nil || !seen {
		return err
	}
	return how(s.point)
}

// seen says whether the mount point shows this mount.
func (s *Server) seen() (bool, error) {
	m, err := topMount(s.point)
	return m.ours() && (s.dev == device{} || m.dev == s.dev), err
}

func (s *Server) busy(lazy bool) error {
	return &BusyError{MountPoint: s.point, Handles: s.fs.handles.len(), Lazy: lazy}
}

func (s *Server) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// Abort cuts the kernel's connection: requests under way and later ones fail
// with ENOTCONN, and the kernel drops every page it kept. It is the way out
// when programs will not close their files, and leaves no plaintext behind.
// It returns when the mount is gone and all handles are released.
func (s *Server) Abort() error {
	if s.ended() {
		return nil
	}
	s.fs.waits.end() // also if the connection cannot be cut
	err := s.cut()
	errUnmount := s.unmountTop(unmountLazily)
	if err != nil {
		return errors.Join(err, errUnmount)
	}
	<-s.done
	return errUnmount
}

// cut ends the connection through the kernel's control files, which a lazy
// unmount does not hide, or by a forced unmount.
func (s *Server) cut() error {
	errControl := s.dev.abort()
	if errControl == nil {
		return nil
	}
	seen, err := s.seen()
	if err == nil && seen {
		err = unix.Unmount(s.point, unix.MNT_FORCE|unix.UMOUNT_NOFOLLOW)
		// A forced unmount of a mount in use says EBUSY, and has cut all the same.
		if err == nil || errors.Is(err, unix.EBUSY) {
			return nil
		}
	}
	return fmt.Errorf("connection of %s cannot be cut: %w", s.point, errors.Join(errControl, err))
}

// Cut ends the connection of the vaultdrive mount seen at a mount point, whose
// process is another one and does not answer. It asks nothing of the mount.
func Cut(point string) error {
	m, err := topMount(point)
	if err != nil || !m.ours() {
		return err
	}
	return m.dev.abort()
}

func unmountNow(point string) error    { return unmountBy(point, 0, "-u") }
func unmountLazily(point string) error { return unmountBy(point, unix.MNT_DETACH, "-uz") }

// unmountBy unmounts by system call where that is allowed, else through the
// helper that mounted.
func unmountBy(point string, flags int, helperFlag string) error {
	err := unix.Unmount(point, flags|unix.UMOUNT_NOFOLLOW)
	if err == nil || !errors.Is(err, unix.EPERM) {
		return err
	}
	path := helper()
	if path == "" {
		return errors.Join(err, ErrNoHelper)
	}
	if out, err := exec.Command(path, helperFlag, "--", point).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w", out, err)
	}
	return nil
}
