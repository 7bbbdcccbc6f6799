package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// initCommand makes a vault.
type initCommand struct {
	common
	label string
	kdf   string
	write string
}

func initCLI(u *ui) *cli.Command {
	c := &initCommand{common: common{ui: u}}
	return &cli.Command{
		Name:  "init",
		Usage: "make a new vault",
		Description: "--vault NAME makes it below the data directory, --vault DIR (with a slash) in a directory of its own, which\n" +
			"must be empty or not exist.",
		Flags: append(c.flagsToAsk(),
			&cli.StringFlag{Name: "label", Destination: &c.label, Usage: "what --vault calls it on this device; default: the `NAME` or the directory's"},
			&cli.StringFlag{Name: "kdf", Destination: &c.kdf, Value: "default", Usage: "`COST` of an unlock: default (256 MiB of memory) or low (64 MiB)"},
			&cli.StringFlag{Name: "write", Destination: &c.write, Value: "auto", Usage: "`FORMAT` of contents: auto (small files readable by every client) or v4"},
		),
		Action: func(cx *cli.Context) error {
			if cx.NArg() > 0 {
				return usage("init takes no operands; say where with --vault")
			}
			return c.Run(cx.Context)
		},
	}
}

// Run makes the vault and says what to do next.
func (c *initCommand) Run(ctx context.Context) error {
	o, err := c.createOptions()
	if err != nil {
		return err
	}
	if o.Password, err = c.newPassword(ctx); err != nil {
		return err
	}
	defer clear(o.Password)
	result, err := vaultcore.Create(ctx, o)
	if err != nil {
		return err
	}
	return c.show(o, result)
}

func (c *initCommand) createOptions() (vaultcore.CreateOptions, error) {
	o := vaultcore.CreateOptions{Label: c.label, KDF: vaultcore.ChildKDF, Vault: seal.NewID()}
	switch c.kdf {
	case "default":
		o.Params = seal.DefaultKDF()
	case "low":
		o.Params = seal.LowKDF()
	default:
		return o, usage("--kdf %s: it is default or low", c.kdf)
	}
	switch c.write {
	case "auto":
		o.Write = seal.WriteAuto
	case "v4":
		o.Write = seal.WriteV4
	default:
		return o, usage("--write %s: it is auto or v4", c.write)
	}
	if isVaultPath(c.vault) {
		o.Home = c.vault
		label := o.Label
		if label == "" {
			abs, err := filepath.Abs(c.vault)
			if err != nil {
				return o, err
			}
			label = filepath.Base(abs)
		}
		return o, errors.Join(checkLabel(label), refuseHome(o.Home))
	}
	o.Home = filepath.Join(dataDir(), "vaults", o.Vault.UUID())
	if o.Label == "" {
		o.Label = c.vault
	}
	if o.Label == "" {
		o.Label = "vault"
	}
	if err := checkLabel(o.Label); err != nil {
		return o, err
	}
	return o, refuseLabel(o.Label)
}

// checkLabel refuses what vaultcore would, before anybody types a password.
func checkLabel(label string) error {
	bad := label == "" || len(label) > maxLabel || strings.ContainsRune(label, '/') || strings.ContainsAny(label[:1], ".-") ||
		strings.TrimSpace(label) != label || !utf8.ValidString(label) ||
		strings.ContainsFunc(label, func(r rune) bool { return !unicode.IsPrint(r) })
	if !bad {
		return nil
	}
	return fail(vaultcore.ErrName, fmt.Sprintf("a name has up to %d bytes, no slash, and no dot, dash or space at its start; --label NAME sets it", maxLabel),
		"%q cannot be the name of a vault", label)
}

// refuseHome finds out before the password whether the place is free.
func refuseHome(home string) error {
	entries, err := os.ReadDir(home)
	if err == nil && len(entries) > 0 {
		return fail(vaultcore.ErrExist, "choose a directory that is empty or does not exist", "%s is not empty", home)
	}
	return nil // what else may be wrong is said when it is made
}

// refuseLabel keeps names apart: --vault could not tell two alike.
func refuseLabel(label string) error {
	homes, err := listVaults()
	if err != nil {
		return err
	}
	for _, h := range homes {
		if h.label == label {
			return fail(vaultcore.ErrExist, "choose another name with --vault NAME", "there is a vault called %q already: %s", label, h.path)
		}
	}
	return nil
}

func (c *initCommand) newPassword(ctx context.Context) ([]byte, error) {
	password, err := c.password.given(ctx, c.ui)
	if password == nil && err == nil {
		tty, ttyErr := terminal()
		if ttyErr != nil {
			return nil, ttyErr
		}
		tty.Close()
		c.ui.note("Nobody can reset this password: without it only a recovery kit, made with it beforehand, opens the vault.\n" +
			"Take at least 12 characters, or several words.")
		password, err = promptTwice(ctx, "New password")
	}
	if err != nil {
		return nil, err
	}
	return password, seal.CheckPassword(password)
}

// initView is what init prints with --json.
type initView struct {
	Vault  string `json:"vault"`
	Label  string `json:"label"`
	Home   string `json:"home"`
	Device string `json:"device"`
	DID    string `json:"did"`
}

func (c *initCommand) show(o vaultcore.CreateOptions, r vaultcore.CreateResult) error {
	if o.Label == "" {
		o.Label = filepath.Base(r.Home)
	}
	if c.json {
		return c.ui.writeJSON(initView{r.Vault.UUID(), o.Label, r.Home, r.Device.UUID(), r.DID})
	}
	with := ""
	if isVaultPath(c.vault) {
		with = " --vault " + shellQuote(r.Home)
	} else if homes, err := listVaults(); err == nil && len(homes) > 1 {
		with = " --vault " + shellQuote(o.Label)
	}
	c.ui.printf("Vault %s is ready in %s\n\n", c.ui.name(o.Label), c.ui.name(r.Home))
	c.ui.printf("Next:\n")
	c.ui.printf("  mkdir -p ~/Vault && vaultdrive mount%s ~/Vault   # use it as a drive\n", with)
	c.ui.printf("  vaultdrive kit create%s                          # print a recovery kit, should the password be lost\n", with)
	c.ui.printf("  vaultdrive device enroll%s                       # mount without typing the password on this machine\n", with)
	return nil
}

// shellQuote makes a word of any string for the commands shown to a person.
func shellQuote(s string) string {
	safe := func(r rune) bool {
		return strings.ContainsRune("/.-_:%@+,=", r) || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	}
	quoted := make([]rune, 0, len(s)+2)
	plain := s != ""
	for _, r := range s {
		plain = plain && safe(r)
		if r == '\'' {
			quoted = append(quoted, []rune(`'\'`)...)
		}
		quoted = append(quoted, r)
	}
	if plain {
		return s
	}
	return fmt.Sprintf("'%s'", string(quoted))
}
