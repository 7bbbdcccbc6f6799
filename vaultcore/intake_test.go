package vaultcore

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"testing"
	"testing/iotest"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// intakeFile makes an empty file to receive into.
func intakeFile(t *testing.T) (dir string, f *blob.File) {
	t.Helper()
	dir = t.TempDir()
	d, err := blob.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if f, err = d.CreateFile("f"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return dir, f
}

// What comes is in the file, whatever the reader's manners.
func TestTakeIn(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 4095, intakePiece - 1, intakePiece, intakePiece + 1, 5*intakePiece + 77} {
		want := randomBytes(size, 1)
		for name, r := range map[string]io.Reader{
			"plain": bytes.NewReader(want), "half": iotest.HalfReader(bytes.NewReader(want)), "end with the bytes": iotest.DataErrReader(bytes.NewReader(want)),
		} {
			dir, f := intakeFile(t)
			n, sum, err := takeIn(f, r, int64(size))
			if err != nil || n != int64(size) || sum != sha256.Sum256(want) {
				t.Errorf("%d bytes, %s: %d, %v", size, name, n, err)
			}
			if got, err := os.ReadFile(dir + "/f"); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes, %s: the file has %d, %v", size, name, len(got), err)
			}
		}
	}
}

// A reader that breaks off is its error, also with the words of an early end; a disk
// that refuses ends the reading soon.
func TestTakeInFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for _, why := range []error{broken, io.ErrUnexpectedEOF} {
		_, f := intakeFile(t)
		r := io.MultiReader(bytes.NewReader(randomBytes(3*intakePiece+5, 2)), iotest.ErrReader(why))
		if n, _, err := takeIn(f, r, 9*intakePiece); err != why || n != 3*intakePiece+5 {
			t.Errorf("%d bytes, %v instead of %v", n, err, why)
		}
	}
	dir, f := intakeFile(t)
	os.Remove(dir + "/f") // or it would be opened again by its name
	f.Close()
	if n, _, err := takeIn(f, zeros{}, 1<<40); !errors.Is(err, os.ErrClosed) || n > 5*intakePiece {
		t.Errorf("%d bytes taken, %v", n, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
