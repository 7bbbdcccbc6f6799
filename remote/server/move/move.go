// Package move brings a server's data from one database and store of blobs to
// others, and verifies what it brought.
//
// It refuses to know HTTP, where the databases and stores are, and what is in the
// blobs.
package move

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/server/metadb"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// Errors that say what is the matter; those of metadb and blob come through.
var (
	// ErrOccupied: what is there already belongs to another server, or to one
	// that went on after a move.
	ErrOccupied = errors.New("the destination is not empty")
	// ErrDamaged: the source lacks blobs, or has others than it should.
	ErrDamaged = errors.New("blobs of the source are missing or damaged")
	// ErrDiffers: what was written does not read back alike.
	ErrDiffers = errors.New("the destination does not hold what was written")
)

// Place is where a server keeps its data. Nobody else may use it meanwhile.
type Place struct {
	DB    *metadb.DB
	Blobs blob.Store
	// How people write the two, without passwords.
	Database, Store string
}

// Options say what to move.
type Options struct {
	From, To Place
	// Kept: the blobs stay in the one store that both places name.
	Kept bool
	// SkipDamaged goes on without blobs that the source lacks or has damaged:
	// devices that hold them are asked to bring them again.
	SkipDamaged bool
	// Verify reads back every blob, also those of an earlier run.
	Verify bool
	// Fresh draws the id of a server that has none.
	Fresh func() string
	Now   func() time.Time
	// Blobs and Accounts are told of progress, from any goroutine; nil: nobody.
	Blobs    func(doneBytes, allBytes int64)
	Accounts func(done, all int)
}

// Report is what a move came to.
type Report struct {
	Accounts    int       `json:"accounts"`
	Rows        int64     `json:"rows"`
	Blobs       int64     `json:"blobs"`
	Bytes       int64     `json:"bytes"`
	CopiedBlobs int64     `json:"copied_blobs"` // of them by this run
	CopiedBytes int64     `json:"copied_bytes"`
	Damaged     []Damaged `json:"damaged"` // left out
}

// Damaged is a blob that the source has not as it should.
type Damaged struct {
	Key    string `json:"key"`
	Reason string `json:"reason"` // missing, length, hash
}

// mover is one run.
type mover struct {
	o       Options
	server  string
	resumed bool // an earlier run has begun
	Report
}

// Run moves, or goes on where an earlier run was cut short. At its end the source
// is marked as moved and otherwise as it was. Until then it can serve again, and
// the next run takes over what has changed.
func Run(ctx context.Context, o Options) (Report, error) {
	m := &mover{o: o, Report: Report{Damaged: []Damaged{}}}
	err := m.run(ctx)
	return m.Report, err
}

func (m *mover) run(ctx context.Context) (err error) {
	if m.server, err = m.o.From.DB.ServerID(ctx, m.o.Fresh); err != nil {
		return fmt.Errorf("source: %w", err)
	}
	done, err := m.arrive(ctx)
	if err != nil {
		return err
	}
	if done {
		return m.depart(ctx, m.sameAccounts)
	}
	if err := m.copyBlobs(ctx); err != nil {
		return err
	}
	return m.depart(ctx, m.copyAccounts)
}

// arrive claims the destination. done: an earlier run was cut short only before
// it marked the source.
func (m *mover) arrive(ctx context.Context) (done bool, err error) {
	to := m.o.To
	a, under, server, err := to.DB.Arriving(ctx)
	switch {
	case errors.Is(err, metadb.ErrOccupied):
		return false, fmt.Errorf("%w: %s: %w", ErrOccupied, to.Database, err)
	case err != nil:
		return false, fmt.Errorf("destination: %w", err)
	case under && a.Server != m.server || !under && server != "" && server != m.server:
		return false, fmt.Errorf("%w: %s: %w", ErrOccupied, to.Database, metadb.ErrOccupied)
	case server == m.server && !under:
		return true, nil
	}
	m.resumed = under && a.Blobs == to.Store
	if err := m.probe(ctx); err != nil {
		return false, fmt.Errorf("destination: %w", err)
	}
	if err := to.DB.BeginArrival(ctx, metadb.Arrival{Server: m.server, Blobs: to.Store}); err != nil {
		return false, fmt.Errorf("destination: %w", err)
	}
	return false, nil
}

// probe finds out before hours of work whether the store takes anything, and
// that no other server has its blobs in it: each would take the other's for
// garbage.
func (m *mover) probe(ctx context.Context) error {
	if m.o.Kept {
		return nil
	}
	if !m.resumed {
		for attrs, err := range m.o.To.Blobs.List(ctx, "vaults/", "") {
			if err != nil {
				return err
			}
			return fmt.Errorf("%w: %s has %s", ErrOccupied, m.o.To.Store, attrs.Key)
		}
	}
	return putProbe(ctx, m.o.To.Blobs)
}

// copyAccounts brings the accounts over that differ, and compares.
func (m *mover) copyAccounts(ctx context.Context, ids []int64) error {
	for i, id := range ids {
		m.tellAccounts(i, len(ids))
		want, same, err := m.compare(ctx, id)
		if err != nil {
			return err
		}
		if !same || m.o.Kept { // the queue of objects to delete is not compared
			if err := m.o.From.DB.CopyAccount(ctx, m.o.To.DB, id, m.o.Kept); err != nil {
				return fmt.Errorf("destination: %w", err)
			}
			if _, same, err = m.compare(ctx, id); err != nil {
				return err
			}
		}
		if !same {
			return fmt.Errorf("account %d: %w", id, ErrDiffers)
		}
		m.Rows += want.Rows
	}
	m.tellAccounts(len(ids), len(ids))
	for _, d := range m.Damaged {
		if err := m.o.To.DB.Missing(ctx, d.Key); err != nil {
			return fmt.Errorf("destination: %w", err)
		}
	}
	if err := m.o.To.DB.EndArrival(ctx, m.o.From.DB); err != nil {
		return fmt.Errorf("destination: %w", err)
	}
	return nil
}

// sameAccounts: a server that went on from the destination has more than the
// source, and must not lose it.
func (m *mover) sameAccounts(ctx context.Context, ids []int64) error {
	for _, id := range ids {
		d, same, err := m.compare(ctx, id)
		if err != nil {
			return err
		}
		if !same {
			return fmt.Errorf("%w: %s was moved to already, and both went on since", ErrOccupied, m.o.To.Database)
		}
		m.Rows += d.Rows
	}
	var err error
	m.Blobs, m.Bytes, err = m.o.From.DB.ObjectTotals(ctx)
	return err
}

func (m *mover) compare(ctx context.Context, id int64) (want metadb.Digest, same bool, err error) {
	if want, err = m.o.From.DB.Digest(ctx, id); err != nil {
		return want, false, fmt.Errorf("source: %w", err)
	}
	got, err := m.o.To.DB.Digest(ctx, id)
	if err != nil {
		return want, false, fmt.Errorf("destination: %w", err)
	}
	return want, got == want, nil
}

// depart brings the accounts and then marks the source.
func (m *mover) depart(ctx context.Context, accounts func(context.Context, []int64) error) error {
	ids, err := m.o.From.DB.AccountIDs(ctx)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	there, err := m.o.To.DB.AccountIDs(ctx)
	if err != nil {
		return fmt.Errorf("destination: %w", err)
	}
	for _, id := range there {
		if !slices.Contains(ids, id) {
			return fmt.Errorf("%w: %s has an account that the source has not", ErrOccupied, m.o.To.Database)
		}
	}
	if err := accounts(ctx, ids); err != nil {
		return err
	}
	m.Accounts = len(ids)
	err = m.o.From.DB.Depart(ctx, metadb.Departure{Database: m.o.To.Database, Blobs: m.o.To.Store, Time: m.o.Now().UTC().Format(time.RFC3339)})
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	return nil
}

func (m *mover) tellAccounts(done, all int) {
	if m.o.Accounts != nil {
		m.o.Accounts(done, all)
	}
}
