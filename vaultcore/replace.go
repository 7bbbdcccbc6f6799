package vaultcore

import (
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// replace is the rename of a file over a file: the target's row keeps its
// id, numbers and birth and gets the moved content, name and attributes; the
// moved row goes. In memory the moved node goes on under the target's id, so
// that handles, the kernel's inode and its cached pages stay right.
func (m *rename) replace() error {
	v := m.v
	if m.sealed == nil && m.src.n == 0 {
		var err error
		if m.sealed, err = v.sealInline(nil); err != nil {
			return err
		}
	}
	var r *attRow
	no, err := v.com.do(func(t *txn) (err error) {
		r, err = m.putReplace(t)
		return err
	})
	if err != nil {
		return err
	}
	v.bar.commit()
	m.no = no
	m.showReplace(r, no)
	return nil
}

func (m *rename) putReplace(t *txn) (*attRow, error) {
	v := m.v
	r, err := t.attRow(m.dst.n)
	if err != nil {
		return nil, err
	}
	oldNo := r.commitNo
	key, err := m.takeContent(t, r)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	v.tree.Lock()
	asset, name := v.storedName(m.dst)
	r.asset, r.f.name, r.f.btime = asset.id, name, m.dst.btime
	r.f.mime = v.mimeOf(m.src)
	shown := r.f.shown
	v.moveFields(r, m.src, m.newName, true)
	r.f.shown = shown // the target goes on under its name
	if !r.f.scratch {
		r.dirty |= dirtyContent
	}
	srcDraft, dstDraft := m.src.draftID, m.dst.draftID
	v.tree.Unlock()
	if err := v.sealWire(r, &key); err != nil {
		return nil, err
	}
	v.sealAtt(r)
	if err := v.keepFresh(t, r.n, m.dst.content); err != nil {
		return nil, err
	}
	if m.dstStays, err = t.retire(r.n, oldNo, m.dst.content); err != nil {
		return nil, err
	}
	if err := t.exec(sqlReplaceAtt, r.values(t.no)...); err != nil {
		return nil, err
	}
	if err := m.dropMoved(t); err != nil {
		return nil, err
	}
	if err := t.dropDraftRow(dstDraft); err != nil {
		return nil, err
	}
	return r, t.endDraftRow(srcDraft)
}

// takeContent puts the moved content into r and gives its file key.
func (m *rename) takeContent(t *txn, r *attRow) (seal.Key, error) {
	v := m.v
	// base stays: the new content is made on the target's tips
	if m.sealed != nil {
		r.setContent(&m.sealed.ref)
		r.place, r.fresh = placeBin, m.sealed.fresh
		if m.sealed.fresh != nil {
			r.place = placeFresh
		}
		return seal.KeyFromBytes(m.sealed.key.Bytes())
	}
	s, err := t.attRow(m.src.n)
	if err != nil {
		return seal.Key{}, err
	}
	if err := v.openAtt(s); err != nil {
		return seal.Key{}, err
	}
	ref := s.ref()
	r.setContent(&ref)
	r.sha, r.place = s.sha, s.place
	if s.place == placeFresh {
		b, err := t.one("SELECT fresh FROM asset_attachments WHERE n=?", s.n)
		if err != nil {
			return seal.Key{}, err
		}
		r.fresh, _ = b.([]byte)
	}
	key, err := v.fileKeyOf(s)
	if err != nil {
		return seal.Key{}, err
	}
	return key, v.rewrapRow(r, &key)
}

// dropMoved deletes the row the content came from. One that a remote has
// heard of stays as a deleted one with an empty content of its own, since a
// blob is named by one row.
func (m *rename) dropMoved(t *txn) error {
	v := m.v
	if m.src.n == 0 {
		return nil
	}
	if m.sealed != nil && m.src.content != nil {
		// The draft replaced it; nothing names the old content now.
		var err error
		if m.srcStays, err = t.keepUnsent(m.src.n); err != nil {
			return err
		}
		if !m.srcStays {
			if err := t.exec(sqlDoom, m.src.content.ref.blob[:], int64(t.no)); err != nil {
				return err
			}
		}
	}
	if m.src.rev() == 0 {
		return t.exec(sqlDeleteAtt, m.src.n)
	}
	r, err := t.attRow(m.src.n)
	if err != nil {
		return err
	}
	if err := v.openAtt(r); err != nil {
		return err
	}
	empty, err := v.sealInline(nil)
	if err != nil {
		return err
	}
	defer empty.key.Wipe()
	r.deleted, r.dirty, r.base = v.nowNS(), r.dirty|dirtyAttr, r.movedBase()
	if err := v.fillRow(r, empty); err != nil {
		return err
	}
	return t.exec(sqlReplaceAtt, r.values(t.no)...)
}

// showReplace publishes the replacement in the tree.
func (m *rename) showReplace(r *attRow, no uint64) {
	v := m.v
	now := v.nowNS()
	old, moved := m.dst.content, m.src.content
	c := moved
	if m.sealed != nil {
		c = v.store.newContent(m.sealed.ref, r.place, r.n)
	} else {
		c.row.Store(r.n)
	}
	v.tree.Lock()
	stored := v.storedComponent(m.dst)
	v.unplace(m.dst)
	m.dst.draftID = seal.ID{}
	detach(m.src)
	v.rename(m.newDir, m.newName, m.src, now)
	v.setStored(m.src, stored)
	touchDir(m.dir, now)
	touchDir(m.newDir, now)
	s := m.src
	v.rows.drop(s.n)
	s.id, s.n, s.commitNo, s.dirty, s.sync = r.id, r.n, no, r.dirty, m.dst.sync
	s.btime, s.content, s.draftID = m.dst.btime, c, seal.ID{}
	v.rows.set(s)
	v.tree.Unlock()
	v.replaced(old, m.dstStays, no)
	if m.sealed == nil {
		return
	}
	v.replaced(moved, m.srcStays, no)
	if o := m.open; o != nil {
		c.acquire()
		if o.content != nil {
			o.content.release()
		}
		o.content = c
	}
	if m.sealed.fresh != nil {
		v.fresh.add(v, c, len(m.sealed.fresh))
	}
}

// fileKeyOf gives the file key of a row's content, through the cache.
func (v *Vault) fileKeyOf(r *attRow) (seal.Key, error) {
	return v.fileKeys.Get(v.ctx, r.blob, func() (seal.Key, error) {
		return v.keys.unwrap(r.epoch, r.wrapped)
	})
}

// rewrapRow brings a row's wrapped key into the current epoch.
func (v *Vault) rewrapRow(r *attRow, key *seal.Key) error {
	if r.epoch == v.keys.epoch() {
		return nil
	}
	wrapped, epoch, err := v.keys.wrap(key)
	if err != nil {
		return err
	}
	r.wrapped, r.epoch = wrapped, epoch
	return nil
}
