package seal

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// parentNames are the kinds of parent as text; each stands at its own number.
var parentNames = [...]string{ParentPassword: "password", ParentNote: "note", ParentItem: "item"}

// parseOp takes an op, with its place in a checkpoint if at is not nil. Errors:
// ErrNewer for an op or a format nobody knows yet, else ErrFormat and the classes
// of what is in it.
func parseOp(f *fields, at *At) (Op, error) {
	op := f.op(f.text("op"))
	if at != nil {
		*at = f.at("at")
	}
	if err := f.end(); err != nil {
		return nil, err
	}
	return op, op.check()
}

// op takes the fields of the op of that name.
func (f *fields) op(name string) Op {
	switch name {
	case opPut:
		return f.put()
	case opDel:
		return &Del{ID: f.id("id"), Prev: f.hash("prev")}
	case opWrap:
		return &Wrap{Blob: f.hexID("blob"), Epoch: f.epoch("epoch"), WK: f.bytes("wk", WrappedKeySize)}
	case opSent:
		return &Sent{Remote: f.hexID("remote"), Blobs: f.blobs("blobs")}
	case opWant:
		return &Want{Blobs: f.blobs("blobs")}
	case opAssetPut:
		return f.assetPut()
	case opAssetDel:
		return &AssetDel{ID: f.id("id"), Prev: f.hash("prev")}
	case opDevice:
		return &DeviceName{Name: f.text("name")}
	}
	f.fail(fmt.Errorf("%w: unknown op", ErrNewer))
	return nil
}

func (f *fields) put() *Put {
	p := &Put{ID: f.id("id"), Rev: f.number("rev", 1, maxJSONInt)}
	parent := f.object("parent")
	p.Parent = Parent{Type: parent.parentType("type"), ID: parent.id("id")}
	f.check(parent.end())
	p.Version = f.version("ev")
	p.Epoch = f.epoch("epoch")
	p.Size = f.number("size", 0, MaxV4)
	p.WK = f.bytes("wk", WrappedKeySize)
	p.Name = f.bytes("name", -1)
	p.MIME = f.bytes("mime", -1)
	blob := f.object("blob")
	p.Blob = Blob{
		ID: blob.hexID("id"), Len: blob.number("len", 0, maxJSONInt),
		SHA256: blob.hash("sha256"), Hdr: blob.bytes("hdr", -1),
	}
	f.check(blob.end())
	p.Mtime = f.decimal("mtime")
	p.Mode = uint32(f.number("mode", 0, MaxMode))
	p.Prev = f.hash("prev")
	return p
}

func (f *fields) assetPut() *AssetPut {
	return &AssetPut{
		ID: f.id("id"), Rev: f.number("rev", 1, maxJSONInt), Type: f.parentType("type"), Ctime: f.decimal("ctime"),
		Title: f.bytes("title", -1), Epoch: f.epoch("epoch"), Prev: f.hash("prev"),
	}
}

// version takes an attachment format; those to come are no fault of the writer.
func (f *fields) version(key string) uint8 {
	n := f.number(key, V3, maxJSONInt)
	if f.err == nil && n > V4 {
		f.fail(fmt.Errorf("%w: %w: %d", ErrNewer, ErrVersion, n))
	}
	return uint8(min(n, math.MaxUint8))
}

func (f *fields) epoch(key string) uint32 { return uint32(f.number(key, 1, math.MaxUint32)) }

func (f *fields) parentType(key string) uint8 {
	switch f.text(key) {
	case parentNames[ParentPassword]:
		return ParentPassword
	case parentNames[ParentNote]:
		return ParentNote
	case parentNames[ParentItem]:
		return ParentItem
	}
	f.fail(fmt.Errorf("%w: kind of parent", ErrFormat))
	return 0
}

func (f *fields) hash(key string) [32]byte { return [32]byte(f.bytes(key, 32)) }

// hexID takes an ID of 32 hexadecimal digits.
func (f *fields) hexID(key string) ID {
	id, err := ParseHex(f.text(key))
	f.check(err)
	return id
}

func (f *fields) hlc(key string) HLC {
	h, err := ParseHLC(f.text(key))
	f.check(err)
	return h
}

// decimal takes a signed integer of 64 bits from its shortest text.
func (f *fields) decimal(key string) int64 {
	s := f.text(key)
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != s {
		f.fail(fmt.Errorf("%w: JSON key %q", ErrFormat, key))
	}
	return n
}

func (f *fields) blobs(key string) []ID {
	list := f.list(key)
	if len(list) > MaxBlobs {
		f.fail(fmt.Errorf("%w: %d blobs in an op", ErrFormat, len(list)))
		return nil
	}
	var ids []ID
	for _, v := range list {
		s, _ := v.(string) // anything else is no ID
		id, err := ParseHex(s)
		f.check(err)
		ids = append(ids, id)
	}
	return ids
}

// at takes [device, seq, index, hlc].
func (f *fields) at(key string) At {
	list := f.list(key)
	if len(list) != 4 {
		f.fail(fmt.Errorf("%w: place of an op", ErrFormat))
		return At{}
	}
	e := &fields{m: map[string]any{"device": list[0], "seq": list[1], "index": list[2], "hlc": list[3]}}
	at := At{
		Device: e.id("device"), Seq: e.number("seq", 1, maxJSONInt),
		Index: int(e.number("index", 0, MaxOps-1)), HLC: e.hlc("hlc"),
	}
	f.check(e.end())
	return at
}

// checkOp holds for what is written and for what is read.
func checkOp(op Op) error {
	if op == nil {
		return fmt.Errorf("%w: no op", ErrFormat)
	}
	return asFormatError(op.check())
}

func (p *Put) check() error {
	if err := checkRevision(opPut, p.ID, p.Rev, p.Epoch, p.Parent.Type, p.Prev); err != nil {
		return err
	}
	if p.Version > V4 {
		return fmt.Errorf("%w: %w: %d", ErrNewer, ErrVersion, p.Version)
	}
	if p.Size > MaxV4 {
		return fmt.Errorf("%w: put of %d bytes", ErrFormat, p.Size)
	}
	sealed, err := SealedSize(int(p.Version), int64(p.Size))
	switch {
	case err != nil:
		return err
	case p.Parent.ID.IsZero() || p.Blob.ID.IsZero():
		return fmt.Errorf("%w: put names no parent or blob", ErrFormat)
	case p.Blob.Len != uint64(sealed):
		return fmt.Errorf("%w: %w: blob of %d bytes for %d", ErrFormat, ErrSize, p.Blob.Len, p.Size)
	case p.Mode > MaxMode:
		return fmt.Errorf("%w: mode %o", ErrFormat, p.Mode)
	}
	if err := checkWires(p.WK, wire{p.Name, MaxName}, wire{p.MIME, MaxMIME}); err != nil {
		return err
	}
	if p.Version == V4 {
		return checkHeaderV4(p.Blob.Hdr)
	}
	if len(p.Blob.Hdr) != HdrV3 {
		return fmt.Errorf("%w: hdr of %d bytes", ErrFormat, len(p.Blob.Hdr))
	}
	return nil
}

// checkRevision holds the rules that records of attachments and assets share.
func checkRevision(what string, id ID, rev uint64, epoch uint32, kind uint8, prev [32]byte) error {
	switch {
	case id.IsZero():
		return fmt.Errorf("%w: %s without id", ErrFormat, what)
	case rev < 1 || rev > maxJSONInt || (rev == 1) != (prev == [32]byte{}):
		return fmt.Errorf("%w: revision %d of a %s", ErrFormat, rev, what)
	case epoch < 1:
		return fmt.Errorf("%w: %s of epoch 0", ErrFormat, what)
	case kind < ParentPassword || kind > ParentItem:
		return fmt.Errorf("%w: kind of parent", ErrFormat)
	}
	return nil
}

// wire is a sealed text and the most bytes it may have before sealing.
type wire struct {
	b   []byte
	max int
}

func checkWires(wk []byte, texts ...wire) error {
	if len(wk) != WrappedKeySize {
		return fmt.Errorf("%w: wrapped key of %d bytes", ErrFormat, len(wk))
	}
	for _, t := range texts {
		if len(t.b) < Overhead || len(t.b) > t.max+Overhead {
			return fmt.Errorf("%w: sealed text of %d bytes", ErrFormat, len(t.b))
		}
	}
	return nil
}

func (d *Del) check() error { return checkDel(opDel, d.ID, d.Prev) }

func (d *AssetDel) check() error { return checkDel(opAssetDel, d.ID, d.Prev) }

func checkDel(what string, id ID, prev [32]byte) error {
	if id.IsZero() || prev == [32]byte{} {
		return fmt.Errorf("%w: %s of nothing", ErrFormat, what)
	}
	return nil
}

func (r *Wrap) check() error {
	if r.Blob.IsZero() || r.Epoch < 1 {
		return fmt.Errorf("%w: wrap of nothing", ErrFormat)
	}
	return checkWires(r.WK)
}

func (s *Sent) check() error {
	if s.Remote.IsZero() {
		return fmt.Errorf("%w: sent to nowhere", ErrFormat)
	}
	return checkBlobs(s.Blobs)
}

func (n *Want) check() error { return checkBlobs(n.Blobs) }

func checkBlobs(ids []ID) error {
	if len(ids) > MaxBlobs {
		return fmt.Errorf("%w: %d blobs in an op", ErrFormat, len(ids))
	}
	for _, id := range ids {
		if id.IsZero() {
			return fmt.Errorf("%w: zero blob id", ErrFormat)
		}
	}
	return nil
}

func (p *AssetPut) check() error {
	if err := checkRevision(opAssetPut, p.ID, p.Rev, p.Epoch, p.Type, p.Prev); err != nil {
		return err
	}
	if len(p.Title) < Overhead || len(p.Title) > MaxTitle+Overhead {
		return fmt.Errorf("%w: sealed title of %d bytes", ErrFormat, len(p.Title))
	}
	return nil
}

func (d *DeviceName) check() error {
	if d.Name == "" || len(d.Name) > MaxDeviceName || !utf8.ValidString(d.Name) {
		return fmt.Errorf("%w: device name of %d bytes", ErrFormat, len(d.Name))
	}
	if strings.ContainsFunc(d.Name, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '/' }) {
		return fmt.Errorf("%w: device name", ErrFormat)
	}
	return nil
}
