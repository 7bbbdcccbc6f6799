package vaultcore

import (
	"fmt"
	"strings"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// youngFor: what is deleted younger than this leaves no trash; it was a
// program's temporary file.
const youngFor = int64(60e9)

// Lookup finds a name in a directory. Errors: ErrNotFound, ErrNotDir, ErrStale.
func (v *Vault) Lookup(dir *Node, name string) (*Node, Attr, error) {
	if !dir.isDir() {
		return nil, Attr{}, ErrNotDir
	}
	v.tree.RLock()
	defer v.tree.RUnlock()
	n := dir.dir.lookup(name)
	if n == nil {
		return nil, Attr{}, v.absent(dir, name)
	}
	return n, n.attr(), nil
}

// absent says why a directory has not what was looked for. In one that lost its
// name ErrStale is for what another has that took the name since: the kernel makes
// nothing new after such an answer, and looks again where it is told so then; tree
// is held.
func (v *Vault) absent(dir *Node, name string) error {
	if dir.has(flagUnlinked) {
		if now := v.nowAt(dir); now != nil && now.dir.lookup(name) != nil {
			return ErrStale
		}
	}
	return ErrNotFound
}

// nowAt gives the directory that has the path of one that may have lost it, nil if
// there is none; tree is held.
func (v *Vault) nowAt(dir *Node) *Node {
	if !dir.has(flagUnlinked) {
		return dir
	}
	if dir.parent == nil {
		return nil
	}
	above := v.nowAt(dir.parent)
	if above == nil {
		return nil
	}
	if now := above.dir.lookup(dir.name); now != nil && now.isDir() {
		return now
	}
	return nil
}

// AssetByTitle finds an asset by its shown title. Errors: ErrNotFound.
func (v *Vault) AssetByTitle(title string) (*Node, error) {
	n, _, err := v.Lookup(v.root, title)
	if err != nil {
		return nil, fmt.Errorf("asset: %w", err)
	}
	return n, nil
}

// ParentOf gives the directory a node lies in; the root lies in itself.
func (v *Vault) ParentOf(n *Node) *Node {
	v.tree.RLock()
	defer v.tree.RUnlock()
	if n.parent == nil {
		return v.root
	}
	return n.parent
}

// Attr gives what stat shows.
func (v *Vault) Attr(n *Node) Attr {
	v.tree.RLock()
	defer v.tree.RUnlock()
	return n.attr()
}

// newNode makes a node that has no place yet.
func (v *Vault) newNode(kind Kind, mode uint32) *Node {
	now := v.nowNS()
	n := &Node{kind: kind, mode: uint16(mode & 0o777), mtime: now, ctime: now, btime: now, id: seal.NewID()}
	n.ino = inoOf(n.id)
	if n.isDir() {
		n.dir = newDirEntries()
	}
	return n
}

// checkPlace says whether dir can get a child of this name; tree is held.
func (v *Vault) checkPlace(dir *Node, name string) error {
	if !dir.isDir() {
		return ErrNotDir
	}
	if dir.has(flagUnlinked) {
		return ErrStale
	}
	if dir.dir.lookup(name) != nil {
		return ErrExist
	}
	if dir.kind == KindRoot {
		return nil
	}
	_, prefix := v.dirPrefix(dir)
	return checkWhole(prefix + name)
}

// checkWhole refuses a whole name that the format does not take, or that other
// devices would not show as a path.
func checkWhole(name string) error {
	if len(name) > MaxName || strings.Count(name, "/") >= MaxDepth {
		return ErrNameTooLong
	}
	return nil
}

// dirPrefix gives the asset of a directory and what its children's stored
// names start with; tree is held.
func (v *Vault) dirPrefix(dir *Node) (asset *Node, prefix string) {
	if dir.kind != KindFolder {
		return dir, ""
	}
	asset, name := v.storedName(dir)
	return asset, name + "/"
}

// place gives a node its name and counts it; tree is held.
func (v *Vault) place(dir *Node, name string, n *Node) {
	attach(dir, name, n)
	touchDir(dir, v.nowNS())
	v.count(n, 1)
}

func (v *Vault) count(n *Node, by int) {
	switch n.kind {
	case KindAsset:
		v.counts.assets += by
	case KindFolder:
		v.counts.folders += by
	default:
		v.counts.files += by
		v.counts.bytes += int64(by) * n.size
	}
}

// unplace takes a node's name away for good; tree is held.
func (v *Vault) unplace(n *Node) {
	dir := n.parent
	detach(n)
	n.set(flagUnlinked, true)
	n.ctime = v.nowNS()
	touchDir(dir, n.ctime)
	v.count(n, -1)
	if n.has(flagStored) {
		n.set(flagStored, false)
		delete(v.stored, n)
	}
}

// Create makes a new file, opened for writing. It lies in memory only until
// the first commit or Flush. Errors: ErrExist, ErrPermission in the root,
// ErrName, ErrNameTooLong, ErrReadOnly.
func (v *Vault) Create(dir *Node, name string, mode uint32) (*Node, Attr, error) {
	if err := v.writable(); err != nil {
		return nil, Attr{}, err
	}
	if err := v.fileName(dir, name); err != nil {
		return nil, Attr{}, err
	}
	n := v.newNode(KindFile, mode)
	v.openNode(n, true)
	// Shared: a rename under way has settled which names are free.
	v.ns.RLock()
	defer v.ns.RUnlock()
	v.tree.Lock()
	defer v.tree.Unlock()
	if err := v.checkPlace(dir, name); err != nil {
		delete(v.opens, n.open.Load())
		return nil, Attr{}, err
	}
	n.set(flagScratch, v.isScratch(name))
	v.place(dir, name, n)
	return n, n.attr(), nil
}

// fileName checks the name of a file, folder or link inside an asset.
func (v *Vault) fileName(dir *Node, name string) error {
	if err := checkComponent(name); err != nil {
		return err
	}
	if dir.kind == KindRoot {
		return fmt.Errorf("%w: the root of the drive holds assets only", ErrPermission)
	}
	return nil
}

// Tmpfile makes a file without a name, opened for writing; Link names it.
func (v *Vault) Tmpfile(dir *Node, mode uint32) (*Node, Attr, error) {
	if err := v.writable(); err != nil {
		return nil, Attr{}, err
	}
	if dir.kind == KindRoot {
		return nil, Attr{}, fmt.Errorf("%w: the root of the drive holds assets only", ErrPermission)
	}
	n := v.newNode(KindFile, mode)
	n.parent = dir
	n.set(flagTmp, true)
	v.openNode(n, true)
	return n, v.Attr(n), nil
}

// Link gives a Tmpfile its name. Errors: ErrPermission for anything that has
// a name already, because an attachment has one.
func (v *Vault) Link(n *Node, dir *Node, name string) (Attr, error) {
	if err := v.writable(); err != nil {
		return Attr{}, err
	}
	if err := v.fileName(dir, name); err != nil {
		return Attr{}, err
	}
	if err := v.nameTmpfile(n, dir, name); err != nil {
		return Attr{}, err
	}
	// A linked file is closed already from its program's point of view.
	o := v.openNode(n, true)
	o.mu.Lock()
	err := v.commitOpen(o, true)
	o.mu.Unlock()
	v.Release(n, true)
	return v.Attr(n), err
}

func (v *Vault) nameTmpfile(n, dir *Node, name string) error {
	v.ns.RLock()
	defer v.ns.RUnlock()
	v.tree.Lock()
	defer v.tree.Unlock()
	if !n.has(flagTmp) {
		return fmt.Errorf("%w: hard links are not supported", ErrPermission)
	}
	if err := v.checkPlace(dir, name); err != nil {
		return err
	}
	n.set(flagTmp, false)
	n.set(flagScratch, v.isScratch(name))
	n.ctime = v.nowNS()
	v.place(dir, name, n)
	return nil
}

// Mkdir makes an asset of type item in the root, else a folder. Errors:
// ErrExist, ErrPermission for reserved names, ErrName, ErrNameTooLong.
func (v *Vault) Mkdir(dir *Node, name string, mode uint32) (*Node, Attr, error) {
	if dir.kind == KindRoot {
		n, err := v.makeAsset(name, TypeItem, mode)
		if err != nil {
			return nil, Attr{}, err
		}
		return n, v.Attr(n), nil
	}
	return v.makeSpecial(dir, name, v.newNode(KindFolder, mode), nil)
}

// Symlink makes a symbolic link whose content is its target.
func (v *Vault) Symlink(dir *Node, name, target string) (*Node, Attr, error) {
	if target == "" || len(target) >= MaxName {
		return nil, Attr{}, ErrNameTooLong
	}
	n := v.newNode(KindSymlink, 0o777)
	n.size = int64(len(target))
	return v.makeSpecial(dir, name, n, []byte(target))
}

// makeSpecial makes a folder or symlink: its row first, then its place.
func (v *Vault) makeSpecial(dir *Node, name string, n *Node, content []byte) (*Node, Attr, error) {
	if err := v.writable(); err != nil {
		return nil, Attr{}, err
	}
	if err := v.fileName(dir, name); err != nil {
		return nil, Attr{}, err
	}
	sc, err := v.sealInline(content)
	if err != nil {
		return nil, Attr{}, err
	}
	defer sc.key.Wipe()
	v.ns.Lock()
	defer v.ns.Unlock()
	v.tree.RLock()
	err = v.checkPlace(dir, name)
	n.parent, n.name = dir, name
	n.set(flagScratch, n.kind == KindSymlink && v.isScratch(name))
	var r *attRow
	if err == nil {
		r = v.rowOf(n)
	}
	v.tree.RUnlock()
	if err != nil {
		return nil, Attr{}, err
	}
	if !r.f.scratch {
		r.dirty = dirtyAttr | dirtyContent
	}
	if err := v.insertRow(n, r, sc, v.com.do); err != nil {
		return nil, Attr{}, err
	}
	v.tree.Lock()
	v.place(dir, name, n)
	a := n.attr()
	v.tree.Unlock()
	return n, a, nil
}

// insertRow writes a node's first row, its content within; ns is held.
func (v *Vault) insertRow(n *Node, r *attRow, sc *sealedContent, commit commitFunc) error {
	if err := v.fillRow(r, sc); err != nil {
		return err
	}
	no, err := commit(func(t *txn) error { return t.exec(sqlInsertAtt, r.values(t.no)...) })
	if err != nil {
		return err
	}
	c := v.store.newContent(sc.ref, r.place, r.n)
	v.tree.Lock()
	n.n, n.commitNo, n.dirty, n.content = r.n, no, r.dirty, c
	v.rows.set(n)
	v.tree.Unlock()
	v.fresh.add(v, c, len(sc.fresh))
	v.bar.commit()
	return nil
}

// makeAsset makes an asset: its row, then its directory.
func (v *Vault) makeAsset(title string, typ AssetType, mode uint32) (*Node, error) {
	if err := v.writable(); err != nil {
		return nil, err
	}
	if err := checkTitle(title); err != nil {
		return nil, err
	}
	n := v.newNode(KindAsset, mode)
	n.atype = typ
	v.ns.Lock()
	defer v.ns.Unlock()
	v.tree.RLock()
	err := v.checkPlace(v.root, title)
	v.tree.RUnlock()
	if err != nil {
		return nil, err
	}
	r := &assetRow{n: v.nextRow.Add(1), id: n.id, typ: typ, dirty: dirtyAttr}
	r.f = assetFields{ctime: n.btime, mtime: n.mtime, mode: n.mode, title: title}
	if err := v.sealTitle(r); err != nil {
		return nil, err
	}
	no, err := v.com.do(func(t *txn) error { return t.insertAsset(r) })
	if err != nil {
		return nil, err
	}
	v.tree.Lock()
	n.n, n.commitNo, n.dirty = r.n, no, r.dirty
	v.rows.set(n)
	v.place(v.root, title, n)
	v.tree.Unlock()
	v.bar.commit()
	return n, nil
}

func (t *txn) insertAsset(r *assetRow) error {
	return t.exec(sqlInsertAsset, r.n, r.id[:], int64(r.typ), int64(r.epoch), int64(r.rev), nilBytes(r.digest),
		int64(r.dirty), r.deleted, int64(t.no), r.title, r.sealed)
}

func (t *txn) updateAsset(r *assetRow) error {
	return t.exec(sqlUpdateAsset, r.n, int64(r.epoch), int64(r.rev), nilBytes(r.digest), int64(r.dirty), r.deleted,
		int64(t.no), r.title, r.sealed)
}

// sealTitle makes the wire title and the sealed column of an asset's row.
func (v *Vault) sealTitle(r *assetRow) (err error) {
	if r.title, r.epoch, err = v.keys.sealTitle(r.id, r.f.title); err != nil {
		return err
	}
	v.sealAsset(r)
	return nil
}

// assetRowOf makes an asset's row anew from the tree; tree is held.
func (v *Vault) assetRowOf(n *Node) *assetRow {
	r := &assetRow{n: n.n, id: n.id, typ: n.atype, dirty: n.dirty}
	if n.sync != nil {
		r.rev, r.digest = n.sync.rev, n.sync.digest
	}
	r.f = assetFields{ctime: n.btime, mtime: n.mtime, mode: n.mode, title: v.storedComponent(n)}
	if !n.has(flagUnlinked) && v.ledger.Load() != nil && n.name != shownTitle(r.f.title) {
		r.f.shown = n.name
	}
	return r
}

// Readlink gives a symlink's target. Errors: ErrInvalid, ErrDamaged.
func (v *Vault) Readlink(n *Node) (string, error) {
	if n.kind != KindSymlink {
		return "", ErrInvalid
	}
	if err := v.Open(n, false, false); err != nil {
		return "", err
	}
	defer v.Release(n, false)
	buf := make([]byte, v.Attr(n).Size)
	m, err := v.ReadAt(n, buf, 0)
	if err != nil {
		return "", err
	}
	return string(buf[:m]), nil
}

// FSStat is what statfs shows.
type FSStat struct {
	BlockSize           uint32
	Blocks, Free, Avail uint64
	Files               uint64
}

// StatFS gives the space of the disk under the vault.
func (v *Vault) StatFS() (FSStat, error) {
	avail, total, err := v.attachments.Free()
	if err != nil {
		return FSStat{}, err
	}
	v.tree.RLock()
	files := v.counts.files + v.counts.folders + v.counts.assets
	v.tree.RUnlock()
	const bs = 4096
	return FSStat{BlockSize: bs, Blocks: total / bs, Free: avail / bs, Avail: avail / bs, Files: uint64(files)}, nil
}
