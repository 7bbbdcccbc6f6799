package vaultcore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"
)

const testPassword = "correct horse battery"

func newTestHome(t testing.TB, write string) string {
	t.Helper()
	home := filepath.Join(t.TempDir(), "vault")
	_, err := Create(context.Background(), CreateOptions{
		Home: home, Label: "test", Password: []byte(testPassword), KDF: quickKDF, Write: write,
	})
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	return home
}

func openTest(t testing.TB, home string, o Options) *Vault {
	t.Helper()
	return openWith(t, home, Credentials{Password: []byte(testPassword)}, o)
}

func openWith(t testing.TB, home string, c Credentials, o Options) *Vault {
	t.Helper()
	o.KDF = quickKDF
	v, err := Open(context.Background(), home, c, o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := v.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return v
}

func newTestVault(t testing.TB) *Vault { return openTest(t, newTestHome(t, ""), Options{}) }

// crashCopy copies the home as a kill would leave it. powerCut also makes the
// next unlock believe that the machine was started anew.
func crashCopy(t testing.TB, v *Vault, powerCut bool) string {
	t.Helper()
	dst := filepath.Join(t.TempDir(), "vault")
	for end := time.Now().Add(5 * time.Minute); !copyStill(t, dst, v.Home()); {
		if time.Now().After(end) {
			t.Fatal("the vault does not stand still for as long as a copy takes")
		}
		if err := os.RemoveAll(dst); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(dst, "vault.db-shm")); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if powerCut {
		c, err := openConn(filepath.Join(dst, dbName), false, false)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.exec("UPDATE meta SET value='another boot' WHERE key='boot'"); err != nil {
			t.Fatal(err)
		}
		if err := c.close(); err != nil {
			t.Fatal(err)
		}
	}
	return dst
}

// copyStill copies a vault and says whether its database stood still meanwhile: a
// kill falls on one moment, and a content that background work moves between the
// database and a file while both are copied would be in neither copy.
func copyStill(t testing.TB, dst, home string) bool {
	t.Helper()
	before := databaseBytes(t, home)
	err := os.CopyFS(dst, os.DirFS(home))
	if errors.Is(err, os.ErrNotExist) { // unlinked between its listing and its copying
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	return slices.EqualFunc(before, databaseBytes(t, dst), bytes.Equal) && slices.EqualFunc(before, databaseBytes(t, home), bytes.Equal)
}

// databaseBytes is what lies in the files of a vault's database.
func databaseBytes(t testing.TB, home string) [][]byte {
	t.Helper()
	var files [][]byte
	for _, name := range []string{dbName, dbName + "-wal"} {
		b, err := os.ReadFile(filepath.Join(home, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		files = append(files, b)
	}
	return files
}

func mustMkdir(t testing.TB, v *Vault, path string) *Node {
	t.Helper()
	if _, err := v.MakeDir(path, true); err != nil {
		t.Fatalf("mkdir %s: %v", path, err)
	}
	n, err := v.Find(path)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// writeFile writes as a program does: create or truncate, write, close.
func writeFile(t testing.TB, v *Vault, path string, data []byte) *Node {
	t.Helper()
	n := openFile(t, v, path)
	if len(data) > 0 {
		if _, err := v.WriteAt(n, data, 0); err != nil {
			t.Fatalf("write %s: %v", path, err)
		}
	}
	closeFile(t, v, n)
	return n
}

func openFile(t testing.TB, v *Vault, path string) *Node {
	t.Helper()
	dir, name, err := v.parentOf(path)
	if err != nil {
		t.Fatal(err)
	}
	n, _, err := v.Lookup(dir, name)
	if errors.Is(err, ErrNotFound) {
		n, _, err = v.Create(dir, name, 0o600)
	} else if err == nil {
		err = v.Open(n, true, true)
	}
	if err != nil {
		t.Fatalf("open %s: %v", path, err)
	}
	return n
}

func closeFile(t testing.TB, v *Vault, n *Node) {
	t.Helper()
	if err := v.Flush(n); err != nil {
		t.Fatalf("flush: %v", err)
	}
	v.Release(n, true)
}

func readFile(t testing.TB, v *Vault, path string) []byte {
	t.Helper()
	r, err := v.OpenRead(path)
	if err != nil {
		t.Fatalf("open %s: %v", path, err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("read %s: %v", path, err)
	}
	return data
}

func wantFile(t testing.TB, v *Vault, path string, want []byte) {
	t.Helper()
	if got := readFile(t, v, path); !bytes.Equal(got, want) {
		t.Fatalf("%s: got %d bytes, want %d (equal: false)", path, len(got), len(want))
	}
}

// tree lists all paths, directories with a slash.
func tree(t testing.TB, v *Vault) string {
	t.Helper()
	var out []string
	err := v.List("", true, func(i Info) error {
		p := i.Path
		if i.Kind == "asset" || i.Kind == "folder" {
			p += "/"
		}
		out = append(out, p)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(out)
	return strings.Join(out, " ")
}

func wantTree(t testing.TB, v *Vault, want string) {
	t.Helper()
	if got := tree(t, v); got != want {
		t.Fatalf("tree:\n got %s\nwant %s", got, want)
	}
}

// wantSound checks the vault deeply and finds nothing.
func wantSound(t testing.TB, v *Vault) {
	t.Helper()
	r, err := v.Check(context.Background(), CheckOptions{Deep: true})
	if err != nil {
		t.Fatalf("check: %v", err)
	}
	if len(r.Problems) > 0 {
		t.Fatalf("check: %+v", r.Problems)
	}
}

func randomBytes(n int, seed int64) []byte {
	b := make([]byte, n)
	rand.New(rand.NewSource(seed)).Read(b)
	return b
}

// eventually polls for a condition that background work brings about.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Minute)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("not within five minutes: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestVaultRoundTrip(t *testing.T) {
	t.Parallel()
	for _, write := range []string{"auto", "v4"} {
		t.Run(write, func(t *testing.T) {
			home := newTestHome(t, write)
			v := openTest(t, home, Options{})
			mustMkdir(t, v, "Passport/scans/2026")
			files := map[string][]byte{
				"Passport/empty":                nil,
				"Passport/one.txt":              []byte("x"),
				"Passport/scans/page.pdf":       randomBytes(20000, 1),
				"Passport/scans/2026/big.bin":   randomBytes(3<<20, 2),
				"Passport/scans/2026/huge.bin":  randomBytes(27<<20, 3),
				"Passport/scans/2026/edge.bin":  randomBytes(32<<10, 4),
				"Passport/scans/2026/chunk.bin": randomBytes(16384*5, 5),
			}
			for p, data := range files {
				writeFile(t, v, p, data)
			}
			for p, data := range files {
				wantFile(t, v, p, data)
			}
			wantSound(t, v)
			listing := tree(t, v)
			if err := v.Close(context.Background()); err != nil {
				t.Fatal(err)
			}
			again := openTest(t, home, Options{})
			wantTree(t, again, listing)
			for p, data := range files {
				wantFile(t, again, p, data)
			}
			wantSound(t, again)
		})
	}
}

// TestUnlocking: what a process does as the last thing with a vault no other one sees
// half done.
func TestUnlocking(t *testing.T) {
	for _, readOnly := range []bool{false, true} {
		home, calls := newTestHome(t, ""), 0
		v := openTest(t, home, Options{ReadOnly: readOnly, Unlocking: func() {
			calls++
			if h, err := OpenHome(home, false); !errors.Is(err, ErrInUse) {
				t.Errorf("read-only %v: another process has it already: %v", readOnly, errors.Join(err, h.Close()))
			}
		}})
		if err := errors.Join(v.Close(t.Context()), v.Close(t.Context())); err != nil {
			t.Error(err)
		}
		h, err := OpenHome(home, false)
		if err != nil || calls != 1 {
			t.Fatalf("read-only %v: called %d times; afterwards it opens: %v", readOnly, calls, err)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestReadOnlyVault(t *testing.T) {
	home := newTestHome(t, "")
	v := openTest(t, home, Options{})
	mustMkdir(t, v, "A")
	writeFile(t, v, "A/f", []byte("hello"))
	if err := v.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	ro := openTest(t, home, Options{ReadOnly: true})
	wantFile(t, ro, "A/f", []byte("hello"))
	n, err := ro.Find("A/f")
	if err != nil {
		t.Fatal(err)
	}
	if err := ro.Open(n, true, false); !errors.Is(err, ErrReadOnly) {
		t.Errorf("open for writing: %v", err)
	}
	if _, _, err := ro.Mkdir(ro.Root(), "B", 0o700); !errors.Is(err, ErrReadOnly) {
		t.Errorf("mkdir: %v", err)
	}
	if err := ro.Remove("A/f", false); !errors.Is(err, ErrReadOnly) {
		t.Errorf("remove: %v", err)
	}
}

func TestSecondOpenerIsRefused(t *testing.T) {
	v := newTestVault(t)
	_, err := Open(context.Background(), v.Home(), Credentials{Password: []byte(testPassword)}, Options{KDF: quickKDF})
	if !errors.Is(err, ErrInUse) {
		t.Fatalf("got %v, want ErrInUse", err)
	}
}

func TestNewerDatabaseIsRefused(t *testing.T) {
	home := newTestHome(t, "")
	c, err := openConn(filepath.Join(home, dbName), false, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.script("PRAGMA user_version=99; PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		t.Fatal(err)
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(home, dbName))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(context.Background(), home, Credentials{Password: []byte(testPassword)}, Options{KDF: quickKDF})
	if !errors.Is(err, ErrNewerSchema) {
		t.Fatalf("got %v, want ErrNewerSchema", err)
	}
	after, err := os.ReadFile(filepath.Join(home, dbName))
	if err != nil || !bytes.Equal(before, after) {
		t.Fatal("the refused database was written to")
	}
}

// A session that only reads writes nothing at all.
func TestReadingWritesNothing(t *testing.T) {
	home := newTestHome(t, "")
	v := openTest(t, home, Options{})
	mustMkdir(t, v, "A")
	writeFile(t, v, "A/f", randomBytes(100<<10, 1))
	if err := v.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	state := func() map[string]string {
		m := map[string]string{}
		err := filepath.WalkDir(home, func(p string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(p) == ".lock" || filepath.Ext(p) == ".db-shm" {
				return err
			}
			b, err := os.ReadFile(p)
			m[p] = string(b)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	before := state()
	again := openTest(t, home, Options{})
	wantFile(t, again, "A/f", randomBytes(100<<10, 1))
	if err := again.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	for p, b := range state() {
		if before[p] != b {
			t.Errorf("%s was changed", filepath.Base(p))
		}
	}
}

// TestOldSchemaReadOnly reads a vault of the first schema from a disk that
// keeps it from being brought up to date, unfinished files too.
func TestOldSchemaReadOnly(t *testing.T) {
	home := newTestHome(t, "")
	v := openTest(t, home, Options{})
	mustMkdir(t, v, "A")
	writeFile(t, v, "A/f", []byte("content"))
	if err := v.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	c, err := openConn(filepath.Join(home, dbName), false, false)
	if err != nil {
		t.Fatal(err)
	}
	const older = `DROP TABLE batches; DROP TABLE ops; DROP TABLE peers; DROP TABLE remotes; DROP TABLE blob_presence; DROP TABLE alarms; DROP TABLE transfer_jobs; DROP TABLE gates;
		ALTER TABLE drafts DROP COLUMN base; PRAGMA user_version=1`
	if err := errors.Join(c.script(older), c.close()); err != nil {
		t.Fatal(err)
	}
	v = openTest(t, home, Options{ReadOnly: true})
	if _, err := v.draftRows(); err != nil {
		t.Errorf("drafts: %v", err)
	}
	if rows, err := v.RescueList(); err != nil || len(rows) == 0 {
		t.Errorf("rescue: %d rows, %v", len(rows), err)
	}
}
