package seal

import (
	"bytes"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"strings"
)

// The recovery kit is a secret on paper; its slot in the header is HPKE (RFC
// 9180, base mode) to a public key derived from it, so that a change of password
// seals the slot anew without the paper.
const (
	labelRecovery = "vaultdrive/v1/recovery\x00"
	labelKit      = "vaultdrive/v1/kit\x00"

	recoveryPKSize = 1216                               // ML-KEM-768 1184 ‖ X25519 32
	recoveryCTSize = 1120 + 2*keySize + tagSize         // encapsulated key ‖ ct
	kitGroup       = 4                                  // characters between hyphens
	kitCheckChars  = 4                                  // 20 bits of a hash
	kitSecretChars = (keySize*8 + 4) / 5                // 52, the last with 4 zero bits
	kitAlphabet    = "0123456789ABCDEFGHJKMNPQRSTVWXYZ" // Crockford
)

var kitEncoding = base32.NewEncoding(kitAlphabet).WithPadding(base32.NoPadding)

// kitReading is how people's spellings of a kit become the one written.
var kitReading = strings.NewReplacer("-", "", " ", "", "\t", "", "\r", "", "\n", "", "O", "0", "I", "1", "L", "1")

// Kit is the recovery secret.
type Kit struct {
	redacted
	Secret Key
}

// NewRecovery makes a random kit.
func NewRecovery() Kit { return Kit{Secret: NewKey()} }

// Text is the secret as it is printed: 52 characters of Crockford's base32 and 4
// check characters, in groups of 4.
func (k *Kit) Text() string {
	chars := kitEncoding.EncodeToString(k.Secret.b[:]) + k.check()
	var b strings.Builder
	for i := 0; i < len(chars); i += kitGroup {
		if i > 0 {
			b.WriteByte('-')
		}
		b.WriteString(chars[i : i+kitGroup])
	}
	return b.String()
}

// check catches misreadings: the first 20 bits of a hash of the secret.
func (k *Kit) check() string {
	sum := sha256.Sum256(append([]byte(labelKit), k.Secret.b[:]...))
	return kitEncoding.EncodeToString(sum[:5])[:kitCheckChars]
}

// ParseKit reads the printed secret; case, spaces, hyphens and the letters that
// Crockford's base32 takes for digits do not matter. Error: ErrKit.
func ParseKit(text string) (Kit, error) {
	chars := kitReading.Replace(strings.ToUpper(text))
	if len(chars) != kitSecretChars+kitCheckChars {
		return Kit{}, fmt.Errorf("%w: %d characters instead of %d", ErrKit, len(chars), kitSecretChars+kitCheckChars)
	}
	raw, err := kitEncoding.DecodeString(chars[:kitSecretChars])
	if err != nil {
		return Kit{}, fmt.Errorf("%w: a character of no meaning", ErrKit)
	}
	defer clear(raw)
	k := Kit{Secret: Key{b: [keySize]byte(raw)}}
	// Re-encoding refuses stray bits behind the last byte.
	if kitEncoding.EncodeToString(raw)+k.check() != chars {
		k.Wipe()
		return Kit{}, fmt.Errorf("%w: mistyped", ErrKit)
	}
	return k, nil
}

// Wipe overwrites the secret.
func (k *Kit) Wipe() { k.Secret.Wipe() }

// PublicKey returns the public key that the header keeps, 1216 bytes.
func (k *Kit) PublicKey() ([]byte, error) {
	sk, err := k.privateKey()
	if err != nil {
		return nil, err
	}
	return sk.PublicKey().Bytes(), nil
}

func (k *Kit) privateKey() (hpke.PrivateKey, error) {
	sk, err := hpke.MLKEM768X25519().DeriveKeyPair(k.Secret.b[:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKit, err)
	}
	return sk, nil
}

// SealRecovery seals vault key and identity to the public key of a kit.
// Error: ErrFormat for something that is no public key.
func SealRecovery(pk []byte, vault ID, epoch uint32, vk, ids *Key) (*RecoverySlot, error) {
	pub, err := hpke.MLKEM768X25519().NewPublicKey(pk)
	if err != nil {
		return nil, fmt.Errorf("%w: recovery public key: %w", ErrFormat, err)
	}
	plain := append(append(make([]byte, 0, 2*keySize), vk.b[:]...), ids.b[:]...)
	defer clear(plain)
	ct, err := hpke.Seal(pub, hpke.HKDFSHA256(), hpke.AES256GCM(), recoveryInfo(vault, epoch), plain)
	if err != nil {
		return nil, fmt.Errorf("seal recovery slot: %w", err)
	}
	return &RecoverySlot{PK: bytes.Clone(pk), CT: ct}, nil
}

// OpenRecovery opens a recovery slot. What it holds is not authenticated: anyone
// can seal to the public key. Errors: ErrKit (slot of another kit), ErrAuth.
func OpenRecovery(kit *Kit, vault ID, epoch uint32, slot *RecoverySlot) (vk, ids Key, err error) {
	sk, err := kit.privateKey()
	if err != nil {
		return Key{}, Key{}, err
	}
	if !bytes.Equal(sk.PublicKey().Bytes(), slot.PK) {
		return Key{}, Key{}, ErrKit
	}
	plain, err := hpke.Open(sk, hpke.HKDFSHA256(), hpke.AES256GCM(), recoveryInfo(vault, epoch), slot.CT)
	if err != nil || len(plain) != 2*keySize {
		return Key{}, Key{}, fmt.Errorf("recovery slot: %w", ErrAuth)
	}
	vk, ids = splitKeys(plain)
	return vk, ids, nil
}

// OpenKit accepts a header by the recovery kit, whose paper names the DID. The
// identity in the slot must be that DID's: a server can seal a slot, but not
// with another's identity in it. Errors: ErrKit, ErrAuth, ErrKeyCommit,
// ErrIdentityMismatch, ErrSignature.
func (h *SignedHeader) OpenKit(kit *Kit, did string) (vk, ids Key, err error) {
	if h.Rec == nil {
		return Key{}, Key{}, fmt.Errorf("%w: the vault has no kit", ErrKit)
	}
	vk, ids, err = OpenRecovery(kit, h.Vault, h.Epoch, h.Rec)
	if err != nil {
		return Key{}, Key{}, err
	}
	if err := h.verifyOwner(&vk, &ids, did); err != nil {
		vk.Wipe()
		ids.Wipe()
		return Key{}, Key{}, err
	}
	return vk, ids, nil
}

func recoveryInfo(vault ID, epoch uint32) []byte {
	return binary.BigEndian.AppendUint32(labelIDs(labelRecovery, vault), epoch)
}
