// Package metadb keeps the server's metadata in SQLite or PostgreSQL: one text
// of queries, two small dialects. Each exported method that changes something is
// one transaction.
//
// It refuses to know HTTP and what the bytes of blobs are.
package metadb

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

// DB is the database. All methods may be called from any goroutine, by any
// number of processes on one PostgreSQL; of SQLite one process is the owner.
type DB struct {
	pool    *sql.DB
	dialect dialect
	now     func() time.Time
	writes  chan *write   // to the one who writes; nil where the database lets many
	done    chan struct{} // closed when that one has ended
}

// Open opens the database at an address: postgres://…, or the path of a SQLite
// file, which is made. Tables are brought up to date. A newer schema than this
// program's is an error, before anything is written.
func Open(ctx context.Context, address string) (*DB, error) {
	d := dialectOf(address)
	pool, err := d.open(address)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := migrate(ctx, pool, d); err != nil {
		return nil, errors.Join(fmt.Errorf("database: %w", err), pool.Close())
	}
	db := &DB{pool: pool, dialect: d, now: time.Now, done: make(chan struct{})}
	if d.oneWriter() {
		db.writes = make(chan *write)
		go db.writer()
	} else {
		close(db.done)
	}
	return db, nil
}

func migrate(ctx context.Context, pool *sql.DB, d dialect) error {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(d.goose(), pool, dir)
	if err != nil {
		return err
	}
	have, want, err := versions(ctx, p)
	if err != nil {
		return err
	}
	if have > want {
		return fmt.Errorf("%w: schema %d, this program knows %d", ErrNewerSchema, have, want)
	}
	_, err = p.Up(ctx)
	return err
}

func versions(ctx context.Context, p *goose.Provider) (have, want int64, err error) {
	if have, err = p.GetDBVersion(ctx); err != nil {
		return 0, 0, err
	}
	for _, s := range p.ListSources() {
		want = max(want, s.Version)
	}
	return have, want, nil
}

// Close waits for what is being written.
func (db *DB) Close() error {
	if db.writes != nil {
		close(db.writes)
	}
	<-db.done
	return db.pool.Close()
}

// Ping says whether the database answers.
func (db *DB) Ping(ctx context.Context) error { return db.pool.PingContext(ctx) }

func (db *DB) ms() int64 { return db.now().UnixMilli() }

// Errors of this package; methods say which they give.
var (
	ErrNotFound    = errors.New("no such record")
	ErrNewerSchema = errors.New("made by a newer version of the program")
)

// querier is what a transaction and a connection have in common.
type querier struct {
	ctx context.Context
	q   interface {
		ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
		QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	}
	rewrite func(string) string
	ms      int64 // the time of the transaction
}

// exec gives the number of rows that were changed.
func (q *querier) exec(query string, args ...any) (int64, error) {
	r, err := q.q.ExecContext(q.ctx, q.rewrite(query), args...)
	if err != nil {
		return 0, fmt.Errorf("%.60s: %w", oneLine(query), err)
	}
	return r.RowsAffected()
}

// must is exec for a statement whose count does not matter.
func (q *querier) must(query string, args ...any) error {
	_, err := q.exec(query, args...)
	return err
}

// one scans the only row. ErrNotFound if there is none.
func (q *querier) one(query string, args []any, dest ...any) error {
	found := false
	err := q.each(query, args, func() error { found = true; return nil }, dest...)
	if err == nil && !found {
		return ErrNotFound
	}
	return err
}

// each scans every row into dest and calls fn.
func (q *querier) each(query string, args []any, fn func() error, dest ...any) error {
	rows, err := q.q.QueryContext(q.ctx, q.rewrite(query), args...)
	if err != nil {
		return fmt.Errorf("%.60s: %w", oneLine(query), err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return fmt.Errorf("%.60s: %w", oneLine(query), err)
		}
		if err := fn(); err != nil {
			return err
		}
	}
	return rows.Err()
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// view reads. What it reads in two queries may be of two moments.
func (db *DB) view(ctx context.Context, fn func(q *querier) error) error {
	return fn(&querier{ctx: ctx, q: db.pool, rewrite: db.dialect.rewrite, ms: db.ms()})
}

// SetClock replaces the clock, before the database is used: for tests.
func (db *DB) SetClock(now func() time.Time) { db.now = now }
