package syncer

import (
	"context"
	"maps"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// unreadFor is how long a content that could not be fetched for a reader holds its
// condition up, unless it comes before: nothing in the queue does.
const unreadFor = time.Hour

// unread are the contents that readers asked for and the remote does not have as
// they were put.
type unread struct {
	mu   sync.Mutex
	list map[seal.ID]unreadCause
}

type unreadCause struct {
	kind  string
	until time.Time
}

// failed enters a content; a kind that is not about the content itself forgets it.
func (u *unread) failed(id seal.ID, kind string, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if kind != CondContent && kind != CondMissing {
		delete(u.list, id)
		return
	}
	if u.list == nil {
		u.list = make(map[seal.ID]unreadCause)
	}
	u.list[id] = unreadCause{kind, now.Add(unreadFor)}
}

func (u *unread) came(id seal.ID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.list, id)
}

// has says whether a content holds up a condition.
func (u *unread) has(kind string, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	for id, cause := range u.list {
		if !now.Before(cause.until) {
			delete(u.list, id)
		} else if cause.kind == kind {
			return true
		}
	}
	return false
}

// all gives every content entered.
func (u *unread) all() map[seal.ID]unreadCause {
	u.mu.Lock()
	defer u.mu.Unlock()
	return maps.Clone(u.list)
}

// againSize is the largest content that SyncNow fetches only to see whether it is now
// what was put there.
const againSize = 32 << 20

// readAgain tries what readers could not get: it may have been put right, and no
// condition says then that it is wrong.
func (e *Engine) readAgain(ctx context.Context) error {
	unread := e.unread.all()
	if len(unread) == 0 {
		return nil
	}
	wanted, err := e.o.Vault.WantedBlobs(ctx)
	if err != nil {
		return err
	}
	group, inGroup := errgroup.WithContext(ctx)
	group.SetLimit(fetchParallel)
	for _, w := range wanted {
		if _, is := unread[w.Blob]; !is {
			continue
		}
		delete(unread, w.Blob)
		if w.Len <= againSize {
			group.Go(func() error {
				_ = e.fetchOnce(inGroup, w.Blob) // a condition tells
				return nil
			})
		}
	}
	for gone := range unread { // here by now, or of no file any more
		e.unread.came(gone)
	}
	_ = group.Wait() // none of them fails
	e.clearTransfers()
	return ctx.Err()
}

// falseThere tells of a content that was read in part, and is not what was put at the
// remote; its holders are asked for it.
func (e *Engine) falseThere(id seal.ID) {
	e.unread.failed(id, CondContent, e.o.Now())
	e.wantOf(id)
	e.cond.raise(CondContent, "the remote holds other bytes than were put there: "+e.nameOf(id)+" ("+blobObject(id)+")", healHint)
}
