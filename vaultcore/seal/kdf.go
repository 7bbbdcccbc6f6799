package seal

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"
)

// Bounds of the Argon2id parameters a header may carry. Below the floor the slot
// would be cheap to guess at, above the ceiling opening it would be an attack on
// the machine; both are checked before any work.
const (
	minKDFMemory, maxKDFMemory = 64 << 10, 2 << 20 // KiB
	minKDFTime, maxKDFTime     = 3, 16
	minKDFPar, maxKDFPar       = 1, 16

	minPasswordChars   = 12
	minPassphraseWords = 4
	minWordChars       = 2
)

// KDFParams are the parameters of Argon2id version 0x13.
type KDFParams struct {
	Memory      uint32 // KiB
	Time        uint32 // passes
	Parallelism uint8  // lanes
	Salt        [16]byte
}

// DefaultKDF returns the usual parameters, 256 MiB and 3 passes, with a random salt.
func DefaultKDF() KDFParams { return newKDF(256 << 10) }

// LowKDF returns parameters for small machines, 64 MiB and 3 passes (the second
// choice of RFC 9106), with a random salt.
func LowKDF() KDFParams { return newKDF(64 << 10) }

func newKDF(memory uint32) KDFParams {
	p := KDFParams{Memory: memory, Time: 3, Parallelism: 4}
	rand.Read(p.Salt[:])
	return p
}

// Check returns ErrKDFParams unless all parameters are within bounds.
func (p KDFParams) Check() error {
	if p.Memory < minKDFMemory || p.Memory > maxKDFMemory ||
		p.Time < minKDFTime || p.Time > maxKDFTime ||
		p.Parallelism < minKDFPar || p.Parallelism > maxKDFPar {
		return fmt.Errorf("%w: m=%d t=%d p=%d", ErrKDFParams, p.Memory, p.Time, p.Parallelism)
	}
	return nil
}

// weakerThan reports whether any cost of p is below that of o.
func (p KDFParams) weakerThan(o KDFParams) bool {
	return p.Memory < o.Memory || p.Time < o.Time || p.Parallelism < o.Parallelism
}

// DeriveKEK runs Argon2id over the NFC form of the password in this process; it
// takes p.Memory KiB of memory, which the Go heap keeps for a while.
// Errors: ErrKDFParams, and ErrPassword for invalid UTF-8, which no password is.
func DeriveKEK(password []byte, p KDFParams) (Key, error) {
	if err := p.Check(); err != nil {
		return Key{}, err
	}
	if !utf8.Valid(password) {
		return Key{}, fmt.Errorf("%w: not UTF-8", ErrPassword)
	}
	return argon2id(password, p), nil
}

func argon2id(password []byte, p KDFParams) Key {
	// Appending to a fresh slice makes a copy in every case, so that it can be wiped.
	nfc := norm.NFC.Append(make([]byte, 0, 4*len(password)), password...)
	defer clear(nfc)
	raw := argon2.IDKey(nfc, p.Salt[:], p.Time, p.Memory, p.Parallelism, keySize)
	defer clear(raw)
	return Key{b: [keySize]byte(raw)}
}

// CheckPassword says whether a new password will do: at least 12 characters
// (after NFC), or a passphrase of at least four words. The words must be longer
// than one character. Error: ErrWeakPassword, also for invalid UTF-8.
func CheckPassword(password []byte) error {
	if !utf8.Valid(password) {
		return fmt.Errorf("%w: not UTF-8", ErrWeakPassword)
	}
	nfc := norm.NFC.Append(make([]byte, 0, 4*len(password)), password...)
	defer clear(nfc)
	if utf8.RuneCount(nfc) >= minPasswordChars || countWords(nfc) >= minPassphraseWords {
		return nil
	}
	return fmt.Errorf("%w: at least %d characters, or %d words", ErrWeakPassword, minPasswordChars, minPassphraseWords)
}

// countWords counts the words of at least minWordChars characters.
func countWords(text []byte) int {
	words := 0
	for word := range bytes.FieldsSeq(text) {
		if utf8.RuneCount(word) >= minWordChars {
			words++
		}
	}
	return words
}
