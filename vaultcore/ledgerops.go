package vaultcore

import (
	"encoding/binary"
	"fmt"

	"github.com/vaultdrive/vaultdrive/vaultcore/history"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// opKind numbers the ops in the table of that name.
type opKind uint8

const (
	opPut opKind = iota + 1
	opDel
	opAssetPut
	opAssetDel
	opDevice
	opBirth // no op: what a checkpoint says of an id whose first record it dropped
)

const tableOps = "ops"

// opRow is an accepted op as the database keeps it: what the history needs of
// it. Ops the history does not need have no row.
type opRow struct {
	n      int64
	device seal.ID
	seq    uint64
	idx    int
	kind   opKind
	digest []byte // of a record

	hlc seal.HLC
	put history.Record // fields by kind: of assets Title is Name and Ctime is Mtime
}

func (o *opRow) aad(a *seal.RowAAD) []byte {
	a.Reset(tableOps)
	a.Bytes(o.device[:])
	a.Uint(o.seq)
	a.Uint(uint64(o.idx))
	a.Uint(uint64(o.kind))
	a.Bytes(o.digest)
	return a.Sum()
}

// insertOp writes an op's row.
func (v *Vault) insertOp(t *txn, o *opRow) error {
	r := &o.put
	b := binary.BigEndian.AppendUint64(nil, uint64(o.hlc))
	b = append(b, r.ID[:]...)
	b = append(b, r.Prev[:]...)
	b = binary.BigEndian.AppendUint64(b, r.Rev)
	b = append(b, r.Parent.Type)
	b = append(b, r.Parent.ID[:]...)
	b = binary.BigEndian.AppendUint32(b, r.Mode)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Mtime))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Size))
	b = append(b, r.Blob[:]...)
	b = appendString16(b, r.Name)
	b = appendString16(b, r.MIME)
	var a seal.RowAAD
	sealed := v.keys.local().SealRow(nil, b, o.aad(&a))
	clear(b)
	return t.exec("INSERT INTO ops(n,device,seq,idx,kind,digest,sealed) VALUES(?,?,?,?,?,?,?)",
		o.n, o.device[:], int64(o.seq), int64(o.idx), int64(o.kind), nilBytes(o.digest), sealed)
}

// openOp fills what insertOp sealed.
func (v *Vault) openOp(o *opRow, sealed []byte) error {
	var a seal.RowAAD
	b, err := v.keys.local().OpenRow(nil, sealed, o.aad(&a))
	if err != nil {
		return fmt.Errorf("%w: op %d of batch %d of device %s: %w", ErrDamaged, o.idx, o.seq, o.device, err)
	}
	d, r := fieldReader{b: b}, &o.put
	o.hlc = seal.HLC(d.u64())
	copy(r.ID[:], d.take(16))
	copy(r.Prev[:], d.take(32))
	r.Rev, r.Parent.Type = d.u64(), d.u8()
	copy(r.Parent.ID[:], d.take(16))
	r.Mode, r.Mtime, r.Size = d.u32(), int64(d.u64()), int64(d.u64())
	copy(r.Blob[:], d.take(16))
	r.Name, r.MIME = d.str16(), d.str16()
	copy(r.Digest[:], o.digest)
	return d.end()
}

// addTo enters the op into what a history takes.
func (o *opRow) addTo(ops *history.Ops) {
	r := o.put
	r.At = history.At{Device: o.device, Seq: o.seq, HLC: history.HLC(o.hlc)}
	del := history.Del{At: r.At, ID: r.ID, Prev: r.Prev}
	switch o.kind {
	case opPut:
		ops.Records = append(ops.Records, r)
	case opDel:
		ops.Dels = append(ops.Dels, del)
	case opAssetPut:
		ops.Assets = append(ops.Assets, history.AssetRecord{
			At: r.At, ID: r.ID, Digest: r.Digest, Prev: r.Prev, Rev: r.Rev, Type: r.Parent.Type, Ctime: r.Mtime, Title: r.Name,
		})
	case opAssetDel:
		ops.AssetDels = append(ops.AssetDels, del)
	case opDevice:
		ops.Devices = append(ops.Devices, history.DeviceName{At: r.At, Name: r.Name})
	case opBirth:
		ops.Births = append(ops.Births, history.Birth{At: r.At, ID: r.ID, Kind: r.Parent.Type})
	}
}

func historyOps(rows []*opRow) (ops history.Ops) {
	for _, o := range rows {
		o.addTo(&ops)
	}
	return ops
}

// opRowOf makes the row of an op of a batch; false for one the history does not
// need. What no key opens gets an empty name, which is shown as one of its own.
func (v *Vault) opRowOf(b *seal.Batch, hlc seal.HLC, idx int, op seal.Op) (*opRow, bool) {
	return v.opRowAt(&seal.At{Device: b.Device, Seq: b.Seq, Index: idx, HLC: hlc}, op)
}

func (v *Vault) opRowAt(at *seal.At, op seal.Op) (*opRow, bool) {
	o := &opRow{device: at.Device, seq: at.Seq, idx: at.Index, hlc: at.HLC}
	r, vault := &o.put, v.keys.vaultID()
	switch op := op.(type) {
	case *seal.Put:
		o.kind = opPut
		*r = history.Record{
			ID: op.ID, Digest: op.Digest(vault), Prev: op.Prev, Rev: op.Rev, Parent: history.Parent(op.Parent),
			Mode: op.Mode, Mtime: op.Mtime, Size: int64(op.Size), Blob: op.Blob.ID,
		}
		r.Name, r.MIME = v.openTexts(op)
	case *seal.Del:
		o.kind, r.ID, r.Prev = opDel, op.ID, op.Prev
	case *seal.AssetPut:
		o.kind = opAssetPut
		*r = history.Record{ID: op.ID, Digest: op.Digest(vault), Prev: op.Prev, Rev: op.Rev, Mtime: op.Ctime}
		r.Parent.Type = op.Type
		r.Name, _ = v.keys.openTitle(op.Epoch, op.ID, op.Title)
	case *seal.AssetDel:
		o.kind, r.ID, r.Prev = opAssetDel, op.ID, op.Prev
	case *seal.DeviceName:
		o.kind, r.Name = opDevice, op.Name
	default:
		return nil, false
	}
	if o.kind == opPut || o.kind == opAssetPut {
		o.digest = r.Digest[:]
	}
	return o, true
}

func (v *Vault) openTexts(p *seal.Put) (name, mime string) {
	key, err := v.keys.unwrap(p.Epoch, p.WK)
	if err != nil {
		return "", ""
	}
	defer key.Wipe()
	name, _ = seal.OpenField(int(p.Version), &key, v.keys.vaultID(), p.ID, seal.FieldName, p.Name)
	mime, _ = seal.OpenField(int(p.Version), &key, v.keys.vaultID(), p.ID, seal.FieldMIME, p.MIME)
	return name, mime
}

// findPut gives the op that brought a record, from the batch or checkpoint it
// came in.
func (l *ledger) findPut(digest history.Digest) (*seal.Put, error) {
	var device seal.ID
	var seq uint64
	idx := -1
	err := l.read("SELECT device,seq,idx FROM ops WHERE digest=? LIMIT 1", func(s *rowScanner) {
		device, seq, idx = s.id(), uint64(s.num()), int(s.num())
	}, digest[:])
	if err != nil {
		return nil, err
	}
	if idx < 0 {
		return nil, fmt.Errorf("%w: record %x", ErrNotFound, digest[:4])
	}
	op, err := l.opAt(device, seq, idx)
	if err != nil {
		return nil, err
	}
	if p, ok := op.(*seal.Put); ok {
		return p, nil
	}
	return nil, fmt.Errorf("%w: record %x", ErrDamaged, digest[:4])
}

const maxBodies = 8

// body opens a batch of the database, or takes one opened lately.
func (l *ledger) body(frame []byte) (*seal.Body, error) {
	b, err := seal.ParseBatch(l.v.keys.vaultID(), frame)
	if err != nil {
		return nil, err
	}
	if body := l.bodies[b.Hash]; body != nil {
		return body, nil
	}
	body, err := l.openBody(b)
	if err != nil {
		return nil, err
	}
	if len(l.bodies) >= maxBodies {
		clear(l.bodies)
	}
	l.bodies[b.Hash] = body
	return body, nil
}

func (l *ledger) openBody(b *seal.Batch) (body *seal.Body, err error) {
	err = l.v.keys.withEpoch(b.Epoch, func(k *seal.EpochKeys) (err error) {
		body, err = b.OpenBody(k)
		return err
	})
	return body, err
}
