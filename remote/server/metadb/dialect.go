package metadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/mattn/go-sqlite3" // also the driver "sqlite3"
)

// IsPostgres says whether an address is one of PostgreSQL, and not a file's path.
func IsPostgres(address string) bool {
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

// kindsPostgres are states of PostgreSQL (its manual, appendix A) that pass, or
// that an operator can do something about.
var kindsPostgres = map[string]error{
	"28000": ErrDenied, "28P01": ErrDenied, "42501": ErrDenied, "3D000": ErrNoDatabase, "53100": ErrFull,
	"08000": ErrUnavailable, "08003": ErrUnavailable, "08006": ErrUnavailable, // the connection
	"53300": ErrUnavailable,                                                   // too many connections
	"57P01": ErrUnavailable, "57P02": ErrUnavailable, "57P03": ErrUnavailable, // it ends, broke down, or starts
	"25006": ErrUnavailable, // it only reads: it is no longer, or not yet, the first of several
}

var kindsSQLite = map[sqlite3.ErrNo]error{
	sqlite3.ErrFull: ErrFull, sqlite3.ErrPerm: ErrDenied, sqlite3.ErrReadonly: ErrDenied, sqlite3.ErrAuth: ErrDenied, sqlite3.ErrBusy: ErrUnavailable,
}

// classified names what passes, and what an operator can do something about.
func classified(err error) error {
	kind := kindOf(err)
	var call *net.OpError
	switch {
	case kind == nil, errors.Is(err, kind):
		return err
	case errors.Is(kind, ErrUnavailable) && errors.As(err, &call):
		err = call // the driver's own text is one line for each try
	}
	return fmt.Errorf("%w: %w", kind, err)
}

// kindOf is nil for what is no trouble of the database: all that its caller
// began, a cancelled context too.
func kindOf(err error) error {
	var pg *pgconn.PgError
	var connect *pgconn.ConnectError
	var lite sqlite3.Error
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return nil
	case errors.As(err, &pg):
		return kindsPostgres[pg.Code]
	case errors.As(err, &lite):
		if errors.Is(lite.SystemErrno, syscall.ENOSPC) {
			return ErrFull
		}
		return kindsSQLite[lite.Code]
	case errors.As(err, &connect), lostConnection(err):
		return ErrUnavailable
	}
	return nil
}

// lostConnection says whether one to PostgreSQL broke while it was used: the
// driver has no one error for that.
func lostConnection(err error) bool {
	var call *net.OpError
	return errors.As(err, &call) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || pgconn.SafeToRetry(err)
}
