package metadb

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// announce gives a change the next number of the account's feed, in the
// transaction of the change itself: a sequence of the database would be
// overtaken by commits. subject is what the change is about; an older entry
// about the same goes.
func (q *querier) announce(account int64, subject string, c api.Change) (int64, error) {
	q.book.now.head++
	c.N = q.book.now.head
	entry, err := json.Marshal(c)
	if err != nil {
		return 0, err
	}
	return c.N, q.must(`INSERT INTO feed(account,subject,n,entry) VALUES($1,$2,$3,$4)
		ON CONFLICT(account,subject) DO UPDATE SET n=excluded.n, entry=excluded.entry`, account, subject, c.N, string(entry))
}

// Changes gives the feed after a number. Error: api's start_over for a number
// that was never given: the server was put back to an older state; account_disabled.
func (db *DB) Changes(ctx context.Context, account, after int64, limit int) (out api.Changes, err error) {
	err = db.view(ctx, account, func(q *querier) error {
		out = api.Changes{Changes: []api.Change{}}
		var disabled int64
		if err := q.one("SELECT head,disabled FROM accounts WHERE account=$1", []any{account}, &out.Head, &disabled); err != nil {
			return err
		}
		if disabled != 0 { // a long poll may have begun before
			return errDisabled
		}
		if after > out.Head {
			e := api.Errorf(api.CodeStartOver, "the feed ends at %d", out.Head)
			e.Head = &out.Head
			return e
		}
		var entry string
		err := q.each("SELECT entry FROM feed WHERE account=$1 AND n>$2 ORDER BY n LIMIT $3", []any{account, after, limit + 1}, func() error {
			if len(out.Changes) == limit {
				out.More = true
				return errStop
			}
			var c api.Change
			if err := json.Unmarshal([]byte(entry), &c); err != nil {
				return err
			}
			out.Changes = append(out.Changes, c)
			out.Head = max(out.Head, c.N) // one may have come since the look at the head
			return nil
		}, &entry)
		if errors.Is(err, errStop) {
			return nil
		}
		return err
	})
	return out, err
}

// errStop ends a query early.
var errStop = errors.New("stop")
