package vaultcore

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

const tableJobs = "transfer_jobs"

// Job is a content to be sent to the remote, or one that is hard to fetch from
// there. It outlives the process.
type Job struct {
	N    int64 // counts up: the newest save has the largest
	Blob seal.ID
	Up   bool   // to send it, else to fetch it
	Size int64  // bytes
	Seq  uint64 // own batch that has to be on the remote first
	JobState
}

// JobState is how a transfer went so far.
type JobState struct {
	Again   bool      `json:"again,omitempty"`   // an attempt ended in doubt
	Tries   int       `json:"tries,omitempty"`   // failed ones since the last progress
	Until   time.Time `json:"until,omitzero"`    // not before
	Blocked string    `json:"blocked,omitempty"` // does not go on by itself, and why
	Upload  []byte    `json:"upload,omitempty"`  // the remote's, to go on with parts
}

// Jobs lists the jobs with numbers above after, ascending.
func (v *Vault) Jobs(_ context.Context, after int64) (out []Job, err error) {
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return nil, ErrClosed
	}
	err = v.reader.query("SELECT j,blob,up,size,seq,sealed FROM transfer_jobs WHERE j>? ORDER BY j", func(c []dbValue) error {
		s := rowScanner{c: c}
		j := Job{N: s.num(), Blob: s.id(), Up: s.num() == 1, Size: s.num(), Seq: uint64(s.num())}
		j.JobState = v.openJob(&j, s.blob())
		out = append(out, j)
		return nil
	}, after)
	return out, err
}

// openJob gives the state of a job. One that cannot be authenticated is taken
// for an attempt that ended in doubt, which is always safe.
func (v *Vault) openJob(j *Job, sealed []byte) (s JobState) {
	if sealed == nil {
		return JobState{}
	}
	var a seal.RowAAD
	plain, err := v.keys.local().OpenRow(nil, sealed, jobAAD(&a, j))
	if err != nil || json.Unmarshal(plain, &s) != nil {
		return JobState{Again: true}
	}
	return s
}

func jobAAD(a *seal.RowAAD, j *Job) []byte {
	a.Reset(tableJobs)
	a.Bytes(j.Blob[:])
	a.Uint(uint64(b2i(j.Up)))
	return a.Sum()
}

func b2i(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// SaveJob keeps the state of a job; one to fetch comes into being by it, one to
// send that is done already stays so.
func (v *Vault) SaveJob(_ context.Context, j Job) error {
	if err := v.writable(); err != nil {
		return err
	}
	plain, err := json.Marshal(j.JobState)
	if err != nil {
		return fmt.Errorf("%w: state of a transfer: %w", ErrInvalid, err)
	}
	var a seal.RowAAD
	sealed := v.keys.local().SealRow(nil, plain, jobAAD(&a, &j))
	_, err = v.com.do(func(t *txn) error {
		if j.Up {
			return t.exec("UPDATE transfer_jobs SET sealed=? WHERE blob=? AND up=1", sealed, j.Blob[:])
		}
		return t.exec(`INSERT INTO transfer_jobs(blob,up,size,seq,sealed) VALUES(?,0,?,0,?)
			ON CONFLICT(blob,up) DO UPDATE SET sealed=excluded.sealed`, j.Blob[:], j.Size, sealed)
	})
	return err
}

// EndJob forgets a job to fetch: done, or nobody needs it any more.
func (v *Vault) EndJob(_ context.Context, blob seal.ID) error {
	if err := v.writable(); err != nil {
		return err
	}
	return v.endJob(blob, false)
}

func (v *Vault) endJob(blob seal.ID, up bool) error {
	_, err := v.com.do(func(t *txn) error {
		return t.exec("DELETE FROM transfer_jobs WHERE blob=? AND up=?", blob[:], b2i(up))
	})
	return err
}

const sqlQueueUpload = "INSERT INTO transfer_jobs(blob,up,size,seq) VALUES(?,1,?,?) ON CONFLICT(blob,up) DO NOTHING"

// queueUploads makes the jobs that come with a batch of ours.
func (s *sealing) queueUploads(t *txn) error {
	for _, r := range s.atts {
		if s.l.sent[r.blob] || r.place == placeElsewhere {
			continue
		}
		if err := t.exec(sqlQueueUpload, r.blob[:], r.blobLen, int64(s.batch.Seq)); err != nil {
			return err
		}
	}
	return nil
}

// wantedEvery is how often a content is sent again because others cannot fetch
// it.
const wantedEvery = 24 * time.Hour

// queueWanted makes a job for a content that another device cannot fetch, if it
// is here.
func (t *txn) queueWanted(blob seal.ID, now int64) error {
	size, err := t.one(`SELECT max(len) FROM (SELECT blob_len AS len FROM asset_attachments WHERE blob=?1 AND place<>0
		UNION ALL SELECT len FROM kept WHERE blob=?1)`, blob[:])
	if err != nil || size == nil {
		return err
	}
	last, err := t.one("SELECT wanted FROM blob_presence WHERE blob=?", blob[:])
	if n, _ := last.(int64); err != nil || n > now-int64(wantedEvery) {
		return err
	}
	if err := t.exec("UPDATE blob_presence SET wanted=? WHERE blob=?", now, blob[:]); err != nil {
		return err
	}
	return t.exec(sqlQueueUpload, blob[:], size, int64(0))
}

// QueueUploads makes a job for every sealed content of a live file that is here,
// not known to be on the remote, and has none: after another remote was set.
func (v *Vault) QueueUploads(ctx context.Context) error {
	if err := v.writable(); err != nil {
		return err
	}
	l, err := v.lockLedger(ctx)
	if err != nil {
		return err
	}
	defer l.mu.Unlock()
	last := l.peer(v.keys.deviceID()).head.Seq
	_, err = v.com.do(func(t *txn) error { return t.queueAll(last) })
	return err
}

// queueAll queues what no remote is known to have; seq is our last batch.
func (t *txn) queueAll(seq uint64) error {
	return t.exec(`INSERT INTO transfer_jobs(blob,up,size,seq)
			SELECT blob,1,max(blob_len),? FROM asset_attachments a WHERE place<>0 AND deleted=0 AND rev>0 AND dirty&2=0
			AND NOT EXISTS (SELECT 1 FROM blob_presence p WHERE p.blob=a.blob)
			AND NOT EXISTS (SELECT 1 FROM transfer_jobs j WHERE j.blob=a.blob AND j.up=1) GROUP BY blob ORDER BY max(n)`, int64(seq))
}

// Unsaid lists at most max contents that this device confirmed on the remote and
// has told nobody of: a seal.Sent in the next batch does.
func (v *Vault) Unsaid(_ context.Context, max int) (out []seal.ID, err error) {
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return nil, ErrClosed
	}
	err = v.reader.query("SELECT blob FROM blob_presence WHERE said=0 LIMIT ?", func(c []dbValue) error {
		s := rowScanner{c: c}
		out = append(out, s.id())
		return nil
	}, int64(max))
	return out, err
}

// said notes what a batch of ours tells.
func (s *sealing) said(t *txn) error {
	for _, op := range s.body.Ops {
		if sent, ok := op.(*seal.Sent); ok {
			for _, b := range sent.Blobs {
				if err := t.exec("UPDATE blob_presence SET said=1 WHERE blob=?", b[:]); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Gates gives until when a remote asked not to be sent each class of request.
func (v *Vault) Gates(_ context.Context, remote seal.ID) (map[string]time.Time, error) {
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return nil, ErrClosed
	}
	gates := make(map[string]time.Time)
	err := v.reader.query("SELECT class,until FROM gates WHERE remote=?", func(c []dbValue) error {
		s := rowScanner{c: c}
		class, _ := s.next().(string)
		gates[class] = time.Unix(0, s.num())
		return nil
	}, remote[:])
	return gates, err
}

// SetGate keeps until when a remote asked not to be sent a class of request.
func (v *Vault) SetGate(_ context.Context, remote seal.ID, class string, until time.Time) error {
	if err := v.writable(); err != nil {
		return err
	}
	_, err := v.com.do(func(t *txn) error {
		return t.exec("INSERT INTO gates(remote,class,until) VALUES(?,?,?) ON CONFLICT(remote,class) DO UPDATE SET until=excluded.until",
			remote[:], class, until.UnixNano())
	})
	return err
}
