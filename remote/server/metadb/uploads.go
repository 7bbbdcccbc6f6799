package metadb

import (
	"context"
	"errors"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// Upload is one attempt to store a blob.
type Upload struct {
	Account    int64
	Slot       string // what names it across attempts: the blob id, or the Idempotency-Key
	Attempt    string // of this one
	Blob       string
	StorageKey string
	Stored     int64
	SHA256     string // known at Commit
	Release    []string

	Row     *api.Row // to write with it; nil for bytes alone
	Whole   bool     // without the row the bytes are not wanted either
	At      int64    // feed number the writer had applied; < 0: not checked
	Print   string   // of an Idempotency-Key
	By      string
	Request string
}

// Admit reserves quota for an upload before its body is read. have is set when
// the very blob is here already; left is the store's state of an upload in parts
// that this one takes the place of. Errors: api's quota_exceeded, other_bytes,
// blob_pledged.
func (db *DB) Admit(ctx context.Context, u Upload) (have bool, left string, err error) {
	err = db.update(ctx, func(q *querier) error {
		have, left = false, ""
		if err := q.lock(u.Account); err != nil {
			return err
		}
		if have, err = q.haveBlob(u); err != nil || have {
			return err
		}
		if left, err = q.endIntent(u.Account, u.Slot); err != nil {
			return err
		}
		reserve, err := q.reserve(u)
		if err != nil {
			return err
		}
		return q.must("INSERT INTO upload_intents(account,slot,attempt,blob,storage_key,reserved,started) VALUES($1,$2,$3,$4,$5,$6,$7)",
			u.Account, u.Slot, u.Attempt, u.Blob, u.StorageKey, reserve, q.ms)
	})
	return have, left, err
}

// haveBlob: the same blob is present. One with other bytes under this id is an
// error; one in the trash, purged or lost is stored anew.
func (q *querier) haveBlob(u Upload) (bool, error) {
	b, err := q.blob(u.Blob)
	if err == ErrNotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if b.Stored != u.Stored || u.SHA256 != "" && b.SHA256 != u.SHA256 {
		return false, api.Errorf(api.CodeOtherBytes, "blob %s has other bytes here", u.Blob)
	}
	return b.State == api.BlobPresent, nil
}

// endIntent gives back what an earlier attempt holds. Its object, which may be
// under way still, goes when nothing names it; parts of it are the store's to
// free, by the state that is given.
func (q *querier) endIntent(account int64, slot string) (left string, err error) {
	var key string
	var reserved int64
	err = q.one("SELECT storage_key,reserved,upload FROM upload_intents WHERE account=$1 AND slot=$2", []any{account, slot}, &key, &reserved, &left)
	if err == ErrNotFound {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	q.book.now.reserved -= reserved
	if err := q.endPledges(account, slot); err != nil {
		return "", err
	}
	if err := q.dropObject(account, key); err != nil {
		return "", err
	}
	return left, q.must("DELETE FROM upload_intents WHERE account=$1 AND slot=$2", account, slot)
}

// Abort ends an attempt that failed, if it still owns its slot; its object is
// deleted.
func (db *DB) Abort(ctx context.Context, u Upload) error {
	return db.update(ctx, func(q *querier) error {
		if err := q.lock(u.Account); err != nil {
			return err
		}
		own, err := q.owns(u)
		if err != nil {
			return err
		}
		if own {
			_, err = q.endIntent(u.Account, u.Slot) // who aborts has the state
			return err
		}
		return q.dropUnnamed(u)
	})
}

func (q *querier) owns(u Upload) (bool, error) {
	var n int64
	err := q.one("SELECT count(*) FROM upload_intents WHERE account=$1 AND slot=$2 AND attempt=$3", []any{u.Account, u.Slot, u.Attempt}, &n)
	return n == 1, err
}

// dropUnnamed queues the object of an attempt for deletion unless a blob has it.
func (q *querier) dropUnnamed(u Upload) error {
	var n int64
	if err := q.one("SELECT count(*) FROM blobs WHERE account=$1 AND storage_key=$2", []any{u.Account, u.StorageKey}, &n); err != nil || n > 0 {
		return err
	}
	return q.dropObject(u.Account, u.StorageKey)
}

// Stored says what became of an upload that was committed.
type Stored struct {
	Row     *api.Row
	RowFail *api.Error // why the row was not written; the bytes are stored
	Again   bool       // it was here already
}

// ended gives back the attempt's reservation and object.
func (q *querier) ended(u Upload) error {
	own, err := q.owns(u)
	if err != nil {
		return err
	}
	if own {
		_, err = q.endIntent(u.Account, u.Slot) // its parts are one object by now
		return err
	}
	return q.dropUnnamed(u)
}

// place turns the reservation into use.
func (q *querier) place(u Upload, admitted bool) error {
	reserved := int64(0)
	if admitted {
		err := q.one("SELECT reserved FROM upload_intents WHERE account=$1 AND slot=$2 AND attempt=$3", []any{u.Account, u.Slot, u.Attempt}, &reserved)
		if err == ErrNotFound {
			return api.Errorf(api.CodeTimeout, "another attempt took this upload over")
		}
		if err != nil {
			return err
		}
	}
	if err := q.covers(u, admitted, reserved); err != nil {
		return err
	}
	if admitted {
		if err := q.must("DELETE FROM upload_intents WHERE account=$1 AND slot=$2", u.Account, u.Slot); err != nil {
			return err
		}
		if len(u.Release) > 0 {
			if err := q.endPledges(u.Account, u.Slot); err != nil {
				return err
			}
		}
	}
	q.book.now.reserved -= reserved
	q.book.now.used += u.Stored
	if err := q.replaceBlob(u); err != nil {
		return err
	}
	return q.announceBlob(u.Account, u.Blob, api.BlobPresent)
}

// replaceBlob writes the blob's record; what an earlier record of it still holds
// is given up for the new object.
func (q *querier) replaceBlob(u Upload) error {
	old, err := q.blob(u.Blob)
	if err != nil && err != ErrNotFound {
		return err
	}
	if err == nil && old.State == api.BlobReleased {
		q.book.now.trash -= old.Stored
	}
	if err == nil && old.State != api.BlobPurged && old.StorageKey != u.StorageKey {
		if err := q.dropObject(u.Account, old.StorageKey); err != nil {
			return err
		}
	}
	q.book.blobs[u.Blob] = &Blob{ID: u.Blob, StorageKey: u.StorageKey, SHA256: u.SHA256, State: api.BlobPresent, Stored: u.Stored}
	return q.must(`INSERT INTO blobs(account,blob,storage_key,stored,sha256,state) VALUES($1,$2,$3,$4,$5,'present')
		ON CONFLICT(account,blob) DO UPDATE SET storage_key=excluded.storage_key, stored=excluded.stored, sha256=excluded.sha256, state='present', purge_at=NULL, pledge=''`,
		u.Account, u.Blob, u.StorageKey, u.Stored, u.SHA256)
}

// commitRow writes the row and lets go what it replaced. A refused row never
// refuses the bytes.
func (q *querier) commitRow(u Upload, s *Stored) error {
	if u.Row != nil {
		row, err := q.uploadRow(u)
		if err != nil {
			e := api.AsError(err)
			if e.Code == api.CodeInternal {
				return err
			}
			s.RowFail = e
		} else {
			s.Row = &row
		}
	}
	for _, id := range u.Release {
		if err := q.releaseUnnamed(u.Account, id); err != nil {
			return err
		}
	}
	if err := q.trimTrash(u.Account); err != nil {
		return err
	}
	if s.Row == nil {
		return nil
	}
	if u.Print != "" {
		q.book.prints[u.Slot] = &print{u.Print, s.Row.ID}
		err := q.must(`INSERT INTO idempotency(account,slot,print,id,expires) VALUES($1,$2,$3,$4,$5)
			ON CONFLICT(account,slot) DO UPDATE SET print=excluded.print, id=excluded.id, expires=excluded.expires`, // one that is too old
			u.Account, u.Slot, u.Print, s.Row.ID, q.ms+idempotencyLife.Milliseconds())
		if err != nil {
			return err
		}
	}
	return q.audit(u.Account, Audit{Action: "upload", Row: *s.Row, By: u.By, Request: u.Request})
}

// mayWriteRow says whether the row of an upload will be written once its blob is
// there.
func (q *querier) mayWriteRow(u Upload) error {
	if u.At >= 0 {
		if err := q.notBehind(u.By, u.At); err != nil {
			return err
		}
	}
	_, err := q.mayPutRow(*u.Row)
	return err
}

func (q *querier) uploadRow(u Upload) (api.Row, error) {
	if err := q.mayWriteRow(u); err != nil {
		return api.Row{}, err
	}
	r := *u.Row
	r.By, r.BlobID = u.By, u.Blob
	return q.putRow(u.Account, r)
}

// printed finds what an Idempotency-Key made. Error: api's idempotency_conflict
// if it was used for something else.
func (q *querier) printed(u Upload) (*api.Row, error) {
	if _, ok := q.book.prints[u.Slot]; !ok {
		if err := errors.Join(q.fetchPrint(u.Slot), q.flush()); err != nil {
			return nil, err
		}
	}
	p := q.book.prints[u.Slot]
	if p == nil {
		return nil, nil
	}
	if p.print != u.Print {
		return nil, api.Errorf(api.CodeIdempotencyConflict, "this Idempotency-Key was used for another upload")
	}
	row, err := q.row(p.id)
	return &row, err
}

// Intent is an upload in parts that is under way.
type Intent struct {
	Upload
	State    string // of the store
	Metadata string // as the client sent it
}

// Keep writes down what an upload in parts needs to go on.
func (db *DB) Keep(ctx context.Context, i Intent) error {
	return db.update(ctx, func(q *querier) error {
		q.as(i.Account)
		n, err := q.exec("UPDATE upload_intents SET upload=$4, metadata=$5, started=$6 WHERE account=$1 AND slot=$2 AND attempt=$3",
			i.Account, i.Slot, i.Attempt, i.State, i.Metadata, q.ms)
		if err == nil && n == 0 {
			err = ErrNotFound
		}
		return err
	})
}

// Intent finds an upload in parts by its attempt, and says that it is alive.
// Error: ErrNotFound.
func (db *DB) Intent(ctx context.Context, account int64, attempt string) (i Intent, err error) {
	err = db.update(ctx, func(q *querier) error {
		q.as(account)
		i = Intent{Upload: Upload{Account: account, Attempt: attempt}}
		err := q.one("SELECT slot,blob,storage_key,upload,metadata FROM upload_intents WHERE account=$1 AND attempt=$2 AND metadata<>''",
			[]any{account, attempt}, &i.Slot, &i.Blob, &i.StorageKey, &i.State, &i.Metadata)
		if err != nil {
			return err
		}
		return q.must("UPDATE upload_intents SET started=$3 WHERE account=$1 AND slot=$2", account, i.Slot, q.ms)
	})
	return i, err
}
