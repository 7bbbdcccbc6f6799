package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/vaultdrive/vaultdrive"

// layer says what one of our packages may import of ours, and what it must not
// come to know through anything it imports, however far away.
type layer struct {
	path  string
	may   []string
	never []string // our packages, forbidden transitively too
	why   string   // what it refuses to know
}

// layers is the import table. An edge or a package missing from it is an error:
// a new one is added here first, with its reason.
var layers = []layer{
	{path: "vaultcore/didkey", why: "what a key signs or opens: the server needs it too"},
	{path: "vaultcore/seal", may: []string{"vaultcore/didkey"}, why: "files, SQL, assets, HTTP and clocks"},
	{path: "vaultcore/blob", why: "what the bytes mean, keys and names"},
	{path: "vaultcore/blob/blobtest", may: []string{"vaultcore/blob"}, why: "any one store"},
	{path: "vaultcore/blob/mounttest", why: "what is mounted, and by which test"},
	{path: "vaultcore/history", may: []string{"vaultcore/seal"}, why: "SQL, files, keys and clocks: it is one pure function, and of seal it needs the ids"},
	{path: "vaultcore/walvfs", why: "what the database holds"},
	{path: "cache", may: []string{"vaultcore/seal"}, why: "where keys come from, SQL and FUSE"},
	{path: "vaultcore", may: []string{"vaultcore/seal", "vaultcore/blob", "vaultcore/history", "vaultcore/walvfs", "cache"}, why: "FUSE, HTTP, the server, and when to sync"},
	{path: "vaultcore/backup", may: []string{"vaultcore", "vaultcore/seal", "vaultcore/blob"}, why: "rows, FUSE, HTTP and terminals: it asks the vault for a snapshot, and gives one back"},
	{path: "vaultcore/vaulttest", may: []string{"vaultcore", "vaultcore/seal", "vaultcore/blob"}, why: "FUSE and commands"},
	{path: "remote/api", may: []string{"vaultcore/didkey"}, why: "who is client, who is server, SQL and keys"},
	{path: "remote", may: []string{"remote/client", "remote/objects", "remote/s3", "remote/syncer", "vaultcore/blob"}, why: "how any remote works"},
	{path: "remote/client", may: []string{"remote/api", "remote/syncer", "vaultcore/blob"}, why: "the vault, the index and conflict rules"},
	{path: "remote/objects", may: []string{"vaultcore/blob", "remote/syncer"}, why: "HTTP and keys"},
	{path: "remote/s3", may: []string{"vaultcore/blob"}, why: "everything but S3 and the store contract"},
	{path: "remote/s3/s3test", may: []string{"remote/s3", "vaultcore/blob"}, why: "what is tested with its servers"},
	{path: "remote/syncer", may: []string{"vaultcore", "vaultcore/seal", "vaultcore/blob", "remote/api"}, why: "HTTP, FUSE and SQL: of seal it needs the ids and ops"},
	{path: "remote/syncer/remotetest", may: []string{"remote/syncer", "vaultcore/blob", "vaultcore/blob/blobtest"}, why: "any one remote"},
	{path: "remote/server", may: []string{"remote/api", "vaultcore/didkey", "remote/server/metadb", "remote/server/web", "vaultcore/blob"}, never: []string{"vaultcore", "vaultcore/seal", "cache"}, why: "any key: none of its dependencies can decrypt"},
	{path: "remote/server/metadb", may: []string{"remote/api"}, never: []string{"vaultcore", "vaultcore/seal", "cache"}, why: "HTTP and blobs"},
	{path: "remote/server/move", may: []string{"remote/server/metadb", "vaultcore/blob"}, never: []string{"vaultcore", "vaultcore/seal", "cache"}, why: "HTTP, SQL, and what is in the blobs"},
	{path: "remote/server/web", why: "everything: it holds the files of the page"},
	{path: "remote/server/metatest", why: "what is kept in the databases it starts"},
	{path: "fs", may: []string{"vaultcore"}, why: "crypto, SQL, HTTP and sync"},
	{path: "integration/bench", may: []string{"remote/api", "vaultcore/didkey"}, why: "anything but the built programs, and the words of the server's API"},
}

// confined says where a foreign module may be imported, and nowhere else.
var confined = map[string][]string{
	"github.com/hanwen/go-fuse":           {"fs"},
	"github.com/hashicorp/golang-lru":     {"cache"},
	"github.com/urfave/cli":               {"cmd"},
	"github.com/mattn/go-sqlite3":         {"vaultcore", "vaultcore/walvfs", "remote/server/metadb"},
	"github.com/jackc/pgx":                {"remote/server/metadb", "remote/server/metatest"},
	"github.com/minio/minio-go":           {"remote/s3"},
	"github.com/zalando/go-keyring":       {"cmd"},
	"github.com/schollz/progressbar":      {"cmd"},
	"github.com/coreos/go-systemd":        {"cmd"},
	"net/http":                            {"remote/api", "remote/client", "remote/server", "remote/s3", "remote/s3/s3test", "integration/bench", "cmd"},
	"database/sql":                        {"vaultcore", "remote/server/metadb", "remote/server/metatest"},
	"golang.org/x/crypto":                 {"vaultcore/seal"},
	"crypto/aes":                          {"vaultcore/seal"},
	"crypto/cipher":                       {"vaultcore/seal"},
	"testing":                             {"vaultcore/blob/blobtest", "vaultcore/blob/mounttest", "vaultcore/vaulttest", "remote/s3/s3test", "remote/syncer/remotetest", "remote/server/metatest"},
	"github.com/prometheus/client_golang": {"remote/server", "cmd"},
}

// listed is what this test reads of `go list`.
type listed struct {
	ImportPath string
	Imports    []string
	Deps       []string
	Error      *struct{ Err string }
}

func TestLayers(t *testing.T) {
	t.Parallel()
	for _, p := range listPackages(t) {
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		l, known := layerOf(name)
		if !known {
			t.Errorf("package %s is not in the table of layers_test.go: say what it may import and what it must not know", name)
			continue
		}
		for _, imp := range p.Imports {
			if ours, ok := strings.CutPrefix(imp, module+"/"); ok {
				checkOurs(t, name, l, ours)
			} else if at := whereConfined(imp); at != nil && !within(name, at) {
				t.Errorf("%s imports %s, which belongs in %s only", name, imp, strings.Join(at, ", "))
			}
		}
		for _, dep := range p.Deps {
			if ours, ok := strings.CutPrefix(dep, module+"/"); ok && slices.Contains(l.never, ours) {
				t.Errorf("%s depends on %s by some way: it must not know %s", name, ours, l.why)
			}
		}
	}
}

func checkOurs(t *testing.T, name string, l layer, ours string) {
	t.Helper()
	switch {
	case strings.HasSuffix(ours, "test") && !strings.HasSuffix(name, "test"):
		t.Errorf("%s imports %s outside its tests", name, ours)
	case ours == "integration" || strings.HasPrefix(ours, "integration/"):
		t.Errorf("%s imports %s: nobody may", name, ours)
	case strings.HasPrefix(name, "cmd/"):
	case !slices.Contains(l.may, ours):
		t.Errorf("%s imports %s, an edge that is not in the table: it must not know %s", name, ours, l.why)
	}
}

// layerOf finds a package's row. Commands may import all, integration is tests.
func layerOf(name string) (layer, bool) {
	if strings.HasPrefix(name, "cmd/") || name == "integration" {
		return layer{path: name, why: "how anything works inside"}, true
	}
	i := slices.IndexFunc(layers, func(l layer) bool { return l.path == name })
	if i < 0 {
		return layer{}, false
	}
	return layers[i], true
}

func whereConfined(imp string) []string {
	for prefix, at := range confined {
		if imp == prefix || strings.HasPrefix(imp, prefix+"/") {
			return at
		}
	}
	return nil
}

func within(name string, at []string) bool {
	return slices.ContainsFunc(at, func(p string) bool {
		return name == p || p == "cmd" && strings.HasPrefix(name, "cmd/")
	})
}

func listPackages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports,Deps,Error", module+"/...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []listed
	for in := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := in.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 5 {
		t.Fatalf("go list names %d packages: %s", len(all), fmt.Sprint(all))
	}
	return all
}
