package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/remote"
	"github.com/vaultdrive/vaultdrive/vaultcore"
)

func (c *deviceCommand) revokeCLI() *cli.Command {
	return &cli.Command{
		Name:      "revoke",
		Usage:     "shut devices out of the vault, for good",
		ArgsUsage: "DEVICE...",
		Description: "DEVICE is a name or id of device list. From then on nothing such a device says counts, and it gets no keys of\n" +
			"what comes after. What it holds it can go on reading, and the remote's credentials it still has: change those.\n" +
			"The password stays the same and is needed here, and once on every other device. The remote has to be reachable.",
		Flags: c.flags(&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Destination: &c.yes, Usage: "do not ask"}),
		Action: func(cx *cli.Context) error {
			if cx.NArg() == 0 {
				return usage("device revoke takes the devices")
			}
			return c.revoke(cx.Context, cx.Args().Slice())
		},
	}
}

func (c *deviceCommand) revoke(ctx context.Context, which []string) error {
	home, err := selectVault(c.vault)
	if err != nil {
		return err
	}
	cl, password, err := c.withPassword(ctx, home, "revoke a device")
	if err != nil {
		return err
	}
	defer clear(password)
	defer cl.close(ctx)
	request, err := c.revocation(ctx, cl, which)
	if err != nil {
		return err
	}
	request.Password = password
	if ok, err := c.sure(ctx, "Shut out for good: "+joinNames(c.ui, which)+"?", "revoke"); !ok {
		return err
	}
	return c.doRevoke(ctx, cl, request)
}

// sure asks before something that cannot be undone, unless --yes was given.
func (c *deviceCommand) sure(ctx context.Context, question, command string) (bool, error) {
	if c.yes {
		return true, nil
	}
	if c.json {
		return false, usage("with --json device %s needs --yes", command)
	}
	yes, err := askYes(ctx, question)
	if err != nil {
		return false, usage("nothing was changed; --yes does it without asking")
	}
	if !yes {
		c.ui.note("Nothing was changed.")
	}
	return yes, nil
}

func joinNames(u *ui, names []string) string {
	text := ""
	for i, name := range names {
		if i > 0 {
			text += ", "
		}
		text += u.name(name)
	}
	return text
}

// revocation finds the devices that are meant.
func (c *deviceCommand) revocation(ctx context.Context, cl *client, which []string) (deviceRequest, error) {
	var infos []vaultcore.DeviceInfo
	if err := cl.call(ctx, callDevices, none{}, &infos); err != nil {
		return deviceRequest{}, err
	}
	var views []deviceView
	for _, i := range infos {
		views = append(views, deviceView{ID: i.ID, Name: &i.Name})
	}
	var request deviceRequest
	for _, text := range which {
		id, err := findDevice(views, text)
		if err != nil {
			return deviceRequest{}, err
		}
		request.Devices = append(request.Devices, id.UUID())
	}
	access, err := (&accessSource{}).find("")
	request.Access = access
	return request, err
}

func (c *deviceCommand) doRevoke(ctx context.Context, cl *client, request deviceRequest) error {
	bar := c.ui.progress("seal file keys", false)
	err := cl.stream(ctx, callRevoke, request, func(f frame) error {
		bar.set(f.Done, f.Total)
		return nil
	})
	bar.finish()
	if err != nil {
		return err
	}
	var view syncView
	if err := cl.call(ctx, callSyncStatus, none{}, &view); err != nil {
		return err
	}
	if c.json {
		return c.ui.writeJSON(map[string]any{"revoked": request.Devices, "remote": view.Remote, "address": view.Address})
	}
	c.ui.note("Revoked. Other devices ask for the password once; it is still the same. The recovery kit stays good.")
	if remote.IsServer(view.Remote) {
		c.ui.note("The address of the vault is another one now; the old one lets nobody join: %s", view.Address)
		c.ui.note("hint: vaultdrive kit create prints a kit with it; with the address on an old kit nobody can join at the server")
	} else {
		c.ui.note("The device may still reach the remote: change the credentials of %s, or who may open that directory. Each device then needs the new ones: vaultdrive sync enable.", c.ui.name(view.Remote))
	}
	c.ui.note("It may also still know the password if it was used there: vaultdrive passwd changes it. A kit made there or kept with it is replaced by vaultdrive kit create.")
	return nil
}
