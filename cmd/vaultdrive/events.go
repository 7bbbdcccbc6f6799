package main

import (
	"context"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// eventPage is how many events one question brings.
const eventPage = 1000

// eventsCommand shows what happened to the vault that somebody should know.
type eventsCommand struct {
	common
	after  int64
	follow bool
}

func eventsCLI(u *ui) *cli.Command {
	c := &eventsCommand{common: common{ui: u}}
	return &cli.Command{
		Name:  "events",
		Usage: "show what happened: recoveries, damage, failures, conflicts, devices, trouble with the remote",
		Flags: c.flags(
			&cli.Int64Flag{Name: "after", Destination: &c.after, Usage: "only events above number `N`"},
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Destination: &c.follow, Usage: "go on with new ones until Ctrl-C"},
		),
		Action: func(cx *cli.Context) error {
			if cx.NArg() > 0 {
				return usage("events takes no operands")
			}
			return c.Run(cx.Context)
		},
	}
}

// Run shows events from the oldest on. With --json each is an object on a line
// of its own; none is no line.
func (c *eventsCommand) Run(ctx context.Context) error {
	cl, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	after := c.after
	for {
		var page []vaultcore.Event
		if err := cl.call(ctx, callEvents, eventsRequest{After: after, Max: eventPage}, &page); err != nil {
			return err
		}
		for _, e := range page {
			if err := c.show(e); err != nil {
				return err
			}
			after = max(after, e.N)
		}
		if len(page) == eventPage {
			continue
		}
		if !c.follow {
			return nil
		}
		if err := pause(ctx, time.Second); err != nil {
			return nil // Ctrl-C is how following ends
		}
	}
}

func (c *eventsCommand) show(e vaultcore.Event) error {
	if c.json {
		b, err := marshalSafe(e, "")
		if err != nil {
			return err
		}
		_, err = c.ui.out.Write(append(b, '\n'))
		return err
	}
	c.ui.printf("%6d  %s  %-12s %s\n", e.N, e.Time.Local().Format("2006-01-02 15:04:05"), e.Kind, c.ui.name(e.Text))
	return nil
}
