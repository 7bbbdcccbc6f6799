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

	mu   sync.Mutex
	read time.Time // when the list was read; zero for never
	list []*conflictLink
	ids  nodeids[*conflictLink]
}

type conflictLink struct {
	viewNode
	name    string
	target  string
	changed int64
}

func newConflictView(v *vaultcore.Vault, asset *vaultcore.Node) *conflictView {
	return &conflictView{vault: v, asset: asset, ids: newNodeids[*conflictLink](hiddenConflictLinks)}
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
			c.ids.unlist(l)
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
	var l *conflictLink
	if i >= 0 {
		l = old[i]
	} else {
		l = &conflictLink{name: name, target: target}
		c.ids.add(l)
	}
	l.changed, l.listed = v.Changed.UnixNano(), true
	c.list = append(c.list, l)
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
	c.ids.forget(node, lookups)
}

func (c *conflictView) get(node uint64) (conflictLink, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.ids.nodes[node]
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
		if c.ids.cookie(l) > after && !add(fuse.DirEntry{Name: l.name, Ino: l.node, Off: c.ids.cookie(l), Mode: fuse.S_IFLNK}) {
			break
		}
	}
	return nil
}
