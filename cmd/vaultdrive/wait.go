package main

import (
	"context"
	"errors"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// waitCommand returns when everything closed so far outlives a power cut and,
// with synchronisation, this machine.
type waitCommand struct {
	common
	timeout time.Duration
	local   bool
	paths   []string
}

func waitCLI(u *ui) *cli.Command {
	c := &waitCommand{common: common{ui: u}}
	return &cli.Command{
		Name:      "wait",
		Usage:     "wait until every closed file is safe on the disk, and uploaded if sync is on",
		ArgsUsage: "[PATH...]",
		Description: "With PATH it waits for the upload of these files only, and of those below directories. Files that stay on this\n" +
			"device, as locks of programs do, are not waited for.",
		Flags: c.flags(
			&cli.DurationFlag{Name: "timeout", Destination: &c.timeout, Value: 5 * time.Minute, Usage: "how long to wait"},
			&cli.BoolFlag{Name: "local", Destination: &c.local, Usage: "wait for the disk only, not for the remote"},
		),
		Action: func(cx *cli.Context) error {
			c.paths = cx.Args().Slice()
			return c.Run(cx.Context)
		},
	}
}

// Run waits for the barrier, then for the remote. What nobody has open has
// passed the barrier; whether it is uploaded only an open vault can say.
func (c *waitCommand) Run(ctx context.Context) error {
	home, err := c.locate(c.paths, toFind)
	if err != nil {
		return err
	}
	cl, err := dialVault(ctx, home)
	if err != nil {
		return err
	}
	if cl == nil && (c.local || len(c.paths) == 0 && !c.password.explicit()) {
		return c.show(waitView{Durable: true})
	}
	if cl == nil {
		if cl, err = c.connectHome(ctx, home); err != nil {
			return err
		}
	}
	defer cl.close(ctx)
	limit, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	err = c.wait(limit, cl)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return fail(vaultcore.ErrTimeout, "vaultdrive sync status shows what is in the way; nothing is lost",
			"not everything is uploaded after %s", c.timeout)
	}
	return err
}

func (c *waitCommand) wait(ctx context.Context, cl *client) error {
	if c.local {
		if err := cl.call(ctx, callBarrier, none{}, nil); err != nil {
			return err
		}
		return c.show(waitView{Durable: true})
	}
	bar := c.ui.progress("uploading", true)
	defer bar.finish()
	in := syncWaitRequest{}
	for _, p := range c.paths {
		in.Paths = append(in.Paths, cleanPath(p))
	}
	view := waitView{Durable: true}
	err := items(ctx, cl, callSyncWait, in, bar, func(a waitedAnswer) error {
		view.Uploaded = a.Uploaded
		return nil
	})
	bar.finish()
	if err != nil {
		return err
	}
	return c.show(view)
}

// waitView is what wait prints with --json.
type waitView struct {
	Durable  bool `json:"durable"`
	Uploaded bool `json:"uploaded"` // false also where nobody asked the remote
}

func (c *waitCommand) show(view waitView) error {
	if !c.json {
		return nil
	}
	return c.ui.writeJSON(view)
}
