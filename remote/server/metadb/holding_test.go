package metadb

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
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

// hold takes the lock; who has just let go of it may still seem to be there.
func hold(t *testing.T, db *DB, alone bool) (release func()) {
	t.Helper()
	for end := time.Now().Add(5 * time.Minute); ; {
		release, err := db.Hold(t.Context(), alone)
		if errors.Is(err, ErrInUse) && time.Now().Before(end) {
			continue
		}
		must(t, err)
		return release
	}
}

// Whoever comes right after somebody has left gets the lock, a server after a move as
// well as a move after a server, and nobody waits long for one who stays.
func TestLockIsFreeSoon(t *testing.T) {
	for what, c := range map[string]struct {
		free time.Duration
		want error
	}{"at once": {0, nil}, "in a moment": {holdWait, nil}, "never": {time.Hour, ErrInUse}} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			err := soon(t.Context(), func() error {
				if time.Since(start) < c.free {
					return ErrInUse
				}
				return nil
			})
			if took := time.Since(start); err != c.want || took > holdWait+time.Second {
				t.Errorf("%s: %v after %v", what, err, took)
			}
		})
	}
}

// breakLocks ends every connection that holds the lock, as the network or a restart
// of the database does, and waits until they are gone.
func breakLocks(t *testing.T, beside *DB) {
	t.Helper()
	_, err := beside.pool.Exec(t.Context(), "SELECT pg_terminate_backend(pid, 60000) FROM pg_locks WHERE locktype='advisory' AND pid<>pg_backend_pid()")
	must(t, err)
}

func change(db *DB) error {
	return db.update(context.Background(), func(q *querier) error { return q.putSetting("test", "x") })
}

// changes changes something until that ends as it should: connections that broke,
// and locks that were given up, take the database a moment.
func changes(t *testing.T, what string, db *DB, want error) {
	t.Helper()
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(time.Millisecond) {
		err := change(db)
		if errors.Is(err, want) {
			return
		}
		if time.Now().After(end) || err == nil {
			t.Fatalf("%s: %v, want %v", what, err, want)
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
	breakLocks(t, mover)
	release := hold(t, mover, true)
	changes(t, "during a move", server, ErrInUse)
	must(t, mover.Depart(t.Context(), Departure{Database: "elsewhere"}))
	release()
	changes(t, "after a move", server, ErrMoved)
	undo := openAt(t, address)
	release = hold(t, undo, true)
	if _, err := undo.Unmove(t.Context()); err != nil {
		t.Fatal(err)
	}
	release()
	changes(t, "when nobody moves it", server, nil)
}

// A server that connects anew after its lock was lost keeps moves away again.
func TestServerConnectsAnew(t *testing.T) {
	address := metatest.Postgres(t)
	server, mover := openAt(t, address), openAt(t, address)
	defer hold(t, server, false)()
	breakLocks(t, mover)
	changes(t, "with a new connection", server, nil)
	if _, err := mover.Hold(t.Context(), true); !errors.Is(err, ErrInUse) {
		t.Errorf("moved beside a server: %v", err)
	}
	server.pool.Reset()
	hold(t, mover, true)()
}

// Who moves data and has lost the lock marks nothing as moved: a server may have
// changed them.
func TestMoverWithoutItsLock(t *testing.T) {
	address := metatest.Postgres(t)
	server, mover := openAt(t, address), openAt(t, address)
	release := hold(t, mover, true)
	breakLocks(t, server)
	if err := mover.Depart(t.Context(), Departure{Database: "elsewhere"}); !errors.Is(err, ErrInUse) {
		t.Errorf("departed without a lock: %v", err)
	}
	release()
	must(t, server.MayServe(t.Context()))
	defer hold(t, server, false)()
	changes(t, "when nobody moves it", server, nil)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
