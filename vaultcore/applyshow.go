package vaultcore

import (
	"cmp"
	"slices"
	"strings"

	"github.com/vaultdrive/vaultdrive/vaultcore/history"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// show brings the tree to what was written.
func (a *applying) show() {
	v := a.l.v
	v.tree.Lock()
	defer v.tree.Unlock()
	for _, ch := range a.assets {
		if !ch.bury {
			a.leaveAsset(ch)
		}
	}
	for _, ch := range a.assets {
		if !ch.bury {
			a.showAsset(ch)
		}
	}
	for _, n := range a.drops {
		a.showDrop(n)
	}
	for _, n := range a.buries {
		a.showBury(n)
	}
	for _, ch := range a.files {
		if ch.node != nil {
			a.leave(ch)
		}
	}
	// Folders first, so that their directories are there for what lies in them.
	slices.SortStableFunc(a.files, func(x, y *fileChange) int {
		fx, fy := x.f.MIME != history.MIMEFolder, y.f.MIME != history.MIMEFolder
		switch {
		case fx == fy:
			return strings.Compare(x.f.Stored, y.f.Stored)
		case fy:
			return -1
		}
		return 1
	})
	for _, ch := range a.files {
		a.arrive(ch)
	}
	for dir := range a.touched {
		a.prune(dir)
	}
	for _, ch := range a.assets {
		if ch.bury {
			a.buryAsset(ch)
		}
	}
	a.changes = append(a.changes, v.settleNames()...)
	a.keepFolderTimes()
}

// keepFolderTimes gives folders whose records came the times these say, which
// what came in them with the same batches has moved on.
func (a *applying) keepFolderTimes() {
	for _, ch := range a.files {
		if ch.f.MIME != history.MIMEFolder || ch.row == nil || ch.same {
			continue
		}
		if n := a.l.v.rows.get(ch.row.n); n != nil && !n.has(flagAttrs) {
			n.mtime = ch.f.Mtime
		}
	}
}

// take takes a name out of the tree.
func (a *applying) take(n *Node) {
	v := a.l.v
	a.changes = append(a.changes, Change{Kind: ChangeEntry, Dir: n.parent, Name: n.name})
	a.touched[n.parent] = true
	detach(n)
	touchDir(n.parent, a.now)
	v.count(n, -1)
}

// vanish ends a node that has lost its row. Who has it open goes on: what it
// reads stays, and what it saves comes back as an edit on what it opened.
func (a *applying) vanish(n *Node) {
	v := a.l.v
	v.rows.drop(n.n)
	if n.open.Load() == nil {
		n.flags |= flagUnlinked
		v.setStored(n, n.name)
		return
	}
	n.flags |= flagOrphan
	n.n, n.commitNo, n.dirty = 0, 0, 0
}

func (a *applying) showDrop(n *Node) {
	v, content, shared := a.l.v, n.content, a.shared(n)
	switch {
	case n.has(flagUnlinked):
		v.unbury(n)
		v.rows.drop(n.n)
	case n.kind == KindFolder:
		a.showFolderGone(n)
	default:
		a.take(n)
		a.vanish(n)
	}
	if !shared {
		v.replaced(content, a.kept[n], a.no)
	}
}

// showFolderGone leaves a folder without a row, for as long as something is in
// it; so what did not move with it stays where it is.
func (a *applying) showFolderGone(n *Node) {
	v := a.l.v
	asset, whole := v.storedName(n)
	v.rows.drop(n.n)
	n.id, n.n, n.commitNo, n.dirty, n.content, n.sync = impliedID(asset.id, whole), 0, 0, 0, nil, nil
	a.touched[n] = true
}

// showBury moves a file into the trash. A file that is open leaves its row
// there and goes on without.
func (a *applying) showBury(n *Node) {
	v := a.l.v
	asset, name := v.storedName(n)
	t := &trashItem{node: n, asset: asset.id, name: name, shown: shownPath(n), deleted: a.now, takenBack: a.back[n]}
	a.take(n)
	if n.open.Load() != nil {
		gone := &Node{
			kind: n.kind, ino: n.ino, id: n.id, n: n.n, mode: n.mode, parent: n.parent, name: n.name, mime: n.mime, size: n.content.ref.size,
			mtime: n.mtime, ctime: n.ctime, btime: n.btime, content: n.content, sync: n.sync, xattrs: n.xattrs, commitNo: a.no,
		}
		gone.flags |= flagUnlinked
		t.node = gone
		a.vanish(n)
		v.rows.set(gone)
	} else {
		n.flags |= flagUnlinked
		n.commitNo = a.no
		v.setStored(n, n.name)
	}
	v.bury(t)
}

// leave takes a file that gets another name or place out of the old one. A
// folder is not moved: it stays while something is in it, and the new one is
// another.
func (a *applying) leave(ch *fileChange) {
	v, n := a.l.v, ch.node
	if n.has(flagUnlinked) {
		v.unbury(n)
		return
	}
	asset, name := v.storedName(n)
	moved := asset.id != ch.f.Parent.ID || name != ch.f.Stored
	if n.kind == KindFolder {
		if moved {
			ch.node = nil
			a.showFolderGone(n)
			return
		}
		a.update(ch)
		return
	}
	if !moved && n.name == a.leaf(ch) {
		a.update(ch)
		ch.node = nil
		ch.row = nil // in place
		return
	}
	a.take(n)
}

func (a *applying) leaf(ch *fileChange) string {
	if s := ch.shownLeaf(); s != "" {
		return s
	}
	parts, _ := splitStored(ch.f.Stored, ch.id)
	return shownComponent(parts[len(parts)-1])
}

// update takes numbers and attributes over.
func (a *applying) update(ch *fileChange) {
	v, n, r := a.l.v, ch.node, ch.row
	n.sync = &syncFields{rev: r.rev, digest: r.digest, base: r.base}
	n.id = ch.id
	v.rows.set(n)
	if ch.same {
		return
	}
	n.commitNo = max(n.commitNo, a.no)
	n.mime = intern(ch.f.MIME)
	if !n.has(flagAttrs) && !(n.open.Load() != nil && n.mtime > ch.f.Mtime) {
		n.mode, n.mtime = uint16(ch.f.Mode), ch.f.Mtime
	}
	n.ctime = a.now
	a.changes = append(a.changes, Change{Kind: ChangeAttr, Node: n})
}

// arrive puts a file into its place.
func (a *applying) arrive(ch *fileChange) {
	v := a.l.v
	if ch.row == nil {
		return
	}
	n := ch.node
	if n == nil {
		n = a.newNode(ch)
	} else if n.kind == KindFolder && !n.has(flagUnlinked) {
		return
	} else {
		a.update(ch)
		if n.has(flagUnlinked) {
			n.flags &^= flagUnlinked
			n.Ref.Store(0) // a new incarnation for the kernel
		}
	}
	asset := a.assetNode(ch.f.Parent.ID, ch.f.Parent.Type)
	parts, _ := splitStored(ch.f.Stored, ch.id)
	dir := asset
	for i, part := range parts[:len(parts)-1] {
		before := dir
		dir = v.impliedFolder(asset, dir, part, strings.Join(parts[:i+1], "/"))
		a.changes = append(a.changes, Change{Kind: ChangeEntry, Dir: before, Name: dir.name, Node: dir})
	}
	last := parts[len(parts)-1]
	if n.kind == KindFolder && a.adopt(dir, last, n) {
		return
	}
	was := n.name
	v.giveName(dir, a.leaf(ch), n.id, n)
	v.setStored(n, last)
	if n.name != was {
		a.moved = append(a.moved, n)
	}
	touchDir(dir, a.now)
	v.count(n, 1)
	a.changes = append(a.changes, Change{Kind: ChangeEntry, Dir: dir, Name: n.name, Node: n})
}

// adopt gives a folder that its children imply already its row.
func (a *applying) adopt(dir *Node, stored string, n *Node) bool {
	f := dir.dir.lookup(shownComponent(stored))
	if f == nil || f.kind != KindFolder || f.n != 0 || a.l.v.storedComponent(f) != stored {
		return false
	}
	f.id, f.n, f.commitNo, f.dirty, f.mode, f.mtime, f.ctime, f.btime = n.id, n.n, n.commitNo, 0, n.mode, max(f.mtime, n.mtime), n.ctime, n.btime
	f.content, f.sync, f.xattrs = n.content, n.sync, n.xattrs
	a.l.v.rows.set(f)
	return true
}

func (a *applying) newNode(ch *fileChange) *Node {
	v, r := a.l.v, ch.row
	n := &Node{
		kind: KindFile, ino: inoOf(r.id), id: r.id, n: r.n, commitNo: a.no, size: r.size, mode: r.f.mode,
		mtime: r.f.mtime, ctime: r.f.ctime, btime: r.f.btime, xattrs: r.f.xattrs, mime: intern(r.f.mime),
		sync: &syncFields{rev: r.rev, digest: r.digest, base: r.base},
	}
	if a.inoTaken(n) {
		n.ino = inoOf(r.blob)
	}
	switch r.f.mime {
	case mimeFolder:
		n.kind, n.dir, n.size, n.mime = KindFolder, newDirEntries(), 0, ""
	case mimeSymlink:
		n.kind, n.mime = KindSymlink, ""
	}
	n.content = v.store.newContent(r.ref(), r.place, r.n)
	v.rows.set(n)
	if r.place != placeElsewhere {
		v.retired.revive(r.blob)
		v.fresh.add(v, n.content, len(r.fresh))
	}
	return n
}

// inoTaken: what an id named before may still be open, and is another file.
func (a *applying) inoTaken(n *Node) bool { return len(a.x.byID[n.id]) > 0 && n.kind == KindFile }

// assetNode gives the directory of an asset, one under its id if its row has
// not come.
func (a *applying) assetNode(id seal.ID, typ uint8) *Node {
	v := a.l.v
	n := a.x.assets[id]
	if n == nil {
		n = &Node{kind: KindAsset, ino: inoOf(id), id: id, atype: AssetType(typ), dir: newDirEntries(), mode: 0o700}
		n.set(flagDamaged, true)
		a.x.assets[id] = n
		v.place(v.root, freeName(v.root, cmp.Or(a.l.h.Asset(id).Name, history.RecoveredTitle(id)), id), n)
		a.changes = append(a.changes, Change{Kind: ChangeEntry, Dir: v.root, Name: n.name, Node: n})
	} else if n.has(flagUnlinked) {
		v.unburyAsset(n)
		a.changes = append(a.changes, Change{Kind: ChangeEntry, Dir: v.root, Name: n.name, Node: n})
	}
	return n
}

// leaveAsset takes an asset that gets another name out of the root.
func (a *applying) leaveAsset(ch *assetChange) {
	n := ch.node
	if n == nil || n.has(flagUnlinked) || ch.row == nil || ch.a.Name == "" || n.name == ch.a.Name {
		return
	}
	a.take(n)
}

func (a *applying) showAsset(ch *assetChange) {
	v, n, r := a.l.v, ch.node, ch.row
	if r == nil {
		if n == nil {
			a.assetNode(ch.a.ID, ch.a.Type)
		}
		return
	}
	if n == nil {
		n = &Node{kind: KindAsset, ino: inoOf(r.id), id: r.id, dir: newDirEntries(), mode: r.f.mode, mtime: r.f.mtime, ctime: a.now}
		a.x.assets[r.id] = n
	}
	n.n, n.commitNo, n.atype, n.btime = r.n, max(n.commitNo, a.no), r.typ, r.f.ctime
	v.rows.set(n)
	if r.rev > 0 {
		n.sync = &syncFields{rev: r.rev, digest: r.digest}
	}
	n.set(flagDamaged, false)
	if n.has(flagUnlinked) {
		v.unbury(n)
		n.flags &^= flagUnlinked
		n.Ref.Store(0)
	} else if n.parent != nil && n.parent.dir.lookup(n.name) == n {
		v.setStored(n, ch.a.Title)
		return
	}
	v.giveName(v.root, ch.a.Name, n.id, n)
	touchDir(v.root, a.now)
	v.count(n, 1)
	v.setStored(n, ch.a.Title)
	a.changes = append(a.changes, Change{Kind: ChangeEntry, Dir: v.root, Name: n.name, Node: n})
}

// buryAsset takes a deleted asset away. One that still holds something, a file
// that is open or of this device only, stays until that has gone.
func (a *applying) buryAsset(ch *assetChange) {
	v, n := a.l.v, ch.node
	if n.dir.len() > 0 {
		return
	}
	name := v.storedComponent(n)
	a.changes = append(a.changes, Change{Kind: ChangeRemovedDir, Dir: v.root, Name: n.name, Node: n})
	a.take(n)
	n.flags |= flagUnlinked
	v.setStored(n, n.name)
	n.name = name
	v.bury(&trashItem{node: n, shown: shownTitle(name), deleted: a.now})
}

// prune removes folders without a row that nothing is in any more.
func (a *applying) prune(dir *Node) {
	for dir.kind == KindFolder && dir.n == 0 && dir.dir.len() == 0 && !dir.has(flagUnlinked) {
		up := dir.parent
		a.changes = append(a.changes, Change{Kind: ChangeRemovedDir, Dir: up, Name: dir.name, Node: dir})
		detach(dir)
		touchDir(up, a.now)
		a.l.v.count(dir, -1)
		dir.flags |= flagUnlinked
		a.l.v.setStored(dir, dir.name)
		dir = up
	}
}

// notePending finds the contents that are neither here nor on the remote.
func (l *ledger) notePending() {
	where := l.presence(l.v.blobsHere())
	for id := range l.h.Attachments() {
		for _, f := range l.h.Attachment(id, where).Live {
			if f.Pending && !f.Twin {
				l.pending.add(f.Blob, id)
			}
		}
	}
}
