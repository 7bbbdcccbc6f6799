package seal

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"fmt"
	"strings"
)

// An address is what another device needs to find a vault and to know it again.
const (
	addressPrefix = "vd1:"
	didHashSize   = 18
	addressSize   = 16 + 16 + didHashSize // 50 bytes, 80 characters
)

var addressEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Address is a parsed vault address.
type Address struct {
	Vault     ID
	BootToken ID // admits to the header, and to nothing else
	DIDHash   [didHashSize]byte
}

// FormatAddress writes vd1: and 80 characters of lower-case base32 of
// vault ‖ bootToken ‖ SHA-256(did)[0:18].
func FormatAddress(vault, bootToken ID, did string) string {
	hash := sha256.Sum256([]byte(did))
	raw := append(labelIDs("", vault, bootToken), hash[:didHashSize]...)
	return addressPrefix + addressEncoding.EncodeToString(raw)
}

// ParseAddress reads exactly what FormatAddress writes. Error: ErrAddress.
func ParseAddress(s string) (Address, error) {
	text, ok := strings.CutPrefix(s, addressPrefix)
	if !ok || len(text) != addressEncoding.EncodedLen(addressSize) || strings.ContainsAny(text, "\r\n") {
		return Address{}, ErrAddress
	}
	raw, err := addressEncoding.DecodeString(text)
	if err != nil || len(raw) != addressSize { // the decoder takes bytes of 0xff at the end for padding, also without any
		return Address{}, fmt.Errorf("%w: not base32", ErrAddress)
	}
	return Address{Vault: ID(raw[:16]), BootToken: ID(raw[16:32]), DIDHash: [didHashSize]byte(raw[32:])}, nil
}

// Matches compares the DID of a header with the address. Error: ErrIdentityMismatch.
func (a *Address) Matches(did string) error {
	hash := sha256.Sum256([]byte(did))
	if subtle.ConstantTimeCompare(hash[:didHashSize], a.DIDHash[:]) != 1 {
		return ErrIdentityMismatch
	}
	return nil
}
