package main

import (
	"context"
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
	if err != nil {
		return err
	}
	if cl == nil {
		return c.show(home, false)
	}
	defer cl.close(ctx)
	var view statusView
	if err := cl.call(ctx, callStatus, none{}, &view); err != nil {
		return err
	}
	job := unmounting{ui: c.ui, force: c.force, timeout: c.timeout}
	if err := job.run(ctx, cl, view); err != nil {
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
