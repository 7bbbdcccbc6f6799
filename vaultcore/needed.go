package vaultcore

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/history"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// trashAge is how long what was deleted can be taken back on any device, with a
// day for clocks that differ.
const trashAge = 31 * 24 * time.Hour

// Needed is what has to stay on the remote.
type Needed struct {
	// Named says whether a blob is: contents of live files and of the trash, of
	// this device and of all, those that wait to be sent and those a draft or a
	// row of an earlier state stands on. It may be asked until the vault is closed,
	// and then says yes.
	Named func(blob seal.ID) bool
	// Heads are those of the base; batches below them may go.
	Heads map[seal.ID]uint64
	// Older are checkpoints that the base has replaced.
	Older []CheckpointID
}

// Needed tells what a collection on the remote must leave. Error: ErrBusy while
// batches wait or the vault is forked, since they may name more.
func (v *Vault) Needed(ctx context.Context) (Needed, error) {
	l, err := v.lockLedger(ctx)
	if err != nil {
		return Needed{}, err
	}
	defer l.mu.Unlock()
	if len(l.held) > 0 || v.frozen.Load() {
		return Needed{}, fmt.Errorf("%w: batches wait", ErrBusy)
	}
	all, err := l.checkpoints()
	if err != nil {
		return Needed{}, err
	}
	n := Needed{Heads: l.base.heads}
	for _, c := range all {
		base := Checkpoint{Heads: l.base.heads}
		if l.base.c != 0 && !c.Base && c.Pushed && base.follows(&c) {
			n.Older = append(n.Older, c.CheckpointID)
		}
	}
	named := l.namedBlobs(true)
	n.Named = func(blob seal.ID) bool { return named[blob] || v.rowNames(blob) }
	return n, nil
}

// namedBlobs gives the contents that the history names: of what is deleted only with
// trash.
func (l *ledger) namedBlobs(trash bool) map[seal.ID]bool {
	named := make(map[seal.ID]bool)
	since := history.HLC(hlcBefore(seal.HLCAt(l.v.trueMillis()), trashAge))
	for id := range l.h.Attachments() {
		a := l.h.Attachment(id, nil)
		for _, f := range a.Live {
			named[f.Blob] = true
			if !l.sent[f.Blob] {
				// Somebody may be shown an earlier content meanwhile.
				for blob := range l.h.BlobsOf(id) {
					named[blob] = true
				}
			}
		}
		for _, f := range a.Dead {
			if trash && f.Deleted >= since {
				named[f.Blob] = true
			}
		}
	}
	for blob := range l.h.Blobs(l.h.Keep(nil, l.seenByActive(), func(b seal.ID) bool { return l.sent[b] })) {
		named[blob] = true
	}
	return named
}

// seenByActive says whether every active device has a batch. What was replaced
// under the eyes of all stays replaced; on anything else somebody may have built,
// by a new name, say, so that it is shown again once what replaced it is deleted.
func (l *ledger) seenByActive() func(history.At) bool {
	chains := make(map[seal.ID]seal.Chain, len(l.peers))
	for id, p := range l.peers {
		if p.head.Seq > 0 {
			chains[id] = seal.Chain{Head: p.head, Epoch: p.epoch, HLC: p.hlc, Seen: p.seen}
		}
	}
	s := l.settledAt(seal.HLCAt(l.v.trueMillis()), chains)
	s.horizon = math.MaxUint64
	return s.is
}

// rowNames says whether a row of this device names a blob now.
func (v *Vault) rowNames(blob seal.ID) bool {
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return true
	}
	for _, table := range []string{tableAttachments, "undo", tableJobs} {
		found, err := v.reader.one("SELECT 1 FROM "+table+" WHERE blob=? LIMIT 1", blob[:])
		if err != nil || found != nil {
			return true
		}
	}
	return false
}

// ForgetCheckpoints drops what is known of checkpoints that are not on the
// remote any more. The base stays.
func (v *Vault) ForgetCheckpoints(ctx context.Context, ids []CheckpointID) error {
	l, err := v.lockLedger(ctx)
	if err != nil {
		return err
	}
	defer l.mu.Unlock()
	_, err = v.com.do(func(t *txn) error {
		for _, id := range ids {
			c, err := t.one("SELECT c FROM checkpoints WHERE device=? AND seq=?", id.Device[:], int64(id.Seq))
			if err != nil {
				return err
			}
			if no, _ := c.(int64); no == 0 || no == l.base.c {
				continue
			}
			if err := t.dropParts(c.(int64)); err != nil {
				return err
			}
			if err := t.exec("DELETE FROM checkpoints WHERE c=?", c); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// LogSize is how much of the log no checkpoint covers.
type LogSize struct {
	Bytes   int64
	Batches int
	// Last is the newest checkpoint that agrees with our log, and Size its bytes;
	// zero without one.
	Last time.Time
	Size int64
}

// LogSince measures the log since the last checkpoint.
func (v *Vault) LogSince(ctx context.Context) (LogSize, error) {
	l, err := v.lockLedger(ctx)
	if err != nil {
		return LogSize{}, err
	}
	defer l.mu.Unlock()
	all, err := l.checkpoints()
	if err != nil {
		return LogSize{}, err
	}
	var s LogSize
	var covered map[seal.ID]uint64
	for _, c := range all {
		if c.Verdict == Agrees {
			s.Last, s.Size, covered = c.Made, c.Size, c.Heads
		}
	}
	for id := range l.peers {
		err := l.read("SELECT coalesce(sum(length(bytes)),0),count(*) FROM batches WHERE device=? AND seq>?", func(r *rowScanner) {
			s.Bytes += r.num()
			s.Batches += int(r.num())
		}, id[:], int64(max(covered[id], l.base.heads[id])))
		if err != nil {
			return LogSize{}, err
		}
	}
	return s, nil
}
