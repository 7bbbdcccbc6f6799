package syncer

import (
	"sync"
	"time"

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

// falseThere tells of a content that was read in part, and is not what was put at the
// remote; its holders are asked for it.
func (e *Engine) falseThere(id seal.ID) {
	e.unread.failed(id, CondContent, e.o.Now())
	e.wantOf(id)
	e.cond.raise(CondContent, "the remote holds other bytes than were put there: "+e.nameOf(id)+" ("+blobObject(id)+")", healHint)
}
