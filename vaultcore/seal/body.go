package seal

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Body is what a batch says.
type Body struct {
	HLC HLC
	// Seen names the batches of others that were applied: the entries changed
	// since the author's last batch, all of them in its first of an epoch.
	Seen map[ID]Head
	Ops  []Op // at most MaxOps
}

// Head names a batch of a chain, or the end of one. The zero value is the empty
// chain.
type Head struct {
	Seq  uint64
	Hash [32]byte
}

// Encode writes the body; equal bodies have equal bytes. Errors: ErrFormat for
// what ParseBody would refuse.
func (b *Body) Encode() ([]byte, error) {
	if err := b.check(); err != nil {
		return nil, err
	}
	w := &jsonWriter{}
	w.open("", '{')
	w.number("v", bodyVersion)
	w.text("hlc", b.HLC.String())
	w.heads("seen", b.Seen)
	w.open("ops", '[')
	for _, op := range b.Ops {
		w.op(&PlacedOp{Op: op})
	}
	w.close(']')
	w.close('}')
	return w.b, nil
}

func (b *Body) check() error {
	if len(b.Ops) > MaxOps {
		return fmt.Errorf("%w: %d ops", ErrFormat, len(b.Ops))
	}
	for _, op := range b.Ops {
		if err := checkOp(op); err != nil {
			return err
		}
	}
	return checkHeads(b.Seen)
}

func checkHeads(heads map[ID]Head) error {
	if len(heads) > maxDevices {
		return fmt.Errorf("%w: heads of %d devices", ErrFormat, len(heads))
	}
	for id, h := range heads {
		if id.IsZero() || h.Seq < 1 || h.Seq > maxJSONInt {
			return fmt.Errorf("%w: head of a device", ErrFormat)
		}
	}
	return nil
}

// heads writes the object from device to head, in the order of the ids.
func (w *jsonWriter) heads(key string, heads map[ID]Head) {
	w.open(key, '{')
	for _, id := range slices.SortedFunc(maps.Keys(heads), compareIDs) {
		h := heads[id]
		w.open(id.UUID(), '{')
		w.number("seq", h.Seq)
		w.bytes("hash", h.Hash[:])
		w.close('}')
	}
	w.close('}')
}

func compareIDs(a, b ID) int { return bytes.Compare(a[:], b[:]) }

// ParseBody reads the body of a batch strictly. Errors: ErrNewer for a version
// or an op of a later program (hold the chain), else ErrFormat.
func ParseBody(plain []byte) (*Body, error) {
	f, err := parseBodyObject(plain)
	if err != nil {
		return nil, asFormatError(err)
	}
	b := &Body{HLC: f.hlc("hlc")}
	b.Seen = f.heads("seen")
	list := f.list("ops")
	if len(list) > MaxOps {
		f.fail(fmt.Errorf("%w: %d ops", ErrFormat, len(list)))
		list = nil
	}
	for _, v := range list {
		op, err := parseOp(newFields(v), nil)
		f.check(err)
		b.Ops = append(b.Ops, op)
	}
	if err := f.end(); err != nil {
		return nil, asFormatError(err)
	}
	return b, nil
}

// parseBodyObject reads the JSON and its version.
func parseBodyObject(plain []byte) (*fields, error) {
	if len(plain) > MaxBatch {
		return nil, fmt.Errorf("%w: body of %d bytes", ErrFormat, len(plain))
	}
	v, err := parseJSON(plain)
	if err != nil {
		return nil, err
	}
	f := newFields(v)
	if n := f.number("v", 1, maxJSONInt); f.err == nil && n != bodyVersion {
		f.fail(fmt.Errorf("%w: body version %d", ErrNewer, n))
	}
	return f, f.err
}

// heads takes an object from device to head; nil when it is empty.
func (f *fields) heads(key string) map[ID]Head {
	o := f.object(key)
	if o.err == nil && len(o.m) > maxDevices {
		o.fail(fmt.Errorf("%w: heads of %d devices", ErrFormat, len(o.m)))
		o.m = nil
	}
	var heads map[ID]Head
	for text := range maps.Clone(o.m) {
		id, err := ParseUUID(text)
		o.check(err)
		e := o.object(text)
		h := Head{Seq: e.number("seq", 1, maxJSONInt), Hash: e.hash("hash")}
		o.check(e.end())
		if heads == nil {
			heads = make(map[ID]Head, len(o.m)+1)
		}
		heads[id] = h
	}
	f.check(o.end())
	f.check(checkHeads(heads))
	return heads
}

// asFormatError gives everything that is wrong with a body the class the page
// names, but for what a newer program can read.
func asFormatError(err error) error {
	if err == nil || errors.Is(err, ErrFormat) || errors.Is(err, ErrNewer) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrFormat, err)
}
