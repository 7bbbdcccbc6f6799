package vaultcore

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Bounds of what may be lost by a power cut, and of the database's log.
const (
	barrierDelay   = 900 * time.Millisecond // after the first unsynced commit
	maxUnsynced    = 1 << 30                // bytes of blobs; closes wait beyond it
	maxBarrierLag  = 5 * time.Second
	checkpointSize = 16 << 20
	maxLogSize     = 64 << 20
	idleLogSize    = 4 << 20 // what may be left of it between sessions
	syncParallel   = 8
)

// barrier makes commits durable: the data of all new blobs, their directory,
// then the database's log. It takes no lock that a close needs.
type barrier struct {
	v   *Vault
	wal *os.File
	cp  *conn // second write-capable connection, for checkpoints only

	wake chan struct{}

	passMu sync.Mutex // one pass at a time

	mu       sync.Mutex
	room     sync.Cond // signalled when a pass ends
	files    []pendingFile
	bytes    int64     // of files
	syncing  int64     // bytes of the pass under way
	first    time.Time // oldest commit not yet covered; zero if none
	passFrom time.Time // first of the pass under way
	stuck    bool      // the last pass failed; closes are not held back then
	waiters  []chan error
}

type pendingFile struct {
	name    string
	scratch bool // in scratch/, else in attachments/
}

func newBarrier(v *Vault, path string) (*barrier, error) {
	wal, err := os.OpenFile(path+"-wal", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: open the log: %w", ErrDatabase, err)
	}
	// The log may be new: SQLite would sync its directory with the first sync
	// of its own, which comes much later than ours.
	if err := syncPath(filepath.Dir(path)); err != nil {
		return nil, errors.Join(err, wal.Close())
	}
	cp, err := openConn(path, false, false)
	if err != nil {
		return nil, errors.Join(err, wal.Close())
	}
	b := &barrier{v: v, wal: wal, cp: cp, wake: make(chan struct{}, 1)}
	b.room.L = &b.mu
	return b, nil
}

// close gives the log back, cut short if it has grown.
func (b *barrier) close() error {
	var err error
	if fi, serr := b.wal.Stat(); serr == nil && fi.Size() > idleLogSize {
		_, err = b.cp.one("PRAGMA wal_checkpoint(TRUNCATE)")
		err = b.tolerate(err)
	}
	return errors.Join(err, b.wal.Close(), b.cp.close())
}

// note records a file that the next barrier must sync; it is called before
// the transaction that names the file is queued.
func (b *barrier) note(f pendingFile, size int64) {
	b.mu.Lock()
	b.files = append(b.files, f)
	b.bytes += size
	b.mu.Unlock()
}

// commit says that a commit is in whose durability is still due.
func (b *barrier) commit() {
	b.mu.Lock()
	arm := b.first.IsZero()
	if arm {
		b.first = b.v.now()
	}
	b.mu.Unlock()
	if arm {
		b.poke()
	}
}

func (b *barrier) poke() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// waitRoom holds a close back while too much is unsynced or the barrier lags.
func (b *barrier) waitRoom() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for !b.stuck && b.bytes+b.syncing > maxUnsynced || (!b.passFrom.IsZero() && b.v.now().Sub(b.passFrom) > maxBarrierLag) {
		if b.v.ctx.Err() != nil {
			return
		}
		b.poke()
		b.room.Wait()
	}
}

// wait asks for a barrier over everything committed so far and waits for it;
// all who wait share one.
func (b *barrier) wait(ctx context.Context) error {
	ch := make(chan error, 1)
	b.mu.Lock()
	b.waiters = append(b.waiters, ch)
	b.mu.Unlock()
	b.poke()
	select {
	case err := <-ch:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// loop runs passes until stop is closed.
func (b *barrier) loop(stop <-chan struct{}) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-stop:
			b.finish()
			return
		case <-b.wake:
		case <-timer.C:
		}
		if d, due := b.due(); !due {
			timer.Reset(d)
			continue
		}
		if err := b.pass(); err != nil {
			b.v.alarm("barrier", "what was saved last could not be made durable: "+err.Error())
			timer.Reset(barrierDelay)
		}
	}
}

// finish answers who still waits when the vault closes.
func (b *barrier) finish() {
	b.mu.Lock()
	waiting := len(b.waiters) > 0 || !b.first.IsZero()
	b.mu.Unlock()
	if waiting {
		if err := b.pass(); err != nil {
			b.v.log.Error("barrier at close", "err", err)
		}
	}
	b.mu.Lock()
	b.room.Broadcast() // nobody is held back any more
	b.mu.Unlock()
}

// due says whether a pass must start now, else how long there is time.
func (b *barrier) due() (time.Duration, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiters) > 0 || b.bytes > maxUnsynced/4 {
		return 0, true
	}
	if b.first.IsZero() {
		return time.Hour, false
	}
	d := barrierDelay - b.v.now().Sub(b.first)
	return d, d <= 0
}

// pass is one barrier. Whoever waited gets its error; what could not be
// synced stays due.
func (b *barrier) pass() error {
	b.passMu.Lock()
	defer b.passMu.Unlock()
	b.mu.Lock()
	waiters := b.waiters
	b.waiters = nil
	b.passFrom, b.first = b.first, time.Time{}
	from := b.passFrom
	b.mu.Unlock()

	files, size, err := b.run()

	b.mu.Lock()
	b.syncing, b.passFrom, b.stuck = 0, time.Time{}, err != nil
	if err != nil {
		b.files, b.bytes = append(files, b.files...), b.bytes+size
		if from.IsZero() {
			from = b.v.now()
		}
		b.first = from
	}
	b.room.Broadcast()
	b.mu.Unlock()
	for _, w := range waiters {
		w <- err
	}
	return err
}

func (b *barrier) run() (files []pendingFile, size int64, err error) {
	// The target is taken in a transaction of its own: none is under way
	// then that decided about undo without knowing this pass.
	target, err := b.v.com.free(func(t *txn) error {
		b.mu.Lock()
		files, size = append(files, b.files...), size+b.bytes // it may run twice
		b.files, b.bytes, b.syncing = nil, 0, size
		b.mu.Unlock()
		b.v.com.inflight.Store(t.no)
		return nil
	})
	if err != nil {
		return files, size, err
	}
	if err := b.syncFiles(files); err != nil {
		return files, size, err
	}
	if err := b.syncLog(); err != nil {
		return files, size, err
	}
	if err := b.v.passed(target); err != nil {
		return files, size, err
	}
	b.v.com.durable.Store(target)
	b.v.sweep(target)
	return files, size, b.checkpoint()
}

func (b *barrier) syncFiles(files []pendingFile) error {
	var bins, logs []string
	for _, f := range files {
		if f.scratch {
			logs = append(logs, f.name)
		} else {
			bins = append(bins, f.name)
		}
	}
	if len(bins) > 0 {
		if err := b.v.attachments.SyncFiles(bins, syncParallel); err != nil {
			return err
		}
		if err := b.v.attachments.Sync(); err != nil {
			return err
		}
	}
	if len(logs) > 0 {
		if err := b.v.scratchDir.SyncFiles(logs, syncParallel); err != nil {
			return err
		}
		return b.v.scratchDir.Sync()
	}
	return nil
}

func (b *barrier) syncLog() error {
	if err := unix.Fdatasync(int(b.wal.Fd())); err != nil {
		return fmt.Errorf("sync of the database log: %w", err)
	}
	return nil
}

// checkpoint moves the log into the database once it is long. The copying
// runs beside the writers; only the short rest of a log that outgrew its
// bound stops them. On a full disk it stays as long as it is: all that was
// committed is durable in it.
func (b *barrier) checkpoint() error {
	fi, err := b.wal.Stat()
	if err != nil || fi.Size() < checkpointSize {
		return err
	}
	_, err = b.cp.one("PRAGMA wal_checkpoint(PASSIVE)")
	if err == nil && fi.Size() >= maxLogSize/2 {
		_, err = b.cp.one("PRAGMA wal_checkpoint(TRUNCATE)")
	}
	return b.tolerate(err)
}

// tolerate forgives a checkpoint that had no room for the database.
func (b *barrier) tolerate(err error) error {
	if errors.Is(err, ErrNoSpace) {
		b.v.log.Warn("the database's log stays long", "err", err)
		return nil
	}
	return err
}

// untouched says that nothing was committed since the vault was opened, and
// that nothing was left to be made durable then.
func (v *Vault) untouched() bool { return v.wasClean && v.com.idle() }

// Barrier makes everything committed so far durable. All who wait share one
// pass. Errors: the disk's.
func (v *Vault) Barrier(ctx context.Context) error {
	if v.bar == nil || v.untouched() {
		return nil
	}
	if v.closed.Load() {
		// The loop has ended; Close runs the last pass itself.
		return v.bar.pass()
	}
	return v.bar.wait(ctx)
}

// passed records in the database that everything up to c is durable, and
// drops what was kept for the case that it would not be.
func (v *Vault) passed(c uint64) error {
	var freed []seal.ID
	var kept []string
	_, err := v.com.free(func(t *txn) error {
		freed, kept = freed[:0], kept[:0]
		if err := t.setMeta("barrier", int64(c)); err != nil {
			return err
		}
		if err := t.dropUndo(c, func(blob seal.ID) error {
			if !v.retired.has(blob) {
				return nil // some row names it still
			}
			if kept, err := t.isKept(blob); err != nil || kept {
				return err
			}
			freed = append(freed, blob)
			return t.exec(sqlDoom, blob[:], int64(t.no))
		}); err != nil {
			return err
		}
		err := t.query("SELECT file FROM drafts WHERE commit_no>0 AND commit_no<=?", func(r []driver.Value) error {
			name, _ := r[0].(string)
			kept = append(kept, name)
			return nil
		}, int64(c))
		if err != nil {
			return err
		}
		if len(kept) > 0 {
			if err := t.exec("DELETE FROM drafts WHERE commit_no>0 AND commit_no<=?", int64(c)); err != nil {
				return err
			}
		}
		return v.retired.forget(t)
	})
	if err != nil {
		return err
	}
	v.retired.doom(freed, v.com.last.Load())
	for _, names := range kept {
		for _, name := range splitFiles(names) {
			v.store.removeFile(name)
		}
	}
	for _, name := range v.oldFiles.take(c) {
		v.store.removeFile(name)
	}
	return nil
}

// dropUndo deletes the undo rows that barrier c made superfluous and calls
// doom with each blob that no other undo row names.
func (t *txn) dropUndo(c uint64, doom func(seal.ID) error) error {
	const superfluous = `NOT EXISTS(SELECT 1 FROM asset_attachments a WHERE a.n=u.n AND a.commit_no>?1)
		OR EXISTS(SELECT 1 FROM undo w WHERE w.n=u.n AND w.commit_no<=?1 AND w.commit_no>u.commit_no)`
	var rows []int64
	var blobs []seal.ID
	err := t.query("SELECT u.u,u.blob FROM undo u WHERE "+superfluous, func(r []driver.Value) error {
		u, _ := r[0].(int64)
		var id seal.ID
		b, _ := r[1].([]byte)
		copy(id[:], b)
		rows, blobs = append(rows, u), append(blobs, id)
		return nil
	}, int64(c))
	if err != nil {
		return err
	}
	for _, u := range rows {
		if err := t.exec("DELETE FROM undo WHERE u=?", u); err != nil {
			return err
		}
	}
	for _, id := range blobs {
		left, err := t.one("SELECT count(*) FROM undo WHERE blob=?", id[:])
		if err != nil {
			return err
		}
		if left.(int64) == 0 {
			if err := doom(id); err != nil {
				return err
			}
		}
	}
	return nil
}
