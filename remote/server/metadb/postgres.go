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

// openPool's connections are asked by made whether they may be, when they are.
func openPool(ctx context.Context, address string, made func(context.Context, *pgx.Conn) error) (*pgxpool.Pool, error) {
	c, err := pgxpool.ParseConfig(address)
	if err != nil {
		return nil, errors.New("the address of the database cannot be read: postgres://user@host/database is the form") // err may repeat a password
	}
	c.MaxConns, c.AfterConnect = poolSize, made
	return pgxpool.NewWithConfig(ctx, c)
}

// setAccount names whose rows the transaction may see.
const setAccount = "SELECT set_config('vaultdrive.account',$1,true)"

// statement is one that waits to be sent.
type statement struct {
	query string
	args  []any
	got   func(rows) error // nil: nobody wants its rows
}

// sending is statements on their way, in one round trip.
type sending struct {
	list    []statement
	results pgx.BatchResults
}

// sender is a connection, or a pool of them.
type sender interface {
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

func send(ctx context.Context, to sender, list ...statement) *sending {
	b := &pgx.Batch{}
	for _, s := range list {
		b.Queue(s.query, s.args...)
	}
	return &sending{list, to.SendBatch(ctx, b)}
}

// answers takes those to the first n statements. After an error nothing is left to
// be read.
func (s *sending) answers(n int) error {
	for _, st := range s.list[:n] {
		if err := s.answer(st); err != nil {
			_ = s.results.Close() // it repeats err
			return inQuery(st.query, err)
		}
	}
	return nil
}

func (s *sending) answer(st statement) error {
	if st.got == nil {
		_, err := s.results.Exec()
		return err
	}
	found, err := s.results.Query()
	if err != nil {
		return err
	}
	defer found.Close()
	return st.got(found)
}

// exec gives how many rows the last statement changed, and all its tag says.
func (s *sending) exec() (pgconn.CommandTag, error) {
	if err := s.answers(len(s.list) - 1); err != nil {
		return pgconn.CommandTag{}, err
	}
	tag, err := s.results.Exec()
	if closed := s.results.Close(); err == nil {
		err = closed
	}
	return tag, err
}

// query gives the rows of the last statement.
func (s *sending) query() (rows, error) {
	if err := s.answers(len(s.list) - 1); err != nil {
		return nil, err
	}
	found, err := s.results.Query()
	if err != nil {
		_ = s.results.Close() // it repeats err
		return nil, err
	}
	return batchRows{found, s.results}, nil
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

func (v *pgView) send(ctx context.Context, query string, args []any) *sending {
	return send(ctx, v.pool, sayAccount(v.account), statement{query: query, args: args})
}

func (v *pgView) exec(ctx context.Context, query string, args []any) (int64, error) {
	tag, err := v.send(ctx, query, args).exec()
	return tag.RowsAffected(), err
}

func (v *pgView) query(ctx context.Context, query string, args []any) (rows, error) {
	return v.send(ctx, query, args).query()
}

func (v *pgView) later(ctx context.Context, query string, args []any, got func(rows) error) error {
	return atOnce(ctx, v, query, args, got)
}

func (v *pgView) flush(context.Context) error { return nil }

func sayAccount(account int64) statement {
	return statement{query: setAccount, args: []any{strconv.FormatInt(account, 10)}}
}

// pgTx is a transaction on PostgreSQL. Statements whose answers nobody needs yet
// wait for one that is needed, and go along with it.
type pgTx struct {
	conn    *pgx.Conn
	open    bool
	account int64 // that the database has been told of, or is about to be
	waiting []statement
}

func (t *pgTx) as(account int64) {
	if t.account != account {
		t.account = account
		t.waiting = append(t.waiting, sayAccount(account))
	}
}

// send sends what waits, and a statement more.
func (t *pgTx) send(ctx context.Context, more ...statement) *sending {
	var list []statement
	if !t.open {
		list = append(list, statement{query: "begin"})
	}
	list = append(append(list, t.waiting...), more...)
	t.open, t.waiting = true, nil
	return send(ctx, t.conn, list...)
}

func (t *pgTx) exec(ctx context.Context, query string, args []any) (int64, error) {
	tag, err := t.send(ctx, statement{query: query, args: args}).exec()
	t.sayAgain(query)
	return tag.RowsAffected(), err
}

func (t *pgTx) query(ctx context.Context, query string, args []any) (rows, error) {
	if t.open && len(t.waiting) == 0 {
		return t.conn.Query(ctx, query, args...)
	}
	return t.send(ctx, statement{query: query, args: args}).query()
}

func (t *pgTx) later(_ context.Context, query string, args []any, got func(rows) error) error {
	t.waiting = append(t.waiting, statement{query: query, args: args, got: got})
	t.sayAgain(query)
	return nil
}

// sayAgain is for a statement that puts the setting back as well.
func (t *pgTx) sayAgain(query string) {
	if strings.HasPrefix(query, "ROLLBACK TO") {
		t.waiting = append(t.waiting, sayAccount(t.account))
	}
}

func (t *pgTx) flush(ctx context.Context) error {
	if len(t.waiting) == 0 {
		return nil
	}
	s := t.send(ctx)
	if err := s.answers(len(s.list)); err != nil {
		return err
	}
	return s.results.Close()
}

// commit ends the transaction. Error: pgx.ErrTxCommitRollback where an earlier
// statement had failed.
func (t *pgTx) commit(ctx context.Context) error {
	if !t.open && len(t.waiting) == 0 {
		return nil
	}
	tag, err := t.send(ctx, statement{query: "commit"}).exec()
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
	if err = fn(tx); err == nil {
		err = tx.commit(ctx)
	}
	if err != nil && tx.open && !conn.Conn().IsClosed() {
		_, _ = tx.conn.Exec(context.WithoutCancel(ctx), "rollback") // else Release closes it
	}
	return err
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
