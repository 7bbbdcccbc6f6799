package vaultcore

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Kind says what a node is.
type Kind uint8

// The kinds of node. The root holds assets only; assets and folders hold
// folders, files and symlinks.
const (
	KindRoot Kind = iota + 1
	KindAsset
	KindFolder
	KindFile
	KindSymlink
)

// String names the kind as commands show it.
func (k Kind) String() string {
	switch k {
	case KindRoot:
		return "root"
	case KindAsset:
		return "asset"
	case KindFolder:
		return "folder"
	case KindFile:
		return "file"
	case KindSymlink:
		return "symlink"
	}
	return "unknown"
}

// Dirty bits of a row: what the next batch has to carry.
const (
	dirtyAttr    = 1
	dirtyContent = 2
	dirtyWrap    = 4
)

// AssetType is the kind of vault item an asset stands for.
type AssetType uint8

// The item types; the numbers are those of the record digest.
const (
	TypePassword AssetType = 1
	TypeNote     AssetType = 2
	TypeItem     AssetType = 3
)

// String gives the type's name on the wire and on the command line.
func (t AssetType) String() string {
	switch t {
	case TypePassword:
		return "password"
	case TypeNote:
		return "note"
	case TypeItem:
		return "item"
	}
	return "unknown"
}

// ParseAssetType reads a type's name; anything else is ErrInvalid.
func ParseAssetType(s string) (AssetType, error) {
	for _, t := range []AssetType{TypePassword, TypeNote, TypeItem} {
		if t.String() == s {
			return t, nil
		}
	}
	return 0, ErrInvalid
}

// Node is one incarnation of a thing in the tree. A local write keeps it;
// content that arrives by sync makes a new one under the same name, so that
// whoever holds the old one goes on reading what it opened.
type Node struct {
	// Ref is free for the kernel layer: its id of this node, 0 for none.
	Ref atomic.Uint64

	// open is the state of an open file; nil while nobody has it open.
	open atomic.Pointer[openState]

	// Kept is free for the kernel layer: the kernel was given all bytes.
	Kept atomic.Bool

	// Set at construction.
	kind Kind
	ino  uint64

	// Everything below is guarded by Vault.tree.
	flags    nodeFlags
	dirty    uint8
	atype    AssetType
	mode     uint16
	parent   *Node
	name     string // as shown; see names.go
	mime     string // interned
	cookie   uint64 // place in the parent's listing
	dir      *dirEntries
	id       seal.ID // of the attachment or asset; zero for an implied folder
	n        int64   // row number; 0 while there is no row
	commitNo uint64  // commit that last wrote the row
	content  *content
	size     int64
	mtime    int64
	ctime    int64
	atime    int64
	btime    int64
	sync     *syncFields
	xattrs   xattrs
	draftID  seal.ID // kept draft with a row in drafts; zero if none
}

type nodeFlags uint8

const (
	// flagUnlinked: no name any more; handles may still use it.
	flagUnlinked nodeFlags = 1 << iota
	// flagScratch: local only, never sealed into a batch.
	flagScratch
	// flagDamaged: row or content failed authentication.
	flagDamaged
	// flagAttrs: mode or times wait to be written behind.
	flagAttrs
	// flagStored: the stored name differs from the shown one (Vault.stored).
	flagStored
	// flagTmp: made by O_TMPFILE and not linked yet.
	flagTmp
	// flagQueued: the node is in the queue of attribute changes.
	flagQueued
	// flagOrphan: a change from elsewhere took the row of an open file. A save
	// gives it a row and a name again; without one it goes with its last handle.
	flagOrphan
)

// syncFields are the numbers of the record last sealed or applied, which is
// what the next change is made on; nil until the first one.
type syncFields struct {
	rev    uint64
	digest []byte // of the tip that holds the content
	base   []byte // all tips merged in the file, digest first; nil for it alone (base.go)
}

// Attr is what stat shows. Times are ns since the Unix epoch.
type Attr struct {
	Kind                       Kind
	Ino                        uint64
	Size                       int64
	Mode                       uint32 // 0777 bits
	Nlink                      uint32
	Mtime, Ctime, Atime, Btime int64
}

// SetAttr holds the attributes to change; nil leaves one as it is.
type SetAttr struct {
	Size         *int64
	Mode         *uint32
	Mtime, Atime *int64
}

// Kind says what the node is; it never changes.
func (n *Node) Kind() Kind { return n.kind }

// Ino is the inode number shown to programs: the first 8 bytes of the id,
// kept in memory when a rename gives the content another id.
func (n *Node) Ino() uint64 { return n.ino }

func (n *Node) isDir() bool { return n.kind <= KindFolder }

// stale says that a node lost its name before somebody who had looked it up asked
// for a change of it: that would go to what nobody sees. Who has it open goes on;
// tree is held.
func (n *Node) stale() bool { return n.has(flagUnlinked) && n.open.Load() == nil }

// absent says why a directory has not what was looked for: another one may have
// its name by now; tree is held.
func (n *Node) absent() error {
	if n.has(flagUnlinked) {
		return ErrStale
	}
	return ErrNotFound
}

func (n *Node) has(f nodeFlags) bool { return n.flags&f != 0 }

func (n *Node) set(f nodeFlags, on bool) {
	if on {
		n.flags |= f
	} else {
		n.flags &^= f
	}
}

func (n *Node) rev() uint64 {
	if n.sync == nil {
		return 0
	}
	return n.sync.rev
}

// inoOf makes an inode number of an id, leaving out the three numbers that
// kernels and tools give a meaning of their own.
func inoOf(id seal.ID) uint64 {
	ino := binary.BigEndian.Uint64(id[:8])
	if ino == 0 || ino == 1 || ino == ^uint64(0) {
		ino = binary.BigEndian.Uint64(id[8:]) | 2
	}
	return ino
}

func (n *Node) attr() Attr {
	a := Attr{
		Kind: n.kind, Ino: n.ino, Size: n.size, Mode: uint32(n.mode), Nlink: 1,
		Mtime: n.mtime, Ctime: n.ctime, Atime: n.atime, Btime: n.btime,
	}
	if a.Atime == 0 {
		a.Atime = a.Mtime
	}
	if n.has(flagUnlinked) || n.has(flagTmp) {
		a.Nlink = 0
	} else if n.isDir() {
		a.Nlink = 2 + n.dir.subdirs
	}
	return a
}
