package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/url"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/backup"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// backupRestoreCommand brings a vault, or a part of one, back.
type backupRestoreCommand struct {
	common
	did      string
	label    string
	noRemote bool
	fill     bool
	deep     bool
	renew    bool
	next     passwordSource
	file     string
}

func backupRestoreCLI(u *ui) *cli.Command {
	c := &backupRestoreCommand{common: common{ui: u}}
	c.next.fd = -1
	return &cli.Command{
		Name:      "restore",
		Usage:     "make a vault of a backup, or give one back what it lost",
		ArgsUsage: "FILE" + backupSuffix,
		Description: "--vault says where, as with init; nothing appears there before all of it is verified. The vault keeps its\n" +
			"identity and the password of the backup. It publishes nothing until its device is enrolled: sync enable does that,\n" +
			"and --no-remote at once. --fill gives an existing vault back the contents it lost and changes nothing else.\n" +
			"--new seals everything anew into a vault of other keys, with a password of its own.",
		Flags: append(c.flagsToAsk(),
			&cli.StringFlag{Name: "did", Destination: &c.did, Usage: "the `DID` it has to be of"},
			&cli.StringFlag{Name: "label", Destination: &c.label, Usage: "what --vault calls it on this device; default: the `NAME` or the directory's"},
			&cli.BoolFlag{Name: "no-remote", Destination: &c.noRemote, Usage: "no remote of this vault is left: enroll this device at once"},
			&cli.BoolFlag{Name: "fill", Destination: &c.fill, Usage: "give a vault back the contents it lost"},
			&cli.BoolFlag{Name: "deep", Destination: &c.deep, Usage: "with --fill: also those that are here and damaged"},
			&cli.BoolFlag{Name: "new", Destination: &c.renew, Usage: "make another vault, with new identity, keys and password"},
			&cli.StringFlag{Name: "new-password-file", Destination: &c.next.file, Usage: "with --new: read its password from `FILE`"},
			&cli.IntFlag{Name: "new-password-fd", Destination: &c.next.fd, Value: -1, DefaultText: "none", Usage: "with --new: read its password from descriptor `N`"},
			&cli.StringFlag{Name: "new-password-command", Destination: &c.next.command, Usage: "with --new: read its password from the output of `CMD`"},
		),
		Action: func(cx *cli.Context) (err error) {
			if c.file, err = oneFile(cx, "restore"); err != nil {
				return err
			}
			return c.Run(cx.Context)
		},
	}
}

// Run does what the options say, and only one of them.
func (c *backupRestoreCommand) Run(ctx context.Context) error {
	switch {
	case c.fill && (c.renew || c.noRemote), c.renew && c.noRemote:
		return usage("--fill, --new and --no-remote exclude each other")
	case c.deep && !c.fill:
		return usage("--deep goes with --fill")
	case !c.renew && (c.next.file != "" || c.next.fd >= 0 || c.next.command != ""):
		return usage("a new password goes with --new: a vault that comes back has that of the backup")
	case c.fill:
		return aboutFile(c.runFill(ctx), c.file)
	case c.renew:
		return aboutFile(c.runNew(ctx), c.file)
	}
	return aboutFile(c.runRestore(ctx), c.file)
}

// place decides where a vault comes to lie, as init does.
func (c *backupRestoreCommand) place(vault seal.ID) (vaultcore.CreateOptions, error) {
	i := &initCommand{common: common{ui: c.ui, vault: c.vault}, label: c.label, kdf: "default", write: "auto"}
	o, err := i.createOptions()
	if err == nil && !isVaultPath(c.vault) {
		o.Vault, o.Home = vault, filepath.Join(dataDir(), "vaults", vault.UUID())
		err = refuseHome(o.Home)
	}
	return o, err
}

// vaultOf reads the vault's id, for a place that is named by it.
func (c *backupRestoreCommand) vaultOf() (seal.ID, error) {
	if isVaultPath(c.vault) {
		return seal.ID{}, nil
	}
	if c.file == "-" {
		return seal.ID{}, usage("name a directory with --vault DIR/ when the backup comes from standard input")
	}
	f, err := os.Open(c.file)
	if err != nil {
		return seal.ID{}, err
	}
	defer f.Close()
	r, err := backup.NewReader(f, nil)
	if err != nil {
		return seal.ID{}, err
	}
	return r.Manifest.Vault, nil
}

func (c *backupRestoreCommand) runRestore(ctx context.Context) error {
	id, err := c.vaultOf()
	if err != nil {
		return err
	}
	o, err := c.place(id)
	if err != nil {
		return err
	}
	password, err := c.password.given(ctx, c.ui)
	if err != nil {
		return err
	}
	defer clear(password)
	in, err := openBackup(c.ui, c.file)
	if err != nil {
		return err
	}
	defer in.Close()
	bar := c.ui.progress("restore", true)
	defer bar.finish()
	r, err := backup.Restore(ctx, in, c.opening(password, c.did, bar), o.Home, o.Label, c.noRemote)
	bar.finish()
	if err != nil {
		return err
	}
	return c.showRestored(r)
}

// restoredView is what restore prints with --json.
type restoredView struct {
	backupView
	Home     string `json:"home"`
	NewID    string `json:"device_here"`
	Enrolled bool   `json:"enrolled"`
}

func (c *backupRestoreCommand) showRestored(r *backup.Restored) error {
	view := restoredView{viewOf(c.file, r.Report), r.Home, r.CreateResult.Device.UUID(), r.Enrolled}
	if c.json {
		return errors.Join(c.ui.writeJSON(view), view.incomplete())
	}
	c.ui.printf("The vault is back in %s: %s, %s\n", c.ui.name(r.Home), plural(view.Contents, "content"), humanSize(view.Bytes))
	if !r.Enrolled {
		c.ui.note("hint: it can be used at once; it is published and backed up again when sync enable has enrolled its device")
	}
	return view.incomplete()
}

// runFill gives a vault, mounted or not, back what it lost.
func (c *backupRestoreCommand) runFill(ctx context.Context) error {
	cl, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	var who identityAnswer
	if err := cl.call(ctx, callIdentity, none{}, &who); err != nil {
		return err
	}
	vault, err := seal.ParseUUID(who.Vault)
	if err != nil {
		return err
	}
	if c.did == "" {
		c.did = who.DID
	}
	bar := c.ui.progress("fill", true)
	defer bar.finish()
	var lost []vaultcore.WantedBlob
	err = items(ctx, cl, callLost, lostRequest{Deep: c.deep}, bar, func(l lostBlob) error {
		w, err := l.wanted()
		lost = append(lost, w)
		return err
	})
	if err != nil {
		return err
	}
	in, err := openBackup(c.ui, c.file)
	if err != nil {
		return err
	}
	defer in.Close()
	filled, err := backup.Fill(ctx, in, vault, c.did, lost, cl.mender(ctx), bar.set)
	bar.finish()
	if err != nil {
		return err
	}
	return c.showFilled(filled, len(lost))
}

func (c *backupRestoreCommand) showFilled(f *backup.Filled, lost int) error {
	left := lost - f.Contents
	if c.json {
		if err := c.ui.writeJSON(map[string]any{"lost": lost, "filled": f.Contents, "bytes": f.Bytes, "left": left, "bad": f.Bad}); err != nil {
			return err
		}
	} else {
		c.ui.printf("%s put back, %s; %d still lost\n", plural(f.Contents, "content"), humanSize(f.Bytes), left)
	}
	switch {
	case f.Bad > 0:
		return fail(backup.ErrHash, "try another backup as well", "%s of the backup are damaged", plural(f.Bad, "content"))
	case left > 0:
		return fail(backup.ErrIncomplete, "try another backup as well", "%s %s not in the backup", plural(left, "lost content"), areOrIs(left))
	}
	return nil
}

// runNew seals what is in the backup anew.
func (c *backupRestoreCommand) runNew(ctx context.Context) error {
	o, err := c.place(seal.NewID())
	if err != nil {
		return err
	}
	password, err := c.password.given(ctx, c.ui)
	if err != nil {
		return err
	}
	defer clear(password)
	file, err := os.Open(c.file)
	if err != nil {
		return err
	}
	defer file.Close()
	bar := c.ui.progress("restore", true)
	defer bar.finish()
	opened, done, err := openBackupVault(ctx, file, c.opening(password, c.did, bar))
	if err != nil {
		return err
	}
	if o.Password, err = newPasswordFrom(ctx, c.ui, &c.next); err == nil {
		err = c.differs(password, o.Password)
	}
	if err == nil {
		defer clear(o.Password)
		err = c.copyIntoNew(ctx, opened.vault, o, bar)
	}
	if err := errors.Join(err, done()); err != nil {
		return err
	}
	bar.finish()
	view := viewOf(c.file, opened.view.Report)
	if c.json {
		return errors.Join(c.ui.writeJSON(map[string]any{"vault": o.Vault.UUID(), "home": o.Home, "from": view}), view.incomplete())
	}
	c.ui.printf("A new vault is ready in %s\n", c.ui.name(o.Home))
	c.ui.note("hint: print a recovery kit of it with vaultdrive kit create; the old kit does not open it")
	return view.incomplete()
}

func (c *backupRestoreCommand) differs(old, fresh []byte) error {
	if old != nil && bytes.Equal(old, fresh) {
		c.ui.warn("the new vault has the password of the backup: who knows that opens both")
	}
	return nil
}

// copyIntoNew makes a vault and fills it; what could not be finished is removed.
func (c *backupRestoreCommand) copyIntoNew(ctx context.Context, from *vaultcore.Vault, o vaultcore.CreateOptions, bar *progress) (err error) {
	made, err := vaultcore.Create(ctx, o)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(made.Home))
		}
	}()
	to, err := vaultcore.Open(ctx, made.Home, vaultcore.Credentials{Password: o.Password}, vaultcore.Options{KDF: vaultcore.ChildKDF})
	if err != nil {
		return err
	}
	missing, err := backup.Copy(ctx, from, to, bar.set)
	for _, path := range missing {
		c.ui.warn("not in the backup: %s", escapeName(path))
	}
	return errors.Join(err, to.Close(context.WithoutCancel(ctx)))
}

// mender sends contents to the vault.
func (c *client) mender(ctx context.Context) func(id seal.ID, body io.Reader) error {
	return func(id seal.ID, body io.Reader) error {
		source := &sourceReader{r: body}
		resp, err := c.do(ctx, "PUT", callLost, url.Values{"blob": {id.Hex()}}, nil, source)
		if source.err != nil {
			return source.err
		}
		if err != nil {
			return err
		}
		return resp.Body.Close()
	}
}
