package metadb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/mattn/go-sqlite3"

	"github.com/vaultdrive/vaultdrive/remote/server/metatest"
)

// TestClassified: what passes or is the operator's is named, and what a caller or
// the program itself brought about is not.
func TestClassified(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	for _, c := range []struct{ err, want error }{
		{&pgconn.PgError{Code: "57P01"}, ErrUnavailable},
		{&pgconn.PgError{Code: "57P03"}, ErrUnavailable},
		{&pgconn.PgError{Code: "53300"}, ErrUnavailable},
		{&pgconn.PgError{Code: "53100"}, ErrFull},
		{refused, ErrUnavailable},
		{io.ErrUnexpectedEOF, ErrUnavailable},
		{sqlite3.Error{Code: sqlite3.ErrFull}, ErrFull},
		{sqlite3.Error{Code: sqlite3.ErrIoErr, SystemErrno: syscall.ENOSPC}, ErrFull},
		{sqlite3.Error{Code: sqlite3.ErrBusy}, ErrUnavailable},
		{fmt.Errorf("%w: %w", context.Canceled, refused), nil},
		{&pgconn.PgError{Code: "23514"}, nil},
		{sqlite3.Error{Code: sqlite3.ErrConstraint}, nil},
		{&os.PathError{Op: "open", Path: "meta.db", Err: syscall.ENOENT}, nil},
		{ErrNotFound, nil},
	} {
		got := classified(fmt.Errorf("SELECT: %w", c.err))
		for _, kind := range []error{ErrUnavailable, ErrFull, ErrDenied, ErrNoDatabase} {
			if is := errors.Is(got, kind); is != (kind == c.want) {
				t.Errorf("%v: %v is %v: %v", c.err, got, kind, is)
			}
		}
		if again := classified(got); again.Error() != got.Error() {
			t.Errorf("named twice: %v", again)
		}
	}
}

// TestServerGoesAway: reading, writing and both in one transaction say so, on
// connections that broke and without any.
func TestServerGoesAway(t *testing.T) {
	address, leave := metatest.Away(t)
	db, err := Open(context.Background(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx := context.Background()
	if _, err := db.Accounts(ctx); err != nil {
		t.Fatal(err)
	}
	err = db.update(ctx, func(q *querier) error {
		if err := q.must("INSERT INTO settings(name,value) VALUES('a','b')"); err != nil {
			return err
		}
		if err := q.flush(); err != nil {
			return err
		}
		leave()
		return q.must("INSERT INTO settings(name,value) VALUES('c','d')")
	})
	for try := range 3 {
		if !errors.Is(err, ErrUnavailable) {
			t.Errorf("writing, try %d: %v", try, err)
		}
		if _, err := db.Accounts(ctx); !errors.Is(err, ErrUnavailable) {
			t.Errorf("reading, try %d: %v", try, err)
		}
		err = db.AddInvite(ctx, "hash", 1)
	}
}
