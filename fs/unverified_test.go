package fs

import (
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// stranger makes rows of a server as somebody does who has the password.
type stranger struct {
	f      *farVault
	keys   *seal.EpochKeys
	vault  seal.ID
	asset  seal.ID
	number int64
}

func newStranger(f *farVault) *stranger {
	f.t.Helper()
	envelope, err := os.ReadFile(filepath.Join(f.home, "header.json"))
	if err != nil {
		f.t.Fatal(err)
	}
	h, err := seal.ParseEnvelope(envelope)
	if err != nil {
		f.t.Fatal(err)
	}
	kek, err := quickKDF(f.t.Context(), []byte(testPassword), h.KDF)
	if err != nil {
		f.t.Fatal(err)
	}
	vk, _, err := h.OpenPassword(&kek)
	if err != nil {
		f.t.Fatal(err)
	}
	info, err := f.v.Stat("A")
	if err != nil {
		f.t.Fatal(err)
	}
	asset, err := seal.ParseUUID(info.ID)
	if err != nil {
		f.t.Fatal(err)
	}
	return &stranger{f: f, keys: seal.DeriveEpoch(&vk, h.Vault, h.Epoch), vault: h.Vault, asset: asset}
}

func (s *stranger) row(name string, content []byte) vaultcore.ServerRow {
	s.f.t.Helper()
	key := seal.NewKey()
	s.number++
	r := vaultcore.ServerRow{ID: seal.NewID(), Type: 3, Parent: s.asset, Version: seal.V3, Size: int64(len(content)), Blob: seal.NewBlobID(),
		Number: s.number, Client: true, Created: s.f.now().UnixNano()}
	buf := make([]byte, 12+len(content), len(content)+seal.OverheadV3)
	copy(buf[12:], content)
	sealed, err := seal.SealV3(&key, buf, len(content))
	if err != nil {
		s.f.t.Fatal(err)
	}
	r.Len, r.SHA256 = int64(len(sealed)), sha256.Sum256(sealed)
	for f, to := range map[seal.Field]*[]byte{seal.FieldName: &r.Name, seal.FieldMIME: &r.MIME} {
		if *to, err = seal.SealField(3, &key, s.vault, r.ID, f, map[seal.Field]string{seal.FieldName: name, seal.FieldMIME: "text/plain"}[f]); err != nil {
			s.f.t.Fatal(err)
		}
	}
	if r.Key, err = s.keys.WrapFileKey(&key); err != nil {
		s.f.t.Fatal(err)
	}
	s.f.mu.Lock()
	s.f.blobs[r.Blob] = sealed
	s.f.mu.Unlock()
	return r
}

// say has the server say rows.
func (s *stranger) say(rows ...vaultcore.ServerRow) {
	s.f.t.Helper()
	ctx := context.Background()
	if err := s.f.v.NoteServerRows(ctx, rows); err != nil {
		s.f.t.Fatal(err)
	}
	if _, err := s.f.v.ServerWork(ctx, false, 100); err != nil {
		s.f.t.Fatal(err)
	}
}

// fetches counts what was asked of the remote.
func (f *farVault) fetches() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked
}

// TestUnverifiedDirectory: what no device has signed is shown below the hidden
// directory at once, is fetched when it is read, and nothing can be done to it.
func TestUnverifiedDirectory(t *testing.T) {
	m := mountFar(t, generous, 10)
	c := startClient(t)
	s := newStranger(m)
	top := m.dir + "/.vaultdrive/unverified"
	c.fails(call{Op: "stat", Path: top + "/A"}, syscall.ENOENT)
	content := []byte(strings.Repeat("of a page; ", 50_000))
	good, bad := s.row("letters/new.txt", content), s.row("bad.txt", []byte("bad"))
	bad.Key = make([]byte, 60)
	s.say(good, bad)

	unnamed := "unnamed-" + bad.ID.Hex()[:8]
	for deadline := time.Now().Add(generous); c.do(call{Op: "stat", Path: top + "/A"}).Errno != 0; {
		if time.Now().After(deadline) {
			t.Fatal("it is not shown")
		}
	}
	if got := c.must(call{Op: "list", Path: top + "/A"}).Names; !slices.Equal(got, []string{"letters", unnamed}) && !slices.Equal(got, []string{unnamed, "letters"}) {
		t.Fatalf("lists %v", got)
	}
	asked := m.fetches()
	file := top + "/A/letters/new.txt"
	st := c.must(call{Op: "stat", Path: file}).Stat
	if st.Size != int64(len(content)) || st.Mode != syscall.S_IFREG|0o400 || st.Mtim.Sec != good.Created/1e9 {
		t.Errorf("size %d, mode %o, time %d", st.Size, st.Mode, st.Mtim.Sec)
	}
	if m.fetches() != asked {
		t.Error("a look fetches")
	}
	if got := c.read(file); got != string(content) {
		t.Errorf("read %d bytes", len(got))
	}
	if n := m.fetches() - asked; n != 1 {
		t.Errorf("fetched %d times", n)
	}
	c.fails(call{Op: "open", Path: top + "/A/" + unnamed}, syscall.EIO)
	c.fails(call{Op: "list", Path: file}, syscall.ENOTDIR)
	c.fails(call{Op: "open", Path: file + "/x"}, syscall.ENOTDIR)
	c.fails(call{Op: "stat", Path: top + "/A/letters/none"}, syscall.ENOENT)
	for _, refused := range []call{
		{Op: "open", Path: file, Flags: os.O_RDWR}, {Op: "unlink", Path: file}, {Op: "rename", Path: file, To: m.dir + "/A/x"},
		{Op: "mkdir", Path: top + "/A/d", Mode: 0o700}, {Op: "write", Path: top + "/A/new"}, {Op: "rmdir", Path: top + "/A/letters"},
	} {
		c.refused(refused)
	}

	// A row that changes is another file: who has the old one open is not given
	// parts of both.
	fd := c.open(file, os.O_RDONLY)
	next := s.row("letters/new.txt", []byte("another"))
	next.ID = good.ID
	s.say(next)
	if got := c.read(file); got != "another" {
		t.Errorf("reads %d bytes", len(got))
	}
	c.must(call{Op: "close", FD: fd})

	list, err := m.v.Unverified(context.Background())
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	for _, u := range list {
		if u.Problem == "" {
			if _, err := m.v.Adopt(context.Background(), u); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := c.must(call{Op: "list", Path: top + "/A"}).Names; !slices.Equal(got, []string{unnamed}) {
		t.Errorf("adopted, and lists %v", got)
	}
	if got := c.read(m.dir + "/A/letters/new.txt"); got != "another" {
		t.Errorf("adopted it reads %d bytes", len(got))
	}
}
