package seal

// The names of the ops on the wire.
const (
	opPut      = "put"
	opDel      = "del"
	opWrap     = "wrap"
	opSent     = "sent"
	opWant     = "want"
	opAssetPut = "asset-put"
	opAssetDel = "asset-del"
	opDevice   = "device"
)

// AppendOp appends the JSON of an op to dst: the very bytes it has in a batch.
// Error: ErrFormat or ErrNewer for an op that no reader takes.
func AppendOp(dst []byte, op Op) ([]byte, error) {
	if err := checkOp(op); err != nil {
		return dst, err
	}
	w := &jsonWriter{}
	w.op(&PlacedOp{Op: op})
	return append(dst, w.b...), nil
}

// op writes an op as an item of a list, with its place if it has one.
func (w *jsonWriter) op(p *PlacedOp) {
	w.open("", '{')
	w.text("op", p.Op.name())
	p.Op.write(w)
	if !p.Device.IsZero() {
		p.At.write(w, "at")
	}
	if p.Born != nil {
		p.Born.write(w, "born")
	}
	w.close('}')
}

func (*Put) name() string        { return opPut }
func (*Del) name() string        { return opDel }
func (*Wrap) name() string       { return opWrap }
func (*Sent) name() string       { return opSent }
func (*Want) name() string       { return opWant }
func (*AssetPut) name() string   { return opAssetPut }
func (*AssetDel) name() string   { return opAssetDel }
func (*DeviceName) name() string { return opDevice }

func (p *Put) write(w *jsonWriter) {
	w.id("id", p.ID)
	w.number("rev", p.Rev)
	w.open("parent", '{')
	w.text("type", parentNames[p.Parent.Type])
	w.id("id", p.Parent.ID)
	w.close('}')
	w.number("ev", uint64(p.Version))
	w.number("epoch", uint64(p.Epoch))
	w.number("size", p.Size)
	w.bytes("wk", p.WK)
	w.bytes("name", p.Name)
	w.bytes("mime", p.MIME)
	w.open("blob", '{')
	w.hexID("id", p.Blob.ID)
	w.number("len", p.Blob.Len)
	w.bytes("sha256", p.Blob.SHA256[:])
	w.bytes("hdr", p.Blob.Hdr)
	w.close('}')
	w.decimal("mtime", p.Mtime)
	w.number("mode", uint64(p.Mode))
	w.bytes("prev", p.Prev[:])
}

func (d *Del) write(w *jsonWriter) {
	w.id("id", d.ID)
	w.bytes("prev", d.Prev[:])
}

func (r *Wrap) write(w *jsonWriter) {
	w.hexID("blob", r.Blob)
	w.number("epoch", uint64(r.Epoch))
	w.bytes("wk", r.WK)
}

func (s *Sent) write(w *jsonWriter) {
	w.hexID("remote", s.Remote)
	w.blobs(s.Blobs)
}

func (n *Want) write(w *jsonWriter) { w.blobs(n.Blobs) }

func (p *AssetPut) write(w *jsonWriter) {
	w.id("id", p.ID)
	w.number("rev", p.Rev)
	w.text("type", parentNames[p.Type])
	w.decimal("ctime", p.Ctime)
	w.bytes("title", p.Title)
	w.number("epoch", uint64(p.Epoch))
	w.bytes("prev", p.Prev[:])
}

func (d *AssetDel) write(w *jsonWriter) {
	w.id("id", d.ID)
	w.bytes("prev", d.Prev[:])
}

func (d *DeviceName) write(w *jsonWriter) { w.text("name", d.Name) }

func (w *jsonWriter) blobs(ids []ID) {
	w.open("blobs", '[')
	for _, id := range ids {
		w.next()
		w.hexItem(id)
	}
	w.close(']')
}
