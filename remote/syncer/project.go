package syncer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

const (
	rowsEvery  = time.Second // between two looks at the remote's rows
	rowsRounds = 4           // tries of SyncNow, which pulls in between
	staleLimit = 3           // refusals in a row, after which the remote is read anew
)

// rowState is how far the remote's rows say what the log says; Engine.mu guards
// it.
type rowState struct {
	due      bool // there may be something to write or to compare
	all      bool // also what other devices should have written by now
	atEnd    bool // the last look went to the end of the changes
	failures int
	stale    int // refusals of rows that were not as read, without any success
	again    time.Time
}

// projectIdle writes the rows that are due, when nothing else is.
func (e *Engine) projectIdle(ctx context.Context) {
	e.mu.Lock()
	due := e.caps.Rows && (e.rows.due && !e.o.Now().Before(e.rows.again) || e.spentDue())
	e.mu.Unlock()
	if !due || e.take(ctx) != nil {
		return
	}
	defer e.give()
	if e.project(ctx) == nil { // else it is tried again
		_ = e.releaseSpent(ctx, false)
	}
}

// projectNow is for SyncNow: it pulls where others were faster.
func (e *Engine) projectNow(ctx context.Context) (err error) {
	e.mu.Lock()
	rows := e.caps.Rows
	e.mu.Unlock()
	if !rows || e.cond.has(stopping()...) {
		return nil
	}
	if err := e.take(ctx); err != nil {
		return err
	}
	defer e.give()
	for range rowsRounds {
		if err = e.project(ctx); err == nil {
			return e.releaseSpent(ctx, true)
		}
		if ctx.Err() != nil {
			return err
		}
		if err := e.round(ctx, step{poll: true, push: true}); err != nil {
			return err
		}
	}
	return fmt.Errorf("rows for clients without the log: %w", err)
}

// project makes the remote's rows say what the log says, and tells of those that
// no device can have written. What a row says is taken over by the user alone. The
// turn is held.
func (e *Engine) project(ctx context.Context) error {
	altered, done, err := e.projectSome(ctx, e.o.Vault.ServerWork)
	if done || err != nil {
		e.projected(altered, err)
	}
	return err
}

// projectSome does it for what work finds; done: that was all of it.
func (e *Engine) projectSome(ctx context.Context, work func(ctx context.Context, all bool, max int) (vaultcore.ServerWork, error)) (altered, done bool, err error) {
	news := 0
	for more := true; more && err == nil; {
		cursor, all, ok := e.mayProject()
		if !ok {
			return altered, false, nil // as soon as it may
		}
		var w vaultcore.ServerWork
		if w, err = work(ctx, all, RowsAtOnce); err != nil {
			break
		}
		altered = e.tellRows(w.Faults) || altered
		if news += w.News; !w.More {
			e.tellUnverified(news)
		}
		if more = w.More; len(w.Rows)+len(w.Claim) > 0 {
			err = e.writeRows(ctx, w, cursor)
		}
	}
	return altered, err == nil, err
}

// mayProject: rows follow all that is published, ours and that of others.
func (e *Engine) mayProject() (cursor []byte, all, ok bool) {
	if !e.mayWrite() {
		return nil, false, false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.cursor, e.rows.all, e.caps.Rows && e.whole && e.rows.atEnd && !e.unpushed
}

func (e *Engine) writeRows(ctx context.Context, w vaultcore.ServerWork, cursor []byte) error {
	s := Settlement{Rows: w.Rows, Cursor: cursor}
	for _, b := range w.Claim {
		s.Claim = append(s.Claim, b.Hex())
	}
	call, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	done, err := e.o.Remote.Settle(call, s)
	if err != nil {
		return err
	}
	if len(done.Rows) != len(w.Rows) {
		return fmt.Errorf("%w: %d results for %d rows", ErrUnavailable, len(done.Rows), len(w.Rows))
	}
	if err := e.notThere(ctx, done.Unclaimed); err != nil {
		return err
	}
	var written []Row
	var claim []string
	var orphans []seal.ID
	var refused error
	for i, res := range done.Rows {
		if res.Refused == nil {
			w.Rows[i].Number = res.Number
			written = append(written, w.Rows[i])
			continue
		}
		refused = fmt.Errorf("row of %s: %w", w.Rows[i].ID.UUID(), res.Refused)
		if errors.Is(refused, ErrNoBlob) {
			claim = append(claim, w.Rows[i].Blob.Hex())
		} else if errors.Is(refused, ErrNoParent) {
			orphans = append(orphans, w.Rows[i].Parent)
		}
	}
	v := e.o.Vault
	if err := errors.Join(v.ServerRowsPut(ctx, written), v.ServerAssetsLost(ctx, orphans)); err != nil {
		return err
	}
	return errors.Join(refused, e.claim(ctx, claim), e.release(ctx, written, w.Release))
}

// release lets the server throw away what rows had that the user refused. It is
// done once: what stays after a failure goes when the remote is collected.
func (e *Engine) release(ctx context.Context, written []Row, of map[seal.ID]seal.ID) error {
	var blobs []string
	for i := range written {
		if b, ok := of[written[i].ID]; ok && !written[i].Asset {
			blobs = append(blobs, b.Hex())
		}
	}
	if len(blobs) == 0 {
		return nil
	}
	call, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	_, err := e.o.Remote.Settle(call, Settlement{Release: blobs})
	return err
}

// claim gets back contents that live files have and that lie in the remote's
// trash; what is gone there is sent again.
func (e *Engine) claim(ctx context.Context, blobs []string) error {
	if len(blobs) == 0 {
		return nil
	}
	call, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	done, err := e.o.Remote.Settle(call, Settlement{Claim: blobs})
	if err != nil {
		return err
	}
	return e.notThere(ctx, done.Unclaimed)
}

func (e *Engine) notThere(ctx context.Context, blobs []string) error {
	var ids []seal.ID
	for _, b := range blobs {
		if id, err := seal.ParseHex(b); err == nil {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	if err := e.o.Vault.NotThere(ctx, ids); err != nil {
		return err
	}
	return e.loadJobs(ctx)
}

// tellRows names what the remote's rows say wrongly, and says whether that was
// made up.
func (e *Engine) tellRows(faults []vaultcore.RowFault) (altered bool) {
	for _, f := range faults {
		switch {
		case f.Altered:
			altered = true
			e.o.Vault.Alarm("server-row", f.String()+"; the log counts, and the row is written again")
		case f.Asked:
			e.o.Vault.Report("delete-asked", f.String()+"; it stays until that is confirmed: vaultdrive adopt lists it")
		default:
			e.o.Vault.Report("server-row", f.String()+"; the row is written again")
		}
	}
	return altered
}

// tellUnverified names what came that no device has signed.
func (e *Engine) tellUnverified(n int) {
	if n > 0 {
		e.o.Vault.Report("unverified", fmt.Sprintf("new at the server, and signed by no device: %d; vaultdrive adopt lists them", n))
	}
}

// Decided says that the user has taken something over that the remote's rows
// said, or refused it: what the log says of it is due there.
func (e *Engine) Decided() {
	e.mu.Lock()
	e.rows.due, e.rows.again = true, time.Time{}
	if e.unsaid.IsZero() {
		e.unsaid = e.o.Now()
	}
	e.mu.Unlock()
	e.wake()
}

// projected notes how it went. Where others were faster the remote is asked
// first, and never without a pause that grows; so is one that alters what we
// write.
func (e *Engine) projected(altered bool, err error) {
	if err != nil {
		e.o.Log.Info("rows not written", "err", err)
		if gerr := e.gates.heed(gateLog, err); gerr != nil {
			e.o.Log.Warn("gate not kept", "err", gerr)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.o.Now()
	if err == nil && !altered {
		e.rows = rowState{atEnd: e.rows.atEnd, again: now.Add(rowsEvery)}
		return
	}
	e.rows.failures++
	e.rows.due = err != nil
	e.rows.again = now.Add(rowsEvery + backoff(e.rows.failures, rand.Float64()))
	if !errors.Is(err, ErrBehind) && !errors.Is(err, ErrStale) {
		return
	}
	e.soon = true
	if e.rows.stale++; errors.Is(err, ErrStale) && e.rows.stale >= staleLimit {
		e.cursor, e.rows.stale, e.rows.atEnd = nil, 0, false // what we know of it is wrong
	}
}
