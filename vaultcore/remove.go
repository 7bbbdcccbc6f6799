package vaultcore

import (
	"errors"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Unlink takes a file's or symlink's name away. What is open goes on for its
// handles; what is older than a minute goes to the trash. It returns when
// the transaction is in. Errors: ErrNotFound, ErrIsDir, ErrReadOnly.
func (v *Vault) Unlink(dir *Node, name string) error {
	n, err := v.removeNamed(dir, name, false)
	if err == nil {
		v.closeIdle(n)
	}
	return err
}

// Rmdir removes an empty folder, or an empty asset. Errors: ErrNotFound,
// ErrNotDir, ErrNotEmpty, ErrReadOnly.
func (v *Vault) Rmdir(dir *Node, name string) error {
	_, err := v.removeNamed(dir, name, true)
	return err
}

// closeIdle drops the state of an unlinked file that nobody has open.
func (v *Vault) closeIdle(n *Node) {
	if o := n.open.Load(); o != nil {
		v.closeOpen(o)
	}
}

func (v *Vault) removeNamed(dir *Node, name string, wantDir bool) (*Node, error) {
	if err := v.writable(); err != nil {
		return nil, err
	}
	if !dir.isDir() {
		return nil, ErrNotDir
	}
	v.ns.Lock()
	defer v.ns.Unlock()
	v.tree.RLock()
	n := dir.dir.lookup(name)
	err := removable(n, wantDir)
	if n == nil {
		err = dir.absent()
	}
	v.tree.RUnlock()
	if err != nil {
		return nil, err
	}
	return n, v.removeNode(n)
}

func removable(n *Node, wantDir bool) error {
	switch {
	case n == nil:
		return ErrNotFound
	case wantDir && !n.isDir():
		return ErrNotDir
	case !wantDir && n.isDir():
		return ErrIsDir
	case n.isDir() && n.dir.len() > 0:
		return ErrNotEmpty
	}
	return nil
}

// removeNode removes one node, its row first; ns is held.
func (v *Vault) removeNode(n *Node) error {
	if err := v.keepParent(n); err != nil {
		return err
	}
	var stays bool
	v.tree.RLock()
	row, trash := n.n, v.goesToTrash(n)
	v.tree.RUnlock()
	deleted := v.nowNS()
	var no uint64
	if row != 0 {
		var err error
		no, err = v.com.free(func(t *txn) (err error) {
			stays, err = v.removeRow(t, n, trash, deleted)
			return err
		})
		if err != nil {
			return err
		}
		v.bar.commit()
	}
	v.tree.Lock()
	defer v.tree.Unlock()
	v.removed(n, trash, deleted, no, stays)
	return nil
}

// keepParent gives an implied folder its row before its last child leaves.
func (v *Vault) keepParent(n *Node) error {
	v.tree.RLock()
	p := n.parent
	need := p.kind == KindFolder && p.n == 0 && p.dir.len() == 1 && !p.has(flagUnlinked)
	v.tree.RUnlock()
	if !need {
		return nil
	}
	return v.folderRow(p, v.com.free)
}

// goesToTrash: scratch, folders and what is young leave nothing behind,
// unless a remote has heard of them; tree is held.
func (v *Vault) goesToTrash(n *Node) bool {
	if n.n == 0 {
		return false
	}
	if n.rev() > 0 {
		return true
	}
	switch n.kind {
	case KindFolder:
		return false
	case KindAsset:
		for _, t := range v.trash {
			if t.asset == n.id {
				return true
			}
		}
		return false
	}
	return !n.has(flagScratch) && v.nowNS()-n.btime >= youngFor
}

// removeRow deletes a node's row, or marks it deleted; within t. stays: its blob
// is not doomed.
func (v *Vault) removeRow(t *txn, n *Node, trash bool, deleted int64) (stays bool, err error) {
	if err := t.dropDraftRow(n.draftID); err != nil {
		return false, err
	}
	if n.kind == KindAsset {
		if !trash {
			return false, t.exec(sqlDeleteAsset, n.n)
		}
		r := v.assetRowOf(n)
		r.deleted, r.dirty = deleted, r.dirty|dirtyAttr
		if err := v.sealTitle(r); err != nil {
			return false, err
		}
		return false, t.updateAsset(r)
	}
	if trash {
		r, err := t.attRow(n.n)
		if err != nil {
			return false, err
		}
		if v.openAtt(r) != nil {
			// It cannot be sealed anew; rescue may still read its content.
			return false, t.exec("UPDATE asset_attachments SET deleted=?,commit_no=? WHERE n=?", deleted, int64(t.no), n.n)
		}
		v.tree.Lock()
		r.f.mode, r.f.mtime, r.f.ctime, r.f.xattrs = n.mode, n.mtime, n.ctime, n.xattrs
		n.set(flagAttrs, false) // nothing writes them behind any more
		v.tree.Unlock()
		r.deleted, r.dirty = deleted, r.dirty|dirtyAttr
		v.sealAtt(r)
		return false, t.updateAtt(r)
	}
	if err := v.keepFresh(t, n.n, n.content); err != nil {
		return false, err
	}
	kept, err := t.keepUnsent(n.n)
	if err != nil || kept {
		return kept, errors.Join(err, t.exec(sqlDeleteAtt, n.n))
	}
	// By the row, since a damaged one has no content in the tree.
	if err := t.exec("INSERT INTO doomed(blob,commit_no) SELECT blob,? FROM asset_attachments WHERE n=?", int64(t.no), n.n); err != nil {
		return false, err
	}
	return false, t.exec(sqlDeleteAtt, n.n)
}

// dropDraftRow deletes the row of a draft whose file has lost its name.
func (t *txn) dropDraftRow(id seal.ID) error {
	if id.IsZero() {
		return nil
	}
	return t.exec("DELETE FROM drafts WHERE id=?", id[:])
}

// removed shows a removal in the tree; tree is held.
func (v *Vault) removed(n *Node, trash bool, deleted int64, no uint64, stays bool) {
	asset, name := v.storedName(n)
	v.unplace(n)
	n.draftID = seal.ID{}
	if trash {
		item := &trashItem{node: n, name: name, deleted: deleted, shown: shownPath(n)}
		if n.kind == KindAsset {
			item.name = ""
			n.commitNo = no
		} else {
			item.asset = asset.id
			n.commitNo = no
		}
		n.dirty |= dirtyAttr // the deletion is to be published
		v.bury(item)
		return
	}
	v.forgetRow(n)
	if n.content != nil {
		if stays {
			no = 0
		}
		v.retired.add(n.content, no)
	}
}

// forgetRow notes that a node has no row any more; tree is held.
func (v *Vault) forgetRow(n *Node) {
	v.rows.drop(n.n)
	if v.rows.assets[n.id] == n {
		delete(v.rows.assets, n.id)
	}
}
