package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/vaultdrive/vaultdrive/remote/server/metadb"
)

// Commands that change a server's database go beside it and each other, and never
// beside a move: what they wrote would stay behind.
func TestNoChangeWhileMoving(t *testing.T) {
	s := &serveStores{ui: &ui{}, data: t.TempDir()}
	running, err := s.lock()
	if err != nil {
		t.Fatal(err)
	}
	_, endOne, err := s.openBeside(t.Context())
	if err != nil {
		t.Fatalf("beside a server: %v", err)
	}
	_, endTwo, err := s.openBeside(t.Context())
	if err != nil {
		t.Fatalf("beside another: %v", err)
	}
	if err := errors.Join(endTwo(), running.Close()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.alone(t.Context(), true); !errors.Is(err, metadb.ErrInUse) || hintOf(err) == "" {
		t.Errorf("a move while the database is changed: %v, hint %q", err, hintOf(err))
	}
	if err := endOne(); err != nil {
		t.Fatal(err)
	}
	_, endMove, err := s.alone(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.openBeside(t.Context()); !errors.Is(err, metadb.ErrInUse) || hintOf(err) == "" {
		t.Errorf("a change during a move: %v, hint %q", err, hintOf(err))
	}
	if _, err := s.lock(); !errors.Is(err, metadb.ErrInUse) || !strings.Contains(hintOf(err), "serve migrate has ended") {
		t.Errorf("a server during a move: %v, hint %q", err, hintOf(err))
	}
	if err := endMove(); err != nil {
		t.Fatal(err)
	}
	// A lock that cannot be made is no move.
	other := &serveStores{ui: &ui{}, data: t.TempDir()}
	for _, name := range []string{movingLock, "serve.lock"} {
		if err := os.Mkdir(filepath.Join(other.data, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := other.openBeside(t.Context()); !errors.Is(err, unix.EISDIR) || errors.Is(err, metadb.ErrInUse) {
		t.Errorf("a lock that is a folder: %v", err)
	}
	if _, err := other.lock(); !errors.Is(err, unix.EISDIR) || errors.Is(err, errMounted) {
		t.Errorf("a lock that is a folder: %v", err)
	}
	_, end, err := s.openBeside(t.Context())
	if err != nil {
		t.Fatalf("after the move was ended: %v", err)
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
}

// A directory that no server has used is not taken for one without accounts, nor
// made; an invitation may come before the server, and says so.
func TestNoServerThere(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "mistyped")
	run := func(args ...string) (string, string, error) {
		var out, log bytes.Buffer
		app := &cli.App{Writer: &out, Commands: []*cli.Command{serveCLI(&ui{out: &out, err: &log})}}
		err := app.RunContext(t.Context(), append([]string{"vaultdrive", "serve"}, args...))
		return out.String(), log.String(), err
	}
	for _, args := range [][]string{{"list"}, {"disable"}, {"set-plan"}} {
		operands := map[string][]string{"disable": {"some-vault"}, "set-plan": {"some-vault", "free"}}[args[0]]
		if _, _, err := run(append([]string{"account", args[0], "--data", missing}, operands...)...); !errors.Is(err, fs.ErrNotExist) || hintOf(err) == "" {
			t.Errorf("account %s: %v", args[0], err)
		}
	}
	if _, err := os.Stat(missing); err == nil {
		t.Error("a command about accounts made the directory")
	}
	if _, _, err := run("account", "list", "--data", missing, "operand"); !errors.Is(err, errUsage) {
		t.Errorf("account list with an operand: %v", err)
	}
	code, said, err := run("invite", "--data", missing)
	if err != nil || len(code) != 33 || !strings.Contains(said, missing) {
		t.Errorf("invite before the server: %q, %q, %v", code, said, err)
	}
	if _, said, err = run("invite", "--data", missing); err != nil || said != "" {
		t.Errorf("invite again: %q, %v", said, err)
	}
	if _, _, err := run("account", "list", "--data", missing); err != nil {
		t.Errorf("account list: %v", err)
	}
	for _, address := range []string{"mysql://db/x", "vaults", "/srv/meta.db"} {
		if _, _, err := run("invite", "--data", missing, "--database", address); !errors.Is(err, errUsage) {
			t.Errorf("--database %s: %v", address, err)
		}
	}
}
