package metadb

import (
	"context"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// TrashLife is how long a released blob is kept.
const TrashLife = 30 * 24 * time.Hour

// Blob is what is known of a stored blob.
type Blob struct {
	ID, StorageKey, SHA256, State string
	Stored                        int64
}

func (q *querier) blob(account int64, id string) (b Blob, err error) {
	err = q.one("SELECT blob,storage_key,stored,sha256,state FROM blobs WHERE account=$1 AND blob=$2", []any{account, id},
		&b.ID, &b.StorageKey, &b.Stored, &b.SHA256, &b.State)
	return b, err
}

// Blob finds one that can be read: present, or in the trash. Errors:
// ErrNotFound; api's blob_gone for one that was purged or lost.
func (db *DB) Blob(ctx context.Context, account int64, id string) (b Blob, err error) {
	err = db.view(ctx, account, func(q *querier) error {
		if b, err = q.blob(account, id); err != nil {
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
func (q *querier) blobLive(account int64, id string) error {
	b, err := q.blob(account, id)
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
			b, err := q.blob(account, id)
			if err == ErrNotFound {
				b, err = Blob{ID: id, State: api.BlobMissing}, nil
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
	var named int64
	if err := q.one("SELECT count(*) FROM vault_attachments WHERE account=$1 AND blob=$2 AND state='live'", []any{account, id}, &named); err != nil || named > 0 {
		return err
	}
	b, err := q.blob(account, id)
	if err == ErrNotFound || err == nil && b.State != api.BlobPresent {
		return nil
	}
	if err != nil {
		return err
	}
	if err := q.must("UPDATE blobs SET state='released', pledge='', purge_at=$3 WHERE account=$1 AND blob=$2", account, id, q.ms+TrashLife.Milliseconds()); err != nil {
		return err
	}
	if err := q.must("UPDATE accounts SET used=used-$2, trash=trash+$2 WHERE account=$1", account, b.Stored); err != nil {
		return err
	}
	return q.announceBlob(account, id, api.BlobReleased)
}

func (q *querier) claim(account int64, id string) error {
	b, err := q.blob(account, id)
	if err == ErrNotFound || err == nil && b.State != api.BlobReleased {
		return nil
	}
	if err != nil {
		return err
	}
	n, err := q.exec("UPDATE accounts SET used=used+$2, trash=trash-$2 WHERE account=$1 AND used+reserved+$2<=quota", account, b.Stored)
	if err != nil {
		return err
	}
	if n == 0 {
		return q.quotaError(account)
	}
	if err := q.must("UPDATE blobs SET state='present', purge_at=NULL WHERE account=$1 AND blob=$2", account, id); err != nil {
		return err
	}
	return q.announceBlob(account, id, api.BlobPresent)
}

func (q *querier) announceBlob(account int64, id, state string) error {
	_, err := q.announce(account, "blob/"+id, api.Change{Kind: api.KindBlob, BlobID: id, State: state})
	return err
}

// quotaError says how full the account is.
func (q *querier) quotaError(account int64) error {
	a, err := q.account("account=$1", account)
	if err != nil {
		return err
	}
	e := api.Errorf(api.CodeQuotaExceeded, "the storage of this account is used up")
	e.Quota = &a.Quota
	return e
}

// trimTrash purges the oldest of the trash above the quota.
func (q *querier) trimTrash(account int64) error {
	for {
		a, err := q.account("account=$1", account)
		if err != nil || a.Trash <= a.Limit {
			return err
		}
		var id string
		if err := q.one("SELECT blob FROM blobs WHERE account=$1 AND state='released' ORDER BY purge_at, blob LIMIT 1", []any{account}, &id); err != nil {
			return err
		}
		if err := q.purge(account, id); err != nil {
			return err
		}
	}
}

// purge ends a released blob; its object is deleted later, when the transaction
// holds.
func (q *querier) purge(account int64, id string) error {
	b, err := q.blob(account, id)
	if err != nil {
		return err
	}
	if err := q.must("UPDATE blobs SET state='purged', purge_at=NULL WHERE account=$1 AND blob=$2", account, id); err != nil {
		return err
	}
	if err := q.must("UPDATE accounts SET trash=trash-$2 WHERE account=$1", account, b.Stored); err != nil {
		return err
	}
	if err := q.dropObject(account, b.StorageKey); err != nil {
		return err
	}
	return q.announceBlob(account, id, api.BlobPurged)
}

// dropObject queues an object for deletion.
func (q *querier) dropObject(account int64, key string) error {
	return q.must("INSERT INTO purge_queue(storage_key,account,due) VALUES($1,$2,$3) ON CONFLICT(storage_key) DO NOTHING", key, account, q.ms)
}
