package server

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"testing/iotest"
)

// What the scanner takes, encoding/json reads alike; and it holds for every way
// the bytes may be cut in pieces.
func FuzzScanUpload(f *testing.F) {
	for _, seed := range []string{
		`{"encrypted_content":"AAAA"}`, ` { "a" : [1, {"b":"\u00e9"}] , "encrypted_content" : "AA==" } `, `{"encrypted_content":"A\/A\u002f","x":null}`,
		`{"a":"\"}","encrypted_content":""}`, `{"encrypted_content":"AAAA","encrypted_content":"AAAA"}`, `{"A":1,"a":1,"encrypted_content":""}`, `{}`, `{"encrypted_content":"AAAA",}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var out bytes.Buffer
		fields, err := scanUpload(bytes.NewReader(b), &out)
		var slow bytes.Buffer
		again, errSlow := scanUpload(iotest.OneByteReader(bytes.NewReader(b)), &slow)
		if (err == nil) != (errSlow == nil) || err == nil && (string(fields) != string(again) || slow.String() != out.String()) {
			t.Fatalf("whole: %q %v, byte by byte: %q %v", fields, err, again, errSlow)
		}
		if err != nil || !json.Valid(fields) {
			return // what is wrong inside of a field is encoding/json's to say
		}
		var all map[string]json.RawMessage
		if err := json.Unmarshal(b, &all); err != nil {
			t.Fatalf("encoding/json refuses %q: %v", b, err)
		}
		var content string
		if err := json.Unmarshal(all["encrypted_content"], &content); err != nil {
			t.Fatalf("content of %q: %v", b, err)
		}
		want, err := base64.StdEncoding.DecodeString(content)
		if err != nil || !bytes.Equal(want, out.Bytes()) {
			t.Fatalf("content %q: %x, want %x, %v", content, out.Bytes(), want, err)
		}
		var kept map[string]json.RawMessage
		if err := json.Unmarshal(fields, &kept); err != nil || len(kept) != len(all)-1 {
			t.Fatalf("kept %q of %q: %v", fields, b, err)
		}
	})
}

func TestBase64InPieces(t *testing.T) {
	content := randomBytes(10_000)
	text := base64.StdEncoding.EncodeToString(content)
	for step := 1; step < 70; step++ {
		var out bytes.Buffer
		d := &base64Writer{w: &out}
		for r := strings.NewReader(text); r.Len() > 0; {
			piece := make([]byte, min(step, r.Len()))
			r.Read(piece)
			if _, err := d.Write(piece); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.Close(); err != nil || !bytes.Equal(out.Bytes(), content) {
			t.Fatalf("in pieces of %d: %v", step, err)
		}
	}
}
