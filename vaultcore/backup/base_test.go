package backup

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// base lets a checkpoint stand for all of the log so far.
func (s *source) base() vaultcore.CheckpointID {
	s.t.Helper()
	var b *seal.Batch
	for range 2 {
		var err error
		if b, _, err = s.Seal(s.t.Context(), vaultcore.SealOptions{Empty: true}); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := s.Pushed(s.t.Context(), b.Seq); err != nil {
		s.t.Fatal(err)
	}
	c, err := s.WriteCheckpoint(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	s.load(c.CheckpointID, nil)
	return c.CheckpointID
}

func (s *source) load(id vaultcore.CheckpointID, want error) {
	s.t.Helper()
	none := errors.New("not here")
	err := s.LoadCheckpoint(s.t.Context(), id, func(context.Context, int) ([]byte, error) { return nil, none })
	if !errors.Is(err, want) {
		s.t.Fatalf("load: %v, want %v", err, want)
	}
}

// TestBackupOfABase: where a checkpoint stands for the start of the log, the
// backup has it in its place, and the log does not go while one is made.
func TestBackupOfABase(t *testing.T) {
	s := newSource(t)
	if err := s.EnableLedger(t.Context(), "desk"); err != nil {
		t.Fatal(err)
	}
	s.fill()
	first := s.base()
	s.write("Papers/replaced", []byte("third"))
	s.write("Papers/later", []byte("later"))
	want := tree(t, s.Vault)
	b := s.backup()
	if !bytes.Contains(b, []byte("checkpoints/")) || bytes.Contains(b, []byte("/00000000000000000001.vdb")) {
		t.Error("no checkpoint in the backup, or what it stands for")
	}
	if _, err := Check(t.Context(), bytes.NewReader(b), s.DID(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := verify(t, b, testPassword); err != nil {
		t.Fatal(err)
	}
	for _, enroll := range []bool{false, true} {
		back := restore(t, b, testPassword, enroll)
		v := openVault(t, back.Home, testPassword, vaultcore.Options{})
		if got := tree(t, v); got != want {
			t.Errorf("restored\n%s\nwant\n%s", got, want)
		}
		if err := v.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}

	open := s.prepare(Options{})
	if _, _, err := s.Seal(t.Context(), vaultcore.SealOptions{Empty: true}); err != nil {
		t.Fatal(err)
	}
	c, err := s.WriteCheckpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.load(c.CheckpointID, vaultcore.ErrBusy)
	if err := open.WriteTo(t.Context(), &bytes.Buffer{}); err != nil {
		t.Errorf("backup while a checkpoint waits: %v", err)
	}
	open.Close()
	s.load(c.CheckpointID, nil)
	if c.CheckpointID == first {
		t.Error("the same checkpoint twice")
	}
	if _, err := verify(t, s.backup(), testPassword); err != nil {
		t.Error(err)
	}
}
