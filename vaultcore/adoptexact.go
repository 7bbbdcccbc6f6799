package vaultcore

import (
	"bytes"
	"context"
	"errors"

	"github.com/vaultdrive/vaultdrive/vaultcore/history"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// adoptExact makes a file whose op says what the row says.
func (v *Vault) adoptExact(ctx context.Context, u *unattested) (at string, err error) {
	c, err := v.checkContent(ctx, u)
	if err != nil {
		return "", err
	}
	// It is there: all of it has just come from there.
	if err := v.Sent(ctx, []seal.ID{u.row.Blob}); err != nil {
		return "", err
	}
	at, changes, err := v.insertExact(ctx, u, &c)
	v.changed(changes...)
	if err != nil || c.sealed == nil {
		return at, err
	}
	if err := v.PutBlob(ctx, u.row.Blob, bytes.NewReader(c.sealed)); err != nil {
		v.log.Info("adopted content not kept, it is fetched when it is read", "blob", u.row.Blob.Hex(), "err", err)
	}
	return at, nil
}

func (v *Vault) insertExact(ctx context.Context, u *unattested, c *checked) (at string, changes []Change, err error) {
	l, err := v.lockLedger(ctx)
	if err != nil {
		return "", nil, err
	}
	defer l.mu.Unlock()
	f, err := v.rowOfID(u.row.ID)
	if err != nil {
		return "", nil, err
	}
	if f.row == nil || f.row.version() != u.row.version() || l.named(u.row.ID) || v.blobNamed(u.row.Blob) {
		return "", nil, errRowChanged
	}
	v.ns.Lock()
	defer v.ns.Unlock()
	asset, changes, err := l.adoptAsset(u.row.Parent, u.row.Type)
	if err != nil {
		return "", changes, err
	}
	n, err := v.insertRowOf(u, c, asset)
	if err != nil {
		return "", changes, err
	}
	v.tree.Lock()
	defer v.tree.Unlock()
	dir := v.placeStored(asset, u.name, n)
	touchDir(dir, n.ctime)
	v.count(n, 1)
	return shownPath(n), append(changes, v.entryChanges(n)...), nil
}

// insertRowOf writes the row; its content is at the remote only. ns is held.
func (v *Vault) insertRowOf(u *unattested, c *checked, asset *Node) (*Node, error) {
	now := v.nowNS()
	r := &attRow{
		n: v.nextRow.Add(1), id: u.row.ID, asset: asset.id, version: u.row.Version, epoch: u.epoch, size: u.row.Size,
		name: u.row.Name, mime: u.row.MIME, wrapped: u.row.Key, blob: u.row.Blob, blobLen: u.row.Len, hdr: c.hdr, sha: u.row.SHA256[:],
		dirty: dirtyAttr | dirtyContent, place: placeElsewhere,
	}
	r.f = attFields{mtime: u.mtime(now), ctime: now, mode: 0o600, name: u.name, mime: u.mime}
	n := &Node{kind: u.kind(), ino: inoOf(r.id), id: r.id, n: r.n, size: r.size, ctime: now, mime: intern(u.mime), dirty: r.dirty}
	if n.kind == KindSymlink {
		r.f.mode, n.mime = 0o777, ""
	}
	r.f.btime = r.f.mtime
	n.mode, n.mtime, n.btime = r.f.mode, r.f.mtime, r.f.btime
	v.sealAtt(r)
	no, err := v.com.do(func(t *txn) error { return t.exec(sqlInsertAtt, r.values(t.no)...) })
	if err != nil {
		return nil, err
	}
	v.bar.commit()
	n.commitNo, n.content = no, v.store.newContent(r.ref(), r.place, r.n)
	v.tree.Lock()
	v.rows.set(n)
	v.tree.Unlock()
	return n, nil
}

// adoptAsset gives the directory of an asset: the live one, one from the trash, or
// a new one under its own id, with the title of its row. ns and mu are held.
func (l *ledger) adoptAsset(id seal.ID, typ uint8) (*Node, []Change, error) {
	v := l.v
	v.tree.RLock()
	n := v.rows.assets[id]
	live := n != nil && !n.has(flagUnlinked)
	v.tree.RUnlock()
	if live {
		return n, nil, nil
	}
	if n != nil {
		n, changes, err := v.reviveAsset(id)
		if errors.Is(err, ErrNotFound) {
			err = ErrNoItem
		}
		return n, changes, err
	}
	if l.h.Asset(id).State != history.Unknown {
		return nil, nil, ErrNoItem
	}
	u := unattested{row: ServerRow{ID: id, Asset: true, Type: typ}}
	rows, err := v.openRows("kind=1 AND id=?", id[:])
	if err != nil {
		return nil, nil, err
	}
	if len(rows) > 0 && rows[0].row != nil {
		u = v.openRow(rows[0].row)
	}
	return v.insertAssetOf(&u)
}

func (v *Vault) insertAssetOf(u *unattested) (*Node, []Change, error) {
	n := v.newNode(KindAsset, 0o700)
	n.id, n.ino, n.atype = u.row.ID, inoOf(u.row.ID), AssetType(u.row.Type)
	if n.atype < TypePassword || n.atype > TypeItem {
		n.atype = TypeItem
	}
	r := &assetRow{n: v.nextRow.Add(1), id: n.id, typ: n.atype, dirty: dirtyAttr}
	r.f = assetFields{ctime: n.btime, mtime: n.mtime, mode: n.mode, title: u.stored()}
	v.tree.RLock()
	name := freeName(v.root, shownTitle(r.f.title), n.id) // ns keeps it free
	v.tree.RUnlock()
	if name != shownTitle(r.f.title) {
		r.f.shown = name
	}
	if u.exact(v) {
		r.title, r.epoch = u.row.Name, u.epoch
		v.sealAsset(r)
	} else if err := v.sealTitle(r); err != nil {
		return nil, nil, err
	}
	no, err := v.com.do(func(t *txn) error { return t.insertAsset(r) })
	if err != nil {
		return nil, nil, err
	}
	v.bar.commit()
	v.tree.Lock()
	defer v.tree.Unlock()
	n.n, n.commitNo, n.dirty = r.n, no, r.dirty
	v.rows.set(n)
	v.place(v.root, name, n)
	v.setStored(n, r.f.title)
	return n, []Change{{Kind: ChangeEntry, Dir: v.root, Name: n.name, Node: n}}, nil
}

// adoptedAsset is adoptAsset for who holds no lock.
func (v *Vault) adoptedAsset(ctx context.Context, id seal.ID, typ uint8) (*Node, error) {
	l, err := v.lockLedger(ctx)
	if err != nil {
		return nil, err
	}
	v.ns.Lock()
	n, changes, err := l.adoptAsset(id, typ)
	v.ns.Unlock()
	l.mu.Unlock()
	v.changed(changes...)
	return n, err
}
