package seal

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// Each target states an identity: what a decoder accepts, its encoder writes
// again; what it refuses, it refuses with one of its own errors.

func seeds[T string | []byte](f *testing.F, corpus ...T) {
	f.Helper()
	if len(corpus) == 0 {
		f.Fatal("empty seed corpus")
	}
	for _, s := range corpus {
		f.Add(s)
	}
}

func isOne(err error, of ...error) bool {
	for _, want := range of {
		if errors.Is(err, want) {
			return true
		}
	}
	return false
}

func FuzzV3Open(f *testing.F) {
	fk := keyFrom(1)
	seeds(f, nil, make([]byte, 28), fixedSeal(fk.b[:], seq(0, ivSize), nil, nil), fixedSeal(fk.b[:], seq(9, ivSize), pattern(100), nil))
	f.Fuzz(func(t *testing.T, blob []byte) {
		work := bytes.Clone(blob)
		plain, err := OpenV3(fk, work, int64(len(blob)-OverheadV3), nil)
		if err != nil {
			if !isOne(err, ErrTruncated, ErrTooLarge, ErrAuth) {
				t.Error(err)
			}
			return
		}
		if !bytes.Equal(fixedSeal(fk.b[:], blob[:ivSize], plain, nil), blob) {
			t.Error("opened what sealing does not give")
		}
	})
}

func FuzzV4Open(f *testing.F) {
	fk := keyFrom(1)
	corpus := [][]byte{nil, []byte(magicV4), make([]byte, 80)}
	for _, n := range []int{0, 1, 100, ChunkSize, ChunkSize + 1} {
		c := deriveV4(fk, testVault, testBlob, [saltSize]byte(seq(byte(n), saltSize)))
		corpus = append(corpus, c.SealChunks(c.Header(), pattern(n), 0, true))
	}
	seeds(f, corpus...)
	f.Fuzz(func(t *testing.T, blob []byte) {
		size, err := PlainSizeV4(int64(len(blob)))
		if err == nil {
			var plain []byte
			if plain, err = openV4(fk, testVault, testBlob, blob, size); err == nil {
				c := deriveV4(fk, testVault, testBlob, [saltSize]byte(blob[saltOff:]))
				if !bytes.Equal(c.SealChunks(c.Header(), plain, 0, true), blob) {
					t.Error("opened what sealing does not give")
				}
				return
			}
		}
		if !isOne(err, ErrTruncated, ErrFormat, ErrKeyCommit, ErrAuth) {
			t.Error(err)
		}
	})
}

func FuzzV4Chunks(f *testing.F) {
	c := deriveV4(keyFrom(1), testVault, testBlob, [saltSize]byte{})
	seeds(f, nil, make([]byte, 15), c.SealChunks(nil, pattern(3), 0, true), c.SealChunks(nil, pattern(ChunkSize), 0, true), c.SealChunks(nil, pattern(ChunkSize), 0, false))
	f.Fuzz(func(t *testing.T, src []byte) {
		dst := bytes.Repeat([]byte{1}, len(src))
		n, err := c.OpenChunks(dst, src, 0)
		if err != nil {
			if n != 0 || len(bytes.Trim(dst, "\x00")) > 0 || !isOne(err, ErrTruncated, ErrFormat, ErrAuth) {
				t.Error(err)
			}
			return
		}
		if got := c.SealChunks(nil, dst[:n], 0, len(src)%SealedChunk != 0); !bytes.Equal(got, src) {
			t.Error("opened what sealing does not give")
		}
	})
}

func FuzzHeader(f *testing.F) {
	v := newTestHeader(f).withKit(f)
	newVK, kek := NewKey(), NewKey()
	e2, err := NewEpoch(v.SignedHeader, v.ids, v.vk, &newVK, &kek, LowKDF(), func(h *Header) { h.Cut = map[ID]Cut{testDevice: {Seq: 3}} })
	if err != nil {
		f.Fatal(err)
	}
	seeds(f, nil, []byte(`{"payload":"","sig":""}`), newTestHeader(f).Envelope(), v.Envelope(), e2.Envelope())
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseEnvelope(b)
		if err != nil {
			if !isOne(err, ErrHeader, ErrKDFParams) {
				t.Error(err)
			}
			return
		}
		checkReparse(t, h)
	})
}

func FuzzHeaderPayload(f *testing.F) {
	v := newTestHeader(f)
	seeds(f, v.Payload, v.withKit(f).Payload, []byte("{}"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		h, err := ParseEnvelope((&SignedHeader{Payload: payload}).Envelope())
		if err != nil {
			if !isOne(err, ErrHeader, ErrKDFParams) {
				t.Error(err)
			}
			return
		}
		checkReparse(t, h)
	})
}

// checkReparse: the bytes signed are kept as they came, and the header written
// anew means the same.
func checkReparse(t *testing.T, h *SignedHeader) {
	again, err := ParseEnvelope(h.Envelope())
	if err != nil || !bytes.Equal(again.Payload, h.Payload) || again.Sig != h.Sig {
		t.Fatalf("envelope: %v", err)
	}
	payload, err := encodePayload(&h.Header)
	if err != nil {
		t.Fatal(err)
	}
	written, err := ParseEnvelope((&SignedHeader{Payload: payload}).Envelope())
	if err != nil || !reflect.DeepEqual(written.Header, h.Header) {
		t.Fatalf("written anew: %v", err)
	}
}

func FuzzWireJSON(f *testing.F) {
	wire := WireJSON(make([]byte, 44))
	quoted, _ := json.Marshal(wire)
	seeds(f, nil, []byte(wire), quoted, []byte(`{"iv":"AAAAAAAAAAAAAAAA","ciphertext":"\u0041AAAAAAAAAAAAAAAAAAAAA=="}`))
	f.Fuzz(func(t *testing.T, js []byte) {
		wire, err := ParseWireJSON(js)
		if err != nil {
			if !isOne(err, ErrFormat, ErrEncoding) {
				t.Error(err)
			}
			return
		}
		again, err := ParseWireJSON([]byte(WireJSON(wire)))
		if err != nil || !bytes.Equal(again, wire) {
			t.Errorf("written again: %v", err)
		}
	})
}

// What the strict parser takes, every parser takes, and to the same meaning.
func FuzzStrictJSON(f *testing.F) {
	seeds(f, []byte(`{"a":[1,2.5e3,"\ud83d\ude00",null,true],"b":{}}`), []byte(`"\ud800"`), []byte(`{"a":1,"a":2}`), []byte(" [] "), []byte(`[[[[[[[[[]]]]]]]]]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseJSON(b)
		if err != nil {
			if !isOne(err, ErrFormat) {
				t.Error(err)
			}
			if plainlyStrict(b) {
				t.Errorf("refused: %v", err)
			}
			return
		}
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		var want any
		if err := d.Decode(&want); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("encoding/json reads %v, %v; we read %v", want, err, got)
		}
		if _, err := d.Token(); err != io.EOF {
			t.Error("something follows the value")
		}
	})
}

// plainlyStrict tells JSON that has none of the faults encoding/json lets pass;
// it knows surrogates only by sight.
func plainlyStrict(b []byte) bool {
	if !json.Valid(b) || !utf8.Valid(b) || bytes.Contains(bytes.ToLower(b), []byte(`\ud`)) {
		return false
	}
	d := json.NewDecoder(bytes.NewReader(b))
	var keys []map[any]bool // of the objects around, nil for a list
	isKey := false
	for {
		tok, err := d.Token()
		if err != nil {
			return true // the end
		}
		inObject := len(keys) > 0 && keys[len(keys)-1] != nil
		switch tok {
		case json.Delim('{'), json.Delim('['):
			if len(keys) == maxJSONDepth {
				return false // perhaps
			}
			keys, isKey = append(keys, nil), false
			if tok == json.Delim('{') {
				keys[len(keys)-1], isKey = map[any]bool{}, true
			}
			continue
		case json.Delim('}'), json.Delim(']'):
			keys = keys[:len(keys)-1]
			isKey = len(keys) > 0 && keys[len(keys)-1] != nil
			continue
		}
		if inObject && isKey {
			if keys[len(keys)-1][tok] {
				return false
			}
			keys[len(keys)-1][tok] = true
		}
		isKey = inObject && !isKey
	}
}

func FuzzBase64(f *testing.F) {
	seeds(f, "", "AA==", "AAB=", "AAAA\n", "AB==")
	f.Fuzz(func(t *testing.T, s string) {
		if b, err := DecodeBase64(s); err == nil && EncodeBase64(b) != s || err != nil && !isOne(err, ErrEncoding) {
			t.Errorf("%q: %v", s, err)
		}
	})
}

func FuzzIDs(f *testing.F) {
	seeds(f, testVault.UUID(), testVault.Hex(), strings.ToUpper(testVault.Hex()), "")
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := ParseUUID(s); err == nil && id.UUID() != s || err != nil && !isOne(err, ErrFormat) {
			t.Errorf("UUID %q: %v", s, err)
		}
		if id, err := ParseHex(s); err == nil && id.Hex() != s || err != nil && !isOne(err, ErrFormat) {
			t.Errorf("hex %q: %v", s, err)
		}
	})
}

func FuzzKit(f *testing.F) {
	kit := Kit{Secret: *keyFrom(1)}
	seeds(f, kit.Text(), strings.ToLower(kit.Text()), kit.Text()[1:], "")
	f.Fuzz(func(t *testing.T, s string) {
		k, err := ParseKit(s)
		if err != nil {
			if !isOne(err, ErrKit) {
				t.Error(err)
			}
			return
		}
		if got := strings.ReplaceAll(k.Text(), "-", ""); got != kitReading.Replace(strings.ToUpper(s)) {
			t.Errorf("%q is read as %q", s, got)
		}
	})
}

func FuzzAddress(f *testing.F) {
	seeds(f, FormatAddress(testVault, testBlob, DIDFromSeed(keyFrom(1))), addressPrefix+strings.Repeat("a", 80), addressPrefix+strings.Repeat("a", 79)+"\xff", "")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err != nil {
			if !isOne(err, ErrAddress) {
				t.Error(err)
			}
			return
		}
		raw := append(labelIDs("", a.Vault, a.BootToken), a.DIDHash[:]...)
		if addressPrefix+addressEncoding.EncodeToString(raw) != s {
			t.Errorf("%q has another spelling", s)
		}
	})
}

func FuzzDraftRecord(f *testing.F) {
	d := NewDraftLog(keyFrom(1), testVault, testAttachment)
	seeds(f, nil, make([]byte, 40), d.SealRecord(nil, 0, 5, pattern(10)), d.SealRecord(nil, 0, 5, nil), d.SealRecord(nil, 1, 5, nil))
	f.Fuzz(func(t *testing.T, rec []byte) {
		off, data, used, err := d.OpenRecord(0, bytes.Clone(rec))
		if err != nil {
			if !isOne(err, ErrTruncated, ErrAuth) {
				t.Error(err)
			}
			return
		}
		if used != len(data)+DraftRecordOverhead || used > len(rec) {
			t.Errorf("record of %d bytes at %d uses %d", len(data), off, used)
		}
	})
}

// The small sealed things: no panic, and no error but these.
func FuzzSealedFields(f *testing.F) {
	e, l := DeriveEpoch(keyFrom(0x60), testVault, 1), DeriveLocal(keyFrom(1), testVault)
	fk, dk := keyFrom(2), keyFrom(3)
	wrapped, _ := e.WrapFileKey(fk)
	title, _ := e.SealTitle(testParent, "title")
	name3, _ := SealField(V3, fk, testVault, testAttachment, FieldName, "name")
	name4, _ := SealField(V4, fk, testVault, testAttachment, FieldName, "name")
	sealed := [][]byte{
		wrapped, title, name3, name4, e.SealLocalKey(fk), l.SealDeviceKey(testDevice, fk),
		SealDeviceSlot(dk, testVault, testDevice, 1, fk), l.SealRow(nil, pattern(50), nil),
	}
	doors := []func([]byte) error{
		func(b []byte) error { _, err := e.UnwrapFileKey(b); return err },
		func(b []byte) error { _, err := e.OpenTitle(testParent, b); return err },
		func(b []byte) error { _, err := OpenField(V3, fk, testVault, testAttachment, FieldName, b); return err },
		func(b []byte) error { _, err := OpenField(V4, fk, testVault, testAttachment, FieldName, b); return err },
		func(b []byte) error { _, err := e.OpenLocalKey(b); return err },
		func(b []byte) error { _, _, err := l.OpenDeviceKey(b); return err },
		func(b []byte) error { _, _, err := OpenDeviceSlot(dk, testVault, testDevice, b); return err },
		func(b []byte) error { _, err := l.OpenRow(nil, b, nil); return err },
	}
	seeds(f, append(sealed, nil, make([]byte, 28))...)
	f.Fuzz(func(t *testing.T, b []byte) {
		for i, open := range doors {
			err := open(bytes.Clone(b))
			if err != nil && (bytes.Equal(b, sealed[i]) || !isOne(err, ErrFormat, ErrTruncated, ErrAuth)) {
				t.Errorf("door %d: %v", i, err)
			}
		}
	})
}

func FuzzRecoverySlot(f *testing.F) {
	kit := Kit{Secret: *keyFrom(1)}
	pk, err := kit.PublicKey()
	if err != nil {
		f.Fatal(err)
	}
	slot, err := SealRecovery(pk, testVault, 1, keyFrom(2), keyFrom(3))
	if err != nil {
		f.Fatal(err)
	}
	seeds(f, slot.CT, nil, make([]byte, 1120), make([]byte, 1200))
	f.Fuzz(func(t *testing.T, ct []byte) {
		vk, ids, err := OpenRecovery(&kit, testVault, 1, &RecoverySlot{PK: pk, CT: ct})
		if err != nil && (!vk.IsZero() || !ids.IsZero() || !isOne(err, ErrAuth)) {
			t.Error(err)
		}
	})
}
