package vaultcore

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// LostBlobs lists the sealed contents that rows name, the trash's too, and that
// are not here: those that are elsewhere, and those whose file is gone or has
// another length; with deep also those with other bytes. Only contents that were
// sealed into the log can come back from a backup, so others are left to check.
func (v *Vault) LostBlobs(ctx context.Context, deep bool, progress func(done, total int64)) ([]WantedBlob, error) {
	rows, total, err := v.sealedBlobs()
	if err != nil {
		return nil, err
	}
	var lost []WantedBlob
	var done int64
	for i := range rows {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		r := &rows[i]
		good, err := v.blobIsHere(r, deep)
		if err != nil {
			return nil, err
		}
		if !good {
			lost = append(lost, r.WantedBlob)
		}
		if done += r.Len; progress != nil {
			progress(done, total)
		}
	}
	return lost, nil
}

type sealedRow struct {
	WantedBlob
	n     int64
	place int64
}

func (v *Vault) sealedBlobs() (rows []sealedRow, total int64, err error) {
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return nil, 0, ErrClosed
	}
	err = v.reader.query("SELECT n,blob,blob_len,place,sha256 FROM asset_attachments WHERE sha256 IS NOT NULL AND place<>2 ORDER BY n", func(c []dbValue) error {
		s := rowScanner{c: c}
		r := sealedRow{n: s.num()}
		r.Blob, r.Len, r.place = s.id(), s.num(), s.num()
		copy(r.SHA256[:], s.blob())
		rows, total = append(rows, r), total+r.Len
		return nil
	})
	return rows, total, err
}

func (v *Vault) blobIsHere(r *sealedRow, deep bool) (bool, error) {
	if r.place == placeElsewhere {
		return false, nil
	}
	size, err := v.attachments.Stat(binName(r.Blob))
	if errors.Is(err, blob.ErrNotFound) {
		return false, nil
	}
	if err != nil || size != r.Len || !deep {
		return err == nil && size == r.Len, err
	}
	sum, err := v.hashRow(&attRow{n: r.n, blob: r.Blob, blobLen: r.Len, place: placeBin})
	if errors.Is(err, ErrDamaged) || errors.Is(err, blob.ErrNotFound) {
		return false, nil
	}
	return err == nil && [32]byte(sum) == r.SHA256, err
}

// MendBlob puts back a content of LostBlobs: all of r is read, and length and
// SHA-256 are those of the log, before it takes its place. A content that no row
// names any more is not read. Errors: blob.ErrSize or ErrDamaged for other bytes,
// ErrNoSpace, the reader's.
func (v *Vault) MendBlob(ctx context.Context, id seal.ID, r io.Reader) error {
	if err := v.writable(); err != nil {
		return err
	}
	w, place, err := v.rowOfBlob(id)
	switch {
	case err != nil || w == nil:
		return err
	case place == placeElsewhere:
		return v.PutBlob(ctx, id, r)
	}
	if err := v.writeBlobPart(w, r); err != nil {
		return err
	}
	return v.replaceBlob(id)
}

func (v *Vault) rowOfBlob(id seal.ID) (w *WantedBlob, place int64, err error) {
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return nil, 0, ErrClosed
	}
	err = v.reader.query("SELECT blob_len,place,sha256 FROM asset_attachments WHERE blob=? AND sha256 IS NOT NULL AND place<>2 LIMIT 1", func(c []dbValue) error {
		s := rowScanner{c: c}
		w = &WantedBlob{Blob: id, Len: s.num()}
		place = s.num()
		copy(w.SHA256[:], s.blob())
		return nil
	}, id[:])
	return w, place, err
}

// replaceBlob gives the verified file the name of the damaged one, durably. The
// row need not change: it says so already.
func (v *Vault) replaceBlob(id seal.ID) error {
	part, bin := partName(id), binName(id)
	if err := v.attachments.SyncFiles([]string{part}, 1); err != nil {
		return err
	}
	if err := v.attachments.Remove(bin); err != nil {
		return err
	}
	if err := v.attachments.Rename(part, bin); err != nil {
		return fmt.Errorf("put content %s back: %w", id.Hex(), err)
	}
	return v.attachments.Sync()
}
