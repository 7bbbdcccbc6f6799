package vaultcore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// fetchDeadline is how long opening a content that is not here waits for it.
const fetchDeadline = 10 * time.Second

// WantedBlob is a sealed content that a row or an op names and that is not
// here.
type WantedBlob struct {
	Blob   seal.ID
	Len    int64 // bytes
	SHA256 [32]byte
	// Pending: nobody has said yet that it is on the remote.
	Pending bool
}

// WantedBlobs lists the contents of live files that are not here.
func (v *Vault) WantedBlobs(ctx context.Context) ([]WantedBlob, error) {
	l, err := v.lockLedger(ctx)
	if err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	var out []WantedBlob
	seen := make(map[seal.ID]bool)
	v.readMu.Lock()
	err = v.reader.query("SELECT blob,blob_len,sha256 FROM asset_attachments WHERE place=0 AND deleted=0 ORDER BY n DESC", func(c []dbValue) error {
		s := rowScanner{c: c}
		w := WantedBlob{Blob: s.id(), Len: s.num()}
		copy(w.SHA256[:], s.blob())
		w.Pending = !l.sent[w.Blob]
		out, seen[w.Blob] = append(out, w), true
		return nil
	})
	v.readMu.Unlock()
	if err != nil {
		return nil, err
	}
	stalled := l.stalled()
	for b, id := range l.pending {
		if seen[b] || stalled {
			continue // nothing could be shown in its place
		}
		put, err := l.pendingPut(id, b)
		if err != nil {
			return nil, err
		}
		out = append(out, WantedBlob{Blob: b, Len: int64(put.Blob.Len), SHA256: put.Blob.SHA256, Pending: true})
	}
	return out, nil
}

// pendingPut gives the op that brought a content that is shown as an earlier
// one.
func (l *ledger) pendingPut(id, blob seal.ID) (*seal.Put, error) {
	for _, f := range l.h.Attachment(id, nil).Live {
		if f.Blob == blob {
			return l.findPut(f.Content)
		}
	}
	return nil, fmt.Errorf("%w: blob %s", ErrNotFound, blob.Hex())
}

// PutBlob takes a content that was wanted: all of it is read, and length and
// SHA-256 are those of the log, before it gets its name. What is here already,
// or wanted by nobody any more, is not read. Errors: blob.ErrSize or ErrDamaged
// for other bytes, ErrNoSpace, the reader's.
func (v *Vault) PutBlob(ctx context.Context, id seal.ID, r io.Reader) error {
	want, err := v.wanted(ctx, id)
	if err != nil || want == nil {
		return err
	}
	if err := v.receiveBlob(want, r); err != nil {
		return err
	}
	return v.placeBlob(ctx, id)
}

func (v *Vault) wanted(ctx context.Context, id seal.ID) (*WantedBlob, error) {
	all, err := v.WantedBlobs(ctx)
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(all, func(w WantedBlob) bool { return w.Blob == id }); i >= 0 {
		return &all[i], nil
	}
	return nil, nil
}

// receiveBlob writes and verifies the file of a blob, durably.
func (v *Vault) receiveBlob(w *WantedBlob, r io.Reader) (err error) {
	if err := v.writeBlobPart(w, r); err != nil {
		return err
	}
	part := partName(w.Blob)
	defer func() {
		if err != nil {
			err = errors.Join(err, v.attachments.Remove(part))
		}
	}()
	if err := v.attachments.SyncFiles([]string{part}, 1); err != nil {
		return err
	}
	// A content that was replaced here and has come back may be on its way out.
	_, err = v.com.do(func(t *txn) error { return t.exec("DELETE FROM doomed WHERE blob=?", w.Blob[:]) })
	if err != nil {
		return err
	}
	v.retired.reclaim(w.Blob)
	if err := v.attachments.Rename(part, binName(w.Blob)); err != nil {
		return err
	}
	return v.attachments.Sync()
}

// writeBlobPart writes what is to become the file of a blob, and verifies it.
func (v *Vault) writeBlobPart(w *WantedBlob, r io.Reader) (err error) {
	part := partName(w.Blob)
	if err := v.attachments.Remove(part); err != nil {
		return err
	}
	f, err := v.store.makeFile(v.attachments, part)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, v.attachments.Remove(part))
		}
	}()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(r, w.Len+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return diskError(err)
	}
	if n != w.Len {
		return fmt.Errorf("%w: blob %s has %d bytes, the log says %d", blob.ErrSize, w.Blob.Hex(), n, w.Len)
	}
	if !bytes.Equal(h.Sum(nil), w.SHA256[:]) {
		return fmt.Errorf("%w: blob %s is not what the log says", ErrDamaged, w.Blob.Hex())
	}
	return nil
}

// placeBlob says in its row that a blob is here; a file that showed an earlier
// content meanwhile shows this one now.
func (v *Vault) placeBlob(ctx context.Context, id seal.ID) error {
	l, err := v.lockLedger(ctx)
	if err != nil {
		return err
	}
	defer l.mu.Unlock()
	var changes []Change
	err = l.hashed(ctx, func() (err error) {
		changes, err = l.placeArrived(id)
		return err
	})
	v.changed(changes...)
	return err
}

func (l *ledger) placeArrived(id seal.ID) ([]Change, error) {
	v := l.v
	v.ns.Lock()
	defer v.ns.Unlock()
	x := v.indexNodes(func(n *Node) bool { return n.content != nil && n.content.ref.blob == id })
	if nodes := x.byBlob[id]; len(nodes) > 0 {
		_, err := v.com.do(func(t *txn) error {
			for _, n := range nodes {
				if err := t.exec("UPDATE asset_attachments SET place=? WHERE n=? AND blob=? AND place=0", int64(placeBin), n.n, id[:]); err != nil {
					return err
				}
			}
			return nil
		})
		for _, n := range nodes {
			if err == nil {
				n.content.place.CompareAndSwap(placeElsewhere, placeBin)
			}
		}
		return nil, err
	}
	att, ok := l.pending[id]
	if !ok {
		return nil, v.attachments.Remove(binName(id)) // nobody wants it any more
	}
	if l.stalled() {
		return nil, nil // it is asked for again
	}
	in := &incoming{arrived: map[seal.ID]bool{id: true}}
	in.attached = map[seal.ID]bool{att: true}
	// A save over what is shown meanwhile was made on that, so it is sealed first.
	if err := l.sealFirst(in); err != nil {
		return nil, err
	}
	return l.applyChanged(in.changed(), in)
}

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
// ErrNotFound when no row names the blob or it is not here, ErrDamaged when its
// file is missing or of another length.
func (v *Vault) UploadSource(ctx context.Context, id seal.ID) (*UploadSource, error) {
	l, err := v.lockLedger(ctx)
	if err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	src := &UploadSource{}
	var place, row int64 = -1, 0
	v.readMu.Lock()
	err = v.reader.query("SELECT n,blob_len,sha256,place FROM asset_attachments WHERE blob=? ORDER BY place=1 DESC,place DESC LIMIT 1", func(c []dbValue) error {
		s := rowScanner{c: c}
		row, src.Len = s.num(), s.num()
		copy(src.SHA256[:], s.blob())
		place = s.num()
		return nil
	}, id[:])
	v.readMu.Unlock()
	if err != nil {
		return nil, err
	}
	if err := v.openSource(src, row, place, id); err != nil {
		return nil, err
	}
	return src, nil
}

func (v *Vault) openSource(src *UploadSource, row, place int64, id seal.ID) error {
	if place == placeFresh {
		// Settling may move it to a file at any moment: then it is there.
		if b, err := v.loadFresh(row, id); err == nil {
			src.SectionReader = io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b)))
			return nil
		}
		place = placeBin
	}
	if place != placeBin {
		return fmt.Errorf("%w: blob %s", ErrNotFound, id.Hex())
	}
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

// UploadBlobs lists the sealed contents of live files that are here and not
// known to be on the remote, newest first.
func (v *Vault) UploadBlobs(ctx context.Context) ([]seal.ID, error) {
	l, err := v.lockLedger(ctx)
	if err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	v.readMu.Lock()
	defer v.readMu.Unlock()
	var out []seal.ID
	err = v.reader.query("SELECT blob FROM asset_attachments WHERE place<>0 AND deleted=0 AND rev>0 AND dirty&2=0 ORDER BY n DESC", func(c []dbValue) error {
		s := rowScanner{c: c}
		if id := s.id(); !l.sent[id] {
			out = append(out, id)
		}
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
	}
	return err
}

// OnFetch sets what brings a content that is not here, by PutBlob, before it
// returns; ctx has the deadline of an open file. Without it, and when it fails,
// reading such a content is blob.ErrUnavailable, or ErrTimeout past the
// deadline.
func (v *Vault) OnFetch(fn func(ctx context.Context, id seal.ID) error) { v.store.fetcher.Store(&fn) }

// fetch has the content brought here.
func (s *store) fetch(c *content) error {
	if c.place.Load() != placeElsewhere {
		return nil
	}
	fn := s.fetcher.Load()
	if fn == nil {
		return errElsewhere()
	}
	ctx, cancel := context.WithTimeout(context.Background(), fetchDeadline)
	defer cancel()
	err := (*fn)(ctx, c.ref.blob)
	if c.place.Load() != placeElsewhere {
		return nil
	}
	if errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
		return fmt.Errorf("%w: the content is at the remote only", ErrTimeout)
	}
	return errors.Join(errElsewhere(), err)
}
