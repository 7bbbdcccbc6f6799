package seal

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
)

// weakPoints are the y coordinates, little-endian, of the eight points of Ed25519
// whose order divides the cofactor. Under such a key some signatures verify that nobody
// made: it is no identity and no device's.
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
		panic("seal: " + err.Error()) // constants
	}
	return b
}

// weakKey says whether signatures by a key prove nothing. A coordinate of 2^255-19 or
// more is another spelling of a lesser one, and no key's either (RFC 8032 section
// 5.1.3).
func weakKey(pk ed25519.PublicKey) bool {
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
