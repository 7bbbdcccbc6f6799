package metadb

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
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
}

// querier is a transaction, or a connection to read.
type querier struct {
	runner
	ctx context.Context
	ms  int64 // the time of the transaction
}

// exec gives the number of rows that were changed.
func (q *querier) exec(query string, args ...any) (int64, error) {
	n, err := q.runner.exec(q.ctx, query, args)
	if err != nil {
		return 0, fmt.Errorf("%.60s: %w", oneLine(query), err)
	}
	return n, nil
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
	rows, err := q.query(q.ctx, query, args)
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
	if err := rows.Err(); err != nil {
		return fmt.Errorf("%.60s: %w", oneLine(query), err)
	}
	return nil
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// sqlite runs statements on SQLite: in a transaction, or each for itself.
type sqlite struct {
	q interface {
		ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
		QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	}
}

func (sqlite) as(int64) {} // its one owner sees everything

func (s sqlite) exec(ctx context.Context, query string, args []any) (int64, error) {
	r, err := s.q.ExecContext(ctx, rewrite(query), args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (s sqlite) query(ctx context.Context, query string, args []any) (rows, error) {
	r, err := s.q.QueryContext(ctx, rewrite(query), args...)
	if err != nil {
		return nil, err
	}
	return sqliteRows{r}, nil
}

type sqliteRows struct{ *sql.Rows }

func (r sqliteRows) Close() { _ = r.Rows.Close() } // what went wrong, Err has said
