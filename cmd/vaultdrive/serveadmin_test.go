package main

import (
	"errors"
	"testing"

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
	if err := endMove(); err != nil {
		t.Fatal(err)
	}
	_, end, err := s.openBeside(t.Context())
	if err != nil {
		t.Fatalf("after the move was ended: %v", err)
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
}
