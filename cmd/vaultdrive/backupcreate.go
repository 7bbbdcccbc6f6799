package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/vaultdrive/vaultdrive/vaultcore/backup"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// backupCreateCommand writes a backup.
type backupCreateCommand struct {
	common
	missing bool
	force   bool
	target  string
}

func backupCreateCLI(u *ui) *cli.Command {
	c := &backupCreateCommand{common: common{ui: u}}
	return &cli.Command{
		Name:      "create",
		Usage:     "write a backup of the vault",
		ArgsUsage: "FILE" + backupSuffix,
		Description: "Works beside a mount, while programs write: the backup holds what was closed at one moment. Contents that are\n" +
			"at the remote only are fetched first. FILE appears when it is whole and on the disk; - is standard output.",
		Flags: c.flags(
			&cli.BoolFlag{Name: "missing", Destination: &c.missing, Usage: "go on without contents that are not here and cannot be fetched"},
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Destination: &c.force, Usage: "replace FILE if it exists"},
		),
		Action: func(cx *cli.Context) (err error) {
			if c.target, err = oneFile(cx, "create"); err != nil {
				return err
			}
			return c.Run(cx.Context)
		},
	}
}

// Run writes the backup.
func (c *backupCreateCommand) Run(ctx context.Context) error {
	if err := c.checkTarget(); err != nil {
		return err
	}
	cl, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	bar := c.ui.progress("backup", true)
	defer bar.finish()
	in, err := c.begin(ctx, cl, bar)
	if err != nil {
		return err
	}
	defer in.Close()
	c.warnMissing(in)
	if c.target == "-" {
		return c.copy(in, c.ui.out, bar)
	}
	if err := c.writeFile(in, bar); err != nil {
		return err
	}
	bar.finish()
	return c.show()
}

// checkTarget finds out before the work what would stop it at its end.
func (c *backupCreateCommand) checkTarget() error {
	if c.target == "-" {
		if c.ui.outTerm {
			return usage("a backup is no text: name a FILE, or redirect standard output")
		}
		return nil
	}
	st, err := os.Lstat(c.target)
	switch {
	case err == nil && st.IsDir():
		return fail(fs.ErrExist, "name a file in it", "%s is a directory", c.target)
	case err == nil && !c.force:
		return c.taken()
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if dir := filepath.Dir(c.target); !isDirectory(dir) {
		return fail(fs.ErrNotExist, "make the directory first", "no directory %s", dir)
	}
	return nil
}

func (c *backupCreateCommand) taken() error {
	return fail(fs.ErrExist, "choose another name, or --force to replace it", "%s already exists", c.target)
}

// begin asks for the backup, whose first byte comes when everything is sealed.
func (c *backupCreateCommand) begin(ctx context.Context, cl *client, bar *progress) (*incoming, error) {
	query := url.Values{"name": {hostName()}}
	if c.missing {
		query.Set("missing", "1")
	}
	waiting, stop := context.WithCancel(ctx)
	spun := make(chan struct{})
	go func() {
		defer close(spun)
		for pause(waiting, 200*time.Millisecond) == nil {
			bar.set(0, -1)
		}
	}()
	in, err := cl.read(ctx, callBackup, query)
	stop()
	<-spun
	return in, err
}

// warnMissing tells what the user has allowed to be missing.
func (c *backupCreateCommand) warnMissing(in *incoming) {
	text, err := strconv.Unquote(in.resp.Header.Get(headerMissing))
	var paths []string
	if err != nil || json.Unmarshal([]byte(text), &paths) != nil {
		return
	}
	for _, p := range paths {
		c.ui.warn("not in the backup: %s", escapeName(p))
	}
}

func (c *backupCreateCommand) copy(in *incoming, out io.Writer, bar *progress) error {
	done := int64(0)
	count := writerFunc(func(p []byte) (int, error) {
		done += int64(len(p))
		bar.set(done, in.size)
		return len(p), nil
	})
	n, err := io.CopyBuffer(onlyWriter{io.MultiWriter(out, count)}, onlyReader{in}, make([]byte, copyBuffer))
	if err == nil && n != in.size {
		err = errDaemonLost
	}
	return err
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// writeFile writes beside the target and gives the whole, durable file its name.
func (c *backupCreateCommand) writeFile(in *incoming, bar *progress) (err error) {
	dir := filepath.Dir(c.target)
	temp := filepath.Join(dir, ".vaultdrive-"+seal.NewBlobID().Hex()+backupSuffix)
	out, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	var path *fs.PathError
	if errors.As(err, &path) {
		path.Path = c.target // the temporary name says nothing to anybody
	}
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temp) // the first error is the one to tell
		}
	}()
	err = c.copy(in, out, bar)
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	if err := c.rename(temp); err != nil {
		return err
	}
	return syncDirectory(dir)
}

// rename does not replace what came meanwhile, unless that was asked for.
func (c *backupCreateCommand) rename(temp string) error {
	if c.force {
		return os.Rename(temp, c.target)
	}
	err := unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, c.target, unix.RENAME_NOREPLACE)
	if err == unix.EINVAL || err == unix.ENOSYS { // a file system that cannot promise it
		if _, statErr := os.Lstat(c.target); statErr == nil {
			return c.taken()
		}
		return os.Rename(temp, c.target)
	}
	if err == unix.EEXIST {
		return c.taken()
	}
	if err != nil {
		return fmt.Errorf("name the backup %s: %w", c.target, err)
	}
	return nil
}

func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, unix.EINVAL) { // some file systems have nothing to sync
		err = nil
	}
	return errors.Join(err, d.Close())
}

// show says what was written, from the file itself.
func (c *backupCreateCommand) show() error {
	f, err := os.Open(c.target)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := backup.NewReader(f, nil)
	if err != nil {
		return aboutFile(err, c.target)
	}
	view := viewOf(c.target, r.Report())
	if c.json {
		return c.ui.writeJSON(view)
	}
	c.ui.printf("%s: %s, %s\n", c.ui.name(c.target), plural(view.Contents, "content"), humanSize(view.Size))
	return nil
}
