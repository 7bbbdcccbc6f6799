package vaultcore

import "github.com/vaultdrive/vaultdrive/vaultcore/seal"

// displaced is a name that the history gives something and that somebody had
// when it came: a directory that was about to go, a file of this device only.
type displaced struct {
	want string // the name
	dir  *Node  // where, and as what it is shown meanwhile
	name string
}

// giveName attaches n under the name the history gives it, or beside who has
// that; tree is held.
func (v *Vault) giveName(dir *Node, want string, id seal.ID, n *Node) {
	name := freeName(dir, want, id)
	attach(dir, name, n)
	if name != want {
		v.displaced[n] = displaced{want: want, dir: dir, name: name}
	} else {
		delete(v.displaced, n)
	}
}

// displacedFolder finds the folder of a stored component that something else keeps
// from its name; tree is held.
func (v *Vault) displacedFolder(dir *Node, stored string) *Node {
	for n, d := range v.displaced {
		if n.kind == KindFolder && d.dir == dir && dir.dir.lookup(d.name) == n && v.storedComponent(n) == stored {
			return n
		}
	}
	return nil
}

// settleNames gives their names to those whose name has come free; tree is held.
func (v *Vault) settleNames() (changes []Change) {
	for again := true; again; {
		again = false
		for n, d := range v.displaced {
			if d.dir.dir.lookup(d.name) != n || d.dir.has(flagUnlinked) {
				delete(v.displaced, n) // it has gone, or got another name
				continue
			}
			if d.dir.dir.lookup(d.want) != nil {
				continue
			}
			stored := v.storedComponent(n)
			detach(n)
			attach(d.dir, d.want, n)
			v.setStored(n, stored)
			touchDir(d.dir, v.nowNS())
			delete(v.displaced, n)
			changes = append(changes,
				Change{Kind: ChangeEntry, Dir: d.dir, Name: d.name}, Change{Kind: ChangeEntry, Dir: d.dir, Name: d.want, Node: n})
			again = true
		}
	}
	return changes
}

// namesCameFree is settleNames where no batch gives the occasion.
func (v *Vault) namesCameFree() []Change {
	v.tree.Lock()
	defer v.tree.Unlock()
	return v.settleNames()
}
