package vaultcore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// checked is a content that was held against its row.
type checked struct {
	hdr    []byte
	sealed []byte // all of one of version 3; a larger one is fetched again
}

// check fetches all of a content and opens it.
func (v *Vault) checkContent(ctx context.Context, u *unattested) (checked, error) {
	if u.row.Version == seal.V4 {
		return v.checkContent4(ctx, u)
	}
	sealed, err := v.fetchSealed(ctx, &u.row, 0, u.row.Len)
	if err != nil {
		return checked{}, err
	}
	copied := bytes.Clone(sealed)
	plain, err := v.openSealed3(u, copied)
	clear(plain)
	if err != nil {
		return checked{}, err
	}
	h := seal.HdrOfV3(sealed)
	return checked{hdr: h[:], sealed: sealed}, nil
}

func (v *Vault) checkContent4(ctx context.Context, u *unattested) (checked, error) {
	r := &UnverifiedReading{v: v, u: *u}
	chunks, err := r.header4(ctx)
	if err != nil {
		return checked{}, err
	}
	h := sha256.New()
	h.Write(r.header[:])
	plain := make([]byte, pieceSize)
	defer clear(plain)
	for first, off := uint64(0), int64(seal.HeaderV4); off < u.row.Len; first += pieceChunks {
		sealed, err := v.fetchSealed(ctx, &u.row, off, min(pieceChunks*seal.SealedChunk, u.row.Len-off))
		if err != nil {
			return checked{}, err
		}
		h.Write(sealed)
		off += int64(len(sealed))
		if _, err := chunks.OpenChunks(plain, sealed, first); err != nil {
			return checked{}, damaged(err)
		}
	}
	if [32]byte(h.Sum(nil)) != u.row.SHA256 {
		return checked{}, fmt.Errorf("%w: the server gives other bytes than its row says", ErrDamaged)
	}
	return checked{hdr: bytes.Clone(r.header[:])}, nil
}
