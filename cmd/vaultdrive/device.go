package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// deviceCommand lets this device open the vault without the password, and says
// which other devices have it.
type deviceCommand struct {
	common
	keyFile string
	newID   bool
	name    string
	alone   bool
	yes     bool
}

func deviceCLI(u *ui) *cli.Command {
	c := &deviceCommand{common: common{ui: u}}
	noOperands := func(run func(context.Context) error) cli.ActionFunc {
		return func(cx *cli.Context) error {
			if cx.NArg() > 0 {
				return usage("device %s takes no operands; name the vault with --vault", cx.Command.Name)
			}
			return run(cx.Context)
		}
	}
	return &cli.Command{
		Name:  "device",
		Usage: "let this device open the vault without the password; list devices and revoke them",
		Subcommands: []*cli.Command{{
			Name:  "enroll",
			Usage: "make a key for this device, kept by the keyring of the desktop",
			Description: "Without a keyring, --device-key writes the key to a file outside the vault; mount --device-key FILE, or the\n" +
				"systemd credential " + credentialDeviceKey + ", then opens it. An earlier key of this device becomes worthless.\n" +
				"--new-id is for a vault whose directory was put back to an older state or copied from another machine, where sync says\n" +
				"so: it becomes a device of its own. The password is needed, the remote has to be reachable, the vault not mounted.\n" +
				"--no-remote is for a vault that came back from a backup when no remote of it is left: its device becomes one of the\n" +
				"vault at once. Where a remote is left sync enable does that. Both need the password.",
			Flags: append(c.flagsToAsk(),
				&cli.StringFlag{Name: "device-key", Destination: &c.keyFile, Usage: "write the key to `FILE`, which must not exist, or to standard output (-)"},
				&cli.BoolFlag{Name: "new-id", Destination: &c.newID, Usage: "make this copy of the vault another device; what it holds and others lack is kept"},
				&cli.StringFlag{Name: "device-name", Destination: &c.name, Usage: "with --new-id: what other devices call this one; default: the host's `NAME`, with a number if another has it"},
				&cli.BoolFlag{Name: "no-remote", Destination: &c.alone, Usage: "the vault came back from a backup and no remote of it is left: let this device in at once"}),
			Action: noOperands(func(ctx context.Context) error {
				switch {
				case c.newID && c.alone:
					return usage("--new-id and --no-remote exclude each other")
				case c.name != "" && (!c.newID || len(c.name) > seal.MaxDeviceName):
					return usage("--device-name goes with --new-id and has at most %d bytes", seal.MaxDeviceName)
				case c.newID:
					return c.renew(ctx)
				case c.alone:
					return c.enlist(ctx)
				}
				return c.enroll(ctx)
			}),
		}, {
			Name:   "unenroll",
			Usage:  "make the key of this device worthless",
			Flags:  c.flags(),
			Action: noOperands(c.unenroll),
		}, {
			Name:        "list",
			Usage:       "list the devices of the vault",
			Description: "Of a vault that is not mounted it shows what needs no key, unless a password option is given.",
			Flags:       c.flags(),
			Action:      noOperands(c.list),
		}, c.approveCLI(), c.revokeCLI()},
	}
}

// flagsToAsk are the options of a command that makes a device key instead of
// taking one.
func (c *common) flagsToAsk() []cli.Flag {
	var flags []cli.Flag
	for _, f := range c.flags() {
		if f.Names()[0] != "device-key" {
			flags = append(flags, f)
		}
	}
	return flags
}

// enroll stores the key before it reports success; one that cannot be stored
// is taken back.
func (c *deviceCommand) enroll(ctx context.Context) error {
	home, err := selectVault(c.vault)
	if err != nil {
		return err
	}
	if err := checkKeyFile(home, c.keyFile); err != nil {
		return err
	}
	cl, err := c.connectHome(ctx, home)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	var answer keyAnswer
	if err := cl.call(ctx, callEnroll, none{}, &answer); err != nil {
		return err
	}
	defer clear(answer.Key)
	if err := c.keep(home, answer.Key); err != nil {
		return errors.Join(err, cl.call(ctx, callUnenroll, none{}, nil))
	}
	if c.keyFile == "-" {
		return nil
	}
	if c.json {
		return c.ui.writeJSON(map[string]any{"vault": home.id, "enrolled": true, "key_file": c.keyFile})
	}
	if c.keyFile != "" {
		c.ui.note("This device is enrolled: vaultdrive mount --device-key %s opens the vault.", shellQuote(c.keyFile))
	} else {
		c.ui.note("This device is enrolled: the keyring opens the vault.")
	}
	return nil
}

func (c *deviceCommand) keep(home vaultHome, key []byte) error {
	switch c.keyFile {
	case "":
		return keyringSet(home, key)
	case "-":
		_, err := c.ui.out.Write(key)
		return err
	}
	return writeDeviceKey(c.keyFile, key)
}

// checkKeyFile refuses a key beside the lock it opens, and finds a file that
// exists before anything is changed.
func checkKeyFile(home vaultHome, path string) error {
	if path == "" || path == "-" {
		return nil
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if real, err := filepath.EvalSymlinks(filepath.Dir(abs)); err == nil {
		abs = filepath.Join(real, filepath.Base(abs))
	}
	if within(abs, home.path) {
		return usage("%s lies inside the vault: whoever takes the vault would have its key", path)
	}
	if _, err := os.Lstat(abs); err == nil {
		return fail(os.ErrExist, "", "%s already exists", path)
	}
	return nil
}

func (c *deviceCommand) unenroll(ctx context.Context) error {
	home, err := selectVault(c.vault)
	if err != nil {
		return err
	}
	cl, err := c.connectHome(ctx, home)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	if err := cl.call(ctx, callUnenroll, none{}, nil); err != nil {
		return err
	}
	// The key opens nothing any more; that it may stay in a keyring that
	// cannot be reached now is no failure.
	if err := keyringDelete(home); err != nil && !errors.Is(err, errKeyring) {
		return err
	}
	if c.json {
		return c.ui.writeJSON(map[string]any{"vault": home.id, "enrolled": false})
	}
	return nil
}

func readVaultHeader(home vaultHome) (*seal.SignedHeader, error) {
	b, err := readBounded(filepath.Join(home.path, headerFile), maxHeader)
	if err != nil {
		return nil, err
	}
	return seal.ParseEnvelope(b)
}

// thisDevice is what device.key names, unverified; zero when it cannot be read.
func thisDevice(home vaultHome) (id seal.ID) {
	if b, err := readBounded(filepath.Join(home.path, "device.key"), maxHeader); err == nil && len(b) >= len(id) {
		copy(id[:], b)
	}
	return id
}
