package seal

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
)

// SealV3 seals a whole file in place (FORMAT.md "Content, version 3"). The
// plaintext lies at buf[12:12+n] and buf has n+28 bytes of capacity; the result
// is buf[:n+28], the blob. A file key seals one content, so a change of content
// takes a new key. Errors: ErrTooLarge above MaxV3, ErrFormat for a buffer too
// small; then buf is untouched.
func SealV3(fk *Key, buf []byte, n int) ([]byte, error) {
	if err := checkSealV3(buf, n); err != nil {
		return nil, err
	}
	buf = buf[:n+OverheadV3]
	iv := buf[:ivSize]
	rand.Read(iv)
	// Exactly overlapping plaintext and ciphertext is what GCM allows in place.
	return newGCM(fk.b[:]).Seal(iv, iv, buf[ivSize:ivSize+n], nil), nil
}

func checkSealV3(buf []byte, n int) error {
	if n > MaxV3 {
		return fmt.Errorf("%w: %d bytes in version 3", ErrTooLarge, n)
	}
	if n < 0 || cap(buf)-OverheadV3 < n {
		return fmt.Errorf("%w: buffer of %d bytes for a content of %d", ErrFormat, cap(buf), n)
	}
	return nil
}

// OpenV3 opens a whole blob in place and returns the plaintext, which lies in
// sealed[12:]. size is the plaintext size of the record; hdr is the 28 bytes
// IV ‖ tag of the record, or nil where none is known. On error nothing of the
// plaintext is left in sealed, whose contents are undefined then.
// Errors: ErrTruncated, ErrTooLarge, ErrSize, ErrFormat, ErrBlobMismatch, ErrAuth.
func OpenV3(fk *Key, sealed []byte, size int64, hdr []byte) ([]byte, error) {
	if err := checkOpenV3(sealed, size); err != nil {
		return nil, err
	}
	if hdr != nil {
		if len(hdr) != HdrV3 {
			return nil, fmt.Errorf("%w: v3 hdr of %d bytes", ErrFormat, len(hdr))
		}
		got := HdrOfV3(sealed)
		if subtle.ConstantTimeCompare(got[:], hdr) != 1 {
			return nil, ErrBlobMismatch
		}
	}
	iv, body := sealed[:ivSize], sealed[ivSize:]
	plain, err := newGCM(fk.b[:]).Open(body[:0], iv, body, nil)
	if err != nil {
		clear(body)
		return nil, fmt.Errorf("v3 content: %w", ErrAuth)
	}
	return plain[:len(plain):len(plain)], nil
}

func checkOpenV3(sealed []byte, size int64) error {
	switch {
	case len(sealed) < OverheadV3:
		return fmt.Errorf("%w: v3 blob of %d bytes", ErrTruncated, len(sealed))
	case len(sealed) > MaxV3+OverheadV3:
		return fmt.Errorf("%w: v3 blob of %d bytes", ErrTooLarge, len(sealed))
	case int64(len(sealed)) != SealedSizeV3(size):
		return fmt.Errorf("%w: v3 blob of %d bytes, record says %d of content", ErrSize, len(sealed), size)
	}
	return nil
}

// HdrOfV3 returns IV ‖ tag of a v3 blob of at least 28 bytes: with the file key
// they pin its content.
func HdrOfV3(sealed []byte) [HdrV3]byte {
	var h [HdrV3]byte
	copy(h[:ivSize], sealed)
	copy(h[ivSize:], sealed[len(sealed)-tagSize:])
	return h
}

// RawV3 returns the raw bytes of a v3 blob that other software may have stored
// as base64 text. Its length decides: text is longer than the bytes it stands
// for. Errors: ErrSize when neither length fits the record's size, ErrEncoding.
func RawV3(blob []byte, size int64) ([]byte, error) {
	if size < 0 || size > MaxV3 {
		return nil, fmt.Errorf("%w: %d bytes in version 3", ErrTooLarge, size)
	}
	switch want := int(SealedSizeV3(size)); len(blob) {
	case want:
		return blob, nil
	case base64.StdEncoding.EncodedLen(want):
		return DecodeBase64(string(blob))
	default:
		return nil, fmt.Errorf("%w: v3 blob of %d bytes, record says %d of content", ErrSize, len(blob), size)
	}
}
