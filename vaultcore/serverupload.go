package vaultcore

import (
	"context"
	"errors"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// UploadRow is what a server's row will say once the content that is being sent is
// there.
type UploadRow struct {
	Row   ServerRow // Number is the one that was read
	print []byte
}

// UploadRow gives the row that may be written together with a content, nil if
// there is none: the content is no file's main one, the server does not know its
// asset, or what it says of the file has to be compared first. ServerWork finds
// all of these later. Everything that is sealed must be published.
func (v *Vault) UploadRow(ctx context.Context, blob seal.ID) (*UploadRow, error) {
	if err := errors.Join(v.writable(), v.syncable()); err != nil {
		return nil, err
	}
	l, err := v.lockLedger(ctx)
	if err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	if err := l.beginRows(); err != nil {
		return nil, err
	}
	for _, id := range v.attachmentsOf(blob) {
		if up, err := l.uploadRow(rowKey{false, id}, blob); up != nil || err != nil {
			return up, err
		}
	}
	return nil, nil
}

// attachmentsOf names those that have a content in the tree.
func (v *Vault) attachmentsOf(blob seal.ID) (ids []seal.ID) {
	v.tree.RLock()
	defer v.tree.RUnlock()
	row, ok := v.rows.byBlob.one[blob]
	if !ok {
		return nil
	}
	for _, r := range append([]int64{row}, v.rows.byBlob.more[blob]...) {
		if n := v.rows.get(r); n != nil {
			ids = append(ids, n.id)
		}
	}
	return ids
}

func (l *ledger) uploadRow(k rowKey, blob seal.ID) (*UploadRow, error) {
	a := l.h.Attachment(k.id, nil)
	if len(a.Live) == 0 || a.Live[0].Blob != blob {
		return nil, nil
	}
	parent, err := l.knownRow(rowKey{true, a.Live[0].Parent.ID})
	if err != nil || !parent.there || parent.state != serverLive {
		return nil, err
	}
	e, err := l.knownRow(k)
	if err != nil || e.row != nil || e.there && e.state != serverLive {
		return nil, err
	}
	w, err := l.contentRow(k, &a.Live[0])
	if errors.Is(err, errNoRow) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	w.row.Number = e.number
	return &UploadRow{Row: w.row, print: w.print}, nil
}

// UploadRowPut notes that the server has taken a row with its content, and under
// which number. What changed here meanwhile is found by the next look.
func (v *Vault) UploadRowPut(ctx context.Context, up *UploadRow, number int64) error {
	l, err := v.lockLedger(ctx)
	if err != nil {
		return err
	}
	defer l.mu.Unlock()
	k := up.Row.key()
	_, err = v.com.do(func(t *txn) error {
		// What its feed has told by now is compared: that is what others see.
		return t.exec(`INSERT INTO server_rows(kind,id,number,state,print) VALUES(?,?,?,?,?)
			ON CONFLICT(kind,id) DO UPDATE SET number=excluded.number,state=excluded.state,print=excluded.print,row=NULL WHERE excluded.number>server_rows.number`,
			k.kind(), k.id[:], number, int64(serverLive), up.print)
	})
	if err == nil {
		l.rowsDue.add(k, dueMine)
	}
	return err
}
