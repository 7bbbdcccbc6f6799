package main

import (
	"context"
	"errors"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// assetCommand makes, lists, renames and deletes assets.
type assetCommand struct {
	common
	kind      string
	recursive bool
	args      []string
}

func assetCLI(u *ui) *cli.Command {
	c := &assetCommand{common: common{ui: u}}
	leaf := func(name, usageText, args string, n int, run func(context.Context) error, flags ...cli.Flag) *cli.Command {
		return &cli.Command{
			Name: name, Usage: usageText, ArgsUsage: args, Flags: c.flags(flags...),
			Action: func(cx *cli.Context) error {
				if cx.NArg() != n {
					return usage("asset %s takes %s", name, plural(n, "operand"))
				}
				c.args = cx.Args().Slice()
				return run(cx.Context)
			},
		}
	}
	return &cli.Command{
		Name:  "asset",
		Usage: "make, list, rename and delete assets",
		Subcommands: []*cli.Command{
			leaf("add", "make an asset", "TITLE", 1, c.add,
				&cli.StringFlag{Name: "type", Destination: &c.kind, Value: "item", Usage: "`TYPE`: item, note or password"}),
			leaf("list", "list the assets", "", 0, c.list),
			leaf("rename", "rename an asset", "TITLE NEWTITLE", 2, c.rename),
			leaf("rm", "delete an asset", "TITLE", 1, c.remove,
				&cli.BoolFlag{Name: "recursive", Aliases: []string{"r"}, Destination: &c.recursive, Usage: "with the files in it"}),
		},
	}
}

func (c *assetCommand) add(ctx context.Context) error {
	cl, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	var info vaultcore.Info
	if err := cl.call(ctx, callAssetAdd, assetRequest{Title: c.args[0], Type: c.kind}, &info); err != nil {
		return titled(err, c.args[0])
	}
	if c.json {
		return c.ui.writeJSON(info)
	}
	return nil
}

func (c *assetCommand) list(ctx context.Context) error {
	cl, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	infos := []vaultcore.Info{}
	if err := cl.list(ctx, "", false, func(i vaultcore.Info) error {
		infos = append(infos, i)
		return nil
	}); err != nil {
		return err
	}
	sortByPath(infos)
	if c.json {
		return c.ui.writeJSON(infos)
	}
	for _, i := range infos {
		c.ui.printf("%-8s  %s\n", i.Type, c.ui.name(cleanPath(i.Path)))
	}
	return nil
}

func (c *assetCommand) rename(ctx context.Context) error {
	about := c.args[0]
	err := c.change(ctx, callAssetRename, moveRequest{From: c.args[0], To: c.args[1]})
	if !errors.Is(err, vaultcore.ErrNotFound) {
		about = c.args[1]
	}
	return titled(err, about)
}

func (c *assetCommand) remove(ctx context.Context) error {
	return titled(c.change(ctx, callAssetRemove, pathRequest{Path: c.args[0], Recursive: c.recursive}), c.args[0])
}

// titled names the asset an error is about, and says what a title may be.
func titled(err error, title string) error {
	if err == nil {
		return nil
	}
	bad := title == "" || title == "." || title == ".." || strings.ContainsAny(title, "/\x00")
	if bad && (errors.Is(err, vaultcore.ErrName) || errors.Is(err, vaultcore.ErrInvalid)) {
		return fail(vaultcore.ErrName, "a title is not empty, no dot or two, and without slash and NUL", "%q cannot be the title of an asset", title)
	}
	if errors.Is(err, vaultcore.ErrNotFound) {
		return fail(vaultcore.ErrNotFound, "vaultdrive asset list shows what is there", "there is no asset called %q", title)
	}
	return named(err, title)
}

func (c *assetCommand) change(ctx context.Context, call string, request any) error {
	cl, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	if err := cl.call(ctx, call, request, nil); err != nil {
		return err
	}
	if c.json {
		return c.ui.writeJSON(request)
	}
	return nil
}
