// Package s3 is a blob.Store over a bucket that speaks the S3 protocol: AWS,
// Cloudflare R2, MinIO and others.
//
// It refuses to know what lies in the bucket, and it does not try again: a
// request that failed is told with its reason and, where the answer says so,
// when to come back. Neither logs nor errors carry a key or a signature.
package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// What the protocol allows everywhere.
const (
	MinPart  = 5 << 20 // bytes of every part but the last
	MaxPart  = 5 << 30
	MaxParts = 10_000
	MaxBlob  = 5 << 40
	// MaxPut is the largest blob that goes in one request.
	MaxPut = 5 << 30
)

// A listing looks at few keys first, as who asks for the next one wants no more.
const (
	firstPage = 100
	fullPage  = 1000
)

// Store is the part of a bucket below a prefix. It is safe for concurrent use.
type Store struct {
	bucket    string
	base      string // the prefix with its final slash, or ""
	host      string // for messages
	core      *minio.Core
	transport *transport

	// noConditions is learnt: the server answers conditional writes with "not
	// implemented", so we look first.
	noConditions atomic.Bool
}

var _ blob.Store = (*Store)(nil)

// Open prepares a store; it asks the network nothing. Errors: a *blob.RetryError
// never; blob.ErrDenied if there are no credentials; others for options that
// make no sense.
func Open(o Options) (*Store, error) {
	base, err := o.base()
	if err != nil {
		return nil, err
	}
	host, secure, err := o.endpoint()
	if err != nil {
		return nil, err
	}
	creds, err := o.credentials()
	if err != nil {
		return nil, err
	}
	transport := newTransport()
	core, err := minio.NewCore(host, &minio.Options{
		Creds:        creds,
		Secure:       secure,
		Region:       o.region(host),
		BucketLookup: o.lookup(),
		Transport:    transport,
		MaxRetries:   1, // who calls knows when it is worth trying again
	})
	if err != nil {
		return nil, fmt.Errorf("open bucket %s at %s: %w", o.Bucket, host, err)
	}
	return &Store{bucket: o.Bucket, base: base, host: host, core: core, transport: transport}, nil
}

// Close gives up idle connections. Calls that run go on.
func (s *Store) Close() error {
	s.transport.inner.CloseIdleConnections()
	return nil
}

// Clock is the time by the server's clock, as its last answer had it; false
// while there has been none.
func (s *Store) Clock() (time.Time, bool) { return s.transport.clock() }

// Put implements blob.Store. The bytes are hashed before they are sent, and the
// server compares; so a reader that cannot seek is read into memory or, above
// maxMemory, into a temporary file.
func (s *Store) Put(ctx context.Context, key string, r io.Reader, size int64, createOnly bool) error {
	if createOnly {
		return s.put(ctx, key, r, size, absent)
	}
	return s.put(ctx, key, r, size, "")
}

// Replace stores like Put if key still holds the content of that ETag, and
// else, also if it holds none, is blob.ErrChanged. A server without conditional
// writes gives errors.ErrUnsupported.
func (s *Store) Replace(ctx context.Context, key string, r io.Reader, size int64, etag string) error {
	if s.noConditions.Load() {
		return fmt.Errorf("replace %s: conditional write: %w", key, errors.ErrUnsupported)
	}
	if etag == "" || etag == absent {
		return fmt.Errorf("replace %s: %w", key, blob.ErrChanged)
	}
	err := s.put(ctx, key, r, size, etag)
	if errors.Is(err, blob.ErrNotFound) && !errors.Is(err, blob.ErrNoStore) {
		return fmt.Errorf("%w: %w", blob.ErrChanged, err)
	}
	return err
}

// absent is the condition that nothing is there.
const absent = "*"

func (s *Store) put(ctx context.Context, key string, r io.Reader, size int64, condition string) error {
	if err := check(ctx, "put", key); err != nil {
		return err
	}
	if size > MaxPut {
		return fmt.Errorf("put %s: %d bytes at once: %w", key, size, blob.ErrTooLarge)
	}
	body, err := newBody(ctx, r, size)
	if err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	defer body.close()
	if condition == absent && s.noConditions.Load() {
		return s.lookThenPut(ctx, key, body, size)
	}
	err = s.call(ctx, "put", key, condition, func(ctx context.Context) error {
		_, err := s.core.PutObject(ctx, s.bucket, s.base+key, body.reader(), size, body.md5, "", conditional(condition))
		return err
	})
	if errors.Is(err, errors.ErrUnsupported) && condition != "" {
		s.noConditions.Store(true)
		if condition == absent && body.rewind() == nil {
			return s.lookThenPut(ctx, key, body, size)
		}
	}
	return err
}

// lookThenPut is the create-only write of a server that has none: two writers
// at the same instant could both win.
func (s *Store) lookThenPut(ctx context.Context, key string, body *body, size int64) error {
	if err := s.refuseExisting(ctx, "put", key); err != nil {
		return err
	}
	return s.call(ctx, "put", key, "", func(ctx context.Context) error {
		_, err := s.core.PutObject(ctx, s.bucket, s.base+key, body.reader(), size, body.md5, "", conditional(""))
		return err
	})
}

func (s *Store) refuseExisting(ctx context.Context, op, key string) error {
	_, err := s.Head(ctx, key)
	if err == nil {
		return fmt.Errorf("%s %s: %w", op, key, blob.ErrExist)
	}
	if errors.Is(err, blob.ErrNotFound) {
		return nil
	}
	return err
}

func conditional(condition string) minio.PutObjectOptions {
	// The payload is not signed: MD5 guards it against accidents, and whoever
	// reads checks it against hashes no server has.
	o := minio.PutObjectOptions{DisableContentSha256: true}
	switch condition {
	case "":
	case absent:
		o.SetMatchETagExcept(absent)
	default:
		o.SetMatchETag(condition)
	}
	return o
}

// Get implements blob.Store.
func (s *Store) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if err := check(ctx, "get", key); err != nil {
		return nil, err
	}
	if off < 0 {
		return nil, fmt.Errorf("get %s: negative offset", key)
	}
	if n == 0 {
		_, err := s.Head(ctx, key)
		return io.NopCloser(strings.NewReader("")), err
	}
	var got io.ReadCloser
	var header http.Header
	err := s.call(ctx, "get", key, "", func(ctx context.Context) (err error) {
		got, _, header, err = s.core.GetObject(ctx, s.bucket, s.base+key, rangeOf(off, n))
		return err
	})
	if errors.Is(err, errPastEnd) {
		return io.NopCloser(strings.NewReader("")), nil
	}
	if err != nil {
		return nil, err
	}
	body := &reading{store: s, ctx: ctx, key: key, body: got, left: n}
	if off > 0 && header.Get("Content-Range") == "" {
		body.skip = off // it sent everything
	}
	return body, nil
}

func rangeOf(off, n int64) (o minio.GetObjectOptions) {
	switch {
	case n < 0 && off == 0:
	case n < 0 || off+n < off:
		o.Set("Range", fmt.Sprintf("bytes=%d-", off))
	default:
		o.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+n-1))
	}
	return o
}

// Head implements blob.Store.
func (s *Store) Head(ctx context.Context, key string) (blob.Attrs, error) {
	if err := check(ctx, "head", key); err != nil {
		return blob.Attrs{}, err
	}
	var found minio.ObjectInfo
	err := s.call(ctx, "head", key, "", func(ctx context.Context) (err error) {
		found, err = s.core.StatObject(ctx, s.bucket, s.base+key, minio.StatObjectOptions{})
		return err
	})
	if err != nil {
		return blob.Attrs{}, err
	}
	return attrsOf(key, found), nil
}

// HeadChanged is Head for who knows the object with that ETag: if it is the same
// still, only its key and ETag are told, for less than half of the bytes.
func (s *Store) HeadChanged(ctx context.Context, key, etag string) (blob.Attrs, error) {
	var o minio.StatObjectOptions
	if err := errors.Join(check(ctx, "head", key), o.SetMatchETagExcept(etag)); err != nil {
		return blob.Attrs{}, err
	}
	attrs := blob.Attrs{Key: key, ETag: etag}
	err := s.call(ctx, "head", key, "", func(ctx context.Context) error {
		found, err := s.core.StatObject(ctx, s.bucket, s.base+key, o)
		if minio.ToErrorResponse(err).StatusCode == http.StatusNotModified {
			return nil
		}
		attrs = attrsOf(key, found)
		return err
	})
	if err != nil {
		return blob.Attrs{}, err
	}
	return attrs, nil
}

func attrsOf(key string, o minio.ObjectInfo) blob.Attrs {
	return blob.Attrs{Key: key, Size: o.Size, ModTime: o.LastModified, ETag: strings.Trim(o.ETag, `"`)}
}

// List implements blob.Store.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[blob.Attrs, error] {
	return func(yield func(blob.Attrs, error) bool) {
		for size := firstPage; ; size = fullPage {
			last, seen, more, err := s.listSome(ctx, prefix, after, size, yield)
			if err != nil {
				yield(blob.Attrs{}, err)
				return
			}
			if !more || size == fullPage || seen < firstPage {
				return
			}
			after = last
		}
	}
}

// listSome yields the first page, or with fullPage all that is left.
func (s *Store) listSome(ctx context.Context, prefix, after string, page int, yield func(blob.Attrs, error) bool) (last string, seen int, more bool, err error) {
	more = true
	err = s.call(ctx, "list", prefix, "", func(ctx context.Context) error {
		for o := range s.core.ListObjectsIter(ctx, s.bucket, s.listing(prefix, after, page)) {
			if o.Err != nil {
				return o.Err
			}
			seen++
			key, ours := strings.CutPrefix(o.Key, s.base)
			last = key
			if ours && key > after && strings.HasPrefix(key, prefix) && blob.CheckKey(key) == nil {
				if more = yield(attrsOf(key, o), nil); !more {
					return nil
				}
			}
			if page == firstPage && seen == page {
				return nil
			}
		}
		return ctx.Err() // the listing ends silently
	})
	return last, seen, more, err
}

func (s *Store) listing(prefix, after string, page int) minio.ListObjectsOptions {
	noOwner := false
	o := minio.ListObjectsOptions{Prefix: s.base + prefix, Recursive: true, MaxKeys: page, FetchOwner: &noOwner}
	if after != "" {
		o.StartAfter = s.base + after
	}
	return o
}

// Delete implements blob.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := check(ctx, "delete", key); err != nil {
		return err
	}
	err := s.call(ctx, "delete", key, "", func(ctx context.Context) error {
		return s.core.RemoveObject(ctx, s.bucket, s.base+key, minio.RemoveObjectOptions{})
	})
	if errors.Is(err, blob.ErrNotFound) && !errors.Is(err, blob.ErrNoStore) {
		return nil
	}
	return err
}

func check(ctx context.Context, op, key string) error {
	if err := blob.CheckKey(key); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %s: %w", op, key, err)
	}
	return nil
}
