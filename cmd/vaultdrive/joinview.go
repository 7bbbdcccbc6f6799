package main

import (
	"context"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// joinView is what join found, and with --json what it prints.
type joinView struct {
	Vault   string                 `json:"vault"`
	DID     string                 `json:"did"`
	Home    string                 `json:"home"`
	Device  string                 `json:"device"`
	Assets  int                    `json:"assets"`
	Files   int                    `json:"files"`
	Bytes   int64                  `json:"bytes"`
	Devices []vaultcore.DeviceInfo `json:"devices"`
}

func foundIn(ctx context.Context, vault *vaultcore.Vault, made vaultcore.JoinResult) (joinView, error) {
	devices, err := vault.Devices(ctx)
	if err != nil {
		return joinView{}, err
	}
	s := vault.Status()
	view := joinView{Vault: s.Vault, DID: s.DID, Device: made.Device.UUID(), Assets: s.Assets, Files: s.Files, Bytes: s.Bytes}
	for _, d := range devices {
		if !d.This {
			view.Devices = append(view.Devices, d)
		}
	}
	return view, nil
}

// describe shows what a person can compare with what she knows; blind: the log
// has not been shown yet.
func (c *joinCommand) describe(v joinView, blind bool) {
	c.line("vault", "%s", v.Vault)
	c.line("identity", "%s", v.DID)
	for _, d := range v.Devices {
		c.line("device", "%s", syncPrinter{common: &c.common}.device(d))
	}
	if blind {
		c.ui.note("The server shows what the vault holds to its devices only: the identity is what can be compared now.")
		return
	}
	c.line("content", "%s, %s, %s", plural(v.Assets, "asset"), plural(v.Files, "file"), humanSize(v.Bytes))
	c.ui.note("Compare the last changes: a device that joins cannot tell an old state of the vault from the newest one.")
}

func (c *joinCommand) show() error {
	if c.json {
		return c.ui.writeJSON(c.found)
	}
	with := ""
	if isVaultPath(c.vault) {
		with = " --vault " + shellQuote(c.home)
	} else if homes, err := listVaults(); err == nil && len(homes) > 1 {
		with = " --vault " + shellQuote(c.label)
	}
	c.ui.printf("This device has joined the vault, which is called %s here.\n", c.ui.name(c.label))
	c.ui.printf("Next: mkdir -p ~/Vault && vaultdrive mount%s ~/Vault\n", c.ui.name(with))
	return nil
}
