package metadb

import (
	"context"
	"errors"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// TrashLife is how long a released blob is kept.
const TrashLife = 30 * 24 * time.Hour

// Blob is what is known of a stored blob.
type Blob struct {
	ID, StorageKey, SHA256, State string
	Stored                        int64
	pledge                        string // slot of the upload that it makes room for
}

const blobQuery = "SELECT blob,storage_key,stored,sha256,state,pledge FROM blobs WHERE account=$1 AND blob=$2"

func (b *Blob) dest() []any {
	return []any{&b.ID, &b.StorageKey, &b.Stored, &b.SHA256, &b.State, &b.pledge}
}

// blob finds one of the account that is locked. It may be changed, after the
// database is. Error: ErrNotFound.
func (q *querier) blob(id string) (*Blob, error) {
	if _, ok := q.book.blobs[id]; !ok {
		if err := errors.Join(q.fetchBlob(id), q.flush()); err != nil {
			return nil, err
		}
	}
	if b := q.book.blobs[id]; b != nil {
		return b, nil
	}
	return nil, ErrNotFound
}

// Blob finds one that can be read: present, or in the trash. Errors:
// ErrNotFound; api's blob_gone for one that was purged or lost.
func (db *DB) Blob(ctx context.Context, account int64, id string) (b Blob, err error) {
	err = db.view(ctx, account, func(q *querier) error {
		if err := q.one(blobQuery, []any{account, id}, b.dest()...); err != nil {
			return err
		}
		if b.State == api.BlobPurged || b.State == api.BlobMissing {
			return api.Errorf(api.CodeBlobGone, "the blob is %s", b.State)
		}
		return nil
	})
	return b, err
}

// blobLive: error api's blob_gone.
func (q *querier) blobLive(id string) error {
	b, err := q.blob(id)
	if err == ErrNotFound || err == nil && b.State != api.BlobPresent {
		return api.Errorf(api.CodeBlobGone, "blob %s is not here", id)
	}
	return err
}

// Blobs lists what is stored, behind an id.
func (db *DB) Blobs(ctx context.Context, account int64, after string, limit int) (out []api.Blob, err error) {
	out = []api.Blob{}
	err = db.view(ctx, account, func(q *querier) error {
		var b api.Blob
		return q.each("SELECT blob,stored,state FROM blobs WHERE account=$1 AND blob>$2 AND state<>'purged' ORDER BY blob LIMIT $3",
			[]any{account, after, limit}, func() error { out = append(out, b); return nil }, &b.BlobID, &b.StoredBytes, &b.State)
	})
	return out, err
}

// Release puts blobs into the trash, unless a live row names them; Claim takes
// them back out. Both answer for each blob what it is now. Error: api's
// quota_exceeded for a claim.
func (db *DB) Release(ctx context.Context, account int64, ids []string) ([]api.Blob, error) {
	return db.eachBlob(ctx, account, ids, (*querier).releaseUnnamed)
}

// Claim takes blobs back out of the trash.
func (db *DB) Claim(ctx context.Context, account int64, ids []string) ([]api.Blob, error) {
	return db.eachBlob(ctx, account, ids, (*querier).claim)
}

func (db *DB) eachBlob(ctx context.Context, account int64, ids []string, fn func(*querier, int64, string) error) (out []api.Blob, err error) {
	err = db.update(ctx, func(q *querier) error {
		out = []api.Blob{}
		if err := q.lock(account); err != nil {
			return err
		}
		for _, id := range ids {
			if err := fn(q, account, id); err != nil {
				return err
			}
			b, err := q.blob(id)
			if err == ErrNotFound {
				b, err = &Blob{ID: id, State: api.BlobMissing}, nil
			}
			if err != nil {
				return err
			}
			out = append(out, api.Blob{BlobID: b.ID, StoredBytes: b.Stored, State: b.State})
		}
		return q.trimTrash(account)
	})
	return out, err
}

// releaseUnnamed puts a blob that is present and that no live row names into the
// trash.
func (q *querier) releaseUnnamed(account int64, id string) error {
	if q.book.namers[id] == nil {
		if err := errors.Join(q.fetchNamers(id), q.fetchBlob(id), q.flush()); err != nil {
			return err
		}
	}
	if len(q.book.namers[id]) > 0 {
		return nil
	}
	b, err := q.blob(id)
	if err == ErrNotFound || err == nil && b.State != api.BlobPresent {
		return nil
	}
	if err != nil {
		return err
	}
	if err := q.keepPledge(account, b); err != nil {
		return err
	}
	if err := q.must("UPDATE blobs SET state='released', pledge='', purge_at=$3 WHERE account=$1 AND blob=$2", account, id, q.ms+TrashLife.Milliseconds()); err != nil {
		return err
	}
	b.State = api.BlobReleased
	q.book.now.used -= b.Stored
	q.book.now.trash += b.Stored
	return q.announceBlob(account, id, api.BlobReleased)
}

func (q *querier) claim(account int64, id string) error {
	b, err := q.blob(id)
	if err == ErrNotFound || err == nil && b.State != api.BlobReleased {
		return nil
	}
	if err != nil {
		return err
	}
	if !q.book.fits(b.Stored) {
		return q.book.full()
	}
	if err := q.must("UPDATE blobs SET state='present', purge_at=NULL WHERE account=$1 AND blob=$2", account, id); err != nil {
		return err
	}
	b.State = api.BlobPresent
	q.book.now.used += b.Stored
	q.book.now.trash -= b.Stored
	return q.announceBlob(account, id, api.BlobPresent)
}

func (q *querier) announceBlob(account int64, id, state string) error {
	_, err := q.announce(account, "blob/"+id, api.Change{Kind: api.KindBlob, BlobID: id, State: state})
	return err
}

// trimTrash purges the oldest of the trash above the quota.
func (q *querier) trimTrash(account int64) error {
	for q.book.now.trash > q.book.quota {
		var id string
		if err := q.one("SELECT blob FROM blobs WHERE account=$1 AND state='released' ORDER BY purge_at, blob LIMIT 1", []any{account}, &id); err != nil {
			return err
		}
		if err := q.purge(account, id); err != nil {
			return err
		}
	}
	return nil
}

// purge ends a released blob; its object is deleted later, when the transaction
// holds.
func (q *querier) purge(account int64, id string) error {
	b, err := q.blob(id)
	if err != nil {
		return err
	}
	if err := q.must("UPDATE blobs SET state='purged', purge_at=NULL WHERE account=$1 AND blob=$2", account, id); err != nil {
		return err
	}
	b.State = api.BlobPurged
	q.book.now.trash -= b.Stored
	if err := q.dropObject(account, b.StorageKey); err != nil {
		return err
	}
	return q.announceBlob(account, id, api.BlobPurged)
}

// dropObject queues an object for deletion.
func (q *querier) dropObject(account int64, key string) error {
	return q.must("INSERT INTO purge_queue(storage_key,account,due) VALUES($1,$2,$3) ON CONFLICT(storage_key) DO NOTHING", key, account, q.ms)
}
