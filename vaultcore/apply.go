package vaultcore

import (
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/vaultdrive/vaultdrive/vaultcore/history"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// indexFor indexes what a change of some ids may need: their rows, and the rows
// that have their contents under another id. blobs are further contents whose
// rows are needed.
func (l *ledger) indexFor(c history.Changed, blobs map[seal.ID]bool) *nodeIndex {
	for _, id := range c.Attachments {
		for _, f := range l.h.Attachment(id, nil).Live {
			blobs[f.Blob] = true
		}
	}
	x := l.v.indexRows(c.Attachments, blobs)
	// Again, for who shares a content that may go.
	more := make(map[seal.ID]bool)
	for _, id := range c.Attachments {
		for _, n := range x.byID[id] {
			if n.content != nil && !blobs[n.content.ref.blob] {
				more[n.content.ref.blob] = true
			}
		}
	}
	l.v.indexMore(x, nil, more)
	return x
}

// presence says where blobs are, for the history; here, which of them a row has.
func (l *ledger) presence(here func(seal.ID) bool, arrived ...seal.ID) func(seal.ID) history.Presence {
	return func(blob seal.ID) history.Presence {
		if here(blob) || slices.Contains(arrived, blob) || l.coming[blob] {
			return history.Here
		}
		if l.sent[blob] {
			return history.Remote
		}
		if l.isKept(blob) {
			return history.Here
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
	drops   []*Node        // rows that go, their content with them
	buries  []*Node        // rows that go to the trash
	back    map[*Node]bool // of buries: what a revocation took back
	assets  []*assetChange
	claimed map[*Node]bool
	kept    map[*Node]bool   // of drops: those whose blob is not doomed
	blobs   map[seal.ID]bool // that a file of this change has taken
	now     int64
	no      uint64
	changes []Change
	touched map[*Node]bool // directories something left
	moved   []*Node        // shown under another name than before
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
	wrapped := in.wrapped()
	l.rowsDue.changed(c, dueOthers)
	l.dueBlobs(slices.Collect(maps.Keys(wrapped)), dueOthers)
	x := l.indexFor(c, wrapped)
	var arrived []seal.ID
	if in != nil {
		for blob := range in.arrived {
			arrived = append(arrived, blob)
		}
	}
	a := &applying{
		l: l, x: x, in: in, where: l.presence(x.has, arrived...), claimed: make(map[*Node]bool),
		kept: make(map[*Node]bool), back: make(map[*Node]bool), blobs: make(map[seal.ID]bool),
		now: l.v.nowNS(), touched: make(map[*Node]bool),
	}
	a.plan(c)
	a.holdDrops()
	var err error
	if a.no, err = l.v.com.do(a.write); err != nil {
		a.letDropsGo()
		return nil, err
	}
	l.v.bar.commit()
	a.show()
	a.letDropsGo()
	a.reportConflicts()
	return a.changes, nil
}

// maxConflictEvents keeps a mass of conflicts from pushing all other events out.
const maxConflictEvents = 100

// reportConflicts writes an event for what is shown beside the file that has its
// name, so that somebody who looks later finds it.
func (a *applying) reportConflicts() {
	v := a.l.v
	var texts []string
	v.tree.RLock()
	for _, n := range a.moved {
		if _, suffixed := v.suffixed(n); suffixed {
			texts = append(texts, shownPath(n))
		}
	}
	v.tree.RUnlock()
	for _, text := range texts[:min(len(texts), maxConflictEvents)] {
		v.event("conflict", text)
	}
	if more := len(texts) - maxConflictEvents; more > 0 {
		v.event("conflict", fmt.Sprintf("and %d more", more))
	}
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
	a.l.pending.clear(att.ID)
	for _, f := range att.Live {
		if f.Twin {
			continue // the folder is shown already
		}
		blob := f.Blob
		if f.Pending {
			a.l.pending.add(f.Blob, att.ID)
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

// shared says whether the blob of a row that goes stays because another row
// names it, now or in a moment. Where several go, one of them takes it along.
func (a *applying) shared(n *Node) bool {
	blob := n.content.ref.blob
	if a.blobs[blob] {
		return true
	}
	last := n
	for _, o := range a.x.byBlob[blob] {
		if o == n {
			continue
		}
		if !slices.Contains(a.drops, o) {
			return true
		}
		if lasts(o, last) {
			last = o
		}
	}
	return last != n
}

// lasts orders rows of one content: those that have it after those that do not,
// then by number.
func lasts(o, n *Node) bool {
	if here := o.content.place.Load() != placeElsewhere; here != (n.content.place.Load() != placeElsewhere) {
		return here
	}
	return o.n > n.n
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
		case n.kind != KindFolder && (dead[n.content.ref.blob] || n.open.Load() != nil || !n.draftID.IsZero() || a.takenBack(n)):
			// An open file's draft may stand on this content, so it stays a while.
			a.buries = append(a.buries, n)
			a.back[n] = a.takenBack(n) && !dead[n.content.ref.blob]
		default:
			a.drops = append(a.drops, n)
		}
	}
}

// holdDrops keeps the files whose content goes from being opened until they are out
// of the tree, since nothing would keep that for what is written over it. Those that
// were opened since the plan was made go to the trash like the others.
func (a *applying) holdDrops() {
	v := a.l.v
	v.tree.Lock()
	defer v.tree.Unlock()
	drops := a.drops[:0]
	v.leaving = make(map[*Node]struct{}, len(a.drops))
	for _, n := range a.drops {
		if n.kind != KindFolder && !n.has(flagUnlinked) && n.open.Load() != nil {
			a.buries = append(a.buries, n)
			continue
		}
		drops = append(drops, n)
		v.leaving[n] = struct{}{}
	}
	a.drops = drops
}

func (a *applying) letDropsGo() {
	a.l.v.tree.Lock()
	a.l.v.leaving = nil
	a.l.v.tree.Unlock()
}

// takenBack: a revocation took back what named a content that is here. The user
// may still want it.
func (a *applying) takenBack(n *Node) bool {
	return a.in != nil && a.in.revoked && n.content.place.Load() != placeElsewhere
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
	if a.in == nil || !a.in.unfinished {
		if err := t.setMeta(metaBehind, int64(0)); err != nil {
			return err
		}
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
	if s.Name != shownTitle(s.Title) {
		r.f.shown = s.Name
	}
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
		kept, err := t.keepUnsent(n.n)
		if err != nil {
			return err
		}
		if a.kept[n] = kept; !kept {
			if err := t.exec(sqlDoom, n.content.ref.blob[:], int64(t.no)); err != nil {
				return err
			}
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
	r.deleted, r.f.takenBack = a.now, a.back[n]
	a.l.v.sealAtt(r)
	return t.updateAtt(r)
}

// numbers enters what the history says of a file into its row.
func (ch *fileChange) numbers(r *attRow) {
	r.id, r.asset, r.deleted = ch.id, ch.f.Parent.ID, 0
	r.rev, r.digest, r.base = ch.f.Rev, slices.Clone(ch.f.Base[0][:]), baseOf(&ch.f)
	r.f.name, r.f.mime, r.f.mode, r.f.mtime, r.f.shown = ch.f.Stored, ch.f.MIME, uint16(ch.f.Mode), ch.f.Mtime, ch.shownLeaf()
	r.f.scratch, r.f.takenBack = false, false
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
	if a.in != nil {
		if w := a.in.keys[put.Blob.ID]; w != nil && w.Epoch > put.Epoch {
			r.wrapped, r.epoch = w.WK, w.Epoch
		}
	}
	r.sha, r.place = put.Blob.SHA256[:], placeElsewhere
	if err := a.findBytes(t, r); err != nil {
		return err
	}
	a.newestWrap(r)
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

// findBytes says in a new row where its content lies: in a file, in another row,
// or among what was kept because it was not sent. What nobody else has is sent.
func (a *applying) findBytes(t *txn, r *attRow) error {
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
	default:
		if err := t.takeKept(r); err != nil {
			return err
		}
	}
	if r.place == placeElsewhere || a.l.sent[r.blob] {
		return nil
	}
	return t.exec(sqlQueueUpload, r.blob[:], r.blobLen, int64(0))
}
