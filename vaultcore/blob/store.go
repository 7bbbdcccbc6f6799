// Package blob keeps opaque, immutable byte strings by key: the contract of a
// store, and the directory store, which is both a vault's own attachments
// folder and a remote on a disk or a NAS.
//
// It refuses to know what the bytes mean, which keys open them, what a file
// is called, and when anything should be copied or removed.
package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"
)

// Errors a store answers with. They say what is the matter; the error around
// them says where. Those of a store that is somewhere else follow in trouble.go;
// a store adds nothing else that a caller has to tell apart.
var (
	// ErrNotFound: no blob, or no unfinished upload, of that name.
	ErrNotFound = errors.New("blob not found")
	// ErrExist: a create-only write met a blob that is already there.
	ErrExist = errors.New("blob exists already")
	// ErrUnavailable: the store cannot be asked now; later may be different.
	ErrUnavailable = errors.New("blob store unavailable")
	// ErrNoSpace: the store is full or its quota is used up.
	ErrNoSpace = errors.New("no space left in the blob store")
	// ErrSize: a reader gave more or fewer bytes than were announced.
	ErrSize = errors.New("blob content has another length than announced")
	// ErrKey: a key or name no store accepts; see CheckKey.
	ErrKey = errors.New("invalid blob key")
)

// Limits of a key. Components leave room for what a store puts around them.
const (
	MaxKey       = 1024
	MaxComponent = 200
)

// Attrs is what a store knows about a blob without reading it.
type Attrs struct {
	Key     string
	Size    int64
	ModTime time.Time // by the store's clock
	// ETag changes whenever the content under the key does. It is opaque, and
	// comparable only with ETags of the same store.
	ETag string
}

// Part is one stored piece of an upload.
type Part struct {
	Number int    // from 1
	Size   int64  // bytes
	Tag    string // the store's receipt, opaque
}

// Upload is a transfer in parts. It outlives the process: whoever keeps Key,
// ID and PartSize can go on with it.
type Upload struct {
	Key      string
	ID       string // given by the store
	PartSize int64  // bytes of every part but the last, which may be shorter
	Parts    []Part // by number
}

// Store holds blobs under string keys such as "blobs/0f…3a.bin".
//
// All methods may be called at any time from any goroutine and end soon after
// their context does. Keys obey CheckKey, else ErrKey. No key may be the
// folder of another ("a" beside "a/b"): a store of folders refuses that, a flat
// one keeps the two apart. What a store answers is untrusted:
// whoever reads checks the bytes against keys or hashes of their own.
type Store interface {
	// Put stores exactly size bytes of r under key, all or nothing: after an
	// error key holds what it held before or all of the new content (the
	// answer alone may get lost), never a part. After ErrSize, ErrExist and an
	// error of r it holds what it held before. When Put returned nil the bytes
	// are durable. With createOnly a key that exists
	// gives ErrExist and is left alone; otherwise it is replaced, and readers
	// see the old or the new content, never a mixture. r is read once.
	Put(ctx context.Context, key string, r io.Reader, size int64, createOnly bool) error

	// Get reads n bytes from offset off, n < 0 meaning all that follow.
	// Beyond the end there is nothing: fewer bytes come, or none. A missing
	// key is ErrNotFound, at Get and not at the first Read. The caller closes.
	Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error)

	// Head describes the blob; ErrNotFound if there is none.
	Head(ctx context.Context, key string) (Attrs, error)

	// List yields every blob whose key starts with prefix and sorts behind
	// after, in ascending order of bytes. What is stored or deleted meanwhile
	// may or may not appear. An error is yielded once, last. Things in the
	// store that are no blob of ours are passed over.
	List(ctx context.Context, prefix, after string) iter.Seq2[Attrs, error]

	// Delete removes the blob. One that is not there is no error.
	Delete(ctx context.Context, key string) error

	// Start begins an upload of up.Key in parts of up.PartSize, or, if up.ID
	// is set, takes one up again and fills in the Parts that are stored.
	// ErrNotFound: the store no longer has that upload.
	Start(ctx context.Context, up Upload) (Upload, error)

	// Part stores one part durably. Parts may come in any order and at the
	// same time; the same number again replaces it.
	Part(ctx context.Context, up Upload, number int, r io.Reader, size int64) (Part, error)

	// Finish makes up.Parts, which are numbered 1, 2, … without a gap, the
	// blob under up.Key, as Put would have. An upload with no Parts is
	// abandoned instead and what was stored of it is freed.
	Finish(ctx context.Context, up Upload, createOnly bool) error
}

// Source opens whole blobs that lie somewhere else. It is what a local store
// asks on demand; the answer is as untrusted as a Store's.
type Source interface {
	// Open streams the blob of that key; ErrNotFound or ErrUnavailable if not.
	Open(ctx context.Context, key string) (io.ReadCloser, error)
}

// CheckKey accepts components of letters, digits, '-', '_' and '.', none of
// them empty or beginning with a dot, joined by '/'. So no key leaves its
// store, and dot files are the store's own.
func CheckKey(key string) error {
	if len(key) > MaxKey {
		return fmt.Errorf("%w: %d bytes long", ErrKey, len(key))
	}
	for part := range strings.SplitSeq(key, "/") {
		if err := checkName(part); err != nil {
			return err
		}
	}
	return nil
}

// checkName accepts one component of a key.
func checkName(name string) error {
	if name == "" || len(name) > MaxComponent || name[0] == '.' {
		return fmt.Errorf("%w: component %.40q", ErrKey, name)
	}
	for i := range len(name) {
		if !keyByte(name[i]) {
			return fmt.Errorf("%w: component %.40q", ErrKey, name)
		}
	}
	return nil
}

func keyByte(c byte) bool {
	switch {
	case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
		return true
	}
	return c == '-' || c == '_' || c == '.'
}

// CheckPart says whether a part may belong to the upload: a number from 1 and
// a size that every store can hold.
func CheckPart(up Upload, number int, size int64) error {
	if number < 1 || size < 0 || size > up.PartSize {
		return fmt.Errorf("part %d of %d bytes: %w", number, size, ErrSize)
	}
	return nil
}

// CheckParts says whether the upload is whole: no gap, and only the last part
// shorter than PartSize.
func CheckParts(up Upload) error {
	for i, p := range up.Parts {
		if p.Number != i+1 {
			return fmt.Errorf("part %d where %d belongs: %w", p.Number, i+1, ErrSize)
		}
		if last := i == len(up.Parts)-1; p.Size > up.PartSize || !last && p.Size != up.PartSize {
			return fmt.Errorf("part %d of %d bytes: %w", p.Number, p.Size, ErrSize)
		}
	}
	return nil
}
