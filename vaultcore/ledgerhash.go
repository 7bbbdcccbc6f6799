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
	for after := int64(0); ; {
		rows, err := (&sealing{l: l}).unhashed(after)
		if err != nil || len(rows) == 0 {
			return err
		}
		for _, r := range rows {
			after = r.n
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if r.sealed == nil {
				continue
			}
			if r.sha, err = l.v.hashRow(r); err != nil {
				r.sha = nil // replaced meanwhile, or damaged: sealing looks again
			}
		}
		if err := l.v.storeHashes(rows); err != nil {
			return err
		}
	}
}

// unhashed gives some of the rows that hashDirty has something to do with: each
// seal asks, and most of what waits has been hashed by an earlier one.
func (s *sealing) unhashed(after int64) ([]*attRow, error) {
	return s.someRows("dirty<>0 AND sha256 IS NULL AND deleted=0 AND n>?", after)
}

// storeHashes writes what was found out in one transaction: row by row it would
// take longer than the hashing.
func (v *Vault) storeHashes(rows []*attRow) error {
	v.ns.RLock()
	defer v.ns.RUnlock()
	_, err := v.com.do(func(t *txn) error {
		for _, r := range rows {
			if r.sha == nil {
				continue
			}
			if err := t.exec("UPDATE asset_attachments SET sha256=? WHERE n=? AND blob=?", r.sha, r.n, r.blob[:]); err != nil {
				return err
			}
		}
		return nil
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
