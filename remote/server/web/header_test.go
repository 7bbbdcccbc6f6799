package web_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/vaultcore/didkey"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// owner has a vault in its third epoch, and its address.
type owner struct {
	t             *testing.T
	vault         seal.ID
	ids, vk, kek  seal.Key
	older         []seal.Key
	header, first *seal.SignedHeader
	address       string
}

func newOwner(t *testing.T) *owner {
	o := &owner{t: t, vault: seal.NewID(), ids: seal.NewKey(), vk: seal.NewKey(), kek: seal.NewKey()}
	o.address = seal.FormatAddress(o.vault, seal.NewID(), seal.DIDFromSeed(&o.ids))
	var err error
	device := seal.NewKey()
	roster := []seal.Device{{ID: seal.NewID(), PK: [32]byte(seal.PublicFromSeed(&device))}}
	o.header, err = seal.NewHeader(o.vault, &o.ids, &o.vk, &o.kek, seal.LowKDF(), roster, seal.WriteAuto)
	must(t, err)
	o.first = o.header
	for range 2 {
		vk, kek := seal.NewKey(), seal.NewKey()
		o.older = append(o.older, o.vk)
		o.header, err = seal.NewEpoch(o.header, &o.ids, &o.vk, &vk, &kek, seal.LowKDF())
		must(t, err)
		o.vk, o.kek = vk, kek
	}
	return o
}

func (o *owner) open(envelope []byte, more ...fields) fields {
	f := fields{"header": string(envelope), "address": o.address, "kek": o.kek.Bytes()}
	for _, m := range more {
		maps.Copy(f, m)
	}
	return f
}

// forged is the header with its payload changed, signed by somebody.
func (o *owner) forged(seed *seal.Key, edit func(map[string]any)) []byte {
	o.t.Helper()
	var p map[string]any
	d := json.NewDecoder(bytes.NewReader(o.header.Payload))
	d.UseNumber()
	must(o.t, d.Decode(&p))
	edit(p)
	payload, err := json.Marshal(p)
	must(o.t, err)
	return o.signed(seed, payload)
}

func (o *owner) signed(seed *seal.Key, payload []byte) []byte {
	sig := ed25519.Sign(ed25519.NewKeyFromSeed(seed.Bytes()), append([]byte("vaultdrive/v1/header\x00"), payload...))
	return []byte(fmt.Sprintf(`{"payload":%q,"sig":%q}`, seal.EncodeBase64(payload), seal.EncodeBase64(sig)))
}

// The page opens what the drive made, with the keys of all epochs: it reads a
// title of each.
func TestPageOpensHeader(t *testing.T) {
	node, o := startNode(t), newOwner(t)
	var titles []fields
	for i, vk := range append(o.older, o.vk) {
		asset := seal.NewID()
		wire, err := seal.DeriveEpoch(&vk, o.vault, uint32(i+1)).SealTitle(asset, fmt.Sprint("Títle ", i+1))
		must(t, err)
		titles = append(titles, fields{"epoch": i + 1, "id": asset.UUID(), "title_encrypted": seal.WireJSON(wire)})
	}
	var got struct {
		DID    string
		Epochs []int
		Titles []string
		KDF    struct{ Salt []byte }
	}
	node.ok("header", o.open(o.header.Envelope(), fields{"titles": titles}), &got)
	if got.DID != o.header.DID || fmt.Sprint(got.Epochs) != "[1 2 3]" || fmt.Sprint(got.Titles) != "[Títle 1 Títle 2 Títle 3]" || !bytes.Equal(got.KDF.Salt, o.header.KDF.Salt[:]) {
		t.Errorf("%+v", got)
	}
	for what, edit := range map[string]func(fields){
		"another item": func(f fields) { f["id"] = seal.NewID().UUID() }, "another epoch": func(f fields) { f["epoch"] = 2 },
	} {
		moved := maps.Clone(titles[0])
		edit(moved)
		if code := node.call("header", o.open(o.header.Envelope(), fields{"titles": []fields{moved}}), nil); code != "ErrAuth" {
			t.Errorf("title of %s: %q", what, code)
		}
	}
}

// What a server could try with a header.
func TestPageRefusesHeaders(t *testing.T) {
	node, o := startNode(t), newOwner(t)
	mallory, other := seal.NewKey(), newOwner(t)
	kdf := func(key string, n int) []byte {
		return o.forged(&o.ids, func(p map[string]any) { p["kdf"].(map[string]any)[key] = n })
	}
	set := func(key string, value any) []byte {
		return o.forged(&o.ids, func(p map[string]any) { p[key] = value })
	}
	flipped := bytes.Clone(o.header.Payload)
	at := bytes.Index(flipped, []byte(`"revoked":false`))
	copy(flipped[at:], `"revoked":true `)
	sig := seal.EncodeBase64(o.header.Sig[:])
	for _, c := range []struct {
		what string
		arg  fields
		want string
	}{
		{"as it is", o.open(o.header.Envelope()), ""},
		{"wrong password", o.open(o.header.Envelope(), fields{"kek": mallory.Bytes()}), "ErrPassword"},
		{"older header, new password", o.open(o.first.Envelope()), "ErrPassword"},
		{"another vault's", o.open(other.header.Envelope()), "ErrIdentityMismatch"},
		{"another vault's, under our id", o.open(other.forged(&other.ids, func(p map[string]any) { p["vault"] = o.vault.UUID() })), "ErrIdentityMismatch"},
		{"signed by another", o.open(o.signed(&mallory, o.header.Payload)), "ErrSignature"},
		{"payload changed", o.open([]byte(fmt.Sprintf(`{"payload":%q,"sig":%q}`, seal.EncodeBase64(flipped), sig))), "ErrSignature"},
		{"another vault key", o.open(set("vkc", make([]byte, 32))), "ErrKeyCommit"},
		{"another commitment", o.open(o.forged(&o.ids, func(p map[string]any) { p["pw"].(map[string]any)["commit"] = make([]byte, 32) })), "ErrPassword"},
		{"older keys exchanged", o.open(o.forged(&o.ids, func(p map[string]any) { p["prevvk"].(map[string]any)["ct"] = make([]byte, 80) })), "ErrAuth"},
		{"no older keys", o.open(set("prevvk", nil)), "ErrHeader"},
		{"epoch above seq", o.open(set("epoch", 4)), "ErrHeader"},
		{"little memory", o.open(kdf("m", 65535)), "ErrKDFParams"}, {"absurd memory", o.open(kdf("m", 2097153)), "ErrKDFParams"},
		{"two passes", o.open(kdf("t", 2)), "ErrKDFParams"}, {"many passes", o.open(kdf("t", 17)), "ErrKDFParams"},
		{"no lane", o.open(kdf("p", 0)), "ErrKDFParams"}, {"many lanes", o.open(kdf("p", 17)), "ErrKDFParams"},
		{"more memory than sealed for", o.open(kdf("m", 65537)), "ErrPassword"},
		{"of a newer program", o.open(set("v", 2)), "ErrVersion"},
		{"an unknown field", o.open(set("x", 1)), "ErrHeader"},
		{"a field twice", o.open(o.signed(&o.ids, append([]byte(`{"seq":3,`), o.header.Payload[1:]...))), "ErrHeader"},
		{"no JSON", o.open([]byte("header")), "ErrHeader"}, {"empty", o.open(nil), "ErrHeader"}, {"a list", o.open([]byte("[]")), "ErrHeader"},
		{"null", o.open([]byte("null")), "ErrHeader"}, {"payload null", o.open([]byte(`{"payload":null,"sig":""}`)), "ErrHeader"},
		{"signature short", o.open([]byte(`{"payload":"","sig":"AAAA"}`)), "ErrHeader"},
		{"not UTF-8", o.open(o.signed(&o.ids, bytes.Replace(o.header.Payload, []byte(`"auto"`), []byte("\"a\xff\""), 1))), "ErrHeader"},
		{"too long", o.open(bytes.Repeat([]byte(" "), 600<<10)), "ErrHeader"},
		{"no address", o.open(o.header.Envelope(), fields{"address": "vd1:" + strings.Repeat("a", 79)}), "ErrAddress"},
	} {
		if got := node.call("header", c.arg, nil); got != c.want {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}

func TestPageReadsAddresses(t *testing.T) {
	node := startNode(t)
	for range 50 {
		vault, boot, ids := seal.NewID(), seal.NewID(), seal.NewKey()
		text := seal.FormatAddress(vault, boot, seal.DIDFromSeed(&ids))
		want, err := seal.ParseAddress(text)
		must(t, err)
		var got struct {
			Vault         string
			Boot, DIDHash []byte
		}
		node.ok("address", fields{"address": text}, &got)
		if got.Vault != vault.UUID() || !bytes.Equal(got.Boot, boot[:]) || !bytes.Equal(got.DIDHash, want.DIDHash[:]) {
			t.Errorf("%s: %+v", text, got)
		}
		for _, bad := range []string{text[1:], text + "a", strings.ToUpper(text), text[:40] + "1" + text[41:], text[:83] + "\n", ""} {
			if code := node.call("address", fields{"address": bad}, nil); code != "ErrAddress" {
				t.Errorf("%q: %q", bad, code)
			}
		}
	}
}

// A login of the page is what the server verifies, for its own address only.
func TestPageLogsIn(t *testing.T) {
	node := startNode(t)
	const audience, now = "https://sync.example", int64(1767225600000)
	for range 20 {
		seed, nonce := seal.NewKey(), seal.NewKey()
		var l api.Login
		node.ok("login", fields{"seed": seed.Bytes(), "audience": audience, "nonce": nonce.Bytes(), "now": now}, &l)
		if l.DID != seal.DIDFromSeed(&seed) || l.Device != api.ZeroID || l.IAT != now || l.Exp != now+60000 {
			t.Fatalf("%+v", l)
		}
		proof := api.LoginProof{Audience: audience, DID: l.DID, Nonce: [api.NonceSize]byte(nonce.Bytes()), IssuedAt: l.IAT, Expires: l.Exp}
		sig, err := api.Decode64(l.Sig, ed25519.SignatureSize)
		must(t, err)
		pk, err := didkey.Parse(l.DID)
		must(t, err)
		if !ed25519.Verify(pk, proof.Message(), sig) {
			t.Error("the signature is of something else")
		}
		proof.Audience = "https://other.example"
		if ed25519.Verify(pk, proof.Message(), sig) {
			t.Error("the signature holds for another server")
		}
	}
}

// The Argon2id that the page carries against another implementation, over the
// bounds a header may have and passwords in more than one normal form.
func TestPageArgon2(t *testing.T) {
	node := startNode(t)
	for i, c := range []struct {
		password string
		m, t     uint32
		p        uint8
	}{
		{"correct horse battery", 65536, 3, 4}, {"x", 65536, 3, 1}, {"Pa\u0308sswo\u0308rter e\u0301", 65537, 3, 3}, {"𝔳ault 🔐", 70000, 4, 16},
		{strings.Repeat("long ", 100), 262144, 3, 4},
	} {
		salt := bytes.Repeat([]byte{byte(i + 1)}, 16)
		var got struct{ KEK []byte }
		node.ok("argon2", fields{"password": c.password, "salt": salt, "kdf": fields{"m": c.m, "t": c.t, "p": c.p}}, &got)
		want := argon2.IDKey(norm.NFC.Bytes([]byte(c.password)), salt, c.t, c.m, c.p, 32)
		if !bytes.Equal(got.KEK, want) {
			t.Errorf("case %d: %x, want %x", i, got.KEK, want)
		}
	}
}

func TestPageBytes(t *testing.T) {
	node := startNode(t)
	for _, n := range []int{0, 1, 2, 3, 4, 24575, 24576, 24577, 24578, 100000} {
		var got struct {
			Bytes []byte
			Again string
		}
		text := seal.EncodeBase64(pattern(n))
		node.ok("base64", fields{"text": text}, &got)
		if !bytes.Equal(got.Bytes, pattern(n)) || got.Again != text {
			t.Errorf("%d bytes differ", n)
		}
	}
	for _, s := range []string{"A", "AA", "AAA", "AA=", "AB==", "AAB=", "A===", "====", "=AAA", "AAAA=", "AA-_", "AA==AAAA", "AAAA\n", "AA\r\nAA", "AAA ", "ÄAAA", strings.Repeat("A", 32768) + "AB=="} {
		if code := node.call("base64", fields{"text": s}, nil); code != "ErrEncoding" {
			t.Errorf("%.20q: %q", s, code)
		}
	}
	for js, ok := range map[string]bool{
		`{"a":1,"b":{"a":2}}`: true, `[{"a":1},{"a":2}]`: true, `{"a":"{\"a\":1,\"a\":2}"}`: true, `{"a":"\ud83d\ude00"}`: true,
		`{"a":1,"a":2}`: false, `{"a":1,"\u0061":2}`: false, `{"x":[{"a":1,"a":2}]}`: false, `"\ud83d"`: false, `{"a" : 1, "a"	:2}`: false, `{}x`: false, ``: false,
	} {
		if code := node.call("json", fields{"text": js}, nil); (code == "") != ok || !ok && code != "ErrFormat" {
			t.Errorf("%s: %q", js, code)
		}
	}
}

// A name from the vault is no path on the computer that gets the file.
func TestPageFileNames(t *testing.T) {
	node := startNode(t)
	for name, want := range map[string]string{
		"a.pdf": "a.pdf", "Ordner/b.txt": "b.txt", `..\..\c.exe`: "c.exe", "../..": "file", "a/": "file", ".": "file", ".hidden": ".hidden",
		"gnp\u202efdp.exe": "gnp\ufffdfdp.exe", "a\x00b": "a\ufffdb",
	} {
		var got struct{ Name string }
		node.ok("fileName", fields{"name": name}, &got)
		if got.Name != want {
			t.Errorf("%q: %q, want %q", name, got.Name, want)
		}
	}
}
