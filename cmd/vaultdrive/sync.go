package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// syncCommand turns synchronisation on and off, does it now, and shows it.
type syncCommand struct {
	common
	access    accessSource
	device    string
	prefetch  string
	upLimit   string
	downLimit string
	metered   bool
	heal      bool
}

func syncCLI(u *ui) *cli.Command {
	c := &syncCommand{common: common{ui: u}}
	none := func(run func(context.Context) error) cli.ActionFunc {
		return func(cx *cli.Context) error {
			if cx.NArg() > 0 {
				return usage("sync %s takes no operands", cx.Command.Name)
			}
			return run(cx.Context)
		}
	}
	return &cli.Command{
		Name:  "sync",
		Usage: "keep the vault the same on several devices, through a directory or a bucket",
		Subcommands: []*cli.Command{
			c.enableCLI(),
			{
				Name:  "disable",
				Usage: "stop; everything at the remote and on other devices stays as it is",
				Flags: c.flags(), Action: none(c.disable),
			},
			{
				Name:  "now",
				Usage: "make vault and remote agree at once, and wait for it",
				Flags: c.flags(&cli.BoolFlag{Name: "heal", Destination: &c.heal,
					Usage: "put back what the remote has lost and this device still has"}),
				Action: none(c.syncNow),
			},
			{
				Name:  "status",
				Usage: "show what waits to be transferred, the devices, and what is wrong",
				Flags: c.flags(), Action: none(c.status),
			},
		},
	}
}

func (c *syncCommand) enableCLI() *cli.Command {
	return &cli.Command{
		Name:      "enable",
		Usage:     "synchronise with a directory or a bucket, or change how",
		ArgsUsage: "[URL]",
		Description: "URL is file:///DIRECTORY (a NAS, a USB disk, a shared folder) or s3://BUCKET/PREFIX?endpoint=https://HOST&region=NAME.\n" +
			"Without URL the remote stays and the options change. What is stored there is encrypted; the remote sees sizes,\n" +
			"counts and times.\n" +
			"Credentials of a bucket come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or from ~/.aws/credentials, each\n" +
			"time the vault is mounted. --keep-credentials seals them in the vault instead, under its own keys.",
		Flags: c.flags(append(c.access.flags(),
			&cli.StringFlag{Name: "device-name", Destination: &c.device, Usage: "what other devices call this one; default: the host's `NAME`"},
			&cli.StringFlag{Name: "prefetch", Destination: &c.prefetch,
				Usage: "`WHICH` contents of other devices are brought here unasked: all (the default), pinned, or none"},
			&cli.StringFlag{Name: "limit-up", Destination: &c.upLimit, Usage: "upload at most `RATE` bytes a second, as 500K or 2M; 0: no limit"},
			&cli.StringFlag{Name: "limit-down", Destination: &c.downLimit, Usage: "download at most `RATE` bytes a second; 0: no limit"},
			&cli.BoolFlag{Name: "metered", Destination: &c.metered,
				Usage: "the network costs money: no prefetch, no uploads above 1 MiB unless asked for, few polls"},
		)...),
		Action: func(cx *cli.Context) error {
			if cx.NArg() > 1 {
				return usage("sync enable takes one URL")
			}
			return c.enable(cx.Context, cx)
		},
	}
}

func (c *syncCommand) enable(ctx context.Context, cx *cli.Context) error {
	in, err := c.enableRequest(cx)
	if err != nil {
		return err
	}
	cl, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	var view syncView
	if err := cl.call(ctx, callSyncEnable, in, &view); err != nil {
		return err
	}
	if c.json {
		return c.ui.writeJSON(view)
	}
	c.ui.printf("The vault is synchronised with %s.\n", c.ui.name(view.Remote))
	c.ui.printf("Another device joins with: vaultdrive join --remote %s %s\n", c.ui.name(shellQuote(view.Remote)), view.Address)
	if cl.pid == 0 {
		c.ui.note("What is here is uploaded by the next mount, or now with vaultdrive sync now.")
	}
	if in.Access.secret() && !view.Kept {
		c.ui.note("The credentials are not kept: a mount needs them in its environment, or seal them in the vault with --keep-credentials.")
	}
	return nil
}

// enableRequest finds out what is wrong before anybody types a password.
func (c *syncCommand) enableRequest(cx *cli.Context) (in syncEnableRequest, err error) {
	in = syncEnableRequest{URL: cx.Args().First(), Device: c.device, Keep: c.access.keep}
	if strings.HasPrefix(in.URL, "/") || strings.HasPrefix(in.URL, "./") {
		return in, fail(errUsage, "write "+shellQuote("file://"+absolute(in.URL)), "%s is no address", in.URL)
	}
	if in.Device == "" {
		in.Device = hostName()
	}
	if len(in.Device) > seal.MaxDeviceName || !utf8.ValidString(in.Device) {
		return in, usage("--device-name has at most %d bytes", seal.MaxDeviceName)
	}
	switch syncer.Prefetch(c.prefetch) {
	case "":
	case syncer.PrefetchAll, syncer.PrefetchPinned, syncer.PrefetchNone:
		in.Prefetch = &c.prefetch
	default:
		return in, usage("--prefetch %s: it is all, pinned or none", c.prefetch)
	}
	if in.UpLimit, err = limitOf("--limit-up", c.upLimit); err != nil {
		return in, err
	}
	if in.DownLimit, err = limitOf("--limit-down", c.downLimit); err != nil {
		return in, err
	}
	if cx.IsSet("metered") {
		in.Metered = &c.metered
	}
	in.Access, err = c.access.find(in.URL)
	return in, err
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// hostName is this machine's name without its domain.
func hostName() string {
	name, err := os.Hostname()
	name, _, _ = strings.Cut(name, ".")
	if err != nil || name == "" || len(name) > seal.MaxDeviceName || !utf8.ValidString(name) {
		return "device"
	}
	return name
}

// limitOf reads a rate in bytes a second; nil when none is given.
func limitOf(option, text string) (*int64, error) {
	if text == "" {
		return nil, nil
	}
	n, ok := parseSize(text)
	if !ok {
		return nil, usage("%s %s: it is a number of bytes a second, as 500K or 2M", option, text)
	}
	return &n, nil
}

func (c *syncCommand) disable(ctx context.Context) error {
	cl, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	var view syncView
	if err := cl.call(ctx, callSyncDisable, none{}, &view); err != nil {
		return err
	}
	if c.json {
		return c.ui.writeJSON(view)
	}
	c.ui.note("Synchronisation is off. Nothing at the remote has changed; vaultdrive sync enable turns it on again.")
	return nil
}

func (c *syncCommand) syncNow(ctx context.Context) error {
	access, err := c.access.find("")
	if err != nil {
		return err
	}
	cl, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	bar := c.ui.progress("syncing", true)
	defer bar.finish()
	var view syncView
	err = items(ctx, cl, callSyncNow, syncNowRequest{Heal: c.heal, Access: access}, bar, func(v syncView) error {
		view = v
		return nil
	})
	bar.finish()
	if err != nil {
		return err
	}
	if c.json {
		return c.ui.writeJSON(view)
	}
	for _, cond := range view.Conditions {
		c.ui.warn("%s", escapeName(cond.Text))
		if cond.Hint != "" {
			c.ui.note("hint: %s", escapeName(cond.Hint))
		}
	}
	return nil
}

func (c *syncCommand) status(ctx context.Context) error {
	cl, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	var view syncView
	if err := cl.call(ctx, callSyncStatus, none{}, &view); err != nil {
		return err
	}
	if c.json {
		return c.ui.writeJSON(view)
	}
	syncPrinter{&c.common, cl.pid}.show(&view)
	return nil
}

// accessSource holds the options that say where the credentials of a bucket
// are. No option takes a secret: arguments can be read by everybody.
type accessSource struct {
	file    string
	profile string
	keep    bool
}

func (a *accessSource) flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "credentials-file", Destination: &a.file,
			Usage: "read the bucket's credentials from `FILE`, in the form of ~/.aws/credentials, at every mount"},
		&cli.StringFlag{Name: "profile", Destination: &a.profile, Usage: "use that `NAME` in the credentials file"},
		&cli.BoolFlag{Name: "keep-credentials", Destination: &a.keep,
			Usage: "seal the credentials in the vault, so that no mount needs them from elsewhere"},
	}
}

// find gives what this command knows of credentials and the process that syncs
// may not; nil for nothing. url may be empty: not known yet.
func (a *accessSource) find(url string) (*accessKeys, error) {
	given := a.file != "" || a.profile != "" || a.keep
	if url != "" && !strings.HasPrefix(url, "s3:") {
		if given {
			return nil, usage("only a bucket has credentials")
		}
		return nil, nil
	}
	found := accessKeys{Profile: a.profile}
	if a.file != "" {
		found.File = absolute(a.file)
	}
	inEnvironment := os.Getenv("AWS_ACCESS_KEY_ID") != "" || os.Getenv("AWS_ACCESS_KEY") != ""
	if a.file == "" && a.profile == "" && !inEnvironment {
		found.File, found.Profile = os.Getenv("AWS_SHARED_CREDENTIALS_FILE"), os.Getenv("AWS_PROFILE")
	}
	var err error
	if a.keep || found == (accessKeys{}) && inEnvironment {
		o := found.options()
		found = accessKeys{}
		found.AccessKey, found.SecretKey, found.SessionToken, err = o.Keys()
	}
	if err != nil || found == (accessKeys{}) {
		return nil, err
	}
	return &found, nil
}
