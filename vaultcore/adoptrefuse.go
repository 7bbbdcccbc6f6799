package vaultcore

import (
	"context"
	"fmt"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Refuse is the opposite of Adopt: the server deletes the row at the next contact,
// a file that somebody asked to delete is said again to be there, and what a
// revocation took back goes for good. Errors: ErrNotFound, ErrNotEmpty for an
// asset with files.
func (v *Vault) Refuse(ctx context.Context, u Unverified) (Adopted, error) {
	done := Adopted{ID: u.ID, From: u.Path, State: u.State, Done: DoneRefused}
	id, err := v.beginAdopting(u)
	if err != nil {
		return done, err
	}
	defer v.adopting.Unlock()
	if u.State == UnverifiedRevoked {
		if !v.isTakenBack(id) {
			return done, fmt.Errorf("%w among what is unverified: %s", ErrNotFound, u.Path)
		}
		_, _, err := v.EmptyTrash([]string{u.ID})
		return done, err
	}
	f, err := v.rowOfID(id)
	if err != nil {
		return done, err
	}
	if f.state == serverAsked {
		done.Path, done.Done = u.Path, DoneKept
		return done, v.settleRow(ctx, f.key, "UPDATE server_rows SET state=2,print=NULL,row=NULL WHERE kind=? AND id=? AND state=3")
	}
	if f.key.asset {
		if err := v.emptyAsset(id); err != nil {
			return done, err
		}
	}
	return done, v.refuseRow(ctx, f.row)
}

// heldFiles gives the files that somebody asked the server to delete. Until a
// person has decided, devices keep their contents: the server may not.
func (v *Vault) heldFiles() map[seal.ID]bool {
	if !v.LedgerOn() {
		return nil
	}
	rows, err := v.openRows("kind=0 AND state=3")
	if err != nil || len(rows) == 0 {
		return nil
	}
	held := make(map[seal.ID]bool, len(rows))
	for i := range rows {
		held[rows[i].key.id] = true
	}
	return held
}

func (v *Vault) heldBlobs() map[seal.ID]bool {
	held := make(map[seal.ID]bool)
	files := v.heldFiles()
	v.tree.RLock()
	defer v.tree.RUnlock()
	for id := range files {
		if n := v.liveNode(id); n != nil && n.content != nil {
			held[n.content.ref.blob] = true
		}
	}
	return held
}

// emptyAsset: no row that is unsettled lies in the asset.
func (v *Vault) emptyAsset(id seal.ID) error {
	rows, err := v.openRows("kind=0")
	if err != nil {
		return err
	}
	for i := range rows {
		if rows[i].row != nil && rows[i].row.Parent == id && v.stillOpen(&rows[i]) {
			return fmt.Errorf("%w: refuse the files in it first", ErrNotEmpty)
		}
	}
	return nil
}

// refuseRow has the server delete a row as it was seen.
func (v *Vault) refuseRow(ctx context.Context, r *ServerRow) error {
	return v.settleRow(ctx, r.key(), "UPDATE server_rows SET state=5 WHERE kind=? AND id=? AND state=4")
}

// settleRow changes what is known of a row, which is looked at again.
func (v *Vault) settleRow(ctx context.Context, k rowKey, sql string) error {
	l, err := v.lockLedger(ctx)
	if err != nil {
		return err
	}
	defer l.mu.Unlock()
	if _, err := v.com.do(func(t *txn) error { return t.exec(sql, k.kind(), k.id[:]) }); err != nil {
		return err
	}
	l.rowsDue.add(k, dueMine)
	return v.Barrier(context.WithoutCancel(ctx))
}
