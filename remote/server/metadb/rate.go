package metadb

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// Limit is how much of a class an account may use in a window.
type Limit struct {
	Class  string
	Max    int64 // calls or bytes; 0: no limit
	Window time.Duration
}

// buckets is how finely a window of many calls or of bytes is kept; one of few
// calls keeps each.
const buckets, exactCalls = 60, 30

// taken is an amount that was used at a time, ms since 1970.
type taken struct {
	At int64 `json:"t"`
	N  int64 `json:"n"`
}

// Slot is what was taken of a class, to be given back if it came to nothing.
type Slot struct {
	Limit
	At int64 // ms since 1970
	N  int64
}

// Take uses n of a class if that is left. Otherwise it is api's rate_limited
// with the time after which it will be, and nothing is used.
func (db *DB) Take(ctx context.Context, account int64, l Limit, n int64) (s Slot, err error) {
	s = Slot{Limit: l, N: n}
	if l.Max == 0 {
		return s, nil
	}
	err = db.update(ctx, func(q *querier) error {
		s.At = q.ms
		if err := q.lock(account); err != nil {
			return err
		}
		list, err := q.takenOf(account, l)
		if err != nil {
			return err
		}
		if wait := l.wait(list, n, q.ms); wait > 0 {
			return api.Limited(api.CodeRateLimited, wait, "%s: %d in %s are used up", l.Class, l.Max, l.Window)
		}
		return q.putTaken(account, l, l.add(list, n, q.ms))
	})
	return s, err
}

// Return gives back what a call took that came to nothing: that very use, so that
// the others end when they would have.
func (db *DB) Return(ctx context.Context, account int64, s Slot) error {
	l := s.Limit
	if l.Max == 0 {
		return nil
	}
	return db.update(ctx, func(q *querier) error {
		if err := q.lock(account); err != nil {
			return err
		}
		list, err := q.takenOf(account, l)
		if err != nil {
			return err
		}
		n := s.N
		for i := len(list) - 1; i >= 0 && n > 0; i-- {
			if l.same(list[i].At, s.At) {
				back := min(n, list[i].N)
				list[i].N -= back
				n -= back
			}
		}
		list = slices.DeleteFunc(list, func(t taken) bool { return t.N == 0 })
		return q.putTaken(account, l, list)
	})
}

// Used gives what is used of a class now, and when the next of it is free.
func (db *DB) Used(ctx context.Context, account int64, l Limit) (used, reset int64, err error) {
	err = db.view(ctx, account, func(q *querier) error {
		list, err := q.takenOf(account, l)
		for _, t := range list {
			used += t.N
		}
		if len(list) > 0 {
			reset = list[0].At + l.Window.Milliseconds()
		}
		return err
	})
	return used, reset, err
}

// takenOf reads what was used within the window.
func (q *querier) takenOf(account int64, l Limit) (list []taken, err error) {
	var text string
	err = q.one("SELECT times FROM rate WHERE account=$1 AND class=$2", []any{account, l.Class}, &text)
	if err == ErrNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, err
	}
	start := q.ms - l.Window.Milliseconds()
	for len(list) > 0 && list[0].At <= start {
		list = list[1:]
	}
	return list, nil
}

func (q *querier) putTaken(account int64, l Limit, list []taken) error {
	text, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return q.must("INSERT INTO rate(account,class,times) VALUES($1,$2,$3) ON CONFLICT(account,class) DO UPDATE SET times=excluded.times",
		account, l.Class, string(text))
}

// wait says after how long n more will be within the limit; 0: now.
func (l Limit) wait(list []taken, n, now int64) time.Duration {
	used := n
	for _, t := range list {
		used += t.N
	}
	for _, t := range list {
		if used <= l.Max {
			break
		}
		used -= t.N
		if used <= l.Max {
			return time.Duration(t.At+l.Window.Milliseconds()-now) * time.Millisecond
		}
	}
	if used <= l.Max {
		return 0
	}
	return l.Window // more than the limit at once: never, so ask no sooner
}

// add counts a use: each for itself where there are few, else in buckets, whose
// time is that of their last use, so that no window ever holds more than Max.
// The list is by time: one that waited for the account, or came by a process with
// another clock, goes in before those that were faster.
func (l Limit) add(list []taken, n, now int64) []taken {
	i := len(list)
	for i > 0 && list[i-1].At > now {
		i--
	}
	for _, j := range []int{i - 1, i} {
		if l.Max > exactCalls && j >= 0 && j < len(list) && l.same(list[j].At, now) {
			list[j].At = max(list[j].At, now)
			list[j].N += n
			return list
		}
	}
	return slices.Insert(list, i, taken{At: now, N: n})
}

// same says whether two uses are counted together.
func (l Limit) same(a, b int64) bool {
	return a == b || l.Max > exactCalls && a/l.bucket() == b/l.bucket()
}

func (l Limit) bucket() int64 { return max(1, l.Window.Milliseconds()/buckets) }
