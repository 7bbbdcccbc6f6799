package vaultcore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Contents that lie in their rows: what was closed small. The settler turns
// those older than settleAfter into files; what died young never becomes one.
const (
	settleAfter  = 2 * time.Second
	settleBatch  = 1000
	maxFresh     = 64 << 20 // bytes waiting in rows; closes wait beyond it
	settleAtExit = 2 * time.Second
)

// freshQueue holds, oldest first, the contents that lie in their rows.
type freshQueue struct {
	mu    sync.Mutex
	room  *sync.Cond
	items []freshItem
	bytes int64
	stuck bool // the last settling failed; closes are not held back then
	wake  chan struct{}
}

type freshItem struct {
	c    *content
	size int
	born time.Time
}

func (q *freshQueue) init() {
	q.room = sync.NewCond(&q.mu)
	q.wake = make(chan struct{}, 1)
}

func (q *freshQueue) add(v *Vault, c *content, size int) {
	if size == 0 || c.place.Load() != placeFresh {
		return
	}
	q.mu.Lock()
	first := len(q.items) == 0
	q.items = append(q.items, freshItem{c, size, v.now()})
	q.bytes += int64(size)
	full := q.bytes > maxFresh
	q.mu.Unlock()
	if first || full {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
}

// waitRoom holds a close back while the rows hold more than they may.
func (q *freshQueue) waitRoom(v *Vault) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.bytes > maxFresh && !q.stuck && v.ctx.Err() == nil {
		select {
		case q.wake <- struct{}{}:
		default:
		}
		q.room.Wait()
	}
}

// take gives the next batch of at most most: all of it when forced, else what is old
// enough.
func (q *freshQueue) take(now time.Time, most int, force bool) (batch []freshItem, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	force = force || q.bytes > maxFresh/2
	for _, it := range q.items {
		age := now.Sub(it.born)
		if len(batch) == most || (!force && age < settleAfter) {
			wait = max(settleAfter-age, 10*time.Millisecond)
			break
		}
		batch = append(batch, it)
	}
	q.items = q.items[len(batch):]
	if len(q.items) == 0 {
		q.items = nil
	}
	return batch, wait
}

// done gives room back; what failed is put in front again.
func (q *freshQueue) done(batch []freshItem, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stuck = err != nil
	q.room.Broadcast()
	if err != nil {
		q.items = append(batch, q.items...)
		return
	}
	for _, it := range batch {
		q.bytes -= int64(it.size)
	}
}

// settleLoop turns contents in rows into files.
func (v *Vault) settleLoop() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-v.ctx.Done():
			v.fresh.room.Broadcast()
			return
		case <-v.fresh.wake:
		case <-timer.C:
		}
		wait, err := v.settleDue(false)
		if err != nil {
			v.log.Warn("contents not settled yet", "err", err)
			wait = settleAfter
		}
		if wait > 0 {
			timer.Reset(wait)
		}
	}
}

func (v *Vault) settleDue(force bool) (wait time.Duration, err error) {
	for {
		gentle := !force && v.busyElsewhere()
		most := settleBatch
		if gentle {
			most = gentleBatch
		}
		start := v.now()
		batch, wait := v.fresh.take(start, most, force)
		if len(batch) == 0 {
			return wait, nil
		}
		err := v.settle(batch)
		v.fresh.done(batch, err)
		if err != nil {
			return 0, err
		}
		if pause := v.fresh.pause(v.now().Sub(start)); gentle && pause > 0 {
			return pause, nil
		}
		if v.ctx.Err() != nil && !force {
			return 0, nil
		}
	}
}

// settleForUnmount settles what it can within its time; the rest stays in
// its rows, where it is as safe.
func (v *Vault) settleForUnmount(ctx context.Context) {
	end := v.now().Add(settleAtExit)
	for v.now().Before(end) && ctx.Err() == nil {
		batch, _ := v.fresh.take(v.now(), settleBatch, true)
		if len(batch) == 0 {
			return
		}
		err := v.settle(batch)
		v.fresh.done(batch, err)
		if err != nil {
			v.log.Warn("contents stay in their rows", "err", err)
			return
		}
	}
}

// settle writes the batch's files, makes them durable, and then says so in
// their rows, in one transaction. A crash between leaves files that the rows
// do not point to; the next unlock removes them.
func (v *Vault) settle(batch []freshItem) error {
	var names []string
	var written []*content
	for _, it := range batch {
		if it.c.row.Load() == 0 || v.retired.has(it.c.ref.blob) {
			continue // replaced or deleted; a search for it would read all rows
		}
		sealed, err := v.loadFresh(it.c.row.Load(), it.c.ref.blob)
		if errors.Is(err, ErrNotFound) {
			continue // replaced or deleted meanwhile
		}
		if err != nil {
			return err
		}
		name := binName(it.c.ref.blob)
		if there, err := v.isFile(it.c.ref.blob); err != nil {
			return err
		} else if !there {
			if err := v.writeSettled(name, sealed); err != nil {
				return err
			}
		}
		names, written = append(names, name), append(written, it.c)
	}
	if len(names) == 0 {
		return nil
	}
	if err := v.attachments.SyncFiles(names, syncParallel); err != nil {
		return err
	}
	if err := v.attachments.Sync(); err != nil {
		return err
	}
	return v.placeSettled(written, names)
}

// isFile says whether a row has a content as a file already: with the ledger on
// two may show one.
func (v *Vault) isFile(blob seal.ID) (bool, error) {
	if !v.com.synced.Load() {
		return false, nil
	}
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return false, ErrClosed
	}
	found, err := v.reader.one("SELECT 1 FROM asset_attachments WHERE blob=? AND place=1 LIMIT 1", blob[:])
	return found != nil, err
}

// writeSettled writes a whole file under a temporary name, so that a name
// ending in .bin never stands for a half.
func (v *Vault) writeSettled(name string, sealed []byte) (err error) {
	part := name[:len(name)-len(".bin")] + ".part"
	// A crash between settling and its row may have left either.
	if err := errors.Join(v.attachments.Remove(part), v.attachments.Remove(name)); err != nil {
		return err
	}
	f, err := v.store.makeFile(v.attachments, part)
	if err != nil {
		return err
	}
	_, err = f.Write(sealed)
	if err = errors.Join(err, f.Close()); err == nil {
		err = v.attachments.Rename(part, name)
	}
	if err != nil {
		return errors.Join(err, v.attachments.Remove(part))
	}
	return nil
}

// placeSettled says in the rows that their contents are files now. A file whose
// row is gone goes too, unless another row shows the same content.
func (v *Vault) placeSettled(written []*content, names []string) error {
	var moved, named []bool
	v.ns.RLock()
	defer v.ns.RUnlock()
	_, err := v.com.do(func(t *txn) error {
		moved, named = moved[:0], named[:0]
		for _, c := range written {
			m, n, err := t.placeFile(c)
			if err != nil {
				return err
			}
			moved, named = append(moved, m), append(named, n)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, c := range written {
		if moved[i] {
			c.place.Store(placeBin)
		} else if !named[i] {
			if err := v.attachments.Remove(names[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// placeFile turns the place of a content in its row into that of its file;
// named: if it is not there, another row has it.
func (t *txn) placeFile(c *content) (moved, named bool, err error) {
	row, blob := c.row.Load(), c.ref.blob
	place, err := t.one("SELECT place FROM asset_attachments WHERE n=? AND blob=?", row, blob[:])
	if err != nil {
		return false, false, err
	}
	if place == int64(placeFresh) {
		return true, true, t.exec("UPDATE asset_attachments SET place=?,fresh=NULL WHERE n=?", int64(placeBin), row)
	}
	if !t.synced {
		return false, false, nil // a blob has one row
	}
	other, err := t.one("SELECT 1 FROM asset_attachments WHERE blob=? AND place<>0 LIMIT 1", blob[:])
	return false, other != nil, err
}

// loadFresh reads the sealed bytes of a content that lies in its row.
// Errors: ErrNotFound when it lies there no more.
func (v *Vault) loadFresh(row int64, blob seal.ID) ([]byte, error) {
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return nil, ErrClosed
	}
	var sealed []byte
	take := func(c []dbValue) error {
		sealed, _ = c[0].([]byte)
		return nil
	}
	err := v.reader.query("SELECT fresh FROM asset_attachments WHERE n=? AND blob=? AND place=2", take, row, blob[:])
	if err == nil && sealed == nil {
		// It is kept for a handle that opened it before it was replaced or removed.
		if sealed = v.retired.fresh(blob); sealed == nil {
			err = v.reader.query("SELECT fresh FROM undo WHERE blob=? AND place=2 LIMIT 1", take, blob[:])
		}
	}
	if err == nil && sealed == nil {
		// A rename over another file is moving it to that file's row. Rare, and
		// last, since it reads every row.
		err = v.reader.query("SELECT fresh FROM asset_attachments WHERE blob=? AND place=2 LIMIT 1", take, blob[:])
	}
	if err != nil {
		return nil, err
	}
	if sealed == nil {
		return nil, fmt.Errorf("%w: content %x in its row: %w", ErrNotFound, blob[:4], io.ErrUnexpectedEOF)
	}
	return sealed, nil
}
