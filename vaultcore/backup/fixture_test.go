package backup

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// fixturePath is a backup that every later version opens. It has two headers,
// since the password was changed, and contents of both.
const fixturePath = "testdata/v1/small.nt2backup"

var update = flag.Bool("update", false, "make the fixture anew: only for a format that nobody has used yet")

const fixtureTree = `A asset item 700
A/old.txt file  600 12 215ce66809bd102a 1767225600000000000
A/sub folder  700
A/sub/link symlink  777 -> ../old.txt
A/sub/new.bin file  640 20000 86999324511ad84c 1767225600000000000
Note asset note 700`

func TestOldBackupOpens(t *testing.T) {
	if *update {
		makeFixture(t)
	}
	b, err := os.ReadFile(fixturePath)
	if err != nil {
		t.Fatal(err)
	}
	o := opening(laterPassword)
	o.KDF = vaultcore.InProcessKDF
	r, err := Verify(t.Context(), bytes.NewReader(b), o, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if r.Headers != 2 || r.Blobs != 4 || len(r.Manifest.Missing) != 0 {
		t.Errorf("report: %+v", r)
	}
	back, err := Restore(t.Context(), bytes.NewReader(b), o, filepath.Join(t.TempDir(), "back"), "", true)
	if err != nil {
		t.Fatal(err)
	}
	v, err := vaultcore.Open(t.Context(), back.Home, vaultcore.Credentials{Password: []byte(laterPassword)}, vaultcore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close(t.Context())
	if got := tree(t, v); got != fixtureTree {
		t.Errorf("the tree is\n%s\nwant\n%s", got, fixtureTree)
	}
}

// makeFixture writes the backup.
func makeFixture(t *testing.T) {
	s := &source{t: t, home: filepath.Join(t.TempDir(), "vault")}
	_, err := vaultcore.Create(t.Context(), vaultcore.CreateOptions{Home: s.home, Password: []byte(testPassword), Params: seal.LowKDF()})
	if err != nil {
		t.Fatal(err)
	}
	if s.Vault, err = vaultcore.Open(t.Context(), s.home, vaultcore.Credentials{Password: []byte(testPassword)}, vaultcore.Options{}); err != nil {
		t.Fatal(err)
	}
	defer s.Close(t.Context())
	at := time.Unix(1_767_225_600, 0)
	put := func(path string, mode uint32, data []byte) {
		w, err := s.OpenWrite(path, vaultcore.WriteOptions{Parents: true, Mode: mode, Mtime: at})
		if err == nil {
			if _, err = w.Write(data); err == nil {
				err = w.Commit()
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	put("A/old.txt", 0o600, []byte("epoch 1 here"))
	first := s.prepare(Options{}) // seals it
	first.Close()
	if err := s.ChangePassword(t.Context(), []byte(testPassword), []byte(laterPassword), seal.KDFParams{}, nil); err != nil {
		t.Fatal(err)
	}
	put("A/sub/new.bin", 0o640, pattern(20_000))
	if _, err := s.MakeLink("A/sub/link", "../old.txt", false); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddAsset("Note", "note"); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(fixturePath), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(fixturePath, s.backup(), 0o644); err != nil {
		t.Fatal(err)
	}
}
