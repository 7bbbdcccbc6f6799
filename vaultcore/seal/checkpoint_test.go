package seal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// sampleCheckpoint is n ops of two devices, and what covers them.
func sampleCheckpoint(n int) ([]PlacedOp, *Checkpoint) {
	c := &Checkpoint{Heads: chains(map[ID]uint64{testDevice: 40, otherDevice: 50}), HLC: HLCAt(1000), State: [32]byte{5}}
	ops := make([]PlacedOp, n)
	for i := range ops {
		at := At{Device: testDevice, Seq: uint64(1 + i/MaxOps), Index: i % MaxOps, HLC: HLC(1 + i)}
		if i >= n/2 {
			at.Device = otherDevice
		}
		ops[i] = PlacedOp{At: at, Op: samplePut(V3, i)}
		if i%3 == 0 {
			ops[i].Born = &At{Device: otherDevice, Seq: 1, HLC: HLC(i)}
		}
	}
	return ops, c
}

// chains gives each device a chain that ends at a number.
func chains(seqs map[ID]uint64) map[ID]Chain {
	m := make(map[ID]Chain)
	for id, seq := range seqs {
		m[id] = Chain{Head: Head{Seq: seq}, Epoch: 1}
		if id != otherDevice {
			m[id] = Chain{Head{seq, [32]byte{7}}, 3, 1, map[ID]Head{otherDevice: {Seq: 2, Hash: [32]byte{8}}}}
		}
	}
	return m
}

func manySeqs(n int) map[ID]uint64 {
	m := map[ID]uint64{testDevice: 1}
	for _, id := range manyIDs(n) {
		m[id] = 1
	}
	return m
}

// write seals a checkpoint; c.Parts becomes what it takes.
func (k logKit) write(t testing.TB, ops []PlacedOp, c *Checkpoint) [][]byte {
	t.Helper()
	w := NewCheckpointWriter(k.keys, k.signer)
	var parts [][]byte
	for _, op := range ops {
		if part := must[*Batch](t)(w.Add(op)); part != nil {
			parts = append(parts, part.Bytes)
		}
	}
	c.Parts = uint64(len(parts))
	last := must[*Batch](t)(w.Finish(c.Heads, c.HLC, c.State))
	return append(parts, last.Bytes)
}

// read opens a checkpoint as a joining device does.
func (k logKit) read(parts [][]byte) ([]PlacedOp, *Checkpoint, error) {
	r := NewCheckpointReader(k.keys, testDevice, k.signer.Public())
	var all []PlacedOp
	for _, p := range parts[:len(parts)-1] {
		ops, err := r.Part(p)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, ops...)
	}
	c, ops, err := r.Last(parts[len(parts)-1])
	return append(all, ops...), c, err
}

func TestCheckpointRoundTrip(t *testing.T) {
	k := newLogKit()
	for _, n := range []int{0, 1, 3000} {
		ops, want := sampleCheckpoint(n)
		parts := k.write(t, ops, want)
		got, c, err := k.read(parts)
		if err != nil || !reflect.DeepEqual(c, want) || len(got) != n || n > 0 && !reflect.DeepEqual(got, ops) {
			t.Errorf("%d ops in %d parts: got %+v, %v", n, len(parts), c, err)
		}
		for i, p := range parts {
			b := must[*Batch](t)(ParsePart(testVault, p))
			if !b.Checkpoint || b.Seq != uint64(i+1) || len(p) > 2*PartTarget {
				t.Errorf("part %d: %d bytes, number %d", i, len(p), b.Seq)
			}
			_, err := ParseBatch(testVault, p)
			wantErr(t, "part as batch", err, ErrFormat)
			_, err = b.OpenBody(k.keys)
			wantErr(t, "body of a part", err, ErrFormat)
		}
		if n == 3000 && len(parts) < 3 {
			t.Errorf("only %d parts", len(parts))
		}
	}
	empty := k.write(t, nil, &Checkpoint{Heads: map[ID]Chain{testDevice: {Head: Head{Seq: 1}, Epoch: 1}}})
	if len(empty[0]) != 444 { // FORMAT.md
		t.Errorf("an empty checkpoint has %d bytes", len(empty[0]))
	}
	// Every op stands there in the bytes it has in its batch.
	ops := []PlacedOp{{At{testDevice, 3, 4, 5}, &Del{testAttachment, [32]byte{1}}, nil}}
	part := must[*Batch](t)(ParsePart(testVault, k.write(t, ops, &Checkpoint{Heads: chains(map[ID]uint64{testDevice: 3}), HLC: 5})[0]))
	plain := string(must[[]byte](t)(part.Open(k.keys)))
	hash7, hash8 := [32]byte{7}, [32]byte{8}
	op := string(must[[]byte](t)(AppendOp(nil, ops[0].Op)))
	want := `{"v":1,"ops":[` + op[:len(op)-1] + `,"at":["` + testDevice.UUID() + `",3,4,"0000000000000005"]}],"parts":0,"heads":{"` + testDevice.UUID() +
		`":{"seq":3,"hash":"` + EncodeBase64(hash7[:]) + `","epoch":3,"hlc":"0000000000000001","seen":{"` + otherDevice.UUID() +
		`":{"seq":2,"hash":"` + EncodeBase64(hash8[:]) + `"}}}},"hlc":"0000000000000005","state":"` + EncodeBase64(make([]byte, 32)) + `"}`
	if plain != want {
		t.Errorf("got %s, want %s", plain, want)
	}
}

// The last part can be read alone, and is small if its writer wants that.
func TestCheckpointEnd(t *testing.T) {
	k := newLogKit()
	ops, want := sampleCheckpoint(300)
	w := NewCheckpointWriter(k.keys, k.signer)
	for _, op := range ops {
		must[*Batch](t)(w.Add(op))
	}
	part := must[*Batch](t)(w.Flush())
	if more := must[*Batch](t)(w.Flush()); part == nil || more != nil {
		t.Fatalf("flushed %v, then %v", part != nil, more != nil)
	}
	want.Parts = 1
	last := must[*Batch](t)(w.Finish(want.Heads, want.HLC, want.State))
	if len(last.Bytes) > 2048 {
		t.Errorf("last part of %d bytes", len(last.Bytes))
	}
	if _, c, err := k.read([][]byte{part.Bytes, last.Bytes}); err != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v, %v", c, err)
	}
	if c, err := OpenCheckpointEnd(k.keys, k.signer.Public(), last); err != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v, %v", c, err)
	}
	if got, err := OpenPart(k.keys, part, false); err != nil || !reflect.DeepEqual(got, ops) {
		t.Errorf("got %d ops, %v", len(got), err)
	}
	_, err := OpenCheckpointEnd(k.keys, k.signer.Public(), part)
	wantErr(t, "a part before the last", err, ErrFormat)
	_, err = OpenCheckpointEnd(k.keys, k.signer.Public(), must[*Batch](t)(ParseBatch(testVault, k.seal(t).Bytes)))
	wantErr(t, "a batch", err, ErrFormat)
	_, err = OpenCheckpointEnd(k.keys, NewDeviceSigner(testDevice, keyFrom(2)).Public(), last)
	wantErr(t, "another's key", err, ErrSignature)
	_, err = OpenCheckpointEnd(DeriveEpoch(keyFrom(0x60), testVault, 4), k.signer.Public(), last)
	wantErr(t, "another epoch", err, ErrAuth)
}

// A checkpoint is whole, in order, and of one writer, or it is refused.
func TestCheckpointMutations(t *testing.T) {
	k := newLogKit()
	ops, c := sampleCheckpoint(5000)
	parts := k.write(t, ops, c)
	if len(parts) != 4 {
		t.Fatalf("%d parts", len(parts))
	}
	otherOps, otherC := sampleCheckpoint(5000)
	other := k.write(t, otherOps, otherC)
	p := func(list ...int) [][]byte {
		var out [][]byte
		for _, i := range list {
			out = append(out, parts[i])
		}
		return out
	}
	for what, cut := range map[string][][]byte{
		"first missing":         p(1, 2, 3),
		"middle missing":        p(0, 2, 3),
		"all but last missing":  p(3),
		"last missing":          p(0, 1, 2),
		"twice":                 p(0, 0, 1, 2, 3),
		"swapped":               p(1, 0, 2, 3),
		"more after the last":   p(0, 1, 2, 3, 3),
		"last of another":       append(p(0, 1, 2), other[3]),
		"part of another":       {parts[0], other[1], parts[2], parts[3]},
		"first of another":      {other[0], parts[1], parts[2], parts[3]},
		"truncated":             {parts[0], parts[1], parts[2], parts[3][:500]},
		"batch instead of part": {k.seal(t).Bytes},
	} {
		_, _, err := k.read(cut)
		wantErr(t, what, err, ErrFormat)
	}
	small := k.write(t, ops[:1], &Checkpoint{Heads: c.Heads, HLC: c.HLC})[0]
	for bit := range len(small) * 8 {
		if _, _, err := k.read([][]byte{flipped(small, bit)}); !isOne(err, ErrFormat, ErrSignature) {
			t.Fatalf("bit %d: %v", bit, err)
		}
	}
	for what, k := range map[string]logKit{
		"key of another device": {k.keys, NewDeviceSigner(testDevice, keyFrom(2))},
		"another epoch":         {DeriveEpoch(keyFrom(0x60), testVault, 4), k.signer},
		"another vault":         {DeriveEpoch(keyFrom(0x60), testBlob, 3), k.signer},
	} {
		_, _, err := k.read(parts)
		if !isOne(err, ErrSignature, ErrAuth, ErrFormat) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := NewCheckpointReader(k.keys, otherDevice, k.signer.Public()).Part(parts[0])
	wantErr(t, "another author", err, ErrFormat)
}

// What a writer with a key of the roster may say, and what not.
func TestCheckpointRules(t *testing.T) {
	k := newLogKit()
	op, put := &Want{}, samplePut(V3, 1)
	heads := chains(map[ID]uint64{testDevice: 3, otherDevice: 3})
	at := func(d ID, seq uint64, index int, hlc HLC) PlacedOp {
		return PlacedOp{At: At{d, seq, index, hlc}, Op: op}
	}
	born := func(op Op, b At) []PlacedOp { return []PlacedOp{{At{testDevice, 2, 0, 3}, op, &b}} }
	manyAts := make([]PlacedOp, maxDevices+1)
	for i, id := range manyIDs(maxDevices + 1) {
		manyAts[i] = at(id, 1, 0, 1)
	}
	for what, ops := range map[string][]PlacedOp{
		"twice":            {at(testDevice, 1, 0, 1), at(testDevice, 1, 0, 1)},
		"index goes back":  {at(testDevice, 1, 1, 1), at(testDevice, 1, 0, 1)},
		"seq goes back":    {at(testDevice, 2, 0, 1), at(testDevice, 1, 0, 1)},
		"device goes back": {at(otherDevice, 1, 0, 1), at(testDevice, 1, 0, 1)},
		"device twice":     {at(testDevice, 1, 0, 1), at(otherDevice, 1, 0, 1), at(testDevice, 2, 0, 1)},
		"seq 0":            {at(testDevice, 0, 0, 1)}, "seq 2^53": {at(testDevice, maxJSONInt+1, 0, 1)},
		"index -1": {at(testDevice, 1, -1, 1)}, "index 512": {at(testDevice, 1, MaxOps, 1)},
		"no device": {at(ID{}, 1, 0, 1)}, "beyond a head": {at(testDevice, 4, 0, 1)},
		"device without head": {at(testBlob, 1, 0, 1)}, "beyond the clock": {at(testDevice, 1, 0, 10)},
		"bad op": {{At{testDevice, 1, 0, 1}, &Del{}, nil}}, "no op": {{At{testDevice, 1, 0, 1}, nil, nil}}, "many devices": manyAts,
		"birth of no record": born(op, At{testDevice, 1, 0, 1}), "birth beyond a head": born(put, At{otherDevice, 4, 0, 1}),
		"birth of no device": born(put, At{Seq: 1}), "birth with index": born(put, At{testDevice, 1, 1, 1}),
		"birth after": born(put, At{testDevice, 1, 0, 4}), "birth by a stranger": born(put, At{testBlob, 1, 0, 1}),
	} {
		w := NewCheckpointWriter(k.keys, k.signer)
		var err error
		for _, op := range ops {
			if _, addErr := w.Add(op); addErr != nil {
				err = addErr
			}
		}
		if err == nil {
			_, err = w.Finish(heads, 9, [32]byte{})
		}
		wantErr(t, what+" written", err, ErrFormat)
		if what == "no op" || what == "index -1" {
			continue // has no spelling
		}
		// The same by a writer who does not check.
		rogue := &jsonWriter{}
		for _, op := range ops {
			rogue.op(&op)
		}
		_, _, err = k.read([][]byte{k.rogue(t, `"ops":[`+string(rogue.b)+`],`+lastFields(heads, 9))})
		wantErr(t, what+" read", err, ErrFormat)
	}
	one := Chain{Head: Head{Seq: 1}, Epoch: 1}
	seen := func(h map[ID]Head) Chain { return Chain{one.Head, 1, 0, h} }
	for what, heads := range map[string]map[ID]Chain{
		"no heads": nil, "without author": {otherDevice: one}, "seq 0": {testDevice: {Epoch: 1}}, "zero device": {testDevice: one, {}: one},
		"epoch 0": {testDevice: {Head: one.Head}}, "clock of a head": {testDevice: {one.Head, 1, 10, nil}},
		"own in seen": {testDevice: seen(map[ID]Head{testDevice: {Seq: 1}})}, "seen 0": {testDevice: seen(map[ID]Head{otherDevice: {}})},
		"many": chains(manySeqs(maxDevices + 1)),
	} {
		_, err := NewCheckpointWriter(k.keys, k.signer).Finish(heads, 9, [32]byte{})
		wantErr(t, what+" written", err, ErrFormat)
		_, _, err = k.read([][]byte{k.rogue(t, `"ops":[],`+lastFields(heads, 9))})
		wantErr(t, what+" read", err, ErrFormat)
	}
	for what, js := range map[string]string{
		"parts":         `"ops":[],` + strings.Replace(lastFields(heads, 9), `"parts":0`, `"parts":1`, 1),
		"no last part":  `"ops":[]`,
		"seen":          `"ops":[],"seen":{},` + lastFields(heads, 9),
		"op without at": `"ops":[{"op":"want","blobs":[]}],` + lastFields(heads, 9),
		"at too short":  `"ops":[{"op":"want","blobs":[],"at":["` + testDevice.UUID() + `",1,0]}],` + lastFields(heads, 9),
		"at as object":  `"ops":[{"op":"want","blobs":[],"at":{}}],` + lastFields(heads, 9),
		"at with text":  `"ops":[{"op":"want","blobs":[],"at":["` + testDevice.UUID() + `","1",0,"0000000000000001"]}],` + lastFields(heads, 9),
	} {
		_, _, err := k.read([][]byte{k.rogue(t, js)})
		wantErr(t, what, err, ErrFormat)
	}
	_, _, err := k.read([][]byte{k.rogue(t, `"ops":[{"op":"tag"}],`+lastFields(heads, 9))})
	wantErr(t, "newer op", err, ErrNewer)
	_, err = NewCheckpointReader(k.keys, testDevice, k.signer.Public()).Part(k.rogue(t, `"ops":[],`+lastFields(heads, 9)))
	wantErr(t, "last as a part before", err, ErrFormat)
	if _, _, err := k.read([][]byte{k.rogue(t, `"ops":[],`+lastFields(heads, 9))}); err != nil {
		t.Errorf("the rogue's way itself: %v", err)
	}
}

// rogue seals whatever it is given as the first part.
func (k logKit) rogue(t testing.TB, js string) []byte {
	t.Helper()
	return must[*Batch](t)(sealFrame(k.keys, k.signer, flagCheckpoint, 1, [32]byte{}, []byte(`{"v":1,`+js+`}`))).Bytes
}

func lastFields(heads map[ID]Chain, hlc HLC) string {
	w := &jsonWriter{}
	w.number("parts", 0)
	w.chains("heads", heads)
	w.text("hlc", hlc.String())
	w.bytes("state", make([]byte, 32))
	return string(w.b)
}

func TestCheckpointStrictJSON(t *testing.T) {
	k := newLogKit()
	ops, c := sampleCheckpoint(1)
	frame := must[*Batch](t)(ParsePart(testVault, k.write(t, ops, c)[0]))
	plain := string(must[[]byte](t)(frame.Open(k.keys)))
	for _, key := range []string{"v", "ops", "at", "parts", "born", "heads", "seq", "hash", "epoch", "hlc", "seen", "state"} {
		for what, by := range map[string]string{
			"no": `"` + key + `x":`, "upper case": `"` + strings.ToUpper(key) + `":`, "null": `"` + key + `":null,"y":`,
			"twice": `"` + key + `":1,"` + key + `":`, "unknown before": `"zz":0,"` + key + `":`,
		} {
			_, _, err := parsePart([]byte(strings.Replace(plain, `"`+key+`":`, by, 1)), true)
			wantErr(t, what+" "+key, err, ErrFormat)
		}
	}
	if _, _, err := parsePart([]byte(plain), true); err != nil || !json.Valid([]byte(plain)) {
		t.Errorf("unchanged: %v", err)
	}
}

func FuzzBatch(f *testing.F) {
	k := newLogKit()
	first := must[*Batch](f)(SealBatch(k.keys, k.signer, 1, [32]byte{}, &Body{}))
	part := k.write(f, nil, &Checkpoint{Heads: chains(map[ID]uint64{testDevice: 1}), HLC: 1})[0]
	seeds(f, nil, []byte(magicBatch), first.Bytes, k.seal(f).Bytes, part, make([]byte, minBatch))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, parse := range []func(ID, []byte) (*Batch, error){ParseBatch, ParsePart} {
			p, err := parse(testVault, b)
			if err != nil {
				if !isOne(err, ErrFormat) {
					t.Error(err)
				}
				continue
			}
			if got := printFrame(p); !bytes.Equal(got, b) || !bytes.Equal(p.Bytes, b) {
				t.Errorf("printed %x, read %x", clip(got), clip(b))
			}
			if err := p.VerifySignature(k.signer.Public()); err != nil {
				wantErr(t, "signature", err, ErrSignature)
			}
			if _, err := p.OpenBody(k.keys); err != nil && !isOne(err, ErrAuth, ErrFormat, ErrNewer) {
				t.Error(err)
			}
		}
	})
}

// printFrame writes a frame from its fields; the sealed body and the signature,
// which have no fields, from the bytes kept.
func printFrame(p *Batch) []byte {
	b := fmt.Appendf(nil, "VDRB\x01%c\x00\x00%s%s", map[bool]byte{true: 1}[p.Checkpoint], p.Vault[:], p.Device[:])
	b = append(b, byte(p.Seq>>56), byte(p.Seq>>48), byte(p.Seq>>40), byte(p.Seq>>32), byte(p.Seq>>24), byte(p.Seq>>16), byte(p.Seq>>8), byte(p.Seq))
	n := len(p.Bytes) - 164
	for _, u := range []int{int(p.Epoch), n} {
		b = append(b, byte(u>>24), byte(u>>16), byte(u>>8), byte(u))
	}
	return append(append(b, p.Prev[:]...), p.Bytes[88:]...)
}

func FuzzBody(f *testing.F) {
	corpus := [][]byte{nil, []byte(`{"v":1,"hlc":"019b76e0e0000000","seen":{},"ops":[]}`), []byte(`{"v":2}`), must[[]byte](f)(sampleBody().Encode())}
	for _, op := range sampleOps() {
		corpus = append(corpus, must[[]byte](f)((&Body{Ops: []Op{op}}).Encode()))
	}
	seeds(f, corpus...)
	f.Fuzz(func(t *testing.T, plain []byte) {
		b, err := ParseBody(plain)
		if err != nil {
			if !isOne(err, ErrFormat, ErrNewer) {
				t.Error(err)
			}
			return
		}
		written, err := b.Encode()
		if err != nil {
			t.Fatalf("read but not written: %v", err)
		}
		again, err := ParseBody(written)
		if err != nil || !reflect.DeepEqual(again, b) {
			t.Errorf("written again: %v", err)
		}
		for _, op := range b.Ops { // no panic
			if p, ok := op.(*Put); ok {
				p.Digest(testVault)
			}
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	k := newLogKit()
	ops, c := sampleCheckpoint(2)
	part := must[*Batch](f)(ParsePart(testVault, k.write(f, ops, c)[0]))
	heads := chains(map[ID]uint64{testDevice: 1})
	seeds(f, nil, must[[]byte](f)(part.Open(k.keys)), []byte(`{"v":1,"ops":[]}`), []byte(`{"v":1,"ops":[],`+lastFields(heads, 3)+`}`),
		[]byte(`{"v":1,"ops":[{"op":"want","blobs":[],"at":["`+testDevice.UUID()+`",1,0,"0000000000000001"]}],`+lastFields(heads, 3)+`}`))
	f.Fuzz(func(t *testing.T, plain []byte) {
		ops, c, err := parsePart(plain, true)
		if err == nil {
			covered := &cover{}
			if err = covered.addAll(ops); err == nil {
				err = covered.check(c, testDevice)
			}
		}
		if err != nil {
			if !isOne(err, ErrFormat, ErrNewer) {
				t.Error(err)
			}
			return
		}
		w := NewCheckpointWriter(k.keys, k.signer)
		for _, op := range ops {
			if _, err := w.Add(op); err != nil {
				t.Fatalf("read but not written: %v", err)
			}
		}
		if w.seq > 0 {
			return // written in parts
		}
		again, c2, err := parsePart(w.body(c), true)
		if err != nil || !reflect.DeepEqual(c2, c) || !reflect.DeepEqual(again, ops) {
			t.Errorf("written again: %v", err)
		}
	})
}

// FuzzCheckpointEnd: what a signer of the roster may put into a last part.
func FuzzCheckpointEnd(f *testing.F) {
	k := newLogKit()
	ops, c := sampleCheckpoint(2)
	part := must[*Batch](f)(ParsePart(testVault, k.write(f, ops, c)[0]))
	seeds(f, nil, must[[]byte](f)(part.Open(k.keys)), []byte(`{"v":1,"ops":[],`+lastFields(chains(map[ID]uint64{testDevice: 1}), 3)+`}`))
	f.Fuzz(func(t *testing.T, plain []byte) {
		if len(plain) > PartTarget {
			return
		}
		b := must[*Batch](t)(sealFrame(k.keys, k.signer, flagCheckpoint, 1, [32]byte{}, plain))
		c, err := OpenCheckpointEnd(k.keys, k.signer.Public(), b)
		if err != nil {
			if !isOne(err, ErrFormat, ErrNewer) {
				t.Error(err)
			}
			return
		}
		r := NewCheckpointReader(k.keys, testDevice, k.signer.Public())
		if all, _, err := r.Last(b.Bytes); err != nil || !reflect.DeepEqual(all, c) {
			t.Errorf("alone it says %+v, read as the only part %+v, %v", c, all, err)
		}
	})
}
