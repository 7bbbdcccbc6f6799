package vaultcore

import (
	"database/sql/driver"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Table names as the associated data of sealed columns spells them. undo
// holds the same bytes as asset_attachments and so the same name.
const (
	tableAssets      = "assets"
	tableAttachments = "asset_attachments"
	tableDrafts      = "drafts"
	tableEvents      = "events"
)

// MIME types that make an attachment something other than a file.
const (
	mimeFolder  = "inode/directory"
	mimeSymlink = "inode/symlink"
	mimeDefault = "application/octet-stream"
)

// attRow is one row of asset_attachments. The column order is the schema's.
type attRow struct {
	n        int64
	id       seal.ID
	asset    seal.ID
	version  uint8
	epoch    uint32
	size     int64
	name     []byte // wire
	mime     []byte // wire
	wrapped  []byte // wire
	blob     seal.ID
	blobLen  int64
	hdr      []byte // v3: IV ‖ tag, v4: the header
	sha      []byte
	rev      uint64
	digest   []byte
	base     []byte
	dirty    uint8
	deleted  int64 // ns; 0 while it lives
	commitNo uint64
	place    int32
	sealed   []byte
	fresh    []byte

	f attFields
}

// attFields is what the sealed column of an attachment holds.
type attFields struct {
	mtime, ctime, btime int64
	mode                uint16
	scratch             bool
	takenBack           bool // in the trash, since a revocation took back what named it
	name, mime          string
	xattrs              xattrs
	shown               string // last component as shown, where the stored one does not say it
}

// Flags of attFields.
const (
	fieldScratch = 1
	fieldXAttrs  = 2 // extended attributes follow the type
	fieldShown   = 4 // the shown last component follows them
	fieldTaken   = 8 // taken back by a revocation
)

// iv repeats the first 12 bytes of a version 3 content, as older readers of
// the table expect; the blob rules.
func (r *attRow) iv() any {
	if r.version == seal.V3 {
		return r.hdr[:12]
	}
	return nil
}

// aad binds the sealed column to every column that is no local state.
func (r *attRow) aad(a *seal.RowAAD) []byte {
	a.Reset(tableAttachments)
	a.Bytes(r.id[:])
	a.Bytes(r.asset[:])
	a.Uint(uint64(r.version))
	a.Uint(uint64(r.epoch))
	a.Uint(uint64(r.size))
	a.Bytes(r.name)
	a.Bytes(r.mime)
	a.Bytes(r.wrapped)
	a.Bytes(r.blob[:])
	a.Uint(uint64(r.blobLen))
	if r.version == seal.V3 {
		a.Bytes(r.hdr[:12])
	} else {
		a.Bytes(nil)
	}
	a.Bytes(r.hdr)
	a.Uint(r.rev)
	a.Bytes(r.digest)
	a.Uint(uint64(r.deleted))
	return a.Sum()
}

func (f *attFields) encode(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(f.mtime))
	b = binary.BigEndian.AppendUint64(b, uint64(f.ctime))
	b = binary.BigEndian.AppendUint64(b, uint64(f.btime))
	b = binary.BigEndian.AppendUint16(b, f.mode)
	var flags byte
	if f.scratch {
		flags |= fieldScratch
	}
	if len(f.xattrs) > 0 {
		flags |= fieldXAttrs
	}
	if f.shown != "" {
		flags |= fieldShown
	}
	if f.takenBack {
		flags |= fieldTaken
	}
	b = append(b, flags)
	b = appendString16(b, f.name)
	b = appendString16(b, f.mime)
	if len(f.xattrs) > 0 {
		b = f.xattrs.encode(b)
	}
	if f.shown != "" {
		b = appendString16(b, f.shown)
	}
	return b
}

func (f *attFields) decode(b []byte) error {
	d := fieldReader{b: b}
	f.mtime, f.ctime, f.btime = int64(d.u64()), int64(d.u64()), int64(d.u64())
	f.mode = d.u16() & 0o777
	flags := d.u8()
	f.scratch, f.takenBack = flags&fieldScratch != 0, flags&fieldTaken != 0
	f.name, f.mime = d.str16(), d.str16()
	f.xattrs = nil
	if flags&fieldXAttrs != 0 {
		f.xattrs = d.xattrs()
	}
	f.shown = ""
	if flags&fieldShown != 0 {
		f.shown = d.str16()
	}
	return d.end()
}

// assetRow is one row of assets.
type assetRow struct {
	n        int64
	id       seal.ID
	typ      AssetType
	epoch    uint32
	rev      uint64
	digest   []byte
	dirty    uint8
	deleted  int64
	commitNo uint64
	title    []byte // wire
	sealed   []byte

	f assetFields
}

// assetFields is what the sealed column of an asset holds; mtime and mode
// are local only.
type assetFields struct {
	ctime, mtime int64
	mode         uint16
	title        string
	shown        string // as attFields has it
}

func (r *assetRow) aad(a *seal.RowAAD) []byte {
	a.Reset(tableAssets)
	a.Bytes(r.id[:])
	a.Uint(uint64(r.typ))
	a.Uint(uint64(r.epoch))
	a.Uint(r.rev)
	a.Bytes(r.digest)
	a.Uint(uint64(r.deleted))
	a.Bytes(r.title)
	return a.Sum()
}

func (f *assetFields) encode(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(f.ctime))
	b = binary.BigEndian.AppendUint64(b, uint64(f.mtime))
	b = binary.BigEndian.AppendUint16(b, f.mode)
	b = appendString16(b, f.title)
	if f.shown != "" {
		b = appendString16(b, f.shown)
	}
	return b
}

func (f *assetFields) decode(b []byte) error {
	d := fieldReader{b: b}
	f.ctime, f.mtime = int64(d.u64()), int64(d.u64())
	f.mode = d.u16() & 0o777
	f.title, f.shown = d.str16(), ""
	if len(d.b) > 0 {
		f.shown = d.str16()
	}
	return d.end()
}

func appendString16(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

// fieldReader takes a fixed layout apart; a short input is remembered.
type fieldReader struct {
	b   []byte
	bad bool
}

func (d *fieldReader) take(n int) []byte {
	if d.bad || len(d.b) < n {
		d.bad = true
		return make([]byte, n)
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

func (d *fieldReader) u8() byte    { return d.take(1)[0] }
func (d *fieldReader) u16() uint16 { return binary.BigEndian.Uint16(d.take(2)) }
func (d *fieldReader) u32() uint32 { return binary.BigEndian.Uint32(d.take(4)) }
func (d *fieldReader) u64() uint64 { return binary.BigEndian.Uint64(d.take(8)) }
func (d *fieldReader) str16() string {
	n := int(d.u16())
	if d.bad || len(d.b) < n {
		d.bad = true
		return ""
	}
	return string(d.take(n))
}
func (d *fieldReader) bytes32() []byte {
	n := int(d.u32())
	if d.bad || len(d.b) < n {
		d.bad = true
		return nil
	}
	return append([]byte(nil), d.take(n)...)
}

func (d *fieldReader) end() error {
	if d.bad || len(d.b) != 0 {
		return fmt.Errorf("%w: layout of a sealed column", ErrDamaged)
	}
	return nil
}

// rowScratch are the buffers of one sealing; pooled, so that a close
// allocates nothing for them.
type rowScratch struct {
	aad   seal.RowAAD
	plain []byte
}

var rowScratches = sync.Pool{New: func() any { return new(rowScratch) }}

// sealAtt fills r.sealed from r.f and the other columns.
func (v *Vault) sealAtt(r *attRow) {
	s := rowScratches.Get().(*rowScratch)
	s.plain = r.f.encode(s.plain[:0])
	r.sealed = v.keys.local().SealRow(make([]byte, 0, len(s.plain)+28), s.plain, r.aad(&s.aad))
	clear(s.plain)
	rowScratches.Put(s)
}

func (v *Vault) sealAsset(r *assetRow) {
	s := rowScratches.Get().(*rowScratch)
	s.plain = r.f.encode(s.plain[:0])
	r.sealed = v.keys.local().SealRow(make([]byte, 0, len(s.plain)+28), s.plain, r.aad(&s.aad))
	clear(s.plain)
	rowScratches.Put(s)
}

// openAtt checks r.sealed against the other columns and fills r.f.
func (v *Vault) openAtt(r *attRow) error {
	s := rowScratches.Get().(*rowScratch)
	defer rowScratches.Put(s)
	plain, err := v.keys.local().OpenRow(s.plain[:0], r.sealed, r.aad(&s.aad))
	if err != nil {
		return fmt.Errorf("%w: row of attachment %s: %w", ErrDamaged, r.id.UUID(), err)
	}
	s.plain = plain
	return r.f.decode(plain)
}

func (v *Vault) openAsset(r *assetRow) error {
	s := rowScratches.Get().(*rowScratch)
	defer rowScratches.Put(s)
	plain, err := v.keys.local().OpenRow(s.plain[:0], r.sealed, r.aad(&s.aad))
	if err != nil {
		return fmt.Errorf("%w: row of asset %s: %w", ErrDamaged, r.id.UUID(), err)
	}
	s.plain = plain
	return r.f.decode(plain)
}

const attColumns = `n,id,asset,encryption_version,epoch,size_bytes,file_name_encrypted,content_type_encrypted,` +
	`wrapped_file_key,blob,blob_len,iv,hdr,sha256,rev,digest,base,dirty,deleted,commit_no,place,sealed`

const (
	sqlInsertAtt  = `INSERT INTO asset_attachments(` + attColumns + `,fresh) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`
	sqlReplaceAtt = `UPDATE asset_attachments SET id=?2,asset=?3,encryption_version=?4,epoch=?5,size_bytes=?6,` +
		`file_name_encrypted=?7,content_type_encrypted=?8,wrapped_file_key=?9,blob=?10,blob_len=?11,iv=?12,hdr=?13,` +
		`sha256=?14,rev=?15,digest=?16,base=?17,dirty=?18,deleted=?19,commit_no=?20,place=?21,sealed=?22,fresh=?23 WHERE n=?1`
	// The same without the content's own columns: fresh stays where it is.
	sqlUpdateAtt = `UPDATE asset_attachments SET asset=?2,epoch=?3,file_name_encrypted=?4,content_type_encrypted=?5,` +
		`wrapped_file_key=?6,dirty=?7,deleted=?8,commit_no=?9,sealed=?10 WHERE n=?1`
	sqlKeepUndo  = `INSERT INTO undo(` + attColumns + `,fresh) SELECT ` + attColumns + `,fresh FROM asset_attachments WHERE n=?`
	sqlDeleteAtt = `DELETE FROM asset_attachments WHERE n=?`
	sqlDoom      = `INSERT INTO doomed(blob,commit_no) VALUES(?,?)`

	sqlInsertAsset = `INSERT INTO assets(n,id,type,epoch,rev,digest,dirty,deleted,commit_no,title,sealed) VALUES(?,?,?,?,?,?,?,?,?,?,?)`
	sqlUpdateAsset = `UPDATE assets SET epoch=?2,rev=?3,digest=?4,dirty=?5,deleted=?6,commit_no=?7,title=?8,sealed=?9 WHERE n=?1`
	sqlDeleteAsset = `DELETE FROM assets WHERE n=?`
)

func (r *attRow) values(no uint64) []driver.Value {
	return []driver.Value{
		r.n, r.id[:], r.asset[:], int64(r.version), int64(r.epoch), r.size, r.name, r.mime, r.wrapped,
		r.blob[:], r.blobLen, r.iv(), r.hdr, nilBytes(r.sha), int64(r.rev), nilBytes(r.digest), nilBytes(r.base),
		int64(r.dirty), r.deleted, int64(no), int64(r.place), r.sealed, nilBytes(r.fresh),
	}
}

// nilBytes keeps NULL apart from an empty blob.
func nilBytes(b []byte) driver.Value {
	if b == nil {
		return nil
	}
	return b
}

// scanAtt reads a row selected with attColumns.
func scanAtt(c []driver.Value, r *attRow) error {
	s := rowScanner{c: c}
	r.n = s.num()
	r.id, r.asset = s.id(), s.id()
	r.version, r.epoch, r.size = uint8(s.num()), uint32(s.num()), s.num()
	r.name, r.mime, r.wrapped = s.blob(), s.blob(), s.blob()
	r.blob, r.blobLen = s.id(), s.num()
	s.blob() // iv: the header holds it
	r.hdr, r.sha = s.blob(), s.blob()
	r.rev, r.digest, r.base = uint64(s.num()), s.blob(), s.blob()
	r.dirty, r.deleted, r.commitNo, r.place = uint8(s.num()), s.num(), uint64(s.num()), int32(s.num())
	r.sealed = s.blob()
	if len(c) > s.i {
		r.fresh = s.blob()
	}
	want := seal.HdrV3
	if r.version == seal.V4 {
		want = seal.HeaderV4
	}
	if s.bad || len(r.hdr) != want || len(r.wrapped) != len(contentRef{}.wrapped) {
		return fmt.Errorf("%w: row %d of attachments has an impossible column", ErrDamaged, r.n)
	}
	return nil
}

func scanAsset(c []driver.Value, r *assetRow) error {
	s := rowScanner{c: c}
	r.n, r.id = s.num(), s.id()
	r.typ, r.epoch, r.rev, r.digest = AssetType(s.num()), uint32(s.num()), uint64(s.num()), s.blob()
	r.dirty, r.deleted, r.commitNo = uint8(s.num()), s.num(), uint64(s.num())
	r.title, r.sealed = s.blob(), s.blob()
	if s.bad {
		return fmt.Errorf("%w: row %d of assets has an impossible column", ErrDamaged, r.n)
	}
	return nil
}

const assetColumns = `n,id,type,epoch,rev,digest,dirty,deleted,commit_no,title,sealed`

// rowScanner takes driver values in order; a wrong type is remembered, since
// the disk is not trusted.
type rowScanner struct {
	c   []driver.Value
	i   int
	bad bool
}

func (s *rowScanner) next() driver.Value {
	v := s.c[s.i]
	s.i++
	return v
}

func (s *rowScanner) num() int64 {
	n, ok := s.next().(int64)
	s.bad = s.bad || !ok
	return n
}

func (s *rowScanner) blob() []byte {
	v := s.next()
	b, ok := v.([]byte)
	s.bad = s.bad || (!ok && v != nil)
	return b
}

func (s *rowScanner) id() (id seal.ID) {
	b := s.blob()
	s.bad = s.bad || len(b) != len(id)
	copy(id[:], b)
	return id
}

func (r *attRow) ref() contentRef {
	ref := contentRef{version: r.version, epoch: r.epoch, size: r.size, sealedLen: r.blobLen, blob: r.blob}
	copy(ref.wrapped[:], r.wrapped)
	copy(ref.hdr[:], r.hdr)
	return ref
}

// setContent copies what a content says of itself into its row. Its hash is not
// known yet.
func (r *attRow) setContent(ref *contentRef) {
	r.sha = nil
	r.version, r.epoch, r.size, r.blob, r.blobLen = ref.version, ref.epoch, ref.size, ref.blob, ref.sealedLen
	r.wrapped = ref.wrapped[:]
	if ref.version == seal.V3 {
		r.hdr = ref.hdr[:seal.HdrV3]
	} else {
		r.hdr = ref.hdr[:]
	}
}
