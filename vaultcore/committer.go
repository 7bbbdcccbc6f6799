package vaultcore

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// txn is what an operation sees of the transaction it runs in.
type txn struct {
	*conn
	no uint64 // commit number of this transaction
	// undoMark: a row with a commit number up to it is, or is about to be,
	// behind a barrier and must be kept in undo before it is changed.
	undoMark uint64
	// synced: the ledger is on, so a content that loses its row may be needed.
	synced bool
	now    func() time.Time
}

// committer owns the write connection. Operations pass its queue in order;
// all that wait share a transaction. The first one to find the queue idle
// runs it on its own goroutine: a lone close costs no hand-over.
type committer struct {
	c *conn
	// begin is run at the start of every transaction until one is in, and is
	// nil from then on; the goroutine that runs the queue owns it.
	begin func(*txn) error

	// ballast is room for what makes room; the goroutine that runs the queue
	// owns it. nil: there is none.
	ballast *roomFile

	mu      sync.Mutex
	queue   []*commitOp
	running bool
	closed  bool

	last     atomic.Uint64 // newest commit
	durable  atomic.Uint64 // the barrier: highest durable commit
	inflight atomic.Uint64 // commit a running barrier will make durable

	committed atomic.Pointer[func()] // told of every transaction
	synced    atomic.Bool            // the ledger is on
	now       func() time.Time
}

// commitOp is one operation. fn may run twice (alone, after a shared
// transaction failed), so it changes nothing but the transaction.
type commitOp struct {
	fn    func(*txn) error
	frees bool
	err   error
	no    uint64
	done  chan struct{}
}

// maxShared bounds how many operations share one transaction, and so how
// long the first of them waits.
const maxShared = 512

func newCommitter(c *conn, last, durable uint64) *committer {
	k := &committer{c: c, now: time.Now}
	k.last.Store(last)
	k.durable.Store(durable)
	return k
}

// do runs fn in a transaction and gives its commit number.
func (k *committer) do(fn func(*txn) error) (uint64, error) { return k.await(&commitOp{fn: fn}) }

// free is do for what makes room on the disk, or must not fail for want of it: a
// full disk has the ballast's room for it.
func (k *committer) free(fn func(*txn) error) (uint64, error) {
	return k.await(&commitOp{fn: fn, frees: true})
}

// commitFunc is do or free.
type commitFunc = func(func(*txn) error) (uint64, error)

func (k *committer) await(op *commitOp) (uint64, error) {
	lead, err := k.push(op)
	if err != nil {
		return 0, err
	}
	if lead {
		k.run()
	} else {
		<-op.done
	}
	return op.no, op.err
}

// push queues op and says whether the caller must run the queue.
func (k *committer) push(op *commitOp) (lead bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return false, ErrClosed
	}
	k.queue = append(k.queue, op)
	if k.running {
		op.done = make(chan struct{})
		return false, nil
	}
	k.running = true
	return true, nil
}

// take gives the next batch; none ends the run.
func (k *committer) take() []*commitOp {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := min(len(k.queue), maxShared)
	if n == 0 {
		k.queue, k.running = nil, false
		return nil
	}
	batch := k.queue[:n:n]
	k.queue = k.queue[n:]
	return batch
}

// run commits the batch that holds the leader's own operation. The leader
// has its answer then; whatever came meanwhile goes on without it.
func (k *committer) run() {
	k.commit(k.take())
	if batch := k.take(); batch != nil {
		go func() {
			for ; batch != nil; batch = k.take() {
				k.commit(batch)
			}
		}()
	}
}

// commit runs a batch in one transaction. If that fails, each operation gets
// a transaction of its own, so that a bad one harms no other.
func (k *committer) commit(batch []*commitOp) {
	if len(batch) == 1 {
		batch[0].err = k.alone(batch[0])
		batch[0].finish()
		return
	}
	err := k.together(batch)
	if err != nil {
		for _, op := range batch {
			op.err = k.alone(op)
			op.finish()
		}
		return
	}
	for _, op := range batch {
		op.err = err
		op.finish()
	}
}

// together commits a batch, unless the room that it needs is held back.
func (k *committer) together(batch []*commitOp) error {
	if !k.ballast.whole() && !k.ballast.refill() {
		return errRoomHeld
	}
	return k.transaction(batch)
}

// errRoomHeld: what little room there is, is for what makes more.
var errRoomHeld = fmt.Errorf("%w: what is left is kept for deleting", ErrNoSpace)

// alone commits one operation. On a full disk the log is begun anew, if all of
// it can be put into the database; and what makes room gets the ballast's.
func (k *committer) alone(op *commitOp) error {
	ops := []*commitOp{op}
	if !op.frees {
		err := k.together(ops)
		if !errors.Is(err, ErrNoSpace) || err == errRoomHeld {
			return err
		}
		k.checkpoint()
		return k.transaction(ops)
	}
	err := k.transaction(ops)
	for given := true; given && errors.Is(err, ErrNoSpace); given = k.ballast.give() {
		k.checkpoint()
		err = k.transaction(ops)
	}
	return err
}

// checkpoint puts the log into the database as far as nobody reads it, so that
// the next transaction can overwrite it. A failure is the next transaction's to tell.
func (k *committer) checkpoint() { _ = k.c.script("PRAGMA wal_checkpoint(PASSIVE)") }

func (op *commitOp) finish() {
	if op.done != nil {
		close(op.done)
	}
}

func (k *committer) transaction(batch []*commitOp) error {
	t := &txn{conn: k.c, no: k.last.Load() + 1, undoMark: max(k.durable.Load(), k.inflight.Load()), synced: k.synced.Load(), now: k.now}
	if err := k.c.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if k.begin != nil {
		if err := k.begin(t); err != nil {
			return errors.Join(err, k.rollback())
		}
	}
	for _, op := range batch {
		if err := op.fn(t); err != nil {
			return errors.Join(err, k.rollback())
		}
	}
	if err := k.c.exec("COMMIT"); err != nil {
		return errors.Join(err, k.rollback())
	}
	for _, op := range batch {
		op.no = t.no
	}
	k.last.Store(t.no)
	k.begin = nil
	if fn := k.committed.Load(); fn != nil {
		(*fn)()
	}
	return nil
}

// rollback ends a failed transaction; SQLite may have ended it by itself.
func (k *committer) rollback() error {
	if k.c.c.AutoCommit() {
		return nil
	}
	return k.c.exec("ROLLBACK")
}

// idle says that nothing has been committed yet; the queue is empty.
func (k *committer) idle() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return !k.running && k.begin != nil
}

// close waits for the queue to run dry and refuses what comes later.
func (k *committer) close() {
	for {
		k.mu.Lock()
		if !k.running {
			k.closed = true
			k.mu.Unlock()
			return
		}
		k.mu.Unlock()
		if _, err := k.do(func(*txn) error { return nil }); err != nil {
			return
		}
	}
}
