package seal

// Op is one thing a batch says: *Put, *Del, *Wrap, *Sent, *Want, *AssetPut,
// *AssetDel or *DeviceName. The set is closed; callers tell them apart by type.
type Op interface {
	name() string
	check() error
	write(*jsonWriter)
}

// Parent is the asset an attachment lies in.
type Parent struct {
	Type uint8 // ParentPassword, ParentNote or ParentItem
	ID   ID
}

// Blob names the sealed bytes of a content.
type Blob struct {
	ID     ID
	Len    uint64   // bytes
	SHA256 [32]byte // of all of them
	Hdr    []byte   // v3: IV ‖ tag; v4: first 64 bytes
}

// Put says what an attachment is: a whole record. It replaces the record Prev.
// WK, Name and MIME are wire forms (IV ‖ ct).
type Put struct {
	ID      ID
	Rev     uint64 // that of Prev and one more
	Parent  Parent
	Version uint8 // V3 or V4
	Epoch   uint32
	Size    uint64 // bytes of plaintext
	WK      []byte
	Name    []byte
	MIME    []byte
	Blob    Blob
	Mtime   int64    // ns since 1970, UTC
	Mode    uint32   // the 0777 bits
	Prev    [32]byte // digest of the record replaced, zero for the first
}

// NewPut makes the op that publishes a record. Error: ErrFormat or ErrNewer for
// one that no reader takes.
func NewPut(r *Record, prev [32]byte) (*Put, error) {
	p := &Put{
		ID: r.ID, Rev: r.Rev, Parent: Parent{r.ParentType, r.Parent}, Version: r.Version, Epoch: r.Epoch, Size: r.Size,
		WK: r.WK, Name: r.Name, MIME: r.MIME, Blob: Blob{r.Blob, r.Len, r.SHA256, r.Hdr},
		Mtime: r.Mtime, Mode: r.Mode, Prev: prev,
	}
	return p, p.check()
}

// Record is what the digest of p covers.
func (p *Put) Record(vault ID) *Record {
	return &Record{
		Vault: vault, ID: p.ID, ParentType: p.Parent.Type, Parent: p.Parent.ID, Version: p.Version, Epoch: p.Epoch,
		Rev: p.Rev, Size: p.Size, WK: p.WK, Name: p.Name, MIME: p.MIME,
		Blob: p.Blob.ID, Len: p.Blob.Len, SHA256: p.Blob.SHA256, Hdr: p.Blob.Hdr, Mtime: p.Mtime, Mode: p.Mode,
	}
}

// Digest is what the record is known by: in Prev of its successors.
func (p *Put) Digest(vault ID) [32]byte { return p.Record(vault).Digest() }

// Del ends the branch of an attachment at the record Prev.
type Del struct {
	ID   ID
	Prev [32]byte
}

// Wrap is a new wrapped key of a blob; it changes no record.
type Wrap struct {
	Blob  ID
	Epoch uint32
	WK    []byte // wire form
}

// Sent says that the author confirmed these blobs on a remote.
type Sent struct {
	Remote ID // the number in the remote's marker
	Blobs  []ID
}

// Want names blobs that are not to be had from the remote though they were sent.
type Want struct {
	Blobs []ID
}

// AssetPut says what an asset is. Title is a wire form.
type AssetPut struct {
	ID    ID
	Rev   uint64
	Type  uint8 // ParentPassword, ParentNote or ParentItem; never changes
	Ctime int64 // ns since 1970, UTC
	Title []byte
	Epoch uint32
	Prev  [32]byte // digest of the record replaced, zero for the first
}

// Record is what the digest of p covers.
func (p *AssetPut) Record(vault ID) *AssetRecord {
	return &AssetRecord{Vault: vault, ID: p.ID, Type: p.Type, Epoch: p.Epoch, Rev: p.Rev, Ctime: p.Ctime, Title: p.Title}
}

// Digest is what the record is known by: in Prev of its successors.
func (p *AssetPut) Digest(vault ID) [32]byte { return p.Record(vault).Digest() }

// AssetDel ends the branch of an asset at the record Prev.
type AssetDel struct {
	ID   ID
	Prev [32]byte
}

// DeviceName is the name of the author: 1 to MaxDeviceName bytes of UTF-8, no
// control character and no slash, since it becomes part of file names.
type DeviceName struct {
	Name string
}
