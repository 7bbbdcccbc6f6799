package vaultcore

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

func TestRename(t *testing.T) {
	home := newTestHome(t, "")
	v := openTest(t, home, Options{})
	a, b := mustMkdir(t, v, "A"), mustMkdir(t, v, "B")
	mustMkdir(t, v, "A/dir/sub")
	writeFile(t, v, "A/dir/sub/f", []byte("in sub"))
	writeFile(t, v, "A/x", []byte("x"))
	writeFile(t, v, "B/y", []byte("y"))
	dir, _ := v.Find("A/dir")

	steps := []struct {
		name string
		do   func() error
		want error
	}{
		{"file to a free name", func() error { return v.Rename(a, "x", a, "x2", 0) }, nil},
		{"file across assets", func() error { return v.Rename(a, "x2", b, "x", 0) }, nil},
		{"no replace over a file", func() error { return v.Rename(b, "x", b, "y", RenameNoReplace) }, ErrExist},
		{"folder across assets", func() error { return v.Rename(a, "dir", b, "moved", 0) }, nil},
		{"folder into itself", func() error { return v.Rename(b, "moved", dir, "in", 0) }, ErrInvalid},
		{"folder over a file", func() error { return v.Rename(b, "moved", b, "y", 0) }, ErrNotDir},
		{"file over a folder", func() error { return v.Rename(b, "y", b, "moved", 0) }, ErrIsDir},
		{"asset into a folder", func() error { return v.Rename(v.Root(), "A", b, "A", 0) }, ErrCrossAsset},
		{"folder to the root", func() error { return v.Rename(b, "moved", v.Root(), "M", 0) }, ErrCrossAsset},
		{"file to the root", func() error { return v.Rename(b, "y", v.Root(), "y", 0) }, ErrPermission},
		{"exchange with nothing", func() error { return v.Rename(b, "y", b, "none", RenameExchange) }, ErrNotFound},
		{"exchange", func() error { return v.Rename(b, "x", b, "y", RenameExchange) }, nil},
		{"asset", func() error { return v.Rename(v.Root(), "A", v.Root(), "Empty", 0) }, nil},
		{"missing", func() error { return v.Rename(a, "nothing", b, "z", 0) }, ErrNotFound},
		{"too long", func() error { return v.Rename(b, "y", b, strings.Repeat("n", 256), 0) }, ErrNameTooLong},
	}
	for _, s := range steps {
		if err := s.do(); !errors.Is(err, s.want) {
			t.Fatalf("%s: got %v, want %v", s.name, err, s.want)
		}
	}
	check := func(v *Vault) {
		wantTree(t, v, "B/ B/moved/ B/moved/sub/ B/moved/sub/f B/x B/y Empty/")
		wantFile(t, v, "B/x", []byte("y"))
		wantFile(t, v, "B/y", []byte("x"))
		wantFile(t, v, "B/moved/sub/f", []byte("in sub"))
		wantSound(t, v)
	}
	check(v)
	if err := v.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	check(openTest(t, home, Options{}))
}

// Saving through a temporary file is an edit of the target: same id, one
// row, and the handles of both keep what they opened.
func TestRenameOverKeepsIdentity(t *testing.T) {
	for _, size := range []int{10, 100 << 10} {
		v := newTestVault(t)
		a := mustMkdir(t, v, "A")
		writeFile(t, v, "A/doc", randomBytes(size, 1))
		before, _ := v.Stat("A/doc")
		old, _ := v.Find("A/doc")
		if err := v.Open(old, false, false); err != nil {
			t.Fatal(err)
		}
		// GLib renames before it closes.
		tmp := openFile(t, v, "A/.goutputstream-AB12")
		if _, err := v.WriteAt(tmp, randomBytes(size, 2), 0); err != nil {
			t.Fatal(err)
		}
		if err := v.Fsync(tmp); err != nil {
			t.Fatal(err)
		}
		if err := v.Rename(a, ".goutputstream-AB12", a, "doc", 0); err != nil {
			t.Fatal(err)
		}
		closeFile(t, v, tmp)
		after, _ := v.Stat("A/doc")
		if after.ID != before.ID {
			t.Errorf("id changed from %s to %s", before.ID, after.ID)
		}
		wantFile(t, v, "A/doc", randomBytes(size, 2))
		buf := make([]byte, size)
		if n, err := v.ReadAt(old, buf, 0); err != nil || n != size || string(buf) != string(randomBytes(size, 1)) {
			t.Errorf("the handle opened before reads %d bytes, %v", n, err)
		}
		v.Release(old, false)
		wantTree(t, v, "A/ A/doc")
		wantSound(t, v)
		crashed := openTest(t, crashCopy(t, v, false), Options{})
		wantFile(t, crashed, "A/doc", randomBytes(size, 2))
		wantTree(t, crashed, "A/ A/doc")
		wantSound(t, crashed)
	}
}

func TestUnlinkWhileOpen(t *testing.T) {
	v := newTestVault(t)
	a := mustMkdir(t, v, "A")
	data := randomBytes(100<<10, 1)
	n := writeFile(t, v, "A/f", data)
	if err := v.Open(n, true, false); err != nil {
		t.Fatal(err)
	}
	if err := v.Unlink(a, "f"); err != nil {
		t.Fatal(err)
	}
	if got := v.Attr(n); got.Nlink != 0 {
		t.Errorf("nlink %d, want 0", got.Nlink)
	}
	if err := v.Barrier(context.Background()); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, len(data))
	if _, err := v.ReadAt(n, buf, 0); err != nil || string(buf) != string(data) {
		t.Fatalf("read after unlink: %v", err)
	}
	if _, err := v.WriteAt(n, []byte("more"), 0); err != nil {
		t.Fatal(err)
	}
	if err := v.Flush(n); err != nil {
		t.Fatal(err)
	}
	if _, err := v.ReadAt(n, buf[:4], 0); err != nil || string(buf[:4]) != "more" {
		t.Fatalf("read back: %q, %v", buf[:4], err)
	}
	v.Release(n, true)
	wantTree(t, v, "A/")
	wantSound(t, v)
}

func TestTrash(t *testing.T) {
	home := newTestHome(t, "")
	var later atomic.Int64
	o := Options{Now: func() time.Time { return time.Now().Add(time.Duration(later.Load())) }}
	v := openTest(t, home, o)
	mustMkdir(t, v, "A/d")
	writeFile(t, v, "A/d/old", []byte("A/d/old"))
	writeFile(t, v, "A/.~lock.x#", []byte("scratch"))
	later.Store(2 * youngFor)
	writeFile(t, v, "A/young", []byte("young"))
	for _, f := range []string{"A/d/old", "A/young", "A/.~lock.x#"} {
		if err := v.Remove(f, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.RemoveAsset("A", true); err != nil {
		t.Fatal(err)
	}
	wantTree(t, v, "")
	list, err := v.Trash()
	if err != nil || len(list) != 1 || list[0].Path != "A/d/old" {
		t.Fatalf("trash: %+v, %v", list, err)
	}
	r, err := v.OpenTrash(list[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	if err := v.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	v = openTest(t, home, o)
	p, err := v.RestoreTrash("A/d/old")
	if err != nil || p != "A/d/old" {
		t.Fatalf("restore: %q, %v", p, err)
	}
	wantFile(t, v, "A/d/old", []byte("A/d/old"))
	wantSound(t, v)
	if err := v.Remove("A", true); err != nil {
		t.Fatal(err)
	}
	if n, _, err := v.EmptyTrash(nil); n != 1 || err != nil {
		t.Fatalf("empty: %d, %v", n, err)
	}
	wantSound(t, v)
}

// importRow puts an attachment of any name into an asset, as sync will.
func importRow(t *testing.T, v *Vault, asset *Node, name string, data []byte) seal.ID {
	t.Helper()
	sc, err := v.sealInline(data)
	if err != nil {
		t.Fatal(err)
	}
	now := v.nowNS()
	r := &attRow{n: v.nextRow.Add(1), id: seal.NewID(), asset: asset.id}
	r.f = attFields{mtime: now, ctime: now, btime: now, mode: 0o600, name: name, mime: "text/plain"}
	if err := v.fillRow(r, sc); err != nil {
		t.Fatal(err)
	}
	if _, err := v.com.do(func(tx *txn) error { return tx.exec(sqlInsertAtt, r.values(tx.no)...) }); err != nil {
		t.Fatal(err)
	}
	return r.id
}

func TestHostileAndDuplicateNames(t *testing.T) {
	home := newTestHome(t, "")
	v := openTest(t, home, Options{})
	a := mustMkdir(t, v, "A")
	long := strings.Repeat("é", 200)
	names := []string{"../../etc/passwd", "a//b", "nul\x00", long, "dup.txt", "dup.txt", ".", "x/./y"}
	ids := make([]seal.ID, len(names))
	for i, n := range names {
		ids[i] = importRow(t, v, a, n, []byte(n))
	}
	if err := v.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		v = openTest(t, home, Options{})
		got := tree(t, v)
		for _, want := range []string{
			"A/%2E%2E/%2E%2E/etc/passwd", "A/a/%/b", "A/nul%00", "A/%2E", "A/x/%2E/y", "A/dup.txt",
			"A/dup (" + ids[5].Hex()[:4] + ").txt",
		} {
			if !strings.Contains(" "+got+" ", " "+want+" ") {
				t.Errorf("%q is not shown; tree: %s", want, got)
			}
			if len(want) > 0 && !strings.Contains(want, "dup") {
				n, err := v.Find(want)
				if err != nil {
					t.Fatal(err)
				}
				if data := readFile(t, v, want); len(data) == 0 {
					t.Errorf("%q cannot be read", want)
				}
				v.tree.RLock()
				_, stored := v.storedName(n)
				v.tree.RUnlock()
				if string(readFile(t, v, want)) != stored {
					t.Errorf("%q: stored name became %q", want, stored)
				}
			}
		}
		wantFile(t, v, "A/dup.txt", []byte("dup.txt"))
		// A change of a neighbour leaves stored names alone.
		n, _ := v.Find("A/%2E%2E/%2E%2E/etc/passwd")
		mode := uint32(0o640)
		if _, err := v.SetAttr(n, SetAttr{Mode: &mode}); err != nil {
			t.Fatal(err)
		}
		wantSound(t, v)
		if err := v.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestImpliedFolders(t *testing.T) {
	home := newTestHome(t, "")
	v := openTest(t, home, Options{})
	a := mustMkdir(t, v, "A")
	importRow(t, v, a, "dir/sub/f", []byte("f"))
	if err := v.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	v = openTest(t, home, Options{})
	if err := v.Remove("A/dir/sub/f", false); err != nil {
		t.Fatal(err)
	}
	wantTree(t, v, "A/ A/dir/ A/dir/sub/")
	if err := v.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	v = openTest(t, home, Options{})
	wantTree(t, v, "A/ A/dir/ A/dir/sub/")
	if err := v.Remove("A/dir", true); err != nil {
		t.Fatal(err)
	}
	wantTree(t, v, "A/")
	wantSound(t, v)
}

func TestAttributesSurvive(t *testing.T) {
	home := newTestHome(t, "")
	v := openTest(t, home, Options{})
	mustMkdir(t, v, "A/d")
	writeFile(t, v, "A/d/f", []byte("f"))
	mode, at := uint32(0o751), int64(1234567890123456789)
	for _, p := range []string{"A", "A/d", "A/d/f"} {
		n, _ := v.Find(p)
		if _, err := v.SetAttr(n, SetAttr{Mode: &mode, Mtime: &at}); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	v = openTest(t, home, Options{})
	for _, p := range []string{"A", "A/d", "A/d/f"} {
		n, _ := v.Find(p)
		if a := v.Attr(n); a.Mode != mode || a.Mtime != at {
			t.Errorf("%s: mode %o mtime %d", p, a.Mode, a.Mtime)
		}
	}
	wantSound(t, v)
}

func TestRefusedNames(t *testing.T) {
	v := newTestVault(t)
	a := mustMkdir(t, v, "A")
	for _, c := range []struct {
		dir  *Node
		name string
		want error
	}{
		{v.Root(), "file", ErrPermission}, {a, "bad\xff", ErrName}, {a, strings.Repeat("x", 256), ErrNameTooLong}, {a, "a/b", ErrInvalid},
	} {
		if _, _, err := v.Create(c.dir, c.name, 0o600); !errors.Is(err, c.want) {
			t.Errorf("create %q: %v, want %v", c.name, err, c.want)
		}
	}
	for _, name := range []string{".Trash", ".Trash-1000", ".vaultdrive"} {
		if _, _, err := v.Mkdir(v.Root(), name, 0o700); !errors.Is(err, ErrPermission) {
			t.Errorf("mkdir %q: %v", name, err)
		}
	}
}

// The count of bytes follows what is in the tree, whatever way it came.
func TestCountedBytes(t *testing.T) {
	v := newTestVault(t)
	a := mustMkdir(t, v, "A")
	writeFile(t, v, "A/f", randomBytes(1000, 1))
	w, err := v.OpenWrite("A/g", WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(randomBytes(500, 2)); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	w, err = v.OpenWrite("A/f", WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(randomBytes(300, 3)); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	n := openFile(t, v, "A/gone")
	if err := v.Unlink(a, "gone"); err != nil {
		t.Fatal(err)
	}
	if _, err := v.WriteAt(n, randomBytes(200, 4), 0); err != nil {
		t.Fatal(err)
	}
	v.Release(n, true)
	if s := v.Status(); s.Bytes != 800 || s.Files != 2 {
		t.Errorf("%d bytes in %d files, want 800 in 2", s.Bytes, s.Files)
	}
}

// Extended attributes stay with their file through saves, renames and
// unlocks, and are bounded.
func TestXAttrsSurvive(t *testing.T) {
	home := newTestHome(t, "")
	v := openTest(t, home, Options{})
	a := mustMkdir(t, v, "A/d")
	for _, p := range []string{"A/d/f", "A/d"} {
		if p == "A/d/f" {
			writeFile(t, v, p, []byte("x"))
		}
		n, _ := v.Find(p)
		if err := v.SetXAttr(n, "user.tag", []byte("blue"), XAttrAny); err != nil {
			t.Fatal(err)
		}
		if err := v.SetXAttr(n, "user.tag", []byte("red"), XAttrCreate); !errors.Is(err, ErrExist) {
			t.Errorf("create over one: %v", err)
		}
		if err := v.SetXAttr(n, "user.none", nil, XAttrReplace); !errors.Is(err, ErrNotFound) {
			t.Errorf("replace of none: %v", err)
		}
		if err := v.SetXAttr(n, "user.big", make([]byte, maxXAttrs), XAttrAny); !errors.Is(err, ErrNoSpace) {
			t.Errorf("too many bytes: %v", err)
		}
	}
	writeFile(t, v, "A/d/f", []byte("saved again"))
	if err := v.Rename(a, "f", a, "g", 0); err != nil {
		t.Fatal(err)
	}
	if err := v.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	v = openTest(t, home, Options{})
	for _, p := range []string{"A/d/g", "A/d"} {
		n, err := v.Find(p)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := v.XAttr(n, "user.tag"); got != "blue" || err != nil {
			t.Errorf("%s: %q, %v", p, got, err)
		}
		if err := v.RemoveXAttr(n, "user.tag"); err != nil {
			t.Error(err)
		}
	}
	wantSound(t, v)
}
