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

	"github.com/vaultdrive/vaultdrive/fs"
)

// umountCommand ends a mount.
type umountCommand struct {
	common
	lazy       bool
	timeout    time.Duration
	upload     time.Duration
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
			"and the mount stays. Without MOUNTPOINT it is the mount of --vault, or the only one.\n" +
			"A synchronised vault first uploads what has changed, for --drain at most; what is left is said, is safe here,\n" +
			"and goes up with the next mount or vaultdrive sync now.",
		Flags: []cli.Flag{
			c.vaultFlag(), c.jsonFlag(),
			&cli.BoolFlag{Name: "lazy", Aliases: []string{"l"}, Destination: &c.lazy,
				Usage: "take the mount away at once; programs keep the files they have open"},
			&cli.DurationFlag{Name: "timeout", Destination: &c.timeout, Value: 2 * time.Minute,
				Usage: "how long to wait for the end, as 30s or 5m"},
			&cli.DurationFlag{Name: "drain", Destination: &c.upload, Value: 10 * time.Second,
				Usage: "how long to go on uploading, if the remote answers; 0: not at all"},
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
	c.timeout += max(0, c.upload)
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
	job := unmounting{ui: c.ui, lazy: c.lazy, timeout: c.timeout, upload: c.upload}
	left, err := job.run(limit, cl, view)
	if err != nil {
		return err
	}
	if c.json {
		return c.ui.writeJSON(umountView{view.Vault, view.MountPoint, true, &left})
	}
	left.say(c.ui)
	return nil
}

// umountView is what umount prints with --json.
type umountView struct {
	Vault      string      `json:"vault"`
	MountPoint string      `json:"mountpoint"`
	Unmounted  bool        `json:"unmounted"`
	Left       *leftBehind `json:"not_uploaded,omitempty"`
}

func (c *umountCommand) show(vault, mountPoint string) error {
	if c.json {
		return c.ui.writeJSON(umountView{Vault: vault, MountPoint: mountPoint, Unmounted: true})
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
		match = func(slot, _ string) bool { return slot == home.slot() }
	}
	cl, view, err := findMount(ctx, match)
	if err != nil || cl != nil {
		return cl, view, err
	}
	c.mountPoint, err = deadPoint(match)
	return nil, view, err
}

// deadPoint finds the only mount whose process died.
func deadPoint(match func(slot, point string) bool) (string, error) {
	var points []string
	for _, r := range recordsHere() {
		if match(r.slot(), r.MountPoint) && r.seen() {
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
func findMount(ctx context.Context, match func(slot, point string) bool) (found *client, at statusView, err error) {
	var quiet error
	for _, path := range socketsHere() {
		r, known := readRecord(path)
		if known && !match(slotOf(path), r.MountPoint) {
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
		if cl.status(ctx, &view) != nil || !match(slotOf(path), view.MountPoint) {
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
