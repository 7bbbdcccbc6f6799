package metadb

import (
	"context"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

const (
	// intentLife is how long an upload may take before it is given up.
	intentLife = time.Hour
	// idempotencyLife is how long an Idempotency-Key is remembered.
	idempotencyLife = 24 * time.Hour
	// sweepStep bounds one transaction of a sweep.
	sweepStep = 100
)

// SweepIntents gives up uploads that nobody ended. For each it gives the store's
// state of its parts, "" for one without.
func (db *DB) SweepIntents(ctx context.Context) (swept []string, err error) {
	err = db.update(ctx, func(q *querier) error {
		swept = nil
		q.as(everyone)
		type intent struct {
			account int64
			slot    string
		}
		var i intent
		var due []intent
		err := q.each("SELECT account,slot FROM upload_intents WHERE started<$1 ORDER BY started LIMIT $2 FOR UPDATE SKIP LOCKED",
			[]any{q.ms - intentLife.Milliseconds(), sweepStep}, func() error { due = append(due, i); return nil }, &i.account, &i.slot)
		if err != nil {
			return err
		}
		for _, i := range due {
			if err := q.lock(i.account); err != nil {
				return err
			}
			left, err := q.endIntent(i.account, i.slot)
			if err != nil {
				return err
			}
			swept = append(swept, left)
		}
		return nil
	})
	return swept, err
}

// SweepTrash purges what was in the trash long enough, and says how many.
func (db *DB) SweepTrash(ctx context.Context) (swept int, err error) {
	err = db.update(ctx, func(q *querier) error {
		swept = 0
		q.as(everyone)
		var account int64
		var id string
		var due []Blob
		var accounts []int64
		err := q.each("SELECT account,blob FROM blobs WHERE purge_at IS NOT NULL AND purge_at<=$1 ORDER BY purge_at LIMIT $2 FOR UPDATE SKIP LOCKED",
			[]any{q.ms, sweepStep}, func() error {
				due, accounts = append(due, Blob{ID: id}), append(accounts, account)
				return nil
			}, &account, &id)
		if err != nil {
			return err
		}
		for i, b := range due {
			if err := q.lock(accounts[i]); err != nil {
				return err
			}
			if err := q.purge(accounts[i], b.ID); err != nil {
				return err
			}
			swept++
		}
		return nil
	})
	return swept, err
}

// DueObjects lists objects to delete. Each stays until ObjectGone. One that a
// blob or an upload names again meanwhile is taken off instead.
func (db *DB) DueObjects(ctx context.Context) (keys []string, err error) {
	err = db.update(ctx, func(q *querier) error {
		keys = nil
		q.as(everyone)
		if err := q.must(`DELETE FROM purge_queue WHERE EXISTS (SELECT 1 FROM blobs b WHERE b.account=purge_queue.account
			AND b.storage_key=purge_queue.storage_key AND b.state IN ('present','released'))`); err != nil {
			return err
		}
		var key string
		return q.each("SELECT storage_key FROM purge_queue WHERE due<=$1 ORDER BY due LIMIT $2", []any{q.ms, sweepStep},
			func() error { keys = append(keys, key); return nil }, &key)
	})
	return keys, err
}

// ObjectGone takes an object off the queue.
func (db *DB) ObjectGone(ctx context.Context, key string) error {
	return db.update(ctx, func(q *querier) error {
		q.as(everyone)
		return q.must("DELETE FROM purge_queue WHERE storage_key=$1", key)
	})
}

// Named says whether a blob, an upload under way or the queue names an object.
func (db *DB) Named(ctx context.Context, key string) (named bool, err error) {
	err = db.view(ctx, everyone, func(q *querier) error {
		var n int64
		err := q.one(`SELECT (SELECT count(*) FROM blobs WHERE storage_key=$1 AND state IN ('present','released'))
			+(SELECT count(*) FROM upload_intents WHERE storage_key=$1)+(SELECT count(*) FROM purge_queue WHERE storage_key=$1)`, []any{key}, &n)
		named = n > 0
		return err
	})
	return named, err
}

// Present lists blobs that should be in the store, behind a key, for the rolling
// look at whether they are.
func (db *DB) Present(ctx context.Context, after string, limit int) (keys []string, err error) {
	err = db.view(ctx, everyone, func(q *querier) error {
		var key string
		return q.each("SELECT storage_key FROM blobs WHERE state='present' AND storage_key>$1 ORDER BY storage_key LIMIT $2", []any{after, limit},
			func() error { keys = append(keys, key); return nil }, &key)
	})
	return keys, err
}

// Missing notes that the object of a blob is not in the store, so that a device
// uploads it again.
func (db *DB) Missing(ctx context.Context, key string) error {
	return db.update(ctx, func(q *querier) error {
		q.as(everyone)
		var account int64
		var id string
		err := q.one("SELECT account,blob FROM blobs WHERE storage_key=$1 AND state='present'", []any{key}, &account, &id)
		if err == ErrNotFound {
			return nil
		}
		if err != nil {
			return err
		}
		if err := q.lock(account); err != nil {
			return err
		}
		b, err := q.blob(id)
		if err != nil || b.StorageKey != key || b.State != api.BlobPresent {
			return err // somebody else was faster
		}
		if err := q.must("UPDATE blobs SET state='missing', pledge='' WHERE account=$1 AND blob=$2", account, id); err != nil {
			return err
		}
		b.State = api.BlobMissing
		if err := q.keepPledge(account, b); err != nil {
			return err
		}
		q.book.now.used -= b.Stored
		return q.announceBlob(account, id, api.BlobMissing)
	})
}
