package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
