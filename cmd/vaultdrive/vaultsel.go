package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/adrg/xdg"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

const (
	headerFile = "header.json"
	labelFile  = "name"
	// maxHeader bounds what is read to learn a vault's id.
	maxHeader = 1 << 20
	// maxLabel is the longest name of a vault, in bytes.
	maxLabel = 100
)

// vaultHome is a vault as it lies on the disk, locked.
type vaultHome struct {
	path  string // absolute
	id    string // UUID; empty when header.json cannot be read as one
	label string
	// device is the beginning of the device's id: one machine may hold a vault
	// more than once, as several devices of it.
	device string
}

// slot names this home among those of its user: socket, record and log of its
// mount, and its key in the keyring.
func (h vaultHome) slot() string {
	if h.id == "" || h.device == "" {
		return h.id
	}
	return h.id + "-" + h.device
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
	if arg != "" {
		return pickVault(arg, homes)
	}
	return onlyVault(homes, mountedHomes())
}

// onlyVault picks the vault that is meant when none is named: the only one, or
// of several the only one that is mounted, wherever it lies.
func onlyVault(homes, mounted []vaultHome) (vaultHome, error) {
	if len(mounted) == 1 {
		return mounted[0], nil
	}
	for _, m := range mounted {
		if !slices.ContainsFunc(homes, func(h vaultHome) bool { return h.slot() == m.slot() }) {
			homes = append(homes, m)
		}
	}
	return pickVault("", homes)
}

// selectToMount is selectVault for mount, which a mounted vault is no answer to.
func selectToMount(arg string) (vaultHome, error) {
	if arg != "" {
		return selectVault(arg)
	}
	homes, err := listVaults()
	if err != nil {
		return vaultHome{}, err
	}
	return pickVault("", homes)
}

func noVaultAt(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fail(fs.ErrPermission, "", "vault %s: permission denied", path)
	case errors.Is(err, syscall.ENOTDIR):
		return fail(vaultcore.ErrNoVault, "--vault DIR names the directory of a vault", "%s: no vault, it is no directory", path)
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrInvalid):
		return fmt.Errorf("vault %s: %w", path, err)
	}
	for _, name := range []string{"vault.db", "local.key", "device.key"} {
		if _, err := os.Lstat(filepath.Join(path, name)); err == nil {
			return fail(vaultcore.ErrNoVault, putBack(headerFile), "vault %s: %s is missing", path, headerFile)
		}
	}
	return fail(vaultcore.ErrNoVault, "", "no vault in %s", path)
}

func putBack(name string) string { return "put " + name + " back from a copy of the vault" }

// partHint says which file of a vault is to be put back. There is a header, so
// this is a vault, and init would make another one.
func partHint(err error) error {
	lacks := errors.Is(err, vaultcore.ErrNoVault)
	if !lacks && !errors.Is(err, vaultcore.ErrForeignHeader) && !errors.Is(err, seal.ErrIdentityMismatch) {
		return err
	}
	for _, name := range []string{"vault.db", "local.key", "device.key", headerFile} {
		if strings.Contains(err.Error(), name) {
			return hinted(err, putBack(name))
		}
	}
	if lacks {
		return hinted(err, "put what is missing back from a copy of the vault")
	}
	return err
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
		names = append(names, fmt.Sprintf("%s in %s", h.label, h.path))
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
		homes = append(homes, vaultHome{path: v.Path, id: v.ID.UUID(), label: v.Label, device: deviceOf(v.Path)})
	}
	return homes, nil
}

// readHome reads what a vault says of itself in clear. A damaged header is
// left to the unlock, which can say what is wrong with it.
func readHome(path string) vaultHome {
	home := vaultHome{path: path, label: filepath.Base(path), device: deviceOf(path)}
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

// deviceOf is the beginning of the id of the device whose home it is.
func deviceOf(path string) string {
	id := thisDevice(vaultHome{path: path})
	if id.IsZero() {
		return ""
	}
	return id.Hex()[:8]
}

// isEnrolled tells whether a device key opens this vault.
func (h vaultHome) isEnrolled() bool {
	_, err := os.Stat(filepath.Join(h.path, "device.slot"))
	return err == nil
}
