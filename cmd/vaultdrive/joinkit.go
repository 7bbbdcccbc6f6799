package main

import (
	"context"
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// whichVault gives the address as it was typed, or as it stands on the kit.
func (c *joinCommand) whichVault(cx *cli.Context) (string, error) {
	c.byKit = c.byKit || c.kitFile != ""
	switch {
	case c.byKit && c.pair:
		return "", usage("join takes --kit or --pair, not both")
	case !c.byKit && c.next.byOption():
		return "", usage("a new password is set with --kit only; vaultdrive passwd changes it")
	case cx.NArg() > 1, cx.NArg() == 0 && c.kitFile == "":
		return "", usage("join takes one ADDRESS")
	}
	if !c.byKit {
		return cx.Args().First(), nil
	}
	sheet, err := readKit(cx.Context, c.ui, c.kitFile)
	if err != nil {
		return "", err
	}
	kit, err := seal.ParseKit(sheet.kit.Secret) // what is mistyped is said before anything is asked
	if err != nil {
		return "", err
	}
	kit.Wipe()
	c.kit = &sheet.kit
	if cx.NArg() == 1 {
		return cx.Args().First(), nil
	}
	if sheet.address == "" {
		return "", usage("%s names no address: give ADDRESS, as sync status shows it", c.kitFile)
	}
	return sheet.address, nil
}

// runKit joins by the recovery kit, for whoever has lost the password.
func (c *joinCommand) runKit(ctx context.Context) error {
	site, err := c.look(ctx)
	if err != nil {
		return err
	}
	if c.fresh, err = newPasswordFrom(ctx, c.ui, &c.next); err != nil {
		return err
	}
	defer clear(c.fresh)
	err = c.repeat(ctx, site, vaultcore.JoinOptions{Kit: c.kit, KDF: vaultcore.ChildKDF})
	if errors.Is(err, vaultcore.ErrForeignHeader) {
		return hinted(err, "what lies at the remote is not the vault of this kit: is it the right kit, and the right remote?")
	}
	return err
}

// setPassword begins an epoch under the new password, now that this device has
// all that the others said: only then is it known where theirs end. Should it
// fail, the device has joined all the same, and the kit opens its vault.
func (c *joinCommand) setPassword(ctx context.Context, vault *vaultcore.Vault, made vaultcore.JoinResult) error {
	c.opened = vault
	r, err := c.open(made.Device.UUID())
	if err != nil {
		return err
	}
	defer r.Close()
	err = syncer.RestoreByKit(ctx, vault, r, *c.kit, c.fresh, seal.KDFParams{})
	if err != nil {
		return hinted(err, "this device has joined, and the password of the vault is still the old one: vaultdrive kit restore sets a new one")
	}
	c.ui.note("The new password opens the vault; other devices ask for it once. The kit stays good.")
	return nil
}
