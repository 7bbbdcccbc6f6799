package metadb

import (
	"context"
	"errors"
	"sync"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// maxCommits bounds the uploads that one transaction commits.
const maxCommits = 64

// commit is an upload whose bytes are stored and that waits to be an account's.
type commit struct {
	upload   Upload
	admitted bool
	stored   Stored
	err      error
	done     chan struct{}
}

// committer commits what waits for an account together: the transactions of an
// account come one after another anyhow, and each costs round trips and a sync
// of the disk. Accounts do not wait for one another.
type committer struct {
	mu      sync.Mutex
	waiting map[int64][]*commit // an account that is here has somebody at work
	working sync.WaitGroup
}

// Commit makes stored bytes a blob of the account, in one transaction with its
// row, feed and audit. The object is there already. admitted: by Admit; else the
// quota is taken here, which is for small bodies. Whatever ctx does, the answer
// is what became of it. Errors: api's quota_exceeded, other_bytes, blob_pledged,
// conflict of an Idempotency-Key, account_disabled; of a whole upload also what refuses its row.
func (db *DB) Commit(ctx context.Context, u Upload, admitted bool) (Stored, error) {
	c := &commit{upload: u, admitted: admitted, done: make(chan struct{})}
	k := &db.commits
	k.mu.Lock()
	list, busy := k.waiting[u.Account]
	k.waiting[u.Account] = append(list, c)
	if !busy {
		k.working.Go(func() { db.commitAll(context.WithoutCancel(ctx), u.Account) })
	}
	k.mu.Unlock()
	<-c.done
	return c.stored, c.err
}

// commitAll works until nothing waits for the account.
func (db *DB) commitAll(ctx context.Context, account int64) {
	for {
		list := db.commits.next(account)
		if list == nil {
			return
		}
		if err := db.commitList(ctx, list); err != nil {
			db.commitEach(ctx, list)
		}
		for _, c := range list {
			close(c.done)
		}
	}
}

func (k *committer) next(account int64) []*commit {
	k.mu.Lock()
	defer k.mu.Unlock()
	list := k.waiting[account]
	if len(list) == 0 {
		delete(k.waiting, account)
		return nil
	}
	n := min(len(list), maxCommits)
	k.waiting[account] = list[n:]
	return list[:n:n]
}

// commitEach is for a list of which one failed in a way that spoilt all.
func (db *DB) commitEach(ctx context.Context, list []*commit) {
	for _, c := range list {
		if err := db.commitList(ctx, []*commit{c}); err != nil {
			c.stored, c.err = Stored{}, err
		}
	}
}

// commitList commits uploads of one account in one transaction. An error is of
// all of them.
func (db *DB) commitList(ctx context.Context, list []*commit) error {
	return db.update(ctx, func(q *querier) error {
		if err := q.lockLater(list[0].upload.Account); err != nil {
			return err
		}
		if err := q.foresee(list); err != nil {
			return err
		}
		if err := q.locked(); err != nil {
			return err
		}
		for _, c := range list {
			c.stored, c.err = q.commitUpload(c.upload, c.admitted)
			var refused *api.Error
			if c.err != nil && !errors.As(c.err, &refused) {
				return c.err
			}
		}
		return nil
	})
}

// commitUpload refuses, with an error of api's, before it changes anything: there
// may be others in the same transaction.
func (q *querier) commitUpload(u Upload, admitted bool) (s Stored, err error) {
	if err := q.book.enabled(); err != nil {
		return s, err
	}
	if u.Print != "" {
		if s.Row, err = q.printed(u); err != nil {
			return s, err
		}
		if s.Row != nil {
			s.Again = true
			return s, q.ended(u)
		}
	}
	if s.Again, err = q.haveBlob(u); err != nil {
		return s, err
	}
	if u.Whole {
		if err := q.mayWriteRow(u); err != nil {
			return s, err
		}
	}
	if s.Again {
		err = q.ended(u)
	} else {
		err = q.place(u, admitted)
	}
	if err != nil {
		return s, err
	}
	return s, q.commitRow(u, &s)
}
