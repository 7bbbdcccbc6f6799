package s3

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"io"
	"os"
	"sync"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// maxMemory is how much of a reader that cannot seek is kept in memory.
const maxMemory = 32 << 20 // bytes

// body is what a request sends: bytes of known length and hash. MD5 because the
// protocol wants it; it guards against accidents only.
type body struct {
	md5   string
	src   io.ReadSeeker
	start int64 // where src begins
	size  int64
	temp  *os.File // ours, or nil

	mu     sync.Mutex
	closed bool
}

// newBody reads r once to its end. blob.ErrSize if it is not size bytes long.
func newBody(ctx context.Context, r io.Reader, size int64) (*body, error) {
	b := &body{size: size}
	hash := md5.New()
	r = &contextReader{ctx, r}
	var err error
	if src, ok := r.(*contextReader).Reader.(io.ReadSeeker); ok {
		b.src = src
		if b.start, err = src.Seek(0, io.SeekCurrent); err == nil {
			err = copyExactly(hash, r, size)
		}
	} else if size <= maxMemory {
		var memory bytes.Buffer
		err = copyExactly(io.MultiWriter(hash, &memory), r, size)
		b.src = bytes.NewReader(memory.Bytes())
	} else if b.temp, err = os.CreateTemp("", "vaultdrive-"); err == nil {
		_ = os.Remove(b.temp.Name()) // it lives as long as the descriptor
		err = copyExactly(io.MultiWriter(hash, b.temp), r, size)
		b.src = b.temp
	}
	if err == nil {
		err = b.rewind()
	}
	if err != nil {
		b.close()
		return nil, err
	}
	b.md5 = base64.StdEncoding.EncodeToString(hash.Sum(nil))
	return b, nil
}

func copyExactly(w io.Writer, r io.Reader, size int64) error {
	n, err := io.Copy(w, io.LimitReader(r, size))
	if err != nil {
		return err
	}
	var more [1]byte
	extra, err := io.ReadFull(r, more[:])
	if err != nil && err != io.EOF {
		return err
	}
	if n != size || extra > 0 {
		return blob.ErrSize
	}
	return nil
}

func (b *body) rewind() error {
	_, err := b.src.Seek(b.start, io.SeekStart)
	return err
}

// reader hides that the body can seek, which the client would take for leave
// to send it again.
func (b *body) reader() io.Reader { return io.LimitReader(b, b.size) }

// Read ends with the call: the transport may read on a little after the answer.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, errors.New("request is over")
	}
	return b.src.Read(p)
}

func (b *body) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	if b.temp != nil {
		b.temp.Close()
	}
}

// contextReader stops reading when its context ends.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

// reading is the body of an answer: at most what was asked for, its errors in
// our words.
type reading struct {
	store *Store
	ctx   context.Context
	key   string
	body  io.ReadCloser
	skip  int64 // bytes before the range, of a server that knows none
	left  int64 // negative: to the end
}

func (r *reading) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	for r.skip > 0 {
		n, err := io.CopyN(io.Discard, r.body, r.skip)
		r.skip -= n
		if err != nil {
			return 0, r.told(err)
		}
	}
	if r.left > 0 && int64(len(p)) > r.left {
		p = p[:r.left]
	}
	n, err := r.body.Read(p)
	if r.left > 0 {
		r.left -= int64(n)
	}
	return n, r.told(err)
}

func (r *reading) told(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return r.store.explain(r.ctx, "get", r.key, "", 0, err)
}

func (r *reading) Close() error { return r.body.Close() }
