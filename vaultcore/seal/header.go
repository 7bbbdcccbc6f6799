package seal

import (
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/vaultdrive/vaultdrive/vaultcore/didkey"
)

// The vault header: identity, epochs, password slot, roster of devices. It is
// signed by the vault's identity, and each names the hash of the one before.
const (
	labelHeader = "vaultdrive/v1/header\x00"
	labelPWSlot = "vaultdrive/v1/pw-slot\x00"
	labelPrevVK = "vaultdrive/v1/prev-vk\x00"

	headerVersion = 1
	maxPayload    = 256 << 10
	maxDevices    = 64
	pwSlotSize    = 2*keySize + tagSize

	// WriteAuto seals small files as version 3, WriteV4 all as version 4.
	WriteAuto = "auto"
	WriteV4   = "v4"
)

// Header is what a vault header says. Its key slots are opaque here.
type Header struct {
	Vault   ID
	DID     string
	Seq     uint64
	Prev    [32]byte // SHA-256 of the previous payload, zero at seq 1
	Epoch   uint32
	KDF     KDFParams
	PW      PasswordSlot
	Rec     *RecoverySlot // nil without a recovery kit
	VKC     [32]byte      // commits to the vault key
	PrevVK  *PrevVK       // nil at epoch 1
	Devices []Device
	Cut     map[ID]Cut
	Write   string // WriteAuto or WriteV4
}

// PasswordSlot holds the vault key and the identity seed under the password.
type PasswordSlot struct {
	Commit [32]byte
	IV     [ivSize]byte
	CT     [pwSlotSize]byte
}

// RecoverySlot holds the same under the public key of the recovery kit.
type RecoverySlot struct {
	PK []byte // recoveryPKSize bytes
	CT []byte // recoveryCTSize bytes
}

// PrevVK holds the vault keys of all earlier epochs under the current one.
type PrevVK struct {
	IV [ivSize]byte
	CT []byte
}

// Device is an entry of the roster. Its id is never given to another device.
type Device struct {
	ID      ID
	PK      [32]byte
	Revoked bool
}

// Cut names the last batch of a device that counts in earlier epochs.
type Cut struct {
	Seq  uint64
	Hash [32]byte
}

// clone copies what a change could otherwise reach through pointers.
func (h *Header) clone() Header {
	c := *h
	c.Devices, c.Cut = slices.Clone(h.Devices), maps.Clone(h.Cut)
	if h.Rec != nil {
		c.Rec = &RecoverySlot{PK: slices.Clone(h.Rec.PK), CT: slices.Clone(h.Rec.CT)}
	}
	if h.PrevVK != nil {
		c.PrevVK = &PrevVK{IV: h.PrevVK.IV, CT: slices.Clone(h.PrevVK.CT)}
	}
	return c
}

// SignedHeader is a header with the very bytes that were signed; those are
// stored, hashed and sent, never a new serialisation.
type SignedHeader struct {
	Header
	Payload []byte
	Sig     [ed25519.SignatureSize]byte
}

// Hash is SHA-256 of the payload.
func (h *SignedHeader) Hash() [32]byte { return sha256.Sum256(h.Payload) }

// OpenPassword accepts a header by its password, in this order: commitment and
// slot (ErrPassword), vault key (ErrKeyCommit), identity against the header's
// own DID (ErrIdentityMismatch), signature (ErrSignature). A caller that knows
// the DID of its vault goes on with CheckDID, then VerifyNext.
func (h *SignedHeader) OpenPassword(kek *Key) (vk, ids Key, err error) {
	aead, commit := pwSlotKeys(kek, h.Vault, h.Epoch)
	// The commitment comes first: GCM alone would let one slot open under many
	// passwords, and so test many guesses at once.
	if subtle.ConstantTimeCompare(commit[:], h.PW.Commit[:]) != 1 {
		return Key{}, Key{}, ErrPassword
	}
	plain, err := aead.Open(nil, h.PW.IV[:], h.PW.CT[:], pwSlotAAD(&h.Header))
	if err != nil {
		return Key{}, Key{}, fmt.Errorf("%w: slot does not open", ErrPassword)
	}
	vk, ids = splitKeys(plain)
	if err := h.verifyOwner(&vk, &ids, h.DID); err != nil {
		vk.Wipe()
		ids.Wipe()
		return Key{}, Key{}, err
	}
	return vk, ids, nil
}

// splitKeys takes VK ‖ IDS apart and wipes it.
func splitKeys(plain []byte) (vk, ids Key) {
	vk.b = [keySize]byte(plain)
	ids.b = [keySize]byte(plain[keySize:])
	clear(plain)
	return vk, ids
}

// verifyOwner checks what a slot gave against the header around it.
func (h *SignedHeader) verifyOwner(vk, ids *Key, did string) error {
	if err := h.checkVK(vk); err != nil {
		return err
	}
	if DIDFromSeed(ids) != did {
		return ErrIdentityMismatch
	}
	if err := h.CheckDID(did); err != nil {
		return err
	}
	return h.checkSignature()
}

// VerifyDevice accepts a header on an enrolled device, which has the vault key
// of its epoch and knows the DID: ErrKeyCommit, ErrIdentityMismatch, ErrSignature.
func (h *SignedHeader) VerifyDevice(vk *Key, did string) error {
	if err := h.checkVK(vk); err != nil {
		return err
	}
	if err := h.CheckDID(did); err != nil {
		return err
	}
	return h.checkSignature()
}

// VerifySignature checks what can be checked without the vault key: that the
// identity the caller knows has signed the header. Errors: ErrIdentityMismatch,
// ErrSignature.
func (h *SignedHeader) VerifySignature(did string) error {
	if err := h.CheckDID(did); err != nil {
		return err
	}
	return h.checkSignature()
}

// Roster gives a device's entry, false if it has none.
func (h *Header) Roster(id ID) (Device, bool) {
	for _, d := range h.Devices {
		if d.ID == id {
			return d, true
		}
	}
	return Device{}, false
}

// CheckDID compares the header's DID with the one known. Error: ErrIdentityMismatch.
func (h *SignedHeader) CheckDID(did string) error {
	if h.DID != did {
		return ErrIdentityMismatch
	}
	return nil
}

func (h *SignedHeader) checkVK(vk *Key) error {
	want := vkCheck(vk, h.Vault, h.Epoch)
	if subtle.ConstantTimeCompare(want[:], h.VKC[:]) != 1 {
		return fmt.Errorf("vault header: %w", ErrKeyCommit)
	}
	return nil
}

func (h *SignedHeader) checkSignature() error {
	pk, err := didkey.Parse(h.DID)
	if err != nil {
		return err
	}
	if !ed25519.Verify(pk, signedBytes(h.Payload), h.Sig[:]) {
		return fmt.Errorf("vault header: %w", ErrSignature)
	}
	return nil
}

// signedBytes is what the identity signs: the label keeps a signature over a
// header from being one over anything else.
func signedBytes(payload []byte) []byte {
	return append([]byte(labelHeader), payload...)
}

// PreviousKeys returns the vault keys of epochs 1 to Epoch-1. Error: ErrAuth.
func (h *SignedHeader) PreviousKeys(vk *Key) ([]Key, error) {
	if h.PrevVK == nil {
		return nil, nil
	}
	aead, aad := prevVKCipher(vk, h.Vault, h.Epoch)
	plain, err := aead.Open(nil, h.PrevVK.IV[:], h.PrevVK.CT, aad)
	if err != nil {
		return nil, fmt.Errorf("previous vault keys: %w", ErrAuth)
	}
	defer clear(plain)
	keys := make([]Key, len(plain)/keySize)
	for i := range keys {
		copy(keys[i].b[:], plain[i*keySize:])
	}
	return keys, nil
}

// pwSlotKeys derives what opens the password slot, and its commitment.
func pwSlotKeys(kek *Key, vault ID, epoch uint32) (cipher.AEAD, [32]byte) {
	okm := hk(kek.b[:], "pw-slot", epochCtx(vault, epoch), keySize+32)
	defer clear(okm)
	return newGCM(okm[:keySize]), [32]byte(okm[keySize:])
}

// pwSlotAAD binds the slot to its vault, epoch and the whole of the KDF.
func pwSlotAAD(h *Header) []byte {
	b := labelIDs(labelPWSlot, h.Vault)
	for _, n := range []uint32{h.Epoch, h.KDF.Memory, h.KDF.Time, uint32(h.KDF.Parallelism)} {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return append(b, h.KDF.Salt[:]...)
}

func prevVKCipher(vk *Key, vault ID, epoch uint32) (cipher.AEAD, []byte) {
	key := hk(vk.b[:], "prev-vk", epochCtx(vault, epoch), keySize)
	defer clear(key)
	return newGCM(key), binary.BigEndian.AppendUint32(labelIDs(labelPrevVK, vault), epoch)
}
