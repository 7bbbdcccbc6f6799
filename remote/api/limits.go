package api

import "time"

// Limits that both sides know (SYNC.md section 7). Numbers of bytes unless said.
const (
	// MaxFile is the longest plaintext of a file, 25 MiB, unless an operator
	// raises it: of version 3 the format allows no more.
	MaxFile = 25 << 20
	// MaxSealed3 is MaxFile sealed as version 3, MaxBase64 that in base64.
	MaxSealed3 = MaxFile + Overhead3
	MaxBase64  = (MaxSealed3 + 2) / 3 * 4
	// MaxBase64Legal is the longest encrypted_content that is read at all; what
	// is longer than MaxBase64 and not than this is file_too_large.
	MaxBase64Legal = 35_000_000
	// MaxJSONUpload is the longest body of a JSON upload, by its Content-Length
	// before anything is read of it.
	MaxJSONUpload = MaxBase64Legal + 64<<10
	// MaxField is the longest of the short fields.
	MaxField = 8 << 10
	// MaxJSON is the longest body of rows and parents, MaxSmall that of the other
	// JSON calls but a registration, which has a header in it.
	MaxJSON  = 4 << 20
	MaxSmall = 64 << 10
	// MaxMetadata is the longest metadata part of a multipart upload.
	MaxMetadata = 64 << 10
	// MaxWhole is the longest blob in one request; above it uploads have parts.
	MaxWhole = 32 << 20
	// MaxPart is the longest part of an upload.
	MaxPart = 1 << 30
	// MaxHeader, MaxFrame, MaxPair are those of headers, of batches and parts of
	// checkpoints, and of messages of a pairing.
	MaxHeader = 512 << 10
	MaxFrame  = 4 << 20
	MaxPair   = 8 << 10

	// MaxRows, MaxBlobs, MaxRelease, MaxList and MaxChanges are counts.
	MaxRows    = 500
	MaxBlobs   = 500
	MaxRelease = 16
	MaxList    = 200
	MaxChanges = 500
	MaxDevices = 64

	// MaxWait is the longest wait of a long poll.
	MaxWait = 55 * time.Second
	// PairLife is how long a message of a pairing is kept.
	PairLife = 15 * time.Minute

	// ChallengeLife, TokenLife and LoginWindow bound a login: how long a nonce
	// is good, a token, and how far clocks may be apart (CRYPTO.md section 8).
	ChallengeLife = 60 * time.Second
	TokenLife     = 15 * time.Minute
	LoginWindow   = 120 * time.Second
	NonceSize     = 32
	TokenSize     = 32
)

// Sizes of the formats, which are all that is known of them here (CRYPTO.md
// sections 4 and 5).
const (
	Overhead3 = 12 + 16
	head4     = 64
	chunk4    = 16384
	tag4      = 16
	maxPlain4 = 1 << 40
)

// SealedSize is the length of a blob for a plaintext of so many bytes; false if
// there is no such blob of that version.
func SealedSize(version int, plain int64) (int64, bool) {
	switch {
	case plain < 0:
		return 0, false
	case version == 3:
		return plain + Overhead3, plain <= MaxFile
	case version == 4:
		return head4 + plain + tag4*(plain/chunk4+1), plain <= maxPlain4
	}
	return 0, false
}

// PlainSize4 is the plaintext of a version 4 blob of that length; false if no
// such blob has it (the inverse of CRYPTO.md section 5).
func PlainSize4(stored int64) (int64, bool) {
	body := stored - head4
	if body < tag4 {
		return 0, false
	}
	whole, rest := body/(chunk4+tag4), body%(chunk4+tag4)
	plain := whole*chunk4 + rest - tag4
	return plain, rest >= tag4 && plain <= maxPlain4
}
