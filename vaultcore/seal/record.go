package seal

import (
	"crypto/sha256"
	"encoding/binary"
)

const (
	labelRecord = "vaultdrive/v1/record\x00"
	labelAsset  = "vaultdrive/v1/asset\x00"
)

// Record is everything a record digest covers: one revision of an attachment.
// WK, Name and MIME are wire forms (IV ‖ ct).
type Record struct {
	Vault, ID  ID
	ParentType uint8 // ParentPassword, ParentNote or ParentItem
	Parent     ID
	Version    uint8 // V3 or V4
	Epoch      uint32
	Rev        uint64
	Size       uint64 // bytes of plaintext
	WK         []byte
	Name       []byte
	MIME       []byte
	Blob       ID
	Len        uint64   // bytes of the blob
	SHA256     [32]byte // of the blob
	Hdr        []byte   // v3: IV ‖ tag; v4: first 64 bytes
	Mtime      int64    // ns since 1970, UTC
	Mode       uint32   // the 0777 bits
}

// Digest is what a revision is known by (FORMAT.md "Record digest").
func (r *Record) Digest() [32]byte {
	b := make([]byte, 0, 512)
	b = append(b, labelRecord...)
	b = append(b, r.Vault[:]...)
	b = append(b, r.ID[:]...)
	b = append(b, r.ParentType)
	b = append(b, r.Parent[:]...)
	b = append(b, r.Version)
	b = binary.BigEndian.AppendUint32(b, r.Epoch)
	b = binary.BigEndian.AppendUint64(b, r.Rev)
	b = binary.BigEndian.AppendUint64(b, r.Size)
	b = appendLP(b, r.WK)
	b = appendLP(b, r.Name)
	b = appendLP(b, r.MIME)
	b = append(b, r.Blob[:]...)
	b = binary.BigEndian.AppendUint64(b, r.Len)
	b = append(b, r.SHA256[:]...)
	b = appendLP(b, r.Hdr)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Mtime))
	b = binary.BigEndian.AppendUint32(b, r.Mode)
	return sha256.Sum256(b)
}

// AssetRecord is everything an asset's digest covers. Title is a wire form.
type AssetRecord struct {
	Vault, ID ID
	Type      uint8 // ParentPassword, ParentNote or ParentItem
	Epoch     uint32
	Rev       uint64
	Ctime     int64 // ns since 1970, UTC
	Title     []byte
}

// Digest is what a revision of an asset is known by.
func (r *AssetRecord) Digest() [32]byte {
	b := make([]byte, 0, 256)
	b = append(b, labelAsset...)
	b = append(b, r.Vault[:]...)
	b = append(b, r.ID[:]...)
	b = append(b, r.Type)
	b = binary.BigEndian.AppendUint32(b, r.Epoch)
	b = binary.BigEndian.AppendUint64(b, r.Rev)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Ctime))
	b = appendLP(b, r.Title)
	return sha256.Sum256(b)
}
