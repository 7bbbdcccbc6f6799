package main

import (
	"context"
	"path"

	"github.com/urfave/cli/v2"
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
	cl, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
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
		if err := cl.call(ctx, callMove, moveRequest{From: from, To: to.path}, nil); err != nil {
			return err
		}
		moved = append(moved, moveRequest{From: from, To: to.of(path.Base(from))})
	}
	if c.json {
		return c.ui.writeJSON(map[string]any{"moved": moved})
	}
	return nil
}
