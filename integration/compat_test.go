package integration

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Every released version's example vaults open for ever. They lie in testdata as
// v<n>.tar.gz; password and content are the same in all of them. The chunked ones
// were made with `init --write v4`.
const (
	examplePassword = "an example vault of vaultdrive"
	exampleWhole    = "v1"
	exampleChunked  = "v1-chunked"
)

// example is what an example vault holds. Names that contain a length are that
// many bytes of their own pattern.
var example = map[string]int{
	"Passport/scan.pdf":                 70_001,
	"Passport/empty":                    0,
	"Passport/one byte":                 1,
	"Passport/chunk minus one":          16_383,
	"Passport/chunk":                    16_384,
	"Passport/chunk and one":            16_385,
	"Notes/folder/deeper/note.txt":      500,
	"Notes/Ünïcode ✓ 日本.txt":            40,
	"Notes/100% & more; \"quoted\".txt": 33_000,
}

func TestExampleVaults(t *testing.T) {
	t.Parallel()
	if *updateData {
		makeExample(t, exampleWhole, "auto")
		makeExample(t, exampleChunked, "v4")
	}
	found, _ := filepath.Glob(filepath.Join("testdata", "v*.tar.gz"))
	if len(found) == 0 {
		t.Fatal("testdata has no example vault; make it with -update")
	}
	for _, archive := range found {
		t.Run(filepath.Base(archive), func(t *testing.T) {
			t.Parallel()
			b := openExample(t, archive)
			b.checkClean()
			m := b.mount()
			for name, size := range example {
				got, err := os.ReadFile(m.path(name))
				if err != nil || string(got) != string(exampleText(name, size)) {
					t.Errorf("%s: %v, %s", name, err, describe(got))
				}
				info, err := os.Stat(m.path(name))
				if err != nil || info.Mode().Perm() != 0o640 || !info.ModTime().Equal(testTime) {
					t.Errorf("%s: %v, mode %v, time %v", name, err, info.Mode(), info.ModTime())
				}
			}
			if target, err := os.Readlink(m.path("Notes", "link")); err != nil || target != "folder/deeper" {
				t.Errorf("link: %v, %q", err, target)
			}
			if list, err := os.ReadDir(m.path("Notes", "empty folder")); err != nil || len(list) != 0 {
				t.Errorf("empty folder: %v, %v", err, list)
			}
			must(t, os.WriteFile(m.path("Notes", "new"), []byte("written today"), 0o600))
			m.unmount()
			b.checkClean()
		})
	}
}

// openExample unpacks an example vault into a bed.
func openExample(t testing.TB, archive string) *bed {
	t.Helper()
	b := newBed(t)
	unpack(t, archive, b.vault)
	b.password = b.file("password", examplePassword+"\n")
	b.unlock = []string{"--password-file", b.password}
	return b
}

func exampleText(name string, size int) []byte { return pattern(uint32(len(name)), 1, size) }

// makeExample makes an archive of this version anew, from nothing but commands
// and the mount. It is run once for a format, by hand.
func makeExample(t *testing.T, name, write string) {
	t.Helper()
	b := newBed(t)
	b.password = b.file("password", examplePassword+"\n")
	b.unlock = []string{"--password-file", b.password}
	b.ok("init", "--kdf", "low", "--write", write)
	b.ok("asset add", "--type", "password", "Passport")
	b.ok("asset add", "--type", "note", "Notes")
	m := b.mount()
	for file, size := range example {
		must(t, os.MkdirAll(filepath.Dir(m.path(file)), 0o755))
		must(t, os.WriteFile(m.path(file), exampleText(file, size), 0o600))
		must(t, os.Chmod(m.path(file), 0o640))
		must(t, os.Chtimes(m.path(file), testTime, testTime))
	}
	must(t, os.Symlink("folder/deeper", m.path("Notes", "link")))
	must(t, os.Mkdir(m.path("Notes", "empty folder"), 0o755))
	m.unmount()
	b.checkClean()
	pack(t, b.vault, filepath.Join("testdata", name+".tar.gz"))
}

func pack(t testing.TB, dir, archive string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(archive), 0o755))
	f, err := os.Create(archive)
	must(t, err)
	zip, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	must(t, err)
	out := tar.NewWriter(zip)
	must(t, out.AddFS(os.DirFS(dir)))
	must(t, out.Close())
	must(t, zip.Close())
	must(t, f.Close())
}

func unpack(t testing.TB, archive, dir string) {
	t.Helper()
	f, err := os.Open(archive)
	must(t, err)
	defer f.Close()
	zip, err := gzip.NewReader(f)
	must(t, err)
	for in := tar.NewReader(zip); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		must(t, err)
		name := filepath.Join(dir, filepath.FromSlash(h.Name))
		must(t, os.MkdirAll(filepath.Dir(name), 0o700))
		if h.Typeflag == tar.TypeDir {
			must(t, os.MkdirAll(name, 0o700))
			continue
		}
		out, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		must(t, err)
		_, err = io.Copy(out, in)
		must(t, err)
		must(t, out.Close())
		must(t, os.Chtimes(name, time.Now(), h.ModTime))
	}
}
