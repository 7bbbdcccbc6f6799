package vaultcore

import (
	"github.com/vaultdrive/vaultdrive/vaultcore/history"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Why a row of the server has to be looked at. What others changed they write
// themselves; we do it for those that never came to it, at a look at everything.
type dueWhy uint8

const (
	dueOthers dueWhy = iota + 1 // another device changed what it says
	dueSeen                     // the server said something new
	dueMine                     // we changed what it says
)

// dueRows are the rows to be looked at. It is empty until somebody asks for the
// first time: then all are. Ledger.mu guards it.
type dueRows struct {
	on     bool
	epoch  uint32 // to which all keys here had been brought when all were
	rows   map[rowKey]dueWhy
	prints map[rowKey][]byte // of rows that were given out to be written
}

func (d *dueRows) add(k rowKey, why dueWhy) {
	if !d.on {
		return
	}
	if d.rows == nil {
		d.rows = make(map[rowKey]dueWhy)
	}
	if d.rows[k] < why {
		d.rows[k] = why
	}
	delete(d.prints, k)
}

func (d *dueRows) changed(c history.Changed, why dueWhy) {
	if !d.on {
		return
	}
	for _, id := range c.Assets {
		d.add(rowKey{true, id}, why)
	}
	for _, id := range c.Attachments {
		d.add(rowKey{false, id}, why)
	}
}

// given notes a row that is about to be written.
func (d *dueRows) given(k rowKey, print []byte) {
	if d.prints == nil {
		d.prints = make(map[rowKey][]byte)
	}
	d.prints[k] = print
}

// done takes out a row that was written, unless it has changed since.
func (d *dueRows) done(k rowKey) {
	if _, same := d.prints[k]; same {
		delete(d.prints, k)
		d.drop(k)
	}
}

func (d *dueRows) drop(k rowKey) {
	if delete(d.rows, k); len(d.rows) == 0 {
		d.rows = nil // a map never shrinks
	}
}

// some gives rows to look at, assets before what lies in them, if these are asked
// for at all; more says that there are others.
func (d *dueRows) some(all, files bool, max int) (keys []rowKey, more bool) {
	for _, assets := range []bool{true, false} {
		if !assets && !files {
			break
		}
		for k, why := range d.rows {
			if k.asset != assets || why == dueOthers && !all {
				continue
			}
			if len(keys) == max {
				return keys, true
			}
			keys = append(keys, k)
		}
	}
	return keys, false
}

// beginRows has everything looked at, once, and again after a change of the
// password.
func (l *ledger) beginRows() error {
	epoch, err := l.v.rewrappedTo()
	if err != nil || l.rowsDue.on && l.rowsDue.epoch == epoch {
		return err
	}
	l.rowsDue = dueRows{on: true, epoch: epoch}
	for id := range l.h.Assets() {
		l.rowsDue.add(rowKey{true, id}, dueOthers)
	}
	for id := range l.h.Attachments() {
		l.rowsDue.add(rowKey{false, id}, dueOthers)
	}
	return l.read("SELECT kind,id FROM server_rows WHERE row IS NOT NULL AND state<>?", func(s *rowScanner) {
		l.rowsDue.add(rowKey{s.num() == 1, s.id()}, dueSeen)
	}, int64(serverUnnamed))
}

// dueBlobs: where contents lie has changed, so rows can name them now.
func (l *ledger) dueBlobs(blobs []seal.ID, why dueWhy) {
	if !l.rowsDue.on {
		return
	}
	for _, b := range blobs {
		for _, id := range l.v.attachmentsOf(b) {
			l.rowsDue.add(rowKey{false, id}, why)
		}
	}
}

// dueClean: rows had only a new wrapped key to say.
func (l *ledger) dueClean(clean []cleanRow) {
	if !l.rowsDue.on {
		return
	}
	v := l.v
	v.tree.RLock()
	defer v.tree.RUnlock()
	for _, c := range clean {
		if n := v.rows.get(c.n); n != nil {
			l.rowsDue.add(rowKey{n.kind == KindAsset, n.id}, dueMine)
		}
	}
}
