package vaultcore

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/vaultdrive/vaultdrive/vaultcore/history"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// impliedID gives an implied folder a stable number.
func impliedID(asset seal.ID, path string) (id seal.ID) {
	sum := sha256.Sum256(append(append([]byte(nil), asset[:]...), path...))
	copy(id[:], sum[:])
	return id
}

// loader builds the tree from the rows. Nothing but the sealed column of
// each row is opened: one key, one decryption a row.
type loader struct {
	v       *Vault
	assets  map[seal.ID]*Node
	damaged int
	undo    map[seal.ID]bool // blobs in undo that no row was seen to name
	lastRow int64
}

func (v *Vault) load() error {
	l := &loader{v: v, assets: make(map[seal.ID]*Node), undo: make(map[seal.ID]bool)}
	v.tree.Lock()
	defer v.tree.Unlock()
	for _, step := range []func() error{l.readUndo, l.readAssets, l.readAttachments, l.readRetired} {
		if err := step(); err != nil {
			return fmt.Errorf("load vault: %w", err)
		}
	}
	v.nextRow.Store(l.lastRow)
	if l.damaged > 0 {
		v.log.Error("damaged rows", "count", l.damaged)
		v.events.alarms = append(v.events.alarms, fmt.Sprintf("%d damaged rows; run check", l.damaged))
	}
	return nil
}

func (l *loader) readUndo() error {
	return l.v.reader.query("SELECT blob FROM undo", func(c []dbValue) error {
		s := rowScanner{c: c}
		l.undo[s.id()] = true
		return nil
	})
}

func (l *loader) readAssets() error {
	var rows []assetRow
	err := l.v.reader.query("SELECT "+assetColumns+" FROM assets ORDER BY n", func(c []dbValue) error {
		var r assetRow
		if err := scanAsset(c, &r); err != nil {
			return err
		}
		rows = append(rows, r)
		l.lastRow = max(l.lastRow, r.n)
		return nil
	})
	if err != nil {
		return err
	}
	for i := range rows {
		l.addAsset(&rows[i])
	}
	return nil
}

func (l *loader) addAsset(r *assetRow) {
	v := l.v
	n := &Node{kind: KindAsset, ino: inoOf(r.id), id: r.id, n: r.n, atype: r.typ, dirty: r.dirty, commitNo: r.commitNo, dir: newDirEntries(), mode: 0o700}
	if r.rev > 0 {
		n.sync = &syncFields{rev: r.rev, digest: r.digest}
	}
	l.assets[r.id] = n
	v.rows.set(n)
	if err := v.openAsset(r); err != nil {
		l.damaged++
		n.set(flagDamaged, true)
		r.f = assetFields{mode: 0o700, title: "unnamed-" + r.id.Hex()[:8]}
		// The wire title is sealed by itself and may have survived.
		if t, err := v.keys.openTitle(r.epoch, r.id, r.title); err == nil {
			r.f.title = t
		}
	}
	n.mode, n.mtime, n.ctime, n.btime = r.f.mode, r.f.mtime, r.f.ctime, r.f.ctime
	if r.deleted != 0 {
		n.parent, n.name = v.root, r.f.title
		n.set(flagUnlinked, true)
		v.bury(&trashItem{node: n, shown: shownTitle(r.f.title), deleted: r.deleted})
		return
	}
	l.give(v.root, cmp.Or(r.f.shown, shownTitle(r.f.title)), n)
	v.setStored(n, r.f.title)
	v.count(n, 1)
}

// give attaches n under the wanted name; the earlier born of two keeps it.
func (l *loader) give(dir *Node, want string, n *Node) {
	other := dir.dir.lookup(want)
	if other == nil {
		attach(dir, want, n)
		return
	}
	if earlier(n, other) {
		stored := l.v.storedComponent(other)
		detach(other)
		attach(dir, want, n)
		attach(dir, freeName(dir, want, other.id), other)
		l.v.setStored(other, stored)
		return
	}
	attach(dir, freeName(dir, want, n.id), n)
}

// earlier orders duplicates by birth, then by id.
func earlier(a, b *Node) bool {
	return cmp.Or(cmp.Compare(a.btime, b.btime), slices.Compare(a.id[:], b.id[:])) < 0
}

const loadBatch = 512

// readAttachments reads on one goroutine and opens on another: half of the
// work is SQLite's, half is ours.
func (l *loader) readAttachments() error {
	batches := make(chan []attRow, 4)
	errc := make(chan error, 1)
	stop := make(chan struct{})
	go func() {
		defer close(batches)
		batch := make([]attRow, 0, loadBatch)
		send := func() bool {
			select {
			case batches <- batch:
				batch = make([]attRow, 0, loadBatch)
				return true
			case <-stop:
				return false
			}
		}
		err := l.v.reader.query("SELECT "+attColumns+" FROM asset_attachments ORDER BY n", func(c []dbValue) error {
			batch = append(batch, attRow{})
			if err := scanAtt(c, &batch[len(batch)-1]); err != nil {
				batch[len(batch)-1].sealed = nil // shown as damaged
				if batch[len(batch)-1].id.IsZero() {
					return err
				}
			}
			if len(batch) == loadBatch && !send() {
				return errStopped
			}
			return nil
		})
		if err == nil && len(batch) > 0 {
			send()
		}
		errc <- err
	}()
	for batch := range batches {
		for i := range batch {
			l.addAttachment(&batch[i])
		}
	}
	close(stop)
	return <-errc
}

var errStopped = errors.New("stopped")

func (l *loader) addAttachment(r *attRow) {
	v := l.v
	l.lastRow = max(l.lastRow, r.n)
	delete(l.undo, r.blob)
	if err := v.openAtt(r); err != nil {
		l.addDamaged(r)
		return
	}
	n := &Node{
		kind: KindFile, ino: inoOf(r.id), id: r.id, n: r.n, dirty: r.dirty, commitNo: r.commitNo, size: r.size,
		mode: r.f.mode, mtime: r.f.mtime, ctime: r.f.ctime, btime: r.f.btime, xattrs: r.f.xattrs,
	}
	n.set(flagScratch, r.f.scratch)
	if r.rev > 0 || r.base != nil {
		n.sync = &syncFields{rev: r.rev, digest: r.digest, base: r.base}
	}
	switch r.f.mime {
	case mimeFolder:
		n.kind, n.dir, n.size = KindFolder, newDirEntries(), 0
	case mimeSymlink:
		n.kind = KindSymlink
	default:
		n.mime = intern(r.f.mime)
	}
	n.content = v.store.newContent(r.ref(), r.place, r.n)
	v.rows.set(n)
	if r.place == placeFresh && !v.opt.ReadOnly {
		v.fresh.add(v, n.content, int(r.blobLen))
	}
	asset := l.asset(r.asset)
	if r.deleted != 0 {
		l.addDeleted(r, n, asset)
		return
	}
	if n.kind == KindFolder && l.adopt(asset, r, n) {
		return
	}
	l.placeLoaded(asset, r.f.name, r.f.shown, n)
	v.count(n, 1)
}

// asset gives the directory of an attachment; one whose row has not come, or
// is lost, is shown under its id, for as long as a live file is in it.
func (l *loader) asset(id seal.ID) *Node {
	if n := l.assets[id]; n != nil {
		return n
	}
	v := l.v
	n := &Node{kind: KindAsset, ino: inoOf(id), id: id, atype: TypeItem, dir: newDirEntries(), mode: 0o700}
	n.set(flagDamaged, true)
	l.assets[id], v.rows.assets[id] = n, n
	attach(v.root, freeName(v.root, history.RecoveredTitle(id), id), n) // those with a row come first
	v.count(n, 1)
	return n
}

func (l *loader) placeLoaded(asset *Node, name, shown string, n *Node) {
	v := l.v
	if asset.has(flagUnlinked) {
		l.unbury(asset)
	}
	parts, _ := splitStored(name, n.id)
	dir := asset
	whole := ""
	for _, part := range parts[:len(parts)-1] {
		if whole != "" {
			whole += "/"
		}
		whole += part
		dir = v.impliedFolder(asset, dir, part, whole)
	}
	last := parts[len(parts)-1]
	if shown == "" {
		shown = shownComponent(last)
	}
	l.give(dir, shown, n)
	v.setStored(n, last)
}

// unbury shows a deleted asset that holds a live file.
func (l *loader) unbury(asset *Node) {
	v := l.v
	delete(v.trash, asset.id)
	asset.set(flagUnlinked, false)
	title := asset.name
	l.give(v.root, shownTitle(title), asset)
	v.setStored(asset, title)
	v.count(asset, 1)
}

// adopt gives a folder that its children have implied already its row.
func (l *loader) adopt(asset *Node, r *attRow, row *Node) bool {
	v := l.v
	parts, ok := splitStored(r.f.name, r.id)
	if !ok {
		return false
	}
	dir := asset
	for _, part := range parts {
		f := dir.dir.lookup(shownComponent(part))
		if f == nil || f.kind != KindFolder || v.storedComponent(f) != part {
			return false
		}
		dir = f
	}
	if dir.n != 0 {
		return false
	}
	dir.ino, dir.id, dir.n, dir.dirty, dir.commitNo = row.ino, row.id, row.n, row.dirty, row.commitNo
	dir.mode, dir.mtime, dir.ctime, dir.btime = row.mode, row.mtime, row.ctime, row.btime
	dir.content, dir.sync, dir.xattrs = row.content, row.sync, row.xattrs
	v.rows.set(dir)
	return true
}

func (l *loader) addDeleted(r *attRow, n *Node, asset *Node) {
	parts, _ := splitStored(r.f.name, r.id)
	shown := asset.name
	for _, p := range parts {
		shown += "/" + shownComponent(p)
	}
	n.parent, n.name = asset, shownComponent(parts[len(parts)-1])
	n.set(flagUnlinked, true)
	l.v.bury(&trashItem{node: n, asset: r.asset, name: r.f.name, shown: shown, deleted: r.deleted, takenBack: r.f.takenBack})
}

// addDamaged shows a row that cannot be authenticated: its name is unknown
// and reading it fails, everything else goes on.
func (l *loader) addDamaged(r *attRow) {
	v := l.v
	l.damaged++
	n := &Node{kind: KindFile, ino: inoOf(r.id), id: r.id, n: r.n, size: r.size, mode: 0o400, commitNo: r.commitNo}
	n.set(flagDamaged, true)
	v.rows.set(n)
	asset := l.asset(r.asset)
	name := "unnamed-" + r.id.Hex()[:8]
	if r.deleted != 0 {
		r.f.name = name
		l.addDeleted(r, n, asset)
		return
	}
	if asset.has(flagUnlinked) {
		l.unbury(asset)
	}
	attach(asset, freeName(asset, name, r.id), n)
	v.count(n, 1)
}

// readRetired notes the blobs that only undo or doomed name.
func (l *loader) readRetired() error {
	for blob := range l.undo {
		l.v.retired.addBlob(blob, 0)
	}
	if err := l.readKept(); err != nil {
		return err
	}
	return l.v.reader.query("SELECT blob,commit_no FROM doomed", func(c []dbValue) error {
		s := rowScanner{c: c}
		blob, no := s.id(), uint64(s.num())
		l.v.retired.addBlob(blob, no)
		return nil
	})
}
