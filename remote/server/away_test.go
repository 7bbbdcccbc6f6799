package server

import (
	"database/sql"
	"net/http"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/server/metatest"
)

// TestDatabaseGoesAway: whoever asks meanwhile is told to come again, also in the
// middle of what a connection was open for, and nobody that he is at fault.
func TestDatabaseGoesAway(t *testing.T) {
	address, leave := metatest.Away(t)
	w := newWorld(t, address, Options{})
	p := w.register()
	parent := p.parent("item")
	p.do("GET", api.PathUsage, nil).want(http.StatusOK)
	login := p.proof(p.nonce(p.device), p.device, p.key, w.http.URL)
	leave()
	for range 3 { // with the connections that broke, then without any
		p.do("GET", "/readyz", nil).code(api.CodeUnavailable)
		p.do("GET", api.PathUsage, nil).code(api.CodeUnavailable)
		p.do("POST", api.PathAttachments, uploadBody("item", parent, randomBytes(100))).code(api.CodeUnavailable)
		p.do("POST", api.PathSession, login).code(api.CodeUnavailable)
		p.do("POST", api.PathVaults, w.newPerson().registration()).code(api.CodeUnavailable)
		p.do("GET", "/healthz", nil).want(http.StatusOK)
	}
}

// TestLoginMeetsTrouble: a client that is refused with 401 gives up, so trouble of
// the database must not look like a wrong key.
func TestLoginMeetsTrouble(t *testing.T) {
	address := metatest.Postgres(t)
	w := newWorld(t, address, Options{})
	p := w.register()
	login := p.proof(p.nonce(p.device), p.device, p.key, w.http.URL)
	db, err := sql.Open("pgx", address)
	must(t, err)
	defer db.Close()
	_, err = db.Exec("ALTER TABLE devices RENAME TO mislaid")
	must(t, err)
	a, err := w.try(p.request("POST", api.PathSession, login))
	must(t, err)
	a.code(api.CodeInternal)
}
