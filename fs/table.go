package fs

import (
	"sync"
	"sync/atomic"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// nodeTable maps the kernel's nodeids to nodes and counts the references the
// kernel holds. Nodeids count up and are never used twice in a mount, so a
// late request can only meet the node it means or none.
//
// The id of a node stands in its Ref, which is set under the lock of the
// shard that the id belongs to.
type nodeTable struct {
	last   atomic.Uint64
	shards [nodeShards]nodeShard
}

const nodeShards = 64

type nodeShard struct {
	mu    sync.RWMutex
	nodes map[uint64]nodeRef
	_     [24]byte // one shard to a cache line
}

type nodeRef struct {
	node    *vaultcore.Node
	lookups uint64
}

// newNodeTable makes a table that knows the mount's root under the id the
// protocol gives it. The root is never forgotten.
func newNodeTable(root *vaultcore.Node) *nodeTable {
	t := &nodeTable{}
	for i := range t.shards {
		t.shards[i].nodes = make(map[uint64]nodeRef)
	}
	t.last.Store(fuse.FUSE_ROOT_ID)
	root.Ref.Store(fuse.FUSE_ROOT_ID)
	t.shard(fuse.FUSE_ROOT_ID).nodes[fuse.FUSE_ROOT_ID] = nodeRef{node: root, lookups: 1}
	return t
}

func (t *nodeTable) shard(id uint64) *nodeShard { return &t.shards[id%nodeShards] }

// get gives the node behind an id, nil if there is none.
func (t *nodeTable) get(id uint64) *vaultcore.Node {
	s := t.shard(id)
	s.mu.RLock()
	n := s.nodes[id].node
	s.mu.RUnlock()
	return n
}

// ref counts one more reference of the kernel and gives the node's id.
func (t *nodeTable) ref(n *vaultcore.Node) uint64 {
	for {
		id := n.Ref.Load()
		fresh := id == 0
		if fresh {
			id = t.last.Add(1)
		}
		s := t.shard(id)
		s.mu.Lock()
		r := s.nodes[id]
		if fresh && n.Ref.CompareAndSwap(0, id) {
			r.node = n
		}
		if r.node == n {
			r.lookups++
			s.nodes[id] = r
			s.mu.Unlock()
			return id
		}
		// The node was forgotten or found by another request meanwhile.
		s.mu.Unlock()
	}
}

// forget takes references away; without any the id is gone for good.
func (t *nodeTable) forget(id, lookups uint64) {
	if id == fuse.FUSE_ROOT_ID {
		return
	}
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.nodes[id]
	switch {
	case !ok:
	case r.lookups > lookups:
		r.lookups -= lookups
		s.nodes[id] = r
	default:
		delete(s.nodes, id)
		// The vault gives a node that comes back from the trash no id, so that
		// it gets another one while handles still hold this.
		if r.node.Ref.CompareAndSwap(id, 0) {
			r.node.Kept.Store(false)
		}
	}
}

// clear forgets everything: the kernel sends no FORGET when it unmounts.
func (t *nodeTable) clear() {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for _, r := range s.nodes {
			r.node.Ref.Store(0)
			r.node.Kept.Store(false)
		}
		clear(s.nodes)
		s.mu.Unlock()
	}
}

func (t *nodeTable) len() (n int) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.RLock()
		n += len(s.nodes)
		s.mu.RUnlock()
	}
	return n
}

// handleTable knows every open file. A handle is needed to tell a writer from
// a reader at RELEASE, and to release what the kernel no longer will: it
// drops the RELEASEs it has not sent yet when it unmounts or aborts.
type handleTable struct {
	mu   sync.Mutex
	last uint64
	open map[uint64]handle
}

type handle struct {
	node  *vaultcore.Node
	write bool
}

func newHandleTable() *handleTable {
	return &handleTable{open: make(map[uint64]handle)}
}

func (t *handleTable) add(n *vaultcore.Node, write bool) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last++
	t.open[t.last] = handle{n, write}
	return t.last
}

func (t *handleTable) remove(fh uint64) (handle, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h, ok := t.open[fh]
	delete(t.open, fh)
	return h, ok
}

// drain empties the table and gives what was open.
func (t *handleTable) drain() []handle {
	t.mu.Lock()
	defer t.mu.Unlock()
	left := make([]handle, 0, len(t.open))
	for _, h := range t.open {
		left = append(left, h)
	}
	clear(t.open)
	return left
}

func (t *handleTable) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.open)
}
