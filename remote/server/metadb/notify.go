package metadb

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// channel is PostgreSQL's, for changes of accounts.
const channel = "vaultdrive_changes"

// maxPayload is below PostgreSQL's 8,000 bytes.
const maxPayload = 7900

// Shared says that other processes may use the database at the same time, and
// that they are to be told of changes.
func (db *DB) Shared() bool { return db.pool != nil }

// Notify tells the other processes that these accounts have changed. It stands
// outside of the transactions of the changes, which would queue for it; one that
// gets lost costs one wait of a long poll.
func (db *DB) Notify(ctx context.Context, accounts []int64) error {
	var b strings.Builder
	for i, id := range accounts {
		b.WriteString(strconv.FormatInt(id, 10))
		if b.Len() > maxPayload-24 || i == len(accounts)-1 {
			if _, err := db.pool.Exec(ctx, "SELECT pg_notify($1,$2)", channel, b.String()); err != nil {
				return err
			}
			b.Reset()
			continue
		}
		b.WriteByte(',')
	}
	return nil
}

// Listen calls fn for every account of which another process, or this one, tells.
// It returns when ctx ends or the connection is lost; the caller comes again.
func (db *DB) Listen(ctx context.Context, fn func(account int64)) error {
	pooled, err := db.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	conn := pooled.Hijack() // nobody else shall get one that listens
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if err := holdOn(ctx, conn, false); err != nil { // that of Hold may have got lost with its connection
		return err
	}
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return err
	}
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		for text := range strings.SplitSeq(n.Payload, ",") {
			if id, err := strconv.ParseInt(text, 10, 64); err == nil {
				fn(id)
			}
		}
	}
}
