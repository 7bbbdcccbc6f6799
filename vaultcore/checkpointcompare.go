package vaultcore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/history"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// NoteCheckpoint enters a checkpoint that is on the remote, by its last part,
// and compares it with our log as soon as that reaches so far. One that says
// something else is kept with that verdict and is an alarm. Errors: ErrCheckpoint
// for a last part under another name; those of seal, ErrUnknownDevice,
// ErrStaleEpoch and ErrNewEpoch for one that does not count.
func (v *Vault) NoteCheckpoint(ctx context.Context, id CheckpointID, last []byte) error {
	if err := v.writable(); err != nil {
		return err
	}
	l, err := v.lockLedger(ctx)
	if err != nil {
		return err
	}
	defer l.mu.Unlock()
	_, _, err = l.note(id, last)
	if err != nil {
		// One that a new epoch has left behind is nobody's fault.
		if !errors.Is(err, ErrStaleEpoch) || l.revoked(id.Device) {
			v.journal(err)
		}
		return err
	}
	return l.compareAll()
}

// note stores the last part of a checkpoint that is on the remote.
func (l *ledger) note(id CheckpointID, last []byte) (c int64, end *seal.Checkpoint, err error) {
	b, end, err := l.openEnd(last)
	if err != nil {
		return 0, nil, err
	}
	if b.Device != id.Device || end.Heads[b.Device].Seq != id.Seq {
		return 0, nil, fmt.Errorf("%w: its name is %d of device %s, it is of device %s", ErrCheckpoint, id.Seq, id.Device, b.Device)
	}
	_, err = l.v.com.do(func(t *txn) error {
		old, err := t.one("SELECT frame FROM checkpoints WHERE device=? AND seq=?", id.Device[:], int64(id.Seq))
		if err != nil {
			return err
		}
		switch was, _ := old.([]byte); {
		case old == nil:
			err = t.putCheckpoint(b, end, checkpointPushed)
		case !bytes.Equal(was, last):
			return fmt.Errorf("%w: two checkpoints %d of device %s", ErrCheckpoint, id.Seq, id.Device)
		}
		if err != nil {
			return err
		}
		n, err := t.one("SELECT c FROM checkpoints WHERE device=? AND seq=?", id.Device[:], int64(id.Seq))
		c, _ = n.(int64)
		return err
	})
	return c, end, err
}

func (t *txn) putCheckpoint(b *seal.Batch, end *seal.Checkpoint, state int) error {
	return t.exec("INSERT INTO checkpoints(device,seq,hlc,parts,state,verdict,held,frame) VALUES(?,?,?,?,?,0,0,?)",
		b.Device[:], int64(end.Heads[b.Device].Seq), int64(end.HLC), int64(end.Parts), int64(state), b.Bytes)
}

// CompareCheckpoints compares those known with our log that were not yet.
func (v *Vault) CompareCheckpoints(ctx context.Context) error {
	l, err := v.lockLedger(ctx)
	if err != nil {
		return err
	}
	defer l.mu.Unlock()
	return l.compareAll()
}

func (l *ledger) compareAll() error {
	all, err := l.checkpoints()
	if err != nil {
		return err
	}
	for i := range all {
		if all[i].Verdict != NotCompared || !l.covers(all[i].Heads) {
			continue
		}
		frame, err := l.endOf(all[i].c)
		if err != nil {
			return err
		}
		b, end, err := l.openEnd(frame)
		if err != nil {
			return err
		}
		verdict := Agrees
		if err := l.compare(b, end); err != nil {
			verdict = Disagrees
			l.v.alarm("checkpoint", err.Error())
		}
		_, err = l.v.com.do(func(t *txn) error {
			return t.exec("UPDATE checkpoints SET verdict=? WHERE c=?", int64(verdict), all[i].c)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *ledger) endOf(c int64) (frame []byte, err error) {
	err = l.read("SELECT frame FROM checkpoints WHERE c=?", func(s *rowScanner) { frame = bytes.Clone(s.blob()) }, c)
	return frame, err
}

// covers says whether we hold all that some heads cover and dropped none of it.
func (l *ledger) covers(heads map[seal.ID]uint64) bool {
	for id, seq := range heads {
		if l.peer(id).head.Seq < seq {
			return false
		}
	}
	for id, seq := range l.base.heads {
		if heads[id] < seq {
			return false
		}
	}
	return true
}

// compare holds a checkpoint against our log, which covers it.
func (l *ledger) compare(b *seal.Batch, end *seal.Checkpoint) error {
	for id, h := range end.Heads {
		if same, known := l.knows(id, h.Head); known && !same {
			return fmt.Errorf("%w: that of device %s names another batch %d of device %s", ErrCheckpoint, b.Device, h.Seq, id)
		}
		// Whoever took back a revoked device's last batches has seen more of its
		// chain than others; it is over, so nothing is held against that any more.
		dev, err := l.rosterEntry(id)
		p := l.peer(id)
		if err == nil && !dev.Revoked && p.head.Seq == h.Seq && (p.epoch != h.Epoch || p.hlc != h.HLC || !bytes.Equal(encodeSeen(p.seen), encodeSeen(h.Seen))) {
			return fmt.Errorf("%w: that of device %s tells otherwise of the chain of device %s", ErrCheckpoint, b.Device, id)
		}
	}
	if l.state(covered(end.Heads)) != end.State {
		return fmt.Errorf("%w: by that of device %s up to its batch %d, the vault is another", ErrCheckpoint, b.Device, end.Heads[b.Device].Seq)
	}
	return nil
}

// covered takes the batches up to some heads.
func covered(heads map[seal.ID]seal.Chain) func(history.At) bool {
	return func(at history.At) bool { return at.Seq <= heads[at.Device].Seq }
}

// baseAge is how old a checkpoint is before it stands for the log.
const baseAge = 30 * 24 * time.Hour

// ChooseBase gives the checkpoint that may stand for the batches it covers: the
// newest that is older than 30 days and has a successor, none of the two with
// an alarm, and covers what the base does; false if there is none, or it is the
// base already.
func ChooseBase(known []Checkpoint, now time.Time) (Checkpoint, bool) {
	known = slices.DeleteFunc(slices.Clone(known), func(c Checkpoint) bool { return c.Verdict == Disagrees || !c.Pushed })
	slices.SortFunc(known, func(a, b Checkpoint) int {
		return cmp.Or(a.Made.Compare(b.Made), bytes.Compare(a.Device[:], b.Device[:]))
	})
	var base Checkpoint
	if i := slices.IndexFunc(known, func(c Checkpoint) bool { return c.Base }); i >= 0 {
		base = known[i]
	}
	for i := len(known) - 1; i >= 0; i-- {
		c := known[i]
		if !c.follows(&base) {
			continue
		}
		if now.Sub(c.Made) <= baseAge || !slices.ContainsFunc(known[i+1:], func(s Checkpoint) bool { return s.follows(&c) }) {
			continue
		}
		return c, !c.Base
	}
	return Checkpoint{}, false
}

// follows says whether a checkpoint covers all that another does.
func (c *Checkpoint) follows(o *Checkpoint) bool {
	for id, seq := range o.Heads {
		if c.Heads[id] < seq {
			return false
		}
	}
	return true
}
