package main

import (
	"context"
	"errors"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

func kitFileFlag(file *string) cli.Flag {
	return &cli.StringFlag{Name: "kit-file", Destination: file, Usage: "read the kit from `FILE` instead of asking (- is standard input)"}
}

func newPasswordFlags(next *passwordSource) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "new-password-file", Destination: &next.file, Usage: "read the new password from `FILE`"},
		&cli.IntFlag{Name: "new-password-fd", Destination: &next.fd, Value: -1, DefaultText: "none", Usage: "read the new password from descriptor `N`"},
		&cli.StringFlag{Name: "new-password-command", Destination: &next.command, Usage: "read the new password from the output of `CMD`"},
	}
}

// restore sets a new password by the kit.
func (c *kitCommand) restore(ctx context.Context) error {
	home, err := selectVault(c.vault)
	if err != nil {
		return err
	}
	sheet, err := readKit(ctx, c.ui, c.file)
	if err != nil {
		return err
	}
	if c.did != "" {
		sheet.kit.DID = c.did
	}
	if sheet.kit.DID == "" {
		if header, err := readVaultHeader(home); err == nil {
			c.ui.note("Identity of this vault: %s\nIt must be the one on your kit.", header.DID)
		}
	}
	cl, err := c.connectByKit(ctx, home, sheet.kit)
	if err != nil {
		return err
	}
	defer cl.close(ctx)
	password, err := newPasswordFrom(ctx, c.ui, &c.next)
	if err != nil {
		return err
	}
	defer clear(password)
	access, err := (&accessSource{}).find("")
	if err != nil {
		return err
	}
	request := kitRequest{Secret: []byte(sheet.kit.Secret), DID: sheet.kit.DID, New: password, Access: access}
	if err := c.restoreThrough(ctx, cl, request); err != nil {
		return err
	}
	if c.json {
		return c.ui.writeJSON(map[string]any{"vault": home.id, "changed": true})
	}
	c.ui.note("The new password opens the vault. The kit stays good.")
	return nil
}

// connectByKit opens the vault by the kit, unless it is mounted.
func (c *kitCommand) connectByKit(ctx context.Context, home vaultHome, kit vaultcore.TypedKit) (*client, error) {
	if cl, err := dialVault(ctx, home); err != nil || cl != nil {
		return cl, err
	}
	creds := &credentials{kit: &kit, deviceKey: c.password.storedKey(home)}
	defer creds.wipe()
	return c.openLocal(ctx, home, creds)
}

func (c *kitCommand) restoreThrough(ctx context.Context, cl *client, request kitRequest) error {
	bar := c.ui.progress("seal file keys", false)
	defer bar.finish()
	begun := false
	err := cl.stream(ctx, callKitRestore, request, func(f frame) error {
		begun = true
		bar.set(f.Done, f.Total)
		return nil
	})
	if begun && (errors.Is(err, context.Canceled) || errors.Is(err, errDaemonLost)) {
		return nil // the password is set; the rest of the file keys follows by itself
	}
	return err
}

// kitSheet is what was read of a recovery kit.
type kitSheet struct {
	kit     vaultcore.TypedKit
	address string // empty without one
}

// readKit reads a kit from a file or asks for its secret.
func readKit(ctx context.Context, u *ui, file string) (kitSheet, error) {
	if file == "" {
		secret, err := askLine(ctx, "Secret of the kit: ")
		return kitSheet{kit: vaultcore.TypedKit{Secret: secret}}, err
	}
	var b []byte
	var err error
	if file == "-" {
		b, err = readPassword(u.in, "standard input")
	} else {
		b, err = readBounded(file, maxKit)
	}
	if err != nil {
		return kitSheet{}, err
	}
	defer clear(b)
	return parseSheet(string(b)), nil
}

// parseSheet reads what kit create printed. Anything else is taken for the secret
// itself.
func parseSheet(text string) kitSheet {
	secret, below := sheetField(text, "Secret")
	if secret == "" {
		return kitSheet{kit: vaultcore.TypedKit{Secret: strings.TrimSpace(text)}}
	}
	var s kitSheet
	s.kit.Secret = strings.Join(strings.Fields(secret+" "+below), "-")
	s.kit.DID, _ = sheetField(text, "Identity")
	if s.address, _ = sheetField(text, "Address"); s.address == "" {
		// Printed before sync was enabled. All but a server do without the token.
		_, id := sheetField(text, "Vault")
		if vault, err := seal.ParseUUID(id); err == nil && s.kit.DID != "" {
			s.address = seal.FormatAddress(vault, seal.ID{}, s.kit.DID)
		}
	}
	return s
}

// sheetField finds the rest of the line that begins with name, and the line below.
func sheetField(text, name string) (rest, below string) {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
			if i+1 < len(lines) {
				below = strings.TrimSpace(lines[i+1])
			}
			return strings.TrimSpace(rest), below
		}
	}
	return "", ""
}
