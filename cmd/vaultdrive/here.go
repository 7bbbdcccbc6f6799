package main

import (
	"context"
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// localCommand says which contents are on this device: pin, unpin, prefetch and
// evict.
type localCommand struct {
	common
	list  bool
	paths []string
}

func localCLI(u *ui) []*cli.Command {
	command := func(name, usageText, description string, run func(*localCommand, context.Context) error, flags ...func(*localCommand) cli.Flag) *cli.Command {
		c := &localCommand{common: common{ui: u}}
		var more []cli.Flag
		for _, f := range flags {
			more = append(more, f(c))
		}
		return &cli.Command{
			Name: name, Usage: usageText, ArgsUsage: "PATH...", Description: description, Flags: c.flags(more...),
			Action: func(cx *cli.Context) error {
				c.paths = cx.Args().Slice()
				if len(c.paths) == 0 != c.list {
					return usage("%s takes at least one PATH", name)
				}
				return run(c, cx.Context)
			},
		}
	}
	listFlag := func(c *localCommand) cli.Flag {
		return &cli.BoolFlag{Name: "list", Destination: &c.list, Usage: "list what is pinned"}
	}
	return []*cli.Command{
		command("pin", "keep contents on this device, and fetch those that are not",
			"What is pinned is never evicted, and is fetched where sync was enabled with --prefetch pinned. A folder or\n"+
				"asset stands for all that is or will be in it.", (*localCommand).pin, listFlag),
		command("unpin", "let contents go that were pinned", "", (*localCommand).unpin),
		command("prefetch", "fetch contents that are at the remote only, and wait for them",
			"Afterwards they can be read without a network. / stands for everything.", (*localCommand).prefetch),
		command("evict", "free the space of contents that the remote has",
			"They stay listed and are fetched again when they are read. What is pinned, open, in the trash, or not confirmed\n"+
				"by the remote stays.", (*localCommand).evict),
	}
}

// each makes one call for each path and stops at the first that fails.
func (c *localCommand) each(ctx context.Context, cl *client, call string, done string) error {
	said := []string{}
	for _, p := range c.paths {
		if err := cl.call(ctx, call, pathRequest{Path: cleanPath(p)}, nil); err != nil {
			return named(err, p)
		}
		said = append(said, cleanPath(p))
	}
	if c.json {
		return c.ui.writeJSON(map[string]any{done: said})
	}
	return nil
}

func (c *localCommand) pin(ctx context.Context) error {
	if c.list {
		return c.listPins(ctx)
	}
	cl, err := c.connectFor(ctx, c.paths, toFind)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	if err := c.each(ctx, cl, callPin, "pinned"); err != nil {
		return err
	}
	if _, err := c.fetch(ctx, cl); err != nil && !errors.Is(err, errSyncOff) {
		c.ui.warn("pinned, but not all of it is here yet: %s", escapeName(oneLine(err)))
	}
	return nil
}

func (c *localCommand) unpin(ctx context.Context) error {
	cl, err := c.connectFor(ctx, c.paths, toFind)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	err = c.each(ctx, cl, callUnpin, "unpinned")
	if errors.Is(err, vaultcore.ErrNotFound) {
		return hinted(err, "vaultdrive pin --list shows what is pinned")
	}
	return err
}

func (c *localCommand) listPins(ctx context.Context) error {
	cl, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	var pins []vaultcore.Pin
	if err := cl.call(ctx, callPins, none{}, &pins); err != nil {
		return err
	}
	notNil(&pins)
	if c.json {
		return c.ui.writeJSON(pins)
	}
	for _, p := range pins {
		c.ui.printf("%s\n", c.ui.name(p.Path))
	}
	return nil
}

func (c *localCommand) prefetch(ctx context.Context) error {
	cl, err := c.connectFor(ctx, c.paths, toFind)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	got, err := c.fetch(ctx, cl)
	if err != nil {
		return err
	}
	if c.json {
		return c.ui.writeJSON(got)
	}
	c.ui.note("%s fetched, %s", plural(got.Files, "file"), humanSize(got.Bytes))
	return nil
}

// fetch brings the contents of the paths here.
func (c *localCommand) fetch(ctx context.Context, cl *client) (got fetchedAnswer, err error) {
	bar := c.ui.progress("fetching", true)
	defer bar.finish()
	err = items(ctx, cl, callPrefetch, pathsRequest{cleanPaths(c.paths)}, bar, func(a fetchedAnswer) error {
		got = a
		return nil
	})
	return got, err
}

func cleanPaths(paths []string) []string {
	out := make([]string, len(paths))
	for i, p := range paths {
		out[i] = cleanPath(p)
	}
	return out
}

func (c *localCommand) evict(ctx context.Context) error {
	cl, err := c.connectFor(ctx, c.paths, toFind)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	var got vaultcore.Evicted
	if err := cl.call(ctx, callEvict, pathsRequest{cleanPaths(c.paths)}, &got); err != nil {
		return err
	}
	if c.json {
		return c.ui.writeJSON(got)
	}
	for _, k := range got.Kept {
		c.ui.note("stays: %s: %s", escapeName(k.Path), k.Why)
	}
	c.ui.note("%s evicted, %s free", plural(got.Files, "file"), humanSize(got.Bytes))
	return nil
}
