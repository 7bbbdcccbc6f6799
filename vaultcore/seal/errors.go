package seal

import (
	"errors"

	"github.com/vaultdrive/vaultdrive/vaultcore/didkey"
)

// One sentinel per class of cause. They are wrapped with what was being read,
// never with a name, a key or a content; test with errors.Is.
var (
	ErrEncoding     = errors.New("bad base64")
	ErrFormat       = errors.New("malformed")
	ErrTruncated    = errors.New("truncated")
	ErrTooLarge     = errors.New("too large")
	ErrAuth         = errors.New("authentication failed")
	ErrSize         = errors.New("size differs")
	ErrVersion      = errors.New("unknown format version")
	ErrBlobMismatch = errors.New("another blob than the record names")
	ErrKeyCommit    = errors.New("key does not match its commitment")
	ErrName         = errors.New("name is empty or not UTF-8")

	ErrHeader           = errors.New("malformed vault header")
	ErrKDFParams        = errors.New("key derivation parameters out of bounds")
	ErrPassword         = errors.New("wrong password")
	ErrWeakPassword     = errors.New("password too weak")
	ErrIdentityMismatch = errors.New("header of another vault")
	ErrSignature        = errors.New("bad signature")
	ErrRollback         = errors.New("older than what was seen before")
	ErrFork             = errors.New("two histories")
	ErrGap              = errors.New("links missing in between")

	// ErrNewer: an authentic writer says something this program does not know yet.
	// What it is in waits, unchanged, for a newer program.
	ErrNewer = errors.New("newer version needed")

	ErrDID     = didkey.ErrMalformed
	ErrKit     = errors.New("not a recovery kit of this vault")
	ErrAddress = errors.New("malformed vault address")
)
