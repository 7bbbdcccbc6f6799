package vaultcore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// hashed runs an exclusive section with every large content hashed before it.
func (l *ledger) hashed(ctx context.Context, section func() error) (err error) {
	for l.patience = hashedTries; ; l.patience-- {
		l.v.flushAttrs()
		if err := l.hashDirty(ctx); err != nil {
			return err
		}
		if err = section(); !errors.Is(err, errUnhashed) {
			return err
		}
	}
}

// noneUnhashed says whether a large content came in meanwhile. Whoever keeps
// saving large files cannot hold synchronisation up for ever.
func (l *ledger) noneUnhashed() error {
	if l.patience <= 0 {
		return nil
	}
	found, err := (&sealing{l: l}).one(`SELECT 1 FROM asset_attachments WHERE dirty<>0 AND deleted=0 AND sha256 IS NULL
		AND blob_len>? LIMIT 1`, int64(smallHash))
	if err == nil && found != nil {
		return errUnhashed
	}
	return err
}

// hashDirty hashes what is about to be published, beside everything else, so
// that the exclusive section finds it done. The hash is local state: it changes
// nothing that a row's seal covers.
func (l *ledger) hashDirty(ctx context.Context) error {
	v := l.v
	for after := int64(0); ; {
		rows, err := (&sealing{l: l}).dirtySome(after)
		if err != nil || len(rows) == 0 {
			return err
		}
		for _, r := range rows {
			after = r.n
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if r.sha != nil || r.deleted != 0 || r.sealed == nil {
				continue
			}
			sum, err := v.hashRow(r)
			if err != nil {
				continue // replaced meanwhile, or damaged: sealing looks again
			}
			if err := v.storeHash(r, sum); err != nil {
				return err
			}
		}
	}
}

func (v *Vault) storeHash(r *attRow, sum []byte) error {
	v.ns.RLock()
	defer v.ns.RUnlock()
	_, err := v.com.do(func(t *txn) error {
		return t.exec("UPDATE asset_attachments SET sha256=? WHERE n=? AND blob=?", sum, r.n, r.blob[:])
	})
	return err
}

// hashRow gives the SHA-256 of a row's sealed content.
func (v *Vault) hashRow(r *attRow) ([]byte, error) {
	if r.place == placeFresh {
		b, err := v.loadFresh(r.n, r.blob)
		if err == nil && int64(len(b)) == r.blobLen {
			sum := sha256.Sum256(b)
			return sum[:], nil
		}
	}
	return v.hashFile(r.blob, r.blobLen)
}

// hashFile gives the SHA-256 of a sealed content that is a file of that length.
func (v *Vault) hashFile(blob seal.ID, length int64) ([]byte, error) {
	f, err := v.attachments.Open(binName(blob))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return nil, err
	}
	if n != length {
		return nil, fmt.Errorf("%w: blob %s has %d bytes, its row says %d", ErrDamaged, blob.Hex(), n, length)
	}
	return h.Sum(nil), nil
}
