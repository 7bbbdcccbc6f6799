package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestRelativePaths: inside a mount, or beside it, a path means the file that it means
// to every other program; else it is one of the vault.
func TestRelativePaths(t *testing.T) {
	p := newPlace(t)
	for _, title := range []string{"Tax", "Letters"} {
		p.ok("asset", "add", title)
	}
	p.input = "of tax"
	p.ok("put", "-p", "-", "Tax/2026/f")
	p.input = "a letter"
	p.ok("put", "-", "Letters/f")
	p.input = ""
	_, root := p.mounted()
	t.Chdir(filepath.Join(root, "Tax"))
	p.says(
		said{"get 2026/f -", 0, "of tax"},
		said{"get ./2026/f -", 0, "of tax"},
		said{"get ../Letters/f -", 0, "a letter"},
		said{"get Letters/f -", 0, "a letter"}, // there is none of that name here
		said{"wait --local 2026/f", 0, ""},
		said{"status 2026/f", 0, "f"},
		said{"ls .", 0, "2026"},
		said{"ls ./none", 20, "Tax/none"},
		said{"mv 2026/f g", 0, ""},
		said{"get Tax/g -", 0, "of tax"},
		said{"mv g Letters", 0, ""}, // an asset is there already
		said{"get Letters/g -", 0, "of tax"},
	)
	t.Chdir(filepath.Dir(root))
	p.says(
		said{"get " + filepath.Base(root) + "/Letters/g -", 0, "of tax"},
		said{"rm " + filepath.Base(root) + "/Letters/g", 0, ""},
		said{"get Letters/f -", 0, "a letter"},
	)
	if _, err := os.Stat(filepath.Join(root, "Letters", "g")); !os.IsNotExist(err) {
		t.Errorf("it was not removed: %v", err)
	}
}

func TestAddressOfRemote(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.Mkdir("nas", 0o700); err != nil {
		t.Fatal(err)
	}
	for arg, want := range map[string]string{
		"":                    "",
		"nas":                 "file://" + dir + "/nas",
		"./my nas":            "file://" + dir + "/my%20nas",
		"/mnt/a:b":            "file:///mnt/a:b",
		"..":                  "file://" + filepath.Dir(dir),
		"none":                "none",
		"file:///nas":         "file:///nas",
		"s3://b/p?endpoint=x": "s3://b/p?endpoint=x",
		"https://host":        "https://host",
	} {
		if got := addressOfRemote(arg); got != want {
			t.Errorf("%q is %q, not %q", arg, got, want)
		}
	}
}
