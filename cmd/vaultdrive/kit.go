package main

import (
	"context"
	"errors"
	"os"

	"github.com/urfave/cli/v2"
)

// maxKit bounds a file that holds a kit.
const maxKit = 64 << 10

// kitCommand makes a recovery kit and uses it.
type kitCommand struct {
	common
	out  string
	file string
	did  string
	next passwordSource
}

func kitCLI(u *ui) *cli.Command {
	c := &kitCommand{common: common{ui: u}}
	c.next.fd = -1
	noOperands := func(run func(context.Context) error) cli.ActionFunc {
		return func(cx *cli.Context) error {
			if cx.NArg() > 0 {
				return usage("%s takes no operands; name the vault with --vault", cx.Command.Name)
			}
			return run(cx.Context)
		}
	}
	return &cli.Command{
		Name:  "kit",
		Usage: "make a recovery kit, or set a new password with one",
		Subcommands: []*cli.Command{{
			Name:        "create",
			Usage:       "make a recovery kit to print; an earlier one becomes worthless",
			Description: "The password is needed: a device key cannot do this.",
			Flags: c.flags(&cli.StringFlag{Name: "out", Destination: &c.out,
				Usage: "write it to `FILE` (which must not exist) instead of showing it"}),
			Action: noOperands(c.create),
		}, {
			Name:  "restore",
			Usage: "set a new password with the secret of the kit, without the old one",
			Description: "Of a vault that is synced the remote has to be reachable; other devices ask for the new password once. On a machine\n" +
				"that has no copy of the vault, vaultdrive join --kit does this.",
			Flags: append([]cli.Flag{
				c.vaultFlag(), c.jsonFlag(), kitFileFlag(&c.file),
				&cli.StringFlag{Name: "did", Destination: &c.did, Usage: "the `IDENTITY` printed on the kit, to be compared with the vault's"},
			}, newPasswordFlags(&c.next)...),
			Action: noOperands(c.restore),
		}},
	}
}

// create needs the password itself: the kit opens everything.
func (c *kitCommand) create(ctx context.Context) error {
	home, err := selectVault(c.vault)
	if err != nil {
		return err
	}
	cl, password, err := c.withPassword(ctx, home, "make a recovery kit")
	if err != nil {
		return err
	}
	defer clear(password)
	defer cl.close(ctx)
	var out *os.File
	if c.out != "" {
		if out, err = os.OpenFile(c.out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
			return err
		}
	}
	var answer textAnswer
	if err := cl.call(ctx, callKit, passwordRequest{Old: password}, &answer); err != nil {
		if out != nil {
			err = errors.Join(err, out.Close(), os.Remove(c.out))
		}
		return err
	}
	if out != nil {
		_, err := out.WriteString(answer.Text)
		return errors.Join(err, out.Sync(), out.Close())
	}
	if c.json {
		return c.ui.writeJSON(map[string]string{"kit": answer.Text})
	}
	c.ui.printf("%s", answer.Text)
	return nil
}
