package vaultcore

import (
	"fmt"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// RenameFlags are those of renameat2.
type RenameFlags uint8

// Rename flags.
const (
	RenameNoReplace RenameFlags = 1
	RenameExchange  RenameFlags = 2
)

// Rename moves a name, within an asset or across assets, folders with all
// they hold, in one transaction. Over a file the target keeps its id and
// history and gets the moved content as one new revision: saving through a
// temporary file is an edit. Errors: ErrNotFound, ErrExist, ErrNotEmpty,
// ErrIsDir, ErrNotDir, ErrInvalid, ErrCrossAsset, ErrPermission,
// ErrNameTooLong, ErrReadOnly, ErrTimeout when what src was written over is
// elsewhere and does not come.
func (v *Vault) Rename(dir *Node, name string, newDir *Node, newName string, f RenameFlags) error {
	return v.RenameUntil(Caller{}, dir, name, newDir, newName, f)
}

// RenameUntil is Rename for a caller that may not wait to the end. Further
// error: ErrInterrupted; nothing has been renamed then.
func (v *Vault) RenameUntil(who Caller, dir *Node, name string, newDir *Node, newName string, f RenameFlags) error {
	if err := v.writable(); err != nil {
		return err
	}
	if !dir.isDir() || !newDir.isDir() {
		return ErrNotDir
	}
	if f == RenameNoReplace|RenameExchange || f > RenameExchange {
		return ErrInvalid
	}
	try := func() error {
		for {
			m := &rename{v: v, flags: f, dir: dir, name: name, newDir: newDir, newName: newName}
			if again, err := m.try(); !again {
				return err
			}
		}
	}
	// A draft that the target takes over may stand on what is elsewhere.
	return v.store.again(try(), who, try)
}

// rename is one rename under way.
type rename struct {
	v             *Vault
	flags         RenameFlags
	dir, newDir   *Node
	name, newName string

	src, dst *Node
	open     *openState     // of src, locked, when its draft has to be committed
	sealed   *sealedContent // of that draft, or of an empty new file
	over     bool           // dst keeps its row and gets src's content

	moves []*rowMove
	// What the transaction found, for the tree.
	no       uint64
	dstStays bool // the blob of dst is not doomed
	srcStays bool
	dstTrash bool
	deleted  int64
}

// rowMove is one row that gets another name or place.
type rowMove struct {
	n     *Node
	asset seal.ID
	name  string // stored
	top   bool
}

// try looks the names up, seals an open draft if the target takes it over,
// and does the rename under ns. again: the names moved under it.
func (m *rename) try() (again bool, err error) {
	if err := m.lookup(); err != nil || m.src == nil || m.src == m.dst {
		return false, err
	}
	if m.takesOver() {
		if o := m.src.open.Load(); o != nil {
			o.mu.Lock()
			defer o.mu.Unlock()
			m.open = o
		}
	}
	if m.open != nil && m.open.dirty() {
		if away := m.open.draft.missing(); away != nil {
			return false, away
		}
		mime := m.v.guessMIME(m.open)
		if m.sealed, err = m.open.draft.finish(); err != nil {
			return false, err
		}
		m.v.setMIME(m.src, mime)
		if m.sealed.fresh == nil {
			m.v.bar.note(pendingFile{name: binName(m.sealed.ref.blob)}, m.sealed.ref.sealedLen)
		}
	}
	again, err = m.locked()
	if again || err != nil {
		return again, err // what was sealed stays with the draft
	}
	if m.over && m.open != nil && m.open.draft != nil {
		m.v.endDraft(m.open, m.no)
	}
	if m.dst != nil && m.flags&RenameExchange == 0 {
		m.v.closeIdle(m.dst)
	}
	return false, m.v.strictBarrier()
}

// takesOver: src, a file, replaces a file that has a row.
func (m *rename) takesOver() bool {
	if m.dst == nil || m.flags&RenameExchange != 0 || m.src.kind != KindFile || m.dst.kind != KindFile {
		return false
	}
	m.v.tree.RLock()
	defer m.v.tree.RUnlock()
	return m.dst.n != 0
}

func (m *rename) lookup() error {
	m.v.tree.RLock()
	defer m.v.tree.RUnlock()
	m.src, m.dst = m.dir.dir.lookup(m.name), m.newDir.dir.lookup(m.newName)
	if m.src == nil {
		return m.dir.absent()
	}
	return nil
}

func (m *rename) locked() (again bool, err error) {
	v := m.v
	v.ns.Lock()
	defer v.ns.Unlock()
	src, dst := m.src, m.dst
	if err := m.lookup(); err != nil {
		return false, err
	}
	if src != m.src || dst != m.dst || (m.takesOver() && m.src.open.Load() != m.open) {
		m.src, m.dst = src, dst
		return true, nil
	}
	if err := m.check(); err != nil {
		return false, err
	}
	if m.dir != m.newDir {
		if err := v.keepParent(m.src); err != nil {
			return false, err
		}
	}
	if m.over = m.takesOver(); m.over {
		return false, m.replace()
	}
	return false, m.move()
}

// check holds the rename against POSIX and against the shape of the drive.
func (m *rename) check() error {
	v := m.v
	if err := m.checkKinds(); err != nil {
		return err
	}
	v.tree.RLock()
	defer v.tree.RUnlock()
	exchange := m.flags&RenameExchange != 0
	switch {
	case m.newDir.has(flagUnlinked):
		return ErrStale
	case exchange && m.dst == nil:
		return ErrNotFound
	case m.flags&RenameNoReplace != 0 && m.dst != nil:
		return ErrExist
	case within(m.newDir, m.src):
		return ErrInvalid
	case exchange && within(m.dir, m.dst):
		return ErrInvalid
	case exchange || m.dst == nil:
		return nil
	case m.src.isDir() && !m.dst.isDir():
		return ErrNotDir
	case !m.src.isDir() && m.dst.isDir():
		return ErrIsDir
	case m.dst.isDir() && m.dst.dir.len() > 0:
		return ErrNotEmpty
	}
	return nil
}

func (m *rename) checkKinds() error {
	toRoot, isAsset := m.newDir.kind == KindRoot, m.src.kind == KindAsset
	switch {
	case toRoot && !isAsset && m.src.kind != KindFolder:
		return fmt.Errorf("%w: the root of the drive holds assets only", ErrPermission)
	case toRoot != isAsset:
		return ErrCrossAsset
	case toRoot:
		return checkTitle(m.newName)
	}
	return checkComponent(m.newName)
}

// within says whether n lies in tree, or is it.
func within(n, tree *Node) bool {
	for ; n != nil && n.kind != KindRoot; n = n.parent {
		if n == tree {
			return true
		}
	}
	return false
}

// move gives src its new place; a target that is in the way goes.
func (m *rename) move() error {
	v := m.v
	exchange := m.flags&RenameExchange != 0
	if err := m.plan(exchange); err != nil {
		return err
	}
	m.deleted = v.nowNS()
	remove := m.dst != nil && !exchange
	if remove {
		v.tree.RLock()
		m.dstTrash = v.goesToTrash(m.dst)
		v.tree.RUnlock()
	}
	var no uint64
	if len(m.moves) > 0 || (remove && m.dst.n != 0) {
		var err error
		no, err = v.com.do(func(t *txn) error {
			for _, mv := range m.moves {
				if err := v.putMove(t, mv); err != nil {
					return err
				}
			}
			if remove && m.dst.n != 0 {
				stays, err := v.removeRow(t, m.dst, m.dstTrash, m.deleted)
				m.dstStays = stays
				return err
			}
			return nil
		})
		if err != nil {
			for _, mv := range m.moves {
				v.queueAttrs(mv.n) // those that were to go with the row
			}
			return err
		}
		v.bar.commit()
	}
	m.show(no, remove, exchange)
	return nil
}

// show puts the new names into the tree.
func (m *rename) show(no uint64, remove, exchange bool) {
	v := m.v
	v.tree.Lock()
	defer v.tree.Unlock()
	now := v.nowNS()
	if remove {
		v.removed(m.dst, m.dstTrash, m.deleted, no, m.dstStays)
	}
	detach(m.src)
	if exchange {
		detach(m.dst)
	}
	v.rename(m.newDir, m.newName, m.src, now)
	if exchange {
		v.rename(m.dir, m.name, m.dst, now)
	}
	touchDir(m.dir, now)
	if m.dir != m.newDir {
		touchDir(m.newDir, now)
	}
	for _, mv := range m.moves {
		mv.n.commitNo = max(mv.n.commitNo, no)
		if !mv.n.has(flagScratch) {
			mv.n.dirty |= dirtyAttr
		}
	}
}

// rename attaches a node under its new name, which is now its stored one;
// tree is held.
func (v *Vault) rename(dir *Node, name string, n *Node, now int64) {
	attach(dir, name, n)
	v.setStored(n, name)
	n.ctime = now
	if n.kind == KindFile || n.kind == KindSymlink {
		was := n.has(flagScratch)
		n.set(flagScratch, v.isScratch(name))
		switch {
		case was && !n.has(flagScratch):
			n.dirty = dirtyAttr | dirtyContent
		case !was && n.has(flagScratch) && n.rev() == 0:
			n.dirty = 0
		}
	}
}

// plan lists the rows that the rename changes and checks their new names.
func (m *rename) plan(exchange bool) error {
	v := m.v
	v.tree.RLock()
	defer v.tree.RUnlock()
	if err := m.planTree(m.src, m.newDir, m.newName); err != nil {
		return err
	}
	if !exchange {
		return nil
	}
	return m.planTree(m.dst, m.dir, m.name)
}

func (m *rename) planTree(n, dir *Node, name string) error {
	if n.kind == KindAsset {
		m.moves = append(m.moves, &rowMove{n: n, name: name, top: true})
		return nil
	}
	asset, prefix := m.v.dirPrefix(dir)
	return m.planNode(n, asset.id, prefix+name, true)
}

func (m *rename) planNode(n *Node, asset seal.ID, name string, top bool) error {
	if err := checkWhole(name); err != nil {
		return err
	}
	if n.n != 0 {
		m.moves = append(m.moves, &rowMove{n: n, asset: asset, name: name, top: top})
	}
	if n.dir == nil {
		return nil
	}
	for _, s := range n.dir.order {
		if s.node == nil {
			continue
		}
		if err := m.planNode(s.node, asset, name+"/"+m.v.storedComponent(s.node), false); err != nil {
			return err
		}
	}
	return nil
}

// putMove writes one moved row.
func (v *Vault) putMove(t *txn, mv *rowMove) error {
	if mv.n.kind == KindAsset {
		v.tree.RLock()
		r := v.assetRowOf(mv.n)
		v.tree.RUnlock()
		r.f.title, r.f.shown = mv.name, ""
		r.dirty |= dirtyAttr
		if err := v.sealTitle(r); err != nil {
			return err
		}
		return t.updateAsset(r)
	}
	r, err := t.attRow(mv.n.n)
	if err != nil {
		return err
	}
	if err := v.openAtt(r); err != nil {
		return err
	}
	r.asset, r.f.name = mv.asset, mv.name
	v.tree.Lock()
	v.moveFields(r, mv.n, baseName(mv.name), mv.top)
	v.tree.Unlock()
	key, err := v.fileKeyOf(r)
	if err != nil {
		return err
	}
	defer key.Wipe()
	if err := v.rewrapRow(r, &key); err != nil {
		return err
	}
	if err := v.sealWire(r, &key); err != nil {
		return err
	}
	v.sealAtt(r)
	return t.updateAtt(r)
}

// moveFields takes the attributes of the tree and what the new name decides;
// tree is held.
func (v *Vault) moveFields(r *attRow, n *Node, name string, top bool) {
	r.f.mode, r.f.mtime, r.f.ctime, r.f.xattrs = n.mode, n.mtime, n.ctime, n.xattrs
	n.set(flagAttrs, false)
	if top {
		r.f.ctime, r.f.shown = v.nowNS(), ""
	}
	if n.kind == KindFile {
		if t := typeByName(name); t != "" {
			r.f.mime = t
		}
	}
	was := r.f.scratch
	r.f.scratch = n.kind != KindFolder && v.isScratch(name)
	switch {
	case r.f.scratch && r.rev == 0:
		r.dirty = 0
	case was && !r.f.scratch:
		r.dirty |= dirtyAttr | dirtyContent
	default:
		r.dirty |= dirtyAttr
	}
}

func baseName(stored string) string {
	for i := len(stored) - 1; i >= 0; i-- {
		if stored[i] == '/' {
			return stored[i+1:]
		}
	}
	return stored
}
