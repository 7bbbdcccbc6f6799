package fs

import (
	"sync"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

func TestNodeTable(t *testing.T) {
	root, n := &vaultcore.Node{}, &vaultcore.Node{}
	table := newNodeTable(root)
	if table.get(fuse.FUSE_ROOT_ID) != root {
		t.Fatal("root is not 1")
	}
	id := table.ref(n)
	if again := table.ref(n); again != id || id == fuse.FUSE_ROOT_ID || id == 0 {
		t.Fatalf("ids %d and %d", id, again)
	}
	table.forget(id, 1)
	if table.get(id) != n {
		t.Error("forgotten with a reference left")
	}
	table.forget(id, 1)
	if table.get(id) != nil || n.Ref.Load() != 0 {
		t.Error("not forgotten")
	}
	if fresh := table.ref(n); fresh == id {
		t.Error("an id came back")
	}
	table.forget(fuse.FUSE_ROOT_ID, 1<<40)
	if table.get(fuse.FUSE_ROOT_ID) != root {
		t.Error("the root was forgotten")
	}
	table.clear()
	if n.Ref.Load() != 0 || root.Ref.Load() != 0 || table.len() != 0 {
		t.Error("clear left something")
	}
}

// TestNodeTableRaces lets references come and go at once: the count must
// come out right, and an id must never stand for two nodes.
func TestNodeTableRaces(t *testing.T) {
	table := newNodeTable(&vaultcore.Node{})
	nodes := make([]vaultcore.Node, 8)
	var owners sync.Map
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 20_000 {
				n := &nodes[i%len(nodes)]
				id := table.ref(n)
				if owner, _ := owners.LoadOrStore(id, n); owner != n {
					t.Errorf("id %d stands for two nodes", id)
				}
				if table.get(id) != n {
					t.Errorf("id %d is gone with a reference held", id)
				}
				table.forget(id, 1)
			}
		})
	}
	wg.Wait()
	if n := table.len(); n != 1 {
		t.Errorf("%d nodes left, want the root", n)
	}
	for i := range nodes {
		if nodes[i].Ref.Load() != 0 {
			t.Errorf("node %d keeps an id", i)
		}
	}
}

func TestHandleTable(t *testing.T) {
	table, n := newHandleTable(), &vaultcore.Node{}
	a, b := table.add(n, false), table.add(n, true)
	if h, ok := table.remove(a); !ok || h.write {
		t.Errorf("removed %+v, %v", h, ok)
	}
	if _, ok := table.remove(a); ok {
		t.Error("removed twice")
	}
	left := table.drain()
	if len(left) != 1 || !left[0].write || table.len() != 0 {
		t.Errorf("drained %+v", left)
	}
	if c := table.add(n, true); c <= b {
		t.Errorf("handle %d came after %d", c, b)
	}
}
