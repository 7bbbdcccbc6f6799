package seal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// samplePut is a put of version ev as a device makes it, number i of many.
func samplePut(version uint8, i int) *Put {
	size := uint64(5000 + i)
	p := &Put{
		ID: ID(seq(byte(i), 16)), Rev: 2, Parent: Parent{ParentItem, testParent}, Version: version, Epoch: 3, Size: size,
		WK: seq(1, WrappedKeySize), Name: seq(2, Overhead+18), MIME: seq(3, Overhead),
		Blob:  Blob{ID: testBlob, SHA256: [32]byte(seq(4, 32)), Hdr: seq(5, HdrV3), Len: uint64(SealedSizeV3(int64(size)))},
		Mtime: 1767225600000000000, Mode: 0o640, Prev: [32]byte(seq(6, 32)),
	}
	if version == V4 {
		p.Blob.Len = uint64(SealedSizeV4(int64(size)))
		p.Blob.Hdr = append([]byte(magicV4), seq(7, HeaderV4-len(magicV4))...)
	}
	return p
}

// sampleOps has one op of every kind.
func sampleOps() []Op {
	first := samplePut(V3, 1)
	first.Rev, first.Prev, first.Mtime = 1, [32]byte{}, -1
	return []Op{
		&DeviceName{Name: "Büro \"2\" \\"}, first, samplePut(V4, 2),
		&Del{ID: testAttachment, Prev: [32]byte(seq(8, 32))},
		&Wrap{Blob: testBlob, Epoch: 3, WK: seq(9, WrappedKeySize)},
		&Sent{Remote: ID(seq(10, 16)), Blobs: []ID{testBlob, ID(seq(11, 16))}},
		&Want{Blobs: []ID{testBlob}},
		&AssetPut{ID: testParent, Rev: 1, Type: ParentNote, Ctime: 5, Title: seq(12, Overhead+3), Epoch: 3},
		&AssetDel{ID: testParent, Prev: [32]byte(seq(13, 32))},
	}
}

var otherDevice = ID(seq(0x38, 16))

func sampleBody() *Body {
	return &Body{HLC: HLCAt(1767225600000).Tick(0), Seen: map[ID]Head{
		otherDevice: {Seq: 7, Hash: [32]byte(seq(20, 32))}, testVault: {Seq: 1, Hash: [32]byte(seq(21, 32))},
	}, Ops: sampleOps()}
}

// logKit is what a device seals its chain with.
type logKit struct {
	keys   *EpochKeys
	signer *DeviceSigner
}

func newLogKit() logKit {
	return logKit{DeriveEpoch(keyFrom(0x60), testVault, 3), NewDeviceSigner(testDevice, keyFrom(1))}
}

// seal returns the second batch of a chain with the sample body.
func (k logKit) seal(t testing.TB) *Batch {
	t.Helper()
	return must[*Batch](t)(SealBatch(k.keys, k.signer, 2, [32]byte(seq(30, 32)), sampleBody()))
}

// receive does what a reader does with a batch it expects after prev.
func (k logKit) receive(b []byte, head Head) (*Body, error) {
	batch, err := ParseBatch(testVault, b)
	if err != nil {
		return nil, err
	}
	if batch.Device != testDevice {
		return nil, fmt.Errorf("%w: device", ErrSignature) // another roster key
	}
	if err := batch.Follows(head); err != nil {
		return nil, err
	}
	if err := batch.VerifySignature(k.signer.Public()); err != nil {
		return nil, err
	}
	return batch.OpenBody(k.keys)
}

var sampleHead = Head{Seq: 1, Hash: [32]byte(seq(30, 32))}

func TestBatchRoundTrip(t *testing.T) {
	k := newLogKit()
	sealed := k.seal(t)
	b := must[*Batch](t)(ParseBatch(testVault, bytes.Clone(sealed.Bytes)))
	if !reflect.DeepEqual(b, sealed) {
		t.Errorf("got %+v, want %+v", b, sealed)
	}
	want := Batch{Vault: testVault, Device: testDevice, Seq: 2, Epoch: 3, Prev: sampleHead.Hash, Hash: b.Hash, Bytes: b.Bytes}
	if !reflect.DeepEqual(*b, want) {
		t.Errorf("fields: got %+v", b)
	}
	body, err := k.receive(sealed.Bytes, sampleHead)
	if err != nil || !reflect.DeepEqual(body, sampleBody()) {
		t.Errorf("body: got %+v, %v", body, err)
	}
}

// The table of FORMAT.md: the batch of an empty body.
func TestBatchTotals(t *testing.T) {
	k := newLogKit()
	b := must[*Batch](t)(SealBatch(k.keys, k.signer, 1, [32]byte{}, &Body{}))
	if len(b.Bytes) != 231 || minBatch != 180 || batchHead != 100 || batchIVOff != 88 || prevOff != 56 {
		t.Errorf("batch of %d bytes", len(b.Bytes))
	}
}

// Every bit of a batch is under a hash and a signature.
func TestBatchMutations(t *testing.T) {
	k := newLogKit()
	good := k.seal(t).Bytes
	refused := []error{ErrFormat, ErrSignature, ErrFork, ErrGap, ErrRollback}
	for bit := range len(good) * 8 {
		if _, err := k.receive(flipped(good, bit), sampleHead); !isOne(err, refused...) {
			t.Fatalf("bit %d of byte %d: %v", bit%8, bit/8, err)
		}
	}
	for n := range good {
		_, err := k.receive(good[:n], sampleHead)
		wantErr(t, fmt.Sprintf("cut to %d", n), err, ErrFormat)
	}
	for _, tail := range [][]byte{{0}, good[:1], good} {
		_, err := k.receive(append(bytes.Clone(good), tail...), sampleHead)
		wantErr(t, "extended", err, ErrFormat)
	}
	_, err := ParseBatch(testVault, make([]byte, MaxBatch+1))
	wantErr(t, "too long", err, ErrFormat)
}

// Whoever holds a device's key can sign anything: what is not of the format is
// refused all the same.
func TestBatchFrame(t *testing.T) {
	k := newLogKit()
	for what, c := range map[string]struct {
		change func([]byte)
		want   error
	}{
		"magic":         {func(b []byte) { b[0] = 'v' }, ErrFormat},
		"version":       {func(b []byte) { b[4] = 2 }, ErrNewer},
		"flags":         {func(b []byte) { b[5] = 2 }, ErrFormat},
		"checkpoint":    {func(b []byte) { b[5] = 1 }, ErrFormat},
		"zero 1":        {func(b []byte) { b[6] = 1 }, ErrFormat},
		"zero 2":        {func(b []byte) { b[7] = 1 }, ErrFormat},
		"vault":         {func(b []byte) { b[8]++ }, ErrFormat},
		"no device":     {func(b []byte) { clear(b[24:40]) }, ErrFormat},
		"seq 0":         {func(b []byte) { clear(b[40:48]) }, ErrFormat},
		"seq 1":         {func(b []byte) { b[47] = 1 }, ErrFormat},
		"seq 2^63":      {func(b []byte) { b[40] = 0x80 }, ErrFormat},
		"seq 3":         {func(b []byte) { b[47] = 3 }, ErrGap},
		"epoch 0":       {func(b []byte) { clear(b[48:52]) }, ErrFormat},
		"epoch":         {func(b []byte) { b[51]++ }, ErrAuth},
		"length":        {func(b []byte) { b[55]++ }, ErrFormat},
		"huge length":   {func(b []byte) { binary.BigEndian.PutUint32(b[52:], 1<<32-1) }, ErrFormat},
		"prev":          {func(b []byte) { b[56]++ }, ErrFork},
		"no prev":       {func(b []byte) { clear(b[56:88]) }, ErrFormat},
		"IV":            {func(b []byte) { b[88]++ }, ErrAuth},
		"body":          {func(b []byte) { b[100]++ }, ErrAuth},
		"tag":           {func(b []byte) { b[len(b)-65]++ }, ErrAuth},
		"other device":  {func(b []byte) { copy(b[24:40], otherDevice[:]) }, ErrSignature},
		"swapped ids":   {func(b []byte) { copy(b[8:], append(bytes.Clone(b[24:40]), b[8:24]...)) }, ErrFormat},
		"swapped count": {func(b []byte) { copy(b[48:], append(bytes.Clone(b[52:56]), b[48:52]...)) }, ErrFormat},
	} {
		b := k.seal(t).Bytes
		c.change(b)
		hash := sum256(b[:len(b)-sigSize])
		copy(b[len(b)-sigSize:], k.signer.Sign(ForBatch, hash[:]))
		_, err := k.receive(b, sampleHead)
		wantErr(t, what, err, c.want)
	}
}

// Everything around a batch is bound to it.
func TestBatchContext(t *testing.T) {
	k := newLogKit()
	b := k.seal(t)
	_, err := ParseBatch(testBlob, b.Bytes)
	wantErr(t, "vault", err, ErrFormat)
	_, err = ParsePart(testVault, b.Bytes)
	wantErr(t, "as a checkpoint part", err, ErrFormat)
	wantErr(t, "signer", b.VerifySignature(NewDeviceSigner(testDevice, keyFrom(2)).Public()), ErrSignature)
	wantErr(t, "no key", b.VerifySignature(nil), ErrSignature)
	for what, keys := range map[string]*EpochKeys{
		"other vault key": DeriveEpoch(keyFrom(0x61), testVault, 3),
		"other epoch":     DeriveEpoch(keyFrom(0x60), testVault, 4),
		"vault of keys":   DeriveEpoch(keyFrom(0x60), testBlob, 3),
	} {
		_, err := b.OpenBody(keys)
		wantErr(t, what, err, ErrAuth)
	}
	for what, c := range map[string]struct {
		head Head
		want error
	}{
		"next":          {sampleHead, nil},
		"other history": {Head{1, [32]byte{9}}, ErrFork},
		"gap":           {Head{}, ErrGap},
		"same number":   {Head{2, [32]byte{9}}, ErrFork},
		"again":         {b.Head(), ErrRollback},
		"older":         {Head{3, b.Hash}, ErrRollback},
	} {
		wantErr(t, what, b.Follows(c.head), c.want)
	}
}

// A signature made for one purpose is none for another, nor without its label.
func TestSignaturePurposes(t *testing.T) {
	s := NewDeviceSigner(testDevice, keyFrom(1))
	purposes := []Purpose{ForBatch, ForSession, ForBackup}
	msg := seq(0, 32)
	for _, p := range purposes {
		sig := s.Sign(p, msg)
		for _, as := range purposes {
			if err := VerifyDeviceSignature(s.Public(), as, msg, sig); (err == nil) != (p == as) {
				t.Errorf("%d as %d: %v", p, as, err)
			}
		}
		wantErr(t, "short", VerifyDeviceSignature(s.Public(), p, msg, sig[:63]), ErrSignature)
	}
	if text := fmt.Sprintf("%v %+v", s, *s); strings.Count(text, redactedText) != 2 {
		t.Errorf("prints as %s", text)
	}
	s.Wipe()
	if !bytes.Equal(s.key, make([]byte, 64)) {
		t.Error("not wiped")
	}
}

func TestSealBatchRefuses(t *testing.T) {
	k := newLogKit()
	many := make([]Op, MaxOps)
	for i := range many {
		many[i] = &Sent{Remote: testBlob, Blobs: manyIDs(MaxBlobs)}
	}
	for what, c := range map[string]struct {
		seq  uint64
		prev [32]byte
		body *Body
		want error
	}{
		"seq 0":                 {0, [32]byte{}, &Body{}, ErrFormat},
		"prev at 1":             {1, [32]byte{1}, &Body{}, ErrFormat},
		"no prev":               {2, [32]byte{}, &Body{}, ErrFormat},
		"own seen":              {1, [32]byte{}, &Body{Seen: map[ID]Head{testDevice: {Seq: 1}}}, ErrFormat},
		"many ops":              {1, [32]byte{}, &Body{Ops: make([]Op, MaxOps+1)}, ErrFormat},
		"no op":                 {1, [32]byte{}, &Body{Ops: []Op{nil}}, ErrFormat},
		"bad op":                {1, [32]byte{}, &Body{Ops: []Op{&Del{}}}, ErrFormat},
		"bad seen":              {1, [32]byte{}, &Body{Seen: map[ID]Head{otherDevice: {}}}, ErrFormat},
		"put of a later epoch":  {1, [32]byte{}, &Body{Ops: []Op{laterPut(k)}}, ErrFormat},
		"wrap of a later epoch": {1, [32]byte{}, &Body{Ops: []Op{&Wrap{Blob: testBlob, Epoch: k.keys.epoch + 1, WK: seq(9, WrappedKeySize)}}}, ErrFormat},
		"long batch":            {1, [32]byte{}, &Body{Ops: many}, ErrTooLarge},
	} {
		_, err := SealBatch(k.keys, k.signer, c.seq, c.prev, c.body)
		wantErr(t, what, err, c.want)
	}
}

func laterPut(k logKit) Op {
	p := samplePut(V3, 0)
	p.Epoch = k.keys.epoch + 1
	return p
}

// What is sealed under keys that come after those of its batch is refused by everyone
// alike: who has them by then, too.
func TestBatchOfLaterKeys(t *testing.T) {
	k := newLogKit()
	plain := must[[]byte](t)((&Body{Ops: []Op{laterPut(k)}}).Encode())
	frame := must[*Batch](t)(sealFrame(k.keys, k.signer, 0, 1, [32]byte{}, plain))
	_, err := must[*Batch](t)(ParseBatch(testVault, frame.Bytes)).OpenBody(k.keys)
	wantErr(t, "put of a later epoch", err, ErrFormat)
}

// The longest puts a device may make fit into one batch.
func TestLongestBatch(t *testing.T) {
	k := newLogKit()
	body := &Body{Ops: make([]Op, MaxOps)}
	for i := range body.Ops {
		p := samplePut(V4, 1)
		p.Name, p.MIME = seq(0, Overhead+MaxName), seq(0, Overhead+MaxMIME)
		body.Ops[i] = p
	}
	b := must[*Batch](t)(SealBatch(k.keys, k.signer, 2, sampleHead.Hash, body))
	got, err := k.receive(b.Bytes, sampleHead)
	if err != nil || !reflect.DeepEqual(got, body) {
		t.Errorf("%d bytes: %v", len(b.Bytes), err)
	}
}

// Without a device's key nobody ends a branch; without the vault's key nobody
// even knows what a batch says.
func TestForgedDelete(t *testing.T) {
	k := newLogKit()
	del := &Body{HLC: 1, Ops: []Op{&Del{ID: testAttachment, Prev: [32]byte{1}}}}
	forger := logKit{k.keys, NewDeviceSigner(testDevice, keyFrom(9))}
	b := must[*Batch](t)(SealBatch(forger.keys, forger.signer, 2, sampleHead.Hash, del))
	_, err := k.receive(b.Bytes, sampleHead)
	wantErr(t, "another device's key", err, ErrSignature)
	outsider := logKit{DeriveEpoch(keyFrom(9), testVault, 3), k.signer}
	b = must[*Batch](t)(SealBatch(outsider.keys, outsider.signer, 2, sampleHead.Hash, del))
	_, err = k.receive(b.Bytes, sampleHead)
	wantErr(t, "another vault key", err, ErrAuth)
}

func manyIDs(n int) []ID {
	ids := make([]ID, n)
	for i := range ids {
		binary.BigEndian.PutUint32(ids[i][:], uint32(i+1))
	}
	return ids
}

func BenchmarkBatch(b *testing.B) {
	k := newLogKit()
	body := &Body{Ops: make([]Op, MaxOps)}
	for i := range body.Ops {
		body.Ops[i] = samplePut(V3, i)
	}
	sealed := must[*Batch](b)(SealBatch(k.keys, k.signer, 2, sampleHead.Hash, body))
	b.Run("seal", func(b *testing.B) {
		b.SetBytes(int64(len(sealed.Bytes)))
		b.ReportAllocs()
		for b.Loop() {
			SealBatch(k.keys, k.signer, 2, sampleHead.Hash, body)
		}
	})
	b.Run("receive", func(b *testing.B) {
		b.SetBytes(int64(len(sealed.Bytes)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := k.receive(sealed.Bytes, sampleHead); err != nil {
				b.Fatal(err)
			}
		}
	})
}
