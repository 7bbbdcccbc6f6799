package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// checkCommand looks whether everything in the vault is whole.
type checkCommand struct {
	common
	deep   bool
	repair bool
}

func checkCLI(u *ui) *cli.Command {
	c := &checkCommand{common: common{ui: u}}
	return &cli.Command{
		Name:  "check",
		Usage: "look for damage and leftovers",
		Description: "Exit code 10 when problems are left. --repair mends and clears away what no file needs; it never deletes\n" +
			"what a row names. What it cannot mend, vaultdrive rescue may still read.",
		Flags: c.flags(
			&cli.BoolFlag{Name: "deep", Destination: &c.deep, Usage: "decrypt every byte"},
			&cli.BoolFlag{Name: "repair", Destination: &c.repair, Usage: "mend what can be mended"},
		),
		Action: func(cx *cli.Context) error {
			if cx.NArg() > 0 {
				return usage("check takes no operands; name the vault with --vault")
			}
			return c.Run(cx.Context)
		},
	}
}

// Run checks and fails if problems are left.
func (c *checkCommand) Run(ctx context.Context) error {
	cl, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	bar := c.ui.progress("check", false)
	var report vaultcore.CheckReport
	request := checkRequest{Deep: c.deep, Repair: c.repair}
	err = items(ctx, cl, callCheck, request, bar, func(r vaultcore.CheckReport) error {
		report = r
		return nil
	})
	bar.finish()
	if err != nil {
		return err
	}
	left := 0
	for _, p := range report.Problems {
		if !p.Repaired {
			left++
		}
	}
	if err := c.show(report, left); err != nil {
		return err
	}
	if left > 0 {
		return fail(errProblems, "", "%s found", plural(left, "problem"))
	}
	return nil
}

func (c *checkCommand) show(r vaultcore.CheckReport, left int) error {
	if c.json {
		return c.ui.writeJSON(r)
	}
	for _, p := range r.Problems {
		what := p.Path
		if what == "" {
			what = p.ID
		}
		if what = c.ui.name(what); what != "" {
			what += ": "
		}
		state := ""
		if p.Repaired {
			state = " (repaired)"
		}
		c.ui.printf("%s: %s%s%s\n", p.Kind, what, c.ui.name(p.Detail), state)
	}
	how := "lengths and headers"
	if c.deep {
		how = "every byte"
	}
	c.ui.printf("%s, %s, %s, %d in the trash, %s: %s checked, %s\n", plural(r.Assets, "asset"), plural(r.Folders, "folder"),
		plural(r.Files, "file"), r.Trash, humanSize(r.Bytes), how, plural(left, "problem"))
	if text := unverifiedText(r.Unverified, r.Deletions); text != "" {
		c.ui.printf("unverified: %s\n", text)
	}
	return nil
}
