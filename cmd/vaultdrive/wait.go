package main

import (
	"context"
	"time"

	"github.com/urfave/cli/v2"
)

// waitCommand returns when everything closed so far outlives a power cut.
type waitCommand struct {
	common
	timeout time.Duration
}

func waitCLI(u *ui) *cli.Command {
	c := &waitCommand{common: common{ui: u}}
	return &cli.Command{
		Name:  "wait",
		Usage: "wait until every closed file is safe on the disk",
		Flags: c.flags(
			&cli.DurationFlag{Name: "timeout", Destination: &c.timeout, Value: 5 * time.Minute, Usage: "how long to wait"},
		),
		Action: func(cx *cli.Context) error {
			if cx.NArg() > 0 {
				return usage("wait takes no operands")
			}
			return c.Run(cx.Context)
		},
	}
}

// Run waits for the barrier. A vault that nobody has open has passed it.
func (c *waitCommand) Run(ctx context.Context) error {
	home, err := selectVault(c.vault)
	if err != nil {
		return err
	}
	cl, err := dialVault(ctx, home)
	if err != nil {
		return err
	}
	if cl == nil {
		return c.show()
	}
	defer cl.close(ctx)
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if err := cl.call(ctx, callBarrier, none{}, nil); err != nil {
		return err
	}
	return c.show()
}

func (c *waitCommand) show() error {
	if !c.json {
		return nil
	}
	return c.ui.writeJSON(map[string]bool{"durable": true})
}
