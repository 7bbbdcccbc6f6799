package metadb

import (
	"errors"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// book is an account while a transaction has it locked: its numbers, which are
// written at the end and once, and what was read or written of it, so that
// nothing is asked for twice. Whatever the transaction changes of blobs, rows
// and parents it notes here as well.
type book struct {
	account  int64
	found    bool
	vault    string
	quota    int64
	disabled int64 // not 0: nothing is to be added any more
	now, was numbers

	blobs   map[string]*Blob           // nil: none
	rows    map[string]*api.Row        // nil: none
	parents map[string]bool            // by type and id: live
	namers  map[string]map[string]bool // by blob: the live rows that name it
	prints  map[string]*print          // by slot; nil: none
	last    map[string]int64           // by device: feed number of its last batch; nil: not read
}

// numbers are the counts that changes of an account move; see the table.
type numbers struct{ used, reserved, trash, log, head, audits int64 }

// print is what an Idempotency-Key was used for.
type print struct{ print, id string }

// lock is the first thing in an update of an account: its transactions come one
// after another, and so do the numbers of its feed. From here on the transaction
// sees this account alone. Error: ErrNotFound.
func (q *querier) lock(account int64) error {
	if q.book != nil && q.book.account == account {
		q.as(account)
		return nil
	}
	if err := q.lockLater(account); err != nil {
		return err
	}
	return q.locked()
}

// lockLater asks for the lock together with the statements that follow; locked
// waits for it.
func (q *querier) lockLater(account int64) error {
	if err := q.settle(); err != nil {
		return err
	}
	q.as(account)
	b := &book{account: account, blobs: map[string]*Blob{}, rows: map[string]*api.Row{}, parents: map[string]bool{},
		namers: map[string]map[string]bool{}, prints: map[string]*print{}}
	q.book = b
	n := &b.was
	return q.fetch("SELECT vault,quota,disabled,used,reserved,trash,log,head,audits FROM accounts WHERE account=$1 FOR UPDATE", []any{account},
		func() error { b.found, b.now = true, b.was; return nil }, &b.vault, &b.quota, &b.disabled, &n.used, &n.reserved, &n.trash, &n.log, &n.head, &n.audits)
}

func (q *querier) locked() error {
	if err := q.flush(); err != nil {
		return err
	}
	if !q.book.found {
		q.book = nil
		return ErrNotFound
	}
	return nil
}

// settle writes the numbers that changed. It is the last thing of an update.
func (q *querier) settle() error {
	b := q.book
	if b == nil || b.now == b.was {
		return nil
	}
	now, was := b.now, b.was
	b.was = now
	return q.must(`UPDATE accounts SET used=used+$2, reserved=reserved+$3, trash=trash+$4, log=log+$5, head=head+$6, audits=audits+$7 WHERE account=$1`,
		b.account, now.used-was.used, now.reserved-was.reserved, now.trash-was.trash, now.log-was.log, now.head-was.head, now.audits-was.audits)
}

// enabled is for what takes time: an account that was disabled meanwhile gets
// nothing more. Error: api's account_disabled.
func (b *book) enabled() error {
	if b.disabled != 0 {
		return errDisabled
	}
	return nil
}

var errDisabled = api.Errorf(api.CodeAccountDisabled, "the account is disabled: ask the server's operator")

// fits says whether so many bytes more are within the quota.
func (b *book) fits(bytes int64) bool { return b.now.used+b.now.reserved+bytes <= b.quota }

// full says how full the account is.
func (b *book) full() error {
	e := api.Errorf(api.CodeQuotaExceeded, "the storage of this account is used up")
	e.Quota = &api.Quota{Usage: b.now.used, Limit: b.quota, Remaining: max(0, b.quota-b.now.used-b.now.reserved)}
	return e
}

// note remembers a row that was written.
func (b *book) note(r api.Row) {
	if old := b.rows[r.ID]; old != nil {
		delete(b.namers[old.BlobID], r.ID)
	}
	if rows := b.namers[r.BlobID]; rows != nil && r.State == api.StateLive {
		rows[r.ID] = true
	}
	b.rows[r.ID] = &r
}

// foresee asks for all that uploads are going to look at, in the round trip that
// the next statement takes anyhow.
func (q *querier) foresee(list []*commit) error {
	var err error
	ask := func(e error) {
		if err == nil {
			err = e
		}
	}
	for _, c := range list {
		u := c.upload
		ask(q.fetchBlob(u.Blob))
		for _, id := range u.Release {
			ask(q.fetchBlob(id))
			ask(q.fetchNamers(id))
		}
		if u.Print != "" {
			ask(q.fetchPrint(u.Slot))
		}
		if u.Row == nil {
			continue
		}
		ask(q.fetchRow(u.Row.ID))
		ask(q.fetchParent(u.Row.ParentType, u.Row.ParentID))
		if u.At >= 0 {
			ask(q.fetchLast())
		}
	}
	return err
}

// foreseeRows reads all that the writing of rows is going to look at.
func (q *querier) foreseeRows(rows []api.Row) error {
	for _, r := range rows {
		if err := errors.Join(q.fetchRow(r.ID), q.fetchParent(r.ParentType, r.ParentID), q.fetchBlob(r.BlobID)); err != nil {
			return err
		}
	}
	return q.flush()
}

// fetchBlob and its like read what the book has not, by the next round trip.
func (q *querier) fetchBlob(id string) error {
	b := q.book
	if _, ok := b.blobs[id]; ok {
		return nil
	}
	b.blobs[id] = nil
	var x Blob
	return q.fetch(blobQuery, []any{b.account, id}, func() error { b.blobs[id] = &x; return nil }, x.dest()...)
}

func (q *querier) fetchRow(id string) error {
	b := q.book
	if _, ok := b.rows[id]; ok {
		return nil
	}
	b.rows[id] = nil
	var r scannedRow
	return q.fetch(rowQuery, []any{b.account, id}, func() error { row := r.row(); b.rows[id] = &row; return nil }, r.dest()...)
}

func (q *querier) fetchParent(typ, id string) error {
	b := q.book
	table, err := parentTable(typ)
	if _, ok := b.parents[typ+"/"+id]; ok || err != nil {
		return nil // hasParent says what is wrong with the type
	}
	b.parents[typ+"/"+id] = false
	var n int64
	return q.fetch(parentQuery(table), []any{b.account, id}, func() error { b.parents[typ+"/"+id] = true; return nil }, &n)
}

func (q *querier) fetchNamers(blob string) error {
	b := q.book
	if b.namers[blob] != nil {
		return nil
	}
	rows := map[string]bool{}
	b.namers[blob] = rows
	var id string
	return q.fetch("SELECT id FROM vault_attachments WHERE account=$1 AND blob=$2 AND state='live'", []any{b.account, blob},
		func() error { rows[id] = true; return nil }, &id)
}

func (q *querier) fetchPrint(slot string) error {
	b := q.book
	if _, ok := b.prints[slot]; ok {
		return nil
	}
	b.prints[slot] = nil
	var p print
	return q.fetch("SELECT print,id FROM idempotency WHERE account=$1 AND slot=$2 AND expires>$3", []any{b.account, slot, q.ms},
		func() error { b.prints[slot] = &p; return nil }, &p.print, &p.id)
}

// fetchLast reads where each device's last batch is in the feed: numbers grow
// along a device's chain.
func (q *querier) fetchLast() error {
	b := q.book
	if b.last != nil {
		return nil
	}
	b.last = map[string]int64{}
	var device string
	var n int64
	return q.fetch(`SELECT d.device, coalesce((SELECT n FROM batches b WHERE b.account=d.account AND b.device=d.device ORDER BY seq DESC LIMIT 1),0)
		FROM devices d WHERE d.account=$1`, []any{b.account}, func() error { b.last[device] = n; return nil }, &device, &n)
}
