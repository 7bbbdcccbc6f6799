package vaultcore

import (
	"slices"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// rowIndex finds the node of a row, and with the ledger on the rows of an
// attachment or a content. Rows are numbered upward, so it is pages: 8 bytes a row,
// and as much for each row that is gone from a page that still has others; with
// the ledger on some 110 bytes more. Guarded by Vault.tree; assets and attachments
// share numbers.
type rowIndex struct {
	pages map[int64]*rowPage
	// assets finds the directory of an asset, in the trash too, and one whose
	// row has not come.
	assets map[seal.ID]*Node
	// byID and byBlob are of attachments only.
	mapped       bool
	byID, byBlob rowsByKey
}

const rowPageSize = 512

type rowPage struct {
	nodes [rowPageSize]*Node
	keys  *[rowPageSize]rowKeys // nil while nothing is mapped
	used  int
}

// rowKeys is what a row is mapped by; zero for nothing.
type rowKeys struct{ id, blob seal.ID }

// rowsByKey maps a key to its rows, which is almost always one.
type rowsByKey struct {
	one  map[seal.ID]int64
	more map[seal.ID][]int64
}

func (m *rowsByKey) add(key seal.ID, row int64) {
	if _, taken := m.one[key]; taken {
		m.more[key] = append(m.more[key], row)
		return
	}
	m.one[key] = row
}

func (m *rowsByKey) remove(key seal.ID, row int64) {
	more := m.more[key]
	if m.one[key] == row {
		if len(more) == 0 {
			delete(m.one, key)
			return
		}
		m.one[key] = more[0]
		row = more[0]
	}
	if more = slices.DeleteFunc(more, func(r int64) bool { return r == row }); len(more) == 0 {
		delete(m.more, key)
	} else {
		m.more[key] = more
	}
}

func newRowIndex() rowIndex {
	return rowIndex{pages: make(map[int64]*rowPage), assets: make(map[seal.ID]*Node)}
}

func (x *rowIndex) get(row int64) *Node {
	if p := x.pages[row/rowPageSize]; p != nil {
		return p.nodes[row%rowPageSize]
	}
	return nil
}

// set says whose row a number is; again whenever the id or the content of that
// node changes.
func (x *rowIndex) set(n *Node) {
	if n.n == 0 {
		return
	}
	p := x.pages[n.n/rowPageSize]
	if p == nil {
		p = &rowPage{}
		x.pages[n.n/rowPageSize] = p
	}
	at := &p.nodes[n.n%rowPageSize]
	if *at == nil {
		p.used++
	}
	if *at = n; n.kind == KindAsset {
		x.assets[n.id] = n
	} else if x.mapped {
		x.enter(p, n)
	}
}

// enter maps a row by what it is called now.
func (x *rowIndex) enter(p *rowPage, n *Node) {
	if p.keys == nil {
		p.keys = new([rowPageSize]rowKeys)
	}
	x.leave(p, n.n)
	k := &p.keys[n.n%rowPageSize]
	if k.id = n.id; n.content != nil {
		k.blob = n.content.ref.blob
		x.byBlob.add(k.blob, n.n)
	}
	x.byID.add(k.id, n.n)
}

func (x *rowIndex) leave(p *rowPage, row int64) {
	if p.keys == nil {
		return
	}
	k := &p.keys[row%rowPageSize]
	if !k.id.IsZero() {
		x.byID.remove(k.id, row)
	}
	if !k.blob.IsZero() {
		x.byBlob.remove(k.blob, row)
	}
	*k = rowKeys{}
}

// drop forgets a row that is gone.
func (x *rowIndex) drop(row int64) {
	n := x.get(row)
	if n == nil {
		return
	}
	if n.kind == KindAsset && x.assets[n.id] == n {
		delete(x.assets, n.id)
	}
	p := x.pages[row/rowPageSize]
	x.leave(p, row)
	p.nodes[row%rowPageSize] = nil
	if p.used--; p.used == 0 {
		delete(x.pages, row/rowPageSize)
	}
}

// mapAll turns the maps of the ledger on.
func (x *rowIndex) mapAll() {
	if x.mapped {
		return
	}
	x.mapped = true
	x.byID = rowsByKey{make(map[seal.ID]int64), make(map[seal.ID][]int64)}
	x.byBlob = rowsByKey{make(map[seal.ID]int64), make(map[seal.ID][]int64)}
	for _, p := range x.pages {
		for _, n := range p.nodes {
			if n != nil && n.kind != KindAsset {
				x.enter(p, n)
			}
		}
	}
}

// nodeIndex finds some nodes by what rows and ops call them.
type nodeIndex struct {
	byRow  map[int64]*Node
	byID   map[seal.ID][]*Node
	byBlob map[seal.ID][]*Node // more than one where a content was moved and its old file lives on
	assets map[seal.ID]*Node   // all
}

// indexRows indexes the rows of some ids and of some contents. ns is held, or
// what is found may be outdated.
func (v *Vault) indexRows(ids []seal.ID, blobs map[seal.ID]bool) *nodeIndex {
	x := &nodeIndex{
		byRow: make(map[int64]*Node, len(ids)), byID: make(map[seal.ID][]*Node, len(ids)),
		byBlob: make(map[seal.ID][]*Node, len(ids)), assets: v.rows.assets,
	}
	v.indexMore(x, ids, blobs)
	return x
}

func (v *Vault) indexMore(x *nodeIndex, ids []seal.ID, blobs map[seal.ID]bool) {
	v.tree.RLock()
	defer v.tree.RUnlock()
	add := func(m *rowsByKey, key seal.ID) {
		row, ok := m.one[key]
		if !ok {
			return
		}
		x.addOnce(v.rows.get(row))
		for _, row := range m.more[key] {
			x.addOnce(v.rows.get(row))
		}
	}
	for _, id := range ids {
		add(&v.rows.byID, id)
	}
	for blob := range blobs {
		add(&v.rows.byBlob, blob)
	}
}

func (x *nodeIndex) addOnce(n *Node) {
	if x.byRow[n.n] == nil {
		x.add(n)
	}
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

func (x *nodeIndex) has(blob seal.ID) bool { return x.here(blob) != placeElsewhere }

// blobsHere says which contents rows of the tree and of the trash have here at
// this moment: for who does not keep the tree from changing.
func (v *Vault) blobsHere() func(seal.ID) bool {
	here := make(map[seal.ID]bool)
	add := func(n *Node) {
		if n.content != nil && n.content.place.Load() != placeElsewhere {
			here[n.content.ref.blob] = true
		}
	}
	v.tree.RLock()
	defer v.tree.RUnlock()
	v.walk(v.root, add)
	for _, t := range v.trash {
		add(t.node)
	}
	return func(blob seal.ID) bool { return here[blob] }
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

// indexNodes indexes what a walk over the whole tree finds; for what is rare.
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
