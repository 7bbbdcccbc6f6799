package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// rescueCommand writes the content of any row to a plain file.
type rescueCommand struct {
	common
	partial bool
	ref     string
	target  string
}

func rescueCLI(u *ui) *cli.Command {
	c := &rescueCommand{common: common{ui: u}}
	return &cli.Command{
		Name:      "rescue",
		Usage:     "write any content the vault still has to a file: damaged, deleted or unfinished ones too",
		ArgsUsage: "[REF TARGET]",
		Description: "Without operands it lists what there is. REF is what the list shows, or a path. TARGET must not exist; - is\n" +
			"standard output. With --partial, what cannot be read is filled with zeros instead of ending the copy.",
		Flags: c.flags(
			&cli.BoolFlag{Name: "partial", Destination: &c.partial, Usage: "go on behind damaged parts"},
		),
		Action: func(cx *cli.Context) error {
			switch cx.NArg() {
			case 0:
				return c.list(cx.Context)
			case 2:
				c.ref, c.target = cx.Args().Get(0), cx.Args().Get(1)
				return c.Run(cx.Context)
			}
			return usage("rescue takes REF and TARGET, or nothing to list")
		},
	}
}

func (c *rescueCommand) list(ctx context.Context) error {
	cl, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	rows := []vaultcore.RescueRow{}
	err = items(ctx, cl, callRescueList, none{}, nil, func(r vaultcore.RescueRow) error {
		rows = append(rows, r)
		return nil
	})
	if err != nil {
		return err
	}
	if c.json {
		return c.ui.writeJSON(rows)
	}
	for _, r := range rows {
		c.ui.printf("%-42s %-8s %10s  %s  %s\n", r.Ref, r.State, humanSize(r.Size),
			r.Mtime.Local().Format("2006-01-02 15:04"), c.ui.name(r.Path))
	}
	return nil
}

// Run writes one content. What was written stays if it ends early, because it
// may be all that there is.
func (c *rescueCommand) Run(ctx context.Context) error {
	ref := []string{c.ref}
	cl, err := c.connectFor(ctx, ref, toFind)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	c.ref = ref[0]
	query := url.Values{"ref": {c.ref}}
	if c.partial {
		query.Set("partial", "1")
	}
	in, err := cl.read(ctx, callRescueContent, query)
	if err != nil {
		return err
	}
	defer in.Close()
	bar := c.ui.progress("rescue", true)
	defer bar.finish()
	if c.target == "-" {
		_, err := io.CopyBuffer(onlyWriter{io.MultiWriter(c.ui.out, bar)}, onlyReader{in}, make([]byte, copyBuffer))
		return err
	}
	out, err := os.OpenFile(c.target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	n, err := io.CopyBuffer(onlyWriter{io.MultiWriter(out, bar)}, onlyReader{in}, make([]byte, copyBuffer))
	if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
		if n == 0 {
			return errors.Join(err, os.Remove(c.target))
		}
		return &failure{cause: err, text: fmt.Sprintf("%s is incomplete, %d bytes: %v", c.target, n, err)}
	}
	if c.json {
		return c.ui.writeJSON(map[string]any{"ref": c.ref, "local": c.target, "size": n})
	}
	return nil
}
