package main

import (
	"bytes"
	"context"
	"errors"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// passwdCommand changes the password of a vault.
type passwdCommand struct {
	common
	next   passwordSource
	kdf    string
	accept bool
	refuse bool
}

func passwdCLI(u *ui) *cli.Command {
	c := &passwdCommand{common: common{ui: u}}
	c.next.fd = -1
	return &cli.Command{
		Name:  "passwd",
		Usage: "change the password",
		Description: "Every file key is sealed anew; no content is. From the first moment only the new password opens the vault;\n" +
			"if the rest is interrupted it goes on at the next unlock. A recovery kit stays good. The current password is needed, a device key cannot\n" +
			"do this; with --device-key the key of this device goes on opening the vault.\n" +
			"Of a vault that is synced the remote has to be reachable. Other devices go on saving, and sync again once they are\n" +
			"given the new password: at their next mount, or with passwd --accept beside a running one. A change that none of your\n" +
			"passwords opens was made by somebody who knows an old one and can write to the remote: --refuse drops it.",
		Flags: c.flags(append(newPasswordFlags(&c.next),
			&cli.StringFlag{Name: "kdf", Destination: &c.kdf, Value: "keep", Usage: "`COST` of an unlock: keep it, or raise it to the default"},
			&cli.BoolFlag{Name: "refuse", Destination: &c.refuse, Usage: "the change of password that waits here was made by nobody of yours: drop it, and take it away from the remote"},
			&cli.BoolFlag{Name: "accept", Destination: &c.accept, Usage: "give this device the password that was changed on another one"})...,
		),
		Action: func(cx *cli.Context) error {
			if cx.NArg() > 0 {
				return usage("passwd takes no operands; name the vault with --vault")
			}
			if c.kdf != "keep" && c.kdf != "default" {
				return usage("--kdf %s: it is keep or default", c.kdf)
			}
			if c.accept && c.refuse {
				return usage("--accept and --refuse exclude each other")
			}
			if c.refuse {
				return c.refuseNew(cx.Context)
			}
			if c.accept {
				return c.acceptNew(cx.Context)
			}
			return c.Run(cx.Context)
		},
	}
}

// Run changes the password. The old one is verified by the vault itself.
func (c *passwdCommand) Run(ctx context.Context) error {
	home, err := selectVault(c.vault)
	if err != nil {
		return err
	}
	old, err := c.password.forAction(ctx, c.ui, "Current password: ", "change the password")
	if err != nil {
		return err
	}
	defer clear(old)
	cl, err := c.connectWith(ctx, home, old)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	fresh, err := newPasswordFrom(ctx, c.ui, &c.next)
	if err != nil {
		return err
	}
	defer clear(fresh)
	if bytes.Equal(old, fresh) {
		return fail(vaultcore.ErrInvalid, "nothing was changed; choose another one", "the new password is the same as the old one")
	}
	access, err := (&accessSource{}).find("")
	if err != nil {
		return err
	}
	if err := c.change(ctx, cl, passwordRequest{Old: old, New: fresh, Raise: c.kdf == "default", Access: access}); err != nil {
		return err
	}
	return c.tellDevice(ctx, cl, home)
}

// acceptNew gives this device the password of now. A vault that nobody has open
// takes it by being opened with it.
func (c *passwdCommand) acceptNew(ctx context.Context) error {
	home, err := selectVault(c.vault)
	if err != nil {
		return err
	}
	source := &c.password
	if c.next.explicit() {
		source = &c.next
	}
	password, err := source.forAction(ctx, c.ui, "Password of now: ", "accept the new password")
	if err != nil {
		return err
	}
	defer clear(password)
	cl, err := c.connectWith(ctx, home, password)
	if err != nil {
		return notAccepted(err)
	}
	defer cl.close(ctx)
	err = cl.call(ctx, callAccept, passwordRequest{New: password}, nil)
	if cl.pid == 0 && errors.Is(err, vaultcore.ErrNotFound) {
		err = nil // the opening was the accepting, or there was nothing to accept
	}
	if errors.Is(err, vaultcore.ErrNotFound) {
		return hinted(err, "there is nothing to do; a change made a moment ago arrives with vaultdrive sync now")
	}
	if err != nil {
		return notAccepted(err)
	}
	if c.json {
		return c.ui.writeJSON(map[string]any{"accepted": true})
	}
	c.ui.note("The password is accepted; synchronisation goes on.")
	return nil
}

// notAccepted speaks of the password that is wanted here: not an old one.
func notAccepted(err error) error {
	if errors.Is(err, vaultcore.ErrWrongPassword) || errors.Is(err, seal.ErrPassword) {
		return hinted(err, "nothing was changed; it is the password that was set on another device, or the vault's own after a device was revoked; "+
			"if nobody you know has set one, vaultdrive passwd --refuse")
	}
	return err
}

// refuseNew drops a change of password that none of the user's devices made.
func (c *passwdCommand) refuseNew(ctx context.Context) error {
	home, err := selectVault(c.vault)
	if err != nil {
		return err
	}
	cl, password, err := c.withPassword(ctx, home, "refuse the change of password")
	if err != nil {
		return err
	}
	defer clear(password)
	defer cl.close(ctx)
	access, err := (&accessSource{}).find("")
	if err != nil {
		return err
	}
	if err := cl.call(ctx, callRefuse, passwordRequest{Old: password, Access: access}, nil); err != nil {
		return err
	}
	if c.json {
		return c.ui.writeJSON(map[string]any{"refused": true})
	}
	c.ui.note("The change of password that waited is dropped; synchronisation goes on under the password of this device.")
	c.ui.note("Whoever made it knows an old password and can write to the remote: change the remote's credentials. Whoever knew a password of the vault keeps what existed then.")
	return nil
}

// tellDevice warns when the key of this device was not there to be carried
// over: it opens nothing any more.
func (c *passwdCommand) tellDevice(ctx context.Context, cl *client, home vaultHome) error {
	var view statusView
	if err := cl.status(ctx, &view); err != nil {
		return nil // the password is changed, and that was asked for
	}
	if home.isEnrolled() && !view.Enrolled {
		c.ui.warn("the key of this device does not open the vault any more: vaultdrive device enroll makes a new one")
	}
	return nil
}

// connectWith opens the vault by its password. An enrolled device's key comes
// along if there is one, so that it opens the vault afterwards, too.
func (c *common) connectWith(ctx context.Context, home vaultHome, password []byte) (*client, error) {
	if cl, err := dialVault(ctx, home); err != nil || cl != nil {
		return cl, err
	}
	creds := &credentials{password: password, deviceKey: c.password.storedKey(home)}
	if creds.deviceKey != nil {
		defer creds.deviceKey.Wipe()
	}
	return c.openLocal(ctx, home, creds)
}

// withPassword asks for the password, which an action needs beside the open
// vault, and reaches the vault with it. The caller wipes it and closes.
func (c *common) withPassword(ctx context.Context, home vaultHome, action string) (*client, []byte, error) {
	password, err := c.password.forAction(ctx, c.ui, "Password for "+escapeName(home.label)+": ", action)
	if err != nil {
		return nil, nil, err
	}
	cl, err := c.connectWith(ctx, home, password)
	if err != nil {
		clear(password)
		return nil, nil, err
	}
	return cl, password, nil
}

// newPasswordFrom reads a new password from its source or asks for it twice.
func newPasswordFrom(ctx context.Context, u *ui, s *passwordSource) (password []byte, err error) {
	if s.byOption() {
		password, err = s.given(ctx, u)
	} else {
		password, err = promptTwice(ctx, "New password")
	}
	if err != nil {
		return nil, err
	}
	return password, seal.CheckPassword(password)
}

func (c *passwdCommand) change(ctx context.Context, cl *client, request passwordRequest) error {
	bar := c.ui.progress("seal file keys", false)
	begun := false
	err := cl.stream(ctx, callPassword, request, func(f frame) error {
		begun = true
		bar.set(f.Done, f.Total)
		return nil
	})
	bar.finish()
	if begun && (errors.Is(err, context.Canceled) || errors.Is(err, errDaemonLost)) {
		c.ui.note("The password is changed; the rest of the file keys follows by itself.")
		return nil
	}
	if err != nil {
		return err
	}
	if c.json {
		return c.ui.writeJSON(map[string]any{"changed": true})
	}
	c.ui.note("The password is changed.")
	if path := os.Getenv("VAULTDRIVE_PASSWORD_FILE"); path != "" {
		c.ui.note("hint: %s still holds the old one", escapeName(path))
	}
	return nil
}
