package vaultcore

import (
	"bytes"
	"slices"

	"github.com/vaultdrive/vaultdrive/vaultcore/history"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// wantedRow gives what the log has a row of the server say. Error: errNoRow while
// it has to wait for something.
func (l *ledger) wantedRow(k rowKey) (*wantedRow, error) {
	if k.asset {
		return l.wantedAsset(k)
	}
	return l.wantedAttachment(k)
}

// gone is a row of what the log has deleted.
func gone(k rowKey) *wantedRow {
	return &wantedRow{row: ServerRow{ID: k.id, Asset: k.asset, Type: uint8(TypeItem), Deleted: true}, print: printOf(k, nil, 0, true), known: true}
}

func (l *ledger) wantedAsset(k rowKey) (*wantedRow, error) {
	a := l.h.Asset(k.id)
	switch {
	case a.State == history.Unknown:
		return &wantedRow{}, nil
	case a.State == history.Deleted:
		w := gone(k)
		w.row.Type = a.Type
		return w, nil
	case len(a.Base) == 0:
		return nil, errNoRow // its record has not come
	}
	r := &assetRow{}
	found := false
	l.v.tree.RLock()
	n := l.v.rows.assets[k.id]
	l.v.tree.RUnlock()
	if n == nil {
		return nil, errNoRow
	}
	l.v.readMu.Lock()
	defer l.v.readMu.Unlock()
	if l.v.reader == nil {
		return nil, ErrClosed
	}
	err := l.v.reader.query("SELECT "+assetColumns+" FROM assets WHERE n=?", func(c []dbValue) error {
		found = scanAsset(c, r) == nil
		return nil
	}, n.n)
	if err != nil {
		return nil, err
	}
	if !found || r.id != k.id || r.dirty != 0 || r.deleted != 0 || l.v.openAsset(r) != nil {
		return nil, errNoRow
	}
	return &wantedRow{
		row:   ServerRow{ID: k.id, Asset: true, Type: uint8(r.typ), Name: r.title, Epoch: r.epoch},
		print: printOf(k, a.Base, r.epoch, false), title: r.f.title, known: true,
	}, nil
}

func (l *ledger) wantedAttachment(k rowKey) (*wantedRow, error) {
	a := l.h.Attachment(k.id, nil)
	if len(a.Live) == 0 {
		if !l.named(k.id) {
			return &wantedRow{}, nil
		}
		return gone(k), nil
	}
	if !l.sent[a.Live[0].Blob] {
		return nil, errNoRow
	}
	return l.contentRow(k, &a.Live[0])
}

// contentRow is the row of a file that lives, wherever its content is.
func (l *ledger) contentRow(k rowKey, f *history.File) (*wantedRow, error) {
	if len(l.h.Asset(f.Parent.ID).Base) == 0 {
		return nil, errNoRow
	}
	r, err := l.cleanRow(k.id, f.Blob)
	if err != nil {
		return nil, err
	}
	w := &wantedRow{att: r, known: true, print: printOf(k, f.Base, r.epoch, false)}
	w.row = ServerRow{
		ID: k.id, Type: f.Parent.Type, Parent: r.asset, Name: r.name, MIME: r.mime, Key: r.wrapped, Version: r.version, Epoch: r.epoch,
		Size: r.size, Len: r.blobLen, Blob: r.blob,
	}
	copy(w.row.SHA256[:], r.sha)
	return w, nil
}

// named says whether any record names an attachment.
func (l *ledger) named(id seal.ID) bool {
	for range l.h.BlobsOf(id) {
		return true
	}
	known, err := l.knownRow(rowKey{false, id})
	return err == nil && known.print != nil // its records were dropped under a checkpoint
}

// cleanRow finds the row of a content that says what the log says. Error:
// errNoRow if it is not here, or changed and not sealed.
func (l *ledger) cleanRow(id, blob seal.ID) (*attRow, error) {
	v := l.v
	var rows []int64
	v.tree.RLock()
	if row, ok := v.rows.byID.one[id]; ok {
		rows = append(append(rows, row), v.rows.byID.more[id]...)
	}
	v.tree.RUnlock()
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return nil, ErrClosed
	}
	for _, n := range rows {
		r, ok := &attRow{}, false
		err := v.reader.query("SELECT "+attColumns+" FROM asset_attachments WHERE n=? AND dirty=0 AND deleted=0", func(c []dbValue) error {
			ok = scanAtt(c, r) == nil
			return nil
		}, n)
		if err != nil {
			return nil, err
		}
		if ok && r.id == id && r.blob == blob && len(r.sha) == 32 && v.openAtt(r) == nil && !r.f.scratch {
			return r, nil
		}
	}
	return nil, errNoRow
}

// differsEpoch: the key is of an epoch that is over here. One of a later epoch
// than ours is what we shall have soon.
const differsEpoch = "epoch of the key"

// differs names what a row says otherwise than the log.
func (l *ledger) differs(came *ServerRow, w *wantedRow) (what []string) {
	add := func(name string, differs bool) {
		if differs {
			what = append(what, name)
		}
	}
	want := &w.row
	if came.Asset {
		title, err := l.v.keys.openTitle(came.Epoch, came.ID, came.Name)
		add("type", came.Type != want.Type)
		add("title", err != nil || title != w.title)
		add(differsEpoch, came.Epoch < want.Epoch)
		return what
	}
	add("parent", came.Parent != want.Parent || came.Type != want.Type)
	add("version of the encryption", came.Version != want.Version)
	add("size", came.Size != want.Size || came.Len != want.Len)
	add("content", came.Blob != want.Blob || came.SHA256 != want.SHA256)
	return append(what, l.differsSealed(came, w)...)
}

// differsSealed is differs for what only the key shows.
func (l *ledger) differsSealed(came *ServerRow, w *wantedRow) (what []string) {
	v, r := l.v, w.att
	epoch := came.Epoch
	if epoch == 0 {
		epoch = r.epoch
	}
	own, err := v.keys.unwrap(r.epoch, r.wrapped)
	if err != nil {
		return []string{"key"} // ours does not open: check says more
	}
	defer own.Wipe()
	key, err := v.keys.unwrap(epoch, came.Key)
	if err != nil || !key.Equal(&own) {
		what = append(what, "key")
	}
	key.Wipe()
	name, err := seal.OpenField(int(r.version), &own, v.keys.vaultID(), r.id, seal.FieldName, came.Name)
	if err != nil || name != r.f.name {
		what = append(what, "name")
	}
	mime, err := seal.OpenField(int(r.version), &own, v.keys.vaultID(), r.id, seal.FieldMIME, came.MIME)
	if err != nil || mime != r.f.mime {
		what = append(what, "MIME type")
	}
	if len(what) == 0 && came.Epoch < r.epoch {
		what = append(what, differsEpoch)
	}
	return what
}

// forged says that no device of ours can have written a row: it names a content
// that the attachment never had, or the very one with a key that is not its.
func (l *ledger) forged(came *ServerRow, w *wantedRow) bool {
	if came.Asset {
		_, err := l.v.keys.openTitle(came.Epoch, came.ID, came.Name)
		return err != nil || came.Type != w.row.Type
	}
	if !slices.Contains(slices.Collect(l.h.BlobsOf(came.ID)), came.Blob) {
		return true
	}
	if came.Blob != w.row.Blob {
		return false
	}
	if came.SHA256 != w.row.SHA256 || came.Version != w.row.Version || came.Size != w.row.Size || came.Len != w.row.Len {
		return true
	}
	what := l.differsSealed(&ServerRow{Epoch: came.Epoch, Key: came.Key, Name: w.row.Name, MIME: w.row.MIME}, w)
	return slices.Contains(what, "key") || bytes.Equal(came.Name, came.MIME)
}
