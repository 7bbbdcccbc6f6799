package fs

// viewNode is what every node of a view in the hidden tree has.
type viewNode struct {
	node    uint64
	lookups uint64 // references that the kernel holds
	listed  bool
}

func (n *viewNode) common() *viewNode { return n }

// nodeids gives nodeids to what a view shows, from a base on, and remembers what
// is listed or known to the kernel. Nodeids are not used again. The view locks it.
type nodeids[T interface{ common() *viewNode }] struct {
	base  uint64
	nodes map[uint64]T
	last  uint64
}

func newNodeids[T interface{ common() *viewNode }](base uint64) nodeids[T] {
	return nodeids[T]{base: base, nodes: make(map[uint64]T), last: base - 1}
}

// add gives a new node its nodeid.
func (r *nodeids[T]) add(x T) {
	r.last++
	x.common().node = r.last
	r.nodes[r.last] = x
}

// cookie is the offset of a node in a listing.
func (r *nodeids[T]) cookie(x T) uint64 { return x.common().node - r.base + cookieParent + 1 }

// unlist takes a node out of the listing.
func (r *nodeids[T]) unlist(x T) {
	x.common().listed = false
	r.drop(x)
}

func (r *nodeids[T]) forget(node, lookups uint64) {
	if x, ok := r.nodes[node]; ok {
		n := x.common()
		n.lookups -= min(lookups, n.lookups)
		r.drop(x)
	}
}

// drop lets go of a node that is neither listed nor known to the kernel.
func (r *nodeids[T]) drop(x T) {
	if n := x.common(); !n.listed && n.lookups == 0 {
		delete(r.nodes, n.node)
	}
}
