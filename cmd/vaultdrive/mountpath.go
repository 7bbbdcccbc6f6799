package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// pathUse says what a command does with the paths it is given.
type pathUse bool

const (
	toFind pathUse = false // they have to exist
	toMake pathUse = true  // they may come into being
)

// locate finds the vault a command with paths means. A path to a file in a mount of
// ours means the vault mounted there, unless --vault names another; such paths are
// rewritten to what they are in the vault.
func (c *common) locate(paths []string, use pathUse) (vaultHome, error) {
	at, err := recordCovering(paths, use)
	if err != nil {
		return vaultHome{}, err
	}
	if at == nil {
		return selectVault(c.vault)
	}
	home := readHome(at.Home)
	if c.vault != "" {
		if home, err = selectVault(c.vault); err != nil || home.slot() != at.slot() {
			return home, err
		}
	}
	for i, p := range paths {
		if rest, ok := at.inVault(p, use); ok {
			paths[i] = rest
		}
	}
	return home, nil
}

// recordCovering finds the mount that paths lie in; nil when in none.
func recordCovering(paths []string, use pathUse) (at *mountRecord, err error) {
	for _, r := range recordsHere() {
		inside := func(p string) bool { _, ok := r.inVault(p, use); return ok }
		if !slices.ContainsFunc(paths, inside) || !r.seen() {
			continue
		}
		if at != nil {
			return nil, fail(errAmbiguous, "do one after the other", "the paths lie in two vaults, on %s and on %s", at.MountPoint, r.MountPoint)
		}
		at = &r
	}
	return at, nil
}

// inVault gives the path in the vault of a file in the mount. A slash at the end
// stays: it asks for a directory.
func (r mountRecord) inVault(p string, use pathUse) (string, bool) {
	if filepath.IsAbs(p) {
		return r.below(p)
	}
	dir := workingDir()
	if dir == "" || p == "" {
		return "", false
	}
	full := filepath.Join(dir, p)
	if strings.HasSuffix(p, "/") {
		full += "/"
	}
	rest, ok := r.below(full)
	if !ok || !r.meansFile(full, p, use) {
		return "", false
	}
	return rest, true
}

// below is inVault for an absolute path.
func (r mountRecord) below(p string) (string, bool) {
	clean := filepath.Clean(p)
	if !within(clean, r.MountPoint) {
		return "", false
	}
	rest := r.Asset + strings.TrimPrefix(clean, strings.TrimSuffix(r.MountPoint, "/"))
	if strings.HasSuffix(p, "/") {
		rest += "/"
	}
	return "/" + strings.TrimPrefix(rest, "/"), true
}

// meansFile decides what a relative path means where it can be read in two ways: as
// that of a file from the directory where the command runs, which is full, or as a
// path of the vault. What exists counts, the file first; what is to be made lies where
// its directory is.
func (r mountRecord) meansFile(full, inVault string, use pathUse) bool {
	first, _, _ := strings.Cut(inVault, "/")
	if first == "." || first == ".." || r.exists(full) {
		return true
	}
	if use == toFind || r.Asset == "" && r.exists(filepath.Join(r.MountPoint, inVault)) {
		return false
	}
	return r.exists(filepath.Dir(filepath.Clean(full)))
}

// exists asks the mount, which may have nobody left to answer.
func (r mountRecord) exists(path string) bool {
	_, err := bounded(context.Background(), systemPatience, func() (os.FileInfo, error) { return os.Lstat(path) })
	return err == nil
}

// workingDir is where the command runs; "" if nobody knows. Unlike os.Getwd it asks
// no file system, which may not answer.
func workingDir() string {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Getcwd(buf)
	if err != nil || n < 2 || buf[0] != '/' {
		return "" // removed, or out of reach
	}
	return string(buf[:n-1])
}
