package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/adrg/xdg"
	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/backup"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// backupSuffix is what a backup is called like.
const backupSuffix = ".nt2backup"

func backupCLI(u *ui) *cli.Command {
	return &cli.Command{
		Name:  "backup",
		Usage: "put the whole vault into one file, prove it, bring it back",
		Description: "A backup is sealed like the vault: it needs no other protection than the password, and opens with the\n" +
			"password of the time it was made in. The trash, files of this device only (scratch) and extended attributes are\n" +
			"no part of it.",
		Subcommands: []*cli.Command{backupCreateCLI(u), backupVerifyCLI(u), backupRestoreCLI(u), backupMountCLI(u)},
	}
}

// backupDir holds what an open backup needs meanwhile; all of it is sealed.
func backupDir() string { return filepath.Join(xdg.CacheHome, "vaultdrive", "backups") }

// openBackup opens the file of a backup, "-" being standard input.
func openBackup(u *ui, path string) (io.ReadCloser, error) {
	if path == "-" {
		return io.NopCloser(u.in), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && fi.IsDir() {
		err = fail(vaultcore.ErrIsDir, "give the file that vaultdrive backup create wrote", "%s is a directory", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// backupPassword asks for the password of a backup, once it is known which one.
func (c *common) backupPassword(given []byte) func(context.Context, *seal.Manifest) ([]byte, error) {
	if given != nil {
		return givenPassword(given)
	}
	return func(ctx context.Context, m *seal.Manifest) ([]byte, error) {
		made := time.Unix(m.Created, 0).Local().Format("2006-01-02 15:04")
		return c.password.forAction(ctx, c.ui, "Password of the backup of "+made+": ", "open a backup")
	}
}

func givenPassword(password []byte) func(context.Context, *seal.Manifest) ([]byte, error) {
	return func(context.Context, *seal.Manifest) ([]byte, error) { return password, nil }
}

func (c *common) opening(given []byte, did string, bar *progress) backup.Opening {
	return backup.Opening{
		Password: c.backupPassword(given), KDF: vaultcore.ChildKDF, DID: did, Name: hostName(), Progress: bar.set,
	}
}

// backupView is what the commands about a backup print with --json.
type backupView struct {
	File     string    `json:"file"`
	Vault    string    `json:"vault"`
	DID      string    `json:"did"`
	Device   string    `json:"device"`
	Created  time.Time `json:"created"`
	Size     int64     `json:"size"`
	Headers  int       `json:"headers"`
	Batches  int       `json:"batches"`
	Contents int       `json:"contents"`
	Bytes    int64     `json:"bytes"`   // of contents
	Missing  int       `json:"missing"` // contents of live files that are not in it
	Opened   bool      `json:"opened"`  // with the password
	Deep     bool      `json:"deep"`    // every byte was decrypted
}

func viewOf(file string, r *backup.Report) backupView {
	m := r.Manifest
	return backupView{
		File: file, Vault: m.Vault.UUID(), DID: m.DID, Device: m.Device.UUID(), Created: time.Unix(m.Created, 0).UTC(), Size: r.Size,
		Headers: r.Headers, Batches: r.Batches, Contents: r.Blobs, Bytes: r.Bytes, Missing: len(m.Missing), Opened: r.Opened,
	}
}

// show prints a backup for a person.
func (v *backupView) show(u *ui) {
	u.printf("vault     %s\n", v.Vault)
	u.printf("DID       %s\n", v.DID)
	u.printf("made      %s by device %s\n", v.Created.Local().Format("2006-01-02 15:04:05"), v.Device)
	u.printf("holds     %s, %s; log of %s, %s\n", plural(v.Contents, "content"), humanSize(v.Bytes),
		plural(v.Batches, "batch"), plural(v.Headers, "header"))
	if v.Missing > 0 {
		u.printf("missing   %s of live files\n", plural(v.Missing, "content"))
	}
}

// incomplete ends a command whose backup lacks something, after it has said all.
func (v *backupView) incomplete() error {
	if v.Missing == 0 {
		return nil
	}
	return fail(backup.ErrIncomplete, "", "%s of live files %s not in the backup", plural(v.Missing, "content"), areOrIs(v.Missing))
}

func areOrIs(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

// oneFile takes the operand of a backup command.
func oneFile(cx *cli.Context, name string) (string, error) {
	if cx.NArg() != 1 {
		return "", usage("backup %s takes one FILE", name)
	}
	return cx.Args().First(), nil
}

// aboutFile names the file in what is wrong with it.
func aboutFile(err error, file string) error {
	if file == "-" {
		file = "standard input"
	}
	return named(err, fmt.Sprint(file))
}
