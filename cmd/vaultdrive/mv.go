package main

import (
	"context"
	"path"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// mvCommand renames and moves within the vault.
type mvCommand struct {
	common
	sources []string
	target  string
}

func mvCLI(u *ui) *cli.Command {
	c := &mvCommand{common: common{ui: u}}
	return &cli.Command{
		Name:        "mv",
		Usage:       "rename or move files, folders and assets",
		ArgsUsage:   "PATH... TARGET",
		Description: "Into TARGET if it is an asset or a folder, else PATH becomes TARGET. A file that is TARGET is replaced.",
		Flags:       c.flags(),
		Action: func(cx *cli.Context) error {
			args := cx.Args().Slice()
			if len(args) < 2 {
				return usage("mv takes PATH and TARGET")
			}
			c.sources, c.target = args[:len(args)-1], args[len(args)-1]
			return c.Run(cx.Context)
		},
	}
}

// Run moves one after the other.
func (c *mvCommand) Run(ctx context.Context) error {
	paths := append(slices.Clone(c.sources), c.target)
	cl, err := c.connectFor(ctx, paths, toMake)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	c.sources, c.target = paths[:len(paths)-1], paths[len(paths)-1]
	to, err := cl.destination(ctx, c.target, len(c.sources))
	if err != nil {
		return err
	}
	moved := []moveRequest{}
	for _, source := range c.sources {
		from := cleanPath(source)
		if from == "" {
			return usage("the vault itself cannot be moved")
		}
		if within(to.path, from) && to.of(path.Base(from)) != from {
			return fail(vaultcore.ErrInvalid, "choose a TARGET outside of it", "%s cannot be moved into itself, to %s", from, to.path)
		}
		if err := cl.call(ctx, callMove, moveRequest{From: from, To: to.path}, nil); err != nil {
			return named(err, from)
		}
		moved = append(moved, moveRequest{From: from, To: to.of(path.Base(from))})
	}
	if c.json {
		return c.ui.writeJSON(map[string]any{"moved": moved})
	}
	return nil
}
