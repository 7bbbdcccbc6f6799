package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vaultdrive/vaultdrive/fs"
)

// unmounting is what umount and lock share: ask the mount's process to drain,
// show what it does, wait until it has ended.
type unmounting struct {
	ui      *ui
	lazy    bool
	force   bool // cut off programs that have files open
	timeout time.Duration
	upload  time.Duration // how long to go on uploading when the mount has gone
	// busyHint is what to do about programs that have files open.
	busyHint string
}

// run drains one mount, and says what is not uploaded.
func (j unmounting) run(ctx context.Context, cl *client, view statusView) (left leftBehind, err error) {
	ctx, cancel := context.WithTimeout(ctx, j.timeout)
	defer cancel()
	process, err := unix.PidfdOpen(cl.pid, 0)
	if err == nil {
		defer unix.Close(process)
	} else {
		process = -1
	}
	left, stage, err := j.ask(ctx, cl)
	switch {
	case errors.Is(err, fs.ErrBusy):
		return left, busyFailure(view.MountPoint, j.busyHint)
	case errors.Is(err, context.DeadlineExceeded):
		return left, j.late(cl, view, stage)
	case err != nil && !errors.Is(err, errDaemonLost):
		return left, err
	case stage == stageDetached:
		j.ui.note("%s is unmounted; process %d goes on until the last open file is closed", escapeName(view.MountPoint), cl.pid)
		return left, nil
	}
	// A connection that broke is the end of the process; whether of its work
	// too the kernel tells.
	lostErr := err
	if err := awaitExit(ctx, process); err != nil {
		return left, j.late(cl, view, stage)
	}
	if lostErr != nil {
		return left, fail(errDaemonLost, "", "the mount's process ended while unmounting %s", view.MountPoint)
	}
	return left, nil
}

// ask has the process drain and shows how far it is.
func (j unmounting) ask(ctx context.Context, cl *client) (left leftBehind, stage string, err error) {
	bar := j.ui.progress("uploading", true)
	defer bar.finish()
	err = cl.stream(ctx, callUnmount, unmountRequest{Lazy: j.lazy, Force: j.force, Upload: j.upload}, func(f frame) error {
		if f.Item != nil {
			return json.Unmarshal(f.Item, &left)
		}
		if stage = f.Stage; stage == stageUpload && f.Total > 0 {
			bar.set(f.Done, f.Total)
		}
		return nil
	})
	return left, stage, err
}

// late says what keeps a mount from ending in time.
func (j unmounting) late(cl *client, view statusView, stage string) error {
	what := map[string]string{
		stageCommit: "written files are still being stored",
		stageDetach: "the kernel has not let go of the mount",
		stageUpload: "changes are still being uploaded",
		stageClose:  "the vault is still being closed",
	}[stage]
	if what == "" {
		what = "no answer"
	}
	return fail(fs.ErrBusy, "it goes on by itself; give a longer --timeout to wait for it",
		"%s is not done after %s: %s (process %d)", view.MountPoint, j.timeout, what, cl.pid)
}

// awaitExit waits for the process behind a pidfd.
func awaitExit(ctx context.Context, pidfd int) error {
	if pidfd < 0 {
		return nil // it ended before it could be watched
	}
	for {
		fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 50)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return os.NewSyscallError("poll", err)
		}
		if n > 0 {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// say tells what the remote has not got.
func (l *leftBehind) say(u *ui) {
	if l.Changes == 0 && l.Files == 0 {
		return
	}
	var parts []string
	if l.Files > 0 {
		parts = append(parts, fmt.Sprintf("%s (%s)", plural(l.Files, "file"), humanSize(l.Bytes)))
	}
	if l.Changes > 0 {
		parts = append(parts, plural(l.Changes, "change"))
	}
	if l.Why != "" {
		u.note("Not uploaded yet: %s; %s. It is safe here.\nhint: %s", strings.Join(parts, " and "), l.Why, l.Hint)
		return
	}
	why := ""
	if !l.Online {
		why = "; the remote does not answer"
	}
	u.note("Not uploaded yet: %s%s. It is safe here, and goes up with the next mount or vaultdrive sync now.",
		strings.Join(parts, " and "), why)
}
