package metadb

import (
	"context"
	"errors"
	"fmt"
)

// maxGroup bounds the transactions that share one commit.
const maxGroup = 256

// maxTries bounds how often a transaction that met another is done again.
const maxTries = 20

// write is a transaction that waits for the writer of SQLite.
type write struct {
	ctx  context.Context
	fn   func(q *querier) error
	err  error
	done chan struct{}
}

// update runs fn in a transaction, again if another one was in its way: fn has
// no effects of its own but what it stores outside of itself at its end. It sees
// no account before it says which: by lock, or as. Errors: those of fn;
// ErrUnavailable, ErrFull, ErrDenied of the database.
func (db *DB) update(ctx context.Context, fn func(q *querier) error) error {
	if db.writes == nil {
		return classified(db.updateAlone(ctx, fn))
	}
	return classified(db.updateTogether(ctx, fn))
}

func (db *DB) updateTogether(ctx context.Context, fn func(q *querier) error) error {
	w := &write{ctx: ctx, fn: fn, done: make(chan struct{})}
	select {
	case db.writes <- w:
	case <-ctx.Done():
		return ctx.Err()
	}
	<-w.done // it may be done already, so an answer is worth waiting for
	return w.err
}

func (db *DB) updateAlone(ctx context.Context, fn func(q *querier) error) error {
	for try := 1; ; try++ {
		err := db.inTx(ctx, fn)
		if err == nil || try == maxTries || !again(err) {
			return err
		}
	}
}

func (db *DB) inTx(ctx context.Context, fn func(q *querier) error) error {
	if db.pool != nil {
		return pgTxRun(ctx, db.pool, func(r runner) error { return db.querier(ctx, r).run(fn) })
	}
	tx, err := db.sqlite.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	if err := fn(db.querier(ctx, sqlite{db.sqlite, tx})); err != nil {
		return err
	}
	return tx.Commit()
}

func (db *DB) querier(ctx context.Context, r runner) *querier {
	return &querier{runner: r, ctx: ctx, ms: db.ms()}
}

// run is fn, and the numbers that it left to be written.
func (q *querier) run(fn func(q *querier) error) error {
	if err := fn(q); err != nil {
		return err
	}
	return q.settle()
}

// writer commits what waits, together: a commit costs a sync of the disk, so
// many small ones share it.
func (db *DB) writer() {
	defer close(db.done)
	for first := range db.writes {
		group := append(make([]*write, 0, maxGroup), first)
		for len(group) < maxGroup {
			select {
			case w, ok := <-db.writes:
				if !ok {
					db.commit(group)
					return
				}
				group = append(group, w)
				continue
			default:
			}
			break
		}
		db.commit(group)
	}
}

// commit gives every write of the group its answer after the shared commit; one
// that fails takes back its own changes only.
func (db *DB) commit(group []*write) {
	err := db.inTx(context.Background(), func(q *querier) error {
		for _, w := range group {
			if w.err = db.savepoint(q, w); w.err != nil && errors.Is(w.err, errTransaction) {
				return w.err
			}
		}
		return nil
	})
	for _, w := range group {
		if err != nil && w.err == nil {
			w.err = fmt.Errorf("commit: %w", err)
		}
		close(w.done)
	}
}

// errTransaction: the whole transaction is lost.
var errTransaction = errors.New("transaction lost")

func (db *DB) savepoint(q *querier, w *write) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if err := q.must("SAVEPOINT w"); err != nil {
		return fmt.Errorf("%w: %w", errTransaction, err)
	}
	mine := *q
	mine.ctx = context.WithoutCancel(w.ctx) // a cancelled statement would end the transaction of all
	err := mine.run(w.fn)
	if err != nil {
		if back := q.must("ROLLBACK TO w"); back != nil {
			return fmt.Errorf("%w: %w", errTransaction, errors.Join(err, back))
		}
	}
	if rel := q.must("RELEASE w"); rel != nil {
		return fmt.Errorf("%w: %w", errTransaction, errors.Join(err, rel))
	}
	return err
}
