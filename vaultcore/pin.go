package vaultcore

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// pinSet holds the ids that the user has pinned; guarded by Vault.tree.
type pinSet map[seal.ID]struct{}

// Pin is something whose contents stay on this device.
type Pin struct {
	ID   string `json:"id"`
	Path string `json:"path"`
	Kind string `json:"kind"`
}

func (v *Vault) loadPins() error {
	v.readMu.Lock()
	defer v.readMu.Unlock()
	schema, err := schemaVersion(v.reader)
	if err != nil || schema < 2 { // opened for reading only, so nothing brought it up to date
		return err
	}
	pins := make(pinSet)
	err = v.reader.query("SELECT id FROM pins", func(c []dbValue) error {
		s := rowScanner{c: c}
		pins[s.id()] = struct{}{}
		return nil
	})
	v.tree.Lock()
	v.pins = pins
	v.tree.Unlock()
	return err
}

// pinned says whether a node, or a directory above it, is pinned; tree is held.
func (v *Vault) pinned(n *Node) bool {
	if len(v.pins) == 0 {
		return false
	}
	for ; n != nil && n.kind != KindRoot; n = n.parent {
		if _, ok := v.pins[n.id]; ok {
			return true
		}
	}
	return false
}

// nodeOf finds a live node by its id.
func (v *Vault) nodeOf(id seal.ID) (*Node, error) {
	v.tree.RLock()
	defer v.tree.RUnlock()
	var found *Node
	v.walk(v.root, func(n *Node) {
		if n.id == id && n.kind != KindRoot && !id.IsZero() {
			found = n
		}
	})
	if found == nil {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, id.UUID())
	}
	return found, nil
}

// Pin keeps the contents of an attachment, or of everything that is or will be
// in a folder or asset, on this device: they are not evicted, and fetched where
// only what is pinned is. It says nothing to other devices, but that a folder
// which only names implied gets a row. Errors: ErrNotFound, ErrReadOnly.
func (v *Vault) Pin(_ context.Context, id seal.ID) error {
	if err := v.writable(); err != nil {
		return err
	}
	n, err := v.nodeOf(id)
	if err != nil {
		return err
	}
	if n.kind == KindFolder { // its id is its own only with a row
		if err := v.needFolderRow(n); err != nil {
			return err
		}
		v.tree.RLock()
		id = n.id
		v.tree.RUnlock()
	}
	if _, err := v.com.do(func(t *txn) error {
		return t.exec("INSERT INTO pins(id) VALUES(?) ON CONFLICT(id) DO NOTHING", id[:])
	}); err != nil {
		return err
	}
	v.bar.commit()
	v.tree.Lock()
	v.pins[id] = struct{}{}
	v.tree.Unlock()
	return nil
}

// Unpin takes Pin back, for this id and not for what is pinned above or below
// it. Errors: ErrNotFound when it is not pinned itself, ErrReadOnly.
func (v *Vault) Unpin(_ context.Context, id seal.ID) error {
	if err := v.writable(); err != nil {
		return err
	}
	v.tree.RLock()
	_, ok := v.pins[id]
	v.tree.RUnlock()
	if !ok {
		return fmt.Errorf("%w: %s is not pinned", ErrNotFound, id.UUID())
	}
	if _, err := v.com.do(func(t *txn) error { return t.exec("DELETE FROM pins WHERE id=?", id[:]) }); err != nil {
		return err
	}
	v.bar.commit()
	v.tree.Lock()
	delete(v.pins, id)
	v.tree.Unlock()
	v.cache.look()
	return nil
}

// Pins lists what is pinned, by path. A pin of something deleted is not listed;
// it counts again if the thing comes back.
func (v *Vault) Pins() []Pin {
	v.tree.RLock()
	defer v.tree.RUnlock()
	var out []Pin
	if len(v.pins) > 0 {
		v.walk(v.root, func(n *Node) {
			if _, ok := v.pins[n.id]; ok && n.kind != KindRoot {
				out = append(out, Pin{ID: n.id.UUID(), Path: shownPath(n), Kind: n.kind.String()})
			}
		})
	}
	slices.SortFunc(out, func(a, b Pin) int { return cmp.Compare(a.Path, b.Path) })
	return out
}

// pinnedID says whether one of some live attachments is pinned.
func (v *Vault) pinnedID(ids []seal.ID) bool {
	v.tree.RLock()
	defer v.tree.RUnlock()
	if len(v.pins) == 0 {
		return false
	}
	found := false
	v.walk(v.root, func(n *Node) { found = found || slices.Contains(ids, n.id) && v.pinned(n) })
	return found
}

// pinnedBlobs gives the contents of pinned files.
func (v *Vault) pinnedBlobs() map[seal.ID]bool {
	v.tree.RLock()
	defer v.tree.RUnlock()
	out := make(map[seal.ID]bool)
	if len(v.pins) == 0 {
		return out
	}
	v.walk(v.root, func(n *Node) {
		if n.content != nil && v.pinned(n) {
			out[n.content.ref.blob] = true
		}
	})
	return out
}
