package vaultcore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// A content that a batch of ours named and that is replaced or deleted before
// any remote has it: others know of it, and what they do with the little they
// know can make it a visible file again (a rename there, a delete here). Such a
// content is kept, out of sight like the trash and for as long as the trash
// keeps something, until it is on the remote or nobody can need it any more. A
// replaced one is not sent unless somebody needs it.

const (
	// A published content in a row that no remote is known to have.
	unsentRow = `place<>0 AND NOT EXISTS (SELECT 1 FROM blob_presence p WHERE p.blob=a.blob)
		AND (rev>0 AND dirty&2=0 OR EXISTS (SELECT 1 FROM transfer_jobs j WHERE j.blob=a.blob AND j.up=1))`
	sqlKeepUnsent = `INSERT INTO kept(blob,id,len,sha256,since,seq,fresh)
		SELECT blob,id,blob_len,sha256,?2,0,fresh FROM asset_attachments a WHERE n=?1 AND ` + unsentRow + `
		ON CONFLICT(blob) DO UPDATE SET since=excluded.since,seq=0,fresh=excluded.fresh RETURNING blob`
	// Another row that shows the same content still has to be sent.
	sqlEndUpload = `DELETE FROM transfer_jobs WHERE up=1 AND blob=?1
		AND NOT EXISTS (SELECT 1 FROM asset_attachments a WHERE a.blob=?1 AND a.n<>?2 AND a.place<>0)`
)

// keepUnsent takes over the content of a row that is about to lose it, if others
// know of it and no remote has it. kept: nobody may doom the blob.
func (t *txn) keepUnsent(row int64) (kept bool, err error) {
	if !t.synced {
		return false, nil
	}
	found, err := t.one(sqlKeepUnsent, row, t.now().UnixNano())
	if err != nil || found == nil {
		return false, err
	}
	return true, t.exec(sqlEndUpload, found, row)
}

func (t *txn) isKept(blob seal.ID) (bool, error) {
	if !t.synced {
		return false, nil
	}
	found, err := t.one("SELECT 1 FROM kept WHERE blob=?", blob[:])
	return found != nil, err
}

// takeKept gives a row a content back that was kept; without one it does
// nothing.
func (t *txn) takeKept(r *attRow) error {
	found := false
	err := t.query("SELECT fresh FROM kept WHERE blob=?", func(c []dbValue) error {
		found = true
		r.fresh, _ = c[0].([]byte)
		return nil
	}, r.blob[:])
	if err != nil || !found {
		return err
	}
	if r.place = placeBin; r.fresh != nil {
		r.place = placeFresh
	}
	return t.exec("DELETE FROM kept WHERE blob=?", r.blob[:])
}

// isKept says whether a content is here though no row names it.
func (l *ledger) isKept(blob seal.ID) bool {
	l.v.readMu.Lock()
	defer l.v.readMu.Unlock()
	if l.v.reader == nil {
		return false
	}
	found, err := l.v.reader.one("SELECT 1 FROM kept WHERE blob=?", blob[:])
	return err == nil && found != nil
}

func (l *loader) readKept() error {
	schema, err := schemaVersion(l.v.reader)
	if err != nil || schema < 2 { // opened for reading only, so nothing brought it up to date
		return err
	}
	return l.v.reader.query("SELECT blob FROM kept", func(c []dbValue) error {
		s := rowScanner{c: c}
		l.v.retired.addBlob(s.id(), 0)
		return nil
	})
}

// keptBlob is a row of kept without its bytes.
type keptBlob struct {
	blob, id   seal.ID
	len, since int64
	seq        uint64
}

func (v *Vault) keptBlobs() (out []keptBlob, err error) {
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return nil, ErrClosed
	}
	err = v.reader.query("SELECT blob,id,len,since,seq FROM kept ORDER BY since", func(c []dbValue) error {
		s := rowScanner{c: c}
		out = append(out, keptBlob{s.id(), s.id(), s.num(), s.num(), uint64(s.num())})
		return nil
	})
	return out, err
}

// keptFates is what becomes of the contents that are kept.
type keptFates struct {
	free []keptBlob // nobody can need it any more
	need []keptBlob // a live tip has it: it is sent
	mark []keptBlob // what became of it is sealed now
	seq  uint64     // in this batch of ours at the latest

	doomed []seal.ID // of free, by write
}

// tidyKept lets go of what was kept and cannot be needed any more, and queues
// for sending what somebody has built on.
func (v *Vault) tidyKept(ctx context.Context) error {
	l, err := v.lockLedger(ctx)
	if err != nil {
		return err
	}
	defer l.mu.Unlock()
	kept, err := v.keptBlobs()
	if err != nil || len(kept) == 0 {
		return err
	}
	f, err := l.decideKept(kept)
	if err != nil {
		return err
	}
	no, err := v.com.do(func(t *txn) error { return f.write(t) })
	if err != nil {
		return err
	}
	v.retired.doom(f.doomed, no)
	v.bar.commit()
	return nil
}

// trimKept is tidyKept for the janitor.
func (v *Vault) trimKept() {
	if !v.LedgerOn() {
		return
	}
	if err := v.tidyKept(v.ctx); err != nil && v.ctx.Err() == nil {
		v.log.Warn("kept contents not looked through", "err", err)
	}
}

func (l *ledger) decideKept(kept []keptBlob) (f keptFates, err error) {
	v := l.v
	f.seq = l.peer(v.keys.deviceID()).head.Seq
	pushed, err := v.lastPushed()
	if err != nil {
		return f, err
	}
	room, oldest := v.trashRoom(), v.nowNS()-int64(v.store.limits.TrashAge)
	var total int64
	for _, k := range kept {
		total += k.len
	}
	for _, k := range kept {
		unsealed, err := v.unsealedRow(k.id)
		if err != nil {
			return f, err
		}
		switch {
		case l.sent[k.blob]:
			f.free = append(f.free, k)
		case l.h.Named(k.id, k.blob):
			f.need = append(f.need, k)
			continue
		case unsealed:
			continue
		case k.since < oldest, total > room, k.seq > 0 && k.seq <= pushed && l.seenByAll(k.seq):
			f.free = append(f.free, k)
		case k.seq == 0:
			f.mark = append(f.mark, k)
			continue
		default:
			continue
		}
		total -= k.len
	}
	return f, nil
}

// unsealedRow says whether something of an attachment is in no batch yet.
func (v *Vault) unsealedRow(id seal.ID) (bool, error) {
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return false, ErrClosed
	}
	found, err := v.reader.one("SELECT 1 FROM asset_attachments WHERE dirty<>0 AND id=? LIMIT 1", id[:])
	return found != nil, err
}

// silentAfter is when a device that says nothing counts no more.
const silentAfter = 180 * 24 * time.Hour

// seenByAll says whether every other device has applied a batch of ours. What it
// builds on older records comes before its batch that says so, so all of it is
// here by then.
func (l *ledger) seenByAll(seq uint64) bool {
	own := l.v.keys.deviceID()
	for _, d := range l.v.keys.header().Devices {
		if d.ID == own || d.Revoked {
			continue
		}
		p := l.peers[d.ID]
		if p != nil && p.head.Seq > 0 && p.hlc.Millis() < l.v.trueMillis()-silentAfter.Milliseconds() {
			continue
		}
		if p == nil || p.seen[own].Seq < seq {
			return false
		}
	}
	return true
}

func (f *keptFates) write(t *txn) error {
	f.doomed = f.doomed[:0]
	for _, k := range f.free {
		doomed, err := t.dropKept(k.blob)
		if err != nil {
			return err
		}
		if doomed {
			f.doomed = append(f.doomed, k.blob)
		}
	}
	for _, k := range f.need {
		if err := t.exec(sqlQueueUpload, k.blob[:], k.len, int64(0)); err != nil {
			return err
		}
	}
	for _, k := range f.mark {
		if err := t.exec("UPDATE kept SET seq=? WHERE blob=? AND seq=0", int64(f.seq), k.blob[:]); err != nil {
			return err
		}
	}
	return nil
}

// dropKept lets go of a content that was kept; doomed: nothing else names it.
func (t *txn) dropKept(blob seal.ID) (doomed bool, err error) {
	err = errors.Join(t.exec("DELETE FROM kept WHERE blob=?", blob[:]), t.exec(sqlEndUpload, blob[:], int64(0)))
	if err != nil {
		return false, err
	}
	named, err := t.one("SELECT 1 FROM asset_attachments WHERE blob=?1 UNION ALL SELECT 1 FROM undo WHERE blob=?1 LIMIT 1", blob[:])
	if err != nil || named != nil {
		return false, err
	}
	return true, t.exec(sqlDoom, blob[:], int64(t.no))
}

// freeKept gives up the oldest quarter of what is kept and nobody is known to
// need: the disk is full.
func (v *Vault) freeKept() bool {
	if !v.LedgerOn() {
		return false
	}
	kept, err := v.keptBlobs()
	if err != nil || len(kept) == 0 {
		return false
	}
	var freed []seal.ID
	no, err := v.com.free(func(t *txn) error {
		freed = freed[:0]
		for _, k := range kept[:max(1, len(kept)/4)] {
			queued, err := t.one("SELECT 1 FROM transfer_jobs WHERE blob=? AND up=1", k.blob[:])
			if err != nil {
				return err
			}
			if queued != nil {
				continue
			}
			doomed, err := t.dropKept(k.blob)
			if err != nil {
				return err
			}
			if doomed {
				freed = append(freed, k.blob)
			}
		}
		return nil
	})
	if err != nil || len(freed) == 0 {
		return false
	}
	v.log.Warn("unsent contents given up for want of room", "count", len(freed))
	v.retired.doom(freed, no)
	v.bar.commit()
	return v.barrierSoon()
}

// keptSource finds a kept content that is queued for sending.
func (v *Vault) keptSource(blob seal.ID) (src *UploadSource, fresh []byte, err error) {
	err = v.reader.query(`SELECT len,sha256,fresh FROM kept k WHERE blob=?
		AND EXISTS (SELECT 1 FROM transfer_jobs j WHERE j.blob=k.blob AND j.up=1)`, func(c []dbValue) error {
		s := rowScanner{c: c}
		src = &UploadSource{Len: s.num()}
		copy(src.SHA256[:], s.blob())
		fresh = s.blob()
		return nil
	}, blob[:])
	if err == nil && src == nil {
		err = fmt.Errorf("%w: blob %s", ErrNotFound, blob.Hex())
	}
	return src, fresh, err
}
