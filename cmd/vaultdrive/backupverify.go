package main

import (
	"context"
	"errors"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/backup"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// backupVerifyCommand proves a backup.
type backupVerifyCommand struct {
	common
	did  string
	open bool
	deep bool
	file string
}

func backupVerifyCLI(u *ui) *cli.Command {
	c := &backupVerifyCommand{common: common{ui: u}}
	return &cli.Command{
		Name:      "verify",
		Usage:     "prove that a backup is whole and what it says",
		ArgsUsage: "FILE" + backupSuffix,
		Description: "Without a password: every byte, every signature and every chain, and it prints the DID of the vault, which\n" +
			"stands on the recovery kit too. With one also that it opens, that its log leads to the state that was signed, and\n" +
			"that every file's content is there. FILE may be - (standard input), but for --deep. Exit code 70 for one that is\n" +
			"damaged or altered, 72 for one that is good and lacks contents.",
		Flags: append(c.passwordFlags(), c.jsonFlag(),
			&cli.StringFlag{Name: "did", Destination: &c.did, Usage: "the `DID` it has to be of"},
			&cli.BoolFlag{Name: "open", Destination: &c.open, Usage: "ask for the password if none is given"},
			&cli.BoolFlag{Name: "deep", Destination: &c.deep, Usage: "decrypt every byte (needs the password)"},
		),
		Action: func(cx *cli.Context) (err error) {
			if c.file, err = oneFile(cx, "verify"); err != nil {
				return err
			}
			if c.deep && c.file == "-" {
				return usage("--deep reads the file twice: name one")
			}
			return c.Run(cx.Context)
		},
	}
}

// Run verifies and fails if something is wrong or missing.
func (c *backupVerifyCommand) Run(ctx context.Context) error {
	password, err := c.password.given(ctx, c.ui)
	if err != nil {
		return err
	}
	defer clear(password)
	bar := c.ui.progress("verify", true)
	defer bar.finish()
	view, err := c.verify(ctx, password, bar)
	if err != nil {
		return aboutFile(err, c.file)
	}
	bar.finish()
	if c.json {
		err = c.ui.writeJSON(view)
	} else {
		view.show(c.ui)
		c.verdict(view)
	}
	return errors.Join(err, view.incomplete())
}

func (c *backupVerifyCommand) verify(ctx context.Context, password []byte, bar *progress) (backupView, error) {
	in, err := openBackup(c.ui, c.file)
	if err != nil {
		return backupView{}, err
	}
	defer in.Close()
	if !c.deep && (c.open || password != nil) {
		r, err := backup.Verify(ctx, in, c.opening(password, c.did, bar), backupDir())
		return reported(c.file, r, err)
	}
	r, err := backup.Check(ctx, in, c.did, bar.set)
	if err != nil || !c.deep {
		return reported(c.file, r, err)
	}
	return c.decrypt(ctx, password, bar)
}

func reported(file string, r *backup.Report, err error) (backupView, error) {
	if err != nil {
		return backupView{}, err
	}
	return viewOf(file, r), nil
}

// decrypt opens every content of a backup whose hashes are good.
func (c *backupVerifyCommand) decrypt(ctx context.Context, password []byte, bar *progress) (view backupView, err error) {
	file, err := os.Open(c.file)
	if err != nil {
		return view, err
	}
	defer file.Close()
	o := c.opening(password, c.did, bar)
	v, done, err := openBackupVault(ctx, file, o)
	if err != nil {
		return view, err
	}
	defer func() { err = errors.Join(err, done()) }()
	report, err := v.vault.Check(ctx, vaultcore.CheckOptions{Deep: true, Progress: bar.set})
	if err != nil {
		return view, err
	}
	view = viewOf(c.file, v.view.Report)
	view.Deep = true
	for _, p := range report.Problems {
		if p.Kind != "missing" || view.Missing == 0 { // what the manifest calls missing is told already
			return view, fail(backup.ErrContent, "", "%s: %s", p.Kind, p.Detail)
		}
	}
	return view, nil
}

// openedBackup is a backup and the vault in it.
type openedBackup struct {
	view  *backup.View
	vault *vaultcore.Vault
}

// openBackupVault opens the vault of a backup, for reading. Both share one
// derivation of the key.
func openBackupVault(ctx context.Context, file *os.File, o backup.Opening) (opened openedBackup, done func() error, err error) {
	var password []byte
	ask, kdf := o.Password, onceKDF(o.KDF)
	o.KDF = kdf
	o.Password = func(ctx context.Context, m *seal.Manifest) (_ []byte, err error) {
		password, err = ask(ctx, m)
		return password, err
	}
	view, err := backup.OpenView(ctx, file, o, backupDir())
	if err != nil {
		return opened, nil, err
	}
	vault, err := vaultcore.Open(ctx, view.Home, vaultcore.Credentials{Password: password}, view.Options(vaultcore.Options{KDF: kdf, Log: o.Log}))
	if err != nil {
		return opened, nil, errors.Join(err, view.Close())
	}
	opened = openedBackup{view, vault}
	return opened, func() error { return errors.Join(vault.Close(context.WithoutCancel(ctx)), view.Close()) }, nil
}

// onceKDF derives a key once for two uses of one password, and forgets it with
// the second.
func onceKDF(kdf vaultcore.KDF) vaultcore.KDF {
	var kept *seal.Key
	var of seal.KDFParams
	return func(ctx context.Context, password []byte, p seal.KDFParams) (seal.Key, error) {
		if kept != nil && of == p {
			key, err := seal.KeyFromBytes(kept.Bytes())
			kept.Wipe()
			kept = nil
			return key, err
		}
		key, err := kdf(ctx, password, p)
		if err != nil {
			return key, err
		}
		own, err := seal.KeyFromBytes(key.Bytes())
		kept, of = &own, p
		return key, err
	}
}

// verdict says in words what was proved.
func (c *backupVerifyCommand) verdict(v backupView) {
	switch {
	case v.Deep:
		c.ui.printf("good      every byte was decrypted\n")
	case v.Opened:
		c.ui.printf("good      it opens, and its log leads to the state that was signed\n")
	default:
		c.ui.printf("good      layout, hashes, signatures and chains; with the password more can be proved\n")
	}
	if c.did == "" && !c.json {
		c.ui.note("hint: compare the DID with that of your recovery kit, or give it with --did")
	}
}
