package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// demoCommand shows a vault to somebody who has none.
type demoCommand struct {
	ui  *ui
	dir string
}

func demoCLI(u *ui) *cli.Command {
	c := &demoCommand{ui: u}
	return &cli.Command{
		Name:      "demo",
		Usage:     "mount a vault with a few documents to try; Ctrl-C removes it",
		ArgsUsage: "[DIR]",
		Action: func(cx *cli.Context) error {
			if cx.NArg() > 1 {
				return usage("demo takes one DIR")
			}
			c.dir = cx.Args().First()
			return c.Run(cx.Context)
		},
	}
}

// Run makes, mounts, waits and removes.
func (c *demoCommand) Run(ctx context.Context) (err error) {
	c.ui.draining.Store(true)
	base, err := os.MkdirTemp("", "vaultdrive-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(base)) }()
	point, made, err := c.mountDir(base)
	if err != nil {
		return err
	}
	if made {
		defer func() { err = errors.Join(err, removeIfThere(point)) }()
	}
	if err := checkPoint(point); err != nil {
		return err
	}
	home := filepath.Join(base, "home")
	password := seal.NewKey()
	creds := &credentials{password: hex.AppendEncode(nil, password.Bytes())}
	defer creds.wipe()
	if err := c.fill(ctx, home, creds); err != nil {
		return err
	}
	plan := mountPlan{Home: home, MountPoint: point, Source: "vaultdrive-demo"}
	log := slog.New(slog.NewTextHandler(c.ui.err, &slog.HandlerOptions{Level: slog.LevelError}))
	return runDaemon(ctx, plan, creds, daemonHooks{ready: c.welcome, log: log, unsealed: true})
}

// mountDir gives the directory to mount on, made if need be.
func (c *demoCommand) mountDir(base string) (point string, made bool, err error) {
	point = filepath.Join(base, "Vault")
	if c.dir != "" {
		if point, err = filepath.Abs(c.dir); err != nil {
			return "", false, err
		}
	}
	switch err := os.Mkdir(point, 0o700); {
	case err == nil:
		return point, true, nil
	case errors.Is(err, fs.ErrExist):
		return point, false, nil
	default:
		return "", false, err
	}
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// fill makes the vault and puts the documents in, as put would.
func (c *demoCommand) fill(ctx context.Context, home string, creds *credentials) (err error) {
	_, err = vaultcore.Create(ctx, vaultcore.CreateOptions{Home: home, Label: "demo", Password: creds.password,
		Params: seal.LowKDF(), KDF: vaultcore.ChildKDF})
	if err != nil {
		return err
	}
	vault, err := openVault(ctx, readHome(home), creds, vaultcore.Options{})
	if err != nil {
		return err
	}
	cl := localClient(vault)
	defer func() { err = errors.Join(err, cl.close(ctx)) }()
	for _, a := range []assetRequest{{"Passport", "item"}, {"Insurance", "item"}, {"Mail account", "password"}, {"Ideas", "note"}} {
		if err := cl.call(ctx, callAssetAdd, a, nil); err != nil {
			return err
		}
	}
	files, err := demoFiles()
	if err != nil {
		return err
	}
	for _, f := range files {
		if _, err := cl.write(ctx, outgoing{path: f.path, parents: true}, bytes.NewReader(f.content)); err != nil {
			return err
		}
	}
	return nil
}

func (c *demoCommand) welcome(d *daemon) {
	point := shellQuote(d.point)
	c.ui.printf("A vault with a few documents is mounted on %s\n\nTry, in another terminal:\n", escapeName(d.point))
	c.ui.printf("  ls -lR %s\n", point)
	c.ui.printf("  xdg-open %s/Insurance/policy.pdf      # or: pdftotext %s/Insurance/policy.pdf -\n", point, point)
	c.ui.printf("  echo hello > %s/Ideas/hello.txt\n", point)
	c.ui.printf("  ls -l %s/attachments                  # what the disk sees\n", shellQuote(d.home.path))
	c.ui.printf("  vaultdrive status --vault %s\n", shellQuote(d.home.path))
	c.ui.printf("\nCtrl-C here unmounts it and removes everything.\n")
}
