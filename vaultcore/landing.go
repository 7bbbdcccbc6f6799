package vaultcore

import (
	"context"
	"errors"
	"sync"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// What comes from the remote is a whole, verified file under a temporary name
// before it lands: the file is synced, gets its name, the directory is synced, and
// then its rows say that it is here. So a row that says so never stands before its
// bytes, and a power cut costs at most another download. All that have come while
// others land do it together: a first sync of many small files costs a share of
// a transaction and of a sync of the directory each.

// landing is a content on its way into its rows.
type landing struct {
	want  *WantedBlob
	named bool // the file has its name
	done  chan error
}

// landings let all that arrive at a time share what can be shared.
type landings struct {
	mu      sync.Mutex
	queue   []*landing
	running bool
}

const (
	maxLandings  = 512 // together
	landParallel = 32  // files synced at a time: what the disk does for one it does for many
	// syncAlone is the size, in bytes, above which a file is synced before it
	// lands, so that small ones do not wait for the disk to take it.
	syncAlone = 1 << 20
)

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

// land makes the verified part of a content its file, and shows that it is here.
// The part is gone afterwards, whatever happened.
func (v *Vault) land(want *WantedBlob) error {
	part := partName(want.Blob)
	if want.Len > syncAlone {
		if err := v.attachments.SyncFiles([]string{part}, 1); err != nil {
			return errors.Join(err, v.attachments.Remove(part))
		}
	}
	l := &landing{want: want, done: make(chan error, 1)}
	if v.landings.push(l) {
		v.landBatch(v.landings.take())
		// What came meanwhile goes on without this caller.
		if batch := v.landings.take(); batch != nil {
			go func() {
				for ; batch != nil; batch = v.landings.take() {
					v.landBatch(batch)
				}
			}()
		}
	}
	err := <-l.done
	if err != nil && !l.named {
		err = errors.Join(err, v.attachments.Remove(part))
	}
	return err
}

// landBatch answers every landing of a batch. If one of them fails, each lands on
// its own, so that a bad one harms no other.
func (v *Vault) landBatch(batch []*landing) {
	err := v.landAll(batch)
	for _, l := range batch {
		if err != nil && len(batch) > 1 {
			l.done <- v.landAll([]*landing{l})
		} else {
			l.done <- err
		}
	}
}

func (v *Vault) landAll(batch []*landing) error {
	if err := v.nameLanded(batch); err != nil {
		return err
	}
	// Not the context of one who waits: others wait for it too.
	late, err := v.placeLanded(v.ctx, batch)
	for _, id := range late {
		err = errors.Join(err, v.placeBlob(v.ctx, id))
	}
	return err
}

// nameLanded gives the files their names, durably.
func (v *Vault) nameLanded(batch []*landing) error {
	var parts []string
	for _, l := range batch {
		if !l.named && l.want.Len <= syncAlone {
			parts = append(parts, partName(l.want.Blob))
		}
	}
	if err := v.attachments.SyncFiles(parts, landParallel); err != nil {
		return err
	}
	// A content that was replaced here and has come back, or that was evicted, may
	// be on its way out.
	_, err := v.com.do(func(t *txn) error {
		for _, l := range batch {
			if err := t.exec("DELETE FROM doomed WHERE blob=?", l.want.Blob[:]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, l := range batch {
		if l.named {
			continue
		}
		v.retired.reclaim(l.want.Blob)
		if err := v.nameReceived(l.want, partName(l.want.Blob)); err != nil {
			return err
		}
		l.named = true
	}
	return v.attachments.Sync()
}

// placeLanded says in the rows of contents that their files are here. late are
// those that a file waits for which shows an earlier content meanwhile.
func (v *Vault) placeLanded(ctx context.Context, batch []*landing) (late []seal.ID, err error) {
	l, err := v.lockLedger(ctx)
	if err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	v.ns.Lock()
	defer v.ns.Unlock()
	blobs := make(map[seal.ID]bool, len(batch))
	for _, it := range batch {
		if id := it.want.Blob; l.pending.byBlob[id] != nil {
			late = append(late, id)
		} else {
			blobs[id] = true
		}
	}
	x := v.indexRows(nil, blobs)
	for id := range blobs {
		if len(x.byBlob[id]) == 0 { // nobody wants it any more
			err = errors.Join(err, v.attachments.Remove(binName(id)))
		}
	}
	return late, errors.Join(err, v.placeRows(x.byBlob))
}
