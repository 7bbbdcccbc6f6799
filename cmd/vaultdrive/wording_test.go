package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// said is a command with the exit code and a part of what it says.
type said struct {
	line string
	code int
	part string
}

func (p *place) says(tests ...said) {
	p.t.Helper()
	for _, test := range tests {
		code, out, err := p.run(strings.Fields(test.line)...)
		if code != test.code || !strings.Contains(out+err, test.part) {
			p.t.Errorf("%s: exit code %d, said\n%s%s\nwant %d and %q", test.line, code, out, err, test.code, test.part)
		}
	}
}

func TestErrorsNameTheThing(t *testing.T) {
	p := newPlace(t)
	p.ok("asset", "add", "A")
	p.ok("asset", "add", "B")
	p.input = "x"
	p.ok("put", "-p", "-", "A/s/f")
	p.says(
		said{"rm nope", 20, "not found: nope"}, said{"rm -f nope", 0, ""}, said{"rm -rf nope", 0, ""}, said{"rm A", 23, "A is an asset"},
		said{"mv A/s A/s/t", 34, "A/s cannot be moved into itself"},
		said{"asset rename nope C", 20, `no asset called "nope"`}, said{"asset rename A B", 21, "B: already exists"},
		said{"asset rm nope", 20, `no asset called "nope"`}, said{"asset add a/b", 24, "hint: a title"},
		said{"put - A/s/f", 21, "--force"}, said{"asset add A", 21, "hint: choose another name\n"},
		said{"trash restore nope", 20, "vaultdrive trash list"},
		said{"init --vault ./other --label x/y", 24, `"x/y" cannot be the name`},
		said{"rm --help", 0, "younger than a minute"},
	)
}

func TestMissingPartsArePutBack(t *testing.T) {
	p := newPlace(t)
	for _, name := range []string{headerFile, "vault.db", "local.key", "device.key"} {
		path := filepath.Join(p.home, name)
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
		p.says(said{"ls --vault " + p.home + "/", 5, "put " + name + " back from a copy"})
		if _, _, err := p.run("ls"); strings.Contains(err, "init makes") {
			t.Errorf("%s: %s", name, err)
		}
		if err := os.Rename(path+".away", path); err != nil {
			t.Fatal(err)
		}
	}
	foreign := partHint(errors.Join(vaultcore.ErrForeignHeader, errors.New("vault.db belongs to another vault")))
	if hint := hintOf(foreign); hint != putBack("vault.db") {
		t.Errorf("hint for a foreign vault.db: %q", hint)
	}
}

func TestReadOnlyDiskIsSaid(t *testing.T) {
	wire := toWire(vaultcore.ErrReadOnly)
	if err := (&client{lockedDisk: true}).failureOf(wire); !errors.Is(err, vaultcore.ErrReadOnlyDisk) || strings.Contains(hintOf(err), "--read-only") {
		t.Errorf("%v, hint %q", err, hintOf(err))
	}
}

func TestEmptyAnswersAreJSON(t *testing.T) {
	p := newPlace(t)
	for _, line := range []string{"trash list --json", "wait --json"} {
		var v any
		if out := p.ok(strings.Fields(line)...); json.Unmarshal([]byte(out), &v) != nil || v == nil {
			t.Errorf("%s: %q", line, out)
		}
	}
	u, out, _ := testUI()
	c := &checkCommand{common: common{ui: u}}
	if err := c.show(vaultcore.CheckReport{Problems: []vaultcore.Problem{{Kind: "orphan", Detail: "no row names it"}}}, 1); err != nil ||
		!strings.HasPrefix(out.String(), "orphan: no row names it\n") {
		t.Errorf("orphan: %q, %v", out, err)
	}
}

func TestSeveralOperands(t *testing.T) {
	p := newPlace(t)
	p.ok("asset", "add", "A")
	p.ok("asset", "add", "B")
	p.input = "x"
	p.ok("put", "-", "A/f")
	if out := p.ok("ls", "A", "B"); out != "A:\nf\n\nB:\n" {
		t.Errorf("ls A B: %q", out)
	}
	if out := p.ok("ls", "B", "A/f"); out != "f\n\nB:\n" {
		t.Errorf("ls B A/f: %q", out)
	}
	code, out, err := p.run("status", "A", "nope", "B")
	if code != 20 || !strings.Contains(out, "path        A\n") || !strings.Contains(out, "path        B\n") || !strings.Contains(err, "nope") {
		t.Errorf("status A nope B: exit code %d, %s%s", code, out, err)
	}
}

// TestGetGoesOn: one damaged file does not cost the others.
func TestGetGoesOn(t *testing.T) {
	p := newPlace(t)
	tree := filepath.Join(p.dir, "tree")
	if err := errors.Join(os.Mkdir(tree, 0o700), os.WriteFile(filepath.Join(tree, "a"), make([]byte, 3<<20), 0o600),
		os.WriteFile(filepath.Join(tree, "b"), []byte("whole"), 0o600)); err != nil {
		t.Fatal(err)
	}
	p.ok("put", tree, "Tree")
	damaged := 0
	err := filepath.WalkDir(p.home, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.HasPrefix(e.Name(), "vault.db") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil || len(b) < 3<<20 {
			return err
		}
		damaged++
		b[len(b)/2] ^= 1
		return os.WriteFile(path, b, 0o600)
	})
	if err != nil || damaged != 1 {
		t.Fatalf("%d damaged, %v", damaged, err)
	}
	out := filepath.Join(p.dir, "out")
	code, _, text := p.run("get", "Tree", out)
	if code != 31 || !strings.Contains(text, "Tree/a") {
		t.Errorf("exit code %d, %s; want 31 and Tree/a", code, text)
	}
	if b, err := os.ReadFile(filepath.Join(out, "b")); string(b) != "whole" {
		t.Errorf("b: %q, %v", b, err)
	}
}

func TestPasswordsThatChangeNothing(t *testing.T) {
	p := newPlace(t)
	pw := filepath.Join(p.dir, "pw")
	p.says(said{"passwd --password-file " + pw + " --new-password-file " + pw, 34, "the same as the old one"},
		said{"init --device-key x", 2, "device-key"}, said{"kit create --help", 0, "a device key cannot do this"},
		said{"passwd --help", 0, "a device key cannot"})
}

func TestCompletionKnowsTheCommand(t *testing.T) {
	p := newPlace(t)
	p.says(said{completeCommand + " passwd --kdf k", 0, "keep\n"}, said{completeCommand + " init --kdf l", 0, "low\n"},
		said{completeCommand + " --v", 0, "--version\n"})
	if out := p.ok(completeCommand, "init", "--kdf", "k"); out != "" {
		t.Errorf("init --kdf k: %q", out)
	}
}

func TestMountHelperSpeaks(t *testing.T) {
	p := newPlace(t)
	for _, test := range []struct {
		args []string
		code int
		part string
	}{
		{[]string{"--help"}, 0, "allow_other"},
		{[]string{p.home, p.dir, "-o", "bogus"}, exitMountFailed, "the options are ro, rw"},
		{[]string{p.home, p.dir, "-o", "remount,ro"}, exitMountFailed, "cannot be remounted"},
		{[]string{p.home, p.dir, "-s", "-o", "bogus"}, exitMountFailed, "mount point"}, // got past the options
	} {
		u, out, err := testUI()
		if code := runMountHelper(t.Context(), u, test.args); code != test.code || !strings.Contains(out.String()+err.String(), test.part) {
			t.Errorf("%q: exit code %d, said %s%s; want %d and %q", test.args, code, out, err, test.code, test.part)
		}
	}
}

func TestOnlyVault(t *testing.T) {
	here, there, far := vaultHome{path: "/a", id: "1"}, vaultHome{path: "/b", id: "2"}, vaultHome{path: "/c", id: "3"}
	for name, test := range map[string]struct {
		homes, mounted []vaultHome
		want           string
	}{
		"none mounted":        {[]vaultHome{here}, nil, "/a"},
		"outside":             {nil, []vaultHome{far}, "/c"},
		"one of two mounted":  {[]vaultHome{here, there}, []vaultHome{there}, "/b"},
		"two, both mounted":   {[]vaultHome{here, there}, []vaultHome{here, there}, ""},
		"two, neither is":     {[]vaultHome{here, there}, nil, ""},
		"several far mounted": {nil, []vaultHome{there, far}, ""},
	} {
		if got, err := onlyVault(test.homes, test.mounted); got.path != test.want || (err != nil) != (test.want == "") {
			t.Errorf("%s: %v, %v; want %q", name, got, err, test.want)
		}
	}
}
