package metadb

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

const rowColumns = `a.id,a.parent_id,a.parent_type,a.name,a.mime,a.size_bytes,a.key_iv,a.key_ct,a.ev,a.created,a.blob,a.epoch,a.version,a.state,a.author,
	coalesce(b.stored,0),coalesce(b.sha256,''),c.vault`

const rowTables = ` FROM vault_attachments a JOIN accounts c ON c.account=a.account LEFT JOIN blobs b ON b.account=a.account AND b.blob=a.blob`

// scannedRow is where a row is read into.
type scannedRow struct {
	api.Row
	key     api.WrappedKey
	created int64
	epoch   sql.NullInt64
}

func (r *scannedRow) dest() []any {
	return []any{&r.ID, &r.ParentID, &r.ParentType, &r.FileNameEncrypted, &r.ContentTypeEncrypted, &r.SizeBytes, &r.key.IV, &r.key.Ciphertext,
		&r.EncryptionVersion, &r.created, &r.BlobID, &r.epoch, &r.Version, &r.State, &r.By, &r.StoredBytes, &r.SHA256, &r.VaultID}
}

func (r *scannedRow) row() api.Row {
	out, key := r.Row, r.key
	out.WrappedFileKey = &key
	out.CreatedAt = api.Time(time.UnixMilli(r.created))
	if r.epoch.Valid {
		e := uint32(r.epoch.Int64)
		out.Epoch = &e
	}
	return out
}

const rowQuery = "SELECT " + rowColumns + rowTables + " WHERE a.account=$1 AND a.id=$2"

// row finds one of the account that is locked. Error: ErrNotFound.
func (q *querier) row(id string) (api.Row, error) {
	if _, ok := q.book.rows[id]; !ok {
		if err := errors.Join(q.fetchRow(id), q.flush()); err != nil {
			return api.Row{}, err
		}
	}
	if r := q.book.rows[id]; r != nil {
		return *r, nil
	}
	return api.Row{}, ErrNotFound
}

// Row reads one, live or deleted. Error: ErrNotFound.
func (db *DB) Row(ctx context.Context, account int64, id string) (r api.Row, err error) {
	err = db.view(ctx, account, func(q *querier) error {
		var found scannedRow
		err := q.one(rowQuery, []any{account, id}, found.dest()...)
		r = found.row()
		return err
	})
	return r, err
}

// Rows lists the live attachments of a parent behind an id. limit 0: all.
func (db *DB) Rows(ctx context.Context, account int64, typ, parent, after string, limit int) (out []api.Row, err error) {
	query := "SELECT " + rowColumns + rowTables + " WHERE a.account=$1 AND a.parent_type=$2 AND a.parent_id=$3 AND a.state='live' AND a.id>$4 ORDER BY a.id"
	args := []any{account, typ, parent, after}
	if limit > 0 {
		query += " LIMIT $5"
		args = append(args, limit)
	}
	out = []api.Row{}
	err = db.view(ctx, account, func(q *querier) error {
		var r scannedRow
		return q.each(query, args, func() error { out = append(out, r.row()); return nil }, r.dest()...)
	})
	return out, err
}

// mayPutRow gives the row that r replaces, of version 0 if there is none, and
// says whether r may be written as far as its blob does not matter. Errors: api's
// parent_not_found, row_version, not_found to delete what never was, log_full.
func (q *querier) mayPutRow(r api.Row) (have api.Row, err error) {
	if err := q.hasParent(r.ParentType, r.ParentID); err != nil && r.State == api.StateLive {
		return have, err
	}
	if have, err = q.row(r.ID); err != nil && err != ErrNotFound {
		return have, err
	}
	if have.Version != r.Version {
		return have, api.Errorf(api.CodeRowVersion, "the row has version %d, not %d", have.Version, r.Version)
	}
	if err == ErrNotFound && r.State == api.StateDeleted {
		return have, api.Errorf(api.CodeNotFound, "no such attachment")
	}
	return have, q.fitsLog(growth(&r, &have))
}

// growth is how much more r counts than the row that it replaces.
func growth(r, have *api.Row) int64 {
	switch {
	case r.State == api.StateDeleted:
		return 0 // it keeps what it said
	case have.Version == 0:
		return rowSize(r)
	}
	return rowSize(r) - rowSize(have)
}

// putRow writes a row if the one it replaces has the version that the writer
// read; a deleted one keeps what it said. Errors: those of mayPutRow; api's
// blob_gone.
func (q *querier) putRow(account int64, r api.Row) (api.Row, error) {
	have, err := q.mayPutRow(r)
	if err != nil {
		return r, err
	}
	more := growth(&r, &have)
	if r.State == api.StateDeleted {
		by := r.By
		r = have
		r.State, r.By = api.StateDeleted, by
	} else if err := q.blobLive(r.BlobID); err != nil {
		return r, err
	}
	created := q.ms
	if have.Version > 0 {
		created = time.Time(have.CreatedAt).UnixMilli()
	}
	if err := q.writeRow(account, r, created); err != nil {
		return r, err
	}
	q.book.now.log += more
	if r, err = q.asStored(r, have.Version+1, created); err != nil {
		return r, err
	}
	return r, q.announceRow(account, r)
}

// asStored is a row with what the server says of it, as it would be read.
func (q *querier) asStored(r api.Row, version, created int64) (api.Row, error) {
	b, err := q.blob(r.BlobID)
	if err == ErrNotFound {
		b, err = &Blob{}, nil
	}
	if err != nil {
		return r, err
	}
	r.Version, r.CreatedAt = version, api.Time(time.UnixMilli(created))
	r.VaultID, r.StoredBytes, r.SHA256 = q.book.vault, b.Stored, b.SHA256
	return r, nil
}

func (q *querier) writeRow(account int64, r api.Row, created int64) error {
	var epoch any
	if r.Epoch != nil {
		epoch = int64(*r.Epoch)
	}
	return q.must(`INSERT INTO vault_attachments(account,id,parent_type,parent_id,name,mime,size_bytes,key_iv,key_ct,ev,created,blob,epoch,version,state,author)
		VALUES($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,1,$14,$15)
		ON CONFLICT(account,id) DO UPDATE SET parent_type=excluded.parent_type, parent_id=excluded.parent_id, name=excluded.name, mime=excluded.mime,
		size_bytes=excluded.size_bytes, key_iv=excluded.key_iv, key_ct=excluded.key_ct, ev=excluded.ev, blob=excluded.blob, epoch=excluded.epoch,
		version=vault_attachments.version+1, state=excluded.state, author=excluded.author`,
		account, r.ID, r.ParentType, r.ParentID, r.FileNameEncrypted, r.ContentTypeEncrypted, r.SizeBytes, r.WrappedFileKey.IV, r.WrappedFileKey.Ciphertext,
		int64(r.EncryptionVersion), created, r.BlobID, epoch, r.State, r.By)
}

// announceRow tells of a row that was written.
func (q *querier) announceRow(account int64, r api.Row) error {
	q.book.note(r)
	_, err := q.announce(account, "row/"+r.ID, api.Change{Kind: api.KindRow, Row: &r})
	return err
}

// PutRows writes rows and parents as far as each may be written. Error: api's
// behind when a batch of another device came after at.
func (db *DB) PutRows(ctx context.Context, account int64, device string, in api.PutRows) (out api.PutRowsAnswer, err error) {
	err = db.update(ctx, func(q *querier) error {
		out = api.PutRowsAnswer{Results: []api.RowResult{}}
		if err := q.lock(account); err != nil {
			return err
		}
		if err := q.notBehind(device, in.At); err != nil {
			return err
		}
		if err := q.foreseeRows(in.Rows); err != nil {
			return err
		}
		// Parents first, so that rows find theirs; the answers come in the order asked.
		parents := make([]api.RowResult, 0, len(in.Parents))
		for _, p := range in.Parents {
			p.By = device
			_, err := q.putParent(account, p)
			res, err := resultOf(p.ID, 0, err)
			if err != nil {
				return err
			}
			parents = append(parents, res)
		}
		for _, r := range in.Rows {
			r.By = device
			now, err := q.putRow(account, r)
			res, err := resultOf(r.ID, now.Version, err)
			if err != nil {
				return err
			}
			out.Results = append(out.Results, res)
		}
		out.Results = append(out.Results, parents...)
		return nil
	})
	return out, err
}

// resultOf tells a refusal, which is an answer, from a failure.
func resultOf(id string, version int64, err error) (api.RowResult, error) {
	res := api.RowResult{ID: id, Version: version}
	if err == nil {
		return res, nil
	}
	if e := api.AsError(err); e.Code != api.CodeInternal {
		res.Error, res.Version = e, 0
		return res, nil
	}
	return res, err
}

// notBehind: error api's behind.
func (q *querier) notBehind(device string, at int64) error {
	if q.book.last == nil {
		if err := errors.Join(q.fetchLast(), q.flush()); err != nil {
			return err
		}
	}
	for other, n := range q.book.last {
		if other != device && n > at {
			return api.Errorf(api.CodeBehind, "batches of other devices came after %d", at)
		}
	}
	return nil
}

// Audit is an entry of the log that is only ever added to.
type Audit struct {
	Action  string // upload, delete, claim, release
	Row     api.Row
	By      string
	Request string
}

func (q *querier) audit(account int64, a Audit) error {
	q.book.now.audits++
	return q.must(`INSERT INTO audit_log(account,n,time,action,attachment,parent_type,parent_id,size,author,request)
		VALUES($1,$2,$3,$4,$5,$6,$7,$8,$9,$10)`,
		account, q.book.now.audits, q.ms, a.Action, a.Row.ID, a.Row.ParentType, a.Row.ParentID, a.Row.SizeBytes, a.By, a.Request)
}

// DeleteRow ends an attachment; its blob goes to the trash unless another row
// names it. A deleted one again is fine. Error: ErrNotFound.
func (db *DB) DeleteRow(ctx context.Context, account int64, id string, by, request string) error {
	return db.update(ctx, func(q *querier) error {
		if err := q.lock(account); err != nil {
			return err
		}
		r, err := q.row(id)
		if err != nil || r.State == api.StateDeleted {
			return err
		}
		if err := q.must("UPDATE vault_attachments SET state='deleted', version=version+1, author=$3 WHERE account=$1 AND id=$2", account, id, by); err != nil {
			return err
		}
		deleted := r
		deleted.Version, deleted.State, deleted.By = r.Version+1, api.StateDeleted, by
		q.book.note(deleted)
		if err := q.releaseUnnamed(account, r.BlobID); err != nil {
			return err
		}
		if err := q.announceRow(account, deleted); err != nil {
			return err
		}
		if err := q.trimTrash(account); err != nil {
			return err
		}
		return q.audit(account, Audit{Action: "delete", Row: r, By: by, Request: request})
	})
}
