package metadb

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"
)

// Accounts that are none: whose rows a statement may see, besides those of one
// account. PostgreSQL enforces it (migrations/postgres).
const (
	nobody   int64 = 0  // tables without accounts only
	everyone int64 = -1 // what is looked up by a key other than the account, and sweeps
)

// rows is what a query gave.
type rows interface {
	Next() bool
	Scan(dest ...any) error
	Err() error
	Close()
}

// runner runs statements, in a transaction or each for itself.
type runner interface {
	// as says whose rows the statements from here on may see. It asks the
	// database nothing: it goes along with the next statement.
	as(account int64)
	exec(ctx context.Context, query string, args []any) (changed int64, err error)
	query(ctx context.Context, query string, args []any) (rows, error)
	// later may leave a statement until the next exec, query or flush, which then
	// fails in its place. got, unless it is nil, is given its rows.
	later(ctx context.Context, query string, args []any, got func(rows) error) error
	flush(ctx context.Context) error
}

// querier is a transaction, or a connection to read.
type querier struct {
	runner
	ctx  context.Context
	ms   int64 // the time of the transaction
	book *book // of the account that is locked; nil: none
}

// exec gives the number of rows that were changed.
func (q *querier) exec(query string, args ...any) (int64, error) {
	n, err := q.runner.exec(q.ctx, query, args)
	if err != nil {
		return 0, fmt.Errorf("%.60s: %w", oneLine(query), err)
	}
	return n, nil
}

// must is exec for a statement whose count does not matter. It may be run with the
// next one, which fails in its place then.
func (q *querier) must(query string, args ...any) error {
	return inQuery(query, q.runner.later(q.ctx, query, args, nil))
}

// fetch is each for rows that are not needed before flush, or the next statement
// whose answer is.
func (q *querier) fetch(query string, args []any, fn func() error, dest ...any) error {
	return inQuery(query, q.runner.later(q.ctx, query, args, func(r rows) error { return scanEach(r, fn, dest) }))
}

// flush has everything run that was left for later.
func (q *querier) flush() error { return q.runner.flush(q.ctx) }

func inQuery(query string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%.60s: %w", oneLine(query), err)
}

func scanEach(r rows, fn func() error, dest []any) error {
	for r.Next() {
		if err := r.Scan(dest...); err != nil {
			return err
		}
		if err := fn(); err != nil {
			return err
		}
	}
	return r.Err()
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
	rows, err := q.query(q.ctx, query, args)
	if err != nil {
		return fmt.Errorf("%.60s: %w", oneLine(query), err)
	}
	defer rows.Close()
	return inQuery(query, scanEach(rows, fn, dest))
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// atOnce is later for who has nothing to wait with.
func atOnce(ctx context.Context, r runner, query string, args []any, got func(rows) error) error {
	if got == nil {
		_, err := r.exec(ctx, query, args)
		return err
	}
	found, err := r.query(ctx, query, args)
	if err != nil {
		return err
	}
	defer found.Close()
	return got(found)
}

// sqlite runs statements on SQLite, in the transaction tx or each for itself.
type sqlite struct {
	db *sqliteDB
	tx *sql.Tx // nil: none
}

// sqliteDB keeps the statements that were used: there are as many as queries in
// this package.
type sqliteDB struct {
	*sql.DB
	known sync.Map // text to *sql.Stmt
}

func (d *sqliteDB) prepared(ctx context.Context, query string) (*sql.Stmt, error) {
	if s, ok := d.known.Load(query); ok {
		return s.(*sql.Stmt), nil
	}
	s, err := d.PrepareContext(ctx, rewrite(query))
	if err != nil {
		return nil, err
	}
	kept, there := d.known.LoadOrStore(query, s)
	if there {
		s.Close()
	}
	return kept.(*sql.Stmt), nil
}

func (sqlite) as(int64) {} // its one owner sees everything

func (s sqlite) statement(ctx context.Context, query string) (*sql.Stmt, error) {
	st, err := s.db.prepared(ctx, query)
	if err == nil && s.tx != nil {
		st = s.tx.StmtContext(ctx, st)
	}
	return st, err
}

func (s sqlite) exec(ctx context.Context, query string, args []any) (int64, error) {
	st, err := s.statement(ctx, query)
	if err != nil {
		return 0, err
	}
	r, err := st.ExecContext(ctx, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (s sqlite) query(ctx context.Context, query string, args []any) (rows, error) {
	st, err := s.statement(ctx, query)
	if err != nil {
		return nil, err
	}
	r, err := st.QueryContext(ctx, args...)
	if err != nil {
		return nil, err
	}
	return sqliteRows{r}, nil
}

func (s sqlite) later(ctx context.Context, query string, args []any, got func(rows) error) error {
	return atOnce(ctx, s, query, args, got)
}

func (sqlite) flush(context.Context) error { return nil }

type sqliteRows struct{ *sql.Rows }

func (r sqliteRows) Close() { _ = r.Rows.Close() } // what went wrong, Err has said
