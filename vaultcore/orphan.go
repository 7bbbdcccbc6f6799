package vaultcore

// readopt gives an open file whose row a change from elsewhere took a place
// again, because it is being saved: under its old name if that is free. The
// next batch publishes it as an edit on what it was opened on; what its shown
// name is then, all devices work out alike. tree is held.
func (v *Vault) readopt(n *Node) {
	asset, name := v.storedName(n)
	n.flags &^= flagOrphan
	if asset.has(flagUnlinked) {
		v.unburyAsset(asset)
	}
	dir := v.placeStored(asset, name, n)
	touchDir(dir, v.nowNS())
	v.count(n, 1)
	changes := v.entryChanges(n)
	v.wg.Add(1)
	go func() { // the caller holds locks, and may be a request of the kernel
		defer v.wg.Done()
		v.changed(changes...)
	}()
}

// unburyAsset shows a deleted asset again that holds a live file; tree is held.
func (v *Vault) unburyAsset(asset *Node) {
	stored := v.storedComponent(asset)
	v.unbury(asset)
	asset.flags &^= flagUnlinked
	asset.Ref.Store(0)
	v.place(v.root, freeName(v.root, shownTitle(stored), asset.id), asset)
	v.setStored(asset, stored)
}

// trashedBase gives the entry of the trash that has what an open file without a row
// was opened on, nil if there is none: a draft over that needs no row of its own
// to come back after a kill; tree is held.
func (v *Vault) trashedBase(n *Node) *Node {
	if !n.has(flagOrphan) || n.content == nil {
		return nil
	}
	for _, t := range v.trash {
		if t.node.id == n.id && t.node.content == n.content {
			return t.node
		}
	}
	return nil
}

// neededTrash gives the entries that open files without a row stand on: they stay
// until those are saved; tree is held.
func (v *Vault) neededTrash() map[*Node]bool {
	needed := make(map[*Node]bool)
	for o := range v.opens {
		if t := v.trashedBase(o.node); t != nil {
			needed[t] = true
		}
	}
	return needed
}

// forgetOrphan ends an open file that was replaced and not saved; tree is held.
func (v *Vault) forgetOrphan(n *Node) {
	n.flags = n.flags&^flagOrphan | flagUnlinked
	v.setStored(n, n.name)
}
