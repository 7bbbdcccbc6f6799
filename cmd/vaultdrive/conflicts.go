package main

import (
	"context"
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// conflictsCommand shows and settles what two devices did at a time.
type conflictsCommand struct {
	common
	mine, theirs, both bool
}

func conflictsCLI(u *ui) *cli.Command {
	c := &conflictsCommand{common: common{ui: u}}
	return &cli.Command{
		Name:  "conflicts",
		Usage: "list and settle what was changed on two devices at a time",
		Subcommands: []*cli.Command{{
			Name:  "list",
			Usage: "list names that several versions want: which file is whose",
			Flags: c.flags(),
			Action: func(cx *cli.Context) error {
				if cx.NArg() > 0 {
					return usage("conflicts list takes no operands")
				}
				return c.list(cx.Context)
			},
		}, {
			Name:      "keep",
			Usage:     "keep one version under the plain name, or all under names of their own",
			ArgsUsage: "PATH",
			Description: "Keeps the file at PATH, whether it is the one with the plain name or the one beside it, and moves the other\n" +
				"versions to the trash. With --mine, --theirs or --both PATH may be any of the versions. The files can also be\n" +
				"renamed and deleted like any others: a copy that is deleted or renamed is settled.",
			Flags: c.flags(
				&cli.BoolFlag{Name: "mine", Destination: &c.mine, Usage: "keep what this device wrote"},
				&cli.BoolFlag{Name: "theirs", Destination: &c.theirs, Usage: "keep what the other device wrote"},
				&cli.BoolFlag{Name: "both", Destination: &c.both, Usage: "keep all; the others are named after who wrote them"},
			),
			Action: func(cx *cli.Context) error {
				if cx.NArg() != 1 {
					return usage("conflicts keep takes one PATH")
				}
				return c.keep(cx.Context, cx.Args().First())
			},
		}},
	}
}

func (c *conflictsCommand) list(ctx context.Context) error {
	cl, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	var all []vaultcore.Conflict
	if err := cl.call(ctx, callConflicts, none{}, &all); err != nil {
		return err
	}
	notNil(&all)
	if c.json {
		return c.ui.writeJSON(all)
	}
	for i, one := range all {
		if i > 0 {
			c.ui.printf("\n")
		}
		c.ui.printf("%s: %s\n", c.ui.name(one.Path), conflictKinds[one.Kind])
		for _, v := range one.Versions {
			who := c.ui.name(v.Device)
			if v.This {
				who += " (this device)"
			}
			c.ui.printf("  %10s  %s  by %s  %s\n", humanSize(v.Size), v.Changed.Local().Format("2006-01-02 15:04"), who, c.ui.name(v.Path))
		}
	}
	return nil
}

var conflictKinds = map[string]string{
	vaultcore.ConflictEdit:  "changed on several devices at a time",
	vaultcore.ConflictName:  "several files were made under this name",
	vaultcore.ConflictAsset: "several assets were made under this name; vaultdrive asset rename gives one another",
}

func (c *conflictsCommand) keep(ctx context.Context, path string) error {
	how, err := c.how()
	if err != nil {
		return err
	}
	paths := []string{path}
	cl, err := c.connectFor(ctx, paths, toFind)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	var kept vaultcore.Kept
	if err := cl.call(ctx, callConflictKeep, keepRequest{Path: cleanPath(paths[0]), How: how}, &kept); err != nil {
		return keepFailure(err)
	}
	if c.json {
		return c.ui.writeJSON(kept)
	}
	c.ui.printf("kept     %s\n", c.ui.name(kept.Path))
	for _, p := range kept.Renamed {
		c.ui.printf("renamed  %s\n", c.ui.name(p))
	}
	for _, v := range kept.Trashed {
		c.ui.printf("trashed  %s, %s by %s\n", c.ui.name(v.Path), humanSize(v.Size), c.ui.name(v.Device))
	}
	return nil
}

func (c *conflictsCommand) how() (vaultcore.Keep, error) {
	how, given := vaultcore.KeepNamed, 0
	for k, is := range map[vaultcore.Keep]bool{vaultcore.KeepMine: c.mine, vaultcore.KeepTheirs: c.theirs, vaultcore.KeepBoth: c.both} {
		if is {
			how = k
			given++
		}
	}
	if given > 1 {
		return how, usage("give only one of --mine, --theirs and --both")
	}
	return how, nil
}

func keepFailure(err error) error {
	switch {
	case errors.Is(err, vaultcore.ErrNotFound):
		return hinted(err, "vaultdrive conflicts list shows what there is to settle")
	case errors.Is(err, vaultcore.ErrInvalid):
		return hinted(err, "give the path of the version to keep, from vaultdrive conflicts list, and no option")
	case errors.Is(err, vaultcore.ErrNotSupported):
		return hinted(err, "vaultdrive asset rename gives one of them another title")
	}
	return err
}
