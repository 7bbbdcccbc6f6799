package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
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
}

// umountCommand ends a mount.
type umountCommand struct {
	common
	lazy       bool
	timeout    time.Duration
	mountPoint string
}

func umountCLI(u *ui) *cli.Command {
	c := &umountCommand{common: common{ui: u}}
	return &cli.Command{
		Name:      "umount",
		Aliases:   []string{"unmount"},
		Usage:     "unmount a vault and lock it",
		ArgsUsage: "[MOUNTPOINT]",
		Description: "Returns when everything is safe and the mount's process has ended. If files are in use it says by whom\n" +
			"and the mount stays. Without MOUNTPOINT it is the mount of --vault, or the only one.",
		Flags: []cli.Flag{
			c.vaultFlag(), c.jsonFlag(),
			&cli.BoolFlag{Name: "lazy", Aliases: []string{"l"}, Destination: &c.lazy,
				Usage: "take the mount away at once; programs keep the files they have open"},
			&cli.DurationFlag{Name: "timeout", Destination: &c.timeout, Value: 2 * time.Minute,
				Usage: "how long to wait for the end, as 30s or 5m"},
		},
		Action: func(cx *cli.Context) error {
			if cx.NArg() > 1 {
				return usage("umount takes one MOUNTPOINT")
			}
			c.mountPoint = cx.Args().First()
			return c.Run(cx.Context)
		},
	}
}

// Run finds the mount and ends it.
func (c *umountCommand) Run(ctx context.Context) error {
	cl, view, err := c.find(ctx)
	if err != nil {
		return err
	}
	if cl == nil {
		return c.unmountForeign(c.mountPoint)
	}
	defer cl.close(ctx)
	job := unmounting{ui: c.ui, lazy: c.lazy, timeout: c.timeout}
	if err := job.run(ctx, cl, view); err != nil {
		return err
	}
	return c.show(view)
}

func (c *umountCommand) show(view statusView) error {
	if c.json {
		return c.ui.writeJSON(map[string]any{"vault": view.Vault, "mountpoint": view.MountPoint, "unmounted": true})
	}
	return nil
}

// find looks for the process behind the mount point, or behind the vault. No
// process and no error: the mount point is one that no socket answers for.
func (c *umountCommand) find(ctx context.Context) (*client, statusView, error) {
	if c.mountPoint != "" {
		path, err := resolveMountPoint(c.mountPoint)
		if err != nil {
			return nil, statusView{}, err
		}
		c.mountPoint = path
		return findMount(ctx, func(view statusView) bool { return view.MountPoint == path })
	}
	match := func(statusView) bool { return true }
	if c.vault != "" {
		home, err := selectVault(c.vault)
		if err != nil {
			return nil, statusView{}, err
		}
		match = func(view statusView) bool { return view.Vault == home.id }
	}
	cl, view, err := findMount(ctx, match)
	if err == nil && cl == nil {
		err = fail(errNotMounted, "", "no vault of yours is mounted")
	}
	return cl, view, err
}

// findMount asks every mount of this user; several that match are an error.
func findMount(ctx context.Context, match func(statusView) bool) (found *client, at statusView, err error) {
	for _, path := range socketsHere() {
		cl, err := dialPath(ctx, path)
		if err != nil || cl == nil {
			continue
		}
		var view statusView
		if cl.call(ctx, callStatus, none{}, &view) != nil || !match(view) {
			_ = cl.close(ctx)
			continue
		}
		if found != nil {
			return nil, at, errors.Join(fail(errAmbiguous, "name the mount point", "vaults are mounted on %s and on %s",
				at.MountPoint, view.MountPoint), cl.close(ctx), found.close(ctx))
		}
		found, at = cl, view
	}
	return found, at, nil
}

// resolveMountPoint gives the path as the kernel has it, without asking the
// file system mounted there, which may be dead.
func resolveMountPoint(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if _, covered, err := mountAt(path); err != nil || covered {
		return path, err
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return "", fail(errNotMounted, "", "%s: nothing is mounted there", path)
	}
	path = filepath.Join(parent, filepath.Base(path))
	if _, covered, err := mountAt(path); err != nil || covered {
		return path, err
	}
	// The last part may be a link to the mount point.
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	return path, nil
}

// unmountForeign takes away a mount whose process cannot be spoken to: a dead
// one, or one of another user. A living process drains by itself.
func (c *umountCommand) unmountForeign(path string) error {
	mount, covered, err := mountAt(path)
	switch {
	case err != nil:
		return err
	case !covered || !mount.isOurs():
		return fail(errNotMounted, "", "%s: no vault is mounted there", path)
	case isDead(path):
		if err := unmountDirect(path, true); err != nil {
			return busyOr(path, err)
		}
		c.ui.note("%s: the process of this mount had died; cleared", escapeName(path))
		return nil
	}
	if err := unmountDirect(path, c.lazy); err != nil {
		return busyOr(path, err)
	}
	c.ui.note("%s: unmounted; its process belongs to another user and goes on until it is done", escapeName(path))
	return nil
}

func busyOr(path string, err error) error {
	if errors.Is(err, syscall.EBUSY) {
		return busyFailure(path)
	}
	return fail(fs.ErrBusy, "", "%s: %v", path, err)
}

// busyFailure says who uses the mount, as far as it can be seen.
func busyFailure(path string) error {
	users := usersOf(path)
	if len(users) == 0 {
		return fail(fs.ErrBusy, "", "%s is still in use", path)
	}
	return fail(fs.ErrBusy, "", "%s is still in use by %s", path, strings.Join(users, ", "))
}

// run drains one mount.
func (j unmounting) run(ctx context.Context, cl *client, view statusView) error {
	ctx, cancel := context.WithTimeout(ctx, j.timeout)
	defer cancel()
	process, err := unix.PidfdOpen(cl.pid, 0)
	if err == nil {
		defer unix.Close(process)
	} else {
		process = -1
	}
	stage := ""
	err = cl.stream(ctx, callUnmount, unmountRequest{Lazy: j.lazy, Force: j.force}, func(f frame) error {
		stage = f.Stage
		return nil
	})
	switch {
	case errors.Is(err, fs.ErrBusy):
		return busyFailure(view.MountPoint)
	case errors.Is(err, context.DeadlineExceeded):
		return j.left(cl, view, stage)
	case err != nil && !errors.Is(err, errDaemonLost):
		return err
	case stage == stageDetached:
		j.ui.note("%s is unmounted; process %d goes on until the last open file is closed", escapeName(view.MountPoint), cl.pid)
		return nil
	}
	// A connection that broke is the end of the process; whether of its work
	// too the kernel tells.
	lostErr := err
	if err := awaitExit(ctx, process); err != nil {
		return j.left(cl, view, stage)
	}
	if lostErr != nil {
		return fail(errDaemonLost, "", "the mount's process ended while unmounting %s", view.MountPoint)
	}
	return nil
}

// left says what keeps a mount from ending in time.
func (j unmounting) left(cl *client, view statusView, stage string) error {
	what := map[string]string{
		stageCommit: "written files are still being stored",
		stageDetach: "the kernel has not let go of the mount",
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
