package seal

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
)

// ID names a vault, asset, attachment, device or blob: 16 raw bytes.
type ID [16]byte

// NewID returns a random ID in the shape of a version 4 UUID.
func NewID() ID {
	id := NewBlobID()
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}

// NewBlobID returns 16 plain random bytes.
func NewBlobID() ID {
	var id ID
	rand.Read(id[:]) // never fails: crypto/rand ends the program instead
	return id
}

// UUID returns the ID as 8-4-4-4-12 lower-case hexadecimal digits.
func (id ID) UUID() string {
	var b [36]byte
	hex.Encode(b[0:8], id[0:4])
	hex.Encode(b[9:13], id[4:6])
	hex.Encode(b[14:18], id[6:8])
	hex.Encode(b[19:23], id[8:10])
	hex.Encode(b[24:36], id[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

// Hex returns the ID as 32 lower-case hexadecimal digits.
func (id ID) Hex() string { return hex.EncodeToString(id[:]) }

// String returns the UUID form, for logs.
func (id ID) String() string { return id.UUID() }

// IsZero reports whether the ID is unset.
func (id ID) IsZero() bool { return id == ID{} }

// ParseUUID reads exactly what UUID writes. Error: ErrFormat.
func ParseUUID(s string) (ID, error) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return ID{}, fmt.Errorf("%w: UUID", ErrFormat)
	}
	return ParseHex(s[0:8] + s[9:13] + s[14:18] + s[19:23] + s[24:36])
}

// ParseHex reads exactly what Hex writes. Error: ErrFormat.
func ParseHex(s string) (ID, error) {
	var id ID
	if len(s) != 2*len(id) {
		return ID{}, fmt.Errorf("%w: ID of %d characters", ErrFormat, len(s))
	}
	for i := range len(s) {
		// One spelling per ID: upper case would make two names of one blob.
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return ID{}, fmt.Errorf("%w: ID", ErrFormat)
		}
	}
	hex.Decode(id[:], []byte(s)) // cannot fail after the check above
	return id, nil
}
