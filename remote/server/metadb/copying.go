package metadb

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// table is how the rows of one are carried over.
type table struct {
	name    string
	columns string // as they are there, or what to take instead: "0 AS reserved"
	key     string // to order by
	where   string
}

// accountTables hold what belongs to an account, and move with it. Uploads under
// way do not: their bodies are cut, so nothing is reserved or pledged, and the
// client sends again.
var accountTables = []table{
	{name: "accounts", key: "account", columns: "account,vault,did,remote,boot,plan,quota,used,0 AS reserved,trash,log,head,audits,disabled,created"},
	{name: "devices", key: "device", columns: "account,device,pk,revoked,cut,seq,hash"},
	{name: "sessions", key: "token", columns: "token,account,device,expires"},
	{name: "headers", key: "seq", columns: "account,seq,hash,body"},
	{name: "passwords", key: "id", columns: "account,id,title,epoch,state,author"},
	{name: "notes", key: "id", columns: "account,id,title,epoch,state,author"},
	{name: "vault_items", key: "id", columns: "account,id,title,epoch,state,author"},
	{name: "vault_attachments", key: "id", columns: "account,id,parent_type,parent_id,name,mime,size_bytes,key_iv,key_ct,ev,created,blob,epoch,version,state,author"},
	{name: "blobs", key: "blob", columns: "account,blob,storage_key,stored,sha256,state,purge_at,'' AS pledge"},
	{name: "idempotency", key: "slot", columns: "account,slot,print,id,expires"},
	{name: "batches", key: "device,seq", columns: "account,device,seq,hash,n,len,body"},
	{name: "checkpoints", key: "name,part", columns: "account,name,part,sha256,len,body,created"},
	{name: "pairings", key: "pair,side", columns: "account,pair,side,body,expires"},
	{name: "feed", key: "n", columns: "account,subject,n,entry"},
	{name: "rate", key: "class", columns: "account,class,times"},
	{name: "audit_log", key: "n", columns: "account,n,time,action,attachment,parent_type,parent_id,size,author,request"},
}

// commonTables hold what belongs to no account. Spent nonces go along, so that
// no login is taken twice, and the key that they are made with.
var commonTables = []table{
	{name: "invites", key: "code", columns: "code,expires,used_by"},
	{name: "nonces", key: "nonce", columns: "nonce,expires"},
	{name: "settings", key: "name", columns: "name,value", where: " WHERE name NOT IN ('" + settingMoving + "','" + settingMoved + "')"},
}

// purgeTable holds objects to delete: it goes along where the store of the blobs
// stays.
var purgeTable = table{name: "purge_queue", key: "storage_key", columns: "storage_key,account,due"}

// names are the columns to write.
func (t table) names() (out []string) {
	for c := range strings.SplitSeq(t.columns, ",") {
		if _, name, as := strings.Cut(c, " AS "); as {
			c = name
		}
		out = append(out, c)
	}
	return out
}

// query reads in the order of the key's bytes, which is the same everywhere.
func (t table) query(account int64) (text string, args []any) {
	where := t.where
	if account != 0 {
		where, args = " WHERE account=$1", []any{account}
	}
	order := []string{}
	for k := range strings.SplitSeq(t.key, ",") {
		switch k {
		case "account", "seq", "n":
			order = append(order, k)
		default:
			order = append(order, k+` COLLATE "C"`)
		}
	}
	return "SELECT " + t.columns + " FROM " + t.name + where + " ORDER BY " + strings.Join(order, ","), args
}

// copyRows hands every row to fn, which must not keep it. account 0: of a table
// without.
func (db *DB) copyRows(ctx context.Context, t table, account int64, fn func(row []any) error) (rows int64, err error) {
	row := make([]any, len(t.names()))
	dest := make([]any, len(row))
	for i := range row {
		dest[i] = &row[i]
	}
	text, args := t.query(account)
	err = db.view(ctx, account, func(q *querier) error {
		return q.each(text, args, func() error { rows++; return fn(row) }, dest...)
	})
	return rows, err
}

// An insert carries at most so many rows and about so many bytes.
const (
	insertRows  = 64
	insertBytes = 1 << 20
)

// inserter writes rows of a table, many in a statement.
type inserter struct {
	q     *querier
	head  string
	width int
	args  []any
	bytes int
}

func (q *querier) inserter(t table) *inserter {
	names := t.names()
	return &inserter{q: q, head: "INSERT INTO " + t.name + "(" + strings.Join(names, ",") + ") VALUES", width: len(names)}
}

func (i *inserter) add(row []any) error {
	i.args = append(i.args, row...)
	for _, v := range row {
		switch v := v.(type) {
		case string:
			i.bytes += len(v)
		case []byte:
			i.bytes += len(v)
		}
	}
	if len(i.args) < insertRows*i.width && i.bytes < insertBytes {
		return nil
	}
	return i.flush()
}

func (i *inserter) flush() error {
	if len(i.args) == 0 {
		return nil
	}
	var text strings.Builder
	text.WriteString(i.head)
	for n := range i.args {
		switch {
		case n == 0:
			text.WriteString("($1")
		case n%i.width == 0:
			fmt.Fprintf(&text, "),($%d", n+1)
		default:
			fmt.Fprintf(&text, ",$%d", n+1)
		}
	}
	text.WriteString(")")
	_, err := i.q.exec(text.String(), i.args...) // now: what waits would hold the whole account in memory
	i.args, i.bytes = i.args[:0], 0
	return err
}

// bring makes a table here hold the rows of one elsewhere.
func (q *querier) bring(ctx context.Context, from *DB, t table, account int64) error {
	where, args := t.where, []any(nil)
	if account != 0 {
		where, args = " WHERE account=$1", []any{account}
	}
	if err := q.must("DELETE FROM "+t.name+where, args...); err != nil {
		return err
	}
	in := q.inserter(t)
	if _, err := from.copyRows(ctx, t, account, in.add); err != nil {
		return err
	}
	return in.flush()
}

// Digest is what an account's rows come to.
type Digest struct {
	SHA256 string // of all values, in the order of the tables and their keys
	Rows   int64
}

// Digest reads all that belongs to an account and moves with it.
func (db *DB) Digest(ctx context.Context, account int64) (d Digest, err error) {
	h := sha256.New()
	for _, t := range accountTables {
		fmt.Fprintf(h, "%s\n", t.name)
		n, err := db.copyRows(ctx, t, account, func(row []any) error { return hashRow(h, row) })
		if err != nil {
			return d, err
		}
		d.Rows += n
	}
	d.SHA256 = hex.EncodeToString(h.Sum(nil))
	return d, nil
}

// hashRow adds type, length and bytes of every value.
func hashRow(h hash.Hash, row []any) error {
	for _, v := range row {
		kind, text := byte('s'), ""
		switch v := v.(type) {
		case nil:
			kind = 'n'
		case int64, int32: // a constant of a query is short on PostgreSQL
			kind, text = 'i', fmt.Sprint(v)
		case string:
			text = v
		case []byte:
			kind, text = 'b', string(v)
		default:
			return fmt.Errorf("value of type %T", v) // no column has another
		}
		var head [9]byte
		head[0] = kind
		binary.BigEndian.PutUint64(head[1:], uint64(len(text)))
		h.Write(head[:])
		h.Write([]byte(text))
	}
	return nil
}

// CopyAccount makes an account in the other database what it is here, in one
// transaction there. kept: the store of the blobs stays, so what is to be deleted
// from it goes along. Nobody may serve either database meanwhile.
func (db *DB) CopyAccount(ctx context.Context, to *DB, account int64, kept bool) error {
	return to.update(ctx, func(q *querier) error {
		q.as(account)
		tables := accountTables
		if kept {
			tables = append(tables[:len(tables):len(tables)], purgeTable)
		}
		for _, t := range tables {
			if err := q.bring(ctx, db, t, account); err != nil {
				return err
			}
		}
		if !kept {
			return nil
		}
		var key string
		return db.view(ctx, account, func(from *querier) error { // what uploads under way have stored
			return from.each("SELECT storage_key FROM upload_intents WHERE account=$1", []any{account}, func() error { return q.dropObject(account, key) }, &key)
		})
	})
}

// AccountIDs lists all.
func (db *DB) AccountIDs(ctx context.Context) (out []int64, err error) {
	err = db.view(ctx, everyone, func(q *querier) error {
		var id int64
		return q.each("SELECT account FROM accounts ORDER BY account", nil, func() error { out = append(out, id); return nil }, &id)
	})
	return out, err
}

// Object is a stored blob as the store has it.
type Object struct {
	Key    string
	Stored int64  // bytes
	SHA256 string // hex; "" if it is not known
}

// Objects lists what the store has to hold, behind a key: what is present, and
// the trash.
func (db *DB) Objects(ctx context.Context, after string, limit int) (out []Object, err error) {
	err = db.view(ctx, everyone, func(q *querier) error {
		var o Object
		return q.each(`SELECT storage_key,stored,sha256 FROM blobs WHERE state IN ('`+api.BlobPresent+`','`+api.BlobReleased+`')
			AND storage_key>$1 COLLATE "C" ORDER BY storage_key COLLATE "C" LIMIT $2`,
			[]any{after, limit}, func() error { out = append(out, o); return nil }, &o.Key, &o.Stored, &o.SHA256)
	})
	return out, err
}

// ObjectTotals is how many Objects there are, and their bytes.
func (db *DB) ObjectTotals(ctx context.Context) (n, bytes int64, err error) {
	err = db.view(ctx, everyone, func(q *querier) error {
		return q.one(`SELECT count(*),CAST(coalesce(sum(stored),0) AS BIGINT) FROM blobs WHERE state IN ('`+api.BlobPresent+`','`+api.BlobReleased+`')`, nil, &n, &bytes)
	})
	return n, bytes, err
}
