package metadb

import (
	"database/sql"
	"errors"
	"net/url"
	"regexp"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/mattn/go-sqlite3" // the driver "sqlite3"
)

func isPostgres(address string) bool {
	return strings.HasPrefix(address, "postgres://") || strings.HasPrefix(address, "postgresql://")
}

func openSQLite(path string) (*sql.DB, error) {
	// An answer of success is a promise: the log is synced at each commit.
	q := url.Values{"_journal_mode": {"WAL"}, "_synchronous": {"FULL"}, "_busy_timeout": {"10000"}, "_foreign_keys": {"on"}, "_txlock": {"immediate"}}
	return sql.Open("sqlite3", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode())
}

var placeholder = regexp.MustCompile(`\$(\d+)`)

// rewritten keeps the text of a query for SQLite, where $n counts by its first
// appearance and ?n by its number. There are as many as queries in this package.
var rewritten sync.Map

func rewrite(query string) string {
	if text, ok := rewritten.Load(query); ok {
		return text.(string)
	}
	text := placeholder.ReplaceAllString(query, "?$1")
	text = strings.NewReplacer(" FOR UPDATE SKIP LOCKED", "", " FOR UPDATE", "").Replace(text)
	rewritten.Store(query, text)
	return text
}

// again says whether a transaction failed only because of another one: a
// conflict, a deadlock, or a key that was free when it looked.
func again(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "40001" || pg.Code == "40P01" || pg.Code == "23505")
}
