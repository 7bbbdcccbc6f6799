package vaultcore

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Conflict is a name that more than one thing wants: one has it, the others are
// shown with a suffix beside it.
type Conflict struct {
	Path string `json:"path"` // the name without a suffix
	// Kind is edit: one file was changed on several devices at a time; name:
	// several files were made under one name; asset: several assets were.
	Kind     string            `json:"kind"`
	Versions []ConflictVersion `json:"versions"` // that with the plain name first
}

// Kinds of conflict.
const (
	ConflictEdit  = "edit"
	ConflictName  = "name"
	ConflictAsset = "asset"
)

// ConflictVersion is one of the things that want a name.
type ConflictVersion struct {
	Path    string    `json:"path"` // as shown
	ID      string    `json:"id"`
	Device  string    `json:"device"` // who wrote it: its name, or its id if it has none
	This    bool      `json:"this"`   // it was this device
	Changed time.Time `json:"changed"`
	Size    int64     `json:"size"`

	node *Node
}

// Conflicts lists what could not be settled without a person, by path. Without
// synchronisation there is nothing. Errors: ErrClosed, those of the database.
func (v *Vault) Conflicts(ctx context.Context) ([]Conflict, error) {
	if !v.LedgerOn() {
		return nil, nil
	}
	l, err := v.lockLedger(ctx)
	if err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	own, err := v.ownName()
	if err != nil {
		return nil, err
	}
	v.tree.RLock()
	defer v.tree.RUnlock()
	var out []Conflict
	for at, nodes := range v.clashes() {
		if len(nodes) < 2 {
			continue // who had the plain name has just gone
		}
		c := Conflict{Path: path.Join(shownPath(at.dir), at.name), Kind: clashKind(nodes)}
		for _, n := range nodes {
			c.Versions = append(c.Versions, l.version(n, own))
		}
		slices.SortFunc(c.Versions, func(a, b ConflictVersion) int {
			if plain := a.Path == c.Path; plain != (b.Path == c.Path) {
				return map[bool]int{true: -1, false: 1}[plain]
			}
			return cmp.Or(a.Changed.Compare(b.Changed), cmp.Compare(a.Path, b.Path))
		})
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b Conflict) int { return cmp.Compare(a.Path, b.Path) })
	return out, nil
}

// wantedName is a plain name in a directory.
type wantedName struct {
	dir  *Node
	name string
}

// clashes finds all that is shown under another name than it has, and who is in
// the way; tree is held.
func (v *Vault) clashes() map[wantedName][]*Node {
	found := make(map[wantedName][]*Node)
	v.walk(v.root, func(n *Node) {
		if plain, ok := v.suffixed(n); ok {
			at := wantedName{n.parent, plain}
			if found[at] == nil {
				if first := n.parent.dir.lookup(plain); first != nil {
					found[at] = append(found[at], first)
				}
			}
			found[at] = append(found[at], n)
		}
	})
	return found
}

// suffixed gives the name that n would have without a suffix, if it has one;
// tree is held.
func (v *Vault) suffixed(n *Node) (plain string, ok bool) {
	if !n.has(flagStored) || n.kind == KindRoot || n.kind == KindFolder {
		return "", false
	}
	if n.kind == KindAsset {
		plain = shownTitle(v.stored[n])
	} else {
		plain = shownComponent(v.stored[n])
	}
	return plain, plain != n.name
}

func clashKind(nodes []*Node) string {
	if nodes[0].kind == KindAsset {
		return ConflictAsset
	}
	for i, n := range nodes {
		if slices.ContainsFunc(nodes[:i], func(o *Node) bool { return o.id == n.id }) {
			return ConflictEdit
		}
	}
	return ConflictName
}

// version says who wrote what a node shows; what is not sealed yet is our own.
func (l *ledger) version(n *Node, own string) ConflictVersion {
	c := ConflictVersion{
		Path: shownPath(n), ID: n.id.UUID(), Device: own, This: true,
		Changed: time.Unix(0, n.mtime), Size: n.size, node: n,
	}
	if n.content == nil || n.dirty&dirtyContent != 0 {
		return c
	}
	for _, f := range l.h.Attachment(n.id, nil).Live {
		if f.Blob == n.content.ref.blob {
			c.This, c.Changed = f.Device == l.v.DeviceID(), f.HLC.Time()
			c.Device = cmp.Or(l.h.DeviceName(f.Device), f.Device.UUID())
		}
	}
	return c
}

// Keep says which version of a conflict stays.
type Keep string

// What KeepConflict is told.
const (
	KeepNamed  Keep = ""       // the one whose path is given
	KeepMine   Keep = "mine"   // the one that this device wrote
	KeepTheirs Keep = "theirs" // the one that another device wrote
	KeepBoth   Keep = "both"   // all, each under a name of its own
)

// Kept says how a conflict was settled.
type Kept struct {
	Path    string            `json:"path"`              // of what was kept
	Trashed []ConflictVersion `json:"trashed,omitempty"` // as they were called
	Renamed []string          `json:"renamed,omitempty"` // what the others are called now
}

// KeepConflict settles the conflict that a path is a version of, with nothing
// but what a person could do: what is not kept goes to the trash, what is kept
// gets the plain name. Errors: ErrNotFound when the path is in no conflict,
// ErrInvalid when how does not say which version, ErrNotSupported for assets.
func (v *Vault) KeepConflict(ctx context.Context, at string, how Keep) (Kept, error) {
	all, err := v.Conflicts(ctx)
	if err != nil {
		return Kept{}, err
	}
	at = strings.Trim(at, "/")
	i := slices.IndexFunc(all, func(c Conflict) bool {
		return slices.ContainsFunc(c.Versions, func(w ConflictVersion) bool { return w.Path == at })
	})
	switch {
	case i < 0:
		if _, err := v.Find(at); err != nil {
			return Kept{}, err
		}
		return Kept{}, fmt.Errorf("%w: %s is in no conflict", ErrNotFound, at)
	case all[i].Kind == ConflictAsset:
		return Kept{}, fmt.Errorf("%w: %s is an asset", ErrNotSupported, at)
	case how == KeepBoth:
		return v.keepAll(&all[i])
	}
	keep, err := all[i].choose(at, how)
	if err != nil {
		return Kept{}, err
	}
	return v.keepOne(&all[i], keep)
}

func (c *Conflict) choose(at string, how Keep) (*ConflictVersion, error) {
	var found []*ConflictVersion
	for i := range c.Versions {
		w := &c.Versions[i]
		if how == KeepNamed && w.Path == at || how == KeepMine && w.This || how == KeepTheirs && !w.This {
			found = append(found, w)
		}
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("%w: %d of the versions of %s are %s", ErrInvalid, len(found), c.Path, how)
	}
	return found[0], nil
}

func (v *Vault) keepOne(c *Conflict, keep *ConflictVersion) (Kept, error) {
	k := Kept{Path: keep.Path}
	for i := range c.Versions {
		w := &c.Versions[i]
		if w == keep {
			continue
		}
		if err := v.Remove(w.Path, false); err != nil {
			return k, err
		}
		k.Trashed = append(k.Trashed, *w)
	}
	if keep.Path == c.Path {
		return k, nil
	}
	err := v.renameShown(keep.node, keep.Path, path.Base(c.Path))
	if err == nil {
		k.Path = c.Path
	}
	return k, err
}

// keepAll gives every version but the first a name that is its own for good.
func (v *Vault) keepAll(c *Conflict) (Kept, error) {
	k := Kept{Path: c.Versions[0].Path}
	for _, w := range c.Versions[1:] {
		name, err := v.ownNameFor(c, &w)
		if err != nil {
			return k, err
		}
		if err := v.renameShown(w.node, w.Path, name); err != nil {
			return k, err
		}
		k.Renamed = append(k.Renamed, path.Join(path.Dir(w.Path), name))
	}
	return k, nil
}

// ownNameFor finds a free name that says who wrote the version, and when.
func (v *Vault) ownNameFor(c *Conflict, w *ConflictVersion) (string, error) {
	dir, _, err := v.parentOf(w.Path)
	if err != nil {
		return "", err
	}
	plain := path.Base(c.Path)
	ext := path.Ext(plain)
	if len(ext) == len(plain) || len(ext) > 32 {
		ext = ""
	}
	who := strings.Map(func(r rune) rune {
		if r == '/' || !unicode.IsPrint(r) {
			return '_'
		}
		return r
	}, w.Device)
	v.tree.RLock()
	defer v.tree.RUnlock()
	for i := 1; ; i++ {
		suffix := " - " + who + " " + w.Changed.UTC().Format("2006-01-02") + ext
		if i > 1 {
			suffix = fmt.Sprintf(" - %s %s %d%s", who, w.Changed.UTC().Format("2006-01-02"), i, ext)
		}
		name := cutValid(strings.TrimSuffix(plain, ext), MaxComponent-len(suffix)) + suffix
		if dir.dir.lookup(name) == nil {
			return name, nil
		}
	}
}

// cutValid shortens s to at most n bytes of whole characters.
func cutValid(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:max(n, 0)], "")
}

// renameShown renames a node within its directory, if it is still there.
func (v *Vault) renameShown(n *Node, at, name string) error {
	dir, was, err := v.parentOf(at)
	if err != nil {
		return err
	}
	if err := v.Rename(dir, was, dir, name, RenameNoReplace); err != nil {
		return fmt.Errorf("%w: %s", err, at)
	}
	v.changed(Change{Kind: ChangeEntry, Dir: dir, Name: was}, Change{Kind: ChangeEntry, Dir: dir, Name: name, Node: n})
	return nil
}
