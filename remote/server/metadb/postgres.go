package metadb

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// poolSize bounds the connections of one process.
const poolSize = 32

func openPool(ctx context.Context, address string) (*pgxpool.Pool, error) {
	c, err := pgxpool.ParseConfig(address)
	if err != nil {
		return nil, errors.New("the address of the database cannot be read: postgres://user@host/database is the form") // err may repeat a password
	}
	c.MaxConns = poolSize
	return pgxpool.NewWithConfig(ctx, c)
}

// setAccount names whose rows the transaction may see.
const setAccount = "SELECT set_config('vaultdrive.account',$1,true)"

// batch is a statement with what has to go before it, in one round trip.
func batch(begin bool, account *int64, query string, args []any) (b *pgx.Batch, before int) {
	b = &pgx.Batch{}
	if begin {
		b.Queue("begin")
	}
	if account != nil {
		b.Queue(setAccount, strconv.FormatInt(*account, 10))
	}
	before = b.Len()
	b.Queue(query, args...)
	return b, before
}

// skip passes over the answers to the first statements of a batch.
func skip(r pgx.BatchResults, n int) error {
	for range n {
		if _, err := r.Exec(); err != nil {
			return err
		}
	}
	return nil
}

// batchExec is the last statement of a batch, for the number of changed rows.
func batchExec(r pgx.BatchResults, before int) (int64, error) {
	err := skip(r, before)
	var tag pgconn.CommandTag
	if err == nil {
		tag, err = r.Exec()
	}
	return tag.RowsAffected(), errors.Join(err, closeAfter(r, err))
}

// closeAfter closes; an error that was told already is not told twice.
func closeAfter(r pgx.BatchResults, told error) error {
	if err := r.Close(); told == nil {
		return err
	}
	return nil
}

// batchQuery is the last statement of a batch, for its rows.
func batchQuery(r pgx.BatchResults, before int) (rows, error) {
	err := skip(r, before)
	if err == nil {
		var found pgx.Rows
		if found, err = r.Query(); err == nil {
			return batchRows{found, r}, nil
		}
	}
	_ = r.Close() // it repeats err
	return nil, err
}

// batchRows frees the connection with its rows.
type batchRows struct {
	pgx.Rows
	batch pgx.BatchResults
}

func (r batchRows) Close() {
	r.Rows.Close()
	_ = r.batch.Close() // what went wrong, Err has said
}

// pgView reads on PostgreSQL, each statement for itself.
type pgView struct {
	pool    *pgxpool.Pool
	account int64
}

func (v *pgView) as(account int64) { v.account = account }

func (v *pgView) exec(ctx context.Context, query string, args []any) (int64, error) {
	b, before := batch(false, &v.account, query, args)
	return batchExec(v.pool.SendBatch(ctx, b), before)
}

func (v *pgView) query(ctx context.Context, query string, args []any) (rows, error) {
	b, before := batch(false, &v.account, query, args)
	return batchQuery(v.pool.SendBatch(ctx, b), before)
}

// pgTx is a transaction on PostgreSQL. It begins with its first statement, in
// the same round trip.
type pgTx struct {
	conn    *pgx.Conn
	open    bool
	account int64
	unset   bool // the database has not been told of account
}

func (t *pgTx) as(account int64) {
	if t.account != account {
		t.account, t.unset = account, true
	}
}

func (t *pgTx) batch(query string, args []any) (*pgx.Batch, int) {
	var account *int64
	if t.unset {
		account = &t.account
	}
	b, before := batch(!t.open, account, query, args)
	t.open, t.unset = true, false
	return b, before
}

func (t *pgTx) exec(ctx context.Context, query string, args []any) (int64, error) {
	if strings.HasPrefix(query, "ROLLBACK TO") {
		t.unset = true // the setting goes back too; the next statement says it again
		tag, err := t.conn.Exec(ctx, query, args...)
		return tag.RowsAffected(), err
	}
	if t.open && !t.unset {
		tag, err := t.conn.Exec(ctx, query, args...)
		return tag.RowsAffected(), err
	}
	b, before := t.batch(query, args)
	return batchExec(t.conn.SendBatch(ctx, b), before)
}

func (t *pgTx) query(ctx context.Context, query string, args []any) (rows, error) {
	if t.open && !t.unset {
		return t.conn.Query(ctx, query, args...)
	}
	b, before := t.batch(query, args)
	return batchQuery(t.conn.SendBatch(ctx, b), before)
}

// commit ends the transaction. Error: pgx.ErrTxCommitRollback where an earlier
// statement had failed.
func (t *pgTx) commit(ctx context.Context) error {
	if !t.open {
		return nil
	}
	tag, err := t.conn.Exec(ctx, "commit")
	if err == nil && tag.String() == "ROLLBACK" {
		err = pgx.ErrTxCommitRollback
	}
	return err
}

// pgTxRun runs fn in a transaction.
func pgTxRun(ctx context.Context, pool *pgxpool.Pool, fn func(r runner) error) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release() // one whose transaction is open is closed instead
	tx := &pgTx{conn: conn.Conn()}
	if err := fn(tx); err != nil {
		if tx.open && !conn.Conn().IsClosed() {
			_, _ = tx.conn.Exec(context.WithoutCancel(ctx), "rollback") // else Release closes it
		}
		return err
	}
	return tx.commit(ctx)
}

// Unguarded says that row-level security does not bind the role which the
// database is used as: it is a superuser, or may bypass it.
func (db *DB) Unguarded(ctx context.Context) (free bool, err error) {
	if db.pool == nil {
		return false, nil
	}
	err = db.pool.QueryRow(ctx, "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname=current_user").Scan(&free)
	return free, err
}
