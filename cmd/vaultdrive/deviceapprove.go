package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

func (c *deviceCommand) approveCLI() *cli.Command {
	return &cli.Command{
		Name:      "approve",
		Usage:     "let in the device that join --pair shows a code on",
		ArgsUsage: "CODE",
		Description: "Look that the code is the one the new device shows: it stands for its keys. The password is needed here, and none\n" +
			"there. The device reads everything from then on.",
		Flags: c.flags(&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Destination: &c.yes, Usage: "do not ask whether the code is right"}),
		Action: func(cx *cli.Context) error {
			if cx.NArg() != 1 {
				return usage("device approve takes one CODE")
			}
			return c.approve(cx.Context, cx.Args().First())
		},
	}
}

func (c *deviceCommand) approve(ctx context.Context, code string) error {
	if _, err := seal.PairName(code); err != nil {
		return err
	}
	home, err := selectVault(c.vault)
	if err != nil {
		return err
	}
	cl, password, err := c.withPassword(ctx, home, "let a device in")
	if err != nil {
		return err
	}
	defer clear(password)
	defer cl.close(ctx)
	if !c.yes && !c.json {
		// A script has no terminal, and it has typed the code.
		if yes, err := askYes(ctx, "Is "+c.ui.name(code)+" what the new device shows?"); err == nil && !yes {
			c.ui.note("Nothing was changed.")
			return nil
		}
	}
	access, err := (&accessSource{}).find("")
	if err != nil {
		return err
	}
	var answer deviceRequest
	if err := cl.call(ctx, callApprove, deviceRequest{Password: password, Code: code, Access: access}, &answer); err != nil {
		return err
	}
	if c.json {
		return c.ui.writeJSON(map[string]any{"approved": answer.Devices[0]})
	}
	c.ui.note("The device is let in: %s.", answer.Devices[0])
	return nil
}
