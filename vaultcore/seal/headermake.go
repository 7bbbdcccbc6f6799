package seal

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
)

// NewHeader makes and signs the first header of a vault: seq 1, epoch 1. kek is
// what DeriveKEK gives for the password and kdf. Errors: ErrKDFParams, ErrHeader.
func NewHeader(vault ID, ids, vk, kek *Key, kdf KDFParams, devices []Device, write string) (*SignedHeader, error) {
	h := Header{
		Vault: vault, DID: DIDFromSeed(ids), Seq: 1, Epoch: 1, KDF: kdf,
		Devices: slices.Clone(devices), Write: write,
	}
	h.sealSlots(vk, ids, kek)
	return sign(&h, ids)
}

// sealSlots fills what depends on the vault key, the epoch and the password.
func (h *Header) sealSlots(vk, ids, kek *Key) {
	h.VKC = vkCheck(vk, h.Vault, h.Epoch)
	var aead, commit = pwSlotKeys(kek, h.Vault, h.Epoch)
	h.PW = PasswordSlot{Commit: commit}
	rand.Read(h.PW.IV[:])
	plain := append(append(make([]byte, 0, 2*keySize), vk.b[:]...), ids.b[:]...)
	defer clear(plain)
	aead.Seal(h.PW.CT[:0], h.PW.IV[:], plain, pwSlotAAD(h))
}

// Next makes and signs the following header of the same epoch: seq + 1, prev set,
// and what change does to roster, recovery slot and write mode. Errors:
// ErrIdentityMismatch when ids is not the identity of the vault, ErrHeader when
// the result breaks a rule.
func (h *SignedHeader) Next(ids *Key, change func(*Header)) (*SignedHeader, error) {
	next := h.successor()
	if change != nil {
		change(&next)
	}
	return h.sealNext(&next, ids)
}

// NewEpoch makes and signs the header of the next epoch under newVK: a new
// password slot, prevvk grown by oldVK, the recovery slot sealed anew to the same
// kit. kdf has a new salt and is nowhere weaker than before. The roster and cut
// are kept unless changes say otherwise: a revocation is an epoch too.
// Errors: ErrKeyCommit (oldVK), ErrIdentityMismatch, ErrKDFParams, ErrHeader.
func NewEpoch(h *SignedHeader, ids, oldVK, newVK, kek *Key, kdf KDFParams, changes ...func(*Header)) (*SignedHeader, error) {
	if err := h.checkVK(oldVK); err != nil {
		return nil, err
	}
	if kdf.Salt == h.KDF.Salt {
		return nil, fmt.Errorf("%w: salt used before", ErrKDFParams)
	}
	older, err := h.PreviousKeys(oldVK)
	if err != nil {
		return nil, err
	}
	next := h.successor()
	next.Epoch, next.KDF = h.Epoch+1, kdf
	next.sealSlots(newVK, ids, kek)
	next.PrevVK = sealPrevVK(append(older, *oldVK), newVK, h.Vault, next.Epoch)
	for i := range older {
		older[i].Wipe()
	}
	if next.Rec != nil {
		if next.Rec, err = SealRecovery(h.Rec.PK, h.Vault, next.Epoch, newVK, ids); err != nil {
			return nil, err
		}
	}
	for _, change := range changes {
		change(&next)
	}
	return h.sealNext(&next, ids)
}

func sealPrevVK(keys []Key, vk *Key, vault ID, epoch uint32) *PrevVK {
	plain := make([]byte, 0, len(keys)*keySize)
	for i := range keys {
		plain = append(plain, keys[i].b[:]...)
		keys[i].Wipe()
	}
	defer clear(plain)
	p := &PrevVK{}
	rand.Read(p.IV[:])
	aead, aad := prevVKCipher(vk, vault, epoch)
	p.CT = aead.Seal(nil, p.IV[:], plain, aad)
	return p
}

func (h *SignedHeader) successor() Header {
	next := h.clone()
	next.Seq, next.Prev = h.Seq+1, h.Hash()
	return next
}

// sealNext signs a successor and checks it as any reader will.
func (h *SignedHeader) sealNext(next *Header, ids *Key) (*SignedHeader, error) {
	signed, err := sign(next, ids)
	if err != nil {
		return nil, err
	}
	if err := signed.VerifyNext(h); err != nil {
		return nil, err
	}
	return signed, nil
}

// sign serialises and signs a header. What comes out has passed the parser, so
// nothing is ever signed that a reader would refuse.
func sign(h *Header, ids *Key) (*SignedHeader, error) {
	if DIDFromSeed(ids) != h.DID {
		return nil, ErrIdentityMismatch
	}
	payload, err := encodePayload(h)
	if err != nil {
		return nil, err
	}
	s := &SignedHeader{Payload: payload}
	copy(s.Sig[:], signPayload(ids, payload))
	return ParseEnvelope(s.Envelope())
}

func signPayload(ids *Key, payload []byte) []byte {
	return ed25519.Sign(signer(ids), signedBytes(payload))
}

// Envelope returns the signed header as it is stored and sent.
func (h *SignedHeader) Envelope() []byte {
	return []byte(`{"payload":"` + EncodeBase64(h.Payload) + `","sig":"` + EncodeBase64(h.Sig[:]) + `"}`)
}

// The JSON of a payload; encoding/json writes []byte as base64 and sorts maps.
type (
	payloadJSON struct {
		V       int                `json:"v"`
		Vault   string             `json:"vault"`
		DID     string             `json:"did"`
		Seq     uint64             `json:"seq"`
		Prev    []byte             `json:"prev"`
		Epoch   uint32             `json:"epoch"`
		KDF     kdfJSON            `json:"kdf"`
		PW      pwJSON             `json:"pw"`
		Rec     *recJSON           `json:"rec"`
		VKC     []byte             `json:"vkc"`
		PrevVK  *prevVKJSON        `json:"prevvk"`
		Devices []deviceJSON       `json:"devices"`
		Cut     map[string]cutJSON `json:"cut"`
		Write   string             `json:"write"`
	}
	kdfJSON struct {
		Alg  string `json:"alg"`
		V    int    `json:"v"`
		M    uint32 `json:"m"`
		T    uint32 `json:"t"`
		P    uint8  `json:"p"`
		Salt []byte `json:"salt"`
	}
	pwJSON struct {
		Commit []byte `json:"commit"`
		IV     []byte `json:"iv"`
		CT     []byte `json:"ct"`
	}
	recJSON struct {
		PK []byte `json:"pk"`
		CT []byte `json:"ct"`
	}
	prevVKJSON struct {
		IV []byte `json:"iv"`
		CT []byte `json:"ct"`
	}
	deviceJSON struct {
		ID      string `json:"id"`
		PK      []byte `json:"pk"`
		Revoked bool   `json:"revoked"`
	}
	cutJSON struct {
		Seq  uint64 `json:"seq"`
		Hash []byte `json:"hash"`
	}
)

func encodePayload(h *Header) ([]byte, error) {
	p := payloadJSON{
		V: headerVersion, Vault: h.Vault.UUID(), DID: h.DID, Seq: h.Seq, Prev: h.Prev[:], Epoch: h.Epoch,
		KDF: kdfJSON{kdfAlg, kdfVersion, h.KDF.Memory, h.KDF.Time, h.KDF.Parallelism, h.KDF.Salt[:]},
		PW:  pwJSON{h.PW.Commit[:], h.PW.IV[:], h.PW.CT[:]}, VKC: h.VKC[:],
		Devices: make([]deviceJSON, len(h.Devices)), Cut: make(map[string]cutJSON, len(h.Cut)), Write: h.Write,
	}
	if h.Rec != nil {
		p.Rec = &recJSON{h.Rec.PK, h.Rec.CT}
	}
	if h.PrevVK != nil {
		p.PrevVK = &prevVKJSON{h.PrevVK.IV[:], h.PrevVK.CT}
	}
	for i, d := range h.Devices {
		p.Devices[i] = deviceJSON{d.ID.UUID(), d.PK[:], d.Revoked}
	}
	for id, c := range h.Cut {
		p.Cut[id.UUID()] = cutJSON{c.Seq, c.Hash[:]}
	}
	b, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHeader, err)
	}
	return b, nil
}
