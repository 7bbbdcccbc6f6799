package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// TestBackupWhileWriting: what a backup holds is the vault at one moment, whole,
// however much is replaced and deleted while it is written.
func TestBackupWhileWriting(t *testing.T) {
	s := newSource(t)
	const files = 40
	content := func(i, round int) []byte {
		return bytes.Repeat([]byte(fmt.Sprintf("file %d round %d|", i, round)), 1+i*i*20)
	}
	for i := range files {
		s.write(fmt.Sprintf("A/f%d", i), content(i, 0))
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for round := 1; ; round++ {
				for i := w; i < files; i += 2 {
					select {
					case <-stop:
						return
					default:
					}
					s.write(fmt.Sprintf("A/f%d", i), content(i, round))
					if i%10 == w {
						if err := s.Remove(fmt.Sprintf("A/f%d", i), false); err != nil {
							t.Error(err)
						}
					}
				}
			}
		}()
	}
	var backups [][]byte
	for range 3 {
		b := s.prepare(Options{})
		if err := s.Barrier(t.Context()); err != nil { // what was replaced would go now
			t.Error(err)
		}
		var out bytes.Buffer
		if err := b.WriteTo(t.Context(), &out); err != nil {
			t.Error(err)
		}
		b.Close()
		backups = append(backups, out.Bytes())
	}
	close(stop)
	wg.Wait()
	for _, b := range backups {
		back := restore(t, b, testPassword, true)
		v := openVault(t, back.Home, testPassword, vaultcore.Options{})
		seen := 0
		err := v.List("A", false, func(i vaultcore.Info) error {
			r, err := v.OpenRead(i.Path)
			if err != nil {
				return err
			}
			defer r.Close()
			got, err := io.ReadAll(r)
			if err != nil {
				return fmt.Errorf("%s: %w", i.Path, err)
			}
			seen++
			var file, round int
			if _, err := fmt.Sscanf(string(got), "file %d round %d|", &file, &round); err != nil || !bytes.Equal(got, content(file, round)) {
				t.Errorf("%s holds no content that was ever written", i.Path)
			}
			return nil
		})
		if err != nil || seen < files-8 {
			t.Errorf("%d files came back: %v", seen, err)
		}
		if err := v.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestBackupOfAnOldPassword: each backup opens with the password of its time.
func TestBackupOfAnOldPassword(t *testing.T) {
	s := newSource(t)
	s.write("A/f", []byte("before"))
	first := s.backup()
	if err := s.ChangePassword(t.Context(), []byte(testPassword), []byte(laterPassword), seal.KDFParams{}, nil); err != nil {
		t.Fatal(err)
	}
	s.write("A/g", []byte("after"))
	second := s.backup()
	for _, test := range []struct {
		b        []byte
		password string
		want     error
	}{{first, testPassword, nil}, {first, laterPassword, vaultcore.ErrWrongPassword}, {second, laterPassword, nil}, {second, testPassword, vaultcore.ErrWrongPassword}} {
		if _, err := verify(t, test.b, test.password); !errors.Is(err, test.want) || (err == nil) != (test.want == nil) {
			t.Errorf("%s: %v; want %v", test.password, err, test.want)
		}
	}
	want := tree(t, s.Vault)
	v := openVault(t, restore(t, second, laterPassword, false).Home, laterPassword, vaultcore.Options{})
	defer v.Close(t.Context())
	if got := tree(t, v); got != want {
		t.Errorf("restored\n%s\nwant\n%s", got, want)
	}
}

// TestBackupLeavesOut: trash, scratch files and what is still being written.
func TestBackupLeavesOut(t *testing.T) {
	s := newSource(t)
	s.write("A/f", []byte("stays"))
	s.write("A/gone", []byte("deleted after a backup"))
	s.backup()
	if err := s.Remove("A/gone", false); err != nil {
		t.Fatal(err)
	}
	s.write("A/.DS_Store", []byte("scratch"))
	w, err := s.OpenWrite("A/half", vaultcore.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if _, err := w.Write([]byte("not closed")); err != nil {
		t.Fatal(err)
	}
	b := s.backup()
	r, err := verify(t, b, testPassword)
	if err != nil || r.Blobs != 1 {
		t.Errorf("%+v, %v; want one content", r, err)
	}
	v := openVault(t, restore(t, b, testPassword, true).Home, testPassword, vaultcore.Options{})
	defer v.Close(t.Context())
	if got := tree(t, v); strings.Count(got, "\n") != 1 || !strings.Contains(got, "A/f ") {
		t.Errorf("restored\n%s", got)
	}
}

// TestBackupAgainSealsNothing: without a change there is nothing new to keep.
func TestBackupAgainSealsNothing(t *testing.T) {
	s := newSource(t)
	s.fill()
	first, err := verify(t, s.backup(), testPassword)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		again, err := verify(t, s.backup(), testPassword)
		if err != nil || again.Batches != first.Batches || again.Size != first.Size {
			t.Errorf("%d batches, %d bytes; the first time %d and %d, %v", again.Batches, again.Size, first.Batches, first.Size, err)
		}
	}
}

// lacking gives a vault, enrolled, one of whose contents is elsewhere, and that
// content.
func lacking(t *testing.T) (*source, seal.ID, []byte) {
	t.Helper()
	s, _ := small(t)
	var id seal.ID
	b := s.forge(func(m *seal.Manifest) {
		i := slices.IndexFunc(m.Files, func(f seal.BackupFile) bool { return f.Kind == seal.FileBlob })
		id = m.Files[i].ID
		m.Files, m.Missing = slices.Delete(m.Files, i, i+1), []seal.ID{id}
	}, nil)
	if r, err := verify(t, b, testPassword); err != nil || len(r.Manifest.Missing) != 1 {
		t.Fatalf("a content called missing: %+v, %v", r, err)
	}
	members, _ := split(t, s.backup())
	data := members[find(t, members, "blobs/"+id.Hex())].body
	back := &source{t: t, home: restore(t, b, testPassword, true).Home}
	back.open(testPassword)
	t.Cleanup(func() { back.Close(context.Background()) })
	return back, id, data
}

// TestBackupOfWhatIsElsewhere: it is fetched first; what cannot be had is named,
// and stops the backup unless the user goes on.
func TestBackupOfWhatIsElsewhere(t *testing.T) {
	s, id, data := lacking(t)
	_, err := Prepare(t.Context(), s.Vault, Options{Name: "x", Now: time.Now()})
	if !errors.Is(err, ErrIncomplete) || !strings.Contains(err.Error(), "A/") {
		t.Errorf("%v; want ErrIncomplete and the path", err)
	}
	b := s.prepare(Options{AllowMissing: true})
	if !slices.Equal(b.Manifest.Missing, []seal.ID{id}) || len(b.Incomplete()) != 1 {
		t.Errorf("missing %v, %q", b.Manifest.Missing, b.Incomplete())
	}
	var out bytes.Buffer
	if err := b.WriteTo(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	if _, err := verify(t, out.Bytes(), testPassword); err != nil {
		t.Error(err)
	}
	s.OnFetch(func(ctx context.Context, want seal.ID) error {
		if want != id {
			t.Errorf("%s fetched", want)
		}
		return s.PutBlob(ctx, want, bytes.NewReader(data))
	})
	whole := s.prepare(Options{})
	if len(whole.Manifest.Missing) > 0 {
		t.Errorf("still missing: %v", whole.Manifest.Missing)
	}
}

// TestFillPutsBackWhatIsLost: contents elsewhere, gone and damaged; nothing else,
// and not from another vault.
func TestFillPutsBackWhatIsLost(t *testing.T) {
	s := newSource(t)
	s.fill()
	for i := range 3 {
		s.write(fmt.Sprintf("Papers/%d", i), pattern(100_000+i)) // too large for their rows
	}
	want := tree(t, s.Vault)
	b := s.backup()
	s.write("Papers/newer", []byte("not in the backup"))
	bins, err := filepath.Glob(filepath.Join(s.home, "attachments", "*.bin"))
	if err != nil || len(bins) < 3 {
		t.Fatal(bins, err)
	}
	for i, bin := range bins[:3] {
		data, err := os.ReadFile(bin)
		if err != nil {
			t.Fatal(err)
		}
		switch i {
		case 0:
			err = os.Remove(bin)
		case 1:
			err = os.Truncate(bin, int64(len(data)/2))
		case 2:
			data[len(data)/2] ^= 1
			err = os.WriteFile(bin, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	fill := func(b []byte, vault seal.ID) (*Filled, error) {
		lost, err := s.LostBlobs(t.Context(), true, nil)
		if err != nil {
			t.Fatal(err)
		}
		put := func(id seal.ID, body io.Reader) error { return s.MendBlob(t.Context(), id, body) }
		return Fill(t.Context(), bytes.NewReader(b), vault, s.DID(), lost, put, nil)
	}
	if _, err := fill(b, seal.NewID()); !errors.Is(err, ErrForeign) {
		t.Errorf("another vault's backup: %v; want ErrForeign", err)
	}
	if f, err := fill(b, s.VaultID()); err != nil || f.Contents != 3 {
		t.Errorf("filled %+v, %v; want 3", f, err)
	}
	if f, err := fill(b, s.VaultID()); err != nil || f.Contents != 0 {
		t.Errorf("filled again %+v, %v; want none", f, err)
	}
	got := tree(t, s.Vault)
	if !strings.Contains(got, "Papers/newer") {
		t.Error("what is newer than the backup has gone")
	}
	for _, line := range strings.Split(want, "\n") {
		if !strings.Contains(got, line) {
			t.Errorf("lost: %s", line)
		}
	}
}

// TestCopyIntoNewVault: everything comes along but keys and ciphertext.
func TestCopyIntoNewVault(t *testing.T) {
	s, other := newSource(t), newSource(t)
	s.fill()
	if err := s.SetPathAttr("Papers/passport.txt", vaultcore.SetAttr{Mode: new(uint32)}); err != nil {
		t.Fatal(err)
	}
	want := tree(t, s.Vault)
	if missing, err := Copy(t.Context(), s.Vault, other.Vault, nil); err != nil || len(missing) > 0 {
		t.Fatal(missing, err)
	}
	if got := tree(t, other.Vault); got != want {
		t.Errorf("the copy is\n%s\nwant\n%s", got, want)
	}
	if s.DID() == other.DID() {
		t.Error("one identity for both")
	}
	lacks, _, _ := lacking(t)
	some := newSource(t)
	missing, err := Copy(t.Context(), lacks.Vault, some.Vault, nil)
	if err != nil || len(missing) != 1 || strings.Count(tree(t, some.Vault), "A/") != 1 {
		t.Errorf("of a vault without one content: missing %q, %v\n%s", missing, err, tree(t, some.Vault))
	}
}

// TestBackupWithACheckpoint: where the start of the log is dropped, the checkpoint
// that stands for it comes along.
func TestBackupWithACheckpoint(t *testing.T) {
	s := newSource(t)
	s.fill()
	s.backup()
	c, err := s.WriteCheckpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	fetch := func(ctx context.Context, part int) ([]byte, error) {
		return s.CheckpointFrame(ctx, c.CheckpointID, part)
	}
	if err := s.LoadCheckpoint(t.Context(), c.CheckpointID, fetch); err != nil {
		t.Fatal(err)
	}
	s.write("Papers/after", []byte("behind the checkpoint"))
	want := tree(t, s.Vault)
	b := s.backup()
	members, _ := split(t, b)
	find(t, members, "checkpoints/")
	if err := check(b); err != nil {
		t.Fatal(err)
	}
	if _, err := verify(t, b, testPassword); err != nil {
		t.Fatal(err)
	}
	back := &source{t: t, home: restore(t, b, testPassword, true).Home}
	back.open(testPassword)
	defer back.Close(context.Background())
	if got := tree(t, back.Vault); got != want {
		t.Errorf("restored\n%s\nwant\n%s", got, want)
	}
	if _, err := verify(t, back.backup(), testPassword); err != nil {
		t.Errorf("backup of what came back: %v", err)
	}
}
