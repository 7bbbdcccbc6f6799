package vaultcore

import (
	"errors"
	"fmt"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// checkEpoch is step 6.
func (l *ledger) checkEpoch(h *heldBatch, dev seal.Device, tail *peer) error {
	header := l.v.keys.header()
	cut, isCut := header.Cut[dev.ID]
	switch {
	case h.b.Epoch > header.Epoch:
		return fmt.Errorf("%w: epoch %d", ErrNewEpoch, h.b.Epoch)
	case h.b.Epoch < tail.epoch:
		return fmt.Errorf("%w: epoch %d after %d", ErrStaleEpoch, h.b.Epoch, tail.epoch)
	case isCut && h.b.Seq == cut.Seq && h.b.Hash != cut.Hash:
		return l.fork(fmt.Errorf("%w: at the cut of device %s", seal.ErrFork, dev.ID), h.b)
	}
	return nil
}

// checkClock is step 8.
func (l *ledger) checkClock(h *heldBatch, tail *peer) error {
	if h.body.HLC <= tail.hlc {
		return fmt.Errorf("%w: not after its last batch", ErrClock)
	}
	if ahead := h.body.HLC.Millis() - l.v.trueMillis(); ahead > maxClockAhead.Milliseconds() {
		return fmt.Errorf("%w: %d h ahead", ErrClock, ahead/3_600_000)
	}
	return nil
}

// checkSeen is step 9 but for what is not delivered, which missing tells.
func (l *ledger) checkSeen(h *heldBatch, tail *peer) error {
	for id, head := range h.body.Seen {
		before := tail.seen[id]
		if head.Seq < before.Seq || head.Seq == before.Seq && head.Hash != before.Hash {
			return l.fork(fmt.Errorf("%w: device %s names batch %d of device %s, and named %d before", seal.ErrFork, h.b.Device, head.Seq, id, before.Seq), h.b)
		}
		same, known := l.knows(id, head)
		if known && !same {
			return l.fork(fmt.Errorf("%w: device %s knows another batch %d of device %s", seal.ErrFork, h.b.Device, head.Seq, id), h.b)
		}
		if id == l.v.keys.deviceID() && head.Seq > l.peer(id).head.Seq {
			return fmt.Errorf("%w: device %s knows our batch %d", ErrLocalRollback, h.b.Device, head.Seq)
		}
	}
	return nil
}

// fork freezes the vault and keeps the proof.
func (l *ledger) fork(err error, proof ...*seal.Batch) error {
	v := l.v
	v.frozen.Store(true)
	text := []byte(err.Error() + "\x00")
	for _, b := range proof {
		text = append(text, b.Bytes...)
		text = append(text, l.storedBatch(b.Device, b.Seq)...)
	}
	now := v.nowNS()
	var a seal.RowAAD
	_, werr := v.com.do(func(t *txn) error {
		sealed := v.keys.local().SealRow(nil, text, alarmAAD(&a, now, "fork"))
		return t.exec("INSERT INTO alarms(time,kind,sealed) VALUES(?,?,?)", now, "fork", sealed)
	})
	return errors.Join(err, werr)
}

func alarmAAD(a *seal.RowAAD, at int64, kind string) []byte {
	a.Reset("alarms")
	a.Uint(uint64(at))
	a.Bytes([]byte(kind))
	return a.Sum()
}
