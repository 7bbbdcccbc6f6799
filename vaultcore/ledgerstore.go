package vaultcore

import (
	"errors"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// store writes batch, ops, rows and the own head in one transaction, then
// shows the new numbers in the tree. own is nil when no batch was made, and
// only rows that have nothing to say are settled.
func (s *sealing) store(own *peer) error {
	if own == nil && len(s.clean) == 0 {
		return nil
	}
	l, v := s.l, s.l.v
	for _, r := range s.atts {
		v.sealAtt(r)
	}
	for _, r := range s.assets {
		v.sealAsset(r)
	}
	drafts := s.drafts()
	no, err := v.com.do(func(t *txn) error {
		if own != nil {
			if err := l.putBatch(t, s.batch, batchSealed, s.ops); err != nil {
				return err
			}
			// Until the tree has followed: a kill may come between.
			if err := errors.Join(t.putPeer(s.batch.Device, own), t.fallBehind(behindBatch)); err != nil {
				return err
			}
			if err := errors.Join(s.queueUploads(t), s.said(t)); err != nil {
				return err
			}
		}
		return errors.Join(s.storeRows(t), t.rebaseDrafts(drafts))
	})
	if err != nil {
		return err
	}
	v.bar.commit()
	s.showNumbers(no)
	if own != nil {
		l.peers[s.batch.Device] = own
		l.clock = s.body.HLC
		l.lastOp += int64(len(s.ops))
		s.changed = l.h.Add(historyOps(s.ops))
		l.rowsDue.changed(s.changed, dueMine)
		l.dueClean(s.clean)
	}
	return nil
}

func (s *sealing) storeRows(t *txn) (err error) {
	s.numbers = make([]uint64, len(s.atts))
	for _, r := range s.assets {
		if err := t.updateAsset(r); err != nil {
			return err
		}
	}
	for i, r := range s.atts {
		if s.numbers[i], err = t.sealedAtt(r); err != nil {
			return err
		}
	}
	for _, c := range s.clean {
		if err := t.exec("UPDATE "+c.table+" SET dirty=0 WHERE n=?", c.n); err != nil {
			return err
		}
	}
	return nil
}

// sealedAtt writes the numbers a record gave its row. no is the commit that the row
// carries then: one that is, or is about to be, behind a barrier keeps its own. So what
// replaces its content finds it to be kept in undo, and it needs no copy there now.
func (t *txn) sealedAtt(r *attRow) (no uint64, err error) {
	if no = t.no; r.commitNo <= t.undoMark {
		no = r.commitNo
	}
	return no, t.exec("UPDATE asset_attachments SET sha256=?,rev=?,digest=?,base=?,dirty=?,commit_no=?,sealed=? WHERE n=?",
		nilBytes(r.sha), int64(r.rev), nilBytes(r.digest), nilBytes(r.base), int64(r.dirty), int64(no), r.sealed, r.n)
}

func (l *ledger) putBatch(t *txn, b *seal.Batch, state int, ops []*opRow) error {
	err := t.exec("INSERT INTO batches(device,seq,hash,epoch,state,bytes) VALUES(?,?,?,?,?,?)",
		b.Device[:], int64(b.Seq), b.Hash[:], int64(b.Epoch), int64(state), b.Bytes)
	for _, o := range ops {
		err = errors.Join(err, l.v.insertOp(t, o))
	}
	return err
}

func (s *sealing) showNumbers(no uint64) {
	v := s.l.v
	v.tree.Lock()
	defer v.tree.Unlock()
	for _, r := range s.assets {
		if n := v.rows.get(r.n); n != nil {
			n.sync, n.dirty, n.commitNo = &syncFields{rev: r.rev, digest: r.digest}, 0, max(n.commitNo, no)
		}
	}
	for i, r := range s.atts {
		if n := v.rows.get(r.n); n != nil {
			n.sync, n.dirty, n.commitNo = &syncFields{rev: r.rev, digest: r.digest, base: r.base}, 0, max(n.commitNo, s.numbers[i])
		}
	}
	for _, c := range s.clean {
		if n := v.rows.get(c.n); n != nil {
			n.dirty = 0
		}
	}
}
