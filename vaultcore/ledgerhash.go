package vaultcore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// hashed runs an exclusive section with every large content hashed before it.
func (l *ledger) hashed(ctx context.Context, section func() error) error {
	return l.hashedFor(ctx, &SealOptions{all: true}, section)
}

// hashedFor is hashed for what the next batch takes: it sets how far that goes.
func (l *ledger) hashedFor(ctx context.Context, o *SealOptions, section func() error) (err error) {
	for l.patience = hashedTries; ; l.patience-- {
		l.v.flushAttrs()
		if o.from, o.upTo, err = l.hashNext(ctx, *o); err != nil {
			return err
		}
		if err = section(); !errors.Is(err, errUnhashed) {
			return err
		}
	}
}

// noneUnhashed says whether a large content came in meanwhile. Whoever keeps
// saving large files cannot hold synchronisation up for ever.
func (l *ledger) noneUnhashed() error { return l.noneUnhashedOf(SealOptions{}) }

// noneUnhashedOf is noneUnhashed for the rows of one batch.
func (l *ledger) noneUnhashedOf(o SealOptions) error {
	if l.patience <= 0 {
		return nil
	}
	if o.upTo == 0 {
		o.upTo = math.MaxInt64
	}
	found, err := (&sealing{l: l}).one(`SELECT 1 FROM asset_attachments WHERE dirty<>0 AND n>? AND n<=? AND deleted=0 AND sha256 IS NULL
		AND blob_len>? LIMIT 1`, o.from, o.upTo, int64(smallHash))
	if err == nil && found != nil {
		return errUnhashed
	}
	return err
}

// hashNext hashes what the next batch takes, and says between which rows that is: it
// begins where the last one ended, or at the first if nothing is due behind that.
func (l *ledger) hashNext(ctx context.Context, o SealOptions) (from, upTo int64, err error) {
	if !o.all && l.turn > 0 {
		o.from = l.turn
		due, upTo, err := l.hashDirty(ctx, o)
		if err != nil || due.ops > 0 {
			return o.from, upTo, err
		}
	}
	o.from = 0
	_, upTo, err = l.hashDirty(ctx, o)
	return 0, upTo, err
}

// hashDirty hashes what is about to be published, beside everything else, so
// that the exclusive section finds it done. The hash is local state: it changes
// nothing that a row's seal covers. upTo is the last row it has looked at when
// more remain than a batch can take, else 0; due are those that are for the batch.
func (l *ledger) hashDirty(ctx context.Context, o SealOptions) (due batchLoad, upTo int64, err error) {
	for after := o.from; ; {
		rows, err := (&sealing{l: l}).toHash(after, o.all)
		if err != nil || len(rows) == 0 {
			return due, 0, err
		}
		var sums []rowHash
		for _, r := range rows {
			after = r.n
			if ctx.Err() != nil {
				return due, 0, ctx.Err()
			}
			if r.sealed == nil || !o.all && (l.v.openAtt(r) != nil || o.later(max(r.f.ctime, r.deleted))) {
				continue
			}
			due.add(r)
			if r.sha == nil && r.deleted == 0 {
				// What cannot be hashed was replaced meanwhile, or is damaged: sealing
				// looks again.
				if sum, err := l.v.hashRow(r); err == nil {
					sums = append(sums, rowHash{r.n, r.blob, sum})
				}
			}
			if !o.all && due.full() {
				break
			}
		}
		if err := l.v.storeHashes(sums); err != nil {
			return due, 0, err
		}
		if !o.all && due.full() {
			return due, after, nil
		}
	}
}

// batchLoad counts due rows until they are more than a batch can take.
type batchLoad struct {
	ops  int
	size int // bytes of the batch, by the estimate that sealing makes; at least
}

func (b *batchLoad) add(r *attRow) {
	b.ops++
	if r.deleted == 0 && r.dirty != dirtyWrap {
		b.size += putSize(r.name, r.mime)
	}
}

func (b *batchLoad) full() bool { return b.ops > seal.MaxOps || b.size > seal.BatchTarget }

// toHash gives some of the rows that hashDirty looks at: what waits, or with all
// only those that have no hash yet, since an earlier look has hashed most.
func (s *sealing) toHash(after int64, all bool) ([]*attRow, error) {
	if !all {
		return s.dirtySome(after)
	}
	return s.someRows("dirty<>0 AND sha256 IS NULL AND deleted=0 AND n>?", after)
}

// rowHash is the SHA-256 of the sealed content that a row has.
type rowHash struct {
	n    int64
	blob seal.ID
	sum  []byte
}

func (v *Vault) storeHashes(sums []rowHash) error {
	if len(sums) == 0 {
		return nil
	}
	v.ns.RLock()
	defer v.ns.RUnlock()
	_, err := v.com.do(func(t *txn) error {
		for _, h := range sums {
			if err := t.exec("UPDATE asset_attachments SET sha256=? WHERE n=? AND blob=?", h.sum, h.n, h.blob[:]); err != nil {
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

// errUnhashed: a large content came in after the hashing.
var errUnhashed = errors.New("a content is not hashed yet")

const (
	smallHash   = 8 << 20 // hashed while everything stands still, if need be
	hashedTries = 4
)
