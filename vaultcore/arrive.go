package vaultcore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// idLocks are locks by id, for work that takes as long as a network.
type idLocks struct {
	mu   sync.Mutex
	held map[seal.ID]chan struct{}
}

// lock waits until nobody else holds the id.
func (k *idLocks) lock(ctx context.Context, id seal.ID) (unlock func(), err error) {
	for {
		k.mu.Lock()
		other := k.held[id]
		if other == nil {
			if k.held == nil {
				k.held = make(map[seal.ID]chan struct{})
			}
			mine := make(chan struct{})
			k.held[id] = mine
			k.mu.Unlock()
			return func() {
				k.mu.Lock()
				delete(k.held, id)
				k.mu.Unlock()
				close(mine)
			}, nil
		}
		k.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// all gives the ids that are held now.
func (k *idLocks) all() map[seal.ID]bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	ids := make(map[seal.ID]bool, len(k.held))
	for id := range k.held {
		ids[id] = true
	}
	return ids
}

// arriving gives the names of files that are about to be named by a row. Who
// looks for files that nothing names asks before it asks the rows.
func (v *Vault) arriving() map[string]bool {
	names := make(map[string]bool)
	for id := range v.arrivals.all() {
		for _, name := range []string{binName(id), partName(id), sparseName(id)} {
			names[name] = true
		}
	}
	return names
}

// adoptFile gives the file of a blob, whole, verified and synced, its name.
func (v *Vault) adoptFile(w *WantedBlob, part string) error {
	// A content that was replaced here and has come back, or that was evicted, may
	// be on its way out.
	_, err := v.com.do(func(t *txn) error { return t.exec("DELETE FROM doomed WHERE blob=?", w.Blob[:]) })
	if err != nil {
		return err
	}
	v.retired.reclaim(w.Blob)
	if err := v.nameReceived(w, part); err != nil {
		return err
	}
	return v.attachments.Sync()
}

// adoptSparse makes a sparse file of which all has come an ordinary blob: the
// whole of it is what the log says, it is durable, and then its rows say so.
func (v *Vault) adoptSparse(ctx context.Context, sp *sparse) error {
	id := sp.ref.blob
	unlock, err := v.arrivals.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	want, err := v.wanted(ctx, id)
	if err != nil {
		return err
	}
	if want == nil { // it has come another way, or nobody wants it any more
		sp.gone.Store(true)
		v.store.removeSparse(id)
		return nil
	}
	if err := v.verifySparse(ctx, sp, want); err != nil {
		return err
	}
	if err := sp.f.Truncate(sp.ref.sealedLen); err != nil {
		return diskError(err)
	}
	if err := v.attachments.SyncFiles([]string{sparseName(id)}, 1); err != nil {
		return err
	}
	if err := v.adoptFile(want, sparseName(id)); err != nil {
		return err
	}
	v.store.fetches.size(id, 0)
	// Until its rows say so, it is read where it was.
	err = v.placeBlob(ctx, id)
	sp.gone.Store(true)
	if err != nil {
		return err
	}
	v.fetched(id)
	return nil
}

// verifySparse holds the whole of a file against the log. Pieces that the disk
// has lost are dropped; a blob whose chunks are all authentic and that is
// another one all the same is not what its author signed.
func (v *Vault) verifySparse(ctx context.Context, sp *sparse, want *WantedBlob) error {
	h := sha256.New()
	_, err := io.CopyBuffer(h, &ctxReader{ctx, io.NewSectionReader(sp.f, 0, sp.ref.sealedLen)}, make([]byte, 1<<20))
	if err != nil {
		return err
	}
	if want.Len == sp.ref.sealedLen && bytes.Equal(h.Sum(nil), want.SHA256[:]) {
		return nil
	}
	bad, err := sp.verifyPieces()
	if err != nil || bad > 0 {
		return errors.Join(err, fmt.Errorf("%w: %d pieces are lost", ErrDamaged, bad))
	}
	sp.gone.Store(true)
	v.store.removeSparse(want.Blob)
	v.corrupt(want.Blob)
	return fmt.Errorf("%w: blob %s is not what the log says", ErrDamaged, want.Blob.Hex())
}

// fetched notes that a content has come from the remote: so it is there.
func (v *Vault) fetched(id seal.ID) {
	if err := v.Found(v.ctx, []seal.ID{id}); err != nil && v.ctx.Err() == nil {
		v.log.Warn("presence of a content not noted", "blob", id.Hex(), "err", err)
	}
	v.cache.look()
}

// OnCorrupt sets what is told that the remote gives other bytes for a content than its
// author signed, in place of an alarm of the vault's own.
func (v *Vault) OnCorrupt(fn func(blob seal.ID)) { v.onCorrupt.Store(&fn) }

// corrupt tells that a remote gives other bytes for a blob than its author
// signed.
func (v *Vault) corrupt(id seal.ID) {
	if fn := v.onCorrupt.Load(); fn != nil {
		(*fn)(id)
		return
	}
	where := id.Hex()
	if paths := v.BlobPaths(id); len(paths) > 0 {
		where = paths[0]
	}
	v.alarm("corrupt", where+": the remote has other bytes than its author signed; nothing of them was shown")
}

// ctxReader reads until its context ends.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *ctxReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
