package main

import (
	"context"
	"errors"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/vaultcore"
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
			Flags: []cli.Flag{
				c.vaultFlag(), c.jsonFlag(),
				&cli.StringFlag{Name: "kit-file", Destination: &c.file, Usage: "read the secret from `FILE` instead of asking (- is standard input)"},
				&cli.StringFlag{Name: "did", Destination: &c.did, Usage: "the `IDENTITY` printed on the kit, to be compared with the vault's"},
				&cli.StringFlag{Name: "new-password-file", Destination: &c.next.file, Usage: "read the new password from `FILE`"},
				&cli.IntFlag{Name: "new-password-fd", Destination: &c.next.fd, Value: -1, DefaultText: "none", Usage: "read the new password from descriptor `N`"},
				&cli.StringFlag{Name: "new-password-command", Destination: &c.next.command, Usage: "read the new password from the output of `CMD`"},
			},
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
	password, err := c.password.forAction(ctx, c.ui, "Password for "+escapeName(home.label)+": ", "make a recovery kit")
	if err != nil {
		return err
	}
	defer clear(password)
	cl, err := c.connectWith(ctx, home, password)
	if err != nil {
		return err
	}
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

// restore works on a vault that nobody has open.
func (c *kitCommand) restore(ctx context.Context) error {
	home, err := selectVault(c.vault)
	if err != nil {
		return err
	}
	secret, err := c.secret()
	if err != nil {
		return err
	}
	if c.did == "" {
		if header, err := readVaultHeader(home); err == nil {
			c.ui.note("Identity of this vault: %s\nIt must be the one on your kit.", header.DID)
		}
	}
	password, err := newPasswordFrom(ctx, c.ui, &c.next)
	if err != nil {
		return err
	}
	defer clear(password)
	held, err := vaultcore.OpenHome(home.path, false)
	if err != nil {
		return err
	}
	err = vaultcore.KitRestore(ctx, held, vaultcore.KitOptions{Secret: secret, DID: c.did, NewPassword: password, KDF: vaultcore.ChildKDF})
	if err := errors.Join(err, held.Close()); err != nil {
		return err
	}
	if c.json {
		return c.ui.writeJSON(map[string]any{"vault": home.id, "changed": true})
	}
	c.ui.note("The new password opens the vault. The kit stays good.")
	return nil
}

func (c *kitCommand) secret() (string, error) {
	if c.file == "" {
		return askLine("Secret of the kit: ")
	}
	var b []byte
	var err error
	if c.file == "-" {
		b, err = readPassword(c.ui.in, "standard input")
	} else {
		b, err = readBounded(c.file, maxKit)
	}
	if err != nil {
		return "", err
	}
	defer clear(b)
	return kitSecret(string(b)), nil
}

// kitSecret finds the secret in what kit create printed: the line that begins
// with Secret and the one below. Anything else is taken for the secret itself.
func kitSecret(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "Secret "); ok {
			if i+1 < len(lines) {
				rest += lines[i+1]
			}
			return strings.Join(strings.Fields(rest), "-")
		}
	}
	return strings.TrimSpace(text)
}
