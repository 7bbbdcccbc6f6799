package seal

import (
	"fmt"
	"math"
	"strconv"
)

// parentNames are the kinds of parent as text; each stands at its own number.
var parentNames = [...]string{ParentPassword: "password", ParentNote: "note", ParentItem: "item"}

// parseOp takes an op, with its place in a checkpoint if that is not nil. Errors:
// ErrNewer for an op or a format nobody knows yet, else ErrFormat and the classes
// of what is in it.
func parseOp(f *fields, place *PlacedOp) (Op, error) {
	op := f.op(f.text("op"))
	if place != nil {
		place.At = f.at("at")
		if f.has("born") {
			born := f.at("born")
			place.Born = &born
		}
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
