package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/adrg/xdg"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

const (
	headerFile = "header.json"
	labelFile  = "name"
	// maxHeader bounds what is read to learn a vault's id.
	maxHeader = 1 << 20
)

// vaultHome is a vault as it lies on the disk, locked.
type vaultHome struct {
	path  string // absolute
	id    string // UUID; empty when header.json cannot be read as one
	label string
}

// dataDir is where vaults without a directory of their own live.
func dataDir() string { return filepath.Join(xdg.DataHome, "vaultdrive") }

// isVaultPath tells a directory from a name: a directory has a slash.
func isVaultPath(arg string) bool {
	return strings.ContainsRune(arg, '/') || arg == "." || arg == ".."
}

// selectVault finds the vault that --vault means. Empty means the only one.
func selectVault(arg string) (vaultHome, error) {
	if isVaultPath(arg) {
		path, err := filepath.Abs(arg)
		if err != nil {
			return vaultHome{}, err
		}
		if _, err := os.Stat(filepath.Join(path, headerFile)); err != nil {
			return vaultHome{}, noVaultAt(path, err)
		}
		return readHome(path), nil
	}
	homes, err := listVaults()
	if err != nil {
		return vaultHome{}, err
	}
	return pickVault(arg, homes)
}

func noVaultAt(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fail(fs.ErrPermission, "", "vault %s: permission denied", path)
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrInvalid):
		return fmt.Errorf("vault %s: %w", path, err)
	}
	return fail(vaultcore.ErrNoVault, "", "no vault in %s", path)
}

func pickVault(arg string, homes []vaultHome) (vaultHome, error) {
	var found []vaultHome
	for _, h := range homes {
		if arg == "" || h.label == arg || h.id == arg {
			found = append(found, h)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0 && arg == "":
		return vaultHome{}, fail(vaultcore.ErrNoVault, "", "there is no vault in %s", dataDir())
	case len(found) == 0:
		hint := ""
		if _, err := os.Stat(arg); err == nil {
			hint = "for the directory write ./" + arg
		}
		return vaultHome{}, fail(vaultcore.ErrNoVault, hint, "there is no vault called %q", arg)
	}
	var names []string
	for _, h := range found {
		names = append(names, fmt.Sprintf("%s (%s)", h.label, h.id))
	}
	return vaultHome{}, fail(errAmbiguous, "", "there are several vaults: %s", strings.Join(names, ", "))
}

// listVaults gives the vaults of the data directory in the order of their
// labels.
func listVaults() ([]vaultHome, error) {
	found, err := vaultcore.FindVaults(dataDir())
	if err != nil {
		return nil, err
	}
	var homes []vaultHome
	for _, v := range found {
		homes = append(homes, vaultHome{path: v.Path, id: v.ID.UUID(), label: v.Label})
	}
	return homes, nil
}

// readHome reads what a vault says of itself in clear. A damaged header is
// left to the unlock, which can say what is wrong with it.
func readHome(path string) vaultHome {
	home := vaultHome{path: path, label: filepath.Base(path)}
	if id, err := seal.ParseUUID(home.label); err == nil {
		home.id = id.UUID()
	}
	if b, err := readBounded(filepath.Join(path, labelFile), 4096); err == nil {
		if label := strings.TrimSpace(string(b)); label != "" {
			home.label = label
		}
	}
	if b, err := readBounded(filepath.Join(path, headerFile), maxHeader); err == nil {
		if header, err := seal.ParseEnvelope(b); err == nil {
			home.id = header.Vault.UUID()
		}
	}
	return home
}

// isEnrolled tells whether a device key opens this vault.
func (h vaultHome) isEnrolled() bool {
	_, err := os.Stat(filepath.Join(h.path, "device.slot"))
	return err == nil
}
