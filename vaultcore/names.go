package vaultcore

import (
	"fmt"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/vaultdrive/vaultdrive/vaultcore/history"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Limits of names, in bytes.
const (
	MaxComponent = 255
	MaxName      = seal.MaxName
	MaxDepth     = seal.MaxDepth // components of a whole name
	MaxTitle     = 1024
	MaxMIME      = 255
)

// HiddenName is the directory in the root that shows trash, unverified rows,
// conflicts and the state; no asset can have it.
const HiddenName = history.HiddenTitle

// defaultScratch are the names programs use for their own bookkeeping. They
// work like any file and stay on this device.
var defaultScratch = []string{
	".~lock.*#", "~$*", ".*.sw[a-p]", ".goutputstream-*", ".DS_Store", "._*", "Thumbs.db", "desktop.ini",
}

// checkComponent says whether a program may create this name.
func checkComponent(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return ErrInvalid
	case len(name) > MaxComponent:
		return ErrNameTooLong
	case !utf8.ValidString(name), strings.IndexByte(name, 0) >= 0:
		return ErrName
	case strings.IndexByte(name, '/') >= 0:
		return ErrInvalid
	}
	return nil
}

// checkTitle refuses what a mount root must not hold: the hidden directory
// and the trash directories that desktops try to make on every drive.
func checkTitle(name string) error {
	if err := checkComponent(name); err != nil {
		return err
	}
	if history.ReservedTitle(name) {
		return fmt.Errorf("%w: this name is reserved in the root of the drive", ErrPermission)
	}
	return nil
}

// shownComponent maps a stored component to one that a kernel can show. It
// is undone by looking the shown name up in the tree, never by decoding. The
// mapping lies where the names of a merged tree are made unique.
func shownComponent(stored string) string { return history.ShownComponent(stored) }

// shownTitle is shownComponent for an asset; reserved names are escaped too.
func shownTitle(title string) string { return history.ShownTitle(title) }

// splitStored cuts a stored name into its components; what is no valid name
// as a whole is shown as unnamed-<8 hex of the id>.
func splitStored(name string, id seal.ID) (parts []string, ok bool) {
	if !history.Nameable(name) {
		return []string{"unnamed-" + id.Hex()[:8]}, false
	}
	return strings.Split(name, "/"), true
}

// withSuffix puts " (<digits of id>)" before the extension; longer digits on
// a further clash. The result stays within MaxComponent.
func withSuffix(name string, id seal.ID, digits int) string {
	suffix := " (" + id.Hex()[:digits] + ")"
	ext := path.Ext(name)
	if len(ext) == len(name) || len(ext) > 32 {
		ext = ""
	}
	stem := strings.TrimSuffix(name, ext)
	for len(stem)+len(suffix)+len(ext) > MaxComponent || !utf8.ValidString(stem) {
		stem = stem[:len(stem)-1]
	}
	return stem + suffix + ext
}

// freeName gives the shown name for a node in dir: the wanted one, or with
// the shortest suffix of its id that is free. tree is held.
func freeName(dir *Node, want string, id seal.ID) string {
	if dir.dir.lookup(want) == nil {
		return want
	}
	for digits := 4; digits <= 32; digits += 4 {
		if s := withSuffix(want, id, digits); dir.dir.lookup(s) == nil {
			return s
		}
	}
	return "unnamed-" + id.Hex()
}

// isScratch says whether a file name belongs to a program's bookkeeping.
func (v *Vault) isScratch(name string) bool {
	for _, p := range v.scratchNames {
		if ok, err := path.Match(p, name); ok && err == nil {
			return true
		}
	}
	return false
}

// storedComponent gives the component of n as its row spells it; tree is held.
func (v *Vault) storedComponent(n *Node) string {
	if n.has(flagStored) {
		return v.stored[n]
	}
	return n.name
}

func (v *Vault) setStored(n *Node, stored string) {
	differs := stored != n.name
	n.set(flagStored, differs)
	if differs {
		v.stored[n] = stored
	} else {
		delete(v.stored, n)
	}
}

// storedName gives the whole name of a file or folder inside its asset as
// its row spells it, and the asset; tree is held.
func (v *Vault) storedName(n *Node) (asset *Node, name string) {
	if n.parent == nil {
		return nil, v.storedComponent(n)
	}
	name = v.storedComponent(n)
	p := n.parent
	for p.kind == KindFolder {
		name = v.storedComponent(p) + "/" + name
		p = p.parent
	}
	return p, name
}

// shownPath gives the path from the root as shown; tree is held.
func shownPath(n *Node) string {
	if n.kind == KindRoot || n.parent == nil {
		return n.name
	}
	p := n.name
	for d := n.parent; d != nil && d.kind != KindRoot; d = d.parent {
		p = d.name + "/" + p
	}
	return p
}
