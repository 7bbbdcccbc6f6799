package main

import (
	"context"
	"errors"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// trashCommand lists, restores and empties the trash.
type trashCommand struct {
	common
	yes bool
	ids []string
}

func trashCLI(u *ui) *cli.Command {
	c := &trashCommand{common: common{ui: u}}
	leaf := func(name, usageText, args string, run func(context.Context) error, flags ...cli.Flag) *cli.Command {
		return &cli.Command{
			Name: name, Usage: usageText, ArgsUsage: args, Flags: c.flags(flags...),
			Action: func(cx *cli.Context) error {
				c.ids = cx.Args().Slice()
				return run(cx.Context)
			},
		}
	}
	return &cli.Command{
		Name:  "trash",
		Usage: "list, restore and empty what was deleted",
		Subcommands: []*cli.Command{
			leaf("list", "list what can be restored, the newest first", "", c.list),
			leaf("restore", "put files back where they were", "ID...", c.restore),
			leaf("empty", "delete for good: what is named, or everything", "[ID...]", c.empty,
				&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Destination: &c.yes, Usage: "do not ask"}),
		},
	}
}

func (c *trashCommand) list(ctx context.Context) error {
	if len(c.ids) > 0 {
		return usage("trash list takes no operands")
	}
	cl, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	entries := []vaultcore.TrashEntry{}
	if err := cl.call(ctx, callTrash, none{}, &entries); err != nil {
		return err
	}
	if entries == nil {
		entries = []vaultcore.TrashEntry{} // an empty answer is null
	}
	if c.json {
		return c.ui.writeJSON(entries)
	}
	for _, e := range entries {
		c.ui.printf("%s  %s  %10s  %s\n", e.ID, e.Deleted.Local().Format("2006-01-02 15:04"), humanSize(e.Size), c.ui.name(e.Path))
	}
	return nil
}

func (c *trashCommand) restore(ctx context.Context) error {
	if len(c.ids) == 0 {
		return usage("trash restore takes at least one ID from trash list")
	}
	cl, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	restored := []pathAnswer{}
	for _, id := range c.ids {
		var one []pathAnswer
		if err := cl.call(ctx, callTrashRestore, idsRequest{IDs: []string{id}}, &one); err != nil {
			return notInTrash(err, id)
		}
		restored = append(restored, one...)
	}
	if c.json {
		return c.ui.writeJSON(restored)
	}
	for _, r := range restored {
		c.ui.printf("%s\n", c.ui.name(r.Path))
	}
	return nil
}

func notInTrash(err error, id string) error {
	if errors.Is(err, vaultcore.ErrNotFound) {
		return hinted(named(err, id), "vaultdrive trash list shows what can be restored")
	}
	return named(err, id)
}

func (c *trashCommand) empty(ctx context.Context) error {
	if !c.yes {
		yes, err := askYes(ctx, "Delete for good what is in the trash?")
		if err != nil {
			return usage("nothing was deleted; --yes does it without asking")
		}
		if !yes {
			c.ui.note("Nothing was deleted.")
			return nil
		}
	}
	cl, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	var answer emptiedAnswer
	if err := cl.call(ctx, callTrashEmpty, idsRequest{IDs: c.ids}, &answer); err != nil {
		return notInTrash(err, strings.Join(c.ids, ", "))
	}
	if c.json {
		return c.ui.writeJSON(answer)
	}
	c.ui.printf("%s deleted, %s freed\n", plural(answer.Removed, "file"), humanSize(answer.Bytes))
	return nil
}
