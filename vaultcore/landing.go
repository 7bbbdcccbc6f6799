package vaultcore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// A small content that comes from the remote goes into its row, like one that is
// saved here, and the settler makes a file of it: so a first sync of many small
// files costs a share of a transaction each and no sync of its own. Row and
// bytes are one transaction, so a power cut leaves both or neither.

// landing is a small content on its way into its rows.
type landing struct {
	id    seal.ID
	bytes []byte
	file  bool // it needs a file: a file that shows an earlier content waits for it
	done  chan error
}

// landings let all that arrive at a time share a transaction.
type landings struct {
	mu      sync.Mutex
	queue   []*landing
	running bool
}

const maxLandings = 256 // of one exclusive section

func (q *landings) push(l *landing) (lead bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queue = append(q.queue, l)
	lead = !q.running
	q.running = true
	return lead
}

func (q *landings) take() []*landing {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.queue), maxLandings)
	if n == 0 {
		q.queue, q.running = nil, false
		return nil
	}
	batch := q.queue[:n:n]
	q.queue = q.queue[n:]
	return batch
}

// putSmall reads a small content and puts it into its rows. handled is false when
// it has to become a file; then r is what was read.
func (v *Vault) putSmall(ctx context.Context, w *WantedBlob, r io.Reader) (rest io.Reader, handled bool, err error) {
	sealed, err := readLanding(w, r)
	if err != nil {
		return nil, true, err
	}
	v.fresh.waitRoom(v)
	l := &landing{id: w.Blob, bytes: sealed, done: make(chan error, 1)}
	if v.landings.push(l) {
		v.land(ctx, v.landings.take())
		// What came meanwhile goes on without this caller.
		if batch := v.landings.take(); batch != nil {
			go func() {
				for ; batch != nil; batch = v.landings.take() {
					v.land(v.ctx, batch)
				}
			}()
		}
	}
	err = <-l.done
	return bytes.NewReader(sealed), !l.file, err
}

// readLanding reads all of a content and holds it against the log.
func readLanding(w *WantedBlob, r io.Reader) ([]byte, error) {
	sealed := make([]byte, w.Len)
	n, err := io.ReadFull(r, sealed)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	if err == nil {
		var more [1]byte
		k, _ := io.ReadFull(r, more[:])
		n += k
	}
	if int64(n) != w.Len {
		return nil, fmt.Errorf("%w: blob %s has not the %d bytes that the log says", blob.ErrSize, w.Blob.Hex(), w.Len)
	}
	if sha256.Sum256(sealed) != w.SHA256 {
		return nil, fmt.Errorf("%w: blob %s is not what the log says", ErrDamaged, w.Blob.Hex())
	}
	return sealed, nil
}

// land answers every landing of a batch.
func (v *Vault) land(ctx context.Context, batch []*landing) {
	err := v.landAll(ctx, batch)
	for _, l := range batch {
		l.done <- err
	}
}

func (v *Vault) landAll(ctx context.Context, batch []*landing) error {
	l, err := v.lockLedger(context.WithoutCancel(ctx)) // others wait for it too
	if err != nil {
		return err
	}
	defer l.mu.Unlock()
	v.ns.Lock()
	defer v.ns.Unlock()
	blobs := make(map[seal.ID]bool, len(batch))
	for _, it := range batch {
		it.file = l.pending.byBlob[it.id] != nil
		blobs[it.id] = !it.file
	}
	x := v.indexRows(nil, blobs)
	_, err = v.com.do(func(t *txn) error {
		for _, it := range batch {
			if err := t.land(it, x.byBlob[it.id]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	v.bar.commit()
	for _, it := range batch {
		v.landed(it, x.byBlob[it.id])
	}
	return nil
}

func (t *txn) land(it *landing, nodes []*Node) error {
	if it.file || len(nodes) == 0 {
		return nil
	}
	if err := t.exec("DELETE FROM doomed WHERE blob=?", it.id[:]); err != nil {
		return err
	}
	for _, n := range nodes {
		if err := t.exec("UPDATE asset_attachments SET place=?,fresh=? WHERE n=? AND blob=? AND place=0", int64(placeFresh), it.bytes, n.n, it.id[:]); err != nil {
			return err
		}
	}
	return nil
}

// landed shows that a content is here.
func (v *Vault) landed(it *landing, nodes []*Node) {
	if it.file || len(nodes) == 0 {
		return
	}
	v.retired.reclaim(it.id)
	for _, n := range nodes {
		if n.content.place.CompareAndSwap(placeElsewhere, placeFresh) {
			v.fresh.add(v, n.content, len(it.bytes))
		}
	}
}
