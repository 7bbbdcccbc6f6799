package main

import (
	"context"
	"errors"
	"time"

	"github.com/urfave/cli/v2"
)

// lockCommand locks a vault: its mount goes, its keys are wiped, the kernel
// drops what it kept of its files.
type lockCommand struct {
	common
	force   bool
	timeout time.Duration
}

func lockCLI(u *ui) *cli.Command {
	c := &lockCommand{common: common{ui: u}}
	return &cli.Command{
		Name:  "lock",
		Usage: "unmount a vault and wipe its keys from memory",
		Description: "Everything written is stored first. With --force programs that have files open lose them, after what\n" +
			"they wrote so far has been stored.",
		Flags: []cli.Flag{
			c.vaultFlag(), c.jsonFlag(),
			&cli.BoolFlag{Name: "force", Destination: &c.force, Usage: "lock even if files are in use"},
			&cli.DurationFlag{Name: "timeout", Destination: &c.timeout, Value: 2 * time.Minute, Usage: "how long to wait for the end"},
		},
		Action: func(cx *cli.Context) error {
			if cx.NArg() > 0 {
				return usage("lock takes no operands; name the vault with --vault")
			}
			return c.Run(cx.Context)
		},
	}
}

// Run locks. A vault that is not mounted is locked already.
func (c *lockCommand) Run(ctx context.Context) error {
	home, err := selectVault(c.vault)
	if err != nil {
		return err
	}
	cl, err := dialVault(ctx, home)
	var quiet *silentDaemon
	switch {
	case errors.As(err, &quiet) && c.force:
		return c.endSilent(ctx, home, quiet)
	case err != nil:
		return err
	case cl == nil:
		return c.clear(ctx, home)
	}
	defer cl.close(ctx)
	var view statusView
	if err := cl.status(ctx, &view); err != nil {
		return err
	}
	job := unmounting{ui: c.ui, force: c.force, timeout: c.timeout,
		busyHint: "close what uses it, or vaultdrive lock --force takes the files away"}
	left, err := job.run(ctx, cl, view)
	if err != nil {
		return err
	}
	left.say(c.ui)
	return c.show(home, true)
}

// endSilent locks although the mount's process does not answer.
func (c *lockCommand) endSilent(ctx context.Context, home vaultHome, quiet *silentDaemon) error {
	limit, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if err := quiet.end(limit); err != nil {
		return err
	}
	c.ui.warn("process %d did not answer and was ended; what programs had not saved may be lost", quiet.pid)
	return c.show(home, true)
}

// clear takes away what a mount left whose process died: the keys went with it.
func (c *lockCommand) clear(ctx context.Context, home vaultHome) error {
	r, dead := deadMount(ctx, home)
	if !dead {
		return c.show(home, false)
	}
	if err := clearDead(ctx, r); err != nil {
		return err
	}
	return c.show(home, true)
}

func (c *lockCommand) show(home vaultHome, was bool) error {
	if c.json {
		return c.ui.writeJSON(map[string]any{"vault": home.id, "label": home.label, "locked": true, "was_mounted": was})
	}
	if !was {
		c.ui.note("%s was locked already", escapeName(home.label))
	}
	return nil
}
