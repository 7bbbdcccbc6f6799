package vaultcore

import (
	"errors"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// draftTarget gives the file of a draft whose attachment a change from elsewhere
// has touched since: the row it was begun on if that is there still, else a file
// of its own, which the next batch publishes as an edit on what it was begun on.
func (v *Vault) draftTarget(d *draftRow) *Node {
	if len(d.base) < 32 {
		return nil
	}
	v.tree.Lock()
	defer v.tree.Unlock()
	same, like, name := v.draftRow(d)
	if same != nil || like == nil {
		return same
	}
	asset := like.parent
	for asset.kind == KindFolder {
		asset = asset.parent
	}
	n := &Node{
		kind: KindFile, id: d.att, ino: inoOf(d.id), mode: like.mode, parent: asset, name: like.name, mime: like.mime,
		mtime: d.mtime, ctime: like.ctime, btime: like.btime, xattrs: like.xattrs, content: like.content, size: like.size,
		sync: &syncFields{digest: d.base[:32], base: d.base},
	}
	if like.sync != nil {
		n.sync.rev = like.sync.rev
	}
	n.flags |= flagOrphan
	v.setStored(n, name)
	return n
}

// draftRow finds the row that a draft was begun on, and where that is in the tree
// no more, what a file of its own is to be like: best the entry of the trash that
// has the draft's content; tree is held.
func (v *Vault) draftRow(d *draftRow) (same, like *Node, name string) {
	base := stateBlob(d.state)
	best := int64(0)
	look := func(n *Node, stored string, trashed bool) {
		fits := base.IsZero() || n.content != nil && n.content.ref.blob == base
		tips := n.sync != nil && string(n.sync.tips()) == string(d.base)
		if fits && tips && !trashed {
			same = n
		}
		how := 1 + 4*b2i(fits) + 2*b2i(tips)
		if how > best {
			best, like, name = how, n, stored
		}
	}
	v.walk(v.root, func(n *Node) {
		if n.id == d.att && n.kind == KindFile {
			_, stored := v.storedName(n)
			look(n, stored, false)
		}
	})
	for _, t := range v.trash {
		if t.node.id == d.att && t.node.kind == KindFile {
			look(t.node, t.name, true)
		}
	}
	return same, like, name
}

// orphanTarget makes a file for a draft whose attachment is gone.
func (v *Vault) orphanTarget(id seal.ID) (*Node, error) {
	const title = "Recovered files"
	dir, _, err := v.Lookup(v.root, title)
	if errors.Is(err, ErrNotFound) {
		dir, _, err = v.Mkdir(v.root, title, 0o700)
	}
	if err != nil {
		return nil, err
	}
	n, _, err := v.Create(dir, "recovered-"+id.Hex()[:8], 0o600)
	if err != nil {
		return nil, err
	}
	defer v.Release(n, true)
	return n, v.Flush(n)
}
