package seal

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
)

func TestBodyRoundTrip(t *testing.T) {
	for what, want := range map[string]*Body{
		"all ops": sampleBody(), "empty": {}, "last clock": {HLC: math.MaxUint64},
		"extremes": {Ops: []Op{
			func() Op { p := samplePut(V4, 0); p.Mtime, p.Rev, p.Mode = math.MinInt64, maxJSONInt, 0; return p }(),
			func() Op { p := samplePut(V3, 0); p.Size, p.Blob.Len = MaxV3, MaxV3+OverheadV3; return p }(),
			func() Op { p := samplePut(V4, 0); p.Size, p.Blob.Len = MaxV4, uint64(SealedSizeV4(MaxV4)); return p }(),
			func() Op { p := samplePut(V4, 0); p.Size, p.Blob.Len = 0, 80; return p }(),
			&AssetPut{ID: testParent, Rev: 1, Type: ParentPassword, Ctime: math.MaxInt64, Title: seq(0, Overhead+MaxTitle), Epoch: math.MaxUint32},
			&Sent{Remote: testBlob, Blobs: manyIDs(MaxBlobs)}, &Want{}, &DeviceName{Name: strings.Repeat("x", MaxDeviceName)},
		}},
	} {
		plain := must[[]byte](t)(want.Encode())
		got, err := ParseBody(plain)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v", what, got, err)
			continue
		}
		wantBytes(t, what+" written again", must[[]byte](t)(got.Encode()), plain)
		if !json.Valid(plain) {
			t.Errorf("%s: no JSON: %s", what, plain)
		}
	}
}

// The spelling of every op, as FORMAT.md shows it.
func TestBodySpelling(t *testing.T) {
	zeros := EncodeBase64(make([]byte, 32))
	for want, op := range map[string]Op{
		`{"op":"del","id":"20212223-2425-2627-2829-2a2b2c2d2e2f","prev":"` + EncodeBase64(seq(1, 32)) + `"}`:        &Del{testAttachment, [32]byte(seq(1, 32))},
		`{"op":"wrap","blob":"505152535455565758595a5b5c5d5e5f","epoch":4,"wk":"` + EncodeBase64(seq(1, 60)) + `"}`: &Wrap{testBlob, 4, seq(1, 60)},
		`{"op":"sent","remote":"101112131415161718191a1b1c1d1e1f","blobs":["505152535455565758595a5b5c5d5e5f"]}`:    &Sent{testVault, []ID{testBlob}},
		`{"op":"want","blobs":[]}`: &Want{},
		`{"op":"asset-put","id":"70717273-7475-7677-7879-7a7b7c7d7e7f","rev":1,"type":"note","ctime":"-5","title":"` +
			EncodeBase64(seq(1, 31)) + `","epoch":3,"prev":"` + zeros + `"}`: &AssetPut{ID: testParent, Rev: 1, Type: ParentNote, Ctime: -5, Title: seq(1, 31), Epoch: 3},
		`{"op":"asset-del","id":"70717273-7475-7677-7879-7a7b7c7d7e7f","prev":"` + EncodeBase64(seq(1, 32)) + `"}`: &AssetDel{testParent, [32]byte(seq(1, 32))},
		`{"op":"device","name":"a\"\\é<"}`: &DeviceName{`a"\é<`},
	} {
		if got := string(must[[]byte](t)(AppendOp(nil, op))); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	p := samplePut(V3, 32)
	want := `{"op":"put","id":"20212223-2425-2627-2829-2a2b2c2d2e2f","rev":2,"parent":{"type":"item","id":"70717273-7475-7677-7879-7a7b7c7d7e7f"},` +
		`"ev":3,"epoch":3,"size":5032,"wk":"` + EncodeBase64(p.WK) + `","name":"` + EncodeBase64(p.Name) + `","mime":"` + EncodeBase64(p.MIME) +
		`","blob":{"id":"505152535455565758595a5b5c5d5e5f","len":5060,"sha256":"` + EncodeBase64(p.Blob.SHA256[:]) + `","hdr":"` + EncodeBase64(p.Blob.Hdr) +
		`"},"mtime":"1767225600000000000","mode":416,"prev":"` + EncodeBase64(p.Prev[:]) + `"}`
	if got := string(must[[]byte](t)(AppendOp(nil, p))); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Two maps or two machines give the same bytes.
func TestBodyDeterministic(t *testing.T) {
	want := must[[]byte](t)(sampleBody().Encode())
	for range 50 {
		wantBytes(t, "encoding", must[[]byte](t)(sampleBody().Encode()), want)
	}
}

// What a later program writes is held, not refused; and only that.
func TestNewerBody(t *testing.T) {
	plain := string(must[[]byte](t)(sampleBody().Encode()))
	for what, c := range map[string]struct {
		js   string
		want error
	}{
		"version 2":           {strings.Replace(plain, `"v":1`, `"v":2`, 1), ErrNewer},
		"version 2, others":   {`{"v":2,"what":[]}`, ErrNewer},
		"version 0":           {strings.Replace(plain, `"v":1`, `"v":0`, 1), ErrFormat},
		"version as text":     {strings.Replace(plain, `"v":1`, `"v":"2"`, 1), ErrFormat},
		"unknown op":          {strings.Replace(plain, `"op":"want"`, `"op":"tag"`, 1), ErrNewer},
		"op in upper case":    {strings.Replace(plain, `"op":"want"`, `"op":"Want"`, 1), ErrNewer},
		"op as number":        {strings.Replace(plain, `"op":"want"`, `"op":1`, 1), ErrFormat},
		"no op":               {strings.Replace(plain, `"op":"want"`, `"po":"want"`, 1), ErrFormat},
		"attachment format 5": {strings.Replace(plain, `"ev":4`, `"ev":5`, 1), ErrNewer},
		"attachment format 2": {strings.Replace(plain, `"ev":4`, `"ev":2`, 1), ErrFormat},
	} {
		if c.js == plain {
			t.Fatalf("%s: the test changed nothing", what)
		}
		_, err := ParseBody([]byte(c.js))
		wantErr(t, what, err, c.want)
		if c.want == ErrNewer && errors.Is(err, ErrFormat) {
			t.Errorf("%s: also malformed: %v", what, err)
		}
	}
}

// Every key of every op is needed, in its own spelling, once, and no other.
func TestBodyStrictJSON(t *testing.T) {
	plain := string(must[[]byte](t)(sampleBody().Encode()))
	bad := func(what, js string) {
		t.Helper()
		if js == plain {
			t.Fatalf("%s: the test changed nothing", what)
		}
		_, err := ParseBody([]byte(js))
		wantErr(t, what, err, ErrFormat)
	}
	change := func(what, old, by string) { t.Helper(); bad(what, strings.Replace(plain, old, by, 1)) }
	for _, key := range []string{"v", "hlc", "seen", "seq", "hash", "ops", "name", "op", "id", "rev", "parent", "type", "ev", "epoch", "size", "wk", "mime", "blob", "len", "sha256", "hdr", "mtime", "mode", "prev", "remote", "blobs", "ctime", "title"} {
		for i := range strings.Count(plain, `"`+key+`":`) {
			each := func(what, by string) {
				t.Helper()
				bad(fmt.Sprint(what, key, i), replaceNth(plain, `"`+key+`":`, by, i))
			}
			each("no ", `"`+key+`x":`)
			each("upper case ", `"`+strings.ToUpper(key)+`":`)
			each("null ", `"`+key+`":null,"y":`)
			each("twice ", `"`+key+`":1,"`+key+`":`)
			each("unknown key before ", `"zz":0,"`+key+`":`)
		}
	}
	bad("trailing bytes", plain+" x")
	bad("second value", plain+plain)
	bad("cut", plain[:len(plain)-1])
	bad("list", "["+plain+"]")
	bad("empty", "")
	bad("byte order mark", "\ufeff"+plain)
	bad("deep", strings.Repeat(`{"v":`, 1000))
	bad("deep value", strings.Replace(plain, `"seen":{`, `"seen":`+strings.Repeat("[", 500)+strings.Repeat("]", 500)+`,"x":{`, 1))
	bad("too long", plain+strings.Repeat(" ", MaxBatch))
	for what, n := range map[string]string{"fraction": "1.0", "exponent": "1e0", "negative": "-1", "zero": "0", "leading zero": "01", "2^53": "9007199254740992", "huge": strings.Repeat("9", 400), "text": `"1"`} {
		change("seq "+what, `"seq":1`, `"seq":`+n)
		change("rev "+what, `"rev":1`, `"rev":`+n)
	}
	for what, n := range map[string]string{"number": "5", "plus": `"+5"`, "minus zero": `"-0"`, "leading zero": `"05"`, "space": `" 5"`, "fraction": `"5.0"`, "2^63": `"9223372036854775808"`, "empty": `""`} {
		change("ctime "+what, `"ctime":"5"`, `"ctime":`+n)
	}
	for what, h := range map[string]string{"short": "019b", "long": "00019b76e0e0000000", "upper case": "019B76E0E0000000", "sign": "+19b76e0e0000000", "prefix": "0x9b76e0e0000000"} {
		bad("hlc "+what, strings.Replace(plain, sampleBody().HLC.String(), h, 1))
	}
	change("surrogate in a name", `"name":"B`, `"name":"\ud800B`)
	change("line end in base64", `"prev":"`, `"prev":"\r\n`)
	change("padding bits", EncodeBase64(seq(8, 32)), strings.Replace(EncodeBase64(seq(8, 32)), "=", "x", 1))
	change("UUID in upper case", testAttachment.UUID(), strings.ToUpper(testAttachment.UUID()))
	change("UUID as hex", testAttachment.UUID(), testAttachment.Hex())
	change("blob as UUID", testBlob.Hex(), testBlob.UUID())
	change("blob as number", `"blobs":["`+testBlob.Hex()+`"]`, `"blobs":[7]`)
	change("blobs as text", `"blobs":["`+testBlob.Hex()+`"]`, `"blobs":"`+testBlob.Hex()+`"`)
	change("parent type", `"type":"item"`, `"type":"items"`)
	change("op as list", `"ops":[`, `"ops":[[],`)
	change("op as null", `"ops":[`, `"ops":[null,`)
	change("seen by device text", otherDevice.UUID(), otherDevice.Hex())
	change("place outside a checkpoint", `{"op":"want",`, `{"at":["`+testDevice.UUID()+`",1,0,"0000000000000001"],"op":"want",`)
	manySeen := strings.Builder{}
	for i, id := range manyIDs(maxDevices + 1) {
		fmt.Fprintf(&manySeen, `%s"%s":{"seq":1,"hash":"%s"}`, strings.Repeat(",", min(i, 1)), id.UUID(), EncodeBase64(make([]byte, 32)))
	}
	bad("many devices", `{"v":1,"hlc":"0000000000000001","seen":{`+manySeen.String()+`},"ops":[]}`)
	bad("many ops", `{"v":1,"hlc":"0000000000000001","seen":{},"ops":[`+strings.Repeat(`{"op":"want","blobs":[]},`, MaxOps)+`{"op":"want","blobs":[]}]}`)

	// What is not strictness: spaces, and any order of the keys.
	var m map[string]any
	d := json.NewDecoder(strings.NewReader(plain))
	d.UseNumber()
	if err := d.Decode(&m); err != nil {
		t.Fatal(err)
	}
	got, err := ParseBody(must[[]byte](t)(json.MarshalIndent(m, "", " ")))
	if err != nil || !reflect.DeepEqual(got, sampleBody()) {
		t.Errorf("other order and spaces: %v", err)
	}
}

func replaceNth(s, old, by string, n int) string {
	at := 0
	for range n {
		at += strings.Index(s[at:], old) + len(old)
	}
	return s[:at] + strings.Replace(s[at:], old, by, 1)
}

// The limits of the page hold for what is written and for what is read.
func TestOpLimits(t *testing.T) {
	put := func(change func(*Put)) Op { p := samplePut(V3, 1); change(p); return p }
	put4 := func(change func(*Put)) Op { p := samplePut(V4, 1); change(p); return p }
	asset := func(change func(*AssetPut)) Op {
		p := &AssetPut{ID: testParent, Rev: 1, Type: ParentNote, Title: seq(0, 30), Epoch: 1}
		change(p)
		return p
	}
	id, hash := testAttachment, [32]byte{1}
	for what, op := range map[string]Op{
		"put without id":        put(func(p *Put) { p.ID = ID{} }),
		"put rev 0":             put(func(p *Put) { p.Rev = 0 }),
		"put rev 2^53":          put(func(p *Put) { p.Rev = maxJSONInt + 1 }),
		"put rev 1 after":       put(func(p *Put) { p.Rev = 1 }),
		"put rev 2 after none":  put(func(p *Put) { p.Prev = [32]byte{} }),
		"put parent 0":          put(func(p *Put) { p.Parent.Type = 0 }),
		"put parent 4":          put(func(p *Put) { p.Parent.Type = 4 }),
		"put without parent":    put(func(p *Put) { p.Parent.ID = ID{} }),
		"put version 2":         put(func(p *Put) { p.Version = 2 }),
		"put epoch 0":           put(func(p *Put) { p.Epoch = 0 }),
		"put v3 too large":      put(func(p *Put) { p.Size, p.Blob.Len = MaxV3+1, MaxV3+1+OverheadV3 }),
		"put v4 too large":      put4(func(p *Put) { p.Size = MaxV4 + 1; p.Blob.Len = uint64(SealedSizeV4(MaxV4 + 1)) }),
		"put size 2^64":         put4(func(p *Put) { p.Size = math.MaxUint64 }),
		"put blob length":       put(func(p *Put) { p.Blob.Len++ }),
		"put without blob":      put(func(p *Put) { p.Blob.ID = ID{} }),
		"put hdr":               put(func(p *Put) { p.Blob.Hdr = seq(0, HdrV3+1) }),
		"put v4 with v3 hdr":    put4(func(p *Put) { p.Blob.Hdr = seq(0, HdrV3) }),
		"put v4 hdr magic":      put4(func(p *Put) { p.Blob.Hdr = seq(0, HeaderV4) }),
		"put v3 as v4":          put(func(p *Put) { p.Version = V4 }),
		"put key":               put(func(p *Put) { p.WK = seq(0, WrappedKeySize-1) }),
		"put name too short":    put(func(p *Put) { p.Name = seq(0, Overhead-1) }),
		"put name too long":     put(func(p *Put) { p.Name = seq(0, Overhead+MaxName+1) }),
		"put MIME too short":    put(func(p *Put) { p.MIME = nil }),
		"put MIME too long":     put(func(p *Put) { p.MIME = seq(0, Overhead+MaxMIME+1) }),
		"put mode":              put(func(p *Put) { p.Mode = MaxMode + 1 }),
		"del without id":        &Del{Prev: hash},
		"del of nothing":        &Del{ID: id},
		"asset-del without id":  &AssetDel{Prev: hash},
		"asset-del of nothing":  &AssetDel{ID: id},
		"wrap without blob":     &Wrap{Epoch: 1, WK: seq(0, 60)},
		"wrap epoch 0":          &Wrap{Blob: id, WK: seq(0, 60)},
		"wrap key":              &Wrap{Blob: id, Epoch: 1, WK: seq(0, 61)},
		"sent nowhere":          &Sent{Blobs: []ID{id}},
		"sent many":             &Sent{Remote: id, Blobs: manyIDs(MaxBlobs + 1)},
		"sent zero":             &Sent{Remote: id, Blobs: []ID{{}}},
		"want many":             &Want{Blobs: manyIDs(MaxBlobs + 1)},
		"asset without id":      asset(func(p *AssetPut) { p.ID = ID{} }),
		"asset rev 0":           asset(func(p *AssetPut) { p.Rev = 0 }),
		"asset rev 2 of none":   asset(func(p *AssetPut) { p.Rev = 2 }),
		"asset type":            asset(func(p *AssetPut) { p.Type = 9 }),
		"asset epoch 0":         asset(func(p *AssetPut) { p.Epoch = 0 }),
		"asset title too short": asset(func(p *AssetPut) { p.Title = seq(0, Overhead-1) }),
		"asset title too long":  asset(func(p *AssetPut) { p.Title = seq(0, Overhead+MaxTitle+1) }),
		"device without name":   &DeviceName{},
		"device name too long":  &DeviceName{Name: strings.Repeat("x", MaxDeviceName+1)},
		"device name not UTF-8": &DeviceName{Name: "\xff"},
		"device name slash":     &DeviceName{Name: "a/b"},
		"device name control":   &DeviceName{Name: "a\n"},
	} {
		_, err := AppendOp(nil, op)
		wantErr(t, what, err, ErrFormat)
		w := &jsonWriter{}
		if p, ok := op.(*Put); ok && int(p.Parent.Type) >= len(parentNames) {
			continue // has no spelling
		} else if a, ok := op.(*AssetPut); ok && int(a.Type) >= len(parentNames) {
			continue
		}
		w.op(&PlacedOp{Op: op})
		_, err = ParseBody([]byte(`{"v":1,"hlc":"0000000000000001","seen":{},"ops":[` + string(w.b) + `]}`))
		wantErr(t, what+" as JSON", err, ErrFormat)
	}
	_, err := AppendOp(nil, put4(func(p *Put) { p.Version = 5 }))
	wantErr(t, "version 5", err, ErrNewer)
	_, err = NewPut(&Record{}, [32]byte{})
	wantErr(t, "empty record", err, ErrFormat)
}

// A record moved into another field of its op, or between ops, is another record.
func TestCrossFieldOps(t *testing.T) {
	p := samplePut(V4, 1)
	differ(t, *p, func(p Put) [32]byte { return p.Digest(testVault) }, map[string]func(*Put){
		"id": func(p *Put) { p.ID, p.Parent.ID = p.Parent.ID, p.ID }, "parent": func(p *Put) { p.Parent.ID[0]++ },
		"parent type": func(p *Put) { p.Parent.Type = ParentNote }, "rev": func(p *Put) { p.Rev++ }, "version": func(p *Put) { p.Version = V3 },
		"epoch": func(p *Put) { p.Epoch++ }, "size": func(p *Put) { p.Size++ }, "key": func(p *Put) { p.WK = seq(9, 60) },
		"name and MIME": func(p *Put) { p.Name, p.MIME = p.MIME, p.Name }, "name": func(p *Put) { p.Name = p.MIME },
		"blob": func(p *Put) { p.Blob.ID[0]++ }, "len": func(p *Put) { p.Blob.Len++ }, "sha256": func(p *Put) { p.Blob.SHA256[0]++ },
		"hdr": func(p *Put) { p.Blob.Hdr = flipped(p.Blob.Hdr, 99) }, "mtime": func(p *Put) { p.Mtime++ }, "mode": func(p *Put) { p.Mode++ },
	})
	if p.Digest(testVault) == p.Digest(testParent) {
		t.Error("vault not in the digest")
	}
	other := *p
	other.Prev[0]++
	if other.Digest(testVault) != p.Digest(testVault) {
		t.Error("prev is in the digest: the same record by two authors would be two")
	}
	again := must[*Put](t)(NewPut(p.Record(testVault), p.Prev))
	if !reflect.DeepEqual(again, p) {
		t.Errorf("record and back: got %+v, want %+v", again, p)
	}
	a := &AssetPut{ID: testParent, Rev: 1, Type: ParentNote, Ctime: 5, Title: seq(0, 30), Epoch: 1}
	if want := a.Record(testVault).Digest(); a.Digest(testVault) != want || want == ([32]byte{}) {
		t.Error("digest of an asset")
	}
}

// A record moved to another parent, exported perhaps, is not the one attested.
func TestParentSwap(t *testing.T) {
	p := samplePut(V3, 1)
	was := p.Digest(testVault)
	for what, parent := range map[string]Parent{"id": {ParentItem, testAttachment}, "type": {ParentNote, testParent}, "none": {}} {
		moved := *p
		moved.Parent = parent
		if moved.Digest(testVault) == was {
			t.Errorf("%s: same digest", what)
		}
	}
}

// A wrapped key of an older revision or epoch, authentic in itself, is not the
// one attested.
func TestWrappedKeyReplay(t *testing.T) {
	e, fk, old := DeriveEpoch(keyFrom(0x60), testVault, 3), NewKey(), NewKey()
	p := samplePut(V3, 1)
	p.WK = must[[]byte](t)(e.WrapFileKey(&fk))
	was := p.Digest(testVault)
	for what, change := range map[string]func(*Put){
		"key of another revision": func(p *Put) { p.WK = must[[]byte](t)(e.WrapFileKey(&old)) },
		"same key wrapped again":  func(p *Put) { p.WK = must[[]byte](t)(e.WrapFileKey(&fk)) },
		"older epoch":             func(p *Put) { p.Epoch-- },
	} {
		replayed := *p
		change(&replayed)
		if replayed.Digest(testVault) == was {
			t.Errorf("%s: same digest", what)
		}
	}
}

func TestHLC(t *testing.T) {
	for _, h := range []HLC{0, 1, HLCAt(1767225600000), math.MaxUint64} {
		got, err := ParseHLC(h.String())
		if err != nil || got != h || len(h.String()) != 16 {
			t.Errorf("%s: got %v, %v", h, got, err)
		}
	}
	const now = 1767225600000
	if h := HLCAt(now); h.Millis() != now || uint64(h) != now<<16 || h.String() != fmt.Sprintf("%012x0000", now) {
		t.Errorf("got %s", h)
	}
	for what, c := range map[string]struct {
		h     HLC
		clock int64
		want  HLC
	}{
		"clock ahead":     {HLCAt(now - 1), now, HLCAt(now) + 1},
		"clock behind":    {HLCAt(now) + 7, now - 1000, HLCAt(now) + 8},
		"same ms":         {HLCAt(now) + 7, now, HLCAt(now) + 8},
		"full counter":    {HLCAt(now+1) - 1, now, HLCAt(now + 1)},
		"negative clock":  {5, -1, 6},
		"absurd clock":    {5, math.MaxInt64, HLCAt(maxHLCMillis) + 1},
		"the last of all": {math.MaxUint64, now, math.MaxUint64},
	} {
		if got := c.h.Tick(c.clock); got != c.want {
			t.Errorf("%s: got %s, want %s", what, got, c.want)
		}
	}
}

func TestState(t *testing.T) {
	a, b, c := Tip{ID{1}, [32]byte{2}}, Tip{ID{1}, [32]byte{3}}, Tip{ID{2}, [32]byte{1}}
	want := sum256(a.ID[:], a.Digest[:], b.ID[:], b.Digest[:], c.ID[:], c.Digest[:])
	for _, tips := range [][]Tip{{a, b, c}, {c, b, a}, {b, a, c, b, a}} {
		if got := State(tips); got != want {
			t.Errorf("got %x, want %x", got, want)
		}
	}
	if got := State(nil); got != sum256() {
		t.Errorf("empty: got %x", got)
	}
	if State([]Tip{a, b}) == want {
		t.Error("a tip does not count")
	}
}
