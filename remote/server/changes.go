package server

import (
	"net/http"
	"sync"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// wakeups let long polls wait for their account.
type wakeups struct {
	mu sync.Mutex
	m  map[int64]*waiting
}

// waiting is who waits for one account.
type waiting struct {
	changed  chan struct{} // closed at the next change
	all      int
	sessions map[string]int // by token's hash
}

func newWakeups() *wakeups { return &wakeups{m: make(map[int64]*waiting)} }

// wait gives a channel that is closed at the next change of the account. The
// caller calls leave. ok is false when too many wait.
func (w *wakeups) wait(account int64, session string, l Limits) (changed <-chan struct{}, leave func(), ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.m[account]
	if a == nil {
		a = &waiting{changed: make(chan struct{}), sessions: make(map[string]int)}
		w.m[account] = a
	}
	if l.AllWaiters > 0 && a.all >= l.AllWaiters || l.Waiters > 0 && a.sessions[session] >= l.Waiters {
		return nil, nil, false
	}
	a.all++
	a.sessions[session]++
	return a.changed, func() { w.leave(account, session) }, true
}

func (w *wakeups) leave(account int64, session string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.m[account]
	a.all--
	if a.sessions[session]--; a.sessions[session] == 0 {
		delete(a.sessions, session)
	}
	if a.all == 0 {
		delete(w.m, account)
	}
}

// wake wakes who waits for the account in this process.
func (w *wakeups) wake(account int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a := w.m[account]; a != nil {
		close(a.changed)
		a.changed = make(chan struct{})
	}
}

// wake is called after every change that has a number in the feed.
func (s *Server) wake(account int64) {
	s.wakeups.wake(account)
	if s.far != nil {
		s.far.tell(account)
	}
}

// changes answers what came after a number, waiting for it if asked to.
func (s *Server) changes(c *call) error {
	after, err := c.query("after", 0, 1<<53)
	if err != nil {
		return err
	}
	wait, err := c.query("wait", 0, int64(api.MaxWait/time.Second))
	if err != nil {
		return err
	}
	if err := s.memory.take("log "+c.account.Vault, s.o.Limits.LogReads, 1); err != nil {
		return err
	}
	deadline := time.NewTimer(time.Duration(wait) * time.Second)
	defer deadline.Stop()
	for {
		// First the channel, then the look: a change in between is not missed.
		changed, leave, ok := s.wakeups.wait(c.account.ID, c.token, s.o.Limits)
		if !ok {
			return api.Limited(api.CodeRateLimited, time.Second, "too many calls wait")
		}
		more, err := s.answerChanges(c, after, wait > 0)
		if err != nil || !more {
			leave()
			return err
		}
		s.metrics.waiters.Inc()
		again := s.sleep(c, changed, deadline.C)
		s.metrics.waiters.Dec()
		leave()
		if !again {
			c.begin(http.StatusNoContent)
			return nil
		}
	}
}

// answerChanges answers unless there is nothing and it may wait.
func (s *Server) answerChanges(c *call, after int64, mayWait bool) (wait bool, err error) {
	out, err := s.o.DB.Changes(c.ctx(), c.account.ID, after, api.MaxChanges)
	if err != nil {
		return false, err
	}
	if len(out.Changes) == 0 && mayWait {
		return true, nil
	}
	if len(out.Changes) == 0 && after == out.Head {
		c.begin(http.StatusNoContent)
		return false, nil
	}
	writeJSON(c, http.StatusOK, out)
	return false, nil
}

// sleep says whether to look again.
func (s *Server) sleep(c *call, changed <-chan struct{}, deadline <-chan time.Time) bool {
	select {
	case <-changed:
		return true
	case <-deadline:
	case <-s.drained:
	case <-c.ctx().Done():
	}
	return false
}
