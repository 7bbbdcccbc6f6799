package main

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// lsCommand lists assets, folders and files.
type lsCommand struct {
	common
	long      bool
	recursive bool
	paths     []string
}

func lsCLI(u *ui) *cli.Command {
	c := &lsCommand{common: common{ui: u}}
	return &cli.Command{
		Name:      "ls",
		Usage:     "list what is in the vault",
		ArgsUsage: "[PATH...]",
		Description: "A PATH is ASSET/FOLDER/FILE, or that of the file in a mount, absolute or from where you are; so it is for every\n" +
			"command that takes a PATH. Without one, the assets are listed.",
		Flags: c.flags(
			&cli.BoolFlag{Name: "long", Aliases: []string{"l"}, Destination: &c.long, Usage: "show mode, size, time and state"},
			&cli.BoolFlag{Name: "recursive", Aliases: []string{"R", "r"}, Destination: &c.recursive, Usage: "list what is below, too"},
		),
		Action: func(cx *cli.Context) error {
			c.paths = cx.Args().Slice()
			return c.Run(cx.Context)
		},
	}
}

// Run lists. With --json it is one array of everything listed.
func (c *lsCommand) Run(ctx context.Context) error {
	cl, err := c.connectFor(ctx, c.paths, toFind)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	if len(c.paths) == 0 {
		c.paths = []string{""}
	}
	lists, err := c.collect(ctx, cl)
	if err != nil {
		return err
	}
	if c.json {
		all := slices.Concat([]vaultcore.Info{}, slices.Concat(lists...))
		sortByPath(all)
		return c.ui.writeJSON(all)
	}
	return c.show(lists)
}

// collect gives what each path lists: a directory's entries or a file itself.
func (c *lsCommand) collect(ctx context.Context, cl *client) ([][]vaultcore.Info, error) {
	var lists [][]vaultcore.Info
	for _, p := range c.paths {
		var infos []vaultcore.Info
		err := cl.list(ctx, p, c.recursive, func(i vaultcore.Info) error {
			infos = append(infos, i)
			return nil
		})
		if err != nil {
			return nil, named(err, p)
		}
		sortByPath(infos)
		lists = append(lists, infos)
	}
	return lists, nil
}

// show prints, like ls, files that were named before directories, and each of
// several directories under its name. With -R every line is a path already.
func (c *lsCommand) show(lists [][]vaultcore.Info) error {
	if len(lists) == 1 || c.recursive {
		return c.lines(slices.Concat(lists...))
	}
	isFile := func(k int) bool { return len(lists[k]) == 1 && cleanPath(lists[k][0].Path) == cleanPath(c.paths[k]) }
	var files []vaultcore.Info
	for k := range lists {
		if isFile(k) {
			files = append(files, lists[k]...)
		}
	}
	if err := c.lines(files); err != nil {
		return err
	}
	said := len(files) > 0
	for k := range lists {
		if isFile(k) {
			continue
		}
		if said {
			c.ui.printf("\n")
		}
		said = true
		c.ui.printf("%s:\n", c.ui.name(cmp.Or(cleanPath(c.paths[k]), "/")))
		if err := c.lines(lists[k]); err != nil {
			return err
		}
	}
	return nil
}

func (c *lsCommand) lines(infos []vaultcore.Info) error {
	line := c.short
	if c.long {
		line = c.longLine
	}
	for _, i := range infos {
		if _, err := fmt.Fprintln(c.ui.out, line(i)); err != nil {
			return err
		}
	}
	return nil
}

// sortByPath puts every directory right before what is in it.
func sortByPath(infos []vaultcore.Info) {
	slices.SortStableFunc(infos, func(a, b vaultcore.Info) int {
		return slices.Compare(strings.Split(a.Path, "/"), strings.Split(b.Path, "/"))
	})
}

// short is the name, or below a listed folder the path; directories end in /.
func (c *lsCommand) short(i vaultcore.Info) string {
	name := strings.TrimPrefix(i.Path, "/")
	if !c.recursive {
		name = path.Base(name)
	}
	if isDir(i) {
		name += "/"
	}
	return c.ui.name(name)
}

func (c *lsCommand) longLine(i vaultcore.Info) string {
	state := i.State
	if state == "clean" {
		state = ""
	}
	kind := i.Type
	if kind == "" {
		kind = i.Kind
	}
	return fmt.Sprintf("%s %10s  %s  %-8s %-8s %s", fileMode(i), humanSize(i.Size),
		i.Mtime.Local().Format("2006-01-02 15:04"), kind, state, c.short(i))
}

func isDir(i vaultcore.Info) bool {
	return i.Kind == "asset" || i.Kind == "folder" || i.Kind == "root"
}

// fileMode shows kind and permissions as ls does.
func fileMode(i vaultcore.Info) string {
	kind := "-"
	switch {
	case isDir(i):
		kind = "d"
	case i.Kind == "symlink":
		kind = "l"
	}
	return kind + fs.FileMode(i.Mode & 0o777).String()[1:]
}
