package main

import (
	"context"
	"errors"
	"path"
	"strings"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// cleanPath gives a vault path its one form: no leading slash, no empty parts.
// The root is the empty string.
func cleanPath(p string) string {
	return strings.TrimPrefix(path.Clean("/"+p), "/")
}

// isAssetPath reports whether a clean path names an asset itself.
func isAssetPath(p string) bool { return p != "" && !strings.Contains(p, "/") }

// destination decides like cp and mv where things go: into target, if it is a
// directory of the vault, or else become target, which only one thing can.
type destination struct {
	path string
	dir  bool // path is a directory that exists
}

func (c *client) destination(ctx context.Context, target string, sources int) (destination, error) {
	d := destination{path: cleanPath(target)}
	if d.path == "" {
		return destination{dir: true}, nil
	}
	info, err := c.stat(ctx, d.path)
	switch {
	case err == nil:
		d.dir = isDir(info)
	case !errors.Is(err, vaultcore.ErrNotFound):
		return d, err
	}
	if !d.dir && (sources > 1 || strings.HasSuffix(target, "/")) {
		return d, fail(vaultcore.ErrNotDir, "", "%s is not a directory of the vault", target)
	}
	return d, nil
}

// of gives the path for something called name.
func (d destination) of(name string) string {
	if d.dir {
		return path.Join(d.path, name)
	}
	return d.path
}
