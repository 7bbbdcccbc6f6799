package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// putCommand copies into the vault.
type putCommand struct {
	common
	force   bool
	parents bool
	sources []string
	target  string
}

func putCLI(u *ui) *cli.Command {
	c := &putCommand{common: common{ui: u}}
	return &cli.Command{
		Name:      "put",
		Usage:     "copy files and folders into the vault",
		ArgsUsage: "SOURCE... PATH",
		Description: "Like cp -a: into PATH if it is an asset or a folder, else SOURCE becomes PATH; folders with all that is in\n" +
			"them. SOURCE may be - (standard input). A folder put at the top becomes an asset. Modes and times are kept.\n" +
			"A file that exists is replaced only with --force.",
		Flags: c.flags(
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Destination: &c.force, Usage: "replace files that exist"},
			&cli.BoolFlag{Name: "parents", Aliases: []string{"p"}, Destination: &c.parents, Usage: "make missing assets and folders on the way"},
		),
		Action: func(cx *cli.Context) error {
			args := cx.Args().Slice()
			if len(args) < 2 {
				return usage("put takes SOURCE and PATH")
			}
			c.sources, c.target = args[:len(args)-1], args[len(args)-1]
			return c.Run(cx.Context)
		},
	}
}

// Run copies.
func (c *putCommand) Run(ctx context.Context) error {
	target := []string{c.target}
	cl, err := c.connectFor(ctx, target, toMake)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	c.target = target[0]
	to, err := cl.destination(ctx, c.target, len(c.sources))
	if err != nil {
		return err
	}
	job := &copyIn{client: cl, force: c.force, parents: c.parents, ui: c.ui,
		progress: c.ui.progress("put", true), report: c.ui.copyReport(c.json)}
	defer job.progress.finish()
	for _, source := range c.sources {
		if source == "-" {
			err = job.input(ctx, to)
		} else {
			err = job.source(ctx, source, to)
		}
		if err != nil {
			return err
		}
	}
	if err := job.finishDirs(ctx); err != nil {
		return err
	}
	if job.skipped > 0 {
		return fail(vaultcore.ErrNotSupported, "", "%s left out: devices, pipes and sockets cannot be stored", plural(job.skipped, "special file"))
	}
	return nil
}

// copyIn is one copy into the vault.
type copyIn struct {
	ui       *ui
	client   *client
	force    bool
	parents  bool
	progress *progress
	report   func(vaultcore.Info, string) error
	skipped  int
	dirs     []attrsRequest // made; they get mode and time when they are filled
}

func (j *copyIn) input(ctx context.Context, to destination) error {
	if to.dir {
		return usage("standard input needs the name of a file: put - ASSET/NAME")
	}
	info, err := j.client.write(ctx, outgoing{path: to.path, parents: j.parents, mustNew: !j.force}, io.TeeReader(j.ui.in, j.progress))
	if err != nil {
		return j.orForce(err)
	}
	return j.report(info, "-")
}

// source copies a file or a tree.
func (j *copyIn) source(ctx context.Context, source string, to destination) error {
	source = filepath.Clean(source)
	abs, err := filepath.Abs(source)
	if err != nil {
		return err
	}
	target := to.of(filepath.Base(abs))
	return filepath.WalkDir(source, func(local string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(source, local)
		if err != nil {
			return err
		}
		return j.entry(ctx, local, entry, path.Join(target, filepath.ToSlash(rel)))
	})
}

func (j *copyIn) entry(ctx context.Context, local string, entry fs.DirEntry, target string) error {
	var info vaultcore.Info
	var err error
	switch kind := entry.Type(); {
	case kind.IsDir():
		info, err = j.makeDir(ctx, local, entry, target)
	case kind.IsRegular():
		info, err = j.copyFile(ctx, local, target)
	case kind == fs.ModeSymlink:
		info, err = j.makeLink(ctx, local, target)
	default:
		j.skipped++
		j.ui.warn("%s: left out, it is a special file", escapeName(local))
		return nil
	}
	if err != nil {
		return j.orForce(named(err, target))
	}
	return j.report(info, local)
}

// orForce says of a file that exists what would replace it.
func (j *copyIn) orForce(err error) error {
	if j.force || !errors.Is(err, vaultcore.ErrExist) || errors.Is(err, vaultcore.ErrIsDir) {
		return err
	}
	return hinted(err, "choose another name, or --force to replace it")
}

func (j *copyIn) makeDir(ctx context.Context, local string, entry fs.DirEntry, target string) (info vaultcore.Info, err error) {
	if target == "" {
		return info, usage("a folder without a name cannot become an asset; give one as PATH")
	}
	st, err := entry.Info()
	if err != nil {
		return info, err
	}
	err = j.client.call(ctx, callMkdir, pathRequest{Path: target, Parents: j.parents}, &info)
	if err == nil {
		j.dirs = append(j.dirs, attrsRequest{Path: target, Mode: uint32(st.Mode().Perm()), Mtime: st.ModTime().UnixNano()})
	}
	if !errors.Is(err, vaultcore.ErrExist) {
		return info, err
	}
	if info, err = j.client.stat(ctx, target); err == nil && !isDir(info) {
		err = fail(vaultcore.ErrExist, "", "%s already exists and is not a folder", target)
	}
	return info, err
}

// finishDirs gives the folders that were made their modes and times, the
// innermost first: filling a folder changes its time.
func (j *copyIn) finishDirs(ctx context.Context) error {
	for _, d := range slices.Backward(j.dirs) {
		if err := j.client.call(ctx, callAttrs, d, &none{}); err != nil {
			return err
		}
	}
	return nil
}

func (j *copyIn) makeLink(ctx context.Context, local, target string) (info vaultcore.Info, err error) {
	link, err := os.Readlink(local)
	if err != nil {
		return info, err
	}
	err = j.client.call(ctx, callSymlink, pathRequest{Path: target, Target: link, Replace: j.force}, &info)
	return info, err
}

func (j *copyIn) copyFile(ctx context.Context, local, target string) (info vaultcore.Info, err error) {
	f, err := os.Open(local)
	if err != nil {
		return info, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return info, err
	}
	o := outgoing{path: target, mode: uint32(st.Mode().Perm()), mtime: st.ModTime(), parents: j.parents, mustNew: !j.force}
	return j.client.write(ctx, o, io.TeeReader(f, j.progress))
}

// copied is what get and put print for each thing with --json, one a line.
type copied struct {
	Path  string `json:"path"`
	Local string `json:"local"`
	Kind  string `json:"kind"`
	Size  int64  `json:"size"`
}

func (u *ui) copyReport(json bool) func(vaultcore.Info, string) error {
	return func(info vaultcore.Info, local string) error {
		if !json {
			return nil
		}
		b, err := marshalSafe(copied{info.Path, local, info.Kind, info.Size}, "")
		if err != nil {
			return err
		}
		_, err = u.out.Write(append(b, '\n'))
		return err
	}
}
