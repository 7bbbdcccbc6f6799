package seal

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"hash"
	"testing"

	"golang.org/x/crypto/argon2"

	"github.com/vaultdrive/vaultdrive/vaultcore/didkey"
)

type fixedVectors struct {
	Content string `json:"v3_content"`
	Empty   string `json:"v3_empty"`
	Name    string `json:"v3_name"`
	MIME    string `json:"v3_mime"`
	Wrapped string `json:"v3_wrapped"`
	V4      map[string]struct {
		Len    int
		SHA256 string
	}
	Key        string `json:"v4_key"`
	Base       string `json:"v4_basenonce"`
	Commit     string `json:"v4_commit"`
	Blob0      string `json:"v4_blob0"`
	MetaKey    string `json:"v4_metakey"`
	NameV4     string `json:"v4_name"`
	EncKey     string `json:"k_enc-key"`
	LogKey     string `json:"k_log-key"`
	PrevVK     string `json:"k_prev-vk"`
	LocalWrap  string `json:"k_local-wrap"`
	BackupMAC  string `json:"k_backup-mac"`
	PWSlot     string `json:"pw_slot_from_KEK60"`
	DID0       string
	DID1       string
	SessionSig string `json:"session_sig"`
	Record     string `json:"record_digest"`
}

func loadVectors(t *testing.T) *fixedVectors {
	t.Helper()
	v := &fixedVectors{}
	readJSON(t, "testdata/vectors/vectors.json", v)
	return v
}

func TestVectorsV3(t *testing.T) {
	v := loadVectors(t)
	fk, encKey := keyFrom(0x00), keyFrom(0x20)
	for _, c := range []struct{ plain, want string }{{"hello vaultdrive\n", v.Content}, {"", v.Empty}} {
		blob := fixedSeal(fk.b[:], seq(0xa0, ivSize), []byte(c.plain), nil)
		if got := EncodeBase64(blob); got != c.want {
			t.Errorf("v3 content: got %s, want %s", got, c.want)
		}
		hdr := HdrOfV3(blob)
		got, err := OpenV3(fk, blob, int64(len(c.plain)), hdr[:])
		if err != nil || string(got) != c.plain {
			t.Errorf("open: got %q, %v", got, err)
		}
		parts := borders(len(c.plain), 16)
		blob = sealParts(fk, seq(0xa0, ivSize), []byte(c.plain), 1, parts)
		if got := EncodeBase64(blob); got != c.want {
			t.Errorf("v3 content in parts: got %s, want %s", got, c.want)
		}
		if got, err = openParts(fk, blob, hdr[:], 1, parts); err != nil || string(got) != c.plain {
			t.Errorf("open in parts: got %q, %v", got, err)
		}
	}
	e := &EpochKeys{enc: newGCM(encKey.b[:])}
	wire := must[[]byte](t)(ParseWireJSON([]byte(v.Wrapped)))
	wantBytes(t, "wrapped key", wire, fixedSeal(encKey.b[:], seq(0xd0, ivSize), fk.b[:], nil))
	got, err := e.UnwrapFileKey(wire)
	if err != nil || !got.Equal(fk) {
		t.Errorf("unwrap: %v", err)
	}
	if js := WireJSON(wire); js != v.Wrapped {
		t.Errorf("wire JSON: got %s, want %s", js, v.Wrapped)
	}
	checkField(t, V3, fk, FieldName, v.Name, "recovery-codes.pdf")
	checkField(t, V3, fk, FieldMIME, v.MIME, "application/pdf")
}

func checkField(t *testing.T, version int, fk *Key, f Field, js, want string) {
	t.Helper()
	wire := must[[]byte](t)(ParseWireJSON([]byte(js)))
	got, err := OpenField(version, fk, testVault, testAttachment, f, wire)
	if err != nil || got != want {
		t.Errorf("field %d: got %q, %v", f, got, err)
	}
}

func TestVectorsV4(t *testing.T) {
	v := loadVectors(t)
	fk := keyFrom(0x40)
	c := deriveV4(fk, testVault, testBlob, [saltSize]byte(seq(0x80, saltSize)))
	okm := expand512(fk, infoV4+string(seq(0x80, saltSize))+string(labelIDs(labelContent, testVault, testBlob)), 76)
	wantHex(t, "key", okm[:32], v.Key)
	wantHex(t, "base nonce", c.base[:], v.Base)
	wantHex(t, "commitment", c.header[commitOff:], v.Commit)
	wantHex(t, "empty blob", c.SealChunks(c.Header(), nil, 0, true), v.Blob0)
	if len(v.V4) != 6 {
		t.Fatalf("%d lengths in the vectors", len(v.V4))
	}
	for text, want := range v.V4 {
		var n int
		json.Unmarshal([]byte(text), &n)
		blob := c.SealChunks(c.Header(), pattern(n), 0, true)
		sum := sha256.Sum256(blob)
		if len(blob) != want.Len || int64(want.Len) != SealedSizeV4(int64(n)) {
			t.Errorf("P = %d: got %d bytes, want %d", n, len(blob), want.Len)
		}
		wantHex(t, "blob of "+text, sum[:], want.SHA256)
		plain, err := openV4(fk, testVault, testBlob, blob, int64(n))
		if err != nil || !bytes.Equal(plain, pattern(n)) {
			t.Errorf("P = %d: open: %v", n, err)
		}
	}
	wantHex(t, "meta key", expand512(fk, string(labelIDs(labelMeta, testVault, testAttachment)), 32), v.MetaKey)
	checkField(t, V4, fk, FieldName,
		WireJSON(append(seq(0xb0, ivSize), unb64(t, v.NameV4)...)), "recovery-codes.pdf")
}

func TestVectorsKeys(t *testing.T) {
	v := loadVectors(t)
	vk, ctx := keyFrom(0x60), epochCtx(testVault, 3)
	for label, want := range map[string]string{
		"enc-key": v.EncKey, "log-key": v.LogKey, "prev-vk": v.PrevVK, "local-wrap": v.LocalWrap, "backup-mac": v.BackupMAC,
	} {
		wantHex(t, label, hk(vk.b[:], label, ctx, keySize), want)
	}
	wantHex(t, "pw-slot", hk(vk.b[:], "pw-slot", ctx, 64), v.PWSlot)

	// The epoch uses them where the page says.
	e := DeriveEpoch(vk, testVault, 3)
	wantHex(t, "LogKey", e.LogKey().Bytes(), v.LogKey)
	wantHex(t, "BackupKey", e.BackupKey().Bytes(), v.BackupMAC)
	fk := keyFrom(0x00)
	got, err := e.UnwrapFileKey(fixedSeal(unhex(t, v.EncKey), seq(0xd0, ivSize), fk.b[:], nil))
	if err != nil || !got.Equal(fk) {
		t.Errorf("enc-key: %v", err)
	}
	ldk := keyFrom(0x05)
	file := binary.BigEndian.AppendUint32(nil, 3)
	aad := append([]byte("vaultdrive/v1/local-wrap\x00"), testVault[:]...)
	file = append(file, fixedSeal(unhex(t, v.LocalWrap), seq(0xd0, ivSize), ldk.b[:], aad)...)
	if got, err = e.OpenLocalKey(file); err != nil || !got.Equal(ldk) {
		t.Errorf("local-wrap: %v", err)
	}
	kek := keyFrom(0x60)
	_, commit := pwSlotKeys(kek, testVault, 3)
	wantHex(t, "pwCommit", commit[:], v.PWSlot[64:])
}

func TestVectorsDID(t *testing.T) {
	v := loadVectors(t)
	if got, want := DIDFromSeed(&Key{}), "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"; got != want || v.DID0 != want {
		t.Errorf("seed of zeros: got %s, want %s", got, want)
	}
	if got := DIDFromSeed(keyFrom(0x01)); got != v.DID1 {
		t.Errorf("got %s, want %s", got, v.DID1)
	}
	// The message is composed by those who talk; the signer adds the label.
	pk := must[ed25519.PublicKey](t)(didkey.Parse(v.DID1))
	msg := appendLP(appendLP(nil, []byte("https://sync.example")), []byte(v.DID1))
	msg = append(append(msg, testDevice[:]...), seq(0xe0, 32)...)
	msg = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(msg, 1767225600000), 1767225660000)
	wantHex(t, "session signature", NewDeviceSigner(testDevice, keyFrom(0x01)).Sign(ForSession, msg), v.SessionSig)
	wantErr(t, "verify", VerifyDeviceSignature(pk, ForSession, msg, unhex(t, v.SessionSig)), nil)
}

func TestVectorsRecord(t *testing.T) {
	v := loadVectors(t)
	fk := keyFrom(0x00)
	blob := unb64(t, v.Content)
	hdr := HdrOfV3(blob)
	r := Record{
		Vault: testVault, ID: testAttachment, ParentType: ParentItem, Parent: testParent,
		Version: V3, Epoch: 3, Rev: 1, Size: 17,
		WK:   fixedSeal(seq(0x20, 32), seq(0xd0, ivSize), fk.b[:], nil),
		Name: fixedSeal(fk.b[:], seq(0xb0, ivSize), []byte("recovery-codes.pdf"), nil),
		MIME: fixedSeal(fk.b[:], seq(0xc0, ivSize), []byte("application/pdf"), nil),
		Blob: testBlob, Len: uint64(len(blob)), SHA256: sha256.Sum256(blob), Hdr: hdr[:],
		Mtime: 1767225600000000000, Mode: 0o600,
	}
	got := r.Digest()
	wantHex(t, "record digest", got[:], v.Record)
	put := must[*Put](t)(NewPut(&r, [32]byte{}))
	got = put.Digest(testVault)
	wantHex(t, "digest of the put", got[:], v.Record)
}

func TestVectorsBatch(t *testing.T) {
	e := DeriveEpoch(keyFrom(0x60), testVault, 3)
	want := `{"v":1,"hlc":"019b76e0e0000000","seen":{},"ops":[]}`
	body := must[[]byte](t)((&Body{HLC: 0x019b76e0e0000000}).Encode())
	if string(body) != want {
		t.Errorf("body: got %s, want %s", body, want)
	}
	s := NewDeviceSigner(testDevice, keyFrom(0x01))
	b := must[*Batch](t)(sealFrameIV(e, s, 0, 1, [32]byte{}, body, [ivSize]byte(seq(0xf0, ivSize))))
	if len(b.Bytes) != 231 {
		t.Errorf("batch of %d bytes", len(b.Bytes))
	}
	wantHex(t, "batch hash", b.Hash[:], "8bcdf56541874de7620053811d878cf6848ef24f4c4a876619bf7a71b4ad557e")
	sum := sha256.Sum256(b.Bytes)
	wantHex(t, "whole batch", sum[:], "7cf56e7e97556877f51a47e3ada47215f76cecde1946a467752fbe0a1b4604e3")
}

// The library is the right Argon2id: RFC 9106's own vector needs a secret and
// associated data, which it does not offer.
func TestVectorArgon2(t *testing.T) {
	got := argon2.IDKey([]byte("password"), []byte("somesalt"), 1, 64, 1, 24)
	wantHex(t, "argon2id", got, "655ad15eac652dc59f7170a7332bf49b8469be1fdb9c28bb")
}

// RFC 5869 appendix A.1 to A.3.
func TestVectorsRFC5869(t *testing.T) {
	long := func(a, b int) string { return hex.EncodeToString(seq(byte(a), b-a+1)) }
	for _, c := range []struct{ ikm, salt, info, prk, okm string }{
		{
			"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "000102030405060708090a0b0c", "f0f1f2f3f4f5f6f7f8f9",
			"077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
			"3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
		}, {
			long(0x00, 0x4f), long(0x60, 0xaf), long(0xb0, 0xff),
			"06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
			"b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
		}, {
			"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "", "",
			"19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
			"8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
		},
	} {
		prk := must[[]byte](t)(hkdf.Extract(sha256.New, unhex(t, c.ikm), unhex(t, c.salt)))
		wantHex(t, "PRK", prk, c.prk)
		okm := must[[]byte](t)(hkdf.Expand(sha256.New, prk, string(unhex(t, c.info)), len(c.okm)/2))
		wantHex(t, "OKM", okm, c.okm)
	}
}

// RFC 8032 section 7.1, tests 1 to 3.
func TestVectorsRFC8032(t *testing.T) {
	for _, c := range []struct{ seed, pk, msg, sig string }{
		{
			"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
			"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
			"e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
		}, {
			"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
			"3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
			"92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
		}, {
			"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
			"fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
			"6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
		},
	} {
		seed := must[Key](t)(KeyFromBytes(unhex(t, c.seed)))
		wantHex(t, "public key", PublicFromSeed(&seed), c.pk)
		wantHex(t, "signature", ed25519.Sign(signer(&seed), unhex(t, c.msg)), c.sig)
	}
}

func TestWycheproofGCM(t *testing.T) {
	var file struct {
		TestGroups []struct {
			IVSize, KeySize, TagSize int
			Tests                    []struct {
				TcID                               int
				Key, IV, AAD, Msg, CT, Tag, Result string
			}
		}
	}
	readJSON(t, "testdata/wycheproof/aes_gcm_test.json", &file)
	ran := 0
	for _, g := range file.TestGroups {
		if g.KeySize != 256 || g.IVSize != 96 || g.TagSize != 128 {
			continue // parameters we do not have
		}
		for _, c := range g.Tests {
			ran++
			aead := newGCM(unhex(t, c.Key))
			sealed := unhex(t, c.IV+c.CT+c.Tag)
			got, err := openRandom(aead, nil, sealed, unhex(t, c.AAD))
			if valid := c.Result == "valid"; (err == nil) != valid || valid && !bytes.Equal(got, unhex(t, c.Msg)) {
				t.Errorf("test %d is %s: open: %v", c.TcID, c.Result, err)
			}
			if c.Result == "valid" {
				wantBytes(t, "seal", fixedSeal(unhex(t, c.Key), unhex(t, c.IV), unhex(t, c.Msg), unhex(t, c.AAD)), sealed)
			}
			if c.AAD != "" {
				continue // a v3 content has none
			}
			key, parts := must[Key](t)(KeyFromBytes(unhex(t, c.Key))), borders(len(c.Msg)/2, 16)
			hdr := HdrOfV3(sealed)
			got, err = openParts(&key, bytes.Clone(sealed), hdr[:], 1, parts)
			if valid := c.Result == "valid"; (err == nil) != valid || valid && !bytes.Equal(got, unhex(t, c.Msg)) {
				t.Errorf("test %d is %s: open in parts: %v", c.TcID, c.Result, err)
			}
			if c.Result == "valid" {
				wantBytes(t, "seal in parts", sealParts(&key, unhex(t, c.IV), unhex(t, c.Msg), 1, parts), sealed)
			}
		}
	}
	if ran < 60 {
		t.Errorf("only %d tests with our parameters", ran)
	}
}

func TestWycheproofHKDF(t *testing.T) {
	for path, newHash := range map[string]func() hash.Hash{"hkdf_sha256": sha256.New, "hkdf_sha512": sha512.New} {
		var file struct {
			TestGroups []struct {
				Tests []struct {
					TcID                         int
					IKM, Salt, Info, OKM, Result string
					Size                         int
				}
			}
		}
		readJSON(t, "testdata/wycheproof/"+path+"_test.json", &file)
		ran := 0
		for _, g := range file.TestGroups {
			for _, c := range g.Tests {
				ran++
				got, err := hkdf.Key(newHash, unhex(t, c.IKM), unhex(t, c.Salt), string(unhex(t, c.Info)), c.Size)
				if valid := c.Result == "valid"; (err == nil) != valid || valid && !bytes.Equal(got, unhex(t, c.OKM)) {
					t.Errorf("%s test %d is %s: %v", path, c.TcID, c.Result, err)
				}
			}
		}
		if ran < 80 {
			t.Errorf("%s: only %d tests", path, ran)
		}
	}
}

// The table of FORMAT.md: what 0, 1 and 5,000 bytes become.
func TestWorkedTotals(t *testing.T) {
	for _, c := range []struct{ plain, v3, v4 int64 }{{0, 28, 80}, {1, 29, 81}, {5000, 5028, 5080}, {16384, 16412, 16480}, {40000, 40028, 40112}} {
		if got := int64(len(sealedV3(t, keyFrom(1), pattern(int(c.plain))))); got != c.v3 || SealedSizeV3(c.plain) != c.v3 {
			t.Errorf("v3 of %d: got %d, want %d", c.plain, got, c.v3)
		}
		_, blob := sealedV4(keyFrom(1), testVault, testBlob, pattern(int(c.plain)))
		if got := int64(len(blob)); got != c.v4 || SealedSizeV4(c.plain) != c.v4 {
			t.Errorf("v4 of %d: got %d, want %d", c.plain, got, c.v4)
		}
		if got := int64(base64.StdEncoding.EncodedLen(int(c.v3))); c.plain == 5000 && got != 6704 {
			t.Errorf("base64 of v3 of 5000: %d", got)
		}
	}
}
