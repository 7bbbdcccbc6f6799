// Package didkey holds what a vault's identity is known by: the DID of an Ed25519
// public key, in the one spelling that counts, and which keys are nobody's. It
// depends on nothing that can decrypt, so that the server may use it.
package didkey

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A DID is did:key:z ‖ base58btc(ED 01 ‖ Ed25519 public key), W3C CCG did:key.
const (
	prefix      = "did:key:z"
	rawSize     = 2 + ed25519.PublicKeySize
	maxText     = 48 // base58 of 34 bytes: at most 47 characters
	base58Chars = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
)

// ErrMalformed: not a did:key of an Ed25519 key that can be somebody's, or not in its
// one spelling.
var ErrMalformed = errors.New("malformed DID")

// Format returns the DID of a public key.
func Format(pk ed25519.PublicKey) string {
	return prefix + encodeBase58(append([]byte{0xed, 0x01}, pk...))
}

// Parse returns the public key of a did:key with an Ed25519 key; no other spelling of
// it is accepted, and no weak key. Error: ErrMalformed.
func Parse(did string) (ed25519.PublicKey, error) {
	text, ok := strings.CutPrefix(did, prefix)
	if !ok || len(text) > maxText {
		return nil, ErrMalformed
	}
	raw, ok := decodeBase58(text)
	if !ok || raw[0] != 0xed || raw[1] != 0x01 {
		return nil, ErrMalformed
	}
	pk := ed25519.PublicKey(raw[2:])
	if Format(pk) != did {
		return nil, fmt.Errorf("%w: not in its shortest form", ErrMalformed)
	}
	if Weak(pk) {
		return nil, fmt.Errorf("%w: signatures under this key prove nothing", ErrMalformed)
	}
	return pk, nil
}

// encodeBase58 divides b, a big-endian number, by 58 again and again. No DID begins
// with a zero byte, so the digits that stand for those have no place here.
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
		num = bytes.TrimLeft(num, "\x00")
	}
	slices.Reverse(out)
	return string(out)
}

// decodeBase58 reads a number into the bytes of a DID; false when it does not fit or
// has a character of no digit.
func decodeBase58(s string) ([]byte, bool) {
	out := make([]byte, rawSize)
	for i := range len(s) {
		carry := strings.IndexByte(base58Chars, s[i])
		if carry < 0 {
			return nil, false
		}
		for j := len(out) - 1; j >= 0; j-- {
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

// weakPoints are the y coordinates, little-endian, of the eight points of Ed25519
// whose order divides the cofactor.
var weakPoints = [][]byte{
	mustHex("0000000000000000000000000000000000000000000000000000000000000000"), // order 4
	mustHex("0100000000000000000000000000000000000000000000000000000000000000"), // the neutral element
	mustHex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"), // order 2
	mustHex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), // order 8
	mustHex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), // order 8
}

func mustHex(text string) []byte {
	b, err := hex.DecodeString(text)
	if err != nil {
		panic("didkey: " + err.Error()) // constants
	}
	return b
}

// Weak says whether signatures by a key prove nothing: under a point of small order
// some verify that nobody made, so it is no identity and no device's. A coordinate of
// 2^255-19 or more is another spelling of a lesser one, and no key's either (RFC 8032
// section 5.1.3).
func Weak(pk ed25519.PublicKey) bool {
	if len(pk) != ed25519.PublicKeySize {
		return true
	}
	y := bytes.Clone(pk)
	y[len(y)-1] &= 0x7f // the sign of x
	for _, w := range weakPoints {
		if bytes.Equal(y, w) {
			return true
		}
	}
	middle := bytes.Count(y[1:len(y)-1], []byte{0xff}) == len(y)-2
	return middle && y[len(y)-1] == 0x7f && y[0] >= 0xed
}
