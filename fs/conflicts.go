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

// conflictView shows what is in conflict as one flat directory of links to the
// files with a suffix, so that all of them are found in one place.
type conflictView struct {
	vault *vaultcore.Vault
	asset *vaultcore.Node // shown as the whole mount; nil: all are

	mu     sync.Mutex
	read   time.Time // when the list was read; zero for never
	list   []*conflictLink
	byNode map[uint64]*conflictLink // listed or known to the kernel
	next   uint64                   // next nodeid; cookies count beside it
}

type conflictLink struct {
	name    string
	target  string
	node    uint64
	changed int64
	lookups uint64
	listed  bool
}

func (l *conflictLink) cookie() uint64 { return l.node - hiddenConflictLinks + cookieParent + 1 }

func newConflictView(v *vaultcore.Vault, asset *vaultcore.Node) *conflictView {
	return &conflictView{vault: v, asset: asset, byNode: make(map[uint64]*conflictLink), next: hiddenConflictLinks}
}

// readLocked reads the conflicts from the vault. A link keeps its nodeid.
func (c *conflictView) readLocked() error {
	all, err := c.vault.Conflicts(context.Background())
	if err != nil {
		return err
	}
	old := c.list
	c.list = nil
	taken := make(map[string]bool)
	for i := range all {
		for j := range all[i].Versions {
			v := &all[i].Versions[j]
			if at, ok := c.inMount(v.Path); ok && v.Path != all[i].Path {
				c.addLocked(v, at, old, taken)
			}
		}
	}
	for _, l := range old {
		if !slices.Contains(c.list, l) {
			l.listed = false
			c.dropLocked(l)
		}
	}
	slices.SortFunc(c.list, func(a, b *conflictLink) int { return int(a.node) - int(b.node) })
	c.read = time.Now()
	return nil
}

// inMount gives a path of the vault as the mount has it.
func (c *conflictView) inMount(p string) (string, bool) {
	if c.asset == nil {
		return p, true
	}
	return strings.CutPrefix(p, c.vault.InfoOf(c.asset).Path+"/")
}

func (c *conflictView) addLocked(v *vaultcore.ConflictVersion, at string, old []*conflictLink, taken map[string]bool) {
	name := path.Base(at)
	if taken[name] {
		name = trashName(&vaultcore.TrashEntry{ID: v.ID, Path: at})
	}
	taken[name] = true
	target := "../../" + at
	i := slices.IndexFunc(old, func(l *conflictLink) bool { return l.name == name && l.target == target })
	if i < 0 {
		c.next++
		old, i = []*conflictLink{{name: name, target: target, node: c.next - 1}}, 0
		c.byNode[old[0].node] = old[0]
	}
	l := old[i]
	l.changed, l.listed = v.Changed.UnixNano(), true
	c.list = append(c.list, l)
}

// dropLocked lets go of a link that is neither listed nor known to the kernel.
func (c *conflictView) dropLocked(l *conflictLink) {
	if !l.listed && l.lookups == 0 {
		delete(c.byNode, l.node)
	}
}

// lookup gives the nodeid behind a name and counts a reference; 0 if there is
// no such name.
func (c *conflictView) lookup(name string) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	find := func() int { return slices.IndexFunc(c.list, func(l *conflictLink) bool { return l.name == name }) }
	i := find()
	if i < 0 || time.Since(c.read) > trashFresh {
		if err := c.readLocked(); err != nil {
			return 0, err
		}
		if i = find(); i < 0 {
			return 0, nil
		}
	}
	c.list[i].lookups++
	return c.list[i].node, nil
}

func (c *conflictView) forget(node, lookups uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.byNode[node]; l != nil {
		l.lookups -= min(lookups, l.lookups)
		c.dropLocked(l)
	}
}

func (c *conflictView) get(node uint64) (conflictLink, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.byNode[node]
	if l == nil {
		return conflictLink{}, false
	}
	return *l, true
}

// entries writes the listing after a cookie; from the beginning, it is read
// from the vault.
func (c *conflictView) entries(after uint64, add func(fuse.DirEntry) bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if after <= cookieParent {
		if err := c.readLocked(); err != nil {
			return err
		}
	}
	for _, l := range c.list {
		if l.cookie() > after && !add(fuse.DirEntry{Name: l.name, Ino: l.node, Off: l.cookie(), Mode: fuse.S_IFLNK}) {
			break
		}
	}
	return nil
}
