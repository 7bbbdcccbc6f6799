package metadb

import (
	"context"
	"strconv"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

const (
	// baseAge is how old a checkpoint has to be before batches that it stands for may
	// go: a device that was away for less finds them all.
	baseAge = 30 * 24 * time.Hour
	// slowAge is how long it has been that base before the checkpoints behind it may
	// go too: a device whose clock is late, or that takes long, still reads them.
	slowAge = 7 * 24 * time.Hour
)

// Collect drops batches below heads, as far as they came before a checkpoint that
// is older than baseAge and has a successor. What is in a checkpoint is sealed:
// which of those batches it stands for, only the devices know. The checkpoints that
// came before it follow. It gives the batches and parts of checkpoints that went.
// Error: api's behind while there is no such checkpoint.
func (db *DB) Collect(ctx context.Context, account int64, heads map[string]uint64) (removed int, err error) {
	err = db.update(ctx, func(q *querier) error {
		removed = 0
		if err := q.lock(account); err != nil {
			return err
		}
		base, err := q.baseNumber(account, baseAge)
		if err != nil {
			return err
		}
		if base == 0 {
			return api.Errorf(api.CodeBehind, "batches go when a checkpoint of %d days ago is here, and a newer one", int(baseAge.Hours()/24))
		}
		for device, seq := range heads {
			n, err := q.dropBatches(account, device, int64(seq), base)
			if err != nil {
				return err
			}
			removed += int(n)
		}
		n, err := q.dropCheckpoints(account)
		removed += int(n)
		return err
	})
	return removed, err
}

// complete are the checkpoints that have all their parts, with their places in the
// feed.
const complete = ` FROM checkpoints c JOIN feed f ON f.account=c.account AND f.subject='checkpoint/' || c.name WHERE c.account=$1 AND c.part='m'`

// baseNumber is the feed's number of the newest checkpoint that is so old and has a
// successor, 0 for none.
func (q *querier) baseNumber(account int64, age time.Duration) (base int64, err error) {
	var newest int64
	if err := q.one("SELECT coalesce(max(f.n),0)"+complete, []any{account}, &newest); err != nil {
		return 0, err
	}
	err = q.one("SELECT coalesce(max(f.n),0)"+complete+" AND c.created<=$2 AND f.n<$3", []any{account, q.ms - age.Milliseconds(), newest}, &base)
	return base, err
}

func (q *querier) dropBatches(account int64, device string, below, before int64) (int64, error) {
	var freed int64
	if err := q.one("SELECT coalesce(sum(len),0) FROM batches WHERE account=$1 AND device=$2 AND seq<$3 AND n<$4", []any{account, device, below, before}, &freed); err != nil {
		return 0, err
	}
	var seq int64
	var gone []int64
	err := q.each("SELECT seq FROM batches WHERE account=$1 AND device=$2 AND seq<$3 AND n<$4", []any{account, device, below, before}, func() error {
		gone = append(gone, seq)
		return nil
	}, &seq)
	if err != nil {
		return 0, err
	}
	for _, s := range gone {
		if err := q.must("DELETE FROM feed WHERE account=$1 AND subject=$2", account, "batch/"+device+"/"+strconv.FormatInt(s, 10)); err != nil {
			return 0, err
		}
	}
	q.book.now.log -= freed
	return q.exec("DELETE FROM batches WHERE account=$1 AND device=$2 AND seq<$3 AND n<$4", account, device, below, before)
}

// dropCheckpoints drops those before the base, and parts that were left behind by
// somebody who never put the last one.
func (q *querier) dropCheckpoints(account int64) (removed int64, err error) {
	base, err := q.baseNumber(account, baseAge+slowAge)
	if err != nil {
		return 0, err
	}
	var name string
	var gone []string
	note := func() error { gone = append(gone, name); return nil }
	if err := q.each("SELECT c.name"+complete+" AND f.n<$2", []any{account, base}, note, &name); err != nil {
		return 0, err
	}
	err = q.each("SELECT name FROM checkpoints WHERE account=$1 GROUP BY name HAVING max(CASE WHEN part='m' THEN 1 ELSE 0 END)=0 AND max(created)<=$2",
		[]any{account, q.ms - (baseAge + slowAge).Milliseconds()}, note, &name)
	if err != nil {
		return 0, err
	}
	for _, name := range gone {
		n, err := q.dropCheckpoint(account, name)
		if err != nil {
			return 0, err
		}
		removed += n
	}
	return removed, nil
}

func (q *querier) dropCheckpoint(account int64, name string) (int64, error) {
	var freed int64
	if err := q.one("SELECT coalesce(sum(len),0) FROM checkpoints WHERE account=$1 AND name=$2", []any{account, name}, &freed); err != nil {
		return 0, err
	}
	if err := q.must("DELETE FROM feed WHERE account=$1 AND subject=$2", account, "checkpoint/"+name); err != nil {
		return 0, err
	}
	q.book.now.log -= freed
	return q.exec("DELETE FROM checkpoints WHERE account=$1 AND name=$2", account, name)
}
