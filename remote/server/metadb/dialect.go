package metadb

import (
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/mattn/go-sqlite3" // also the driver "sqlite3"
)

func isPostgres(address string) bool {
	return strings.HasPrefix(address, "postgres://") || strings.HasPrefix(address, "postgresql://")
}

// sqliteConns bounds the connections to a file: one writes, the others read.
const sqliteConns = 8

func openSQLite(path string) (*sqliteDB, error) {
	// It has the server's own key in it. SQLite gives its other files the same mode.
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(file.Chmod(0o600), file.Close()); err != nil {
		return nil, err
	}
	// An answer of success is a promise: the log is synced at each commit.
	q := url.Values{"_journal_mode": {"WAL"}, "_synchronous": {"FULL"}, "_busy_timeout": {"10000"}, "_foreign_keys": {"on"}, "_txlock": {"immediate"}}
	db, err := sql.Open("sqlite3", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(sqliteConns)
	db.SetMaxIdleConns(sqliteConns) // to open one costs more than what it is for
	return &sqliteDB{DB: db}, nil
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
	text = strings.NewReplacer(" FOR UPDATE SKIP LOCKED", "", " FOR UPDATE", "", ` COLLATE "C"`, "").Replace(text)
	rewritten.Store(query, text)
	return text
}

// again says whether a transaction failed only because of another one: a
// conflict, a deadlock, or a key that was free when it looked.
func again(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "40001" || pg.Code == "40P01" || pg.Code == "23505")
}

// classified names what an operator can do something about.
func classified(err error) error {
	if err == nil {
		return nil
	}
	var pg *pgconn.PgError
	var connect *pgconn.ConnectError
	var lite sqlite3.Error
	var kind error
	switch {
	case errors.As(err, &pg):
		kind = map[string]error{"28000": ErrDenied, "28P01": ErrDenied, "42501": ErrDenied, "3D000": ErrNoDatabase, "53100": ErrFull}[pg.Code]
	case errors.As(err, &connect):
		kind = ErrUnavailable
		var call *net.OpError
		if errors.As(err, &call) {
			err = call // the driver's own text is one line for each try
		}
	case errors.As(err, &lite):
		kind = map[sqlite3.ErrNo]error{sqlite3.ErrFull: ErrFull, sqlite3.ErrPerm: ErrDenied, sqlite3.ErrReadonly: ErrDenied, sqlite3.ErrAuth: ErrDenied}[lite.Code]
	}
	if kind == nil {
		return err
	}
	return fmt.Errorf("%w: %w", kind, err)
}
