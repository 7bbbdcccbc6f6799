package api

import "encoding/hex"

// ZeroID is the device of a page.
const ZeroID = "00000000-0000-0000-0000-000000000000"

// ParentTypes are those of the seed.
var ParentTypes = []string{"password", "note", "item"}

// ValidID says whether it is the text of an id: a UUID in lower case.
func ValidID(id string) bool {
	_, err := ParseID(id)
	return err == nil
}

// ParseID gives the 16 bytes of an id.
func ParseID(id string) (raw [16]byte, err error) {
	if len(id) != 36 || id[8] != '-' || id[13] != '-' || id[18] != '-' || id[23] != '-' {
		return raw, BadField("id", "not a UUID: %.40q", id)
	}
	text := id[:8] + id[9:13] + id[14:18] + id[19:23] + id[24:]
	if !lowerHex(text) {
		return raw, BadField("id", "not a UUID in lower case: %.40q", id)
	}
	_, err = hex.Decode(raw[:], []byte(text))
	return raw, err
}

func formatID(raw [16]byte) string {
	h := hex.EncodeToString(raw[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// ValidBlob says whether it is the text of a blob id: 32 hex digits in lower case.
func ValidBlob(id string) bool { return len(id) == 32 && lowerHex(id) }

// ValidHash says whether it is a SHA-256 in lower-case hex.
func ValidHash(s string) bool { return len(s) == 64 && lowerHex(s) }

func lowerHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
