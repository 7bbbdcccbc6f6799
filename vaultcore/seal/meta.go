package seal

import (
	"crypto/cipher"
	"fmt"
	"unicode/utf8"
)

// Field is one of the two texts sealed beside a content.
type Field uint8

// The fields of an attachment.
const (
	FieldName Field = iota + 1
	FieldMIME
)

const (
	labelMeta = "vaultdrive/v4/meta\x00"
	labelName = "vaultdrive/v4/name\x00"
	labelMIME = "vaultdrive/v4/mime\x00"
)

// SealField seals a name or a MIME type under the file key with a new random IV;
// the result is the wire form IV ‖ ct. In version 3 nothing binds it to its
// place, as in the seed; version 4 binds it to vault, attachment and field.
// Errors: ErrVersion, ErrName (empty or not UTF-8), ErrFormat (MIME not UTF-8).
func SealField(version int, fk *Key, vault, attachment ID, f Field, text string) ([]byte, error) {
	if err := checkText(f, text); err != nil {
		return nil, err
	}
	aead, aad, err := fieldCipher(version, fk, vault, attachment, f)
	if err != nil {
		return nil, err
	}
	return sealRandom(aead, nil, []byte(text), aad), nil
}

// OpenField opens the wire form of a name or MIME type. Errors: ErrVersion,
// ErrFormat, ErrAuth, and ErrName for a name that is authentic but empty or not
// UTF-8: such a file is shown under UnnamedName.
func OpenField(version int, fk *Key, vault, attachment ID, f Field, wire []byte) (string, error) {
	aead, aad, err := fieldCipher(version, fk, vault, attachment, f)
	if err != nil {
		return "", err
	}
	if len(wire) < Overhead {
		return "", fmt.Errorf("%w: field of %d bytes", ErrFormat, len(wire))
	}
	b, err := openRandom(aead, nil, wire, aad)
	if err != nil {
		return "", err
	}
	text := string(b)
	if err := checkText(f, text); err != nil {
		return "", err
	}
	return text, nil
}

// UnnamedName is the name shown for an attachment whose own cannot be: the first
// 8 hexadecimal digits of its id tell such files apart.
func UnnamedName(attachment ID) string { return "unnamed-" + attachment.Hex()[:8] }

func checkText(f Field, text string) error {
	valid := utf8.ValidString(text)
	switch {
	case f == FieldName && (text == "" || !valid):
		return ErrName
	case !valid:
		return fmt.Errorf("%w: MIME type is not UTF-8", ErrFormat)
	}
	return nil
}

// fieldCipher returns the cipher and associated data of a field. In version 4
// the file key is never an AES key itself, so relabelling a record from one
// version to the other cannot open anything.
func fieldCipher(version int, fk *Key, vault, attachment ID, f Field) (cipher.AEAD, []byte, error) {
	if f != FieldName && f != FieldMIME {
		return nil, nil, fmt.Errorf("%w: field %d", ErrFormat, f)
	}
	if err := CheckVersion(version); err != nil {
		return nil, nil, err
	}
	if version == V3 {
		return newGCM(fk.b[:]), nil, nil
	}
	key := expand512(fk, string(labelIDs(labelMeta, vault, attachment)), keySize)
	defer clear(key)
	label := labelName
	if f == FieldMIME {
		label = labelMIME
	}
	return newGCM(key), labelIDs(label, vault, attachment), nil
}

// WireJSON writes IV ‖ ct as the seed's object {"iv":"…","ciphertext":"…"}. wire
// has at least the 12 bytes of its IV.
func WireJSON(wire []byte) string {
	return `{"iv":"` + EncodeBase64(wire[:ivSize]) + `","ciphertext":"` + EncodeBase64(wire[ivSize:]) + `"}`
}

// ParseWireJSON reads what WireJSON writes, or a JSON string holding that, and
// returns IV ‖ ct. Errors: ErrEncoding for bad base64, else ErrFormat.
func ParseWireJSON(js []byte) ([]byte, error) {
	v, err := parseJSON(js)
	if err != nil {
		return nil, err
	}
	if inner, ok := v.(string); ok {
		if v, err = parseJSON([]byte(inner)); err != nil {
			return nil, err
		}
	}
	f := newFields(v)
	iv, ct := f.bytes("iv", ivSize), f.bytes("ciphertext", -1)
	if err := f.end(); err != nil {
		return nil, err
	}
	if len(ct) < tagSize {
		return nil, fmt.Errorf("%w: ciphertext of %d bytes", ErrFormat, len(ct))
	}
	return append(iv, ct...), nil
}
