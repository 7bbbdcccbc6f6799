package syncer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

const (
	clockCorrect = 5 * time.Minute // beyond it the remote's clock counts
	clockStop    = 24 * time.Hour  // beyond it nothing is sealed
)

// pull asks the remote what is new and takes it.
func (e *Engine) pull(ctx context.Context, reconcile bool) error {
	if reconcile {
		e.cond.doubt(CondUnknown, CondStale, CondNewer, CondPeerClock, CondAltered, CondLocal)
	}
	for all := reconcile; ; {
		ch, err := e.changes(ctx, reconcile)
		if errors.Is(err, ErrStartOver) {
			ch, err = e.fromStart(ctx, err)
		}
		if err != nil {
			return err
		}
		if err := e.takeChanges(ctx, ch, reconcile); err != nil {
			return err
		}
		if !ch.More {
			if all {
				e.cond.settle() // whatever is still so was met again
			}
			return nil
		}
		reconcile = false
	}
}

// fromStart goes on when the cursor is older than what the remote keeps: all that
// is there is listed anew, and a checkpoint covers what is not.
func (e *Engine) fromStart(ctx context.Context, cause error) (Changes, error) {
	e.meet(cause)
	e.mu.Lock()
	e.cursor = nil
	e.mu.Unlock()
	ch, err := e.changes(ctx, true)
	if err != nil {
		return Changes{}, err
	}
	if err := e.takeCheckpoints(ctx, slices.DeleteFunc(slices.Clone(ch.List), func(c Change) bool { return c.Kind != KindCheckpoint })); err != nil {
		return Changes{}, err
	}
	if err := e.startOver(ctx); err != nil {
		return Changes{}, err
	}
	e.cond.clear(CondStartOver)
	return ch, nil
}

func (e *Engine) changes(ctx context.Context, reconcile bool) (Changes, error) {
	wait, cursor := time.Duration(0), []byte(nil)
	if reconcile {
		wait = Reconcile
	}
	e.mu.Lock()
	cursor = e.cursor
	e.mu.Unlock()
	call, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	return e.o.Remote.Changes(call, cursor, wait)
}

// takeChanges takes headers, then batches. The cursor is stored when all of them
// are in the database, and goes on in memory when they were at least seen.
func (e *Engine) takeChanges(ctx context.Context, ch Changes, reconcile bool) error {
	e.heedClock(ch)
	if reconcile {
		if err := e.takeGone(ctx, ch.Gone); err != nil {
			return err
		}
	}
	var headers []uint64
	var checkpoints []Change
	var rows []Row
	news := make(map[seal.ID][]uint64)
	for _, c := range ch.List {
		switch c.Kind {
		case KindHeader:
			headers = append(headers, c.Seq)
		case KindBatch:
			if id, err := seal.ParseUUID(c.Device); err == nil {
				news[id] = append(news[id], c.Seq)
			}
		case KindCheckpoint:
			checkpoints = append(checkpoints, c)
		case KindRow:
			rows = append(rows, *c.Row)
		case KindBlob:
			e.wantSoon()
		}
	}
	slices.Sort(headers)
	if err := e.takeHeaders(ctx, headers); err != nil {
		return err
	}
	if reconcile { // one that was refused is not told of again
		if err := e.waitingHeaders(ctx); err != nil {
			return err
		}
		if _, err := e.nextHeaders(ctx); err != nil {
			return err
		}
	}
	if err := e.takeCheckpoints(ctx, checkpoints); err != nil {
		return err
	}
	whole, err := e.takeBatches(ctx, news, reconcile)
	if err != nil {
		return err
	}
	if len(ch.List) > 0 || reconcile {
		if err := e.comparePoints(ctx); err != nil {
			return err
		}
	}
	if err := e.o.Vault.NoteServerRows(ctx, rows); err != nil {
		return err
	}
	e.mu.Lock()
	e.cursor, e.whole, e.rows.atEnd = ch.Next, whole, !ch.More
	e.rows.all = e.rows.all || reconcile
	e.rows.due = e.rows.due || reconcile || len(ch.List) > 0
	e.spent.due = e.spent.due || reconcile || len(ch.List) > 0
	remote := e.remote
	e.mu.Unlock()
	if !whole {
		return nil
	}
	if reconcile && !ch.More {
		if err := e.tellBoot(ctx); err != nil {
			e.o.Log.Warn("boot token not renewed", "err", err)
		}
		if err := e.helpRewrap(ctx); err != nil {
			return err
		}
	}
	return e.o.Vault.SetCursor(ctx, remote, ch.Next)
}

// wantSoon has what is wanted looked at again.
func (e *Engine) wantSoon() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.refresh = true
}

// heedClock takes the remote's clock for the truth if ours is far off.
func (e *Engine) heedClock(ch Changes) {
	if ch.Clock.IsZero() || ch.At.IsZero() {
		return
	}
	ahead := ch.Clock.Sub(ch.At)
	wrong := ahead.Abs() > clockStop
	e.mu.Lock()
	e.clockTooWrong = wrong
	e.mu.Unlock()
	switch {
	case wrong:
		e.cond.set(CondClock, fmt.Sprintf("the clock of this machine is off by %v; nothing is published until it is right", ahead.Round(time.Minute)), "set the date and time")
	case ahead.Abs() > clockCorrect:
		e.o.Vault.CorrectClock(ahead)
	default:
		e.o.Vault.CorrectClock(0)
	}
}

// takeGone tells of what was there and is not any more. It is never a deletion.
// What was never accepted here is no loss.
func (e *Engine) takeGone(ctx context.Context, gone []Change) error {
	heads, err := e.o.Vault.Heads(ctx)
	if err != nil {
		return err
	}
	known, _ := e.o.Vault.HeaderSeq()
	gone = slices.DeleteFunc(slices.Clone(gone), func(c Change) bool {
		switch c.Kind {
		case KindHeader:
			return c.Seq > known
		case KindBatch:
			id, err := seal.ParseUUID(c.Device)
			return err != nil || c.Seq > heads[id].Seq
		}
		return false
	})
	if len(gone) == 0 {
		e.cond.clear(CondLost)
		return nil
	}
	text := "the remote has lost what was there: it was put back from a copy, or somebody deleted there"
	for _, c := range gone {
		switch c.Kind {
		case KindHeader:
			text += fmt.Sprintf("; header %d", c.Seq)
		case KindBatch:
			text += fmt.Sprintf("; batch %d of device %s", c.Seq, c.Device)
		}
	}
	hint := "nothing here is touched; run `vaultdrive sync now --heal` on each device to put back what it holds"
	e.cond.raise(CondLost, text, hint)
	return nil
}
