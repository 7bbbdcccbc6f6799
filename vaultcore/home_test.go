package vaultcore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

const (
	homePassword  = "correct horse battery"
	otherPassword = "staple of the horses"
)

// quickKDF stands in for Argon2id, which has its own test.
func quickKDF(ctx context.Context, password []byte, p seal.KDFParams) (seal.Key, error) {
	if err := errors.Join(ctx.Err(), p.Check()); err != nil {
		return seal.Key{}, err
	}
	sum := sha256.Sum256(append(p.Salt[:], password...))
	return seal.KeyFromBytes(sum[:])
}

// emptyDB stands in for the database, which this file has no business with.
func emptyDB(dir string, _, _ seal.ID) error {
	return os.WriteFile(filepath.Join(dir, dbName), nil, 0o600)
}

func homeOptions(path string) CreateOptions {
	return CreateOptions{Home: path, Password: []byte(homePassword), KDF: quickKDF, initDB: emptyDB}
}

func createHome(t *testing.T) CreateResult {
	t.Helper()
	made, err := Create(t.Context(), homeOptions(filepath.Join(t.TempDir(), "vault")))
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func takeHome(t *testing.T, path string) *Home {
	t.Helper()
	home, err := OpenHome(path, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { home.Close() })
	return home
}

func byPassword(password string) Credentials { return Credentials{Password: []byte(password)} }

func unlockHome(t *testing.T, home *Home, c Credentials) *keyring {
	t.Helper()
	k, err := unlock(t.Context(), home, c, quickKDF)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.wipe)
	return k
}

func wantHomeErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// homeFiles is everything a home holds, for comparison.
func homeFiles(t *testing.T, path string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(path, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == fileLock {
			return err
		}
		b, err := os.ReadFile(name)
		files[strings.TrimPrefix(name, path)] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func copyHome(t *testing.T, path string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "vault")
	if err := os.CopyFS(to, os.DirFS(path)); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestHomeRefusesWhatIsNoVault(t *testing.T) {
	made := createHome(t)
	file := filepath.Join(t.TempDir(), "file")
	os.WriteFile(file, nil, 0o600)
	for path, missing := range map[string]string{
		t.TempDir(): fileHeader, filepath.Join(t.TempDir(), "nothing"): "no such directory", file: "no directory",
	} {
		_, err := OpenHome(path, false)
		wantHomeErr(t, path, err, ErrNoVault)
		if err == nil || !strings.Contains(err.Error(), missing) || !strings.Contains(err.Error(), path) {
			t.Errorf("%v names neither %q nor the path", err, missing)
		}
	}
	for _, name := range []string{fileHeader, fileLocalKey, fileDeviceKey, dbName, dirAttachments} {
		path := copyHome(t, made.Home)
		os.RemoveAll(filepath.Join(path, name))
		_, err := OpenHome(path, false)
		wantHomeErr(t, "without "+name, err, ErrNoVault)
		if err != nil && !strings.Contains(err.Error(), name) {
			t.Errorf("%v does not name %s", err, name)
		}
		if name != dirAttachments {
			os.Mkdir(filepath.Join(path, name), 0o700)
			_, err = OpenHome(path, false)
			wantHomeErr(t, "directory "+name, err, ErrNoVault)
		}
	}
}

func TestHomeIsHeldByOne(t *testing.T) {
	made := createHome(t)
	home := takeHome(t, made.Home)
	for _, readOnly := range []bool{false, true} {
		_, err := OpenHome(made.Home, readOnly)
		wantHomeErr(t, "second opener", err, ErrInUse)
		if err != nil && !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
			t.Errorf("%v does not name the holder", err)
		}
	}
	if err := home.Close(); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(made.Home, fileLock)); len(text) != 0 || err != nil {
		t.Errorf("lock file holds %q after Close, %v", text, err)
	}
	takeHome(t, made.Home)
}

func TestHomeReadersShare(t *testing.T) {
	made := createHome(t)
	before := homeFiles(t, made.Home)
	// A number left by a killed process must not be taken for the holder's.
	stale := exec.Command("true")
	if err := stale.Run(); err != nil {
		t.Skip(err)
	}
	os.WriteFile(filepath.Join(made.Home, fileLock), fmt.Appendf(nil, "%d\n", stale.Process.Pid), 0o600)
	var readers []*Home
	for range 2 {
		home, err := OpenHome(made.Home, true)
		if err != nil {
			t.Fatal(err)
		}
		readers = append(readers, home)
		k := unlockHome(t, home, byPassword(homePassword))
		_, err = enrollDevice(home, k)
		wantHomeErr(t, "enroll", err, ErrReadOnly)
		err = changePassword(t.Context(), home, k, withPassword([]byte(homePassword)), []byte(otherPassword), quickKDF, seal.KDFParams{})
		wantHomeErr(t, "passwd", err, ErrReadOnly)
		wantHomeErr(t, "label", home.SetLabel("x"), ErrReadOnly)
	}
	_, err := OpenHome(made.Home, false)
	wantHomeErr(t, "writer beside readers", err, ErrInUse)
	if err != nil && !strings.Contains(err.Error(), "another process") {
		t.Errorf("%v names a process that is gone", err)
	}
	for _, home := range readers {
		home.Close()
	}
	if after := homeFiles(t, made.Home); !sameHomeFiles(before, after) {
		t.Error("a read-only opener changed something")
	}
}

func sameHomeFiles(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			return false
		}
	}
	return true
}

func TestHomeTidies(t *testing.T) {
	made := createHome(t)
	stale := filepath.Join(made.Home, homeTempPrefix+"0a")
	os.WriteFile(stale, []byte("half a head"), 0o600)
	os.Remove(filepath.Join(made.Home, dirScratch))
	home := takeHome(t, made.Home)
	if _, err := os.Stat(stale); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stale temporary file: %v", err)
	}
	if fi, err := os.Stat(home.Path(dirScratch)); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("scratch: %v", err)
	}
}

func TestHomeWritesWholeFiles(t *testing.T) {
	home := takeHome(t, createHome(t).Home)
	header, err := home.ReadHeader()
	if err != nil {
		t.Fatal(err)
	}
	if err := home.WriteHeader(header); err != nil {
		t.Fatal(err)
	}
	again, err := home.ReadHeader()
	if err != nil || again.Hash() != header.Hash() {
		t.Errorf("header changed on its way to disk: %v", err)
	}
	if fi, _ := os.Stat(home.Path(fileHeader)); fi.Mode() != 0o600 {
		t.Errorf("mode %v", fi.Mode())
	}
	for name := range homeFiles(t, home.path) {
		if strings.Contains(name, homeTempPrefix) {
			t.Errorf("%s was left behind", name)
		}
	}
	os.WriteFile(home.Path(fileHeader), make([]byte, maxHomeFile+1), 0o600)
	_, err = home.ReadHeader()
	wantHomeErr(t, "huge header", err, seal.ErrTooLarge)
	os.WriteFile(home.Path(fileHeader), []byte("{}"), 0o600)
	_, err = home.ReadHeader()
	wantHomeErr(t, "broken header", err, seal.ErrHeader)
}

func TestHomeLabels(t *testing.T) {
	made := createHome(t)
	home := takeHome(t, made.Home)
	if got := home.Label(); got != "vault" {
		t.Errorf("default label %q", got)
	}
	if err := home.SetLabel("Familie Müller"); err != nil || home.Label() != "Familie Müller" {
		t.Errorf("label %q, %v", home.Label(), err)
	}
	for _, label := range []string{"", "a/b", ".a", "-a", " a", "a ", "a\nb", "a\x1b[0m", "a\u202eb", "\xff", strings.Repeat("x", maxLabel+1)} {
		wantHomeErr(t, fmt.Sprintf("label %q", label), home.SetLabel(label), ErrInvalid)
	}
	os.WriteFile(home.Path(fileLabel), []byte("\x1b[2Jevil"), 0o600)
	if got := home.Label(); got != "vault" {
		t.Errorf("damaged label shown as %q", got)
	}
}

func TestHomeFindVaults(t *testing.T) {
	root := t.TempDir()
	if found, err := FindVaults(root); err != nil || len(found) != 0 {
		t.Errorf("%v, %v in an empty root", found, err)
	}
	var ids []seal.ID
	for _, label := range []string{"zebra", "ape"} {
		o := homeOptions("")
		o.Vault, o.Label = seal.NewID(), label
		o.Home = filepath.Join(root, "vaults", o.Vault.UUID())
		made, err := Create(t.Context(), o)
		if err != nil || made.Vault != o.Vault {
			t.Fatal(err)
		}
		ids = append(ids, made.Vault)
	}
	os.MkdirAll(filepath.Join(root, "vaults", "empty"), 0o700)
	os.WriteFile(filepath.Join(root, "vaults", "file"), nil, 0o600)
	slices.Reverse(ids)
	os.WriteFile(filepath.Join(root, "vaults", ids[0].UUID(), fileHeader), []byte("damaged"), 0o600)
	found, err := FindVaults(root)
	if err != nil || len(found) != 2 {
		t.Fatalf("%v, %v", found, err)
	}
	for i, label := range []string{"ape", "zebra"} {
		if found[i].Label != label || found[i].ID != ids[i] || filepath.Base(found[i].Path) != ids[i].UUID() {
			t.Errorf("vault %d: %+v", i, found[i])
		}
	}
}

// smallDisk mounts a file system of its own, or skips the test.
func smallDisk(t *testing.T, options string) string {
	t.Helper()
	path := t.TempDir()
	if err := unix.Mount("none", path, "tmpfs", 0, options); err != nil {
		t.Skipf("no file system to fill: mount tmpfs: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(path, unix.MNT_DETACH) })
	return path
}

func TestHomeOnReadOnlyDisk(t *testing.T) {
	disk := smallDisk(t, "")
	made, err := Create(t.Context(), homeOptions(filepath.Join(disk, "vault")))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", disk, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Skipf("remount read-only: %v", err)
	}
	_, err = OpenHome(made.Home, false)
	wantHomeErr(t, "writer", err, ErrReadOnlyDisk)
	_, err = Create(t.Context(), homeOptions(filepath.Join(disk, "second")))
	wantHomeErr(t, "Create", err, ErrReadOnlyDisk)
	home, err := OpenHome(made.Home, true)
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	unlockHome(t, home, byPassword(homePassword))
}

func TestHomeOnFullDisk(t *testing.T) {
	disk := smallDisk(t, "size=256k")
	made, err := Create(t.Context(), homeOptions(filepath.Join(disk, "vault")))
	if err != nil {
		t.Fatal(err)
	}
	filler, err := os.Create(filepath.Join(disk, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer filler.Close()
	for {
		if _, err := filler.Write(make([]byte, 4096)); err != nil {
			break
		}
	}
	before := homeFiles(t, made.Home)
	home := takeHome(t, made.Home)
	k := unlockHome(t, home, byPassword(homePassword))
	err = changePassword(t.Context(), home, k, withPassword([]byte(homePassword)), []byte(otherPassword), quickKDF, seal.KDFParams{})
	wantHomeErr(t, "passwd", err, ErrNoSpace)
	_, err = Create(t.Context(), homeOptions(filepath.Join(disk, "second")))
	wantHomeErr(t, "Create", err, ErrNoSpace)
	if k.epoch() != 1 || !sameHomeFiles(before, homeFiles(t, made.Home)) {
		t.Error("the vault changed on a full disk")
	}
	if names, _ := os.ReadDir(disk); len(names) != 2 {
		t.Errorf("%v on the disk", names)
	}
}
