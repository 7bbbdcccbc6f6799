package vaultcore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// UploadSource is the sealed bytes of a content that is here.
type UploadSource struct {
	*io.SectionReader
	Len    int64
	SHA256 [32]byte
	file   *os.File // nil for one that lies in its row
}

// Close gives the file back.
func (s *UploadSource) Close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// UploadSource opens a blob for upload; the caller closes it. Errors:
// ErrNotFound when it is not here, or was replaced and nobody needs it: its job
// is gone then, ErrDamaged when its file is missing or of another length.
func (v *Vault) UploadSource(ctx context.Context, id seal.ID) (*UploadSource, error) {
	// Without the lock at first, which is held while a batch is made: contents go up
	// beside that. What fails may have been replaced between row and file.
	if _, err := v.useLedger(ctx); err != nil {
		return nil, err
	}
	if src, err := v.openUpload(id); err == nil {
		return src, nil
	}
	l, err := v.lockLedger(ctx)
	if err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	src, err := v.openUpload(id)
	if errors.Is(err, ErrNotFound) && !errors.Is(err, ErrDamaged) {
		// Under the lock: who builds on the content makes another job for it.
		err = errors.Join(err, v.endJob(id, true))
	}
	return src, err
}

// openUpload opens a content that is here by its row.
func (v *Vault) openUpload(id seal.ID) (*UploadSource, error) {
	src, fresh, err := v.uploadRow(id)
	if err != nil {
		return nil, err
	}
	if fresh != nil {
		src.SectionReader = io.NewSectionReader(bytes.NewReader(fresh), 0, int64(len(fresh)))
		return src, nil
	}
	if err := v.openSource(src, id); err != nil {
		return nil, err
	}
	return src, nil
}

// uploadRow finds the row of a content that is here, and its bytes if they lie
// there.
func (v *Vault) uploadRow(id seal.ID) (src *UploadSource, fresh []byte, err error) {
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return nil, nil, ErrClosed
	}
	err = v.reader.query("SELECT blob_len,sha256,fresh FROM asset_attachments WHERE blob=? AND place<>0 ORDER BY place LIMIT 1", func(c []dbValue) error {
		s := rowScanner{c: c}
		src = &UploadSource{Len: s.num()}
		copy(src.SHA256[:], s.blob())
		fresh = s.blob()
		return nil
	}, id[:])
	if err != nil || src != nil {
		return src, fresh, err
	}
	return v.keptSource(id)
}

func (v *Vault) openSource(src *UploadSource, id seal.ID) error {
	f, err := v.attachments.Open(binName(id))
	if err != nil {
		return fmt.Errorf("%w: file of blob %s: %w", ErrDamaged, id.Hex(), err)
	}
	fi, err := f.Stat()
	if err == nil && fi.Size() != src.Len {
		err = fmt.Errorf("%w: file of blob %s has %d bytes, its row says %d", ErrDamaged, id.Hex(), fi.Size(), src.Len)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	src.file, src.SectionReader = f, io.NewSectionReader(f, 0, src.Len)
	return nil
}

// UploadBlobs lists the published contents that are here, somebody needs, and no
// remote is known to have, the newest save first: those that are queued, less
// what lies in the trash. What is among them without a row was replaced here
// while another device built on it.
func (v *Vault) UploadBlobs(ctx context.Context) ([]seal.ID, error) {
	if _, err := v.useLedger(ctx); err != nil {
		return nil, err
	}
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return nil, ErrClosed
	}
	var out []seal.ID
	err := v.reader.query(`SELECT blob FROM transfer_jobs j WHERE up=1 AND
		(EXISTS (SELECT 1 FROM asset_attachments a WHERE a.blob=j.blob AND place<>0 AND (deleted=0 OR j.seq=0))
		OR EXISTS (SELECT 1 FROM kept k WHERE k.blob=j.blob)) ORDER BY j DESC`, func(c []dbValue) error {
		s := rowScanner{c: c}
		out = append(out, s.id())
		return nil
	})
	return out, err
}

// Sent notes that this device confirmed blobs on the remote. The caller says so
// to the others with a seal.Sent in the next batch.
func (v *Vault) Sent(ctx context.Context, blobs []seal.ID) error {
	l, err := v.lockLedger(ctx)
	if err != nil {
		return err
	}
	defer l.mu.Unlock()
	device := v.keys.deviceID()
	_, err = v.com.do(func(t *txn) error {
		for _, b := range blobs {
			if err := t.exec(`INSERT INTO blob_presence(blob,state,device,said) VALUES(?,2,?,0)
				ON CONFLICT(blob) DO UPDATE SET state=2,device=excluded.device,said=0`, b[:], device[:]); err != nil {
				return err
			}
			if err := t.exec("DELETE FROM transfer_jobs WHERE blob=? AND up=1", b[:]); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		for _, b := range blobs {
			l.sent[b] = true
		}
		l.dueBlobs(blobs, dueMine)
	}
	return err
}
