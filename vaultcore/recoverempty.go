package vaultcore

import "github.com/vaultdrive/vaultdrive/vaultcore/seal"

// publishEmpty puts new files into the outbox whose rows an fsync made to keep their
// drafts with, where a kill came between the two: empty files, as they would be on any
// disk, but in no batch ever.
func (v *Vault) publishEmpty() error {
	drafts, err := v.draftRows()
	if err != nil {
		return err
	}
	drafted := make(map[seal.ID]bool)
	for _, d := range drafts {
		drafted[d.att] = true
	}
	var left []*Node
	v.tree.RLock()
	v.walk(v.root, func(n *Node) {
		started := n.kind == KindFile && n.n != 0 && n.dirty == 0 && n.sync == nil && n.content != nil && n.content.ref.size == 0
		if started && !n.has(flagScratch) && !drafted[n.id] {
			left = append(left, n)
		}
	})
	v.tree.RUnlock()
	if len(left) == 0 {
		return nil
	}
	_, err = v.com.do(func(t *txn) error {
		for _, n := range left {
			if err := t.exec("UPDATE asset_attachments SET dirty=? WHERE n=?", int64(dirtyAttr|dirtyContent), n.n); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	v.bar.commit()
	v.tree.Lock()
	defer v.tree.Unlock()
	for _, n := range left {
		n.dirty = dirtyAttr | dirtyContent
	}
	return nil
}
