// Package seal holds the sealed-file, sealed-record and wrapped-key formats of
// vaultdrive: bytes in, authenticated bytes out. FORMAT.md beside this file is
// the page these formats can be implemented from; code and page move together.
//
// The package refuses to know files, databases, assets, networks and clocks. It
// draws randomness from crypto/rand, holds no state but keys, and returns no
// byte of a plaintext before the tag over it has been verified.
package seal

import (
	"bytes"
	"crypto/subtle"
	"fmt"
)

// Versions of the attachment format (column encryption_version).
const (
	V3 = 3 // one AES-256-GCM message
	V4 = 4 // chunks of 16 KiB, for random access
)

// Sizes every format here shares, in bytes.
const (
	ivSize  = 12 // nonce in front of every random-nonce ciphertext
	tagSize = 16 // GCM tag behind every ciphertext
	keySize = 32

	// Overhead is what a wire field adds to its plaintext: IV in front, tag behind.
	Overhead = ivSize + tagSize
	// WrappedKeySize is the length of a wrapped file key: IV ‖ ct ‖ tag.
	WrappedKeySize = Overhead + keySize
)

// Version 3 content: IV ‖ ct ‖ tag (FORMAT.md "Content, version 3").
const (
	MaxV3      = 25 << 20 // longest plaintext; what the seed's JSON calls can carry
	OverheadV3 = Overhead
	HdrV3      = Overhead // IV ‖ tag, the part of a v3 blob that is kept in its row
)

// Version 4 content: header, then chunks (FORMAT.md "Content, version 4").
const (
	ChunkSize   = 16 << 10            // plaintext of a chunk that is not the last
	SealedChunk = ChunkSize + tagSize // the same chunk sealed
	HeaderV4    = 64                  // magic ‖ salt ‖ commitment
	MaxV4       = 1 << 40             // longest plaintext

	magicV4      = "VDBLOB4\n"
	saltOff      = len(magicV4)
	saltSize     = 24
	commitOff    = saltOff + saltSize
	commitSize   = 32
	minSealedV4  = HeaderV4 + tagSize
	maxChunksV4  = MaxV4/ChunkSize + 1
	infoV4       = "c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00"
	labelContent = "vaultdrive/v4/content\x00"
)

// Batches of the replica log (FORMAT.md "Batch") and what is said in them
// ("Ops"). Texts count before sealing, in bytes of UTF-8.
const (
	MaxBatch    = 4 << 20   // longest frame
	BatchTarget = 256 << 10 // a writer ends a batch whose ops have this many bytes
	MaxOps      = 512       // in one batch
	MaxBlobs    = 512       // named by one op
	lastTarget  = 64 << 10  // a writer puts more than that into a part before the last
	PartTarget  = 1 << 20   // a writer ends a checkpoint part whose ops have this many bytes

	MaxName       = 4096
	MaxDepth      = 128 // components of a name
	MaxMIME       = 255
	MaxTitle      = 1024
	MaxDeviceName = 64
	MaxMode       = 0o777

	magicBatch     = "VDRB"
	batchVersion   = 1
	flagCheckpoint = 1
	versionOff     = len(magicBatch)
	flagsOff       = versionOff + 1
	vaultOff       = flagsOff + 3 // two zero bytes before
	deviceOff      = vaultOff + 16
	seqOff         = deviceOff + 16
	epochOff       = seqOff + 8
	sealedLenOff   = epochOff + 4
	prevOff        = sealedLenOff + 4
	batchIVOff     = prevOff + 32
	batchHead      = batchIVOff + ivSize // where the sealed body begins
	sigSize        = 64
	minBatch       = batchHead + tagSize + sigSize
	bodyVersion    = 1
)

// Kinds of parent a record can have, as bytes of the record digest.
const (
	ParentPassword = 1
	ParentNote     = 2
	ParentItem     = 3
)

// CheckVersion returns ErrVersion unless v is an attachment format we know.
func CheckVersion(v int) error {
	if v != V3 && v != V4 {
		return fmt.Errorf("%w: %d", ErrVersion, v)
	}
	return nil
}

// SealedSize returns the bytes a plaintext of plain bytes takes in the given
// format. Errors: ErrVersion, ErrTooLarge, ErrSize for a negative size.
func SealedSize(version int, plain int64) (int64, error) {
	if err := CheckVersion(version); err != nil {
		return 0, err
	}
	limit, size := int64(MaxV3), SealedSizeV3
	if version == V4 {
		limit, size = MaxV4, SealedSizeV4
	}
	if plain < 0 {
		return 0, fmt.Errorf("%w: %d bytes", ErrSize, plain)
	}
	if plain > limit {
		return 0, fmt.Errorf("%w: %d bytes in version %d", ErrTooLarge, plain, version)
	}
	return size(plain), nil
}

// SealedSizeV3 is the length of the v3 blob of a plaintext of plain bytes.
func SealedSizeV3(plain int64) int64 { return plain + OverheadV3 }

// SealedSizeV4 is the length of the v4 blob of a plaintext of plain bytes. The
// last chunk is always short, so a multiple of ChunkSize has an empty one more.
func SealedSizeV4(plain int64) int64 {
	return HeaderV4 + plain + tagSize*ChunksV4(plain)
}

// ChunksV4 is the number of chunks of a v4 blob of plain bytes, at least one.
func ChunksV4(plain int64) int64 { return plain/ChunkSize + 1 }

// SealedOffV4 is where chunk k starts in its blob.
func SealedOffV4(k uint64) int64 { return HeaderV4 + int64(k)*SealedChunk }

// PlainSizeV4 is the inverse of SealedSizeV4. Errors: ErrTruncated when the
// blob cannot hold an end marker (cut at a chunk border, or shorter than an
// empty file), ErrFormat when no plaintext gives this length, ErrTooLarge.
func PlainSizeV4(sealed int64) (int64, error) {
	if sealed < minSealedV4 {
		return 0, fmt.Errorf("%w: v4 blob of %d bytes", ErrTruncated, sealed)
	}
	if sealed > SealedSizeV4(MaxV4) {
		return 0, fmt.Errorf("%w: v4 blob of %d bytes", ErrTooLarge, sealed)
	}
	body := sealed - HeaderV4
	whole, rest := body/SealedChunk, body%SealedChunk
	if rest == 0 {
		return 0, fmt.Errorf("%w: v4 blob of %d bytes ends at a chunk border", ErrTruncated, sealed)
	}
	if rest < tagSize {
		return 0, fmt.Errorf("%w: v4 blob of %d bytes", ErrFormat, sealed)
	}
	return whole*ChunkSize + rest - tagSize, nil
}

// CheckSizeV4 compares the length of a v4 blob with the plaintext size its
// record claims. Errors: those of PlainSizeV4, and ErrSize.
func CheckSizeV4(sealed, plain int64) error {
	got, err := PlainSizeV4(sealed)
	if err != nil {
		return err
	}
	if got != plain {
		return fmt.Errorf("%w: blob holds %d bytes, record says %d", ErrSize, got, plain)
	}
	return nil
}

// VerifyHeaderV4 compares the first 64 bytes of a blob with those its record
// carries, so that another blob under the same name is told apart before any
// key is used. Errors: ErrTruncated, ErrFormat, ErrBlobMismatch.
func VerifyHeaderV4(inFile, inRow []byte) error {
	if err := checkHeaderV4(inFile); err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(inFile, inRow) != 1 {
		return ErrBlobMismatch
	}
	return nil
}

func checkHeaderV4(h []byte) error {
	if len(h) < HeaderV4 {
		return fmt.Errorf("%w: v4 header of %d bytes", ErrTruncated, len(h))
	}
	if len(h) > HeaderV4 || !bytes.HasPrefix(h, []byte(magicV4)) {
		return fmt.Errorf("%w: no v4 header", ErrFormat)
	}
	return nil
}
