package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// adoptCommand decides about what a server says and no device has signed.
type adoptCommand struct {
	common
	all, refuse, deletions, yes bool
	paths                       []string
}

func adoptCLI(u *ui) *cli.Command {
	c := &adoptCommand{common: common{ui: u}}
	return &cli.Command{
		Name:      "adopt",
		Usage:     "list, take over or refuse what no device has signed",
		ArgsUsage: "[PATH...]",
		Description: "Files that were added in the page or by another client of the server are shown, read-only, in the directory\n" +
			".vaultdrive/unverified of the mount. Without operands adopt lists them, and files that such a client asked to\n" +
			"delete. With PATH, as listed, with its ID, or with --all they are taken over: a file becomes one of the drive, a\n" +
			"file to be deleted goes to the trash. --refuse does the opposite: the server deletes the file, or keeps what was to\n" +
			"be deleted. --all is about files; with --deletions it is about what was to be deleted.",
		Flags: c.flags(
			&cli.BoolFlag{Name: "all", Destination: &c.all, Usage: "all files, after asking once"},
			&cli.BoolFlag{Name: "refuse", Destination: &c.refuse, Usage: "do not take over: delete it at the server, keep what was to be deleted"},
			&cli.BoolFlag{Name: "deletions", Destination: &c.deletions, Usage: "only what somebody asked to delete"},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Destination: &c.yes, Usage: "do not ask"},
		),
		Action: func(cx *cli.Context) error {
			c.paths = cx.Args().Slice()
			return c.Run(cx.Context)
		},
	}
}

// Run lists or decides.
func (c *adoptCommand) Run(ctx context.Context) error {
	switch {
	case c.all && len(c.paths) > 0:
		return usage("give either PATH or --all")
	case c.refuse && !c.all && len(c.paths) == 0:
		return usage("adopt --refuse takes PATH or --all")
	}
	cl, err := c.connectFor(ctx, c.paths, toFind)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	if !c.all && len(c.paths) == 0 {
		return c.list(ctx, cl)
	}
	if c.all && !c.yes {
		if yes, err := c.confirm(ctx, cl); err != nil || !yes {
			return err
		}
	}
	return c.decide(ctx, cl)
}

func (c *adoptCommand) unverified(ctx context.Context, cl *client) ([]vaultcore.Unverified, error) {
	var all []vaultcore.Unverified
	err := cl.call(ctx, callUnverified, none{}, &all)
	if c.deletions {
		all = vaultcore.AllUnverified(all, true)
	}
	notNil(&all)
	return all, err
}

func (c *adoptCommand) list(ctx context.Context, cl *client) error {
	all, err := c.unverified(ctx, cl)
	if err != nil {
		return err
	}
	if c.json {
		return c.ui.writeJSON(all)
	}
	for i := range all {
		u := &all[i]
		added := strings.Repeat(" ", len("2006-01-02 15:04"))
		if !u.Added.IsZero() {
			added = u.Added.Local().Format("2006-01-02 15:04")
		}
		c.ui.printf("%s  %-7s  %10s  %s  %s%s\n", u.ID, unverifiedKinds[u.State], humanSize(u.Size), added, c.ui.name(u.Path), c.remark(u))
	}
	if len(all) == 0 {
		c.ui.note("Nothing waits to be taken over.")
	}
	return nil
}

var unverifiedKinds = map[string]string{
	vaultcore.UnverifiedRow:      "new",
	vaultcore.UnverifiedDeletion: "delete",
	vaultcore.UnverifiedRevoked:  "revoked",
}

func (c *adoptCommand) remark(u *vaultcore.Unverified) string {
	switch {
	case u.Problem != "":
		return "  (" + c.ui.name(u.Problem) + ")"
	case u.Kind != vaultcore.KindFile.String():
		return "  (" + u.Kind + ")"
	case u.Reseal:
		return "  (sealed anew when it is taken over)"
	}
	return ""
}

// confirm asks once before everything is decided.
func (c *adoptCommand) confirm(ctx context.Context, cl *client) (bool, error) {
	all, err := c.unverified(ctx, cl)
	if err != nil {
		return false, err
	}
	if all = vaultcore.AllUnverified(all, c.deletions); len(all) == 0 {
		return true, nil
	}
	var size int64
	for i := range all {
		size += all[i].Size
	}
	yes, err := askYes(ctx, fmt.Sprintf(c.question(), plural(len(all), "file"), humanSize(size)))
	if err != nil {
		return false, usage("nothing was done; --yes does it without asking")
	}
	if !yes {
		c.ui.note("Nothing was done.")
	}
	return yes, nil
}

func (c *adoptCommand) question() string {
	switch {
	case c.deletions && c.refuse:
		return "Keep %s (%s) that somebody asked to delete?"
	case c.deletions:
		return "Delete %s (%s), as somebody asked to?"
	case c.refuse:
		return "Delete %s (%s) at the server, which no device has signed?"
	}
	return "Take over %s (%s) that no device has signed?"
}

func (c *adoptCommand) decide(ctx context.Context, cl *client) error {
	request := adoptRequest{All: c.all, Deletions: c.deletions, Refuse: c.refuse}
	for _, p := range c.paths {
		request.Paths = append(request.Paths, unverifiedPath(p))
	}
	answers := []adoptAnswer{}
	failed := 0
	var last error
	err := items(ctx, cl, callAdopt, request, nil, func(a adoptAnswer) error {
		answers = append(answers, a)
		if a.Error != nil {
			failed++
			last = cl.failureOf(a.Error)
		}
		if !c.json {
			c.show(&a, last)
		}
		return nil
	})
	if err != nil {
		return adoptFailure(err)
	}
	if c.json {
		if err := c.ui.writeJSON(answers); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fail(last, "", "%d of %d could not be taken over", failed, len(answers))
	}
	return nil
}

func (c *adoptCommand) show(a *adoptAnswer, err error) {
	if a.Error != nil {
		c.ui.warn("%s: %s", escapeName(a.From), escapeName(oneLine(err)))
		return
	}
	at := a.Path
	if at == "" {
		at = a.From
	}
	c.ui.printf("%-8s  %s\n", doneWords[a.Done], c.ui.name(at))
}

var doneWords = map[string]string{
	vaultcore.DoneSigned:   "adopted",
	vaultcore.DoneResealed: "adopted",
	vaultcore.DoneRestored: "restored",
	vaultcore.DoneDeleted:  "deleted",
	vaultcore.DoneRefused:  "refused",
	vaultcore.DoneKept:     "kept",
}

// unverifiedPath gives what a path in the hidden directory is listed as.
func unverifiedPath(p string) string {
	p = cleanPath(p)
	if _, rest, ok := strings.Cut(p, vaultcore.HiddenName+"/unverified/"); ok {
		return rest
	}
	return p
}

func adoptFailure(err error) error {
	switch {
	case errors.Is(err, vaultcore.ErrNotFound):
		return hinted(err, "vaultdrive adopt lists what there is to decide about")
	case errors.Is(err, vaultcore.ErrInvalid):
		return hinted(err, "give its ID from vaultdrive adopt, or --deletions for the file that is to be deleted")
	}
	return err
}

// unverifiedText counts what waits for adopt; "" if nothing does.
func unverifiedText(files, deletions int) string {
	var parts []string
	if files > 0 {
		parts = append(parts, plural(files, "file")+" that no device has signed")
	}
	if deletions > 0 {
		parts = append(parts, plural(deletions, "file")+" that somebody asked to delete")
	}
	if len(parts) == 0 {
		return ""
	}
	return strings.Join(parts, ", ") + "; vaultdrive adopt lists them"
}
