package seal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// A vault for header tests. Its KEK stands for a password: Argon2id has its own test.
type testHeader struct {
	ids, vk, kek *Key
	kdf          KDFParams
	kit          Kit
	*SignedHeader
}

func newTestHeader(t testing.TB) *testHeader {
	t.Helper()
	v := &testHeader{ids: keyFrom(0x01), vk: keyFrom(0x60), kek: keyFrom(0x90), kdf: LowKDF(), kit: NewRecovery()}
	devices := []Device{{ID: testDevice, PK: [32]byte(PublicFromSeed(keyFrom(0x02)))}}
	v.SignedHeader = must[*SignedHeader](t)(NewHeader(testVault, v.ids, v.vk, v.kek, v.kdf, devices, WriteAuto))
	return v
}

// withKit adds the recovery slot.
func (v *testHeader) withKit(t testing.TB) *testHeader {
	t.Helper()
	slot := v.sealKit(t, v.vk, v.ids)
	c := *v
	c.SignedHeader = must[*SignedHeader](t)(v.Next(v.ids, func(h *Header) { h.Rec = slot }))
	return &c
}

func (v *testHeader) sealKit(t testing.TB, vk, ids *Key) *RecoverySlot {
	t.Helper()
	pk := must[[]byte](t)(v.kit.PublicKey())
	return must[*RecoverySlot](t)(SealRecovery(pk, v.Vault, v.Epoch, vk, ids))
}

// forge signs a header with rules broken, as an attacker with some identity could.
func forge(t testing.TB, h Header, ids *Key, change func(*Header)) *SignedHeader {
	t.Helper()
	h = h.clone()
	change(&h)
	s := &SignedHeader{Header: h, Payload: must[[]byte](t)(encodePayload(&h))}
	copy(s.Sig[:], signPayload(ids, s.Payload))
	return s
}

func TestHeaderRoundTrip(t *testing.T) {
	v := newTestHeader(t).withKit(t)
	h := must[*SignedHeader](t)(ParseEnvelope(v.Envelope()))
	if !bytes.Equal(h.Payload, v.Payload) || h.Hash() != v.Hash() || h.Seq != 2 {
		t.Error("the envelope gives another payload")
	}
	vk, ids, err := h.OpenPassword(v.kek)
	if err != nil || !vk.Equal(v.vk) || !ids.Equal(v.ids) {
		t.Fatalf("password: %v", err)
	}
	if err := h.VerifyDevice(v.vk, v.DID); err != nil {
		t.Errorf("device: %v", err)
	}
	vk, ids, err = h.OpenKit(&v.kit, v.DID)
	if err != nil || !vk.Equal(v.vk) || !ids.Equal(v.ids) {
		t.Errorf("kit: %v", err)
	}
	if e := DeriveEpoch(v.vk, testVault, 1); e.VKCheck() != h.VKC {
		t.Error("VKCheck differs")
	}
	if keys, err := h.PreviousKeys(v.vk); err != nil || len(keys) != 0 {
		t.Errorf("previous keys in epoch 1: %d, %v", len(keys), err)
	}
}

func TestNextKeepsItsPredecessor(t *testing.T) {
	v := newTestHeader(t)
	before := bytes.Clone(v.Payload)
	next := must[*SignedHeader](t)(v.Next(v.ids, func(h *Header) {
		h.Devices[0].Revoked = true
		h.Devices = append(h.Devices, Device{ID: testParent, PK: [32]byte{0: 9}})
		h.Write = WriteV4
	}))
	if v.Devices[0].Revoked || len(v.Devices) != 1 || !bytes.Equal(v.Payload, before) {
		t.Error("the change reached the old header")
	}
	if next.Seq != 2 || next.Prev != v.Hash() || !next.Devices[0].Revoked || next.Write != WriteV4 {
		t.Errorf("next header: %+v", next.Header)
	}
	if err := next.VerifyNext(v.SignedHeader); err != nil {
		t.Error(err)
	}
	_, err := v.Next(keyFrom(0x03), nil)
	wantErr(t, "another identity", err, ErrIdentityMismatch)
	for what, change := range map[string]func(*Header){
		"vault": func(h *Header) { h.Vault = testParent }, "seq": func(h *Header) { h.Seq++ },
		"prev": func(h *Header) { h.Prev[0]++ }, "epoch": func(h *Header) { h.Epoch++ },
		"password": func(h *Header) { h.PW.IV[0]++ }, "kdf": func(h *Header) { h.KDF.Time++ },
		"vkc": func(h *Header) { h.VKC[0]++ }, "cut": func(h *Header) { h.Cut = map[ID]Cut{testDevice: {Seq: 1}} },
		"device key": func(h *Header) { h.Devices[0].PK[0]++ }, "write": func(h *Header) { h.Write = "v3" },
	} {
		if _, err := v.Next(v.ids, change); err == nil {
			t.Errorf("Next lets the %s change", what)
		}
	}
	_, err = next.Next(v.ids, func(h *Header) { h.Devices[0].Revoked = false })
	wantErr(t, "revoked device comes back", err, ErrHeader)
}

func TestNewEpoch(t *testing.T) {
	v := newTestHeader(t).withKit(t)
	h, vks := v.SignedHeader, []*Key{v.vk}
	for e := uint32(2); e <= 5; e++ {
		newVK, kek := NewKey(), NewKey()
		next, err := NewEpoch(h, v.ids, vks[len(vks)-1], &newVK, &kek, LowKDF())
		if err != nil {
			t.Fatal(err)
		}
		vk, ids, err := next.OpenPassword(&kek)
		if err != nil || !vk.Equal(&newVK) || !ids.Equal(v.ids) || next.Epoch != e || next.Seq != h.Seq+1 {
			t.Fatalf("epoch %d: %v", e, err)
		}
		older := must[[]Key](t)(next.PreviousKeys(&newVK))
		if len(older) != len(vks) {
			t.Fatalf("epoch %d: %d older keys", e, len(older))
		}
		for i := range older {
			if !older[i].Equal(vks[i]) {
				t.Errorf("epoch %d: key of epoch %d differs", e, i+1)
			}
		}
		if vk, _, err = next.OpenKit(&v.kit, v.DID); err != nil || !vk.Equal(&newVK) {
			t.Errorf("epoch %d: kit: %v", e, err)
		}
		if !bytes.Equal(next.Rec.PK, h.Rec.PK) {
			t.Error("the kit's public key changed")
		}
		h, vks = next, append(vks, &newVK)
	}
	_, err := h.PreviousKeys(v.vk)
	wantErr(t, "previous keys under an old key", err, ErrAuth)

	last := vks[len(vks)-1]
	_, err = NewEpoch(h, v.ids, v.vk, last, v.kek, LowKDF())
	wantErr(t, "an old vault key", err, ErrKeyCommit)
	_, err = NewEpoch(h, keyFrom(0x03), last, v.vk, v.kek, LowKDF())
	wantErr(t, "another identity", err, ErrIdentityMismatch)
	_, err = NewEpoch(h, v.ids, last, v.vk, v.kek, h.KDF)
	wantErr(t, "salt used before", err, ErrKDFParams)
	revoked := must[*SignedHeader](t)(NewEpoch(h, v.ids, last, v.vk, v.kek, LowKDF(), func(h *Header) {
		h.Devices[0].Revoked, h.Cut = true, map[ID]Cut{testDevice: {Seq: 7, Hash: [32]byte{1}}}
	}))
	if !revoked.Devices[0].Revoked || revoked.Cut[testDevice].Seq != 7 {
		t.Error("revocation is not in the header")
	}
}

func TestVerifyNext(t *testing.T) {
	v := newTestHeader(t)
	h2 := must[*SignedHeader](t)(v.Next(v.ids, nil))
	h2b := must[*SignedHeader](t)(v.Next(v.ids, func(h *Header) { h.Write = WriteV4 }))
	h3 := must[*SignedHeader](t)(h2.Next(v.ids, nil))
	other := must[*SignedHeader](t)(NewHeader(testParent, v.ids, v.vk, v.kek, v.kdf, nil, WriteAuto))
	stranger := must[*SignedHeader](t)(NewHeader(testVault, keyFrom(0x03), v.vk, v.kek, v.kdf, nil, WriteAuto))
	for _, c := range []struct {
		what    string
		h, prev *SignedHeader
		want    error
	}{
		{"next", h2, v.SignedHeader, nil}, {"same again", h2, h2, nil},
		{"older", v.SignedHeader, h2, ErrRollback}, {"much older", v.SignedHeader, h3, ErrRollback},
		{"same seq, other content", h2b, h2, ErrFork}, {"after another", h3, h2b, ErrFork},
		{"one missing", h3, v.SignedHeader, ErrGap},
		{"other vault", other, v.SignedHeader, ErrIdentityMismatch}, {"other identity", stranger, v.SignedHeader, ErrIdentityMismatch},
	} {
		wantErr(t, c.what, c.h.VerifyNext(c.prev), c.want)
	}
	weaker := forge(t, h2.Header, v.ids, func(h *Header) { h.KDF.Memory-- })
	wantErr(t, "weaker KDF", weaker.VerifyNext(v.SignedHeader), ErrKDFParams)
	newVK, kek := NewKey(), NewKey()
	e2 := must[*SignedHeader](t)(NewEpoch(h2, v.ids, v.vk, &newVK, &kek, LowKDF()))
	back := forge(t, e2.Header, v.ids, func(h *Header) { h.Seq, h.Prev, h.Epoch = e2.Seq+1, e2.Hash(), 1 })
	wantErr(t, "back to epoch 1", back.VerifyNext(e2), ErrRollback)
	ahead := forge(t, e2.Header, v.ids, func(h *Header) { h.Seq, h.Prev, h.Epoch = e2.Seq+1, e2.Hash(), 4 })
	wantErr(t, "two epochs on", ahead.VerifyNext(e2), ErrHeader)
}

// Weaker or absurd parameters are refused before any work, wherever they come.
func TestKDFFloor(t *testing.T) {
	for what, change := range map[string]func(*KDFParams){
		"memory": func(p *KDFParams) { p.Memory = 64<<10 - 1 }, "OWASP's 19 MiB": func(p *KDFParams) { p.Memory = 19 << 10 },
		"time": func(p *KDFParams) { p.Time = 2 }, "lanes": func(p *KDFParams) { p.Parallelism = 0 },
		"all zero": func(p *KDFParams) { *p = KDFParams{} },
	} {
		refuseKDF(t, what, change)
	}
	v := newTestHeader(t)
	newVK, kek := NewKey(), NewKey()
	strong := DefaultKDF()
	h := must[*SignedHeader](t)(NewEpoch(v.SignedHeader, v.ids, v.vk, &newVK, &kek, strong))
	_, err := NewEpoch(h, v.ids, &newVK, v.vk, &kek, LowKDF())
	wantErr(t, "re-sealing with less memory", err, ErrKDFParams)
}

func TestKDFCeiling(t *testing.T) {
	for what, change := range map[string]func(*KDFParams){
		"memory": func(p *KDFParams) { p.Memory = 2<<20 + 1 }, "4 TiB": func(p *KDFParams) { p.Memory = 1<<32 - 1 },
		"time": func(p *KDFParams) { p.Time = 17 }, "lanes": func(p *KDFParams) { p.Parallelism = 17 },
	} {
		refuseKDF(t, what, change)
	}
	// Numbers that would wrap around in smaller types are no way in.
	v := newTestHeader(t)
	for old, big := range map[string]string{`"m":65536`: `"m":4295032832`, `"t":3`: `"t":4294967299`, `"p":4`: `"p":260`} {
		s := &SignedHeader{Payload: bytes.Replace(v.Payload, []byte(old), []byte(big), 1)}
		_, err := ParseEnvelope(s.Envelope())
		wantErr(t, big, err, ErrKDFParams)
	}
}

func refuseKDF(t *testing.T, what string, change func(*KDFParams)) {
	t.Helper()
	v := newTestHeader(t)
	p := v.kdf
	change(&p)
	wantErr(t, what+": Check", p.Check(), ErrKDFParams)
	_, err := DeriveKEK([]byte("password"), p)
	wantErr(t, what+": DeriveKEK", err, ErrKDFParams)
	_, err = ParseEnvelope(forge(t, v.Header, v.ids, func(h *Header) { h.KDF = p }).Envelope())
	wantErr(t, what+": ParseEnvelope", err, ErrKDFParams)
	_, err = NewHeader(testVault, v.ids, v.vk, v.kek, p, nil, WriteAuto)
	wantErr(t, what+": NewHeader", err, ErrKDFParams)
}

// The parameters are part of the slot: changed within bounds, it does not open.
func TestKDFBound(t *testing.T) {
	v := newTestHeader(t)
	for what, change := range map[string]func(*Header){
		"m": func(h *Header) { h.KDF.Memory++ }, "t": func(h *Header) { h.KDF.Time++ },
		"p": func(h *Header) { h.KDF.Parallelism++ }, "salt": func(h *Header) { h.KDF.Salt[0]++ },
		"vault": func(h *Header) { h.Vault[0]++ }, "ct": func(h *Header) { h.PW.CT[0]++ }, "iv": func(h *Header) { h.PW.IV[0]++ },
	} {
		_, _, err := forge(t, v.Header, v.ids, change).OpenPassword(v.kek)
		wantErr(t, what, err, ErrPassword)
	}
}

// A slot opens under the password it commits to and no other, though its
// ciphertext would: the commitment is compared first.
func TestPwCommit(t *testing.T) {
	v := newTestHeader(t)
	other := keyFrom(0xa0)
	theirs := forge(t, v.Header, v.ids, func(h *Header) { h.sealSlots(v.vk, v.ids, other) })
	if _, _, err := theirs.OpenPassword(other); err != nil {
		t.Fatal(err)
	}
	mixed := forge(t, theirs.Header, v.ids, func(h *Header) { h.PW.Commit = v.PW.Commit })
	for what, kek := range map[string]*Key{"password of the ciphertext": other, "password of the commitment": v.kek} {
		_, _, err := mixed.OpenPassword(kek)
		wantErr(t, what, err, ErrPassword)
	}
	for bit := range 8 * 32 {
		h := forge(t, v.Header, v.ids, func(h *Header) { h.PW.Commit[bit/8] ^= 1 << (bit % 8) })
		_, _, err := h.OpenPassword(v.kek)
		wantErr(t, fmt.Sprint("bit ", bit), err, ErrPassword)
	}
}

// A header that somebody else made for this vault id is refused at each step.
func TestForeignHeader(t *testing.T) {
	v := newTestHeader(t)
	mallory := keyFrom(0x03)
	theirs := must[*SignedHeader](t)(NewHeader(testVault, mallory, v.vk, v.kek, v.kdf, nil, WriteAuto))
	if _, _, err := theirs.OpenPassword(v.kek); err != nil {
		t.Fatal(err) // whole in itself: only the pinned DID tells
	}
	wantErr(t, "pinned DID", theirs.CheckDID(v.DID), ErrIdentityMismatch)
	wantErr(t, "enrolled device", theirs.VerifyDevice(v.vk, v.DID), ErrIdentityMismatch)
	addr := must[Address](t)(ParseAddress(FormatAddress(testVault, NewID(), v.DID)))
	wantErr(t, "address", addr.Matches(theirs.DID), ErrIdentityMismatch)

	relabelled := forge(t, theirs.Header, mallory, func(h *Header) { h.DID = v.DID })
	_, _, err := relabelled.OpenPassword(v.kek)
	wantErr(t, "their identity under our DID", err, ErrIdentityMismatch)
	signed := forge(t, v.Header, mallory, func(h *Header) { h.Devices = nil })
	_, _, err = signed.OpenPassword(v.kek)
	wantErr(t, "our slot, their signature", err, ErrSignature)
	wantErr(t, "our slot, their signature, enrolled", signed.VerifyDevice(v.vk, v.DID), ErrSignature)
	swapped := forge(t, v.Header, v.ids, func(h *Header) { h.VKC[0]++ })
	_, _, err = swapped.OpenPassword(v.kek)
	wantErr(t, "another vkc", err, ErrKeyCommit)
	wantErr(t, "another vault key", v.VerifyDevice(keyFrom(0x61), v.DID), ErrKeyCommit)
	for bit := range 8 * len(v.Sig) {
		h := *v.SignedHeader
		h.Sig[bit/8] ^= 1 << (bit % 8)
		wantErr(t, fmt.Sprint("signature bit ", bit), h.VerifyDevice(v.vk, v.DID), ErrSignature)
	}
}

// The old password and the old header open what was, not what came after.
func TestOldPassword(t *testing.T) {
	v := newTestHeader(t)
	newVK, newKEK := NewKey(), NewKey()
	h := must[*SignedHeader](t)(NewEpoch(v.SignedHeader, v.ids, v.vk, &newVK, &newKEK, LowKDF()))
	_, _, err := h.OpenPassword(v.kek)
	wantErr(t, "old password, new header", err, ErrPassword)
	_, _, err = v.OpenPassword(&newKEK)
	wantErr(t, "new password, old header", err, ErrPassword)
	oldVK, _, err := v.OpenPassword(v.kek)
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, "old vault key, new header", h.VerifyDevice(&oldVK, v.DID), ErrKeyCommit)
	fk := NewKey()
	wire := must[[]byte](t)(DeriveEpoch(&newVK, testVault, 2).WrapFileKey(&fk))
	_, err = DeriveEpoch(&oldVK, testVault, 2).UnwrapFileKey(wire)
	wantErr(t, "new file key under the old vault key", err, ErrAuth)
	wantErr(t, "old header again", v.VerifyNext(h), ErrRollback)
}

// A server can seal a recovery slot to the kit's public key, but not with the
// identity that the paper names.
func TestRecoveryForeignDID(t *testing.T) {
	v := newTestHeader(t).withKit(t)
	mallory, theirVK := keyFrom(0x03), keyFrom(0x62)
	slot := v.sealKit(t, theirVK, mallory)
	theirs := forge(t, v.Header, mallory, func(h *Header) {
		h.DID, h.Rec, h.VKC = DIDFromSeed(mallory), slot, vkCheck(theirVK, h.Vault, h.Epoch)
	})
	_, _, err := theirs.OpenKit(&v.kit, v.DID)
	wantErr(t, "whole header of theirs", err, ErrIdentityMismatch)
	theirs = forge(t, v.Header, mallory, func(h *Header) { h.Rec, h.VKC = slot, vkCheck(theirVK, h.Vault, h.Epoch) })
	_, _, err = theirs.OpenKit(&v.kit, v.DID)
	wantErr(t, "their slot under our DID", err, ErrIdentityMismatch)
	theirs = forge(t, v.Header, mallory, func(h *Header) { h.Rec = slot })
	_, _, err = theirs.OpenKit(&v.kit, v.DID)
	wantErr(t, "their slot alone", err, ErrKeyCommit)

	other := NewRecovery()
	_, _, err = v.OpenKit(&other, v.DID)
	wantErr(t, "another kit", err, ErrKit)
	_, _, err = newTestHeader(t).OpenKit(&v.kit, v.DID)
	wantErr(t, "header without a kit", err, ErrKit)
	for _, bit := range []int{0, 8 * 1088, 8 * 1120, 8*1200 - 1} {
		bad := &RecoverySlot{PK: v.Rec.PK, CT: flipped(v.Rec.CT, bit)}
		_, _, err = OpenRecovery(&v.kit, v.Vault, v.Epoch, bad)
		wantErr(t, fmt.Sprint("bit ", bit), err, ErrAuth)
	}
	_, _, err = OpenRecovery(&v.kit, testParent, v.Epoch, v.Rec)
	wantErr(t, "slot of another vault", err, ErrAuth)
	_, _, err = OpenRecovery(&v.kit, v.Vault, v.Epoch+1, v.Rec)
	wantErr(t, "slot of another epoch", err, ErrAuth)
	_, err = SealRecovery(make([]byte, 7), v.Vault, 1, v.vk, v.ids)
	wantErr(t, "no public key", err, ErrFormat)
}

// Malformed headers: the payload broken in every way the page names.
func TestHeaderMalformed(t *testing.T) {
	v := newTestHeader(t).withKit(t)
	for what, change := range map[string]func(*Header){
		"no vault": func(h *Header) { h.Vault = ID{} }, "seq 0": func(h *Header) { h.Seq = 0 },
		"seq beyond 2^53": func(h *Header) { h.Seq = 1 << 53 }, "prev at seq 1": func(h *Header) { h.Seq = 1 },
		"no prev at seq 2": func(h *Header) { h.Prev = [32]byte{} }, "epoch 0": func(h *Header) { h.Epoch = 0 },
		"epoch above seq":        func(h *Header) { h.Epoch, h.PrevVK = 3, &PrevVK{CT: make([]byte, 80)} },
		"epoch 2 without prevvk": func(h *Header) { h.Epoch = 2 }, "prevvk in epoch 1": func(h *Header) { h.PrevVK = &PrevVK{CT: make([]byte, 16)} },
		"prevvk too long": func(h *Header) { h.Epoch, h.PrevVK = 2, &PrevVK{CT: make([]byte, 80)} },
		"DID":             func(h *Header) { h.DID = "did:key:zabc" }, "write mode": func(h *Header) { h.Write = "V4" },
		"device twice":               func(h *Header) { h.Devices = append(h.Devices, h.Devices[0]) },
		"device zero":                func(h *Header) { h.Devices = append(h.Devices, Device{}) },
		"device without a key":       func(h *Header) { h.Devices[0].PK = [32]byte{} },
		"device with a forgers' key": func(h *Header) { h.Devices[0].PK = [32]byte(neutral) },
		"65 devices":                 func(h *Header) { h.Devices = manyDevices(65) },
		"recovery key":               func(h *Header) { h.Rec.PK = h.Rec.PK[1:] }, "recovery slot": func(h *Header) { h.Rec.CT = append(h.Rec.CT, 0) },
		"cut at 0": func(h *Header) { h.Cut = map[ID]Cut{testDevice: {}} },
	} {
		_, err := ParseEnvelope(forge(t, v.Header, v.ids, change).Envelope())
		wantErr(t, what, err, ErrHeader)
	}
	if _, err := v.Next(v.ids, func(h *Header) { h.Devices = manyDevices(64) }); err != nil {
		t.Errorf("64 devices: %v", err)
	}
	_, err := ParseEnvelope(make([]byte, 400<<10))
	wantErr(t, "envelope too long", err, ErrHeader)
	_, err = ParseEnvelope((&SignedHeader{Payload: make([]byte, maxPayload+1)}).Envelope())
	wantErr(t, "payload too long", err, ErrHeader)
	future := bytes.Replace(v.Payload, []byte(`{"v":1,`), []byte(`{"v":2,`), 1)
	_, err = ParseEnvelope((&SignedHeader{Payload: future}).Envelope())
	wantErr(t, "version 2", err, ErrVersion)
	wantErr(t, "version 2", err, ErrHeader)
}

func manyDevices(n int) []Device {
	list := make([]Device, n)
	for i := range list {
		list[i].ID, list[i].PK = ID{0: 1, 1: byte(i)}, [32]byte{0: 9}
	}
	return list
}

// Every key of a header is needed, in its own spelling, once, and no other.
func TestStrictJSON(t *testing.T) {
	v := newTestHeader(t).withKit(t)
	payload := string(v.Payload)
	bad := func(what, js string) {
		t.Helper()
		if js == payload {
			t.Fatalf("%s: the test changed nothing", what)
		}
		_, err := ParseEnvelope((&SignedHeader{Payload: []byte(js)}).Envelope())
		wantErr(t, what, err, ErrHeader)
	}
	for _, key := range []string{"v", "vault", "did", "seq", "prev", "epoch", "kdf", "alg", "m", "t", "p", "salt", "pw", "commit", "iv", "ct", "rec", "pk", "vkc", "prevvk", "devices", "id", "revoked", "cut", "write"} {
		bad("no "+key, strings.Replace(payload, `"`+key+`":`, `"`+key+`x":`, 1))
		bad("upper case "+key, strings.Replace(payload, `"`+key+`":`, `"`+strings.ToUpper(key)+`":`, 1))
		bad("null "+key, strings.Replace(payload, `"`+key+`":`, `"`+key+`":null,"y":`, 1))
		bad("twice "+key, strings.Replace(payload, `"`+key+`":`, `"`+key+`":1,"`+key+`":`, 1))
	}
	bad("unknown key", `{"x":1,`+payload[1:])
	bad("trailing bytes", payload+" x")
	bad("second value", payload+payload)
	bad("invalid UTF-8", strings.Replace(payload, `"auto"`, "\"auto\xff\"", 1))
	bad("lone surrogate", strings.Replace(payload, `"auto"`, `"auto\ud800"`, 1))
	bad("fraction", strings.Replace(payload, `"seq":2`, `"seq":2.0`, 1))
	bad("exponent", strings.Replace(payload, `"seq":2`, `"seq":2e0`, 1))
	bad("negative", strings.Replace(payload, `"seq":2`, `"seq":-2`, 1))
	bad("number as text", strings.Replace(payload, `"seq":2`, `"seq":"2"`, 1))
	bad("UUID in upper case", strings.Replace(payload, "10111213", "1011121A", 1))
	bad("byte order mark", "\ufeff"+payload)
	bad("comment", "/**/"+payload)

	envelope := string(v.Envelope())
	for what, js := range map[string]string{
		"empty": "", "not JSON": "header", "array": "[" + envelope + "]", "trailing": envelope + "{}",
		"extra key":  `{"x":1,` + envelope[1:],
		"sig twice":  envelope[:len(envelope)-1] + `,"sig":""}`,
		"sig short":  strings.Replace(envelope, `"sig":"`, `"sig":"AAAA`, 1),
		"line end":   strings.Replace(envelope, `"sig":"`, `"sig":"\n`, 1),
		"upper case": strings.Replace(envelope, `"sig"`, `"Sig"`, 1),
		"no payload": `{"sig":"` + EncodeBase64(v.Sig[:]) + `"}`,
	} {
		_, err := ParseEnvelope([]byte(js))
		wantErr(t, what, err, ErrHeader)
	}
	// What is not strictness: spaces, and any order of the keys.
	var m map[string]json.RawMessage
	if err := json.Unmarshal(v.Payload, &m); err != nil {
		t.Fatal(err)
	}
	sorted := must[[]byte](t)(json.MarshalIndent(m, "", " "))
	if _, err := ParseEnvelope((&SignedHeader{Payload: sorted}).Envelope()); err != nil {
		t.Errorf("other order and spaces: %v", err)
	}
}

// "bad base64, CR/LF, wrong padding bits".
func TestBase64Strict(t *testing.T) {
	for n := range 50 {
		if got, err := DecodeBase64(EncodeBase64(pattern(n))); err != nil || !bytes.Equal(got, pattern(n)) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	for _, s := range []string{"A", "AA", "AAA", "AA=", "AB==", "AAB=", "A===", "====", "AAAA=", "AA-_", "AA==AAAA", "AAAA\n", "AA\r\nAA", "\nAAAA", " AAAA", "AAAA ", "AAA\x00", "ÄAAA"} {
		_, err := DecodeBase64(s)
		wantErr(t, fmt.Sprintf("%q", s), err, ErrEncoding)
		js := must[[]byte](t)(json.Marshal(map[string]string{"iv": EncodeBase64(make([]byte, 12)), "ciphertext": s}))
		_, err = ParseWireJSON(js)
		wantErr(t, fmt.Sprintf("%q in JSON", s), err, ErrEncoding)
	}
}

func TestSurrogates(t *testing.T) {
	for js, ok := range map[string]bool{
		`"\ud83d\ude00"`: true, `"\\ud800"`: true, `"\u0041\ud83d\ude00x"`: true, `"\ufffd"`: true, `"\n\u000a"`: true,
		`"\ud83d"`: false, `"\ude00"`: false, `"\ud83d\ud83d"`: false, `"\ud83dx"`: false, `"\ud83d\n"`: false,
		`"\\\ud800"`: false, `"\ud83d\u0041"`: false, `"\uD83D\uDE00"`: true, `"\uDE00\uD83D"`: false,
	} {
		if _, err := parseJSON([]byte(js)); (err == nil) != ok {
			t.Errorf("%s: %v", js, err)
		}
	}
	deep := strings.Repeat("[", 10000) + strings.Repeat("]", 10000)
	if _, err := parseJSON([]byte(deep)); !errors.Is(err, ErrFormat) {
		t.Errorf("deep nesting: %v", err)
	}
}

// All failures of a sealed key look alike: one error, no detail that tells how
// far the opening came.
func TestNoOracle(t *testing.T) {
	e := DeriveEpoch(keyFrom(0x60), testVault, 1)
	wire := must[[]byte](t)(e.WrapFileKey(keyFrom(1)))
	texts := map[string]bool{}
	for bit := range 8 * len(wire) {
		k, err := e.UnwrapFileKey(flipped(wire, bit))
		if !k.IsZero() {
			t.Fatal("a key comes with the error")
		}
		texts[err.Error()] = true
	}
	if len(texts) != 1 {
		t.Errorf("%d different errors", len(texts))
	}
}
