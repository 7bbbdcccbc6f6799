package seal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestFieldRoundTrip(t *testing.T) {
	fk := keyFrom(1)
	for _, version := range []int{V3, V4} {
		for _, text := range []string{"a", "Ordner/𠮷野家 🔐.pdf", strings.Repeat("x", 4096), "line\nend \x00 \u202e", "", "𝔳"} {
			for _, f := range []Field{FieldName, FieldMIME} {
				wire, err := SealField(version, fk, testVault, testAttachment, f, text)
				if f == FieldName && text == "" {
					wantErr(t, "empty name", err, ErrName)
					continue
				}
				if err != nil || len(wire) != len(text)+Overhead {
					t.Fatalf("%q: %d bytes, %v", text, len(wire), err)
				}
				got, err := OpenField(version, fk, testVault, testAttachment, f, wire)
				if err != nil || got != text {
					t.Errorf("%q: got %q, %v", text, got, err)
				}
			}
		}
	}
}

// "tag failure (any field)": every bit of name, type, wrapped key and title.
func TestFieldMutations(t *testing.T) {
	fk := keyFrom(1)
	e := DeriveEpoch(keyFrom(0x60), testVault, 3)
	type door struct {
		what string
		wire []byte
		open func([]byte) error
	}
	doors := []door{
		{"wrapped key", must[[]byte](t)(e.WrapFileKey(fk)), func(w []byte) error { _, err := e.UnwrapFileKey(w); return err }},
		{"title", must[[]byte](t)(e.SealTitle(testParent, "Steuer")), func(w []byte) error { _, err := e.OpenTitle(testParent, w); return err }},
	}
	for _, version := range []int{V3, V4} {
		for _, f := range []Field{FieldName, FieldMIME} {
			doors = append(doors, door{
				fmt.Sprintf("v%d field %d", version, f),
				must[[]byte](t)(SealField(version, fk, testVault, testAttachment, f, "application/pdf")),
				func(w []byte) error { _, err := OpenField(version, fk, testVault, testAttachment, f, w); return err },
			})
		}
	}
	for _, d := range doors {
		if err := d.open(d.wire); err != nil {
			t.Errorf("%s: %v", d.what, err)
		}
		for bit := range 8 * len(d.wire) {
			wantErr(t, fmt.Sprint(d.what, " bit ", bit), d.open(flipped(d.wire, bit)), ErrAuth)
		}
	}
}

// "IV ≠ 12, wrapped ≠ 48, name or MIME ciphertext < 16 bytes, JSON not strict".
func TestWireShapes(t *testing.T) {
	b := func(n int) string { return EncodeBase64(make([]byte, n)) }
	object := func(iv, ct int) string { return `{"iv":"` + b(iv) + `","ciphertext":"` + b(ct) + `"}` }
	good := object(12, 16)
	for _, js := range []string{good, " " + good + "\n", string(must[[]byte](t)(json.Marshal(good))), `{"ciphertext":"` + b(16) + `","iv":"` + b(12) + `"}`, strings.ReplaceAll(object(12, 48), "A", `\u0041`)} {
		if _, err := ParseWireJSON([]byte(js)); err != nil {
			t.Errorf("%s: %v", js, err)
		}
	}
	for what, js := range map[string]string{
		"IV of 11": object(11, 16), "IV of 13": object(13, 16), "no IV": object(0, 16),
		"ciphertext of 15": object(12, 15), "no ciphertext": object(12, 0),
		"nothing": "", "number": "5", "null": "null", "array": "[" + good + "]", "string of nothing": `""`,
		"string in string":  string(must[[]byte](t)(json.Marshal(string(must[[]byte](t)(json.Marshal(good)))))),
		"key missing":       `{"iv":"` + b(12) + `"}`,
		"key more":          good[:len(good)-1] + `,"x":1}`,
		"key twice":         good[:len(good)-1] + `,"iv":"` + b(12) + `"}`,
		"key in upper case": strings.Replace(good, `"iv"`, `"IV"`, 1),
		"value no string":   `{"iv":12,"ciphertext":"` + b(16) + `"}`,
		"bytes behind":      good + "x", "object behind": good + good, "invalid UTF-8": good[:8] + "\xff" + good[8:],
	} {
		_, err := ParseWireJSON([]byte(js))
		wantErr(t, what, err, ErrFormat)
	}
	e := DeriveEpoch(keyFrom(0x60), testVault, 3)
	for _, n := range []int{0, 12, 28, 59, 61, 100} {
		_, err := e.UnwrapFileKey(make([]byte, n))
		wantErr(t, fmt.Sprint("wrapped key of ", n), err, ErrFormat)
	}
	for n := range Overhead {
		_, err := OpenField(V3, keyFrom(1), testVault, testAttachment, FieldName, make([]byte, n))
		wantErr(t, fmt.Sprint("name of ", n), err, ErrFormat)
		_, err = e.OpenTitle(testParent, make([]byte, n))
		wantErr(t, fmt.Sprint("title of ", n), err, ErrFormat)
	}
	_, err := OpenField(V3, keyFrom(1), testVault, testAttachment, 3, make([]byte, 40))
	wantErr(t, "field 3", err, ErrFormat)
}

// "encryption_version not 3 or 4".
func TestUnknownVersion(t *testing.T) {
	for _, v := range []int{-1, 0, 1, 2, 5, 255} {
		wantErr(t, "check", CheckVersion(v), ErrVersion)
		_, err := SealField(v, keyFrom(1), testVault, testAttachment, FieldName, "a")
		wantErr(t, "seal", err, ErrVersion)
		_, err = OpenField(v, keyFrom(1), testVault, testAttachment, FieldName, make([]byte, 40))
		wantErr(t, "open", err, ErrVersion)
		_, err = SealedSize(v, 1)
		wantErr(t, "size", err, ErrVersion)
	}
}

// "name not UTF-8 or empty after decoding": authentic, but of no use as a name.
func TestUnusableName(t *testing.T) {
	fk := keyFrom(1)
	for _, name := range []string{"", "\xff", "ab\xc0\x80", "\xed\xa0\x80"} {
		wire := fixedSeal(fk.b[:], seq(0xb0, ivSize), []byte(name), nil)
		_, err := OpenField(V3, fk, testVault, testAttachment, FieldName, wire)
		wantErr(t, fmt.Sprintf("name %q", name), err, ErrName)
		if name == "" {
			continue
		}
		_, err = OpenField(V3, fk, testVault, testAttachment, FieldMIME, wire)
		wantErr(t, fmt.Sprintf("type %q", name), err, ErrFormat)
		_, err = SealField(V4, fk, testVault, testAttachment, FieldName, name)
		wantErr(t, fmt.Sprintf("seal %q", name), err, ErrName)
	}
	if got, want := UnnamedName(testAttachment), "unnamed-20212223"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Version 4 names and types cannot change places, nor move to another
// attachment or vault. (In version 3 only the row around them prevents that.)
func TestSwapNameMime(t *testing.T) {
	fk := keyFrom(1)
	name := must[[]byte](t)(SealField(V4, fk, testVault, testAttachment, FieldName, "text/html"))
	mime := must[[]byte](t)(SealField(V4, fk, testVault, testAttachment, FieldMIME, "text/html"))
	_, err := OpenField(V4, fk, testVault, testAttachment, FieldMIME, name)
	wantErr(t, "name as type", err, ErrAuth)
	_, err = OpenField(V4, fk, testVault, testAttachment, FieldName, mime)
	wantErr(t, "type as name", err, ErrAuth)
	_, err = OpenField(V4, fk, testVault, testParent, FieldName, name)
	wantErr(t, "another attachment", err, ErrAuth)
	_, err = OpenField(V4, fk, testParent, testAttachment, FieldName, name)
	wantErr(t, "another vault", err, ErrAuth)
	v3 := must[[]byte](t)(SealField(V3, fk, testVault, testAttachment, FieldName, "text/html"))
	if got, err := OpenField(V3, fk, testVault, testAttachment, FieldMIME, v3); err != nil || got != "text/html" {
		t.Errorf("version 3 has no associated data: %v", err)
	}
}

// A content, or another record's field, is no name.
func TestCrossField(t *testing.T) {
	fk, other := keyFrom(1), keyFrom(2)
	c, blob := sealedV4(fk, testVault, testBlob, []byte("looks like a name"))
	_, err := OpenField(V4, fk, testVault, testAttachment, FieldName, append(bytes.Clone(c.base[:]), blob[HeaderV4:]...))
	wantErr(t, "v4 content as name", err, ErrAuth)
	wire := must[[]byte](t)(SealField(V3, other, testVault, testAttachment, FieldName, "name"))
	_, err = OpenField(V3, fk, testVault, testAttachment, FieldName, wire)
	wantErr(t, "name of another record", err, ErrAuth)
	e := DeriveEpoch(keyFrom(0x60), testVault, 3)
	_, err = e.OpenTitle(testParent, must[[]byte](t)(e.WrapFileKey(fk)))
	wantErr(t, "wrapped key as title", err, ErrAuth)
	_, err = e.UnwrapFileKey(must[[]byte](t)(e.SealTitle(testParent, strings.Repeat("t", 32))))
	wantErr(t, "title as wrapped key", err, ErrAuth)
	_, err = e.OpenTitle(testAttachment, must[[]byte](t)(e.SealTitle(testParent, "t")))
	wantErr(t, "title of another asset", err, ErrAuth)
}

// A record relabelled from one version to the other opens nowhere.
func TestVersionRelabel(t *testing.T) {
	fk := keyFrom(1)
	for _, n := range []int{0, 36, 100, 40000} {
		v3 := sealedV3(t, fk, pattern(n))
		if len(v3) >= HeaderV4 {
			_, err := OpenHeaderV4(fk, testVault, testBlob, v3[:HeaderV4])
			wantErr(t, "v3 as v4", err, ErrFormat)
			copy(v3, magicV4)
			_, err = OpenHeaderV4(fk, testVault, testBlob, v3[:HeaderV4])
			wantErr(t, "v3 with our magic as v4", err, ErrKeyCommit)
		}
		_, v4 := sealedV4(fk, testVault, testBlob, pattern(n))
		_, err := OpenV3(fk, v4, int64(len(v4)-OverheadV3), nil)
		wantErr(t, "v4 as v3", err, ErrAuth)
	}
	for _, from := range []int{V3, V4} {
		wire := must[[]byte](t)(SealField(from, fk, testVault, testAttachment, FieldName, "name"))
		_, err := OpenField(V3+V4-from, fk, testVault, testAttachment, FieldName, wire)
		wantErr(t, fmt.Sprintf("name of version %d as the other", from), err, ErrAuth)
	}
}

// A key that somebody else wrapped opens only under the epoch key.
func TestForeignKey(t *testing.T) {
	fk := keyFrom(1)
	e := DeriveEpoch(keyFrom(0x60), testVault, 3)
	for what, other := range map[string]*EpochKeys{
		"vault key": DeriveEpoch(keyFrom(0x61), testVault, 3),
		"vault":     DeriveEpoch(keyFrom(0x60), testParent, 3),
		"epoch":     DeriveEpoch(keyFrom(0x60), testVault, 4),
	} {
		_, err := e.UnwrapFileKey(must[[]byte](t)(other.WrapFileKey(fk)))
		wantErr(t, "wrapped under another "+what, err, ErrAuth)
	}
}
