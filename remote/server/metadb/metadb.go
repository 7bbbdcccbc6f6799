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
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations
var migrations embed.FS

// DB is the database. All methods may be called from any goroutine, by any
// number of processes on one PostgreSQL; of SQLite one process is the owner.
type DB struct {
	sqlite *sqliteDB     // or
	pool   *pgxpool.Pool // the one that address names
	now    func() time.Time
	writes chan *write   // to the one who writes; nil where the database lets many
	done   chan struct{} // closed when that one has ended

	commits committer

	held    *pgx.Conn   // of Hold; nil: none
	guarded atomic.Bool // connections are a server's, which a move keeps away
}

// Open opens the database at an address: postgres://…, or the path of a SQLite
// file, which is made. Tables are brought up to date. A newer schema than this
// program's is an error, before anything is written. Errors: ErrNewerSchema,
// ErrDenied, ErrNoDatabase, ErrUnavailable, ErrFull.
func Open(ctx context.Context, address string) (*DB, error) {
	db := &DB{now: time.Now, done: make(chan struct{}), commits: committer{waiting: make(map[int64][]*commit)}}
	open := db.openSQLite
	if IsPostgres(address) {
		open = db.openPostgres
	}
	if err := open(ctx, address); err != nil {
		return nil, fmt.Errorf("database: %w", classified(err))
	}
	return db, nil
}

func (db *DB) openSQLite(ctx context.Context, path string) (err error) {
	if db.sqlite, err = openSQLite(path); err != nil {
		return err
	}
	if err := migrate(ctx, db.sqlite.DB, database.DialectSQLite3, "sqlite"); err != nil {
		return errors.Join(err, db.sqlite.Close())
	}
	db.writes = make(chan *write)
	go db.writer()
	return nil
}

func (db *DB) openPostgres(ctx context.Context, address string) (err error) {
	if db.pool, err = openPool(ctx, address, db.mayConnect); err != nil {
		return err
	}
	std := stdlib.OpenDBFromPool(db.pool)
	if err := errors.Join(migrate(ctx, std, database.DialectPostgres, "postgres"), std.Close()); err != nil {
		db.pool.Close()
		return err
	}
	close(db.done)
	return nil
}

// ownMigrations are those that only the database's own language can say.
var ownMigrations = map[int64]string{2: "00002_guard.sql", 3: "00003_checkpoint_age.sql", 4: "00004_count_rows.sql"}

// migrate brings the tables up to date: the common migrations, and those in the
// language of this database.
func migrate(ctx context.Context, pool *sql.DB, d database.Dialect, own string) error {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	var steps []*goose.Migration
	for version, name := range ownMigrations {
		text, err := fs.ReadFile(dir, own+"/"+name)
		if err != nil {
			return err
		}
		steps = append(steps, goose.NewGoMigration(version, &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, string(text))
			return err
		}}, nil))
	}
	options := []goose.ProviderOption{goose.WithGoMigrations(steps...)}
	if d == database.DialectPostgres { // of several processes that start at once one does it
		locker, err := lock.NewPostgresSessionLocker()
		if err != nil {
			return err
		}
		options = append(options, goose.WithSessionLocker(locker))
	}
	p, err := goose.NewProvider(d, pool, dir, options...)
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
	db.commits.working.Wait()
	if db.writes != nil {
		close(db.writes)
	}
	<-db.done
	if db.pool != nil {
		db.pool.Close()
		return nil
	}
	return db.sqlite.Close()
}

// Ping says whether the database answers.
func (db *DB) Ping(ctx context.Context) error {
	if db.pool != nil {
		return db.pool.Ping(ctx)
	}
	return db.sqlite.PingContext(ctx)
}

func (db *DB) ms() int64 { return db.now().UnixMilli() }

// Errors of this package; methods say which they give.
var (
	ErrNotFound    = errors.New("no such record")
	ErrNewerSchema = errors.New("made by a newer version of the program")
	ErrDenied      = errors.New("the database denies access")
	ErrNoDatabase  = errors.New("there is no such database")
	ErrUnavailable = errors.New("the database does not answer")
	ErrFull        = errors.New("the database's disk is full")
)

// view reads rows of an account, of everyone or of nobody. What it reads in two
// queries may be of two moments. Errors: those of fn; ErrUnavailable, ErrFull,
// ErrDenied of the database.
func (db *DB) view(ctx context.Context, account int64, fn func(q *querier) error) error {
	q := &querier{runner: sqlite{db: db.sqlite}, ctx: ctx, ms: db.ms()}
	if db.pool != nil {
		q.runner = &pgView{db.pool, account}
	}
	return classified(fn(q))
}

// SetClock replaces the clock, before the database is used: for tests.
func (db *DB) SetClock(now func() time.Time) { db.now = now }
