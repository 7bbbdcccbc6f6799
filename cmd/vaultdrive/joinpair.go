package main

import (
	"context"
	"errors"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// runPair joins without a password: a device of the vault, where it is typed,
// lets this one in.
func (c *joinCommand) runPair(ctx context.Context) error {
	if err := c.canAsk(); err != nil {
		return err // before somebody lets this device in
	}
	if _, err := c.look(ctx); err != nil {
		return err
	}
	p := seal.NewPairing()
	defer p.Wipe()
	vk, err := c.ask(ctx, p)
	if err != nil {
		return err
	}
	defer vk.Wipe()
	site, err := c.look(ctx) // with the header that lists this device
	if err != nil {
		return err
	}
	return c.attempt(ctx, site, vaultcore.JoinOptions{Headers: site.Headers, DID: site.DID, Paired: p, VaultKey: &vk})
}

// canAsk says whether what was found can be confirmed.
func (c *joinCommand) canAsk() error {
	if c.yes {
		return nil
	}
	tty, err := terminal()
	if err != nil || c.json {
		return usage("nothing was changed; without a terminal, and with --json, join --pair needs --yes")
	}
	return tty.Close()
}

// ask publishes the question, shows the code and waits for the answer.
func (c *joinCommand) ask(ctx context.Context, p *seal.Pairing) (vk seal.Key, err error) {
	r, err := c.open(p.ID.UUID())
	if err != nil {
		return vk, err
	}
	defer r.Close()
	code, err := syncer.PairRequest(ctx, r, p)
	if err != nil {
		return vk, err
	}
	defer func() { err = errors.Join(err, syncer.PairDone(context.WithoutCancel(ctx), r, p)) }()
	c.ui.note("On a device of the vault, within %s: vaultdrive device approve %s", syncer.PairTime, code)
	vk, _, err = syncer.PairFinish(ctx, r, c.address.Vault, p)
	if errors.Is(err, context.DeadlineExceeded) {
		return vk, fail(syncer.ErrNoPairing, "run join --pair again", "nobody has let this device in for %s", syncer.PairTime)
	}
	return vk, err
}

// keepPaired lets the keyring open the vault, as the password was never typed
// here. Where there is none the password does.
func (c *joinCommand) keepPaired(key *seal.Key) {
	home, err := selectVault(c.home + "/")
	if err == nil {
		text := vaultcore.FormatDeviceKey(c.address.Vault, key)
		defer clear(text)
		err = keyringSet(home, text)
	}
	if err != nil {
		c.ui.note("There is no keyring to keep this device's key: the password of the vault opens it.")
	}
}
