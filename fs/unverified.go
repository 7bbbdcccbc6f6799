package fs

import (
	"context"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// How long the list serves lookups of names that are not in it: a moment, or a
// multiple of what reading it takes.
const (
	missFresh = 100 * time.Millisecond
	missShare = 4
)

// unverifiedView shows what no device has signed as directories of assets, with
// files in them. A node keeps its nodeid as long as it is what it was: a row that
// has changed is another file, so that the kernel never mixes the two.
type unverifiedView struct {
	vault *vaultcore.Vault
	asset *vaultcore.Node // shown as the whole mount; nil: all are

	mu     sync.Mutex
	read   time.Time // when the list was read; zero for never
	took   time.Duration
	byPath map[string]*unverifiedNode
	ids    nodeids[*unverifiedNode]
}

type unverifiedNode struct {
	viewNode
	path     string // "" for the directory of all
	dir      bool
	id       string
	version  string // of a row
	size     int64
	added    int64
	children []*unverifiedNode // by nodeid
}

func (n *unverifiedNode) mode() uint32 {
	if n.dir {
		return fuse.S_IFDIR
	}
	return fuse.S_IFREG
}

func newUnverifiedView(v *vaultcore.Vault, asset *vaultcore.Node) *unverifiedView {
	return &unverifiedView{vault: v, asset: asset, ids: newNodeids[*unverifiedNode](hiddenUnverifiedNodes)}
}

// readLocked reads the list from the vault.
func (v *unverifiedView) readLocked() error {
	began := time.Now()
	list, err := v.vault.Unverified(context.Background())
	if err != nil {
		return err
	}
	only := ""
	if v.asset != nil {
		only = v.vault.InfoOf(v.asset).ID
	}
	old := v.byPath
	v.byPath = map[string]*unverifiedNode{"": {dir: true, viewNode: viewNode{node: hiddenUnverified}}}
	for i := range list {
		u := &list[i]
		if asset := u.Asset(); u.InDir() && (only == "" || asset.UUID() == only) {
			v.addLocked(u, old)
		}
	}
	for p, n := range old {
		if v.byPath[p] != n {
			v.ids.unlist(n)
		}
	}
	for _, n := range v.byPath {
		slices.SortFunc(n.children, func(a, b *unverifiedNode) int { return int(a.node) - int(b.node) })
	}
	v.read = time.Now()
	v.took = v.read.Sub(began)
	return nil
}

// staleLocked says whether a lookup reads the list again: one for a name that is
// not in it sooner, but never so often that a long list is read all the time.
func (v *unverifiedView) staleLocked(known bool) bool {
	age := time.Since(v.read)
	if known {
		return age > trashFresh
	}
	return age > min(max(missFresh, missShare*v.took), trashFresh)
}

// addLocked enters an entry, and the directories above it.
func (v *unverifiedView) addLocked(u *vaultcore.Unverified, old map[string]*unverifiedNode) {
	if u.Kind == vaultcore.KindAsset.String() || u.Kind == vaultcore.KindFolder.String() {
		v.dirLocked(u.Path, old)
		return
	}
	parent := v.dirLocked(path.Dir(u.Path), old)
	n := old[u.Path]
	if n == nil || n.dir || n.id != u.ID || n.version != u.Version() {
		n = v.newLocked(u.Path)
	}
	n.id, n.version, n.size, n.added, n.children = u.ID, u.Version(), u.Size, u.Added.UnixNano(), nil
	if u.Added.IsZero() {
		n.added = 0
	}
	v.enterLocked(parent, n)
}

// dirLocked gives a directory, made with those above it if need be.
func (v *unverifiedView) dirLocked(at string, old map[string]*unverifiedNode) *unverifiedNode {
	if at == "." {
		at = ""
	}
	if n := v.byPath[at]; n != nil {
		return n
	}
	parent := v.dirLocked(path.Dir(at), old)
	n := old[at]
	if n == nil || !n.dir {
		n = v.newLocked(at)
		n.dir = true
	}
	n.children = nil
	v.enterLocked(parent, n)
	return n
}

func (v *unverifiedView) newLocked(at string) *unverifiedNode {
	n := &unverifiedNode{path: at}
	v.ids.add(n)
	return n
}

func (v *unverifiedView) enterLocked(parent, n *unverifiedNode) {
	n.listed = true
	v.byPath[n.path] = n
	parent.children = append(parent.children, n)
}

// pathLocked gives the path of a directory; false for what is none.
func (v *unverifiedView) pathLocked(dir uint64) (string, bool) {
	if dir == hiddenUnverified {
		return "", true
	}
	n := v.ids.nodes[dir]
	if n == nil || !n.dir {
		return "", false
	}
	return n.path, true
}

func (v *unverifiedView) isDir(id uint64) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	_, ok := v.pathLocked(id)
	return ok
}

// lookup gives the nodeid behind a name and counts a reference; 0 if there is no
// such name.
func (v *unverifiedView) lookup(dir uint64, name string) (uint64, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	above, ok := v.pathLocked(dir)
	if !ok {
		return 0, nil
	}
	at := strings.TrimPrefix(above+"/"+name, "/")
	n := v.byPath[at]
	if v.staleLocked(n != nil) {
		if err := v.readLocked(); err != nil {
			return 0, err
		}
		n = v.byPath[at]
	}
	if n == nil {
		return 0, nil
	}
	n.lookups++
	return n.node, nil
}

func (v *unverifiedView) forget(node, lookups uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ids.forget(node, lookups)
}

func (v *unverifiedView) get(node uint64) (unverifiedNode, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := v.ids.nodes[node]
	if n == nil {
		return unverifiedNode{}, false
	}
	return *n, true
}

// outdated has the next lookup read the list.
func (v *unverifiedView) outdated() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.read = time.Time{}
}

// entries writes the listing of a directory after a cookie; from the beginning, it
// is read from the vault.
func (v *unverifiedView) entries(dir, after uint64, add func(fuse.DirEntry) bool) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if after <= cookieParent {
		if err := v.readLocked(); err != nil {
			return err
		}
	}
	at, _ := v.pathLocked(dir)
	d := v.byPath[at]
	if d == nil {
		return nil
	}
	for _, n := range d.children {
		if v.ids.cookie(n) > after && !add(fuse.DirEntry{Name: path.Base(n.path), Ino: n.node, Off: v.ids.cookie(n), Mode: n.mode()}) {
			break
		}
	}
	return nil
}
