package main

import (
	"context"
)

// renew makes this copy of the vault a device of its own. It opens the vault in
// this process: the identity changes under everything that uses it.
func (c *deviceCommand) renew(ctx context.Context) error {
	if c.keyFile != "" {
		return usage("give --new-id first, then enroll the new device")
	}
	home, err := selectVault(c.vault)
	if err != nil {
		return err
	}
	if cl, err := dialVault(ctx, home); err != nil || cl != nil {
		if cl != nil {
			err = fail(errMounted, "unmount it first", "the vault is mounted")
			_ = cl.close(ctx)
		}
		return err
	}
	cl, password, err := c.withPassword(ctx, home, "give this device a new identity")
	if err != nil {
		return err
	}
	defer clear(password)
	defer cl.close(ctx)
	access, err := (&accessSource{}).find("")
	if err != nil {
		return err
	}
	in := deviceRequest{Password: password, Access: access, Name: c.name, Host: hostName()}
	if err := cl.call(ctx, callNewID, in, nil); err != nil {
		return err
	}
	if c.json {
		return c.ui.writeJSON(map[string]any{"vault": home.id, "renewed": true})
	}
	c.ui.note("This copy of the vault is a device of its own now. What it holds and others lack travels with the next sync.")
	c.ui.note("If the other copy is not in use any more, revoke its device: vaultdrive device list, vaultdrive device revoke.")
	return nil
}

// enlist lets the device of a vault that came back from a backup into the roster at
// once, since the user says that no remote is left.
func (c *deviceCommand) enlist(ctx context.Context) error {
	if c.keyFile != "" {
		return usage("give --no-remote first, then enroll the device")
	}
	home, err := selectVault(c.vault)
	if err != nil {
		return err
	}
	cl, password, err := c.withPassword(ctx, home, "let this device in")
	if err != nil {
		return err
	}
	defer clear(password)
	defer cl.close(ctx)
	if err := cl.call(ctx, callEnlist, deviceRequest{Password: password}, nil); err != nil {
		return err
	}
	if c.json {
		return c.ui.writeJSON(map[string]any{"vault": home.id, "listed": true})
	}
	c.ui.note("This device is in the roster of the vault now. A remote of before that turns up again has another history: do not use both.")
	return nil
}
