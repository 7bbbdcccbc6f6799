package seal

import (
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"slices"
)

// ContentV4 seals and opens the chunks of one v4 blob (FORMAT.md "Content,
// version 4"). It is safe for concurrent use and allocates nothing per chunk.
type ContentV4 struct {
	redacted
	aead   cipher.AEAD
	base   [ivSize]byte
	header [HeaderV4]byte
}

// NewV4 starts a blob under a fresh random salt. The file key must be new too:
// what a key and salt have sealed at a chunk index is never sealed again.
func NewV4(fk *Key, vault, blob ID) *ContentV4 {
	var salt [saltSize]byte
	rand.Read(salt[:])
	return deriveV4(fk, vault, blob, salt)
}

// OpenHeaderV4 prepares reading a blob whose first 64 bytes are header.
// Errors: ErrTruncated, ErrFormat (magic), ErrKeyCommit (another key, vault,
// blob or salt).
func OpenHeaderV4(fk *Key, vault, blob ID, header []byte) (*ContentV4, error) {
	if err := checkHeaderV4(header); err != nil {
		return nil, err
	}
	c := deriveV4(fk, vault, blob, [saltSize]byte(header[saltOff:]))
	if subtle.ConstantTimeCompare(c.header[commitOff:], header[commitOff:]) != 1 {
		return nil, fmt.Errorf("v4 header: %w", ErrKeyCommit)
	}
	return c, nil
}

func deriveV4(fk *Key, vault, blob ID, salt [saltSize]byte) *ContentV4 {
	info := infoV4 + string(salt[:]) + labelContent + string(vault[:]) + string(blob[:])
	okm := expand512(fk, info, keySize+ivSize+commitSize)
	defer clear(okm)
	c := &ContentV4{aead: newGCM(okm[:keySize])}
	copy(c.base[:], okm[keySize:])
	copy(c.header[:], magicV4)
	copy(c.header[saltOff:], salt[:])
	copy(c.header[commitOff:], okm[keySize+ivSize:])
	return c
}

// Header returns a copy of the 64 bytes in front of the chunks.
func (c *ContentV4) Header() []byte { return slices.Clone(c.header[:]) }

// SealChunks appends the sealed chunks of plain to dst, the first with index
// first. Unless final, plain is whole chunks; a final call ends with the short
// chunk that marks the end, an empty one if plain is whole chunks. Each index is
// sealed at most once in the life of c: a second time would reuse its nonce.
// No allocation when dst has room; plain must not overlap what is appended.
func (c *ContentV4) SealChunks(dst, plain []byte, first uint64, final bool) []byte {
	count := len(plain) / ChunkSize
	if final {
		count++
	} else if len(plain)%ChunkSize != 0 {
		panic("seal: SealChunks of a part of a chunk")
	}
	if first > maxChunksV4 || uint64(count) > maxChunksV4-first {
		panic("seal: SealChunks beyond the largest blob")
	}
	dst = slices.Grow(dst, len(plain)+count*tagSize)
	s := getScratch()
	defer s.put()
	for i := range count {
		p := plain[i*ChunkSize : min((i+1)*ChunkSize, len(plain))]
		c.setNonce(&s.nonce, first+uint64(i))
		dst = c.aead.Seal(dst, s.nonce[:], p, nil)
	}
	return dst
}

// OpenChunks opens src, whole sealed chunks of which only the last of a blob is
// short, straight into dst and returns the bytes of plaintext. dst has room for
// them and does not overlap src. On any error all of dst is cleared: nothing of
// the failing call is released. No allocation.
// Errors: ErrTruncated for no chunk, ErrFormat for a rest shorter than a tag,
// ErrSize for a dst too short, ErrTooLarge, ErrAuth with the chunk's number.
func (c *ContentV4) OpenChunks(dst, src []byte, first uint64) (int, error) {
	n, err := c.openChunks(dst, src, first)
	if err != nil {
		clear(dst)
		return 0, err
	}
	return n, nil
}

func (c *ContentV4) openChunks(dst, src []byte, first uint64) (int, error) {
	whole, rest := len(src)/SealedChunk, len(src)%SealedChunk
	plain := whole * ChunkSize
	switch {
	case len(src) == 0:
		return 0, fmt.Errorf("chunk %d: %w", first, ErrTruncated)
	case rest > 0 && rest < tagSize:
		return 0, fmt.Errorf("chunk %d: %w", first+uint64(whole), ErrFormat)
	case first >= maxChunksV4:
		return 0, fmt.Errorf("chunk %d: %w", first, ErrTooLarge)
	case rest > 0:
		plain += rest - tagSize
	}
	if len(dst) < plain {
		return 0, fmt.Errorf("%w: %d bytes of plaintext into %d", ErrSize, plain, len(dst))
	}
	s := getScratch()
	defer s.put()
	n := 0
	for k := first; len(src) > 0; k++ {
		sealed := src[:min(SealedChunk, len(src))]
		p := len(sealed) - tagSize
		c.setNonce(&s.nonce, k)
		if _, err := c.aead.Open(dst[n:n:n+p], s.nonce[:], sealed, nil); err != nil {
			return 0, fmt.Errorf("chunk %d: %w", k, ErrAuth)
		}
		src, n = src[len(sealed):], n+p
	}
	return n, nil
}

// setNonce makes the nonce of chunk k: the base XOR k as a 12-byte number. The
// base is secret and per blob, k is used once per base, so no nonce repeats.
func (c *ContentV4) setNonce(nonce *[ivSize]byte, k uint64) {
	*nonce = c.base
	low := nonce[ivSize-8:]
	binary.BigEndian.PutUint64(low, binary.BigEndian.Uint64(low)^k)
}
