package seal

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"fmt"
	"maps"
	"slices"
)

// A checkpoint stands for the batches up to its heads: those ops of theirs that
// still matter, each with its place. Its parts are frames like batches, numbered
// from 1 and chained by hash; the last one holds what is said of the whole, and
// its signature, through the chain, is one over all parts.

// At is the place of an op in the log.
type At struct {
	Device ID // the author
	Seq    uint64
	Index  int // in the ops of that batch, from 0
	HLC    HLC // of that batch
}

// Compare orders places by device, batch and index: the order of a checkpoint.
func (a *At) Compare(b *At) int {
	if c := bytes.Compare(a.Device[:], b.Device[:]); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Index, b.Index))
}

func (a *At) check() error {
	if a.Device.IsZero() || a.Seq < 1 || a.Seq > maxJSONInt || a.Index < 0 || a.Index >= MaxOps {
		return fmt.Errorf("%w: place of an op", ErrFormat)
	}
	return nil
}

// write adds "at":[device,seq,index,hlc], or the same under another key.
func (a *At) write(w *jsonWriter, key string) {
	w.open(key, '[')
	w.next()
	w.quote(a.Device.UUID())
	w.b = fmt.Appendf(w.b, ",%d,%d,", a.Seq, a.Index)
	w.quote(a.HLC.String())
	w.close(']')
}

// PlacedOp is an op of a checkpoint.
type PlacedOp struct {
	At
	Op Op
	// Born, of a Put or AssetPut whose id has older records that were dropped, is
	// the place of the first of them; its index is not kept and 0. Else nil.
	Born *At
}

func (p *PlacedOp) check() error {
	if err := p.At.check(); err != nil || p.Born == nil {
		return err
	}
	if !isRecord(p.Op) || p.Born.Index != 0 || p.Born.HLC > p.HLC {
		return fmt.Errorf("%w: birth in a checkpoint", ErrFormat)
	}
	return p.Born.check()
}

func isRecord(op Op) bool {
	switch op.(type) {
	case *Put, *AssetPut:
		return true
	}
	return false
}

// Chain is where a device's chain stands at the head a checkpoint names: what
// the next batch of it is held against.
type Chain struct {
	Head
	Epoch uint32
	HLC   HLC
	Seen  map[ID]Head // all that its batches have named
}

// Checkpoint is what the last part says of the whole.
type Checkpoint struct {
	Parts uint64       // parts before the last
	Heads map[ID]Chain // the batches covered, the author's own included
	HLC   HLC          // the greatest of them
	State [32]byte     // of the vault they give, see State
}

// CheckpointWriter seals a checkpoint part by part, holding one part at a time.
type CheckpointWriter struct {
	keys   *EpochKeys
	signer *DeviceSigner
	cover  cover
	ops    jsonWriter
	seq    uint64 // of the last part sealed
	prev   [32]byte
}

// NewCheckpointWriter begins a checkpoint by the signer, in the vault and epoch
// of the keys.
func NewCheckpointWriter(keys *EpochKeys, s *DeviceSigner) *CheckpointWriter {
	return &CheckpointWriter{keys: keys, signer: s}
}

// Add appends an op; places come in ascending order. It returns a part when one
// is full, else nil. Errors: ErrFormat, ErrNewer; the checkpoint cannot go on then.
func (w *CheckpointWriter) Add(op PlacedOp) (*Batch, error) {
	if err := checkOp(op.Op); err != nil {
		return nil, err
	}
	if err := w.cover.add(&op); err != nil {
		return nil, err
	}
	w.ops.op(&op)
	if len(w.ops.b) < PartTarget {
		return nil, nil
	}
	return w.seal(nil)
}

// Flush seals what was added since the last part, if that is much: then the last
// part, which everybody reads, is small. nil if it is not.
func (w *CheckpointWriter) Flush() (*Batch, error) {
	if len(w.ops.b) < lastTarget {
		return nil, nil
	}
	return w.seal(nil)
}

// Finish seals the last part. heads, hlc and state are those of Checkpoint; every
// op added lies within them. Error: ErrFormat.
func (w *CheckpointWriter) Finish(heads map[ID]Chain, hlc HLC, state [32]byte) (*Batch, error) {
	c := &Checkpoint{Parts: w.seq, Heads: heads, HLC: hlc, State: state}
	if err := w.cover.check(c, w.signer.device); err != nil {
		return nil, err
	}
	return w.seal(c)
}

// seal seals what was added since the last part; c makes it the last.
func (w *CheckpointWriter) seal(c *Checkpoint) (*Batch, error) {
	part, err := sealFrame(w.keys, w.signer, flagCheckpoint, w.seq+1, w.prev, w.body(c))
	if err != nil {
		return nil, err
	}
	w.ops.b, w.seq, w.prev = w.ops.b[:0], part.Seq, part.Hash
	return part, nil
}

// body writes what was added since the last part.
func (w *CheckpointWriter) body(c *Checkpoint) []byte {
	body := &jsonWriter{b: make([]byte, 0, len(w.ops.b)+1<<10)}
	body.open("", '{')
	body.number("v", bodyVersion)
	body.open("ops", '[')
	body.b = append(body.b, w.ops.b...)
	body.close(']')
	if c != nil {
		body.number("parts", c.Parts)
		body.chains("heads", c.Heads)
		body.text("hlc", c.HLC.String())
		body.bytes("state", c.State[:])
	}
	body.close('}')
	return body.b
}

// CheckpointReader opens a checkpoint part by part. What it returned before Last
// has succeeded is not yet known to belong together: a caller applies all or
// nothing.
type CheckpointReader struct {
	keys   *EpochKeys
	device ID
	pk     ed25519.PublicKey
	cover  cover
	head   Head
}

// NewCheckpointReader reads a checkpoint by the device with the roster's key pk,
// under the keys of the epoch its frames name.
func NewCheckpointReader(keys *EpochKeys, device ID, pk ed25519.PublicKey) *CheckpointReader {
	return &CheckpointReader{keys: keys, device: device, pk: pk}
}

// Part opens the next part but the last. Errors: ErrFormat (also for parts that
// do not belong together), ErrSignature, ErrAuth, ErrNewer.
func (r *CheckpointReader) Part(frame []byte) ([]PlacedOp, error) {
	ops, _, err := r.next(frame, false)
	return ops, err
}

// Last opens the last part and checks what it says against all parts. Errors:
// those of Part.
func (r *CheckpointReader) Last(frame []byte) (*Checkpoint, []PlacedOp, error) {
	ops, c, err := r.next(frame, true)
	if err != nil {
		return nil, nil, err
	}
	if c.Parts != r.head.Seq-1 {
		return nil, nil, fmt.Errorf("%w: checkpoint of %d parts ends at part %d", ErrFormat, c.Parts, r.head.Seq)
	}
	if err := r.cover.check(c, r.device); err != nil {
		return nil, nil, err
	}
	return c, ops, nil
}

func (r *CheckpointReader) next(frame []byte, last bool) ([]PlacedOp, *Checkpoint, error) {
	b, err := ParsePart(r.keys.vault, frame)
	if err != nil {
		return nil, nil, err
	}
	if b.Device != r.device {
		return nil, nil, fmt.Errorf("%w: checkpoint part of device %s", ErrFormat, b.Device)
	}
	// Parts that do not belong together are no fork: whoever stores them can mix
	// them, and no device has signed anything against its own word.
	if b.Seq != r.head.Seq+1 || b.Prev != r.head.Hash {
		return nil, nil, fmt.Errorf("%w: checkpoint part %d does not follow part %d", ErrFormat, b.Seq, r.head.Seq)
	}
	if err := b.VerifySignature(r.pk); err != nil {
		return nil, nil, fmt.Errorf("checkpoint: %w", err)
	}
	plain, err := b.Open(r.keys)
	if err != nil {
		return nil, nil, fmt.Errorf("checkpoint: %w", err)
	}
	ops, c, err := parsePart(plain, last)
	if err != nil {
		return nil, nil, fmt.Errorf("checkpoint part %d: %w", b.Seq, err)
	}
	if err := r.cover.addAll(ops); err != nil {
		return nil, nil, err
	}
	r.head = b.Head()
	return ops, c, nil
}

// parsePart reads the body of a part strictly.
func parsePart(plain []byte, last bool) ([]PlacedOp, *Checkpoint, error) {
	f, err := parseBodyObject(plain)
	if err != nil {
		return nil, nil, asFormatError(err)
	}
	var ops []PlacedOp
	for _, v := range f.list("ops") {
		var p PlacedOp
		if p.Op, err = parseOp(newFields(v), &p); err != nil {
			return nil, nil, asFormatError(err)
		}
		ops = append(ops, p)
	}
	var c *Checkpoint
	if last {
		c = &Checkpoint{
			Parts: f.number("parts", 0, maxJSONInt), Heads: f.chains("heads"), HLC: f.hlc("hlc"), State: f.hash("state"),
		}
	}
	if err := f.end(); err != nil {
		return nil, nil, asFormatError(err)
	}
	return ops, c, nil
}

// cover follows the places of a checkpoint: what order they come in, and how far
// into which chains they reach.
type cover struct {
	last  At
	heads map[ID]uint64 // the highest batch of each author
	hlc   HLC
}

func (c *cover) add(op *PlacedOp) error {
	if err := op.check(); err != nil {
		return err
	}
	at := &op.At
	if at.Compare(&c.last) <= 0 {
		return fmt.Errorf("%w: ops of a checkpoint out of order", ErrFormat)
	}
	if c.heads == nil {
		c.heads = map[ID]uint64{}
	}
	c.heads[at.Device] = max(c.heads[at.Device], at.Seq)
	if b := op.Born; b != nil {
		c.heads[b.Device] = max(c.heads[b.Device], b.Seq)
	}
	if len(c.heads) > maxDevices {
		return fmt.Errorf("%w: checkpoint of %d devices", ErrFormat, len(c.heads))
	}
	c.last, c.hlc = *at, max(c.hlc, at.HLC)
	return nil
}

func (c *cover) addAll(ops []PlacedOp) error {
	for i := range ops {
		if err := c.add(&ops[i]); err != nil {
			return err
		}
	}
	return nil
}

// check compares the places with what the checkpoint says it covers.
func (c *cover) check(all *Checkpoint, author ID) error {
	if err := checkChains(all.Heads); err != nil {
		return err
	}
	if _, ok := all.Heads[author]; !ok {
		return fmt.Errorf("%w: checkpoint without its author's head", ErrFormat)
	}
	for id := range maps.Keys(c.heads) {
		if c.heads[id] > all.Heads[id].Seq {
			return fmt.Errorf("%w: checkpoint reaches beyond its head of device %s", ErrFormat, id)
		}
	}
	for _, h := range all.Heads {
		c.hlc = max(c.hlc, h.HLC)
	}
	if c.hlc > all.HLC {
		return fmt.Errorf("%w: checkpoint reaches beyond its clock", ErrFormat)
	}
	return nil
}

func checkChains(chains map[ID]Chain) error {
	if len(chains) > maxDevices {
		return fmt.Errorf("%w: heads of %d devices", ErrFormat, len(chains))
	}
	for id, c := range chains {
		if err := checkHeads(map[ID]Head{id: c.Head}); err != nil {
			return err
		}
		if err := checkHeads(c.Seen); err != nil {
			return err
		}
		if _, own := c.Seen[id]; own || c.Epoch < 1 {
			return fmt.Errorf("%w: chain of a device", ErrFormat)
		}
	}
	return nil
}

// chains writes the object from device to chain, in the order of the ids.
func (w *jsonWriter) chains(key string, chains map[ID]Chain) {
	w.open(key, '{')
	for _, id := range slices.SortedFunc(maps.Keys(chains), compareIDs) {
		c := chains[id]
		w.open(id.UUID(), '{')
		w.number("seq", c.Seq)
		w.bytes("hash", c.Hash[:])
		w.number("epoch", uint64(c.Epoch))
		w.text("hlc", c.HLC.String())
		w.heads("seen", c.Seen)
		w.close('}')
	}
	w.close('}')
}

// chains takes an object from device to chain; nil when it is empty.
func (f *fields) chains(key string) map[ID]Chain {
	o := f.object(key)
	if o.err == nil && len(o.m) > maxDevices {
		o.fail(fmt.Errorf("%w: heads of %d devices", ErrFormat, len(o.m)))
		o.m = nil
	}
	var chains map[ID]Chain
	for text := range maps.Clone(o.m) {
		id, err := ParseUUID(text)
		o.check(err)
		e := o.object(text)
		c := Chain{
			Head:  Head{Seq: e.number("seq", 1, maxJSONInt), Hash: e.hash("hash")},
			Epoch: e.epoch("epoch"), HLC: e.hlc("hlc"), Seen: e.heads("seen"),
		}
		o.check(e.end())
		if chains == nil {
			chains = make(map[ID]Chain, len(o.m)+1)
		}
		chains[id] = c
	}
	f.check(o.end())
	f.check(checkChains(chains))
	return chains
}

// OpenCheckpointEnd opens the last part alone: what it says is signed, whether
// the other parts belong to it is seen by reading them all. Errors: those of
// CheckpointReader.
func OpenCheckpointEnd(keys *EpochKeys, pk ed25519.PublicKey, b *Batch) (*Checkpoint, error) {
	if !b.Checkpoint {
		return nil, fmt.Errorf("%w: batch in place of a checkpoint part", ErrFormat)
	}
	if err := b.VerifySignature(pk); err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	plain, err := b.Open(keys)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	ops, c, err := parsePart(plain, true)
	if err != nil {
		return nil, fmt.Errorf("checkpoint part %d: %w", b.Seq, err)
	}
	if c.Parts != b.Seq-1 {
		return nil, fmt.Errorf("%w: checkpoint of %d parts ends at part %d", ErrFormat, c.Parts, b.Seq)
	}
	var some cover
	if err := some.addAll(ops); err != nil {
		return nil, err
	}
	return c, some.check(c, b.Device)
}

// OpenPart opens any part that was verified before. Errors: ErrAuth, ErrFormat,
// ErrNewer.
func OpenPart(keys *EpochKeys, b *Batch, last bool) ([]PlacedOp, error) {
	plain, err := b.Open(keys)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	ops, _, err := parsePart(plain, last)
	return ops, err
}
