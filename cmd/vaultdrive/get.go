package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// getCommand copies out of the vault.
type getCommand struct {
	common
	force   bool
	sources []string
	target  string
}

func getCLI(u *ui) *cli.Command {
	c := &getCommand{common: common{ui: u}}
	return &cli.Command{
		Name:      "get",
		Usage:     "copy files and folders out of the vault",
		ArgsUsage: "PATH... [TARGET]",
		Description: "Like cp -a: into TARGET if it is a directory, else PATH becomes TARGET; folders with all that is in them.\n" +
			"With one PATH, TARGET may be left out (here) or be - (standard output). Modes and times are kept. A file\n" +
			"that exists is replaced only with --force. What is written is no longer encrypted.",
		Flags: c.flags(
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Destination: &c.force, Usage: "replace files that exist"},
		),
		Action: func(cx *cli.Context) error {
			args := cx.Args().Slice()
			switch len(args) {
			case 0:
				return usage("get takes at least one PATH")
			case 1:
				c.sources, c.target = args, "."
			default:
				c.sources, c.target = args[:len(args)-1], args[len(args)-1]
			}
			return c.Run(cx.Context)
		},
	}
}

// Run copies.
func (c *getCommand) Run(ctx context.Context) error {
	cl, err := c.connectFor(ctx, c.sources, toFind)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	if c.target == "-" {
		return c.toOutput(ctx, cl)
	}
	isDir := isDirectory(c.target)
	if !isDir && (len(c.sources) > 1 || strings.HasSuffix(c.target, "/")) {
		return fail(vaultcore.ErrNotDir, "", "%s is not a directory", c.target)
	}
	var damaged []error
	for _, source := range c.sources {
		info, err := cl.stat(ctx, cleanPath(source))
		if err != nil {
			return err
		}
		dir, name := filepath.Split(filepath.Clean(c.target))
		if isDir {
			dir, name = c.target, localName(info)
		}
		err = c.copyTo(ctx, cl, info, dir, name)
		switch {
		case errors.Is(err, vaultcore.ErrDamaged):
			damaged = append(damaged, err)
		case err != nil:
			return err
		}
	}
	return errors.Join(damaged...)
}

// localName is what the copy of something is called.
func localName(info vaultcore.Info) string {
	if name := path.Base(cleanPath(info.Path)); name != "." && name != "/" {
		return name
	}
	return "vault"
}

func (c *getCommand) toOutput(ctx context.Context, cl *client) error {
	if len(c.sources) != 1 {
		return usage("only one file can go to standard output")
	}
	in, err := cl.read(ctx, callContent, url.Values{"path": {cleanPath(c.sources[0])}})
	if err != nil {
		return err
	}
	defer in.Close()
	_, err = io.CopyBuffer(onlyWriter{c.ui.out}, onlyReader{in}, make([]byte, copyBuffer))
	return err
}

// copyTo copies one file, link or tree to name in dir. Everything is made
// below dir's descriptor: a link that lies there leads nowhere else.
func (c *getCommand) copyTo(ctx context.Context, cl *client, info vaultcore.Info, dir, name string) error {
	if dir == "" {
		dir = "."
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	job := &copyOut{client: cl, root: root, force: c.force, base: cleanPath(info.Path), name: name,
		progress: c.ui.progress("get", true), report: c.report()}
	defer job.progress.finish()
	if !isDir(info) {
		return job.entry(ctx, info)
	}
	if err := job.entry(ctx, info); err != nil {
		return err
	}
	err = cl.list(ctx, info.Path, true, func(i vaultcore.Info) error { return job.orDamaged(job.entry(ctx, i)) })
	if err != nil {
		return err
	}
	return errors.Join(job.finish(), errors.Join(job.damaged...))
}

// orDamaged keeps a damaged file for the end: the others are worth having.
func (j *copyOut) orDamaged(err error) error {
	if !errors.Is(err, vaultcore.ErrDamaged) {
		return err
	}
	j.damaged = append(j.damaged, err)
	return nil
}

// report prints one JSON line for each thing copied, if that is wanted.
func (c *getCommand) report() func(vaultcore.Info, string) error {
	return c.ui.copyReport(c.json)
}

// copyOut is one copy out of the vault.
type copyOut struct {
	client   *client
	root     *os.Root
	base     string // vault path of what is copied
	name     string // what it is called below root
	force    bool
	progress *progress
	report   func(vaultcore.Info, string) error
	damaged  []error
	dirs     []madeDir // to be given mode and time at the end
}

type madeDir struct {
	name  string
	mode  fs.FileMode
	mtime time.Time
}

func (j *copyOut) entry(ctx context.Context, info vaultcore.Info) error {
	rel := strings.TrimPrefix(strings.TrimPrefix(cleanPath(info.Path), j.base), "/")
	local := filepath.Join(j.name, filepath.FromSlash(rel))
	if !filepath.IsLocal(local) {
		return fail(vaultcore.ErrName, "", "%s: not a name for a file here", local)
	}
	var err error
	switch {
	case isDir(info):
		err = j.makeDir(local, info)
	case info.Kind == "symlink":
		err = j.makeLink(ctx, local, info)
	default:
		if err = j.copyFile(ctx, local, info); errors.Is(err, vaultcore.ErrDamaged) {
			err = named(err, info.Path)
		}
	}
	if err != nil {
		return err
	}
	return j.report(info, filepath.Join(j.root.Name(), local))
}

func (j *copyOut) makeDir(local string, info vaultcore.Info) error {
	err := j.root.Mkdir(local, 0o700)
	if errors.Is(err, fs.ErrExist) {
		st, statErr := j.root.Lstat(local)
		if statErr != nil {
			return statErr
		}
		if st.IsDir() {
			return nil // the user's own: its mode stays
		}
	}
	if err != nil {
		return err
	}
	j.dirs = append(j.dirs, madeDir{local, fs.FileMode(info.Mode & 0o777), info.Mtime})
	return nil
}

func (j *copyOut) makeLink(ctx context.Context, local string, info vaultcore.Info) error {
	var answer targetAnswer
	if err := j.client.call(ctx, callReadlink, pathRequest{Path: info.Path}, &answer); err != nil {
		return err
	}
	if err := j.makeRoom(local); err != nil {
		return err
	}
	return j.root.Symlink(answer.Target, local)
}

// makeRoom refuses to replace what exists, or removes it with force.
func (j *copyOut) makeRoom(local string) error {
	if _, err := j.root.Lstat(local); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if !j.force {
		return j.taken(local)
	}
	return j.root.Remove(local)
}

func (j *copyOut) taken(local string) error {
	return fail(fs.ErrExist, "choose another name, or --force to replace it", "%s already exists", filepath.Join(j.root.Name(), local))
}

// copyFile writes under another name first: what appears under its own is
// whole.
func (j *copyOut) copyFile(ctx context.Context, local string, info vaultcore.Info) (err error) {
	if _, err := j.root.Lstat(local); err == nil && !j.force {
		return j.taken(local)
	}
	in, err := j.client.read(ctx, callContent, url.Values{"path": {info.Path}})
	if err != nil {
		return err
	}
	defer in.Close()
	temp := filepath.Join(filepath.Dir(local), ".vaultdrive-"+seal.NewBlobID().Hex())
	out, err := j.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, j.root.Remove(temp))
		}
	}()
	_, err = io.CopyBuffer(onlyWriter{io.MultiWriter(out, j.progress)}, onlyReader{in}, make([]byte, copyBuffer))
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	if err = j.root.Chmod(temp, fs.FileMode(in.mode&0o777)); err != nil {
		return err
	}
	if err = j.root.Chtimes(temp, in.mtime, in.mtime); err != nil {
		return err
	}
	return j.root.Rename(temp, local)
}

// finish gives the folders their modes and times, which filling them changed.
func (j *copyOut) finish() error {
	for i := len(j.dirs) - 1; i >= 0; i-- {
		d := j.dirs[i]
		if err := errors.Join(j.root.Chmod(d.name, d.mode), j.root.Chtimes(d.name, d.mtime, d.mtime)); err != nil {
			return err
		}
	}
	return nil
}
