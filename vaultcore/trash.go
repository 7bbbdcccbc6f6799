package vaultcore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// trashItem is a deleted attachment, or a deleted asset that deleted
// attachments lie in. Its row stays, with the time of deletion.
type trashItem struct {
	node    *Node
	key     seal.ID // in Vault.trash
	asset   seal.ID // zero for an asset
	name    string  // stored name inside the asset
	shown   string  // path it had, as shown
	deleted int64
	// takenBack: a revocation took back what named it.
	takenBack bool
}

// bury enters an item into the trash. Deleted copies of one attachment have one
// id, so all but the first that was deleted go by their blob, at every start;
// tree is held.
func (v *Vault) bury(t *trashItem) {
	t.key = t.node.id
	old := v.trash[t.key]
	v.trash[t.key] = t
	if old == nil || old.node == t.node || t.node.content == nil || old.node.content == nil {
		return
	}
	if first := cmp.Or(cmp.Compare(old.deleted, t.deleted), cmp.Compare(old.node.n, t.node.n)); first < 0 {
		v.trash[old.key] = old
		old = t
	}
	old.key = old.node.content.ref.blob
	v.trash[old.key] = old
}

// buriedAs gives the entry of a node in the trash, nil if it has none; tree is held.
func (v *Vault) buriedAs(n *Node) *trashItem {
	if t := v.trash[n.id]; t != nil && t.node == n {
		return t
	}
	if n.content == nil {
		return nil
	}
	if t := v.trash[n.content.ref.blob]; t != nil && t.node == n {
		return t
	}
	return nil
}

// unbury takes a node out of the trash; tree is held.
func (v *Vault) unbury(n *Node) {
	if t := v.buriedAs(n); t != nil {
		delete(v.trash, t.key)
	}
}

// TrashEntry is a deleted file as commands show it.
type TrashEntry struct {
	ID      string    `json:"id"` // of the attachment; of the content where another deleted copy has that
	Path    string    `json:"path"`
	Asset   string    `json:"asset"`
	Kind    string    `json:"kind"`
	Size    int64     `json:"size"`
	Deleted time.Time `json:"deleted"`
	Expires time.Time `json:"expires"`
}

// Trash lists what can be restored, newest first.
func (v *Vault) Trash() ([]TrashEntry, error) {
	v.tree.RLock()
	defer v.tree.RUnlock()
	age := v.store.limits.TrashAge
	var out []TrashEntry
	for _, t := range v.trash {
		if t.node.isDir() {
			continue
		}
		asset, _, _ := strings.Cut(t.shown, "/")
		at := time.Unix(0, t.deleted)
		out = append(out, TrashEntry{
			ID: t.key.UUID(), Path: t.shown, Asset: asset, Kind: t.node.kind.String(),
			Size: t.node.size, Deleted: at, Expires: at.Add(age),
		})
	}
	slices.SortFunc(out, func(a, b TrashEntry) int {
		return cmp.Or(b.Deleted.Compare(a.Deleted), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

// trashed finds an item by its id in the list, by that of its attachment, or by
// the path it had (the newest).
func (v *Vault) trashed(ref string) (*trashItem, error) {
	v.tree.RLock()
	defer v.tree.RUnlock()
	var found *trashItem
	ref = strings.Trim(ref, "/")
	for _, t := range v.trash {
		if t.node.isDir() || (t.node.id.UUID() != ref && t.shown != ref && t.key.UUID() != ref) {
			continue
		}
		if t.key.UUID() == ref {
			return t, nil
		}
		if found == nil || t.deleted > found.deleted {
			found = t
		}
	}
	if found == nil {
		return nil, fmt.Errorf("%w in the trash: %s", ErrNotFound, ref)
	}
	return found, nil
}

// OpenTrash opens a deleted file for reading.
func (v *Vault) OpenTrash(ref string) (*Reading, error) {
	t, err := v.trashed(ref)
	if err != nil {
		return nil, err
	}
	return v.reading(t.node, t.shown)
}

// RestoreTrash brings a deleted file back to where it was, and its asset if
// that is gone too. A taken name gets the suffix of a duplicate.
func (v *Vault) RestoreTrash(ref string) (string, error) {
	if err := v.writable(); err != nil {
		return "", err
	}
	t, err := v.trashed(ref)
	if err != nil {
		return "", err
	}
	var changes []Change
	defer func() { v.changed(changes...) }()
	v.ns.Lock()
	defer v.ns.Unlock()
	if v.trash[t.key] != t {
		return "", fmt.Errorf("%w in the trash: %s", ErrNotFound, ref)
	}
	asset, c, err := v.reviveAsset(t.asset)
	if err != nil {
		return "", err
	}
	changes = append(changes, c...)
	// A deletion that is published ended the id; its content gets another.
	renew := t.node.rev() > 0 && v.published(t.node)
	fresh := seal.NewID()
	no, err := v.com.do(func(x *txn) error {
		r, err := x.attRow(t.node.n)
		if err != nil {
			return err
		}
		if err := v.openAtt(r); err != nil {
			return err
		}
		r.deleted, r.dirty, r.f.takenBack = 0, r.dirty|dirtyAttr, false
		if renew {
			return v.renewRow(x, r, fresh)
		}
		v.sealAtt(r)
		return x.updateAtt(r)
	})
	if err != nil {
		return "", err
	}
	v.bar.commit()
	v.tree.Lock()
	defer v.tree.Unlock()
	n := t.node
	delete(v.trash, t.key)
	n.set(flagUnlinked, false)
	n.commitNo, n.dirty = no, n.dirty|dirtyAttr
	if renew {
		n.id, n.sync, n.dirty = fresh, nil, dirtyAttr|dirtyContent
		v.rows.set(n)
	}
	dir := v.placeStored(asset, t.name, n)
	touchDir(dir, v.nowNS())
	v.count(n, 1)
	n.Ref.Store(0) // a new incarnation for the kernel
	changes = append(changes, v.entryChanges(n)...)
	return shownPath(n), nil
}

// renewRow gives the content of a deleted row a new id, so that no deletion that
// others have heard of speaks of it.
func (v *Vault) renewRow(x *txn, r *attRow, id seal.ID) error {
	key, err := v.fileKeyOf(r)
	if err != nil {
		return err
	}
	defer key.Wipe()
	r.id, r.rev, r.digest, r.base, r.dirty = id, 0, nil, nil, dirtyAttr|dirtyContent
	if err := v.sealWire(r, &key); err != nil {
		return err
	}
	v.sealAtt(r)
	if r.commitNo <= x.undoMark {
		if err := x.exec(sqlKeepUndo, r.n); err != nil {
			return err
		}
	}
	return x.exec(`UPDATE asset_attachments SET id=?2,file_name_encrypted=?3,content_type_encrypted=?4,rev=0,digest=NULL,base=NULL,
		dirty=?5,deleted=0,commit_no=?6,sealed=?7 WHERE n=?1`, r.n, r.id[:], r.name, r.mime, int64(r.dirty), int64(x.no), r.sealed)
}

// entryChanges tells the kernel of a name that came, and of the implied
// folders that may have come with it; tree is held.
func (v *Vault) entryChanges(n *Node) []Change {
	var out []Change
	for ; n.kind != KindRoot; n = n.parent {
		out = append(out, Change{Kind: ChangeEntry, Dir: n.parent, Name: n.name, Node: n})
	}
	return out
}

// reviveAsset gives the live asset of an id, back from the trash if it lies
// there; ns is held.
func (v *Vault) reviveAsset(id seal.ID) (*Node, []Change, error) {
	v.tree.RLock()
	for _, n := range v.root.dir.byName {
		if n.id == id {
			v.tree.RUnlock()
			return n, nil, nil
		}
	}
	t := v.trash[id]
	v.tree.RUnlock()
	if t == nil {
		return nil, nil, fmt.Errorf("%w: the asset it belongs to", ErrNotFound)
	}
	n := t.node
	stored := n.name
	v.tree.RLock()
	name := freeName(v.root, shownTitle(stored), n.id) // ns keeps it free
	v.tree.RUnlock()
	no, err := v.com.do(func(x *txn) error {
		r := v.assetRowOf(n)
		if r.dirty |= dirtyAttr; name != shownTitle(stored) {
			r.f.shown = name
		}
		if err := v.sealTitle(r); err != nil {
			return err
		}
		return x.updateAsset(r)
	})
	if err != nil {
		return nil, nil, err
	}
	v.tree.Lock()
	defer v.tree.Unlock()
	delete(v.trash, id)
	n.set(flagUnlinked, false)
	n.Ref.Store(0)
	n.commitNo, n.dirty = no, n.dirty|dirtyAttr
	v.place(v.root, name, n)
	v.setStored(n, stored)
	return n, []Change{{Kind: ChangeEntry, Dir: v.root, Name: n.name, Node: n}}, nil
}

// EmptyTrash deletes the given entries for good, all without any.
func (v *Vault) EmptyTrash(refs []string) (n int, bytes int64, err error) {
	if err := v.writable(); err != nil {
		return 0, 0, err
	}
	var items []*trashItem
	for _, ref := range refs {
		t, err := v.trashed(ref)
		if err != nil {
			return 0, 0, err
		}
		items = append(items, t)
	}
	if len(refs) == 0 {
		items = v.oldestTrash()
	}
	return v.purge(items)
}

// published says that the deletion of a node is in a batch, so that its row is
// needed no more: the ledger remembers deletions; tree is held.
func (v *Vault) published(n *Node) bool { return n.dirty == 0 && v.ledger.Load() != nil }

// oldestTrash lists everything deleted, oldest first, assets last. Left out
// is what cannot be authenticated: that it was deleted is the disk's word
// alone, and it goes only when the user names it.
func (v *Vault) oldestTrash() []*trashItem {
	v.tree.RLock()
	defer v.tree.RUnlock()
	items := make([]*trashItem, 0, len(v.trash))
	for _, t := range v.trash {
		if !t.node.has(flagDamaged) {
			items = append(items, t)
		}
	}
	slices.SortFunc(items, func(a, b *trashItem) int {
		if a.node.isDir() != b.node.isDir() {
			if a.node.isDir() {
				return 1
			}
			return -1
		}
		return cmp.Compare(a.deleted, b.deleted)
	})
	return items
}

const purgeBatch = 500

// purge deletes rows for good and dooms their blobs. An asset goes when
// nothing in the trash lies in it any more. What a remote has heard of keeps
// its row, since a deletion is remembered for ever.
func (v *Vault) purge(items []*trashItem) (n int, bytes int64, err error) {
	most := purgeBatch
	for len(items) > 0 {
		batch := items[:min(len(items), most)]
		k, b, err := v.purgeBatch(batch)
		n, bytes = n+k, bytes+b
		if errors.Is(err, ErrNoSpace) && len(batch) > 1 {
			v.barrierSoon() // unlinks what went so far
			most = (len(batch) + 7) / 8
			continue
		}
		if err != nil {
			return n, bytes, err
		}
		items = items[len(batch):]
	}
	return n, bytes, nil
}

func (v *Vault) purgeBatch(batch []*trashItem) (n int, bytes int64, err error) {
	v.ns.Lock()
	defer v.ns.Unlock()
	v.tree.RLock()
	var due []*trashItem
	left, needed := make(map[seal.ID]int), v.neededTrash()
	for _, t := range v.trash {
		left[t.asset]++
	}
	for _, t := range batch {
		if v.trash[t.key] != t || needed[t.node] || t.node.rev() > 0 && !v.published(t.node) {
			continue
		}
		if t.node.kind == KindAsset && left[t.node.id] > 0 {
			continue
		}
		left[t.asset]--
		due = append(due, t)
	}
	v.tree.RUnlock()
	if len(due) == 0 {
		return 0, 0, nil
	}
	stays := make([]bool, len(due))
	no, err := v.com.free(func(t *txn) (err error) {
		for i, it := range due {
			if stays[i], err = v.removeRow(t, it.node, false, 0); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, 0, err
	}
	v.bar.commit()
	v.tree.Lock()
	defer v.tree.Unlock()
	for i, it := range due {
		delete(v.trash, it.key)
		v.forgetRow(it.node)
		if it.node.isDir() {
			continue
		}
		n, bytes = n+1, bytes+it.node.size
		v.replaced(it.node.content, stays[i], no)
	}
	return n, bytes, nil
}

// trimTrash drops what is older than its time, or more than its share of the
// disk, oldest first.
func (v *Vault) trimTrash() {
	limits, room := v.store.limits, v.trashRoom()
	var bytes int64
	items := v.oldestTrash()
	held := v.held(items)
	for _, n := range held {
		bytes += n
	}
	oldest := v.nowNS() - int64(limits.TrashAge)
	var due []*trashItem
	for i, t := range items {
		if t.deleted > oldest && (bytes <= room || held[i] == 0) {
			continue
		}
		due = append(due, t)
		bytes -= held[i]
	}
	if _, _, err := v.purge(due); err != nil {
		v.log.Warn("trash not trimmed", "err", err)
	}
}

// held is what each entry takes of the disk, in bytes: nothing while its content is
// elsewhere. One may be open still, so that its last close changes it.
func (v *Vault) held(items []*trashItem) []int64 {
	v.tree.RLock()
	defer v.tree.RUnlock()
	out := make([]int64, len(items))
	for i, t := range items {
		if c := t.node.content; c != nil && c.place.Load() != placeElsewhere {
			out[i] = t.node.size
		}
	}
	return out
}

// trashRoom is the trash's share of the disk, in bytes; all of it where the disk
// does not say how large it is.
func (v *Vault) trashRoom() int64 {
	_, total, err := v.attachments.Free()
	if err != nil {
		return math.MaxInt64
	}
	return int64(total) / 100 * int64(v.store.limits.TrashShare)
}

// makeRoom frees space before a write fails for want of it: first what can be
// fetched again, then what was replaced or deleted and only waits for the
// barrier, then what was kept because it was not sent, then trash. It says whether anything came free.
func (v *Vault) makeRoom() bool {
	if v.dropSparseFiles() {
		return true
	}
	before := v.retired.unlinked()
	// What undo still names is doomed by one barrier and gone by the next.
	for range 2 {
		if v.retired.empty() {
			break
		}
		if !v.barrierSoon() {
			return false
		}
	}
	return v.retired.unlinked() > before || v.freeKept() || v.freeTrash()
}

func (v *Vault) barrierSoon() bool {
	ctx, cancel := context.WithTimeout(v.ctx, maxBarrierLag)
	defer cancel()
	if v.Barrier(ctx) != nil {
		return false
	}
	v.retired.wait()
	return true
}

// freeTrash gives up the oldest trash.
func (v *Vault) freeTrash() bool {
	items := v.oldestTrash()
	if len(items) == 0 {
		return false
	}
	// A quarter at a time, so that the newest deletions last longest.
	n, _, err := v.purge(items[:max(1, len(items)/4)])
	if err != nil || n == 0 {
		return false
	}
	return v.barrierSoon()
}

// placeStored puts a node under its stored name, making implied folders on
// the way, and gives its directory; tree is held.
func (v *Vault) placeStored(asset *Node, name string, n *Node) *Node {
	parts, _ := splitStored(name, n.id)
	dir := asset
	for i, part := range parts[:len(parts)-1] {
		dir = v.impliedFolder(asset, dir, part, strings.Join(parts[:i+1], "/"))
	}
	last := parts[len(parts)-1]
	attach(dir, freeName(dir, shownComponent(last), n.id), n)
	v.setStored(n, last)
	return dir
}

// impliedFolder finds or makes the folder of a stored component.
func (v *Vault) impliedFolder(asset, dir *Node, part, whole string) *Node {
	shown := shownComponent(part)
	if f := dir.dir.lookup(shown); f != nil && f.kind == KindFolder && v.storedComponent(f) == part {
		return f
	}
	if f := v.displacedFolder(dir, part); f != nil {
		return f
	}
	id := impliedID(asset.id, whole)
	f := &Node{kind: KindFolder, ino: inoOf(id), mode: 0o700, dir: newDirEntries(), mtime: asset.mtime, ctime: asset.ctime, btime: asset.btime}
	v.giveName(dir, shown, id, f)
	v.setStored(f, part)
	v.count(f, 1)
	return f
}

func isScratchFile(name string) bool { return path.Ext(name) == ".tmp" }
