package metadb

import (
	"context"
	"errors"
	"strings"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// parentTables are where each type of parent lives, as in the seed.
var parentTables = map[string]string{"password": "passwords", "note": "notes", "item": "vault_items"}

// parentTable: error api's bad_request.
func parentTable(typ string) (string, error) {
	t, ok := parentTables[typ]
	if !ok {
		return "", api.BadField("parent_type", "one of %s, not %.20q", strings.Join(api.ParentTypes, ", "), typ)
	}
	return t, nil
}

func parentQuery(table string) string {
	return "SELECT 1 FROM " + table + " WHERE account=$1 AND id=$2 AND state='live'"
}

func noParent(typ string) error { return api.Errorf(api.CodeParentNotFound, "no such %s", typ) }

// hasParent: error api's parent_not_found.
func (q *querier) hasParent(typ, id string) error {
	if _, err := parentTable(typ); err != nil {
		return err
	}
	if _, ok := q.book.parents[typ+"/"+id]; !ok {
		if err := errors.Join(q.fetchParent(typ, id), q.flush()); err != nil {
			return err
		}
	}
	if !q.book.parents[typ+"/"+id] {
		return noParent(typ)
	}
	return nil
}

// HasParent says whether the account has that live parent. Errors: api's
// parent_not_found, bad_request.
func (db *DB) HasParent(ctx context.Context, account int64, typ, id string) error {
	table, err := parentTable(typ)
	if err != nil {
		return err
	}
	return db.view(ctx, account, func(q *querier) error {
		var n int64
		err := q.one(parentQuery(table), []any{account, id}, &n)
		if err == ErrNotFound {
			err = noParent(typ)
		}
		return err
	})
}

// PutParent makes or changes a parent; made says that it was not there. Errors:
// api's bad_request, log_full.
func (db *DB) PutParent(ctx context.Context, account int64, p api.Parent) (made bool, err error) {
	err = db.update(ctx, func(q *querier) error {
		if err := q.lock(account); err != nil {
			return err
		}
		made, err = q.putParent(account, p)
		return err
	})
	return made, err
}

func (q *querier) putParent(account int64, p api.Parent) (made bool, err error) {
	table, err := parentTable(p.Type)
	if err != nil {
		return false, err
	}
	var title, state string
	var epoch int64
	err = q.one("SELECT title,epoch,state FROM "+table+" WHERE account=$1 AND id=$2", []any{account, p.ID}, &title, &epoch, &state)
	switch {
	case err == nil && title == p.TitleEncrypted && epoch == int64(p.Epoch) && state == p.State:
		return false, nil
	case err != nil && err != ErrNotFound:
		return false, err
	}
	made = err == ErrNotFound
	more := parentSize(p.TitleEncrypted)
	if !made {
		more -= parentSize(title)
	}
	if err := q.addLog(more); err != nil {
		return false, err
	}
	if err := q.must("INSERT INTO "+table+`(account,id,title,epoch,state,author) VALUES($1,$2,$3,$4,$5,$6)
		ON CONFLICT(account,id) DO UPDATE SET title=excluded.title, epoch=excluded.epoch, state=excluded.state, author=excluded.author`,
		account, p.ID, p.TitleEncrypted, int64(p.Epoch), p.State, p.By); err != nil {
		return false, err
	}
	q.book.parents[p.Type+"/"+p.ID] = p.State == api.StateLive
	_, err = q.announce(account, "parent/"+p.Type+"/"+p.ID, api.Change{Kind: api.KindParent, Parent: &p})
	return made, err
}

// DeleteParent ends a parent without live attachments. Errors: api's
// parent_not_found, parent_not_empty.
func (db *DB) DeleteParent(ctx context.Context, account int64, typ, id, by string) error {
	return db.update(ctx, func(q *querier) error {
		if err := q.lock(account); err != nil {
			return err
		}
		p := api.Parent{Type: typ, ID: id, State: api.StateDeleted, By: by}
		if err := q.hasParent(typ, id); err != nil {
			return err
		}
		var live, epoch int64
		if err := q.one("SELECT count(*) FROM vault_attachments WHERE account=$1 AND parent_type=$2 AND parent_id=$3 AND state='live'",
			[]any{account, typ, id}, &live); err != nil {
			return err
		}
		if live > 0 {
			return api.Errorf(api.CodeParentNotEmpty, "%d attachments hang on it", live)
		}
		err := q.one("SELECT title,epoch FROM "+parentTables[typ]+" WHERE account=$1 AND id=$2", []any{account, id}, &p.TitleEncrypted, &epoch)
		if err != nil {
			return err
		}
		p.Epoch = uint32(epoch)
		_, err = q.putParent(account, p)
		return err
	})
}

// Parents lists the live ones behind a cursor, type and id, in that order.
func (db *DB) Parents(ctx context.Context, account int64, after string, limit int) (out []api.Parent, err error) {
	afterType, afterID, _ := strings.Cut(after, "/")
	err = db.view(ctx, account, func(q *querier) error {
		for _, typ := range []string{"item", "note", "password"} {
			if typ < afterType || len(out) >= limit {
				continue
			}
			from := ""
			if typ == afterType {
				from = afterID
			}
			p := api.Parent{Type: typ}
			var epoch int64
			err := q.each("SELECT id,title,epoch,state,author FROM "+parentTables[typ]+" WHERE account=$1 AND state='live' AND id>$2 ORDER BY id LIMIT $3",
				[]any{account, from, limit - len(out)}, func() error {
					p.Epoch = uint32(epoch)
					out = append(out, p)
					return nil
				}, &p.ID, &p.TitleEncrypted, &epoch, &p.State, &p.By)
			if err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}
