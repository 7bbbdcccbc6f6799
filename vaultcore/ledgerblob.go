package vaultcore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/history"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// WantedBlob is a sealed content that a row or an op names and that is not
// here.
type WantedBlob struct {
	Blob   seal.ID
	Len    int64 // bytes
	SHA256 [32]byte
	// Pending: nobody has said yet that it is on the remote.
	Pending bool
	// Pinned: a file that shows it is pinned, itself or by a directory above it.
	Pinned bool
	// Held: somebody asked the server to delete the file, and nobody has decided yet;
	// so this device keeps the content.
	Held bool
	// Evicted: it was given up here on purpose and has not been read since.
	Evicted bool
}

// CountWanted is how many contents WantedBlobs lists.
func (v *Vault) CountWanted(ctx context.Context) (int, error) {
	l, err := v.lockLedger(ctx)
	if err != nil {
		return 0, err
	}
	defer l.mu.Unlock()
	n, err := l.count("SELECT count(DISTINCT blob) FROM asset_attachments WHERE place=0 AND deleted=0")
	if err != nil || l.stalled() {
		return n, err
	}
	for b := range l.pending.byBlob {
		shown, err := l.count("SELECT count(*) FROM (SELECT 1 FROM asset_attachments WHERE blob=? AND place=0 AND deleted=0 LIMIT 1)", b[:])
		if err != nil {
			return 0, err
		}
		n += 1 - shown
	}
	return n, nil
}

// count runs a query that counts.
func (l *ledger) count(sql string, args ...dbValue) (int, error) {
	l.v.readMu.Lock()
	defer l.v.readMu.Unlock()
	if l.v.reader == nil {
		return 0, ErrClosed
	}
	n, err := l.v.reader.one(sql, args...)
	count, _ := n.(int64)
	return int(count), err
}

// WantedBlobs lists the contents of live files that are not here.
func (v *Vault) WantedBlobs(ctx context.Context) ([]WantedBlob, error) {
	l, err := v.lockLedger(ctx)
	if err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	pinned := v.pinnedBlobs()
	evicted, err := l.evictedBlobs()
	if err != nil {
		return nil, err
	}
	held := v.heldBlobs()
	most, err := l.count("SELECT count(*) FROM asset_attachments WHERE place=0 AND deleted=0")
	if err != nil {
		return nil, err
	}
	// At their size: of a device that has just joined that is all there is.
	out, seen := make([]WantedBlob, 0, most), make(map[seal.ID]bool, most)
	err = l.wantedRows("SELECT blob,blob_len,sha256 FROM asset_attachments WHERE place=0 AND deleted=0 ORDER BY n DESC", func(w WantedBlob) {
		if !seen[w.Blob] {
			w.Pinned, w.Held, w.Evicted = pinned[w.Blob], held[w.Blob], evicted[w.Blob]
			out, seen[w.Blob] = append(out, w), true
		}
	})
	if err != nil {
		return nil, err
	}
	stalled := l.stalled()
	for b := range l.pending.byBlob {
		if seen[b] || stalled {
			continue // nothing could be shown in its place
		}
		w, err := l.wantedPending(b)
		if err != nil {
			return nil, err
		}
		w.Pinned = v.pinnedID(l.pending.byBlob[b])
		out = append(out, *w)
	}
	return out, nil
}

func (l *ledger) wantedRows(sql string, fn func(WantedBlob), args ...dbValue) error {
	l.v.readMu.Lock()
	defer l.v.readMu.Unlock()
	if l.v.reader == nil {
		return ErrClosed
	}
	return l.v.reader.query(sql, func(c []dbValue) error {
		s := rowScanner{c: c}
		w := WantedBlob{Blob: s.id(), Len: s.num()}
		copy(w.SHA256[:], s.blob())
		w.Pending = !l.sent[w.Blob]
		fn(w)
		return nil
	}, args...)
}

// wantedPending describes a content that is shown as an earlier one.
func (l *ledger) wantedPending(blob seal.ID) (*WantedBlob, error) {
	for _, id := range l.pending.byBlob[blob] {
		for _, f := range l.h.Attachment(id, nil).Live {
			if f.Blob != blob {
				continue
			}
			put, err := l.findPut(f.Content)
			if err != nil {
				return nil, err
			}
			return &WantedBlob{Blob: blob, Len: int64(put.Blob.Len), SHA256: put.Blob.SHA256, Pending: true}, nil
		}
	}
	return nil, fmt.Errorf("%w: blob %s", ErrNotFound, blob.Hex())
}

// Pending says whether nobody has said so far that a content is on the remote.
func (v *Vault) Pending(blob seal.ID) bool { return !v.onRemote(blob) }

// PutBlob takes a content that was wanted: all of it is read, and length and
// SHA-256 are those of the log, before it gets its name. What is here already,
// or wanted by nobody any more, is not read; of two callers for one blob the
// second waits. Errors: blob.ErrSize or ErrDamaged for other bytes, ErrNoSpace,
// the reader's.
func (v *Vault) PutBlob(ctx context.Context, id seal.ID, r io.Reader) error {
	unlock, err := v.arrivals.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	want, err := v.wanted(ctx, id)
	if err != nil || want == nil {
		return err
	}
	if err := v.writeBlobPart(want, r); err != nil {
		return err
	}
	return v.land(want)
}

// wanted describes one content that is not here and that a row, of the trash
// too, or an op names; nil if there is none.
func (v *Vault) wanted(ctx context.Context, id seal.ID) (want *WantedBlob, err error) {
	l, err := v.lockLedger(ctx)
	if err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	const sql = "SELECT blob,blob_len,sha256 FROM asset_attachments WHERE blob=? AND place=0 AND sha256 IS NOT NULL LIMIT 1"
	err = l.wantedRows(sql, func(w WantedBlob) { want = &w }, id[:])
	if err != nil || want != nil || l.pending.byBlob[id] == nil || l.stalled() {
		return want, err
	}
	return l.wantedPending(id)
}

// roomFor promises the space of a content that arrives. What nobody waits for
// must not take it from who saves.
func (v *Vault) roomFor(w *WantedBlob) error {
	if v.store.fetches.awaited(w.Blob) {
		return v.store.space.promise(w.Len)
	}
	return v.store.space.spare(w.Len)
}

// writeBlobPart writes what is to become the file of a blob, and verifies it.
func (v *Vault) writeBlobPart(w *WantedBlob, r io.Reader) (err error) {
	part := partName(w.Blob)
	if err := v.attachments.Remove(part); err != nil {
		return err
	}
	if err := v.roomFor(w); err != nil {
		return err
	}
	defer v.store.space.release(w.Len)
	f, err := v.store.makeFile(v.attachments, part)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, v.attachments.Remove(part))
		}
	}()
	n, sum, err := takeIn(f, io.LimitReader(r, w.Len+1), w.Len)
	if err = errors.Join(err, f.Close()); err != nil {
		return diskError(err)
	}
	if n != w.Len {
		return fmt.Errorf("%w: blob %s has %d bytes, the log says %d", blob.ErrSize, w.Blob.Hex(), n, w.Len)
	}
	if sum != w.SHA256 {
		return fmt.Errorf("%w: blob %s is not what the log says", ErrDamaged, w.Blob.Hex())
	}
	v.store.space.written(w.Len)
	return nil
}

// nameReceived gives a verified file its name. The row that may come back after
// a power cut can have the same content, whole or not.
func (v *Vault) nameReceived(w *WantedBlob, part string) error {
	err := v.attachments.Rename(part, binName(w.Blob))
	if !errors.Is(err, blob.ErrExist) {
		return err
	}
	if sum, err := v.hashFile(w.Blob, w.Len); err == nil && bytes.Equal(sum, w.SHA256[:]) {
		return errors.Join(v.attachments.SyncFiles([]string{binName(w.Blob)}, 1), v.attachments.Remove(part))
	}
	return errors.Join(v.attachments.Remove(binName(w.Blob)), v.attachments.Rename(part, binName(w.Blob)))
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
	x := v.indexRows(nil, map[seal.ID]bool{id: true})
	nodes, waiting := x.byBlob[id], l.pending.byBlob[id]
	if len(nodes) == 0 && len(waiting) == 0 {
		return nil, v.attachments.Remove(binName(id)) // nobody wants it any more
	}
	if err := v.placeRows(x.byBlob); err != nil || len(waiting) == 0 {
		return nil, err
	}
	in := &incoming{arrived: map[seal.ID]bool{id: true}}
	in.note(history.Changed{Attachments: waiting})
	// A save over what is shown meanwhile was made on that, so it is sealed first.
	if err := l.sealFirst(in); errors.Is(err, errStalled) {
		return nil, nil // it is asked for again
	} else if err != nil {
		return nil, err
	}
	changes, err := l.applyChanged(in.changed(), in)
	if err == nil && !v.stillNamed(id) {
		err = v.attachments.Remove(binName(id)) // what was sealed just now replaced it
	}
	return changes, err
}

// placeRows says in the rows of contents that their files are here.
func (v *Vault) placeRows(nodes map[seal.ID][]*Node) error {
	if len(nodes) == 0 {
		return nil
	}
	_, err := v.com.do(func(t *txn) error {
		for id, rows := range nodes {
			for _, n := range rows {
				if err := t.exec("UPDATE asset_attachments SET place=? WHERE n=? AND blob=? AND place=0", int64(placeBin), n.n, id[:]); err != nil {
					return err
				}
			}
			if err := t.exec("DELETE FROM evicted WHERE blob=?", id[:]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	v.bar.commit()
	for _, rows := range nodes {
		for _, n := range rows {
			n.content.place.CompareAndSwap(placeElsewhere, placeBin)
		}
	}
	return nil
}
