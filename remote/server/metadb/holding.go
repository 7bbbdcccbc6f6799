package metadb

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
)

// ErrInUse: servers use the database, or somebody moves it.
var ErrInUse = errors.New("the database is in use")

// advisory is the number of PostgreSQL's advisory lock that servers share, and
// that who moves their data has alone.
const advisory = 0x76642d7365727665 // "vd-serve"

// Hold keeps servers (alone) or whoever moves the data (not alone) away until
// release. It asks nothing of a SQLite file, which belongs to the one who has
// locked its directory. Error: ErrInUse.
func (db *DB) Hold(ctx context.Context, alone bool) (release func(), err error) {
	if db.pool == nil {
		return func() {}, nil
	}
	pooled, err := db.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	conn := pooled.Hijack() // the lock ends with it
	release = func() { _ = conn.Close(context.WithoutCancel(ctx)) }
	if err := holdOn(ctx, conn, alone); err != nil {
		release()
		return nil, err
	}
	return release, nil
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
