package main

import (
	"context"
	"os/user"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/fs"
	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// mountCommand shows a vault as a directory.
type mountCommand struct {
	common
	plan       mountPlan
	options    []string // -o, as given
	durability string
	foreground bool
	slowAES    bool
	sloppy     bool
	unit       bool
	fstab      bool
	mountPoint string
	owner      *user.User
}

func mountCLI(u *ui) *cli.Command {
	c := &mountCommand{common: common{ui: u}}
	var options, scratch cli.StringSlice
	return &cli.Command{
		Name:      "mount",
		Usage:     "show the vault as a directory of files",
		ArgsUsage: "MOUNTPOINT",
		Description: "Returns when the mount answers and goes on in the background; vaultdrive umount ends it.\n" +
			"While it is not mounted, MOUNTPOINT is left without write permission, so that nothing lands in it by\n" +
			"mistake. chmod u+w gives the permission back; the next mount does so by itself.",
		Flags: c.flags(
			&cli.BoolFlag{Name: "read-only", Destination: &c.plan.ReadOnly, Usage: "change nothing, not even to recover"},
			&cli.StringFlag{Name: "asset", Destination: &c.plan.Asset, Usage: "show only the files of the asset with this `TITLE`"},
			&cli.BoolFlag{Name: "allow-other", Destination: &c.plan.AllowOther, Usage: "let other users in (file modes still count)"},
			&cli.BoolFlag{Name: "xattr", Destination: &c.plan.XAttr, Usage: "show user.vaultdrive.* attributes (slows listings down)"},
			&cli.StringFlag{Name: "durability", Destination: &c.durability, Value: "normal",
				Usage: "`LEVEL` normal: a power cut may cost the last second; strict: close waits for the disk"},
			&cli.StringSliceFlag{Name: "scratch", Destination: &scratch,
				Usage: "names matching `PATTERN` stay on this device; replaces the built-in list, may be repeated"},
			&cli.StringSliceFlag{Name: "o", Destination: &options,
				Usage: "mount `OPTIONS` as in fstab: ro, allow_other, xattr, asset=, durability=, scratch=, password-file=, device-key="},
			&cli.BoolFlag{Name: "foreground", Aliases: []string{"f"}, Destination: &c.foreground,
				Usage: "stay in the foreground, for systemd and debugging; the log goes to standard error"},
			&cli.BoolFlag{Name: "slow-aes", Destination: &c.slowAES, Usage: "mount on a processor without AES instructions"},
			&cli.StringFlag{Name: "debug-addr", Destination: &c.plan.DebugAddr,
				Usage: "serve profiles and traces of the daemon at http://`ADDRESS`/debug/pprof, loopback only"},
			&cli.BoolFlag{Name: "print-unit", Destination: &c.unit, Usage: "print a systemd user unit for this mount and do nothing else"},
			&cli.BoolFlag{Name: "print-fstab", Destination: &c.fstab, Usage: "print a line for /etc/fstab and do nothing else"},
		),
		Action: func(cx *cli.Context) error {
			if cx.NArg() != 1 {
				return usage("mount takes one MOUNTPOINT")
			}
			c.mountPoint, c.options, c.plan.Scratch = cx.Args().First(), options.Value(), scratch.Value()
			return c.Run(cx.Context)
		},
	}
}

// Run mounts, or prints how to have it mounted.
func (c *mountCommand) Run(ctx context.Context) error {
	if err := c.readOptions(); err != nil {
		return err
	}
	home, err := selectToMount(c.vault)
	if err != nil {
		return err
	}
	c.plan.Home = home.path
	if c.plan.MountPoint, err = filepath.Abs(c.mountPoint); err != nil {
		return err
	}
	if err := c.password.absolute(); err != nil {
		return err
	}
	switch {
	case c.unit:
		return c.printUnit(home)
	case c.fstab:
		return c.printFstab(home)
	}
	if c.plan.Source == "" {
		c.plan.Source = "vaultdrive"
	}
	return c.mountHome(ctx, home)
}

// readOptions lets -o speak after the long options.
func (c *mountCommand) readOptions() error {
	if err := c.plan.setDurability(c.durability); err != nil {
		return err
	}
	o := mountOptions{plan: &c.plan, password: &c.password, slowAES: &c.slowAES, sloppy: c.sloppy}
	for _, list := range c.options {
		if err := o.apply(list); err != nil {
			return err
		}
	}
	if o.owner == "" {
		return nil
	}
	owner, err := user.Lookup(o.owner)
	if err != nil {
		if owner, err = user.LookupId(o.owner); err != nil {
			return usage("setuid=%s: there is no such user", o.owner)
		}
	}
	c.owner = owner
	return nil
}

// mountHome finds out what can be found out before anybody types a password.
func (c *mountCommand) mountHome(ctx context.Context, home vaultHome) error {
	if !vaultcore.HasHardwareAES() && !c.slowAES {
		return errSlowAES
	}
	if c.owner == nil {
		if err := c.checkFirst(ctx, home); err != nil {
			return err
		}
	}
	creds, err := c.password.credentials(ctx, c.ui, home)
	if err != nil {
		return err
	}
	defer creds.wipe()
	if c.foreground {
		c.ui.draining.Store(true)
		return runDaemon(ctx, c.plan, creds, daemonHooks{log: foregroundLogger(c.ui), ready: c.announce})
	}
	ready, err := startDaemon(ctx, c.plan, creds, c.owner)
	if err != nil && creds.askAfter(ctx, c.ui, home, err) {
		ready, err = startDaemon(ctx, c.plan, creds, c.owner)
	}
	if err != nil {
		return err
	}
	return c.show(home, ready)
}

func (c *mountCommand) checkFirst(ctx context.Context, home vaultHome) error {
	if err := refuseMounted(ctx, home); err != nil {
		return err
	}
	if err := checkPoint(c.plan.MountPoint); err != nil {
		return err
	}
	return fs.Apart(c.plan.MountPoint, home.path)
}

// refuseMounted ends with an error that says where, if the vault is mounted.
func refuseMounted(ctx context.Context, home vaultHome) error {
	cl, err := dialVault(ctx, home)
	if err != nil || cl == nil {
		return err
	}
	defer cl.close(ctx)
	var view statusView
	if err := cl.status(ctx, &view); err != nil {
		return nil // it is just ending: the lock will tell
	}
	if view.MountPoint == "" {
		return fail(errMounted, "close them, or vaultdrive lock --force", "vault %s was unmounted while files were open; process %d waits for them", home.label, view.PID)
	}
	return fail(errMounted, "", "vault %s is already mounted on %s (process %d)", home.label, view.MountPoint, view.PID)
}

// mountView is what mount prints with --json.
type mountView struct {
	Vault      string `json:"vault"`
	Label      string `json:"label"`
	MountPoint string `json:"mountpoint"`
	PID        int    `json:"pid"`
	Log        string `json:"log"`
}

func (c *mountCommand) show(home vaultHome, ready daemonReady) error {
	if c.json {
		return c.ui.writeJSON(mountView{home.id, home.label, ready.MountPoint, ready.PID, ready.Log})
	}
	if c.ui.outTerm {
		c.ui.printf("%s is mounted on %s\n", escapeName(home.label), escapeName(ready.MountPoint))
	}
	return nil
}

// announce is said by a mount in the foreground.
func (c *mountCommand) announce(d *daemon) {
	c.ui.note("%s is mounted on %s; Ctrl-C unmounts", escapeName(d.home.label), escapeName(d.point))
}
