package main

import (
	"context"
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
)

// syncCommand turns synchronisation on and off, does it now, and shows it.
type syncCommand struct {
	common
	remote remoteOptions
	heal   bool
}

func syncCLI(u *ui) *cli.Command {
	c := &syncCommand{common: common{ui: u}}
	none := func(run func(context.Context) error) cli.ActionFunc {
		return func(cx *cli.Context) error {
			if cx.NArg() > 0 {
				return usage("sync %s takes no operands", cx.Command.Name)
			}
			return run(cx.Context)
		}
	}
	return &cli.Command{
		Name:  "sync",
		Usage: "keep the vault the same on several devices, through a directory or a bucket",
		Subcommands: []*cli.Command{
			c.enableCLI(),
			{
				Name:  "disable",
				Usage: "stop; everything at the remote and on other devices stays as it is",
				Flags: c.flags(), Action: none(c.disable),
			},
			{
				Name:  "now",
				Usage: "make vault and remote agree at once, and wait for it",
				Flags: c.flags(&cli.BoolFlag{Name: "heal", Destination: &c.heal,
					Usage: "read all that is there, and put back what the remote has lost or altered and this device still has"}),
				Action: none(c.syncNow),
			},
			{
				Name:  "status",
				Usage: "show what waits to be transferred, the devices, and what is wrong",
				Flags: c.flags(), Action: none(c.status),
			},
		},
	}
}

func (c *syncCommand) enableCLI() *cli.Command {
	return &cli.Command{
		Name:      "enable",
		Usage:     "synchronise with a directory, a bucket or a server, or change how",
		ArgsUsage: "[URL]",
		Description: "URL is file:///DIRECTORY (a NAS, a USB disk, a shared folder) or the directory's path,\n" +
			"s3://BUCKET/PREFIX?endpoint=https://HOST&region=NAME, or https://HOST of a server (vaultdrive serve).\n" +
			"Another URL than before moves the vault; each device moves by itself. Without URL the remote stays and the options\n" +
			"change. What is stored there is encrypted; the remote sees sizes, counts and times.\n" +
			"Credentials of a bucket come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or from ~/.aws/credentials, each\n" +
			"time the vault is mounted. --keep-credentials seals them in the vault instead, under its own keys.",
		Flags: c.flags(c.remote.flags()...),
		Action: func(cx *cli.Context) error {
			if cx.NArg() > 1 {
				return usage("sync enable takes one URL")
			}
			return c.enable(cx.Context, cx)
		},
	}
}

func (c *syncCommand) enable(ctx context.Context, cx *cli.Context) error {
	in, err := c.remote.request(cx, cx.Args().First())
	if err != nil {
		return err
	}
	cl, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	var view syncView
	err = cl.call(ctx, callSyncEnable, in, &view)
	if errors.Is(err, errNoPassword) { // it came back from a backup
		if in.Password, err = c.password.forAction(ctx, c.ui, "Password: ", "enroll a device"); err != nil {
			return err
		}
		defer clear(in.Password)
		err = cl.call(ctx, callSyncEnable, in, &view)
	}
	if err != nil {
		return err
	}
	if c.json {
		return c.ui.writeJSON(view)
	}
	c.ui.printf("The vault is synchronised with %s.\n", c.ui.name(view.Remote))
	if view.Address != "" {
		c.ui.printf("Another device joins with: vaultdrive join --remote %s %s\n", c.ui.name(shellQuote(view.Remote)), view.Address)
	} else {
		c.ui.note("The address that lets another device join %s.", addressElsewhere)
	}
	if view.Moved != "" {
		c.ui.note("It has moved from %s. Other devices stay there until the same command is given on them.", c.ui.name(view.Moved))
	}
	if cl.pid == 0 {
		c.ui.note("The contents are uploaded by the next mount, or now with vaultdrive sync now.")
	}
	if in.Access.secret() && !view.Kept {
		c.ui.note("The credentials are not kept: a mount needs them in its environment, or seal them in the vault with --keep-credentials.")
	}
	return nil
}

// addressElsewhere is said of a vault that came back from a backup to a server
// where another device had registered it.
const addressElsewhere = "is not known here: other devices and the recovery kit have it, and vaultdrive device revoke of a lost device makes a new one"

// ask makes a call that answers with how things are, and shows that.
func (c *syncCommand) ask(ctx context.Context, call string, show func(cl *client, view *syncView)) error {
	cl, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	var view syncView
	if err := cl.call(ctx, call, none{}, &view); err != nil {
		return err
	}
	if c.json {
		return c.ui.writeJSON(view)
	}
	show(cl, &view)
	return nil
}

func (c *syncCommand) disable(ctx context.Context) error {
	return c.ask(ctx, callSyncDisable, c.showDisabled)
}

func (c *syncCommand) showDisabled(_ *client, view *syncView) {
	if view.RemoteOnly > 0 {
		c.ui.warn("%s at the remote only and cannot be read while synchronisation is off", areFiles(view.RemoteOnly))
	}
	c.ui.note("Synchronisation is off. Nothing at the remote has changed; vaultdrive sync enable turns it on again.")
}

func areFiles(n int) string {
	if n == 1 {
		return "1 file is"
	}
	return plural(n, "file") + " are"
}

func (c *syncCommand) syncNow(ctx context.Context) error {
	access, err := c.remote.access.find("")
	if err != nil {
		return err
	}
	cl, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	what := "syncing"
	if c.heal {
		what = "reading the remote" // most of what healing does
	}
	bar := c.ui.progress(what, true)
	defer bar.finish()
	var view syncView
	err = items(ctx, cl, callSyncNow, syncNowRequest{Heal: c.heal, Access: access}, bar, func(v syncView) error {
		view = v
		return nil
	})
	bar.finish()
	if c.json && (err == nil || view.Healed != nil) {
		return errors.Join(err, c.ui.writeJSON(view))
	}
	if view.Healed != nil {
		c.showHealed(view.Healed)
	}
	if err != nil {
		return err
	}
	for _, cond := range view.Conditions {
		c.ui.warn("%s", escapeName(cond.Text))
		if cond.Hint != "" {
			c.ui.note("hint: %s", escapeName(cond.Hint))
		}
	}
	if text := unverifiedText(view.Unverified, view.Deletions); text != "" {
		c.ui.note("%s", text)
	}
	return nil
}

// showHealed says what was put back, and which objects were false.
func (c *syncCommand) showHealed(h *syncer.Healed) {
	if h.PutBack == 0 && len(h.Replaced)+len(h.False) == 0 {
		c.ui.printf("The remote has all that is held here, as it was put there.\n")
	}
	if h.PutBack > 0 {
		c.ui.printf("Put back: %s that the remote had lost.\n", plural(h.PutBack, "object"))
	}
	for i, key := range h.Replaced {
		if i == mostNamed {
			c.ui.printf("  and %d more\n", len(h.Replaced)-i)
			break
		}
		c.ui.printf("Replaced, it was not what was put there: %s\n", c.ui.name(key))
	}
}

// mostNamed is how many things of a kind are named, where there may be thousands.
const mostNamed = 20

func (c *syncCommand) status(ctx context.Context) error {
	return c.ask(ctx, callSyncStatus, func(cl *client, view *syncView) { syncPrinter{&c.common, cl.pid}.show(view) })
}
