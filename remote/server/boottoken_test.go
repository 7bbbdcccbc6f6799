package server

import (
	"database/sql"
	"fmt"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// A stranger with an address asks for a vault that is here, or for one that is not: the
// token is looked up in both cases, so that the time of the answer does not tell which.
// That it is looked up shows where it cannot be.
func TestBootTokenAlwaysLookedUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.db")
	w := newWorld(t, path, Options{Limits: NoLimits()})
	p := w.register()
	ask := func(vault string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.http.URL+api.PathHeader(vault, 0), nil)
		must(t, err)
		req.Header.Set(api.HeaderBoot, fmt.Sprintf("%032x", 1))
		res, err := w.client.Do(req)
		must(t, err)
		must(t, res.Body.Close())
		return res.StatusCode
	}
	for what, vault := range map[string]string{"a vault": p.vault, "no vault": newID()} {
		if got := ask(vault); got != 401 {
			t.Errorf("%s: %d", what, got)
		}
	}
	db, err := sql.Open("sqlite3", path)
	must(t, err)
	defer db.Close()
	_, err = db.Exec("ALTER TABLE accounts RENAME COLUMN boot TO gone")
	must(t, err)
	for what, vault := range map[string]string{"a vault": p.vault, "no vault": newID()} {
		if got := ask(vault); got < 500 {
			t.Errorf("%s: %d, so its token is not looked up", what, got)
		}
	}
}
