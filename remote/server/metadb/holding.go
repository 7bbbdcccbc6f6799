package metadb

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrInUse: servers use the database, or somebody moves it.
var ErrInUse = errors.New("the database is in use")

// advisory is the number of PostgreSQL's advisory lock that servers share, and
// that who moves their data has alone.
const advisory = 0x76642d7365727665 // "vd-serve"

// A lock of a session ends with its connection, and nobody is told. So each
// transaction of a server asks for it anew, for itself, and then whether the data
// have gone: in this order, so that what a move has written last is seen. A division
// by zero is what takes back all that was sent along.
const (
	guardLock  = "SELECT 1/(pg_try_advisory_xact_lock_shared($1))::int"
	guardMoved = "SELECT 1/(NOT EXISTS (SELECT 1 FROM settings WHERE name IN ('" + settingMoved + "','" + settingMoving + "')))::int"

	divisionByZero = "22012"
)

// guards begin every transaction of a server.
func guards() []statement {
	return []statement{{query: guardLock, args: []any{int64(advisory)}, refusal: ErrInUse}, {query: guardMoved, refusal: ErrMoved}}
}

// refused says what the failure of a guard means.
func refused(st statement, err error) error {
	var failed *pgconn.PgError
	if st.refusal != nil && errors.As(err, &failed) && failed.Code == divisionByZero {
		return st.refusal
	}
	return err
}

// Hold keeps servers (alone) or whoever moves the data (not alone) away until
// release, also if the connection that does so breaks: a server's changes are
// refused then, and Depart. It asks nothing of a SQLite file, which belongs to the
// one who has locked its directory. Error: ErrInUse.
func (db *DB) Hold(ctx context.Context, alone bool) (release func(), err error) {
	if db.pool == nil {
		return func() {}, nil
	}
	pooled, err := db.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	conn := pooled.Hijack() // the lock ends with it
	end := func() { _ = conn.Close(context.WithoutCancel(ctx)) }
	if err := holdOn(ctx, conn, alone); err != nil {
		end()
		return nil, err
	}
	db.held = conn
	db.guarded.Store(!alone)
	return func() { db.guarded.Store(false); end() }, nil
}

func holdOn(ctx context.Context, conn *pgx.Conn, alone bool) error {
	text := "SELECT pg_try_advisory_lock_shared($1)"
	if alone {
		text = "SELECT pg_try_advisory_lock($1)"
	}
	got := false
	if err := conn.QueryRow(ctx, text, int64(advisory)).Scan(&got); err != nil {
		return err
	}
	if !got {
		return ErrInUse
	}
	return nil
}
