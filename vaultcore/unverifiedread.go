package vaultcore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// An unattested content shares nothing with those of the tree: not the cache of
// file keys, nor files on the disk, which both go by the id of a blob. A row may
// name any blob, and a key of its own for it.

// UnverifiedReading is an unattested file open for reading. Close gives it back.
type UnverifiedReading struct {
	v     *Vault
	u     unattested
	trash *Reading // of a content that a revocation took back

	mu     sync.Mutex
	chunks *seal.ContentV4 // once its header has come
	header [seal.HeaderV4]byte
}

// OpenUnverified opens a file of Unverified by its id, if it is still the version
// that was listed. Nothing is fetched yet. Errors: ErrNotFound, ErrBusy for another
// version, ErrDamaged for a row that nothing can be read of.
func (v *Vault) OpenUnverified(id, version string) (*UnverifiedReading, error) {
	at, err := seal.ParseUUID(id)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	f, err := v.rowOfID(at)
	if errors.Is(err, ErrNotFound) && v.isTakenBack(at) {
		t, err := v.OpenTrash(id)
		if err != nil {
			return nil, err
		}
		return &UnverifiedReading{v: v, trash: t}, nil
	}
	switch {
	case err != nil:
		return nil, err
	case f.state != serverUnnamed || f.key.asset:
		return nil, fmt.Errorf("%w among the files that are unverified: %s", ErrNotFound, id)
	case version != f.row.version():
		return nil, errRowChanged
	}
	u := v.openRow(f.row)
	if u.err != nil {
		return nil, u.err
	}
	v.shelf.open(u.key())
	return &UnverifiedReading{v: v, u: u}, nil
}

func (v *Vault) isTakenBack(key seal.ID) bool {
	v.tree.RLock()
	defer v.tree.RUnlock()
	t := v.trash[key]
	return t != nil && t.takenBack
}

// Size is the length of the file.
func (r *UnverifiedReading) Size() int64 {
	if r.trash != nil {
		return r.trash.Size()
	}
	return r.u.row.Size
}

// Close gives the handle back.
func (r *UnverifiedReading) Close() error {
	if r.trash != nil {
		return r.trash.Close()
	}
	r.v.shelf.close(r.u.key())
	return nil
}

// ReadAt is that of io.ReaderAt. Errors: ErrDamaged for what does not
// authenticate or is not at the server, ErrTimeout.
func (r *UnverifiedReading) ReadAt(p []byte, off int64) (n int, err error) {
	return r.ReadAtUntil(Caller{}, p, off)
}

// ReadAtUntil is ReadAt for a caller that may not wait to the end. Further
// error: ErrInterrupted.
func (r *UnverifiedReading) ReadAtUntil(who Caller, p []byte, off int64) (n int, err error) {
	if r.trash != nil {
		return r.trash.ReadAtUntil(who, p, off)
	}
	if off < 0 {
		return 0, ErrInvalid
	}
	wait := r.v.store.patience(who)
	size := r.u.row.Size
	for n < len(p) && off+int64(n) < size {
		at := off + int64(n)
		piece := at / r.pieceSize()
		k, err := r.v.shelf.read(&wait, pieceKey{r.u.key(), piece}, p[n:], at-piece*r.pieceSize(), func(ctx context.Context) ([]byte, error) {
			return r.load(ctx, piece)
		})
		if n += k; err != nil {
			clear(p)
			return 0, fmt.Errorf("unverified %s: %w", r.u.row.ID.UUID(), err)
		}
	}
	if n < len(p) {
		err = io.EOF
	}
	return n, err
}

// pieceSize is how much is fetched and opened at once: of version 3 all.
func (r *UnverifiedReading) pieceSize() int64 {
	if r.u.row.Version == seal.V3 {
		return seal.MaxV3 + 1
	}
	return pieceSize
}

func (r *UnverifiedReading) load(ctx context.Context, piece int64) ([]byte, error) {
	if r.u.row.Version == seal.V3 {
		sealed, err := r.v.fetchSealed(ctx, &r.u.row, 0, r.u.row.Len)
		if err != nil {
			return nil, err
		}
		return r.v.openSealed3(&r.u, sealed)
	}
	chunks, err := r.header4(ctx)
	if err != nil {
		return nil, err
	}
	off := seal.SealedOffV4(uint64(piece) * pieceChunks)
	n := min(pieceChunks*seal.SealedChunk, r.u.row.Len-off)
	sealed, err := r.v.fetchSealed(ctx, &r.u.row, off, n)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, min(pieceSize, r.u.row.Size-piece*pieceSize))
	_, err = chunks.OpenChunks(plain, sealed, uint64(piece)*pieceChunks)
	return plain, damaged(err)
}

// openSealed3 opens a whole content of version 3: it is the one that the row
// names, and its key opens it. It is opened in place.
func (v *Vault) openSealed3(u *unattested, sealed []byte) ([]byte, error) {
	if sha256.Sum256(sealed) != u.row.SHA256 {
		return nil, fmt.Errorf("%w: the server gives other bytes than its row says", ErrDamaged)
	}
	key, err := v.keys.unwrap(u.epoch, u.row.Key)
	if err != nil {
		return nil, damaged(err)
	}
	defer key.Wipe()
	plain, err := seal.OpenV3(&key, sealed, u.row.Size, nil)
	return plain, damaged(err)
}

// header4 prepares reading a content of version 4.
func (r *UnverifiedReading) header4(ctx context.Context) (*seal.ContentV4, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.chunks != nil {
		return r.chunks, nil
	}
	head, err := r.v.fetchSealed(ctx, &r.u.row, 0, seal.HeaderV4)
	if err != nil {
		return nil, err
	}
	key, err := r.v.keys.unwrap(r.u.epoch, r.u.row.Key)
	if err != nil {
		return nil, damaged(err)
	}
	defer key.Wipe()
	c, err := seal.OpenHeaderV4(&key, r.v.keys.vaultID(), r.u.row.Blob, head)
	if err != nil {
		return nil, damaged(err)
	}
	copy(r.header[:], head)
	r.chunks = c
	return c, nil
}

// fetchSealed brings n bytes of a row's content. Errors: ErrDamaged where the
// server has none of it, else as a download fails.
func (v *Vault) fetchSealed(ctx context.Context, row *ServerRow, off, n int64) ([]byte, error) {
	fn := v.store.fetches.ranged.Load()
	if fn == nil {
		return nil, errElsewhere()
	}
	buf := &exactBuf{off: off, b: make([]byte, n)}
	err := (*fn)(ctx, row.Blob, off, n, buf)
	switch {
	case errors.Is(err, blob.ErrNotFound), errors.Is(err, io.ErrUnexpectedEOF) && ctx.Err() == nil && buf.got > 0:
		return nil, fmt.Errorf("%w: the server has not all of it: %w", ErrDamaged, err)
	case err != nil:
		return nil, fetchError(err)
	}
	return buf.b, nil
}

// exactBuf takes bytes at their offsets in a blob.
type exactBuf struct {
	off int64
	b   []byte
	got int64
}

// WriteAt is that of io.WriterAt.
func (b *exactBuf) WriteAt(p []byte, off int64) (int, error) {
	at := off - b.off
	if at < 0 || at > int64(len(b.b)-len(p)) {
		return 0, fmt.Errorf("%w: %d bytes at %d were not asked for", blob.ErrSize, len(p), off)
	}
	b.got += int64(len(p))
	return copy(b.b[at:], p), nil
}
