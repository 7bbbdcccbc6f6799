package main

import (
	"context"
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
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
	// busyHint is what to do about programs that have files open.
	busyHint string
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
	limit, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	cl, view, err := c.find(limit)
	var quiet *silentDaemon
	switch {
	case errors.As(err, &quiet) && c.lazy:
		return c.detachSilent(ctx, quiet)
	case err != nil:
		return err
	case cl == nil:
		return c.unmountForeign(limit, c.mountPoint)
	}
	defer cl.close(ctx)
	job := unmounting{ui: c.ui, lazy: c.lazy, timeout: c.timeout}
	if err := job.run(limit, cl, view); err != nil {
		return err
	}
	return c.show(view.Vault, view.MountPoint)
}

func (c *umountCommand) show(vault, mountPoint string) error {
	if c.json {
		return c.ui.writeJSON(map[string]any{"vault": vault, "mountpoint": mountPoint, "unmounted": true})
	}
	return nil
}

// detachSilent takes the mount of a process away that does not answer.
func (c *umountCommand) detachSilent(ctx context.Context, quiet *silentDaemon) error {
	if err := quiet.detach(ctx); err != nil {
		return busyOr(quiet.record.MountPoint, "vaultdrive lock --force ends its process", err)
	}
	c.ui.note("%s is unmounted; process %d does not answer and still holds the vault open: vaultdrive lock --force ends it",
		escapeName(quiet.record.MountPoint), quiet.pid)
	return c.show(quiet.record.Vault, quiet.record.MountPoint)
}

// find looks for the process behind the mount point, or behind the vault. No
// process and no error: the mount point is one that no socket answers for.
func (c *umountCommand) find(ctx context.Context) (*client, statusView, error) {
	if c.mountPoint != "" {
		path, err := resolveMountPoint(ctx, c.mountPoint)
		if err != nil {
			return nil, statusView{}, err
		}
		c.mountPoint = path
		return findMount(ctx, func(_, point string) bool { return point == path })
	}
	match := func(_, _ string) bool { return true }
	if c.vault != "" {
		home, err := selectVault(c.vault)
		if err != nil {
			return nil, statusView{}, err
		}
		match = func(vault, _ string) bool { return vault == home.id }
	}
	cl, view, err := findMount(ctx, match)
	if err != nil || cl != nil {
		return cl, view, err
	}
	c.mountPoint, err = deadPoint(match)
	return nil, view, err
}

// deadPoint finds the only mount whose process died.
func deadPoint(match func(vault, point string) bool) (string, error) {
	var points []string
	for _, r := range recordsHere() {
		if match(r.Vault, r.MountPoint) && r.seen() {
			points = append(points, r.MountPoint)
		}
	}
	switch len(points) {
	case 0:
		return "", fail(errNotMounted, "", "no vault of yours is mounted")
	case 1:
		return points[0], nil
	}
	return "", fail(errAmbiguous, "name the mount point", "vaults are mounted on %s", strings.Join(points, " and on "))
}

// findMount asks the mounts of this user that can be meant: the record beside
// a socket tells which, so that none that is not is waited for. Several that
// match are an error, one that does not answer too.
func findMount(ctx context.Context, match func(vault, point string) bool) (found *client, at statusView, err error) {
	var quiet error
	for _, path := range socketsHere() {
		r, known := readRecord(path)
		if known && !match(r.Vault, r.MountPoint) {
			continue
		}
		cl, err := dialPath(ctx, path)
		if errors.Is(err, errDaemonSilent) && known {
			quiet = err
		}
		if err != nil || cl == nil {
			continue
		}
		var view statusView
		if cl.status(ctx, &view) != nil || !match(view.Vault, view.MountPoint) {
			_ = cl.close(ctx)
			continue
		}
		if found != nil {
			return nil, at, errors.Join(fail(errAmbiguous, "name the mount point", "vaults are mounted on %s and on %s",
				at.MountPoint, view.MountPoint), cl.close(ctx), found.close(ctx))
		}
		found, at = cl, view
	}
	if found != nil {
		return found, at, nil
	}
	if err := ctx.Err(); errors.Is(err, context.Canceled) {
		return nil, at, err
	}
	return nil, at, quiet
}

// resolveMountPoint gives the path as the kernel has it, without asking the
// file system mounted there, which may be dead or silent.
func resolveMountPoint(ctx context.Context, path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if _, covered, err := mountAt(path); err != nil || covered {
		return path, err
	}
	resolve := func(path string) (string, error) {
		return bounded(ctx, systemPatience, func() (string, error) { return filepath.EvalSymlinks(path) })
	}
	parent, err := resolve(filepath.Dir(path))
	if err != nil {
		return "", fail(errNotMounted, "", "%s: nothing is mounted there", path)
	}
	path = filepath.Join(parent, filepath.Base(path))
	if _, covered, err := mountAt(path); err != nil || covered {
		return path, err
	}
	// The last part may be a link to the mount point.
	if target, err := os.Readlink(path); err == nil {
		if !filepath.IsAbs(target) {
			target = filepath.Join(parent, target)
		}
		if _, covered, err := mountAt(filepath.Clean(target)); err == nil && covered {
			return filepath.Clean(target), nil
		}
	}
	if target, err := resolve(path); err == nil {
		path = target
	}
	return path, nil
}

// unmountForeign takes away a mount whose process cannot be spoken to: a dead
// one, or one of another user. A living process drains by itself.
func (c *umountCommand) unmountForeign(ctx context.Context, path string) error {
	mount, covered, err := mountAt(path)
	if err != nil {
		return err
	}
	if !covered || !mount.isOurs() {
		return fail(errNotMounted, "", "%s: no vault is mounted there", path)
	}
	state := pulseOf(ctx, path)
	switch {
	case state == pulseDead:
		if err := clearDead(ctx, recordAt(path)); err != nil {
			return err
		}
		c.ui.note("%s: the process of this mount had died; cleared", escapeName(path))
		return c.show("", path)
	case state == pulseSilent && !c.lazy:
		return fail(errDaemonSilent, "vaultdrive umount --lazy "+shellQuote(path)+" takes the mount away",
			"the process of the mount on %s does not answer", path)
	}
	if err := unmountDirect(ctx, path, c.lazy); err != nil {
		return busyOr(path, "", err)
	}
	c.ui.note("%s: unmounted; its process%s could not be asked; it goes on until it is done", escapeName(path), mount.ofWhom())
	return c.show("", path)
}

// recordAt gives the record of a mount point, or one that names only that.
func recordAt(point string) mountRecord {
	for _, r := range recordsHere() {
		if r.MountPoint == point {
			return r
		}
	}
	return mountRecord{MountPoint: point}
}

// ofWhom names the user of a mount that is not ours.
func (m mountEntry) ofWhom() string {
	if m.owner == "" || m.owner == strconv.Itoa(os.Geteuid()) {
		return ""
	}
	if u, err := user.LookupId(m.owner); err == nil {
		return " of user " + u.Username
	}
	return " of user " + m.owner
}

func busyOr(path, hint string, err error) error {
	if errors.Is(err, syscall.EBUSY) {
		return busyFailure(path, hint)
	}
	return fail(fs.ErrBusy, hint, "%s: %v", path, err)
}

// busyFailure says who uses the mount, as far as it can be seen.
func busyFailure(path, hint string) error {
	// A process that waits for the mount can hold up who looks into it.
	users, _ := bounded(context.Background(), systemPatience, func() ([]string, error) { return usersOf(path), nil })
	if len(users) == 0 {
		return fail(fs.ErrBusy, hint, "%s is still in use", path)
	}
	return fail(fs.ErrBusy, hint, "%s is still in use by %s", path, strings.Join(users, ", "))
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
		return busyFailure(view.MountPoint, j.busyHint)
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
