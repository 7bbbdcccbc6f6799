package vaultcore

import (
	"errors"
	"fmt"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// wrapped gives the contents that came with a new key.
func (in *incoming) wrapped() map[seal.ID]bool {
	blobs := make(map[seal.ID]bool)
	if in != nil {
		for _, w := range in.wraps {
			blobs[w.Blob] = true
		}
	}
	return blobs
}

// writeWraps takes over wrapped keys of a later epoch than a row's.
func (a *applying) writeWraps(t *txn) error {
	for _, w := range a.in.wraps {
		for _, n := range a.x.byBlob[w.Blob] {
			if err := a.writeWrap(t, n, w); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *applying) writeWrap(t *txn, n *Node, w *seal.Wrap) error {
	v := a.l.v
	r, err := t.attRow(n.n)
	if errors.Is(err, ErrNotFound) || err == nil && (r.epoch >= w.Epoch || r.blob != w.Blob) {
		return nil
	}
	if err != nil {
		return err
	}
	if v.openAtt(r) != nil {
		return nil
	}
	if err := v.sameKey(r, w); err != nil {
		v.later(func() { v.journal(err) })
		return nil
	}
	r.wrapped, r.epoch = w.WK, w.Epoch
	if r.dirty == dirtyWrap {
		r.dirty = 0 // another device has said it
	}
	v.sealAtt(r)
	if r.commitNo <= t.undoMark {
		if err := t.exec(sqlKeepUndo, r.n); err != nil {
			return err
		}
	}
	return t.exec("UPDATE asset_attachments SET epoch=?,wrapped_file_key=?,dirty=?,commit_no=?,sealed=? WHERE n=?",
		int64(r.epoch), r.wrapped, int64(r.dirty), int64(t.no), r.sealed, r.n)
}

// newestWrap gives a new row the key of the latest epoch that came along.
func (a *applying) newestWrap(r *attRow) {
	if a.in == nil {
		return
	}
	for _, w := range a.in.wraps {
		if w.Blob == r.blob && w.Epoch > r.epoch && a.l.v.sameKey(r, w) == nil {
			r.wrapped, r.epoch = w.WK, w.Epoch
		}
	}
}

// sameKey opens a row's key as it is and as it comes: the one here is the only
// one that is known to open the content.
func (v *Vault) sameKey(r *attRow, w *seal.Wrap) error {
	old, err := v.keys.unwrap(r.epoch, r.wrapped)
	if err != nil {
		return nil // the new one cannot be worse
	}
	defer old.Wipe()
	key, err := v.keys.unwrap(w.Epoch, w.WK)
	if err != nil || !key.Equal(&old) {
		return fmt.Errorf("%w: another device wrapped another key of blob %s; the known one stays", ErrDamaged, r.blob.Hex())
	}
	key.Wipe()
	return nil
}
