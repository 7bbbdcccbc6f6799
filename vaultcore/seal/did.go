package seal

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"strings"
)

// A DID is did:key:z ‖ base58btc(ED 01 ‖ Ed25519 public key).
const (
	didPrefix   = "did:key:z"
	didKeySize  = 2 + ed25519.PublicKeySize
	maxDIDText  = 48 // base58 of 34 bytes: at most 47 characters
	base58Chars = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
)

// DIDFromSeed returns the DID of the Ed25519 key pair with the seed ids.
func DIDFromSeed(ids *Key) string { return FormatDID(PublicFromSeed(ids)) }

// PublicFromSeed returns the Ed25519 public key of a seed.
func PublicFromSeed(seed *Key) ed25519.PublicKey {
	return signer(seed).Public().(ed25519.PublicKey)
}

// signer expands a seed for one use. The expanded copy is on the heap and cannot
// be wiped, as with AES keys.
func signer(seed *Key) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(seed.b[:]) }

// FormatDID returns the DID of a public key.
func FormatDID(pk ed25519.PublicKey) string {
	return didPrefix + encodeBase58(append([]byte{0xed, 0x01}, pk...))
}

// ParseDID returns the public key of a did:key with an Ed25519 key; no other
// spelling of it is accepted. Error: ErrDID.
func ParseDID(did string) (ed25519.PublicKey, error) {
	text, ok := strings.CutPrefix(did, didPrefix)
	if !ok || len(text) > maxDIDText {
		return nil, ErrDID
	}
	raw, ok := decodeBase58(text, didKeySize)
	if !ok || raw[0] != 0xed || raw[1] != 0x01 {
		return nil, ErrDID
	}
	pk := ed25519.PublicKey(raw[2:])
	if FormatDID(pk) != did {
		return nil, fmt.Errorf("%w: not in its shortest form", ErrDID)
	}
	if weakKey(pk) {
		return nil, fmt.Errorf("%w: signatures under this key prove nothing", ErrDID)
	}
	return pk, nil
}

// encodeBase58 divides b, a big-endian number, by 58 again and again.
func encodeBase58(b []byte) string {
	num := bytes.Clone(b)
	var out []byte
	for len(num) > 0 {
		rest := 0
		for i, d := range num {
			rest = rest<<8 | int(d)
			num[i] = byte(rest / 58)
			rest %= 58
		}
		out = append(out, base58Chars[rest])
		for len(num) > 0 && num[0] == 0 {
			num = num[1:]
		}
	}
	for i := 0; i < len(b) && b[i] == 0; i++ {
		out = append(out, base58Chars[0])
	}
	for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
		out[i], out[j] = out[j], out[i]
	}
	return string(out)
}

// decodeBase58 reads a number into exactly n bytes; false when it does not fit
// or has a character of no digit.
func decodeBase58(s string, n int) ([]byte, bool) {
	out := make([]byte, n)
	for i := range len(s) {
		carry := strings.IndexByte(base58Chars, s[i])
		if carry < 0 {
			return nil, false
		}
		for j := n - 1; j >= 0; j-- {
			carry += 58 * int(out[j])
			out[j] = byte(carry)
			carry >>= 8
		}
		if carry != 0 {
			return nil, false
		}
	}
	return out, true
}
