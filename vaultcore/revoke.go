package vaultcore

import (
	"errors"
	"fmt"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// errStalled: what came cannot be applied before the new password was given,
// since what changed here would have to be sealed in the old epoch.
var errStalled = errors.New("waits for the new password")

// stalled says whether applying has to wait for the new password, or for a new
// identity: nothing is sealed under a key that an old password opens once that is
// known, nor under a number that is taken. ns is held,
// or the answer may be outdated.
func (l *ledger) stalled() bool {
	if l.v.sealable() == nil {
		return false
	}
	if l.late {
		return true
	}
	for _, table := range []string{"assets", tableAttachments} {
		l.v.readMu.Lock()
		dirty, err := l.v.reader.one("SELECT 1 FROM " + table + " WHERE dirty<>0 LIMIT 1")
		l.v.readMu.Unlock()
		if err != nil || dirty != nil {
			return true
		}
	}
	return false
}

// cutOff says whether a batch is one that a revocation took out of the vault.
func (l *ledger) cutOff(device seal.ID, seq uint64) bool {
	header := l.v.keys.header()
	d, listed := header.Roster(device)
	return listed && d.Revoked && seq > header.Cut[device].Seq
}

// revoked says whether a device was shut out of the vault.
func (l *ledger) revoked(device seal.ID) bool {
	d, listed := l.v.keys.header().Roster(device)
	return listed && d.Revoked
}

// newHeader follows a header that began an epoch. Errors: ErrFork when the
// author of its cut knows another history, ErrLocalRollback when it knows more
// of ours than we do.
func (l *ledger) newHeader() error {
	v := l.v
	if err := l.checkCut(); err != nil {
		v.journal(err)
		return err
	}
	for id, held := range l.held {
		kept := held[:0:0]
		for _, h := range held {
			if !l.cutOff(id, h.b.Seq) {
				kept = append(kept, h)
			}
		}
		if l.held[id] = kept; len(kept) == 0 {
			delete(l.held, id)
		}
	}
	if err := l.revokeCut(); err != nil {
		return err
	}
	return l.vouchOwn()
}

// vouchOwn says in the new epoch, at once, that our batches beyond its cut are
// ours: until then they count for nobody else.
func (l *ledger) vouchOwn() error {
	v, id := l.v, l.v.keys.deviceID()
	own := l.peer(id)
	if own.head.Seq <= v.keys.header().Cut[id].Seq || own.epoch == v.keys.epoch() {
		return nil
	}
	if v.sealable() != nil || l.listed() != nil {
		return nil
	}
	v.ns.Lock()
	defer v.ns.Unlock()
	in := &incoming{}
	if err := l.vouch(in); err != nil {
		return err
	}
	changes, err := l.applyChanged(l.sealedOf(in.changed()), nil)
	l.broken = err != nil
	v.later(func() { v.changed(changes...) })
	return err
}

// checkCut holds the cut of the header against what is here.
func (l *ledger) checkCut() error {
	header := l.v.keys.header()
	for id, cut := range header.Cut {
		if id == l.v.keys.deviceID() && cut.Seq > l.peer(id).head.Seq {
			return fmt.Errorf("%w: the vault's header names our batch %d, the last one here is %d", ErrLocalRollback, cut.Seq, l.peer(id).head.Seq)
		}
		if same, known := l.knows(id, seal.Head(cut)); known && !same {
			return l.fork(fmt.Errorf("%w: the vault's header knows another batch %d of device %s", seal.ErrFork, cut.Seq, id.UUID()))
		}
	}
	return nil
}

// revokeCut takes the ops of revoked devices beyond their cut back. Contents
// here that only those named go to the trash.
func (l *ledger) revokeCut() error {
	v := l.v
	due := l.dueForCut()
	if len(due) == 0 {
		return nil
	}
	header := v.keys.header()
	v.ns.Lock()
	defer v.ns.Unlock()
	in := &incoming{revoked: true}
	// What changed here was made on what is about to go.
	if err := l.sealFirst(in); errors.Is(err, errStalled) {
		return nil // with the new password
	} else if err != nil {
		return err
	}
	_, err := v.com.do(func(t *txn) error {
		for _, id := range due {
			if err := l.writeCut(t, id, header.Cut[id]); err != nil {
				return err
			}
		}
		return t.setMeta(metaBehind, int64(behindRevoked)) // a kill may come before the tree has followed
	})
	if err != nil {
		return err
	}
	l.broken = true // until tree and rows have followed
	l.takes++
	for _, id := range due {
		cut := header.Cut[id]
		l.peer(id).head = seal.Head(cut)
		in.note(l.h.Revoke(id, cut.Seq))
	}
	changes, err := l.applyChanged(in.changed(), in)
	if err != nil {
		return err
	}
	l.broken = false
	v.later(func() {
		for _, id := range due {
			v.alarm("revoked", fmt.Sprintf("changes of device %s that came after it was revoked were taken back; contents only it had named are in the trash", id.UUID()))
		}
		v.changed(changes...)
	})
	return nil
}

// dueForCut lists the revoked devices of which more is accepted than counts. What
// a device that is revoked itself holds stays as it is: nobody else sees it.
func (l *ledger) dueForCut() (due []seal.ID) {
	header := l.v.keys.header()
	for _, d := range header.Devices {
		if d.Revoked && d.ID != l.v.keys.deviceID() && l.peer(d.ID).head.Seq > header.Cut[d.ID].Seq {
			due = append(due, d.ID)
		}
	}
	return due
}

func (l *ledger) writeCut(t *txn, id seal.ID, cut seal.Cut) error {
	for _, table := range []string{tableOps, "batches"} {
		if err := t.exec("DELETE FROM "+table+" WHERE device=? AND seq>?", id[:], int64(cut.Seq)); err != nil {
			return err
		}
	}
	p := l.peer(id).clone()
	p.head = seal.Head(cut)
	return t.putPeer(id, p)
}

// later runs what needs the queue or the notifier while locks are held now.
func (v *Vault) later(fn func()) {
	v.wg.Add(1)
	go func() {
		defer v.wg.Done()
		fn()
	}()
}
