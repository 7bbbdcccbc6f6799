package vaultcore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

func TestCreateMakesAVault(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "below", "vault")
	o := homeOptions(path)
	o.Label, o.Params, o.Write = "Papers", seal.LowKDF(), seal.WriteV4
	var gotVault, gotDevice seal.ID
	o.initDB = func(dir string, vault, device seal.ID) error {
		gotVault, gotDevice = vault, device
		if filepath.Dir(dir) != filepath.Dir(path) || dir == path {
			t.Errorf("built in %s", dir)
		}
		return emptyDB(dir, vault, device)
	}
	made, err := Create(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if made.Home != path || made.Vault != gotVault || made.Device != gotDevice || !strings.HasPrefix(made.DID, "did:key:z") {
		t.Errorf("%+v", made)
	}
	for _, name := range []string{"", dirAttachments, dirScratch, fileHeader, fileLocalKey, fileDeviceKey, fileLabel, fileLock, dbName} {
		fi, err := os.Stat(filepath.Join(path, name))
		if err != nil {
			t.Fatal(err)
		}
		if want := os.FileMode(0o600); !fi.IsDir() && fi.Mode() != want || fi.IsDir() && fi.Mode().Perm() != 0o700 {
			t.Errorf("%s has mode %v", name, fi.Mode())
		}
	}
	home := takeHome(t, path)
	k := unlockHome(t, home, byPassword(homePassword))
	if k.vaultID() != made.Vault || k.deviceID() != made.Device || k.epoch() != 1 || !k.writeV4() || home.Label() != "Papers" {
		t.Error("the vault is not the one asked for")
	}
	if h := k.header(); h.DID != made.DID || h.Seq != 1 || h.KDF != o.Params || len(h.Devices) != 1 {
		t.Errorf("header of %s, seq %d", h.DID, h.Seq)
	}
}

func TestCreateTakesAnEmptyDirectory(t *testing.T) {
	path := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	os.Symlink(path, link)
	made, err := Create(t.Context(), homeOptions(link))
	if err != nil {
		t.Fatal(err)
	}
	takeHome(t, path)
	if real, _ := filepath.EvalSymlinks(path); made.Home != real {
		t.Errorf("home %s, want %s", made.Home, real)
	}
}

func TestCreateRefuses(t *testing.T) {
	full := t.TempDir()
	os.WriteFile(filepath.Join(full, "thesis.odt"), []byte("all my work"), 0o600)
	vault := createHome(t).Home
	before := homeFiles(t, vault)
	broken := errors.New("no database today")
	for _, c := range []struct {
		name string
		want error
		set  func(*CreateOptions)
	}{
		{"directory with files", ErrExist, func(o *CreateOptions) { o.Home = full }},
		{"a vault", ErrExist, func(o *CreateOptions) { o.Home = vault }},
		{"a file", ErrExist, func(o *CreateOptions) { o.Home = filepath.Join(full, "thesis.odt") }},
		{"no place", ErrInvalid, func(o *CreateOptions) { o.Home = "" }},
		{"short password", seal.ErrWeakPassword, func(o *CreateOptions) { o.Password = []byte("short") }},
		{"no password", seal.ErrWeakPassword, func(o *CreateOptions) { o.Password = nil }},
		{"weak KDF", seal.ErrKDFParams, func(o *CreateOptions) { o.Params = seal.KDFParams{Memory: 1024, Time: 1, Parallelism: 1} }},
		{"label", ErrInvalid, func(o *CreateOptions) { o.Label = "a/b" }},
		{"write mode", seal.ErrHeader, func(o *CreateOptions) { o.Write = "v5" }},
		{"broken database", broken, func(o *CreateOptions) {
			o.initDB = func(string, seal.ID, seal.ID) error { return broken }
		}},
	} {
		parent := t.TempDir()
		o := homeOptions(filepath.Join(parent, "vault"))
		c.set(&o)
		_, err := Create(t.Context(), o)
		wantHomeErr(t, c.name, err, c.want)
		if left, _ := os.ReadDir(parent); len(left) != 0 {
			t.Errorf("%s: left %v behind", c.name, left)
		}
	}
	if left, _ := os.ReadDir(full); len(left) != 1 || !sameHomeFiles(before, homeFiles(t, vault)) {
		t.Error("what was there did not stay as it was")
	}
}

// A home that fills between the look and the rename is left alone too.
func TestCreateLosesTheRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vault")
	o := homeOptions(path)
	o.initDB = func(dir string, vault, device seal.ID) error {
		os.Mkdir(path, 0o700)
		os.WriteFile(filepath.Join(path, "file"), nil, 0o600)
		return emptyDB(dir, vault, device)
	}
	_, err := Create(t.Context(), o)
	wantHomeErr(t, "Create", err, ErrExist)
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("left %v", left)
	}
}

func TestCreateOneOfManyWins(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vault")
	var won atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			_, err := Create(t.Context(), homeOptions(path))
			if err == nil {
				won.Add(1)
			} else if !errors.Is(err, ErrExist) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d vaults in one place", won.Load())
	}
	unlockHome(t, takeHome(t, path), byPassword(homePassword))
}

// What a killed creation leaves is swept by the next, and only that.
func TestCreateSweepsUnfinished(t *testing.T) {
	parent := t.TempDir()
	o := homeOptions(filepath.Join(parent, "first"))
	var half string
	o.initDB = func(dir string, vault, device seal.ID) error {
		half = filepath.Join(parent, newHomePrefix+seal.NewBlobID().Hex())
		if err := os.CopyFS(half, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		// The one under way is locked: another creation leaves it alone.
		removeUnfinished(parent)
		if _, err := os.Stat(filepath.Join(dir, fileHeader)); err != nil {
			t.Errorf("swept while it was being built: %v", err)
		}
		if _, err := os.Stat(half); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the unfinished one is still there: %v", err)
		}
		return emptyDB(dir, vault, device)
	}
	if _, err := Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	young := filepath.Join(parent, newHomePrefix+seal.NewBlobID().Hex())
	old := filepath.Join(parent, newHomePrefix+seal.NewBlobID().Hex())
	foreign := filepath.Join(parent, newHomePrefix+"mine")
	for _, dir := range []string{young, old, foreign} {
		os.Mkdir(dir, 0o700)
	}
	os.Chtimes(old, time.Time{}, time.Now().Add(-time.Hour))
	removeUnfinished(parent)
	for dir, there := range map[string]bool{young: true, old: false, foreign: true} {
		if _, err := os.Stat(dir); (err == nil) != there {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

func TestCreateLeavesNoSecretInClear(t *testing.T) {
	made := createHome(t)
	k := unlockHome(t, takeHome(t, made.Home), byPassword(homePassword))
	secrets := [][]byte{[]byte(homePassword), k.ldk.Bytes(), k.dsk.Bytes(), k.current.VaultKey().Bytes()}
	for name, content := range homeFiles(t, made.Home) {
		for i, secret := range secrets {
			if strings.Contains(content, string(secret)) {
				t.Errorf("%s holds secret %d in clear", name, i)
			}
		}
	}
}
