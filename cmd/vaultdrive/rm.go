package main

import (
	"context"
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// rmCommand moves files to the trash of the vault.
type rmCommand struct {
	common
	recursive bool
	force     bool
	paths     []string
}

func rmCLI(u *ui) *cli.Command {
	c := &rmCommand{common: common{ui: u}}
	return &cli.Command{
		Name:      "rm",
		Usage:     "delete files and folders (they stay in the trash for 30 days)",
		ArgsUsage: "PATH...",
		Description: "vaultdrive trash list and trash restore bring them back; but what is younger than a minute when it is deleted\n" +
			"leaves nothing. An asset goes with asset rm, or with -r.",
		Flags: c.flags(
			&cli.BoolFlag{Name: "recursive", Aliases: []string{"r", "R"}, Destination: &c.recursive, Usage: "delete folders with what is in them"},
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Destination: &c.force, Usage: "say nothing about paths that do not exist"},
		),
		Action: func(cx *cli.Context) error {
			if cx.NArg() == 0 {
				return usage("rm takes at least one PATH")
			}
			c.paths = cx.Args().Slice()
			return c.Run(cx.Context)
		},
	}
}

// Run deletes one after the other and stops at the first that cannot be.
func (c *rmCommand) Run(ctx context.Context) error {
	cl, err := c.connectFor(ctx, c.paths, toFind)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	removed := []string{}
	for _, p := range c.paths {
		err := named(c.remove(ctx, cl, cleanPath(p)), cleanPath(p))
		switch {
		case err == nil:
			removed = append(removed, cleanPath(p))
		case !c.force || !errors.Is(err, vaultcore.ErrNotFound):
			return err
		}
	}
	if c.json {
		return c.ui.writeJSON(map[string]any{"removed": removed})
	}
	return nil
}

func (c *rmCommand) remove(ctx context.Context, cl *client, path string) error {
	if path == "" {
		return usage("the vault itself cannot be deleted this way")
	}
	call := callRemove
	if isAssetPath(path) {
		if _, err := cl.stat(ctx, path); err != nil {
			return err
		}
		if !c.recursive {
			return fail(vaultcore.ErrIsDir, "use -r, or vaultdrive asset rm", "%s is an asset", path)
		}
		call = callAssetRemove
	}
	return cl.call(ctx, call, pathRequest{Path: path, Recursive: c.recursive}, nil)
}
