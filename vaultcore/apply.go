package vaultcore

import (
	"errors"
	"path"
	"slices"
	"strings"

	"github.com/vaultdrive/vaultdrive/vaultcore/history"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// nodeIndex finds nodes by what rows and ops call them. It is made by walking
// the tree, so that nothing has to keep it, and holds only what was asked for.
type nodeIndex struct {
	byRow  map[int64]*Node
	byID   map[seal.ID][]*Node
	byBlob map[seal.ID][]*Node // more than one where a content was moved and its old file lives on
	assets map[seal.ID]*Node
}

func (v *Vault) indexNodes(want func(*Node) bool) *nodeIndex {
	v.tree.RLock()
	defer v.tree.RUnlock()
	x := &nodeIndex{
		byRow: make(map[int64]*Node), byID: make(map[seal.ID][]*Node),
		byBlob: make(map[seal.ID][]*Node), assets: make(map[seal.ID]*Node),
	}
	add := func(n *Node) {
		if n.kind == KindAsset || want(n) {
			x.add(n)
		}
	}
	v.walk(v.root, add)
	for _, t := range v.trash {
		add(t.node)
	}
	return x
}

// here says where a blob is on this device.
func (x *nodeIndex) here(blob seal.ID) int32 {
	for _, n := range x.byBlob[blob] {
		if p := n.content.place.Load(); p != placeElsewhere {
			return p
		}
	}
	return placeElsewhere
}

func allNodes(*Node) bool { return true }

// indexFor indexes what a change of some ids may need: their rows, and the rows
// that have their contents under another id.
func (l *ledger) indexFor(c history.Changed) *nodeIndex {
	ids, blobs := make(map[seal.ID]bool, len(c.Attachments)), make(map[seal.ID]bool)
	for _, id := range c.Attachments {
		ids[id] = true
		for _, f := range l.h.Attachment(id, nil).Live {
			blobs[f.Blob] = true
		}
	}
	x := l.v.indexNodes(func(n *Node) bool { return ids[n.id] || n.content != nil && blobs[n.content.ref.blob] })
	for _, id := range c.Attachments {
		for _, n := range x.byID[id] {
			if n.content != nil {
				blobs[n.content.ref.blob] = true
			}
		}
	}
	// Again, for who shares a content that may go.
	return l.v.indexNodes(func(n *Node) bool { return ids[n.id] || n.content != nil && blobs[n.content.ref.blob] })
}

func (x *nodeIndex) add(n *Node) {
	if n.kind == KindRoot {
		return
	}
	if n.n != 0 {
		x.byRow[n.n] = n
	}
	switch {
	case n.kind == KindAsset:
		x.assets[n.id] = n
	case n.n != 0:
		x.byID[n.id] = append(x.byID[n.id], n)
		if n.content != nil {
			b := n.content.ref.blob
			x.byBlob[b] = append(x.byBlob[b], n)
		}
	}
}

// presence says where blobs are, for the history.
func (l *ledger) presence(x *nodeIndex, arrived ...seal.ID) func(seal.ID) history.Presence {
	return func(blob seal.ID) history.Presence {
		if x.here(blob) != placeElsewhere || slices.Contains(arrived, blob) {
			return history.Here
		}
		if l.sent[blob] {
			return history.Remote
		}
		return history.Nowhere
	}
}

// applying is one change of rows and tree to what the history says. Rows are
// written in one transaction, then the tree follows; ns is held throughout, so
// nothing else changes either meanwhile.
type applying struct {
	l     *ledger
	x     *nodeIndex
	in    *incoming // nil: nothing came
	where func(seal.ID) history.Presence

	files   []*fileChange
	drops   []*Node // rows that go, their content with them
	buries  []*Node // rows that go to the trash
	assets  []*assetChange
	claimed map[*Node]bool
	blobs   map[seal.ID]bool // that a file of this change has taken
	now     int64
	no      uint64
	changes []Change
	touched map[*Node]bool // directories something left
}

// fileChange is a visible file: of a row that is here, or of a new one.
type fileChange struct {
	id   seal.ID
	f    history.File
	blob seal.ID // content its row names
	node *Node   // of the row; nil for a new one
	row  *attRow // as written
	same bool    // the row says all of it already
}

type assetChange struct {
	a    history.Asset
	node *Node // nil for a new one
	row  *assetRow
	bury bool
}

// applyChanged makes rows and tree what the history says of some ids, together
// with what came in. ns and mu are held.
func (l *ledger) applyChanged(c history.Changed, in *incoming) ([]Change, error) {
	x := l.indexFor(c)
	var arrived []seal.ID
	if in != nil {
		for blob := range in.arrived {
			arrived = append(arrived, blob)
		}
	}
	a := &applying{
		l: l, x: x, in: in, where: l.presence(x, arrived...), claimed: make(map[*Node]bool), blobs: make(map[seal.ID]bool),
		now: l.v.nowNS(), touched: make(map[*Node]bool),
	}
	a.plan(c)
	var err error
	a.no, err = l.v.com.do(a.write)
	if err != nil {
		return nil, err
	}
	l.v.bar.commit()
	a.show()
	return a.changes, nil
}

func (a *applying) plan(c history.Changed) {
	h := a.l.h
	atts := make([]history.Attachment, len(c.Attachments))
	for i, id := range c.Attachments {
		atts[i] = h.Attachment(id, a.where)
		a.planLive(&atts[i])
	}
	for i := range atts {
		a.planRest(&atts[i])
	}
	for _, id := range c.Assets {
		a.planAsset(h.Asset(id))
	}
}

// planLive gives each visible file a row: the one that has its content.
func (a *applying) planLive(att *history.Attachment) {
	for blob, id := range a.l.pending {
		if id == att.ID {
			delete(a.l.pending, blob)
		}
	}
	for _, f := range att.Live {
		if f.Twin {
			continue // the folder is shown already
		}
		blob := f.Blob
		if f.Pending {
			a.l.pending[f.Blob] = att.ID
			if f.Shows != (history.Digest{}) {
				blob = f.ShowsBlob
			}
		}
		a.blobs[blob] = true
		ch := &fileChange{id: att.ID, f: f, blob: blob, node: a.rowFor(att.ID, blob)}
		if ch.node != nil {
			a.claimed[ch.node] = true
		}
		a.files = append(a.files, ch)
	}
}

// rowFor finds the row that has a content: under its own id, else one under
// another that needs it no more.
func (a *applying) rowFor(id, blob seal.ID) *Node {
	var other *Node
	for _, n := range a.x.byBlob[blob] {
		switch {
		case a.claimed[n]:
		case n.id == id:
			return n
		case other == nil && a.free(n):
			other = n
		}
	}
	return other
}

// shared says whether another row than n's names its blob, now or in a moment.
func (a *applying) shared(n *Node) bool {
	return a.blobs[n.content.ref.blob] || len(a.x.byBlob[n.content.ref.blob]) > 1
}

// free says whether a row of another id may be taken over: an undelete and a
// rename over a file give a content another id.
func (a *applying) free(n *Node) bool {
	if n.dirty != 0 || a.claimed[n] {
		return false
	}
	for _, f := range a.l.h.Attachment(n.id, a.where).Live {
		if f.Blob == n.content.ref.blob || f.Pending && f.ShowsBlob == n.content.ref.blob {
			return false
		}
	}
	return true
}

// planRest settles the rows of an id that no visible file needs: the trash if
// a delete ended them, else what replaced them has their place.
func (a *applying) planRest(att *history.Attachment) {
	dead := make(map[seal.ID]bool, len(att.Dead))
	for _, f := range att.Dead {
		if f.MIME != history.MIMEFolder {
			dead[f.Blob] = true
		}
	}
	for _, n := range a.x.byID[att.ID] {
		// What is not sealed is nobody's to take; what cannot be read is left to check.
		if a.claimed[n] || n.dirty != 0 || n.content == nil || n.has(flagDamaged) {
			continue
		}
		switch {
		case n.has(flagUnlinked) && n.kind != KindFolder:
			// in the trash already
		case n.kind != KindFolder && (dead[n.content.ref.blob] || n.open.Load() != nil || !n.draftID.IsZero()):
			// An open file's draft may stand on this content, so it stays a while.
			a.buries = append(a.buries, n)
		default:
			a.drops = append(a.drops, n)
		}
	}
}

func (a *applying) planAsset(s history.Asset) {
	n := a.x.assets[s.ID]
	switch {
	case s.State.Visible():
		a.assets = append(a.assets, &assetChange{a: s, node: n})
	case n != nil && n.n != 0 && !n.has(flagUnlinked) && n.dirty == 0:
		a.assets = append(a.assets, &assetChange{a: s, node: n, bury: true})
	}
}

// write is the transaction.
func (a *applying) write(t *txn) error {
	if err := t.setMeta(metaBehind, int64(0)); err != nil {
		return err
	}
	if a.in != nil {
		if err := a.in.write(a.l, t); err != nil {
			return err
		}
	}
	for _, ch := range a.assets {
		if err := a.writeAsset(t, ch); err != nil {
			return err
		}
	}
	for _, n := range a.drops {
		if err := a.writeDrop(t, n); err != nil {
			return err
		}
	}
	for _, n := range a.buries {
		if err := a.writeBury(t, n); err != nil {
			return err
		}
	}
	for _, ch := range a.files {
		var err error
		if ch.node != nil {
			err = a.writeKept(t, ch)
		} else {
			err = a.writeNew(t, ch)
		}
		if err != nil {
			return err
		}
	}
	if a.in == nil {
		return nil
	}
	return a.writeWraps(t)
}

func (a *applying) writeAsset(t *txn, ch *assetChange) error {
	v, s := a.l.v, &ch.a
	r := &assetRow{id: s.ID, typ: AssetType(s.Type)}
	r.f = assetFields{ctime: s.Ctime, mtime: a.now, mode: 0o700, title: s.Title}
	if ch.node != nil && ch.node.n != 0 {
		v.tree.RLock()
		r.n, r.dirty, r.f.mtime, r.f.mode = ch.node.n, ch.node.dirty, ch.node.mtime, ch.node.mode
		v.tree.RUnlock()
	} else if len(s.Base) == 0 {
		return nil // its record has not come: a directory without a row
	}
	if len(s.Base) > 0 {
		d := s.Base[0]
		r.rev, r.digest = s.Rev, d[:]
	}
	if ch.bury {
		r.deleted = a.now
	}
	if err := v.sealTitle(r); err != nil {
		return err
	}
	ch.row = r
	if r.n != 0 {
		return t.updateAsset(r)
	}
	r.n = v.nextRow.Add(1)
	return t.insertAsset(r)
}

// writeDrop deletes a row; its blob goes when nobody uses it any more.
func (a *applying) writeDrop(t *txn, n *Node) error {
	if err := a.l.v.keepFresh(t, n.n, n.content); err != nil {
		return err
	}
	if !a.shared(n) {
		if err := t.exec(sqlDoom, n.content.ref.blob[:], int64(t.no)); err != nil {
			return err
		}
	}
	return t.exec(sqlDeleteAtt, n.n)
}

func (a *applying) writeBury(t *txn, n *Node) error {
	r, err := t.attRow(n.n)
	if err != nil {
		return err
	}
	if err := a.l.v.openAtt(r); err != nil {
		return err
	}
	r.deleted = a.now
	a.l.v.sealAtt(r)
	return t.updateAtt(r)
}

// numbers enters what the history says of a file into its row.
func (ch *fileChange) numbers(r *attRow) {
	r.id, r.asset, r.deleted = ch.id, ch.f.Parent.ID, 0
	r.rev, r.digest, r.base = ch.f.Rev, slices.Clone(ch.f.Base[0][:]), nil
	if len(ch.f.Base) > 1 {
		for _, d := range ch.f.Base {
			r.base = append(r.base, d[:]...)
		}
	}
	r.f.name, r.f.mime, r.f.mode, r.f.mtime, r.f.shown = ch.f.Stored, ch.f.MIME, uint16(ch.f.Mode), ch.f.Mtime, ch.shownLeaf()
	r.f.scratch = false
}

// shownLeaf is the last component as shown, "" where the stored one says it.
func (ch *fileChange) shownLeaf() string {
	leaf := path.Base(ch.f.Name)
	parts, _ := splitStored(ch.f.Stored, ch.id)
	if shownComponent(parts[len(parts)-1]) == leaf {
		return ""
	}
	return leaf
}

// writeKept brings a row whose content stays up to what the history says.
func (a *applying) writeKept(t *txn, ch *fileChange) error {
	v, n := a.l.v, ch.node
	r, err := t.attRow(n.n)
	if err != nil {
		return err
	}
	if err := v.openAtt(r); err != nil {
		return err
	}
	before := *r
	ch.numbers(r)
	ch.row = r
	ch.same = r.id == before.id && r.asset == before.asset && r.deleted == before.deleted && r.rev == before.rev &&
		string(r.digest) == string(before.digest) && string(r.base) == string(before.base) && r.f.name == before.f.name &&
		r.f.mime == before.f.mime && r.f.mode == before.f.mode && r.f.mtime == before.f.mtime && r.f.shown == before.f.shown
	if ch.same {
		return nil
	}
	if r.f.name != before.f.name || r.f.mime != before.f.mime || r.id != before.id {
		if err := a.sealTexts(r); err != nil {
			return err
		}
	}
	r.f.ctime = a.now
	v.sealAtt(r)
	if r.commitNo <= t.undoMark {
		if err := t.exec(sqlKeepUndo, r.n); err != nil {
			return err
		}
	}
	return t.exec(`UPDATE asset_attachments SET id=?2,asset=?3,file_name_encrypted=?4,content_type_encrypted=?5,rev=?6,digest=?7,
		base=?8,deleted=?9,commit_no=?10,sealed=?11 WHERE n=?1`, r.n, r.id[:], r.asset[:], r.name, r.mime, int64(r.rev), nilBytes(r.digest),
		nilBytes(r.base), r.deleted, int64(t.no), r.sealed)
}

// sealTexts makes the wire texts of a row anew under its content's key.
func (a *applying) sealTexts(r *attRow) error {
	key, err := a.l.v.fileKeyOf(r)
	if err != nil {
		return nil // the content cannot be opened either; check names it
	}
	defer key.Wipe()
	if r.f.name == "" {
		return nil
	}
	return a.l.v.sealWire(r, &key)
}

// writeNew writes the row of a content that is not here yet.
func (a *applying) writeNew(t *txn, ch *fileChange) error {
	content := ch.f.Content
	if ch.blob != ch.f.Blob {
		content = ch.f.Shows
	}
	put := (*seal.Put)(nil)
	if a.in != nil {
		put = a.in.puts[content]
	}
	if put == nil {
		var err error
		if put, err = a.l.findPut(content); err != nil {
			return err
		}
	}
	v := a.l.v
	if ch.row == nil {
		ch.row = &attRow{n: v.nextRow.Add(1)} // fn may run twice
	}
	r := ch.row
	r.version, r.epoch, r.size = put.Version, put.Epoch, int64(put.Size)
	r.wrapped, r.blob, r.blobLen, r.hdr = put.WK, put.Blob.ID, int64(put.Blob.Len), put.Blob.Hdr
	r.sha, r.place = put.Blob.SHA256[:], placeElsewhere
	switch {
	case a.in != nil && a.in.arrived[r.blob], a.x.here(r.blob) == placeBin:
		r.place = placeBin
	case a.x.here(r.blob) == placeFresh:
		b, err := t.one("SELECT fresh FROM asset_attachments WHERE blob=? AND place=2 LIMIT 1", r.blob[:])
		if err != nil {
			return err
		}
		if fresh, _ := b.([]byte); fresh != nil {
			r.place, r.fresh = placeFresh, fresh
		}
	}
	r.name, r.mime = put.Name, put.MIME
	r.f.ctime, r.f.btime = a.now, put.Mtime
	ch.numbers(r)
	if name, mime := v.openTexts(put); name != r.f.name || mime != r.f.mime || r.id != put.ID {
		if err := a.sealTexts(r); err != nil {
			return err
		}
	}
	v.sealAtt(r)
	return t.exec(sqlInsertAtt, r.values(t.no)...)
}

// writeWraps takes over wrapped keys of a later epoch.
func (a *applying) writeWraps(t *txn) error {
	v := a.l.v
	for _, w := range a.in.wraps {
		if len(a.x.byBlob[w.Blob]) == 0 {
			continue
		}
		n := a.x.byBlob[w.Blob][0]
		r, err := t.attRow(n.n)
		if errors.Is(err, ErrNotFound) || err == nil && (r.epoch >= w.Epoch || r.blob != w.Blob) {
			continue
		}
		if err != nil {
			return err
		}
		if v.openAtt(r) != nil {
			continue
		}
		r.wrapped, r.epoch = w.WK, w.Epoch
		v.sealAtt(r)
		if err := t.updateAtt(r); err != nil {
			return err
		}
	}
	return nil
}

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
	if n.open.Load() == nil {
		n.flags |= flagUnlinked
		v.setStored(n, n.name)
		return
	}
	n.flags |= flagOrphan
	n.n, n.commitNo, n.dirty = 0, 0, 0
}

func (a *applying) showDrop(n *Node) {
	v := a.l.v
	if n.kind == KindFolder {
		a.showFolderGone(n)
		return
	}
	if n.has(flagUnlinked) {
		for key, t := range v.trash {
			if t.node == n {
				delete(v.trash, key)
			}
		}
	} else {
		a.take(n)
		a.vanish(n)
	}
	if !a.shared(n) {
		v.retired.add(n.content, a.no)
	}
}

// showFolderGone leaves a folder without a row, for as long as something is in
// it; so what did not move with it stays where it is.
func (a *applying) showFolderGone(n *Node) {
	v := a.l.v
	if n.has(flagUnlinked) {
		return
	}
	if !a.shared(n) {
		v.retired.add(n.content, a.no)
	}
	asset, whole := v.storedName(n)
	n.id, n.n, n.commitNo, n.dirty, n.content, n.sync = impliedID(asset.id, whole), 0, 0, 0, nil, nil
	a.touched[n] = true
}

// showBury moves a file into the trash. A file that is open leaves its row
// there and goes on without.
func (a *applying) showBury(n *Node) {
	v := a.l.v
	asset, name := v.storedName(n)
	t := &trashItem{node: n, asset: asset.id, name: name, shown: shownPath(n), deleted: a.now}
	a.take(n)
	if n.open.Load() != nil {
		gone := &Node{
			kind: n.kind, ino: n.ino, id: n.id, n: n.n, mode: n.mode, parent: n.parent, name: n.name, mime: n.mime, size: n.content.ref.size,
			mtime: n.mtime, ctime: n.ctime, btime: n.btime, content: n.content, sync: n.sync, xattrs: n.xattrs, commitNo: a.no,
		}
		gone.flags |= flagUnlinked
		t.node = gone
		a.vanish(n)
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
		for key, t := range v.trash {
			if t.node == n {
				delete(v.trash, key)
			}
		}
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
	n, r := ch.node, ch.row
	n.sync = &syncFields{rev: r.rev, digest: r.digest, base: r.base}
	n.id = ch.id
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
	attach(dir, freeName(dir, a.leaf(ch), n.id), n)
	v.setStored(n, last)
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
		v.place(v.root, freeName(v.root, "recovered-"+id.Hex()[:8], id), n)
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
	if r.rev > 0 {
		n.sync = &syncFields{rev: r.rev, digest: r.digest}
	}
	n.set(flagDamaged, false)
	if n.has(flagUnlinked) {
		for key, t := range v.trash {
			if t.node == n {
				delete(v.trash, key)
			}
		}
		n.flags &^= flagUnlinked
		n.Ref.Store(0)
	} else if n.parent != nil && n.parent.dir.lookup(n.name) == n {
		v.setStored(n, ch.a.Title)
		return
	}
	v.place(v.root, freeName(v.root, ch.a.Name, n.id), n)
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
	where := l.presence(l.v.indexNodes(allNodes))
	for id := range l.h.Attachments() {
		for _, f := range l.h.Attachment(id, where).Live {
			if f.Pending {
				l.pending[f.Blob] = id
			}
		}
	}
}
