package vaultcore

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/history"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Failures of checkpoints.
var (
	// ErrCheckpoint: a checkpoint says what the log does not, or leaves out what
	// it must not. Nothing is taken from it.
	ErrCheckpoint = errors.New("a checkpoint does not agree with the log")
	// ErrCheckpointOld: a checkpoint that covers less than is known here.
	ErrCheckpointOld = errors.New("a checkpoint is older than what is here")
)

// CheckpointID names a checkpoint.
type CheckpointID struct {
	Device seal.ID // its author, and
	Seq    uint64  // the author's last batch in it
}

// Verdict says how a checkpoint compares with our log.
type Verdict int

// Verdicts. One that is not compared covers what has not come, or what is
// dropped here.
const (
	NotCompared Verdict = iota
	Agrees
	Disagrees
)

// Checkpoint is one that is known.
type Checkpoint struct {
	CheckpointID
	Made    time.Time          // the newest clock in it
	Parts   int                // before the last
	Heads   map[seal.ID]uint64 // the batches it covers
	Verdict Verdict
	Pushed  bool // it is on the remote
	Held    bool // all of it is kept here
	Base    bool // it stands for the batches it covers
	Size    int64

	c int64 // its row
}

// States of a checkpoint in the database.
const (
	checkpointMade   = 1
	checkpointPushed = 2
)

// metaBase names the checkpoint that stands for the dropped part of the log.
const metaBase = "checkpoint_base"

// Checkpoints lists those known, the oldest first. Those whose author is not
// in the roster any more, or was revoked before it made them, are left out.
func (v *Vault) Checkpoints(ctx context.Context) ([]Checkpoint, error) {
	l, err := v.lockLedger(ctx)
	if err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	return l.checkpoints()
}

func (l *ledger) checkpoints() (out []Checkpoint, err error) {
	type row struct {
		Checkpoint
		frame []byte
	}
	var rows []row
	sql := "SELECT c,state,verdict,held,frame FROM checkpoints ORDER BY hlc,device,seq"
	err = l.read(sql, func(s *rowScanner) {
		var r row
		r.c, r.Pushed = s.num(), s.num() == checkpointPushed
		r.Verdict, r.Size = Verdict(s.num()), s.num()
		r.frame = bytes.Clone(s.blob())
		rows = append(rows, r)
	})
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		b, end, err := l.openEnd(r.frame)
		// The base stands for what it covers, whatever became of its author since.
		if err != nil && !(r.c == l.base.c && errors.Is(err, ErrStaleEpoch)) {
			continue
		}
		r.describe(b, end)
		r.Held, r.Base = r.Size > 0, r.c == l.base.c
		if !r.Held {
			r.Size = int64(r.Parts)*seal.PartTarget + int64(len(r.frame))
		}
		out = append(out, r.Checkpoint)
	}
	return out, nil
}

func (c *Checkpoint) describe(b *seal.Batch, end *seal.Checkpoint) {
	c.Device, c.Seq = b.Device, end.Heads[b.Device].Seq
	c.Parts, c.Made = int(end.Parts), time.UnixMilli(end.HLC.Millis()).UTC()
	c.Heads = make(map[seal.ID]uint64, len(end.Heads))
	for id, h := range end.Heads {
		c.Heads[id] = h.Seq
	}
}

// read runs a query on the reading connection.
func (l *ledger) read(sql string, fn func(*rowScanner), args ...dbValue) error {
	l.v.readMu.Lock()
	defer l.v.readMu.Unlock()
	if l.v.reader == nil {
		return ErrClosed
	}
	return l.v.reader.query(sql, func(c []dbValue) error {
		s := rowScanner{c: c}
		if fn(&s); s.bad {
			return fmt.Errorf("%w: row of the ledger", ErrDamaged)
		}
		return nil
	}, args...)
}

// openEnd opens the last part of a checkpoint and checks who wrote it. Errors:
// those of seal, ErrUnknownDevice, ErrStaleEpoch, ErrNewEpoch.
func (l *ledger) openEnd(frame []byte) (*seal.Batch, *seal.Checkpoint, error) {
	b, err := seal.ParsePart(l.v.keys.vaultID(), frame)
	if err != nil {
		return nil, nil, err
	}
	dev, err := l.rosterEntry(b.Device)
	if err != nil {
		return nil, nil, fmt.Errorf("checkpoint of device %s: %w", b.Device, err)
	}
	if b.Epoch > l.v.keys.epoch() {
		return nil, nil, fmt.Errorf("checkpoint of device %s: %w", b.Device, ErrNewEpoch)
	}
	var end *seal.Checkpoint
	err = l.v.keys.withEpoch(b.Epoch, func(k *seal.EpochKeys) (err error) {
		end, err = seal.OpenCheckpointEnd(k, ed25519.PublicKey(dev.PK[:]), b)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return b, end, l.checkStale(b, end)
}

// checkStale refuses a checkpoint that a change of the password or a revocation
// has left behind: like its author's batch of that number it does not count, or
// it covers batches that do not.
func (l *ledger) checkStale(b *seal.Batch, end *seal.Checkpoint) error {
	header := l.v.keys.header()
	for _, d := range header.Devices {
		h, covered := end.Heads[d.ID]
		cut := header.Cut[d.ID]
		old := d.ID == b.Device && b.Epoch < header.Epoch
		if covered && (d.Revoked || old) && h.Seq > cut.Seq {
			return fmt.Errorf("%w: checkpoint of device %s, batch %d of device %s", ErrStaleEpoch, b.Device, h.Seq, d.ID)
		}
	}
	return nil
}

// baseCheckpoint is the one that stands for what was dropped; c is 0 if nothing was.
type baseCheckpoint struct {
	id    CheckpointID
	c     int64
	heads map[seal.ID]uint64
	parts int // all of them
}

func newBase(c int64, b *seal.Batch, end *seal.Checkpoint) baseCheckpoint {
	return baseCheckpoint{CheckpointID{b.Device, end.Heads[b.Device].Seq}, c, heads(end.Heads), int(end.Parts) + 1}
}

// loadBase finds the base.
func (l *ledger) loadBase(c *conn) error {
	l.base, l.partNo = baseCheckpoint{}, 0
	n, err := c.one("SELECT value FROM meta WHERE key=?", metaBase)
	if err != nil || n == nil {
		return err
	}
	no, _ := n.(int64)
	frame, err := c.one("SELECT frame FROM checkpoints WHERE c=?", no)
	if err != nil {
		return err
	}
	b, _ := frame.([]byte)
	p, end, err := l.openEnd(b)
	// Whatever became of its author since, it was good when it was taken.
	if err != nil && !errors.Is(err, ErrStaleEpoch) {
		return fmt.Errorf("%w: base of the log: %w", ErrDamaged, err)
	}
	l.base = newBase(no, p, end)
	return nil
}

// placeKey orders as places do.
func placeKey(at *seal.At) []byte {
	b := append(make([]byte, 0, 26), at.Device[:]...)
	b = binary.BigEndian.AppendUint64(b, at.Seq)
	return binary.BigEndian.AppendUint16(b, uint16(at.Index))
}

// firstKey is that of the first op of a part; one without ops is behind all.
func firstKey(ops []seal.PlacedOp) []byte {
	if len(ops) == 0 {
		return bytes.Repeat([]byte{0xff}, 26)
	}
	return placeKey(&ops[0].At)
}

// CheckpointFrame gives a part of a checkpoint that is kept here, from 1; the
// last is number Parts+1. Whoever has it can put it on a remote again. Error:
// ErrNotFound.
func (v *Vault) CheckpointFrame(ctx context.Context, id CheckpointID, part int) ([]byte, error) {
	l, err := v.lockLedger(ctx)
	if err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	var frame []byte
	err = l.read(`SELECT p.bytes FROM checkpoint_parts p JOIN checkpoints k ON k.c=p.c WHERE k.device=? AND k.seq=? AND p.part=?`,
		func(s *rowScanner) { frame = bytes.Clone(s.blob()) }, id.Device[:], int64(id.Seq), int64(part))
	if err == nil && frame == nil {
		err = fmt.Errorf("%w: part %d of checkpoint %d of device %s", ErrNotFound, part, id.Seq, id.Device)
	}
	return frame, err
}

// CheckpointPushed notes that all of a checkpoint is on the remote. What was
// made here is not kept beyond that.
func (v *Vault) CheckpointPushed(ctx context.Context, id CheckpointID) error {
	l, err := v.lockLedger(ctx)
	if err != nil {
		return err
	}
	defer l.mu.Unlock()
	_, err = v.com.do(func(t *txn) error {
		c, err := t.one("SELECT c FROM checkpoints WHERE device=? AND seq=?", id.Device[:], int64(id.Seq))
		if err != nil || c == nil {
			return err
		}
		if err := t.exec("UPDATE checkpoints SET state=? WHERE c=?", int64(checkpointPushed), c); err != nil || c == l.base.c {
			return err
		}
		return t.dropParts(c.(int64))
	})
	return err
}

// dropParts forgets the frames of a checkpoint.
func (t *txn) dropParts(c int64) error {
	return errors.Join(t.exec("DELETE FROM checkpoint_parts WHERE c=?", c), t.exec("UPDATE checkpoints SET held=0 WHERE c=?", c))
}

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
		v.journal(err)
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
