package backup

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

const readBuffer = 256 << 10

// Reader reads a backup from its start to its end, once. What it hands out has
// the length and the hash that the manifest says; whether the manifest is to be
// believed is the business of Check.
type Reader struct {
	Manifest *seal.Manifest
	Size     int64 // of the whole file, as the manifest has it

	r             *bufio.Reader
	raw, sig, mac []byte
	buf           []byte
	read          int64 // bytes
	tolerant      bool  // go on behind a member whose hash is wrong
	bad           int   // of those
	progress      func(done, total int64)
}

// NewReader reads the manifest. progress is told of bytes read; it may be nil.
// Errors: ErrLayout, seal.ErrNewer.
func NewReader(r io.Reader, progress func(done, total int64)) (*Reader, error) {
	b := &Reader{r: bufio.NewReaderSize(r, readBuffer), buf: make([]byte, readBuffer), progress: progress}
	if b.progress == nil {
		b.progress = func(int64, int64) {}
	}
	size, mtime, err := b.firstHead()
	if err != nil {
		return nil, err
	}
	if b.raw, err = b.small(size); err != nil {
		return nil, err
	}
	if b.Manifest, err = seal.ParseManifest(b.raw); err != nil {
		if errors.Is(err, seal.ErrNewer) {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %w", ErrLayout, err)
	}
	if b.Manifest.Created != mtime {
		return nil, fmt.Errorf("%w: time of %s", ErrLayout, nameManifest)
	}
	b.Size = fileSize(b.Manifest, size)
	if b.sig, err = b.fixed(nameSig, seal.BackupSigSize); err != nil {
		return nil, err
	}
	b.mac, err = b.fixed(nameMAC, seal.BackupMACSize)
	return b, err
}

// firstHead reads the header of the manifest, whose size and time nothing tells
// before.
func (b *Reader) firstHead() (size, mtime int64, err error) {
	head := make([]byte, block)
	if err := b.full(head); err != nil {
		return 0, 0, err
	}
	size, sizeOK := parseOctal(head[124:136])
	mtime, mtimeOK := parseOctal(head[136:148])
	if !sizeOK || !mtimeOK || size > seal.MaxManifest || !bytes.Equal(head, memberHead(nameManifest, size, mtime)) {
		return 0, 0, fmt.Errorf("%w: it does not begin with %s", ErrLayout, nameManifest)
	}
	return size, mtime, nil
}

// full fills p. A backup that ends before is ErrLayout.
func (b *Reader) full(p []byte) error {
	n, err := io.ReadFull(b.r, p)
	b.read += int64(n)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: it ends early, after %d bytes", ErrLayout, b.read)
	}
	return err
}

// small reads a member of the given size into memory, which grows with what is
// really there, and its padding.
func (b *Reader) small(size int64) ([]byte, error) {
	var buf bytes.Buffer
	n, err := io.CopyN(&buf, b.r, size)
	b.read += n
	if err == io.EOF {
		return nil, fmt.Errorf("%w: it ends early, after %d bytes", ErrLayout, b.read)
	}
	if err != nil {
		return nil, err
	}
	return buf.Bytes(), b.pad(size)
}

// pad reads the zeros behind a member.
func (b *Reader) pad(size int64) error {
	var zero, got [block]byte
	n := padding(size)
	if err := b.full(got[:n]); err != nil {
		return err
	}
	if got != zero {
		return fmt.Errorf("%w: something lies between two members", ErrLayout)
	}
	return nil
}

// head reads the header of a member and compares it with the only one allowed.
func (b *Reader) head(name string, size int64) error {
	want := memberHead(name, size, b.Manifest.Created)
	got := make([]byte, len(want))
	if err := b.full(got); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%w: not the header of %s", ErrLayout, name)
	}
	return nil
}

func (b *Reader) fixed(name string, size int64) ([]byte, error) {
	if err := b.head(name, size); err != nil {
		return nil, err
	}
	return b.small(size)
}

// Each calls fn with every member of the kinds from first to last that comes
// next. fn reads as much of the body as it likes; the body says io.EOF only when
// it was whole and what the manifest says, else ErrHash. What fn leaves is read
// and checked all the same.
func (b *Reader) Each(ctx context.Context, first, last seal.FileKind, fn func(f *seal.BackupFile, body io.Reader) error) error {
	files := b.Manifest.Files
	for i := range files {
		f := &files[i]
		if f.Kind < first || f.Kind > last {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := b.head(f.Name(), f.Size); err != nil {
			return err
		}
		m := &member{b: b, f: f, left: f.Size, sum: sha256.New()}
		err := fn(f, m)
		if err == nil {
			_, err = io.CopyBuffer(onlyWriter{io.Discard}, onlyReader{m}, b.buf)
		}
		switch {
		case b.tolerant && errors.Is(err, ErrHash):
			b.bad++
		case err != nil:
			return err
		}
		if err := b.pad(f.Size); err != nil {
			return err
		}
	}
	return nil
}

// End reads the end of the file: nothing comes behind it.
func (b *Reader) End() error {
	var zero, got [trailerSize]byte
	if err := b.full(got[:]); err != nil {
		return err
	}
	if got != zero {
		return fmt.Errorf("%w: more members than the manifest has", ErrLayout)
	}
	if _, err := b.r.ReadByte(); err != io.EOF {
		return errors.Join(fmt.Errorf("%w: something lies behind its end", ErrLayout), err)
	}
	return nil
}

// member is the body of one member.
type member struct {
	b    *Reader
	f    *seal.BackupFile
	left int64
	sum  hash.Hash
}

func (m *member) Read(p []byte) (int, error) {
	if m.left == 0 {
		if [32]byte(m.sum.Sum(nil)) != m.f.Hash {
			return 0, fmt.Errorf("%w: %s", ErrHash, m.f.Name())
		}
		return 0, io.EOF
	}
	n, err := m.b.r.Read(p[:min(int64(len(p)), m.left)])
	m.sum.Write(p[:n])
	m.left -= int64(n)
	m.b.read += int64(n)
	m.b.progress(m.b.read, m.b.Size)
	if err == io.EOF {
		return n, fmt.Errorf("%w: it ends early, after %d bytes", ErrLayout, m.b.read)
	}
	return n, err
}

// whole reads a body that fits into memory; its size is bounded by its kind.
func whole(f *seal.BackupFile, body io.Reader) ([]byte, error) {
	var buf bytes.Buffer
	_, err := io.Copy(&buf, body)
	return buf.Bytes(), err
}
