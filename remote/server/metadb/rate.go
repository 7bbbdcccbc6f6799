package metadb

import (
	"context"
	"encoding/json"
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

// Take uses n of a class if that is left. Otherwise it is api's rate_limited
// with the time after which it will be, and nothing is used.
func (db *DB) Take(ctx context.Context, account int64, l Limit, n int64) error {
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
		if wait := l.wait(list, n, q.ms); wait > 0 {
			return api.Limited(api.CodeRateLimited, wait, "%s: %d in %s are used up", l.Class, l.Max, l.Window)
		}
		return q.putTaken(account, l, l.add(list, n, q.ms))
	})
}

// Return gives back what a call took that came to nothing.
func (db *DB) Return(ctx context.Context, account int64, l Limit, n int64) error {
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
		for i := len(list) - 1; i >= 0 && n > 0; i-- {
			back := min(n, list[i].N)
			list[i].N -= back
			n -= back
		}
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
	for len(list) > 0 && (list[0].At <= start || list[0].N == 0) {
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
func (l Limit) add(list []taken, n, now int64) []taken {
	if last := len(list) - 1; last >= 0 && l.Max > exactCalls && now/l.bucket() == list[last].At/l.bucket() {
		list[last].At = now
		list[last].N += n
		return list
	}
	return append(list, taken{At: now, N: n})
}

func (l Limit) bucket() int64 { return max(1, l.Window.Milliseconds()/buckets) }
