package vaultcore

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

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
