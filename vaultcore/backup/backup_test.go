package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

const (
	testPassword  = "a long enough passphrase"
	laterPassword = "another long passphrase"
)

// quickKDF stands in for Argon2id, which would take most of the time.
func quickKDF(_ context.Context, password []byte, p seal.KDFParams) (seal.Key, error) {
	sum := sha256.Sum256(append(p.Salt[:], password...))
	return seal.KeyFromBytes(sum[:])
}

// source is an open vault that backups are made of.
type source struct {
	*vaultcore.Vault
	t    testing.TB
	home string
}

func newSource(t testing.TB) *source {
	t.Helper()
	s := &source{t: t, home: filepath.Join(t.TempDir(), "vault")}
	_, err := vaultcore.Create(t.Context(), vaultcore.CreateOptions{Home: s.home, Password: []byte(testPassword), KDF: quickKDF, Params: seal.LowKDF()})
	if err != nil {
		t.Fatal(err)
	}
	s.open(testPassword)
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *source) open(password string) {
	s.t.Helper()
	s.Vault = openVault(s.t, s.home, password, vaultcore.Options{})
}

func openVault(t testing.TB, home, password string, o vaultcore.Options) *vaultcore.Vault {
	t.Helper()
	o.KDF = quickKDF
	v, err := vaultcore.Open(context.Background(), home, vaultcore.Credentials{Password: []byte(password)}, o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (s *source) write(path string, data []byte) {
	s.t.Helper()
	w, err := s.OpenWrite(path, vaultcore.WriteOptions{Parents: true})
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		s.t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		s.t.Fatal(err)
	}
}

// fill gives the vault some of everything.
func (s *source) fill() {
	s.t.Helper()
	s.write("Papers/passport.txt", []byte("number 4711"))
	s.write("Papers/deep/er/empty", nil)
	s.write("Papers/large", pattern(3<<20))
	s.write("Papers/replaced", []byte("first"))
	s.write("Papers/replaced", []byte("second"))
	s.write("Papers/deleted", []byte("gone"))
	if _, err := s.MakeLink("Papers/link", "to/nowhere", false); err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.AddAsset("A note", "note"); err != nil {
		s.t.Fatal(err)
	}
	if err := s.Remove("Papers/deleted", false); err != nil {
		s.t.Fatal(err)
	}
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

func (s *source) prepare(o Options) *Backup {
	s.t.Helper()
	if o.Name == "" {
		o.Name = "desk"
	}
	if o.Now.IsZero() {
		o.Now = time.Unix(1_790_000_000, 0)
	}
	b, err := Prepare(s.t.Context(), s.Vault, o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(b.Close)
	return b
}

func (s *source) backup() []byte {
	s.t.Helper()
	b := s.prepare(Options{})
	var out bytes.Buffer
	if err := b.WriteTo(s.t.Context(), &out); err != nil {
		s.t.Fatal(err)
	}
	if int64(out.Len()) != b.Size {
		s.t.Fatalf("%d bytes written, %d announced", out.Len(), b.Size)
	}
	b.Close()
	return out.Bytes()
}

// opening opens with a password.
func opening(password string) Opening {
	return Opening{Name: "laptop", KDF: quickKDF, Password: func(context.Context, *seal.Manifest) ([]byte, error) { return []byte(password), nil }}
}

func verify(t testing.TB, b []byte, password string) (*Report, error) {
	t.Helper()
	return Verify(t.Context(), bytes.NewReader(b), opening(password), t.TempDir())
}

func restore(t testing.TB, b []byte, password string, enroll bool) *Restored {
	t.Helper()
	r, err := Restore(t.Context(), bytes.NewReader(b), opening(password), filepath.Join(t.TempDir(), "back"), "", enroll)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// tree lists everything in a vault with its content, mode and time.
func tree(t testing.TB, v *vaultcore.Vault) string {
	t.Helper()
	var lines []string
	err := v.List("", true, func(i vaultcore.Info) error {
		line := fmt.Sprintf("%s %s %s %o", i.Path, i.Kind, i.Type, i.Mode)
		switch i.Kind {
		case "file":
			r, err := v.OpenRead(i.Path)
			if err != nil {
				return err
			}
			defer r.Close()
			h := sha256.New()
			if _, err := io.Copy(h, r); err != nil {
				return fmt.Errorf("%s: %w", i.Path, err)
			}
			line += fmt.Sprintf(" %d %x %d", i.Size, h.Sum(nil)[:8], i.Mtime.UnixNano())
		case "symlink":
			n, err := v.Find(i.Path)
			if err != nil {
				return err
			}
			target, err := v.Readlink(n)
			if err != nil {
				return err
			}
			line += " -> " + target
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestBackupComesBack(t *testing.T) {
	s := newSource(t)
	s.fill()
	want := tree(t, s.Vault)
	b := s.backup()
	r, err := Check(t.Context(), bytes.NewReader(b), s.DID(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Blobs != 7 || r.Headers != 1 || r.Batches == 0 || r.Size != int64(len(b)) {
		t.Errorf("report: %+v", r)
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
		report, err := v.Check(t.Context(), vaultcore.CheckOptions{Deep: true})
		if err != nil || len(report.Problems) > 0 {
			t.Errorf("check: %v, %+v", err, report.Problems)
		}
		_, _, err = v.Seal(t.Context(), vaultcore.SealOptions{Empty: true})
		if enroll != (err == nil) {
			t.Errorf("enrolled %v: seal: %v", enroll, err)
		}
		again, err := Prepare(t.Context(), v, Options{Name: "laptop", Now: time.Now()})
		if enroll != (err == nil) || !enroll && !errors.Is(err, vaultcore.ErrUnlisted) {
			t.Errorf("enrolled %v: backup of the restored vault: %v", enroll, err)
		}
		if again != nil {
			again.Close()
		}
		if err := v.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestViewReadsFromTheFile(t *testing.T) {
	s := newSource(t)
	s.fill()
	s.write("Papers/huge", pattern(27<<20)) // version 4
	want := tree(t, s.Vault)
	path := filepath.Join(t.TempDir(), "b.nt2backup")
	if err := os.WriteFile(path, s.backup(), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	temp := t.TempDir()
	view, err := OpenView(t.Context(), f, opening(testPassword), temp)
	if err != nil {
		t.Fatal(err)
	}
	v := openVault(t, view.Home, testPassword, view.Options(vaultcore.Options{}))
	if got := tree(t, v); got != want {
		t.Errorf("the view shows\n%s\nwant\n%s", got, want)
	}
	report, err := v.Check(t.Context(), vaultcore.CheckOptions{Deep: true})
	if err != nil || len(report.Problems) > 0 {
		t.Errorf("check: %v, %+v", err, report.Problems)
	}
	if err := errors.Join(v.Close(t.Context()), view.Close()); err != nil {
		t.Error(err)
	}
	if !isEmpty(temp) {
		t.Error("the view leaves something behind")
	}
}
