package metadb

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// ErrInUse: servers use the database, or somebody moves it.
var ErrInUse = errors.New("the database is in use")

// advisory is the number of PostgreSQL's advisory lock that servers share, and
// that who moves their data has alone.
const advisory = 0x76642d7365727665 // "vd-serve"

// A lock of a session ends with its connection, and nobody is told. So each
// connection of a server holds the lock for itself, as long as it can change
// anything, and one that is made looks whether the data have gone: after it has the
// lock, so that what a move has written last is seen.
func (db *DB) mayConnect(ctx context.Context, conn *pgx.Conn) error {
	if !db.guarded.Load() {
		return nil
	}
	if err := holdOn(ctx, conn, false); err != nil {
		return err
	}
	gone := false
	err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM settings WHERE name IN ($1,$2))", settingMoved, settingMoving).Scan(&gone)
	if err == nil && gone {
		err = ErrMoved
	}
	return err
}

// Hold keeps servers (alone) or whoever moves the data (not alone) away until
// release, also if the connection that does so breaks: a server makes no new ones
// beside a move then, and Depart fails. It asks nothing of a SQLite file, which belongs to the
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
	if err := soon(ctx, func() error { return holdOn(ctx, conn, alone) }); err != nil {
		end()
		return nil, err
	}
	db.held = conn
	if db.guarded.Store(!alone); !alone {
		db.pool.Reset() // its connections are of the time before
	}
	return func() { db.guarded.Store(false); end() }, nil
}

// holdWait is how long a process that has ended, a server or a move, may still seem to
// be there: PostgreSQL lets its locks go when it gets to it.
const holdWait = 3 * time.Second

// soon takes a lock, also right after somebody has left.
func soon(ctx context.Context, take func() error) error {
	for end := time.Now().Add(holdWait); ; {
		last := !time.Now().Before(end)
		err := take()
		if !errors.Is(err, ErrInUse) || last {
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
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
