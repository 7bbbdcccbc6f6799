package web_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// vault is one whose keys both sides have.
type vault struct {
	t     *testing.T
	id    seal.ID
	vk    seal.Key
	epoch uint32
	*seal.EpochKeys
}

func newVault(t *testing.T) *vault {
	v := &vault{t: t, id: seal.NewID(), vk: seal.NewKey(), epoch: 3}
	v.EpochKeys = seal.DeriveEpoch(&v.vk, v.id, v.epoch)
	return v
}

// keys is what an operation needs to derive encKey.
func (v *vault) keys(more fields) fields {
	f := fields{"vk": v.vk.Bytes(), "vault": v.id.UUID(), "epoch": v.epoch}
	maps.Copy(f, more)
	return f
}

// borders are the lengths at which something changes: nothing, one, chunks of
// version 4, groups of base64, and the most that version 3 takes.
var borders = []int{0, 1, 2, 3, 16383, 16384, 16385, 32768, 40000, 24575, 24576, 24577, 26214400}

var names = []string{"recovery-codes.pdf", "𝔳ault 🔐 Schlüssel.pdf", "Ordner/Übersicht 𠮷野家.txt", "nul\x00 and ﬁn", strings.Repeat("x", 4096)}

var types = []string{"application/pdf", "", "text/plain; charset=utf-8", strings.Repeat("y", 255)}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(7*i + i/256)
	}
	return b
}

// sealedByPage is what encryptAttachment gives.
type sealedByPage struct {
	EncryptedContent, FileNameEncrypted, ContentTypeEncrypted string
	WrappedFileKey                                            json.RawMessage
	SizeBytes                                                 int64
}

// What the page writes, the drive reads; the formats are the seed's.
func TestPageWritesDriveReads(t *testing.T) {
	node, v := startNode(t), newVault(t)
	for i, n := range borders {
		name, typ := names[i%len(names)], types[i%len(types)]
		var s sealedByPage
		node.ok("encrypt", v.keys(fields{"plain": pattern(n), "name": name, "type": typ}), &s)
		wrapped, err := seal.ParseWireJSON(s.WrappedFileKey)
		must(t, err)
		fk, err := v.UnwrapFileKey(wrapped)
		must(t, err)
		blob, err := seal.DecodeBase64(s.EncryptedContent)
		must(t, err)
		hdr := seal.HdrOfV3(blob)
		plain, err := seal.OpenV3(&fk, blob, s.SizeBytes, hdr[:])
		if err != nil || !bytes.Equal(plain, pattern(n)) {
			t.Errorf("%d bytes: %v", n, err)
		}
		for f, js := range map[seal.Field]string{seal.FieldName: s.FileNameEncrypted, seal.FieldMIME: s.ContentTypeEncrypted} {
			wire, err := seal.ParseWireJSON([]byte(js))
			must(t, err)
			got, err := seal.OpenField(seal.V3, &fk, v.id, seal.NewID(), f, wire)
			if want := map[seal.Field]string{seal.FieldName: name, seal.FieldMIME: typ}[f]; err != nil || got != want {
				t.Errorf("%d bytes, field %d: %q, %v", n, f, got, err)
			}
		}
	}
}

// Two files with the same content have nothing in common.
func TestPageDrawsNewKeys(t *testing.T) {
	node, v := startNode(t), newVault(t)
	seen := map[string]bool{}
	for range 8 {
		var s sealedByPage
		node.ok("encrypt", v.keys(fields{"plain": pattern(40), "name": "a", "type": "a"}), &s)
		var wrapped, name, typ struct{ IV, Ciphertext string }
		must(t, json.Unmarshal(s.WrappedFileKey, &wrapped))
		must(t, json.Unmarshal([]byte(s.FileNameEncrypted), &name))
		must(t, json.Unmarshal([]byte(s.ContentTypeEncrypted), &typ))
		for _, part := range []string{s.EncryptedContent[:16], wrapped.IV, wrapped.Ciphertext, name.IV, name.Ciphertext, typ.IV, typ.Ciphertext} {
			if seen[part] {
				t.Fatalf("%q twice", part)
			}
			seen[part] = true
		}
	}
}

func TestPageRefusesToWrite(t *testing.T) {
	node, v := startNode(t), newVault(t)
	for what, c := range map[string]struct {
		arg  fields
		want string
	}{
		"a byte too many":   {fields{"plain": pattern(26214401), "name": "a", "type": ""}, "ErrTooLarge"},
		"a file that grows": {fields{"plain": pattern(26214401), "size": 5, "name": "a", "type": ""}, "ErrTooLarge"},
		"no name":           {fields{"plain": pattern(1), "name": "", "type": ""}, "ErrName"},
		"a name too long":   {fields{"plain": pattern(1), "name": strings.Repeat("x", 4097), "type": ""}, "ErrName"},
		"half a character":  {fields{"plain": pattern(1), "name": json.RawMessage(`"a\ud83d"`), "type": ""}, "ErrName"},
		"a type too long":   {fields{"plain": pattern(1), "name": "a", "type": strings.Repeat("x", 256)}, "ErrFormat"},
	} {
		if got := node.call("encrypt", v.keys(c.arg), nil); got != c.want {
			t.Errorf("%s: %q, want %s", what, got, c.want)
		}
	}
}

// record seals an attachment as the drive does. sealed is nil for version 3.
func (v *vault) record(version, n int, name, typ string) (r fields, sealed []byte) {
	v.t.Helper()
	fk, id, blob := seal.NewKey(), seal.NewID(), seal.NewBlobID()
	wrapped, err := v.WrapFileKey(&fk)
	must(v.t, err)
	r = fields{"id": id.UUID(), "vault_id": v.id.UUID(), "blob_id": blob.Hex(), "size_bytes": n, "encryption_version": version,
		"wrapped_file_key": json.RawMessage(seal.WireJSON(wrapped))}
	for key, f := range map[string]seal.Field{"file_name_encrypted": seal.FieldName, "content_type_encrypted": seal.FieldMIME} {
		wire, err := seal.SealField(version, &fk, v.id, id, f, map[seal.Field]string{seal.FieldName: name, seal.FieldMIME: typ}[f])
		must(v.t, err)
		r[key] = seal.WireJSON(wire)
	}
	if version == seal.V4 {
		c := seal.NewV4(&fk, v.id, blob)
		return r, c.SealChunks(c.Header(), pattern(n), 0, true)
	}
	buf := make([]byte, n+seal.OverheadV3)
	copy(buf[12:], pattern(n))
	blob3, err := seal.SealV3(&fk, buf, n)
	must(v.t, err)
	r["encrypted_content"] = seal.EncodeBase64(blob3)
	return r, nil
}

func (v *vault) open(r fields, sealed []byte) fields {
	f := v.keys(fields{"record": r})
	if sealed != nil {
		f["sealed"] = sealed
	}
	return f
}

// What the drive writes, the page reads, whole and in pieces.
func TestDriveWritesPageReads(t *testing.T) {
	node, v := startNode(t), newVault(t)
	for _, version := range []int{seal.V3, seal.V4} {
		for i, n := range borders {
			name, typ := names[i%len(names)], types[i%len(types)]
			r, sealed := v.record(version, n, name, typ)
			var got struct {
				Name, Type string
				Content    []byte
			}
			node.ok("decrypt", v.open(r, sealed), &got)
			if got.Name != name || got.Type != typ || !bytes.Equal(got.Content, pattern(n)) {
				t.Errorf("version %d, %d bytes: another content or name", version, n)
			}
			node.ok("names", v.open(r, nil), &got)
			if got.Name != name || got.Type != typ {
				t.Errorf("version %d, %d bytes: another name in the list", version, n)
			}
		}
	}
}

func TestPageReadsPieces(t *testing.T) {
	node, v := startNode(t), newVault(t)
	const n = 5*16384 + 100
	r, sealed := v.record(seal.V4, n, "a", "")
	for first := range 6 {
		for count := 1; first+count <= 6; count++ {
			arg := v.open(r, sealed)
			arg["first"], arg["n"] = first, count
			var got struct{ Content []byte }
			node.ok("pieces", arg, &got)
			if want := pattern(n)[first*16384 : min(n, (first+count)*16384)]; !bytes.Equal(got.Content, want) {
				t.Errorf("chunks %d to %d differ", first, first+count)
			}
		}
	}
	arg := v.open(r, sealed)
	arg["first"], arg["n"] = 6, 1
	if code := node.call("pieces", arg, nil); code != "ErrTruncated" && code != "ErrSize" {
		t.Errorf("behind the end: %q", code)
	}
}

// change gives the record with one field otherwise; nil takes it out.
func change(r fields, key string, value any) fields {
	c := maps.Clone(r)
	c[key] = value
	if value == nil {
		delete(c, key)
	}
	return c
}

// wrapped gives an {"iv","ciphertext"} of so many bytes.
func wrapped(iv, ct int) json.RawMessage {
	e := base64.StdEncoding
	return json.RawMessage(fmt.Sprintf(`{"iv":"%s","ciphertext":"%s"}`, e.EncodeToString(make([]byte, iv)), e.EncodeToString(make([]byte, ct))))
}

func TestPageRefusesRecords(t *testing.T) {
	node, v := startNode(t), newVault(t)
	r3, _ := v.record(seal.V3, 40, "name", "type")
	r4, sealed4 := v.record(seal.V4, 40, "name", "type")
	other, _ := v.record(seal.V3, 40, "name", "type")
	content := r3["encrypted_content"].(string)
	for _, c := range []struct {
		what string
		r    fields
		want string
	}{
		{"version 2", change(r3, "encryption_version", 2), "ErrVersion"}, {"version 5", change(r3, "encryption_version", 5), "ErrVersion"},
		{"version as text", change(r3, "encryption_version", "3"), "ErrVersion"}, {"no version", change(r3, "encryption_version", nil), "ErrVersion"},
		{"relabelled 4, no content", change(r3, "encryption_version", 4), "ErrAuth"},
		{"size above", change(r3, "size_bytes", 41), "ErrSize"}, {"size below", change(r3, "size_bytes", 39), "ErrSize"},
		{"size negative", change(r3, "size_bytes", -28), "ErrSize"}, {"size a fraction", change(r3, "size_bytes", 40.5), "ErrSize"},
		{"size as text", change(r3, "size_bytes", "40"), "ErrSize"}, {"size of a planet", change(r3, "size_bytes", 1<<60), "ErrSize"},
		{"size beyond version 3", change(r3, "size_bytes", 26214401), "ErrTooLarge"},
		{"no content", change(r3, "encrypted_content", nil), "ErrEncoding"}, {"empty content", change(r3, "encrypted_content", ""), "ErrTruncated"},
		{"short content", change(r3, "encrypted_content", "AAAA"), "ErrTruncated"}, {"content cut", change(r3, "encrypted_content", content[:len(content)-4]), "ErrSize"},
		{"line end", change(r3, "encrypted_content", content[:40]+"\r\n"+content[40:]), "ErrEncoding"},
		{"spaces", change(r3, "encrypted_content", content[:40]+"    "+content[40:]), "ErrEncoding"},
		{"other alphabet", change(r3, "encrypted_content", "-_"+content[2:]), "ErrEncoding"},
		{"no padding", change(r3, "encrypted_content", strings.TrimRight(content, "=")), "ErrEncoding"},
		{"padding within", change(r3, "encrypted_content", "AA=="+content[4:]), "ErrEncoding"},
		{"no key", change(r3, "wrapped_file_key", nil), "ErrFormat"}, {"key null", change(r3, "wrapped_file_key", json.RawMessage("null")), "ErrFormat"},
		{"key with a short IV", change(r3, "wrapped_file_key", wrapped(11, 48)), "ErrFormat"},
		{"key too short", change(r3, "wrapped_file_key", wrapped(12, 47)), "ErrFormat"}, {"key too long", change(r3, "wrapped_file_key", wrapped(12, 64)), "ErrFormat"},
		{"key of another file", change(r3, "wrapped_file_key", other["wrapped_file_key"]), "ErrAuth"}, {"key of zeros", change(r3, "wrapped_file_key", wrapped(12, 48)), "ErrAuth"},
		{"a third field", change(r3, "wrapped_file_key", json.RawMessage(`{"iv":"","ciphertext":"","alg":"none"}`)), "ErrFormat"},
		{"name no JSON", change(r3, "file_name_encrypted", "name"), "ErrFormat"}, {"name a list", change(r3, "file_name_encrypted", "[]"), "ErrFormat"},
		{"name twice", change(r3, "file_name_encrypted", `{"iv":"","iv":"","ciphertext":""}`), "ErrFormat"},
		{"name shorter than a tag", change(r3, "file_name_encrypted", string(wrapped(12, 15))), "ErrFormat"},
		{"name of another file", change(r3, "file_name_encrypted", other["file_name_encrypted"]), "ErrAuth"},
		{"v4 relabelled 3", change(r4, "encryption_version", 3), "ErrAuth"},
		{"v4 name as type", change(r4, "content_type_encrypted", r4["file_name_encrypted"]), "ErrAuth"},
		{"v4 type as name", change(r4, "file_name_encrypted", r4["content_type_encrypted"]), "ErrAuth"},
		{"v4 of another attachment", change(r4, "id", seal.NewID().UUID()), "ErrAuth"},
		{"v4 of another vault", change(r4, "vault_id", seal.NewID().UUID()), "ErrAuth"},
		{"v4 with another blob", change(r4, "blob_id", seal.NewBlobID().Hex()), "ErrKeyCommit"},
		{"v4 without a blob", change(r4, "blob_id", nil), "ErrEncoding"}, {"v4 id no id", change(r4, "id", "x"), "ErrFormat"},
		{"v4 size above", change(r4, "size_bytes", 41), "ErrTruncated"}, {"v4 size below", change(r4, "size_bytes", 39), "ErrSize"},
		{"v4 beyond the format", change(r4, "size_bytes", int64(1)<<40+1), "ErrTooLarge"},
	} {
		var sealed []byte
		if c.r["encryption_version"] == 4 && !strings.Contains(c.what, "no content") {
			sealed = sealed4
		}
		if got := node.call("decrypt", v.open(c.r, sealed), nil); got != c.want {
			t.Errorf("%s: %q, want %s", c.what, got, c.want)
		}
	}
	foreign := newVault(t)
	foreign.id, foreign.epoch = v.id, v.epoch
	if got := node.call("decrypt", foreign.open(r3, nil), nil); got != "ErrAuth" {
		t.Errorf("another vault key: %q", got)
	}
	if got := node.call("decrypt", v.open(r4, nil), nil); got != "ErrTruncated" {
		t.Errorf("version 4 without its content: %q", got)
	}
}

// Every byte of a sealed content counts.
func TestPageRefusesChangedContents(t *testing.T) {
	node, v := startNode(t), newVault(t)
	r3, _ := v.record(seal.V3, 10, "a", "")
	blob, err := seal.DecodeBase64(r3["encrypted_content"].(string))
	must(t, err)
	for i := range blob {
		bad := bytes.Clone(blob)
		bad[i] ^= 1
		if got := node.call("decrypt", v.open(change(r3, "encrypted_content", seal.EncodeBase64(bad)), nil), nil); got != "ErrAuth" {
			t.Errorf("version 3, byte %d: %q", i, got)
		}
	}
	r4, sealed := v.record(seal.V4, 2*16384+10, "a", "")
	const head, chunk = 64, 16400
	swapped := bytes.Clone(sealed)
	copy(swapped[head:], sealed[head+chunk:head+2*chunk])
	copy(swapped[head+chunk:], sealed[head:head+chunk])
	mutations := map[string]struct {
		sealed []byte
		want   string
	}{
		"chunks exchanged": {swapped, "ErrAuth"}, "a chunk twice": {append(bytes.Clone(sealed[:head+chunk]), sealed[head:len(sealed)-chunk]...), "ErrAuth"},
		"cut at a border": {sealed[:head+2*chunk], "ErrTruncated"}, "cut within": {sealed[:len(sealed)-1], "ErrTruncated"},
		"cut to one chunk": {sealed[:head+chunk], "ErrTruncated"}, "cut to its header": {sealed[:head], "ErrTruncated"},
		"cut within the header": {sealed[:40], "ErrTruncated"}, "longer by a byte": {append(bytes.Clone(sealed), 0), "ErrSize"},
		"longer by a chunk": {append(bytes.Clone(sealed), sealed[head:head+chunk]...), "ErrSize"},
	}
	for i, want := range map[int]string{0: "ErrFormat", 7: "ErrFormat", 8: "ErrKeyCommit", 31: "ErrKeyCommit", 32: "ErrKeyCommit", 63: "ErrKeyCommit",
		64: "ErrAuth", head + chunk - 1: "ErrAuth", head + chunk: "ErrAuth", len(sealed) - 1: "ErrAuth"} {
		bad := bytes.Clone(sealed)
		bad[i] ^= 0x80
		mutations[fmt.Sprint("byte ", i)] = struct {
			sealed []byte
			want   string
		}{bad, want}
	}
	for what, m := range mutations {
		if got := node.call("decrypt", v.open(r4, m.sealed), nil); got != m.want {
			t.Errorf("version 4, %s: %q, want %s", what, got, m.want)
		}
	}
}
