package seal

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/vaultdrive/vaultdrive/vaultcore/didkey"
)

// Pairing lets a new device in without the password being typed there: it asks
// in the open, a person carries 16 characters to a device of the vault, and that
// one answers to the very keys the characters stand for.
const (
	labelPair   = "vaultdrive/v1/pair\x00"
	labelPairID = "vaultdrive/v1/pair-id\x00"

	pairVersion  = 1
	pairCodeSize = 10                                   // bytes, 16 characters
	pairCTSize   = recoveryCTSize - 2*keySize + keySize // encapsulated key ‖ ct of VK
)

// ErrPair: the question is not that of the characters typed, or the answer not
// for this device.
var ErrPair = errors.New("not the pairing that was meant")

// pairEncoding writes the code: the letters and digits that are hard to confuse.
var pairEncoding = base32.NewEncoding(kitAlphabet).WithPadding(base32.NoPadding)

// Pairing is the new device's half: its id, its signing key, and the key the
// answer is sealed to.
type Pairing struct {
	redacted
	ID   ID
	DSK  Key
	seed Key
}

// NewPairing makes the keys of a device that wants in.
func NewPairing() *Pairing { return &Pairing{ID: NewID(), DSK: NewKey(), seed: NewKey()} }

// Wipe overwrites the secrets.
func (p *Pairing) Wipe() {
	p.DSK.Wipe()
	p.seed.Wipe()
}

// Device is the entry the roster gets.
func (p *Pairing) Device() Device { return Device{ID: p.ID, PK: [32]byte(PublicFromSeed(&p.DSK))} }

// PairQuestion is what the new device asks with, all of it public.
type PairQuestion struct {
	Device Device
	hpke   []byte // public key, recoveryPKSize bytes
}

// Question is the device's question.
func (p *Pairing) Question() (*PairQuestion, error) {
	sk, err := hpke.MLKEM768X25519().DeriveKeyPair(p.seed.b[:])
	if err != nil {
		return nil, fmt.Errorf("pairing: %w", err)
	}
	return &PairQuestion{Device: p.Device(), hpke: sk.PublicKey().Bytes()}, nil
}

// Encode writes the question as it is published.
func (q *PairQuestion) Encode() []byte {
	return []byte(`{"v":1,"id":"` + q.Device.ID.UUID() + `","hpke":"` + EncodeBase64(q.hpke) + `","sign":"` + EncodeBase64(q.Device.PK[:]) + `"}`)
}

// Code is what a person carries: 16 characters in groups of 4.
func (q *PairQuestion) Code() string {
	sum := q.sum()
	chars := pairEncoding.EncodeToString(sum[:])
	return chars[:4] + "-" + chars[4:8] + "-" + chars[8:12] + "-" + chars[12:]
}

func (q *PairQuestion) sum() [pairCodeSize]byte {
	sum := sha256.Sum256(append(bytes.Clone(q.hpke), q.Device.PK[:]...))
	return [pairCodeSize]byte(sum[:])
}

// PairName gives the name under which the question of a code is published, 32
// hexadecimal digits. Case, blanks and hyphens do not matter. Error: ErrPair.
func PairName(code string) (string, error) {
	sum, err := parsePairCode(code)
	if err != nil {
		return "", err
	}
	name := sha256.Sum256(append([]byte(labelPairID), sum[:]...))
	return hex.EncodeToString(name[:16]), nil
}

func parsePairCode(code string) (sum [pairCodeSize]byte, err error) {
	chars := kitReading.Replace(strings.ToUpper(code))
	b, err := pairEncoding.DecodeString(chars)
	if err != nil || len(chars) != pairEncoding.EncodedLen(len(sum)) {
		return sum, fmt.Errorf("%w: a code has 16 letters and digits", ErrPair)
	}
	return [pairCodeSize]byte(b), nil
}

// ParsePairQuestion reads a question and holds it against the code. Errors:
// ErrFormat, ErrPair.
func ParsePairQuestion(b []byte, code string) (*PairQuestion, error) {
	want, err := parsePairCode(code)
	if err != nil {
		return nil, err
	}
	v, err := parseJSON(b)
	if err != nil {
		return nil, err
	}
	f := newFields(v)
	f.number("v", pairVersion, pairVersion)
	q := &PairQuestion{Device: Device{ID: f.id("id")}, hpke: f.bytes("hpke", recoveryPKSize)}
	copy(q.Device.PK[:], f.bytes("sign", ed25519.PublicKeySize))
	if err := f.end(); err != nil {
		return nil, err
	}
	if q.Device.ID.IsZero() || didkey.Weak(q.Device.PK[:]) {
		return nil, fmt.Errorf("%w: no device id, or no key", ErrFormat)
	}
	if q.sum() != want {
		return nil, ErrPair
	}
	return q, nil
}

// Answer seals the vault key of the current epoch to the new device. Error:
// ErrFormat for something that is no public key.
func (q *PairQuestion) Answer(vault ID, vk *Key) ([]byte, error) {
	pub, err := hpke.MLKEM768X25519().NewPublicKey(q.hpke)
	if err != nil {
		return nil, fmt.Errorf("%w: public key of a pairing: %w", ErrFormat, err)
	}
	ct, err := hpke.Seal(pub, hpke.HKDFSHA256(), hpke.AES256GCM(), labelIDs(labelPair, vault, q.Device.ID), vk.b[:])
	if err != nil {
		return nil, fmt.Errorf("answer a pairing: %w", err)
	}
	return ct, nil
}

// Open takes the vault key out of an answer. Anyone can have written it: it
// counts only with a header that lists this device and commits to the key.
// Error: ErrPair.
func (p *Pairing) Open(vault ID, answer []byte) (Key, error) {
	sk, err := hpke.MLKEM768X25519().DeriveKeyPair(p.seed.b[:])
	if err != nil {
		return Key{}, fmt.Errorf("pairing: %w", err)
	}
	if len(answer) != pairCTSize {
		return Key{}, fmt.Errorf("%w: answer of %d bytes", ErrPair, len(answer))
	}
	plain, err := hpke.Open(sk, hpke.HKDFSHA256(), hpke.AES256GCM(), labelIDs(labelPair, vault, p.ID), answer)
	if err != nil || len(plain) != keySize {
		return Key{}, fmt.Errorf("%w: the answer is for another device or vault", ErrPair)
	}
	defer clear(plain)
	return Key{b: [keySize]byte(plain)}, nil
}

// AcceptPaired accepts the newest header by the answer to a pairing: the identity
// known from the address has signed it, it commits to the vault key, and it
// lists this device with its key. Errors: ErrIdentityMismatch, ErrKeyCommit,
// ErrSignature, ErrPair.
func (h *SignedHeader) AcceptPaired(p *Pairing, vk *Key, did string) error {
	if err := h.VerifyDevice(vk, did); err != nil {
		return err
	}
	if d, _ := h.Roster(p.ID); d != p.Device() {
		return fmt.Errorf("%w: the header does not list this device", ErrPair)
	}
	return nil
}
