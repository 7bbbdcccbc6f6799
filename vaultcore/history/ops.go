// Package history turns the accepted ops of a vault into the tree its user
// sees. It is one pure function of the set of ops: every order, repetition and
// batching of the same ops gives the same tree, so devices that hold the same
// ops show the same files without asking each other.
//
// It refuses to know SQL, files, keys and clocks: names and titles come to it
// decrypted, what a device may do was decided before, and time is only what an
// op says. The rules are those of the page on synchronisation, "Ops, batches
// and merging" and "Conflict rules"; where that page leaves a choice, the
// comment at the place says what was chosen and why.
package history

import (
	"errors"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// MIMEFolder marks an attachment that is a folder.
const MIMEFolder = "inode/directory"

// ErrResurrect refuses a first record for an id that its author knew dead.
var ErrResurrect = errors.New("a deleted id is not used again")

// Digest names a record.
type Digest [32]byte

// HLC is a hybrid logical clock: 48 bits of milliseconds since 1970, 16 of a counter.
type HLC uint64

// Time gives the clock's reading, in UTC.
func (h HLC) Time() time.Time { return time.UnixMilli(int64(h >> 16)).UTC() }

// At says which batch an op came in.
type At struct {
	Device seal.ID // the author
	Seq    uint64  // number of the batch in the author's chain, from 1
	HLC    HLC     // of the batch
}

// Parent names the asset an attachment lies in.
type Parent struct {
	Type uint8 // the numbers of the record digest: password 1, note 2, item 3
	ID   seal.ID
}

// Record is an accepted `put` with its values opened.
type Record struct {
	At
	ID     seal.ID // the attachment
	Digest Digest
	Prev   Digest // the record it replaces, zero for a first one
	Rev    uint64
	Parent Parent
	Name   string // the whole path inside the asset, as stored
	MIME   string
	Mode   uint32 // the 0777 bits
	Mtime  int64  // ns since 1970, UTC
	Size   int64  // bytes of plaintext
	Blob   seal.ID
}

// AssetRecord is an accepted `asset-put` with its title opened.
type AssetRecord struct {
	At
	ID     seal.ID
	Digest Digest
	Prev   Digest
	Rev    uint64
	Type   uint8
	Ctime  int64 // ns since 1970, UTC
	Title  string
}

// Del is an accepted `del` or `asset-del`: it ends the branch at record Prev.
type Del struct {
	At
	ID   seal.ID
	Prev Digest
}

// DeviceName is a `device` op. The first of a chain names its device in
// conflict suffixes for ever.
type DeviceName struct {
	At
	Name string
}

// Ops is a set of accepted ops, in any order.
type Ops struct {
	Records   []Record
	Dels      []Del
	Assets    []AssetRecord
	AssetDels []Del
	Devices   []DeviceName
	Births    []Birth
}
