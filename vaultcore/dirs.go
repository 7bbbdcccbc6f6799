package vaultcore

import "sort"

// firstCookie leaves room for "." and ".." in the kernel's listing.
const firstCookie = 16

// dirEntries are the children of a directory: by name for lookups, and in
// the order of their cookies for listings. A cookie never moves while its
// entry lives, so a listing can be continued after deletions without a
// handle. Guarded by Vault.tree.
type dirEntries struct {
	byName  map[string]*Node
	order   []dirSlot
	next    uint64
	dead    int
	subdirs uint32
}

type dirSlot struct {
	cookie uint64
	node   *Node // nil once removed
}

func newDirEntries() *dirEntries {
	return &dirEntries{next: firstCookie}
}

func (d *dirEntries) lookup(name string) *Node { return d.byName[name] }

func (d *dirEntries) len() int { return len(d.byName) }

func (d *dirEntries) insert(name string, n *Node) {
	if d.byName == nil {
		d.byName = make(map[string]*Node)
	}
	d.byName[name] = n
	n.cookie = d.next
	d.next++
	d.order = append(d.order, dirSlot{n.cookie, n})
	if n.isDir() {
		d.subdirs++
	}
}

func (d *dirEntries) remove(name string) {
	n := d.byName[name]
	if n == nil {
		return
	}
	delete(d.byName, name)
	if i := d.find(n.cookie); i < len(d.order) && d.order[i].cookie == n.cookie {
		d.order[i].node = nil
		d.dead++
	}
	if n.isDir() {
		d.subdirs--
	}
	if d.dead > 32 && d.dead > len(d.order)/2 {
		d.compact()
	}
}

// find gives the index of the first slot whose cookie is at least c.
func (d *dirEntries) find(c uint64) int {
	return sort.Search(len(d.order), func(i int) bool { return d.order[i].cookie >= c })
}

func (d *dirEntries) compact() {
	live := d.order[:0]
	for _, s := range d.order {
		if s.node != nil {
			live = append(live, s)
		}
	}
	clear(d.order[len(live):])
	d.order, d.dead = live, 0
	if len(live) == 0 {
		d.order, d.byName = nil, nil
	}
}

// attach puts n under dir by name; tree is held.
func attach(dir *Node, name string, n *Node) {
	n.parent, n.name = dir, name
	dir.dir.insert(name, n)
}

// detach takes n's name away; the node keeps its parent for "..".
func detach(n *Node) {
	if n.parent != nil && n.parent.dir.lookup(n.name) == n {
		n.parent.dir.remove(n.name)
	}
}

// touchDir moves a directory's times forward, strictly, because the kernel's
// listing cache compares the modification time by equality.
func touchDir(dir *Node, now int64) {
	if now <= dir.mtime {
		now = dir.mtime + 1
	}
	dir.mtime, dir.ctime = now, now
}

// FilesAfter appends to dst, as far as it has room, the files that follow n in
// the listing of its directory. It does not look far past what are no files.
func (v *Vault) FilesAfter(n *Node, dst []*Node) []*Node {
	v.tree.RLock()
	defer v.tree.RUnlock()
	if n.parent == nil || n.has(flagUnlinked) || n.has(flagTmp) {
		return dst
	}
	d := n.parent.dir
	first := d.find(n.cookie + 1)
	last := min(len(d.order), first+4*cap(dst))
	for i := first; i < last && len(dst) < cap(dst); i++ {
		if next := d.order[i].node; next != nil && next.kind == KindFile {
			dst = append(dst, next)
		}
	}
	return dst
}

// DirEntry is one entry of a listing. Cookie is what continues after it.
type DirEntry struct {
	Name   string
	Cookie uint64
	Node   *Node
	Attr   Attr
}

const readDirBatch = 64

// ReadDir calls fn with the entries whose cookie is greater than after, in
// cookie order, until fn returns false. No lock is held while fn runs; the
// entry is valid during the call only. Errors: ErrNotDir.
func (v *Vault) ReadDir(dir *Node, after uint64, fn func(*DirEntry) bool) error {
	if !dir.isDir() {
		return ErrNotDir
	}
	var batch [readDirBatch]DirEntry
	for {
		v.tree.RLock()
		count := 0
		d := dir.dir
		for i := d.find(after + 1); i < len(d.order) && count < len(batch); i++ {
			n := d.order[i].node
			if n == nil {
				continue
			}
			batch[count] = DirEntry{Name: n.name, Cookie: n.cookie, Node: n, Attr: n.attr()}
			count++
		}
		v.tree.RUnlock()
		for i := range batch[:count] {
			if !fn(&batch[i]) {
				return nil
			}
			after = batch[i].Cookie
		}
		if count < len(batch) {
			return nil
		}
	}
}
