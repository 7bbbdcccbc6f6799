package seal

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "seal testdata/v1/vault.json anew; a released one is never replaced")

const sealedPath = "testdata/v1/vault.json"

// sealedVault is a vault in small, as the first release sealed it: everything in
// it opens for ever. Byte strings are hexadecimal.
type sealedVault struct {
	Password1, Password2 string
	Kit, Address, DID    string
	Envelopes            []string
	Vault, Device, DK    string
	Asset, Attachment    string
	BlobID               string
	LocalKey, DeviceKey  string
	DeviceSlot           string
	Wrapped, Title       string
	Fields               []sealedFields
	Row                  string
	DraftKey, DraftLog   string
}

// sealedFields is the same small file in one version of the format.
type sealedFields struct {
	Version             int
	Name, MIME, Content string
}

const (
	fixtureText  = "hello vaultdrive\n"
	fixtureName  = "Belege/𝔳ault 🔐.txt"
	fixtureMIME  = "text/plain"
	fixtureTitle = "Steuer 2026"
)

func fixtureRowAAD(v ID) []byte {
	var a RowAAD
	a.Reset("assets")
	a.Bytes(v[:])
	a.Uint(3)
	return a.Sum()
}

// TestSealedVault opens the stored vault by every way in.
func TestSealedVault(t *testing.T) {
	if *update {
		writeSealedVault(t)
	}
	var v sealedVault
	readJSON(t, sealedPath, &v)
	vault, device := must[ID](t)(ParseUUID(v.Vault)), must[ID](t)(ParseUUID(v.Device))
	h, vk := v.openHeaders(t, vault)

	dk := must[Key](t)(KeyFromBytes(unhex(t, v.DK)))
	epoch, slotVK, err := OpenDeviceSlot(&dk, vault, device, unhex(t, v.DeviceSlot))
	if err != nil || epoch != 2 || !slotVK.Equal(vk) {
		t.Fatalf("device slot: epoch %d, %v", epoch, err)
	}
	if err := h.VerifyDevice(&slotVK, v.DID); err != nil {
		t.Errorf("enrolled device: %v", err)
	}
	e := DeriveEpoch(vk, vault, 2)
	ldk, err := e.OpenLocalKey(unhex(t, v.LocalKey))
	if err != nil {
		t.Fatalf("local key: %v", err)
	}
	l := DeriveLocal(&ldk, vault)
	id, dsk, err := l.OpenDeviceKey(unhex(t, v.DeviceKey))
	if err != nil || id != device || [32]byte(PublicFromSeed(&dsk)) != h.Devices[0].PK {
		t.Errorf("device key: %v", err)
	}
	row, err := l.OpenRow(nil, unhex(t, v.Row), fixtureRowAAD(vault))
	if err != nil || string(row) != fixtureText {
		t.Errorf("row: %v", err)
	}
	title, err := e.OpenTitle(must[ID](t)(ParseUUID(v.Asset)), unhex(t, v.Title))
	if err != nil || title != fixtureTitle {
		t.Errorf("title: %q, %v", title, err)
	}
	v.openContents(t, e, vault)
	sk := must[Key](t)(KeyFromBytes(unhex(t, v.DraftKey)))
	records, err := readLog(NewDraftLog(&sk, vault, must[ID](t)(ParseHex(v.BlobID))), unhex(t, v.DraftLog))
	if err != nil || len(records) != 2 || string(records[0].data) != fixtureText || records[1].off != 17 {
		t.Errorf("draft log: %v, %v", records, err)
	}
}

func (v *sealedVault) openHeaders(t *testing.T, vault ID) (*SignedHeader, *Key) {
	t.Helper()
	chain := make([]*SignedHeader, len(v.Envelopes))
	for i, text := range v.Envelopes {
		chain[i] = must[*SignedHeader](t)(ParseEnvelope([]byte(text)))
		if i > 0 {
			if err := chain[i].VerifyNext(chain[i-1]); err != nil {
				t.Errorf("header %d: %v", i+1, err)
			}
		}
	}
	kek1 := must[Key](t)(DeriveKEK([]byte(v.Password1), chain[0].KDF))
	vk1, _, err := chain[0].OpenPassword(&kek1)
	if err != nil {
		t.Fatalf("first password: %v", err)
	}
	h := chain[len(chain)-1]
	kek2 := must[Key](t)(DeriveKEK([]byte(v.Password2), h.KDF))
	vk2, ids, err := h.OpenPassword(&kek2)
	if err != nil {
		t.Fatalf("second password: %v", err)
	}
	older, err := h.PreviousKeys(&vk2)
	if cut := h.Cut[h.Devices[0].ID]; cut.Seq != 12 || cut.Hash != chain[0].Hash() {
		t.Errorf("cut: %+v", cut)
	}
	if err != nil || len(older) != 1 || !older[0].Equal(&vk1) {
		t.Errorf("previous keys: %v", err)
	}
	kit := must[Kit](t)(ParseKit(v.Kit))
	vk, kitIDs, err := h.OpenKit(&kit, v.DID)
	if err != nil || !vk.Equal(&vk2) || !kitIDs.Equal(&ids) {
		t.Errorf("kit: %v", err)
	}
	a := must[Address](t)(ParseAddress(v.Address))
	if err := a.Matches(h.DID); err != nil || a.Vault != vault {
		t.Errorf("address: %v", err)
	}
	return h, &vk2
}

func (v *sealedVault) openContents(t *testing.T, e *EpochKeys, vault ID) {
	t.Helper()
	attachment, blobID := must[ID](t)(ParseUUID(v.Attachment)), must[ID](t)(ParseHex(v.BlobID))
	fk, err := e.UnwrapFileKey(must[[]byte](t)(ParseWireJSON([]byte(v.Wrapped))))
	if err != nil {
		t.Fatalf("file key: %v", err)
	}
	for _, f := range v.Fields {
		name, err := OpenField(f.Version, &fk, vault, attachment, FieldName, must[[]byte](t)(ParseWireJSON([]byte(f.Name))))
		if err != nil || name != fixtureName {
			t.Errorf("version %d: name %q, %v", f.Version, name, err)
		}
		mime, err := OpenField(f.Version, &fk, vault, attachment, FieldMIME, must[[]byte](t)(ParseWireJSON([]byte(f.MIME))))
		if err != nil || mime != fixtureMIME {
			t.Errorf("version %d: type %q, %v", f.Version, mime, err)
		}
		blob := unhex(t, f.Content)
		var plain []byte
		if f.Version == V3 {
			plain, err = OpenV3(&fk, blob, int64(len(fixtureText)), nil)
		} else {
			plain, err = openV4(&fk, vault, blobID, blob, int64(len(fixtureText)))
		}
		if err != nil || string(plain) != fixtureText {
			t.Errorf("version %d: content: %v", f.Version, err)
		}
	}
}

func writeSealedVault(t *testing.T) {
	t.Helper()
	h := hex.EncodeToString
	vault, device, asset, attachment, blobID := NewID(), NewID(), NewID(), NewID(), NewBlobID()
	ids, vk1, vk2, ldk, dsk, dk, fk, sk := NewKey(), NewKey(), NewKey(), NewKey(), NewKey(), NewKey(), NewKey(), NewKey()
	v := sealedVault{
		Password1: "correct horse battery staple", Password2: "Schlüssel für alles", DID: DIDFromSeed(&ids),
		Vault: vault.UUID(), Device: device.UUID(), Asset: asset.UUID(), Attachment: attachment.UUID(), BlobID: blobID.Hex(),
		Address: FormatAddress(vault, NewID(), DIDFromSeed(&ids)), DK: h(dk.Bytes()), DraftKey: h(sk.Bytes()),
	}
	kdf1, kdf2 := LowKDF(), LowKDF()
	kek1 := must[Key](t)(DeriveKEK([]byte(v.Password1), kdf1))
	kek2 := must[Key](t)(DeriveKEK([]byte(v.Password2), kdf2))
	kit := NewRecovery()
	pk := must[[]byte](t)(kit.PublicKey())
	h1 := must[*SignedHeader](t)(NewHeader(vault, &ids, &vk1, &kek1, kdf1, []Device{{ID: device, PK: [32]byte(PublicFromSeed(&dsk))}}, WriteAuto))
	slot := must[*RecoverySlot](t)(SealRecovery(pk, vault, 1, &vk1, &ids))
	h2 := must[*SignedHeader](t)(h1.Next(&ids, func(h *Header) { h.Rec = slot }))
	h3 := must[*SignedHeader](t)(NewEpoch(h2, &ids, &vk1, &vk2, &kek2, kdf2, func(h *Header) {
		h.Cut = map[ID]Cut{device: {Seq: 12, Hash: h1.Hash()}}
	}))
	v.Kit, v.Envelopes = kit.Text(), []string{string(h1.Envelope()), string(h2.Envelope()), string(h3.Envelope())}

	e, l := DeriveEpoch(&vk2, vault, 2), DeriveLocal(&ldk, vault)
	v.LocalKey, v.DeviceKey = h(e.SealLocalKey(&ldk)), h(l.SealDeviceKey(device, &dsk))
	v.DeviceSlot = h(SealDeviceSlot(&dk, vault, device, 2, &vk2))
	v.Row = h(l.SealRow(nil, []byte(fixtureText), fixtureRowAAD(vault)))
	v.Title = h(must[[]byte](t)(e.SealTitle(asset, fixtureTitle)))
	v.Wrapped = WireJSON(must[[]byte](t)(e.WrapFileKey(&fk)))
	draft := NewDraftLog(&sk, vault, blobID)
	v.DraftLog = h(draft.SealRecord(draft.SealRecord(nil, 0, 0, []byte(fixtureText)), 1, 17, nil))
	for _, version := range []int{V3, V4} {
		field := func(f Field, text string) string {
			return WireJSON(must[[]byte](t)(SealField(version, &fk, vault, attachment, f, text)))
		}
		content := sealedV3(t, &fk, []byte(fixtureText))
		if version == V4 {
			_, content = sealedV4(&fk, vault, blobID, []byte(fixtureText))
		}
		v.Fields = append(v.Fields, sealedFields{version, field(FieldName, fixtureName), field(FieldMIME, fixtureMIME), h(content)})
	}
	js := must[[]byte](t)(json.MarshalIndent(v, "", " "))
	if err := os.WriteFile(sealedPath, append(bytes.TrimSpace(js), '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}
