package seal

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// Whatever prints, logs or marshals a secret shows [redacted].
func TestRedacted(t *testing.T) {
	k := keyFrom('A') // ABCDE…: readable in whatever form it leaked
	e := DeriveEpoch(k, testVault, 1)
	l := DeriveLocal(k, testVault)
	kit := Kit{Secret: *k}
	draft := NewDraftLog(k, testVault, testBlob)
	c := NewV4(k, testVault, testBlob)
	for _, v := range []any{k, *k, []Key{*k}, map[string]*Key{"k": k}, struct{ K Key }{*k}, e, l, &kit, kit, draft, c} {
		var out bytes.Buffer
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		js, err := json.Marshal(v)
		if err != nil {
			t.Errorf("%T: %v", v, err)
		}
		out.Write(js)
		slog.New(slog.NewTextHandler(&out, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "v", v)
		if !strings.Contains(out.String(), redactedText) {
			t.Errorf("%T: nothing redacted", v)
		}
		for _, leak := range []string{"ABCD", "41424344", "65 66 67", "65,66,67", "0x41, 0x42", "QUJDRE", hex.EncodeToString(c.base[:])} {
			if strings.Contains(strings.ToUpper(out.String()), strings.ToUpper(leak)) {
				t.Errorf("%T leaks %s", v, leak)
			}
		}
	}
}

func TestKey(t *testing.T) {
	a, b := NewKey(), NewKey()
	if a.Equal(&b) || !a.Equal(&a) || a.IsZero() {
		t.Error("random keys")
	}
	c := must[Key](t)(KeyFromBytes(a.Bytes()))
	if !c.Equal(&a) {
		t.Error("copy differs")
	}
	a.Wipe()
	if !a.IsZero() || c.IsZero() {
		t.Error("Wipe")
	}
	for _, n := range []int{0, 16, 31, 33, 64} {
		_, err := KeyFromBytes(make([]byte, n))
		wantErr(t, fmt.Sprint(n, " bytes"), err, ErrFormat)
	}
	e := DeriveEpoch(&c, testVault, 1)
	if e.Epoch() != 1 || !e.VaultKey().Equal(&c) {
		t.Error("epoch keys")
	}
	e.Wipe()
	if !e.VaultKey().IsZero() || !e.LogKey().IsZero() || !e.BackupKey().IsZero() || c.IsZero() {
		t.Error("epoch keys after Wipe")
	}
	l := DeriveLocal(&c, testVault)
	l.Wipe()
	if l.row != nil || l.device != nil {
		t.Error("local keys after Wipe")
	}
}

func TestIDs(t *testing.T) {
	id := ID(seq(0x10, 16))
	if got, want := id.UUID(), "10111213-1415-1617-1819-1a1b1c1d1e1f"; got != want || id.String() != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := id.Hex(), "101112131415161718191a1b1c1d1e1f"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for range 100 {
		id := NewID()
		if u := id.UUID(); u[14] != '4' || !strings.Contains("89ab", u[19:20]) {
			t.Fatalf("%s is no version 4 UUID", u)
		}
		a, errA := ParseUUID(id.UUID())
		b, errB := ParseHex(id.Hex())
		if a != id || b != id || errA != nil || errB != nil || id.IsZero() || NewBlobID() == id {
			t.Fatalf("%s: %v %v", id, errA, errB)
		}
	}
	for _, s := range []string{
		"", "1", id.Hex(), id.UUID() + "0", id.UUID()[1:], strings.ToUpper(id.UUID()), "{" + id.UUID()[1:35] + "}",
		strings.Replace(id.UUID(), "-", "0", 1), strings.Replace(id.UUID(), "1a", "1g", 1), strings.Replace(id.UUID(), "1a", "-a", 1),
	} {
		_, err := ParseUUID(s)
		wantErr(t, s, err, ErrFormat)
	}
	for _, s := range []string{"", id.UUID(), strings.ToUpper(id.Hex()), id.Hex()[1:], id.Hex() + "0", "../" + id.Hex()[3:], id.Hex()[:31] + "\n"} {
		_, err := ParseHex(s)
		wantErr(t, s, err, ErrFormat)
	}
}

func TestKit(t *testing.T) {
	kit := NewRecovery()
	text := kit.Text()
	if len(text) != 56+13 || strings.Count(text, "-") != 13 {
		t.Errorf("printed as %d characters", len(text))
	}
	spellings := []string{text, strings.ToLower(text), strings.ReplaceAll(text, "-", " "), strings.ReplaceAll(text, "-", ""), " " + text + "\n",
		strings.NewReplacer("0", "O", "1", "l").Replace(text), strings.ReplaceAll(text, "1", "i")}
	for _, s := range spellings {
		got, err := ParseKit(s)
		if err != nil || !got.Secret.Equal(&kit.Secret) {
			t.Errorf("a spelling is not read: %v", err)
		}
	}
	wrong := func(c byte) byte {
		if c == '7' {
			return '8'
		}
		return '7'
	}
	for i := range text {
		if text[i] == '-' {
			continue
		}
		b := []byte(text)
		b[i] = wrong(b[i])
		_, err := ParseKit(string(b))
		wantErr(t, fmt.Sprint("character ", i, " mistyped"), err, ErrKit)
	}
	for _, s := range []string{"", text[1:], text + "0", strings.Replace(text, text[:1], "U", 1), strings.Repeat("0", 1000), text[:50] + "Ä" + text[51:]} {
		_, err := ParseKit(s)
		wantErr(t, fmt.Sprintf("%d characters", len(s)), err, ErrKit)
	}
	// A fixed kit, so that paper printed today is read for ever.
	fixed := Kit{Secret: *keyFrom(0)}
	if got, want := fixed.Text(), "000G-40R4-0M30-E209-185G-R38E-1W81-24GK-2GAH-C5RR-34D1-P70X-3RFG-NR33"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	pk := must[[]byte](t)(fixed.PublicKey())
	again := must[[]byte](t)(fixed.PublicKey())
	if len(pk) != recoveryPKSize || !bytes.Equal(pk, again) {
		t.Errorf("public key of %d bytes", len(pk))
	}
	kit.Wipe()
	if !kit.Secret.IsZero() {
		t.Error("Wipe")
	}
}

func TestAddress(t *testing.T) {
	did := DIDFromSeed(keyFrom(1))
	text := FormatAddress(testVault, testBlob, did)
	if len(text) != 84 {
		t.Errorf("%d characters", len(text))
	}
	a := must[Address](t)(ParseAddress(text))
	if a.Vault != testVault || a.BootToken != testBlob {
		t.Errorf("got %+v", a)
	}
	if err := a.Matches(did); err != nil {
		t.Error(err)
	}
	wantErr(t, "another DID", a.Matches(DIDFromSeed(keyFrom(2))), ErrIdentityMismatch)
	for _, s := range []string{
		"", text[4:], text[:83], text + "a", strings.ToUpper(text), "vd2" + text[3:], text[:50] + "1" + text[51:],
		text[:50] + "\n" + text[51:], text[:50] + "=" + text[51:], " " + text,
	} {
		_, err := ParseAddress(s)
		wantErr(t, s, err, ErrAddress)
	}
}

func TestAssetRecordDigest(t *testing.T) {
	base := AssetRecord{Vault: testVault, ID: testParent, Type: ParentNote, Epoch: 2, Rev: 3, Ctime: -5, Title: []byte("title")}
	want := sum256("vaultdrive/v1/asset\x00", testVault[:], testParent[:], "\x02\x00\x00\x00\x02",
		"\x00\x00\x00\x00\x00\x00\x00\x03\xff\xff\xff\xff\xff\xff\xff\xfb\x00\x00\x00\x05title")
	if got := base.Digest(); got != want {
		t.Errorf("got %x, want %x", got, want)
	}
	differ(t, base, func(r AssetRecord) [32]byte { return r.Digest() }, map[string]func(*AssetRecord){
		"vault": func(r *AssetRecord) { r.Vault[0]++ }, "id": func(r *AssetRecord) { r.ID[0]++ }, "type": func(r *AssetRecord) { r.Type++ },
		"epoch": func(r *AssetRecord) { r.Epoch++ }, "rev": func(r *AssetRecord) { r.Rev++ }, "ctime": func(r *AssetRecord) { r.Ctime++ },
		"title": func(r *AssetRecord) { r.Title = []byte("titlf") },
	})
}

// Each field of a record has a part in its digest: parent, size, times, all.
func TestRecordDigestCovers(t *testing.T) {
	base := Record{WK: []byte("wk"), Name: []byte("na"), MIME: []byte("mi"), Hdr: []byte("hd")}
	differ(t, base, func(r Record) [32]byte { return r.Digest() }, map[string]func(*Record){
		"vault": func(r *Record) { r.Vault[0]++ }, "id": func(r *Record) { r.ID[0]++ }, "parent type": func(r *Record) { r.ParentType++ },
		"parent": func(r *Record) { r.Parent[0]++ }, "version": func(r *Record) { r.Version++ }, "epoch": func(r *Record) { r.Epoch++ },
		"rev": func(r *Record) { r.Rev++ }, "size": func(r *Record) { r.Size++ }, "wk": func(r *Record) { r.WK = []byte("w") },
		"name": func(r *Record) { r.Name = []byte("nb") }, "mime": func(r *Record) { r.MIME = nil }, "blob": func(r *Record) { r.Blob[0]++ },
		"len": func(r *Record) { r.Len++ }, "sha256": func(r *Record) { r.SHA256[0]++ }, "hdr": func(r *Record) { r.Hdr = nil },
		"mtime": func(r *Record) { r.Mtime-- }, "mode": func(r *Record) { r.Mode++ },
		"name and mime exchanged": func(r *Record) { r.Name, r.MIME = r.MIME, r.Name },
		"border moved":            func(r *Record) { r.WK, r.Name = []byte("wkn"), []byte("a") },
	})
}
