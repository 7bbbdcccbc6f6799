package metadb

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/server/metatest"
)

func openAt(t *testing.T, address string) *DB {
	t.Helper()
	db, err := Open(t.Context(), address)
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	return db
}

func hold(t *testing.T, db *DB, alone bool) (release func()) {
	t.Helper()
	release, err := db.Hold(t.Context(), alone)
	must(t, err)
	return release
}

// breakHold ends the connection that holds the lock, as the network or a restart of
// the database does, and waits until the lock is gone.
func breakHold(t *testing.T, db, beside *DB) {
	t.Helper()
	_, err := beside.pool.Exec(t.Context(), "SELECT pg_terminate_backend($1, 60000)", db.held.PgConn().PID())
	must(t, err)
}

func change(db *DB) error {
	return db.update(context.Background(), func(q *querier) error { return q.putSetting("test", "x") })
}

// changeAfter changes something once a lock that was given up is gone, which takes
// the database a moment.
func changeAfter(t *testing.T, db *DB) error {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if err := change(db); !errors.Is(err, ErrInUse) || time.Now().After(end) {
			return err
		}
	}
}

// A server whose lock was lost without its knowing changes nothing while its data
// are moved, whatever directory it was started with, nor when they are gone.
func TestServerWithoutItsLock(t *testing.T) {
	address := metatest.Postgres(t)
	server, mover := openAt(t, address), openAt(t, address)
	defer hold(t, server, false)()
	must(t, change(server))
	if _, err := mover.Hold(t.Context(), true); !errors.Is(err, ErrInUse) {
		t.Fatalf("moved beside a server: %v", err)
	}
	breakHold(t, server, mover)
	release := hold(t, mover, true)
	if err := change(server); !errors.Is(err, ErrInUse) {
		t.Errorf("changed during a move: %v", err)
	}
	must(t, mover.Depart(t.Context(), Departure{Database: "elsewhere"}))
	release()
	if err := changeAfter(t, server); !errors.Is(err, ErrMoved) {
		t.Errorf("changed after a move: %v", err)
	}
	undo := openAt(t, address)
	release = hold(t, undo, true)
	if _, err := undo.Unmove(t.Context()); err != nil {
		t.Fatal(err)
	}
	release()
	must(t, changeAfter(t, server))
}

// A transaction of a server that has begun holds a move up by itself.
func TestMoveWaitsForTransactions(t *testing.T) {
	address := metatest.Postgres(t)
	server, mover := openAt(t, address), openAt(t, address)
	defer hold(t, server, false)()
	breakHold(t, server, mover)
	err := server.update(t.Context(), func(q *querier) error {
		if err := errors.Join(q.putSetting("test", "x"), q.flush()); err != nil {
			return err
		}
		if _, err := mover.Hold(t.Context(), true); !errors.Is(err, ErrInUse) {
			t.Errorf("moved beside a transaction: %v", err)
		}
		return nil
	})
	must(t, err)
	hold(t, mover, true)()
}

// Who moves data and has lost the lock marks nothing as moved: a server may have
// changed them.
func TestMoverWithoutItsLock(t *testing.T) {
	address := metatest.Postgres(t)
	server, mover := openAt(t, address), openAt(t, address)
	release := hold(t, mover, true)
	breakHold(t, mover, server)
	if err := mover.Depart(t.Context(), Departure{Database: "elsewhere"}); !errors.Is(err, ErrInUse) {
		t.Errorf("departed without a lock: %v", err)
	}
	release()
	must(t, server.MayServe(t.Context()))
	defer hold(t, server, false)()
	must(t, changeAfter(t, server))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
