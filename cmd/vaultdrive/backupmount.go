package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/fs"
	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/backup"
)

// backupMountCommand shows a backup as a directory.
type backupMountCommand struct {
	mountCommand
	did  string
	file string
}

func backupMountCLI(u *ui) *cli.Command {
	c := &backupMountCommand{mountCommand: mountCommand{common: common{ui: u}}}
	return &cli.Command{
		Name:      "mount",
		Usage:     "show a backup as a directory of files, read-only",
		ArgsUsage: "FILE" + backupSuffix + " MOUNTPOINT",
		Description: "Nothing is unpacked: contents are read and authenticated where they lie in FILE, which must stay while it is\n" +
			"mounted. Only the list of files is kept meanwhile, sealed, below the cache directory. vaultdrive umount ends it.\n" +
			"It does not look at what nobody reads: backup verify does.",
		Flags: append(c.passwordFlags(), c.jsonFlag(),
			&cli.StringFlag{Name: "did", Destination: &c.did, Usage: "the `DID` it has to be of"},
			&cli.StringFlag{Name: "asset", Destination: &c.plan.Asset, Usage: "show only the files of the asset with this `TITLE`"},
			&cli.BoolFlag{Name: "allow-other", Destination: &c.plan.AllowOther, Usage: "let other users in (file modes still count)"},
			&cli.BoolFlag{Name: "foreground", Aliases: []string{"f"}, Destination: &c.foreground, Usage: "stay in the foreground"},
			&cli.BoolFlag{Name: "slow-aes", Destination: &c.slowAES, Usage: "mount on a processor without AES instructions"},
		),
		Action: func(cx *cli.Context) error {
			if cx.NArg() != 2 {
				return usage("backup mount takes FILE and MOUNTPOINT")
			}
			c.file, c.mountPoint = cx.Args().Get(0), cx.Args().Get(1)
			return c.Run(cx.Context)
		},
	}
}

// passwordFlags are the sources of a password; no device key opens a backup.
func (c *common) passwordFlags() (flags []cli.Flag) {
	for _, f := range c.password.flags() {
		if f.Names()[0] != "device-key" {
			flags = append(flags, f)
		}
	}
	return flags
}

// Run finds out what can be found out before anybody types a password.
func (c *backupMountCommand) Run(ctx context.Context) error {
	if !vaultcore.HasHardwareAES() && !c.slowAES {
		return errSlowAES
	}
	home, err := c.look()
	if err != nil {
		return aboutFile(err, c.file)
	}
	if err := errors.Join(checkPoint(c.plan.MountPoint), fs.Apart(c.plan.MountPoint, c.plan.Backup)); err != nil {
		return err
	}
	creds := &credentials{}
	if creds.password, err = c.password.forAction(ctx, c.ui, "Password for "+escapeName(home.label)+": ", "open a backup"); err != nil {
		return err
	}
	defer creds.wipe()
	if c.foreground {
		c.ui.draining.Store(true)
		return runDaemon(ctx, c.plan, creds, daemonHooks{log: foregroundLogger(c.ui), ready: c.announce})
	}
	ready, err := startDaemon(ctx, c.plan, creds, nil)
	if err != nil {
		return aboutFile(err, c.file)
	}
	return c.show(home, ready)
}

// look reads the manifest and fills in the plan.
func (c *backupMountCommand) look() (home vaultHome, err error) {
	if c.plan.MountPoint, err = filepath.Abs(c.mountPoint); err != nil {
		return home, err
	}
	if c.plan.Backup, err = filepath.Abs(c.file); err != nil {
		return home, err
	}
	c.plan.DID, c.plan.ReadOnly, c.plan.Source = c.did, true, "vaultdrive"
	in, err := openBackup(c.ui, c.plan.Backup)
	if err != nil {
		return home, err
	}
	defer in.Close()
	r, err := backup.NewReader(in, nil)
	if err != nil {
		return home, err
	}
	return vaultHome{path: c.plan.Backup, id: r.Manifest.Vault.UUID(), label: filepath.Base(c.plan.Backup)}, nil
}

// openBackup makes the daemon's vault that of a backup.
func (d *daemon) openBackup(ctx context.Context, creds *credentials) error {
	file, err := os.Open(d.plan.Backup)
	if err != nil {
		return err
	}
	opened, done, err := openBackupVault(ctx, file, backup.Opening{
		Password: givenPassword(creds.password), KDF: vaultcore.ChildKDF, DID: d.plan.DID, Name: hostName(), Log: d.log,
	})
	if err != nil {
		return errors.Join(err, file.Close())
	}
	d.vault, d.home = opened.vault, readHome(opened.view.Home)
	d.home.label = filepath.Base(d.plan.Backup)
	d.closeBackup = func() error { return errors.Join(done(), file.Close()) }
	return nil
}

// closeVault closes the vault, and the backup it lies in.
func (d *daemon) closeVault() error {
	if d.closeBackup != nil {
		return d.closeBackup()
	}
	return d.vault.Close(context.Background())
}
