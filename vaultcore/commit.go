package vaultcore

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"sync"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// commitOpen commits what an open file holds; o.mu is held. last says that
// no writer is left: then a mere truncation is committed too, which Flush
// leaves alone because shells flush between truncating and writing.
func (v *Vault) commitOpen(o *openState, last bool) error {
	n := o.node
	v.tree.RLock()
	gone := n.has(flagUnlinked)
	tmp := n.has(flagTmp)
	created := n.n == 0 && n.kind == KindFile
	orphan := n.has(flagOrphan)
	v.tree.RUnlock()
	if gone || tmp {
		return nil // closeOpen drops the draft with the last handle
	}
	if o.draft != nil && !o.dirty() {
		v.dropIdleDraft(o)
	}
	switch {
	case o.draft == nil && (!created || orphan):
		return nil
	case o.draft == nil:
		return v.commitInline(o, nil)
	case !o.wrote && !last && !created:
		return nil
	}
	return v.commitDraft(o)
}

// commitInline gives a new file that nothing was written to its row.
func (v *Vault) commitInline(o *openState, plain []byte) error {
	sc, err := v.sealInline(plain)
	if err != nil {
		return err
	}
	if _, err = v.commitSealed(o, sc, true); err != nil {
		return err
	}
	return v.strictBarrier()
}

// strictBarrier makes close wait for the disk where the user asked for it.
func (v *Vault) strictBarrier() error {
	if !v.opt.Strict {
		return nil
	}
	return v.Barrier(v.ctx)
}

// commitDraft seals the draft whole and puts it in place.
func (v *Vault) commitDraft(o *openState) error {
	if away := o.draft.missing(); away != nil {
		return v.deferCommit(o, away)
	}
	mime := v.guessMIME(o)
	sc, err := o.draft.finish()
	if err != nil {
		return err
	}
	v.setMIME(o.node, mime)
	no, err := v.commitSealed(o, sc, true)
	if err != nil || no == 0 {
		return err // not in, or unlinked meanwhile: the draft serves its handles on
	}
	v.endDraft(o, no)
	return v.strictBarrier()
}

// endDraft lets go of a draft whose content commit no put in place. What its
// row still names stays until the barrier has passed that commit.
func (v *Vault) endDraft(o *openState, no uint64) {
	v.oldFiles.add(no, o.draft.committed())
	o.draft, o.wrote, o.cut, o.settled, o.flushed = nil, false, false, true, 0
}

// sealInline seals a small content that goes into its row: an empty file, a
// folder's, a symlink's target.
func (v *Vault) sealInline(plain []byte) (*sealedContent, error) {
	sc := &sealedContent{key: seal.NewKey()}
	sc.ref.size, sc.ref.blob = int64(len(plain)), seal.NewBlobID()
	if v.keys.writeV4() {
		c := seal.NewV4(&sc.key, v.keys.vaultID(), sc.ref.blob)
		sc.ref.version = seal.V4
		sc.fresh = c.SealChunks(append([]byte(nil), c.Header()...), plain, 0, true)
		copy(sc.ref.hdr[:], c.Header())
	} else {
		buf := make([]byte, 12+len(plain), len(plain)+seal.OverheadV3)
		copy(buf[12:], plain)
		sealed, err := seal.SealV3(&sc.key, buf, len(plain))
		if err != nil {
			return nil, err
		}
		sc.ref.version, sc.fresh = seal.V3, sealed
		h := seal.HdrOfV3(sealed)
		copy(sc.ref.hdr[:], h[:])
	}
	sc.ref.sealedLen = int64(len(sc.fresh))
	wrapped, epoch, err := v.keys.wrap(&sc.key)
	if err != nil {
		return nil, err
	}
	sc.ref.epoch = epoch
	copy(sc.ref.wrapped[:], wrapped)
	return sc, nil
}

// commitSealed writes the row of a file whose new content is in place. It
// gives commit number 0 when the file lost its name meanwhile. publish false
// keeps the row out of the outbox (an fsync before the first close).
func (v *Vault) commitSealed(o *openState, sc *sealedContent, publish bool) (uint64, error) {
	if sc.fresh == nil {
		v.bar.note(pendingFile{name: binName(sc.ref.blob)}, sc.ref.sealedLen)
	}
	v.bar.waitRoom()
	v.fresh.waitRoom(v)
	no, err := v.commitSealedNS(o, sc, publish)
	if err == nil && no > 0 {
		v.bar.commit()
	}
	return no, err
}

func (v *Vault) commitSealedNS(o *openState, sc *sealedContent, publish bool) (uint64, error) {
	v.ns.RLock()
	defer v.ns.RUnlock()
	n := o.node
	v.tree.Lock()
	if n.has(flagUnlinked) || n.has(flagTmp) {
		v.tree.Unlock()
		return 0, nil
	}
	old, oldNo := n.content, n.commitNo
	if n.has(flagOrphan) {
		old, oldNo = nil, 0 // its row has gone to who replaced it
		v.readopt(n)
	}
	r := v.rowOf(n)
	var draftID seal.ID
	if publish {
		draftID = n.draftID
		if !r.f.scratch {
			r.dirty |= dirtyAttr | dirtyContent
		}
	}
	n.flags &^= flagAttrs
	v.tree.Unlock()
	if err := v.fillRow(r, sc); err != nil {
		return 0, err
	}
	var stays bool
	no, err := v.com.do(func(t *txn) (err error) {
		if stays, err = t.putContent(r, oldNo, old); err != nil {
			return err
		}
		return t.endDraftRow(draftID)
	})
	if err != nil {
		return 0, err
	}
	c := v.store.newContent(sc.ref, r.place, r.n)
	c.acquire()
	v.tree.Lock()
	n.n, n.commitNo, n.dirty, n.content = r.n, no, r.dirty, c
	v.rows.set(n)
	n.set(flagDamaged, false)
	if publish {
		n.draftID = seal.ID{}
	}
	late := n.has(flagAttrs) || n.mtime != r.f.mtime || n.mode != r.f.mode
	v.tree.Unlock()
	if late {
		v.queueAttrs(n) // changed since the row was made
	}
	v.replaced(old, stays, no)
	if o.content != nil {
		o.content.release()
	}
	o.content = c
	if r.place == placeFresh {
		v.fresh.add(v, c, len(sc.fresh))
	}
	return no, nil
}

// rowOf starts a row from what the tree knows of a node: identity, place,
// numbers and attributes; tree is held. The content's columns follow.
func (v *Vault) rowOf(n *Node) *attRow {
	asset, name := v.storedName(n)
	r := &attRow{n: n.n, id: n.id, dirty: n.dirty}
	if asset != nil {
		r.asset = asset.id
	}
	if n.sync != nil {
		r.rev, r.digest, r.base = n.sync.rev, n.sync.digest, n.sync.base
	}
	r.f = attFields{
		mtime: n.mtime, ctime: n.ctime, btime: n.btime, mode: n.mode,
		scratch: n.has(flagScratch), name: name, mime: v.mimeOf(n), xattrs: n.xattrs,
	}
	if n.has(flagStored) && n.kind != KindFolder && v.ledger.Load() != nil && n.name != shownComponent(v.storedComponent(n)) {
		r.f.shown = n.name
	}
	if r.n == 0 {
		r.n = v.nextRow.Add(1)
	}
	return r
}

// fillRow puts a sealed content and the wire fields under its key into r.
func (v *Vault) fillRow(r *attRow, sc *sealedContent) error {
	r.setContent(&sc.ref)
	r.place, r.fresh = placeBin, sc.fresh
	if sc.fresh != nil {
		r.place = placeFresh
		if v.com.synced.Load() {
			// While it is at hand: sealing would read it, and write its row once more.
			sum := sha256.Sum256(sc.fresh)
			r.sha = sum[:]
		}
	}
	if err := v.sealWire(r, &sc.key); err != nil {
		return err
	}
	v.sealAtt(r)
	return nil
}

// sealWire makes the name and MIME fields that a remote sees.
func (v *Vault) sealWire(r *attRow, key *seal.Key) (err error) {
	vault := v.keys.vaultID()
	if r.name, err = seal.SealField(int(r.version), key, vault, r.id, seal.FieldName, r.f.name); err != nil {
		return err
	}
	r.mime, err = seal.SealField(int(r.version), key, vault, r.id, seal.FieldMIME, r.f.mime)
	return err
}

// putContent writes a row with a new content. The row it replaces goes to
// undo if it is, or is about to be, behind a barrier; else its blob, which
// nothing names any more, is doomed.
func (t *txn) putContent(r *attRow, oldNo uint64, old *content) (stays bool, err error) {
	if oldNo == 0 {
		return false, t.exec(sqlInsertAtt, r.values(t.no)...)
	}
	stays, err = t.retire(r.n, oldNo, old)
	if err != nil {
		return false, err
	}
	return stays, t.exec(sqlReplaceAtt, r.values(t.no)...)
}

// retire keeps a row about to change in undo, or what it holds as unsent, or
// dooms its blob. stays: the blob is not doomed.
func (t *txn) retire(row int64, oldNo uint64, old *content) (stays bool, err error) {
	kept, err := t.keepUnsent(row)
	if err != nil {
		return false, err
	}
	if oldNo <= t.undoMark {
		return true, t.exec(sqlKeepUndo, row)
	}
	if old == nil || kept {
		return kept, nil
	}
	return false, t.exec(sqlDoom, old.ref.blob[:], int64(t.no))
}

// replaced notes that old lost its row in commit no; stays: it is not doomed.
func (v *Vault) replaced(old *content, stays bool, no uint64) {
	if old == nil {
		return
	}
	if stays {
		no = 0
	}
	v.retired.add(old, no)
}

// keepDraft makes the draft survive a kill, or with sync a power cut, without
// sealing the file; o.mu is held.
func (v *Vault) keepDraft(o *openState, sync bool) error {
	n := o.node
	v.tree.RLock()
	row := n.n != 0 || v.trashedBase(n) != nil
	v.tree.RUnlock()
	if !row {
		// The draft's row names its attachment, so that needs a row first.
		sc, err := v.sealInline(nil)
		if err != nil {
			return err
		}
		if _, err := v.commitSealed(o, sc, false); err != nil {
			return err
		}
	}
	state, changed, err := o.draft.keep(sync)
	if err != nil {
		return err
	}
	files := o.draft.files()
	if !sync {
		for _, name := range files {
			v.bar.note(pendingFile{name: name, scratch: isScratchFile(name)}, 0)
		}
		v.bar.commit()
	}
	if !changed {
		return nil
	}
	o.keeps++
	err = v.saveDraft(n, strings.Join(files, ","), state)
	if err != nil {
		o.draft.notRecorded()
	}
	return err
}

// saveDraft writes the draft's row; the file's own row goes with the name.
func (v *Vault) saveDraft(n *Node, file string, state []byte) error {
	v.ns.RLock()
	defer v.ns.RUnlock()
	v.tree.Lock()
	if n.has(flagUnlinked) {
		v.tree.Unlock()
		return nil
	}
	if n.draftID.IsZero() {
		n.draftID = seal.NewID()
	}
	id := n.draftID
	plain := append([]byte(nil), n.id[:]...)
	plain = binary.BigEndian.AppendUint64(plain, uint64(n.mtime))
	plain = append(plain, state...)
	var base []byte
	if n.sync != nil {
		base = n.sync.tips()
	}
	v.tree.Unlock()
	var a seal.RowAAD
	sealed := v.keys.local().SealRow(nil, plain, draftAAD(&a, id, file))
	clear(plain)
	_, err := v.com.do(func(t *txn) error {
		return t.exec(`INSERT INTO drafts(id,file,commit_no,sealed,base) VALUES(?1,?2,0,?3,?4)
			ON CONFLICT(id) DO UPDATE SET file=excluded.file,commit_no=0,sealed=excluded.sealed`, id[:], file, sealed, nilBytes(base))
	})
	if err == nil {
		v.bar.commit()
	}
	return err
}

func draftAAD(a *seal.RowAAD, id seal.ID, file string) []byte {
	a.Reset(tableDrafts)
	a.Bytes(id[:])
	a.Bytes([]byte(file))
	return a.Sum()
}

// endDraftRow marks a kept draft as superfluous once the barrier has passed
// this commit; until then a power cut may still need it. In the transaction
// of the content, because an older draft must never come back over it.
func (t *txn) endDraftRow(id seal.ID) error {
	if id.IsZero() {
		return nil
	}
	return t.exec("UPDATE drafts SET commit_no=? WHERE id=?", int64(t.no), id[:])
}

// dropDraft throws a draft away: the file has no name any more. Its files
// stay until the deletion of its row is durable.
func (v *Vault) dropDraft(o *openState) {
	if o.draft != nil {
		v.oldFiles.add(v.com.last.Load(), o.draft.dropped())
		o.draft, o.wrote, o.cut = nil, false, false
		v.bar.commit()
	}
}

// standsOn lists every file the draft needs now or may still need.
func (d *draft) standsOn() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := append(d.filesLocked(), d.rowFiles...)
	if d.done != nil && d.done.fresh == nil {
		names = append(names, binName(d.done.ref.blob))
	}
	return append(names, d.obsolete...)
}

// oldFiles are the files of ended drafts that rows may still name on disk;
// removed once a barrier has passed the commit that ended them.
type oldFiles struct {
	mu    sync.Mutex
	files []oldFile
}

type oldFile struct {
	no   uint64
	name string
}

func (f *oldFiles) add(no uint64, names []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range names {
		f.files = append(f.files, oldFile{no, name})
	}
}

func (f *oldFiles) take(durable uint64) (names []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	left := f.files[:0]
	for _, o := range f.files {
		if o.no <= durable {
			names = append(names, o.name)
		} else {
			left = append(left, o)
		}
	}
	f.files = left
	return names
}

// retryDrafts commits the drafts of closed files whose commit failed.
func (v *Vault) retryDrafts() {
	for _, o := range v.openStates() {
		v.tree.RLock()
		idle := o.handles == 0
		v.tree.RUnlock()
		if !idle {
			continue
		}
		o.mu.Lock()
		err := v.commitOpen(o, true)
		o.mu.Unlock()
		if err == nil {
			v.closeOpen(o)
		}
	}
}

const retryDraftsEvery = 10 * time.Second
