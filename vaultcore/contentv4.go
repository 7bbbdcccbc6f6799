package vaultcore

import (
	"fmt"
	"io"
	"sync/atomic"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// v4Reader reads ranges of one version 4 file: a finished blob, or the chunks
// of a stream that have been written so far. It is safe for concurrent use
// and allocates nothing per read.
type v4Reader struct {
	s      *store
	id     uint64 // in the chunk cache
	f      *blob.File
	chunks *seal.ContentV4
	cached atomic.Bool // the chunk cache may hold something of this file

	size, sealedLen int64 // what may be read; a stream moves them under its draft's mu
}

func (s *store) newV4Reader(f *blob.File, chunks *seal.ContentV4, size, sealedLen int64) *v4Reader {
	return &v4Reader{s: s, id: s.chunks.ids.Add(1), f: f, chunks: chunks, size: size, sealedLen: sealedLen}
}

// openV4File opens the blob of ref and verifies length, header and last chunk:
// the last chunk is the end mark, so a blob cut short cannot pass for one.
func (s *store) openV4File(ref *contentRef, key *seal.Key) (*v4Reader, error) {
	f, err := s.attachments.OpenFile(binName(ref.blob))
	if err != nil {
		return nil, damaged(err)
	}
	r, err := s.checkV4File(f, ref, key)
	if err != nil {
		f.Close()
		return nil, damaged(err)
	}
	return r, nil
}

func (s *store) checkV4File(f *blob.File, ref *contentRef, key *seal.Key) (*v4Reader, error) {
	if err := checkLength(f, ref.sealedLen); err != nil {
		return nil, err
	}
	if err := seal.CheckSizeV4(ref.sealedLen, ref.size); err != nil {
		return nil, err
	}
	buf := s.bufs.sealed(sealedSmall, 0)
	defer s.bufs.putSealed(buf)
	header, err := f.ReadInto(buf.mem, 0, seal.HeaderV4)
	if err != nil {
		return nil, readError(err)
	}
	if err := seal.VerifyHeaderV4(header, ref.hdr[:]); err != nil {
		return nil, err
	}
	chunks, err := seal.OpenHeaderV4(key, s.vault, ref.blob, header)
	if err != nil {
		return nil, err
	}
	r := s.newV4Reader(f, chunks, ref.size, ref.sealedLen)
	return r, r.verifyChunk(uint64(ref.size / seal.ChunkSize))
}

// checkLength compares the length of a file with what its row says.
func checkLength(f *blob.File, want int64) error {
	size, err := f.Len()
	if err != nil {
		return err
	}
	if size != want {
		return damaged(fmt.Errorf("%w: blob of %d bytes, not %d", seal.ErrSize, size, want))
	}
	return nil
}

// readError tells a file that ended too early from a disk that cannot read.
func readError(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return damaged(fmt.Errorf("%w: blob ends early", seal.ErrTruncated))
	}
	return err
}

// close may be called once nobody reads any more.
func (r *v4Reader) close() {
	if r.cached.Load() {
		r.s.chunks.drop(r.id)
	}
	r.f.Close()
}

// setCached writes only once: the readers of a file share the cache line.
func (r *v4Reader) setCached() {
	if !r.cached.Load() {
		r.cached.Store(true)
	}
}

// sealedEnd is where chunk k ends in the file.
func (r *v4Reader) sealedEnd(k uint64) int64 { return min(seal.SealedOffV4(k+1), r.sealedLen) }

func (r *v4Reader) verifyChunk(k uint64) error {
	buf := r.s.bufs.sealed(seal.SealedChunk, seal.SealedOffV4(k))
	defer r.s.bufs.putSealed(buf)
	if err := r.load(buf, k, k); err != nil {
		return err
	}
	r.setCached()
	return damaged(r.s.chunks.open(r, k, buf.b, nil, 0))
}

// load reads chunks first to last as they lie in the file.
func (r *v4Reader) load(buf *sealedBuf, first, last uint64) (err error) {
	off := seal.SealedOffV4(first)
	buf.b, err = r.f.ReadInto(buf.mem, off, r.sealedEnd(last)-off)
	if err != nil {
		return readError(err)
	}
	return nil
}

// readAt fills dst from off; off+len(dst) is within r.size. On error what was
// put into dst must not be used.
func (r *v4Reader) readAt(dst []byte, off int64) error {
	for len(dst) > 0 {
		// A piece ends on a chunk border, so that the next starts with a whole one.
		n := min(int64(len(dst)), directPlain+(-off)&(seal.ChunkSize-1))
		if err := r.readPiece(dst[:n:n], off); err != nil {
			return err
		}
		dst, off = dst[n:], off+n
	}
	return nil
}

// readPiece reads at most directChunks+1 chunks with one request. Chunks that
// dst takes whole are opened straight into it, a part of the first or last
// one comes through the chunk cache.
func (r *v4Reader) readPiece(dst []byte, off int64) error {
	first, last := uint64(off/seal.ChunkSize), uint64((off+int64(len(dst))-1)/seal.ChunkSize)
	if n, ok := r.cachedHead(dst, off); ok {
		if dst = dst[n:]; len(dst) == 0 {
			return nil
		}
		first, off = first+1, off+int64(n)
	}
	if n, ok := r.cachedTail(dst, off); ok {
		if dst = dst[:len(dst)-n]; len(dst) == 0 {
			return nil
		}
		last--
	}
	off0 := seal.SealedOffV4(first)
	buf := r.s.bufs.sealed(int(r.sealedEnd(last)-off0), off0)
	defer r.s.bufs.putSealed(buf)
	if err := r.load(buf, first, last); err != nil {
		return err
	}
	return damaged(r.openInto(dst, off, buf.b))
}

// openInto opens sealed, the chunks that dst at off touches.
func (r *v4Reader) openInto(dst []byte, off int64, sealed []byte) error {
	k, in := uint64(off/seal.ChunkSize), int(off%seal.ChunkSize)
	for len(dst) > 0 {
		// Whole chunks in one go, as long as dst has room for all of each.
		chunks := len(dst) / seal.ChunkSize
		if off+int64(len(dst)) == r.size && in == 0 {
			chunks = (len(dst) + seal.ChunkSize - 1) / seal.ChunkSize
		}
		n, used := 0, 0
		var err error
		if in == 0 && chunks > 0 {
			used = min(chunks*seal.SealedChunk, len(sealed))
			n, err = r.chunks.OpenChunks(dst[:min(chunks*seal.ChunkSize, len(dst))], sealed[:used], k)
		} else {
			chunks = 1
			used = min(seal.SealedChunk, len(sealed))
			n = min(seal.ChunkSize-in, len(dst))
			r.setCached()
			err = r.s.chunks.open(r, k, sealed[:used], dst[:n], in)
		}
		if err != nil {
			return err
		}
		dst, sealed, off, k, in = dst[n:], sealed[used:], off+int64(n), k+uint64(chunks), 0
	}
	return nil
}

// cachedHead takes the start of dst from the chunk cache if it is a part of a
// chunk that lies there.
func (r *v4Reader) cachedHead(dst []byte, off int64) (int, bool) {
	in := int(off % seal.ChunkSize)
	n := min(len(dst), seal.ChunkSize-in)
	if n == seal.ChunkSize || !r.cached.Load() {
		return 0, false
	}
	return n, r.s.chunks.get(r.id, uint64(off/seal.ChunkSize), dst[:n], in)
}

// cachedTail does so for the end of dst, where its last chunk starts in dst.
func (r *v4Reader) cachedTail(dst []byte, off int64) (int, bool) {
	end := off + int64(len(dst))
	n := int(end % seal.ChunkSize)
	if n == 0 || n > len(dst) || !r.cached.Load() {
		return 0, false
	}
	return n, r.s.chunks.get(r.id, uint64(end/seal.ChunkSize), dst[len(dst)-n:], 0)
}

// verify checks the content where it lies: its length, its header and the end
// mark, and every chunk if deep. Nobody needs to have it open.
// Errors: ErrDamaged, else the disk's.
func (s *store) verify(c *content, deep bool) error {
	err := s.verifyContent(c, deep)
	if err != nil {
		return fmt.Errorf("content %s: %w", c.ref.blob.Hex(), err)
	}
	return nil
}

func (s *store) verifyContent(c *content, deep bool) error {
	if c.whole() {
		return s.verifyWhole(c, deep)
	}
	if c.place.Load() == placeElsewhere {
		return errElsewhere()
	}
	key, err := c.key(s)
	if err != nil {
		return err
	}
	defer key.Wipe()
	r, err := s.openV4File(&c.ref, &key)
	if err != nil {
		return err
	}
	defer r.close()
	if !deep {
		return nil
	}
	return r.verifyAll()
}

// verifyAll opens every chunk; the last was when r was made.
func (r *v4Reader) verifyAll() error {
	buf, plain := r.s.bufs.sealed(sealedHuge, 0), r.s.bufs.plainSized(directPlain)
	defer r.s.bufs.putSealed(buf)
	defer r.s.bufs.putPlain(plain)
	dst := plain.b[:directPlain]
	for k, n := uint64(0), uint64(seal.ChunksV4(r.size)); k < n; k += directChunks {
		if err := r.load(buf, k, min(k+directChunks, n)-1); err != nil {
			return err
		}
		if _, err := r.chunks.OpenChunks(dst, buf.b, k); err != nil {
			return damaged(err)
		}
	}
	return nil
}

func (s *store) verifyWhole(c *content, deep bool) error {
	if deep || c.ref.version == seal.V4 {
		buf, _, err := c.openWhole(s)
		s.bufs.putPlain(buf)
		return err
	}
	buf, err := c.load(s)
	if err != nil {
		return err
	}
	defer s.bufs.putPlain(buf)
	if err := sizesV3(c, buf.b); err != nil {
		return damaged(err)
	}
	return nil
}

// sizesV3 checks what can be told of a version 3 content without its key.
func sizesV3(c *content, sealed []byte) error {
	if int64(len(sealed)) != seal.SealedSizeV3(c.ref.size) {
		return fmt.Errorf("%w: v3 blob of %d bytes for %d", seal.ErrSize, len(sealed), c.ref.size)
	}
	if hdr := seal.HdrOfV3(sealed); string(hdr[:]) != string(c.ref.hdr[:seal.HdrV3]) {
		return seal.ErrBlobMismatch
	}
	return nil
}
