package vaultcore

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/history"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// OnCommit sets what is called after every transaction: a moment to look at
// Unsealed. It must return at once and call nothing of the vault.
func (v *Vault) OnCommit(fn func()) {
	if v.com != nil {
		v.com.committed.Store(&fn)
	}
}

// Unsealed counts the changed files and folders that are in no batch yet, up to
// most of each, and gives the newest commit among them: together they tell
// whether something changed since the last look.
func (v *Vault) Unsealed(_ context.Context, most int) (count int, newest uint64, err error) {
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return 0, 0, ErrClosed
	}
	for _, table := range []string{tableAttachments, "assets"} {
		err = v.reader.query("SELECT count(*),coalesce(max(commit_no),0) FROM (SELECT commit_no FROM "+table+" WHERE dirty<>0 ORDER BY n DESC LIMIT ?)",
			func(c []dbValue) error {
				s := rowScanner{c: c}
				count += int(s.num())
				newest = max(newest, uint64(s.num()))
				return nil
			}, int64(most))
		if err != nil {
			return 0, 0, err
		}
	}
	return count, newest, nil
}

// Unconfirmed counts what keeps the given attachments, all without any, from
// being safe on the remote: changes in no batch, and contents it does not have.
// Batches that are not pushed are not counted.
func (v *Vault) Unconfirmed(ctx context.Context, ids []seal.ID) (int, error) {
	l, err := v.lockLedger(ctx)
	if err != nil {
		return 0, err
	}
	defer l.mu.Unlock()
	wanted := make(map[seal.ID]bool, len(ids))
	for _, id := range ids {
		wanted[id] = true
	}
	left := 0
	for _, id := range v.uncommitted() {
		if len(ids) == 0 || wanted[id] {
			left++
		}
	}
	v.flushAttrs()
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return 0, ErrClosed
	}
	err = v.reader.query("SELECT id,blob,dirty,deleted,place FROM asset_attachments", func(c []dbValue) error {
		s := rowScanner{c: c}
		id, blob, dirty, deleted, place := s.id(), s.id(), s.num(), s.num(), s.num()
		if len(ids) > 0 && !wanted[id] {
			return nil
		}
		if dirty != 0 || deleted == 0 && place != placeElsewhere && !l.sent[blob] {
			left++
		}
		return nil
	})
	if err != nil || len(ids) > 0 {
		return left, err
	}
	n, err := v.reader.one("SELECT count(*) FROM assets WHERE dirty<>0")
	count, _ := n.(int64)
	return left + int(count), err
}

// CorrectClock says how much the true time is ahead of this machine's. It counts
// for what is sealed and for how far ahead another's batch may be.
func (v *Vault) CorrectClock(ahead time.Duration) { v.clockAhead.Store(int64(ahead)) }

// trueMillis is the time by the corrected clock, in ms since 1970.
func (v *Vault) trueMillis() int64 {
	return v.now().Add(time.Duration(v.clockAhead.Load())).UnixMilli()
}

// Alarm records what a person should know of the remote: status shows it until
// the vault is closed, and events keep it. kind is logged, the text, which may
// name files, is not.
func (v *Vault) Alarm(kind, text string) { v.alarm(kind, text) }

// BlobPaths gives where the files that show a content are.
func (v *Vault) BlobPaths(blob seal.ID) (paths []string) {
	x := v.indexRows(nil, map[seal.ID]bool{blob: true})
	v.tree.RLock()
	defer v.tree.RUnlock()
	for _, n := range x.byBlob[blob] {
		if !n.has(flagUnlinked) {
			paths = append(paths, shownPath(n))
		}
	}
	return paths
}

// Found notes that this device saw contents on the remote, each with its length:
// files that wait for them show them from now on.
func (v *Vault) Found(ctx context.Context, blobs []seal.ID) error {
	if err := v.writable(); err != nil {
		return err
	}
	l, err := v.lockLedger(ctx)
	if err != nil {
		return err
	}
	defer l.mu.Unlock()
	in := &incoming{found: blobs}
	for _, b := range blobs {
		in.note(history.Changed{Attachments: l.pending.byBlob[b]})
	}
	l.dueBlobs(blobs, dueMine)
	if len(in.attached) == 0 {
		if _, err = v.com.do(func(t *txn) error { return in.write(l, t) }); err == nil {
			l.markSent(blobs, true)
		}
		return err
	}
	var changes []Change
	err = l.hashed(ctx, func() (err error) {
		changes, err = l.showFound(in)
		return err
	})
	v.changed(changes...)
	return err
}

// showFound says where the contents are in one transaction with the rows that
// show them, or with the note that these lag behind: nothing else looks for such.
func (l *ledger) showFound(in *incoming) ([]Change, error) {
	l.v.ns.Lock()
	defer l.v.ns.Unlock()
	if err := l.noneUnhashed(); err != nil {
		return nil, err
	}
	if err := l.sealFirst(in); errors.Is(err, errStalled) {
		return nil, l.applyLater(in)
	} else if err != nil {
		return nil, err
	}
	news := slices.DeleteFunc(slices.Clone(in.found), func(b seal.ID) bool { return l.sent[b] })
	l.markSent(news, true)
	changes, err := l.applyChanged(in.changed(), in)
	if err != nil {
		l.markSent(news, false)
	}
	return changes, err
}

func (l *ledger) markSent(blobs []seal.ID, sent bool) {
	for _, b := range blobs {
		if sent {
			l.sent[b] = true
		} else {
			delete(l.sent, b)
		}
	}
}

// HeldBlob is a sealed content of a live file that is here.
type HeldBlob struct {
	Blob seal.ID
	Len  int64 // bytes
}

// HeldBlobs lists the sealed contents of live files that are here and in a
// batch.
func (v *Vault) HeldBlobs(context.Context) (out []HeldBlob, err error) {
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return nil, ErrClosed
	}
	err = v.reader.query("SELECT blob,max(blob_len) FROM asset_attachments WHERE place<>0 AND deleted=0 AND rev>0 AND dirty&2=0 GROUP BY blob", func(c []dbValue) error {
		s := rowScanner{c: c}
		out = append(out, HeldBlob{s.id(), s.num()})
		return nil
	})
	return out, err
}

// NotThere notes that the remote does not have contents after all, and queues
// those that are here.
func (v *Vault) NotThere(ctx context.Context, blobs []seal.ID) error {
	if err := v.writable(); err != nil {
		return err
	}
	l, err := v.lockLedger(ctx)
	if err != nil {
		return err
	}
	defer l.mu.Unlock()
	_, err = v.com.do(func(t *txn) error {
		for _, b := range blobs {
			if err := t.exec("DELETE FROM blob_presence WHERE blob=?", b[:]); err != nil {
				return err
			}
			size, err := t.one("SELECT max(blob_len) FROM asset_attachments WHERE blob=? AND place<>0", b[:])
			if err != nil {
				return err
			}
			if size == nil {
				continue
			}
			if err := t.exec(sqlQueueUpload, b[:], size, int64(0)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, b := range blobs {
		delete(l.sent, b)
	}
	return nil
}
