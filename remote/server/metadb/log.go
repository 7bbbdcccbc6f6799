package metadb

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// logLeast is how much of headers, batches, checkpoints, rows and parents an
// account may keep, and its quota if that is more.
const logLeast = 256 << 20

// rowLeast is what a row or a parent counts beside its texts: it has an entry in
// the feed, and stays when it is deleted.
const rowLeast = 1 << 10

func rowSize(r *api.Row) int64 {
	return rowLeast + int64(len(r.FileNameEncrypted)+len(r.ContentTypeEncrypted))
}

func parentSize(title string) int64 { return rowLeast + int64(len(title)) }

// addLog counts bytes of the log. Error: api's log_full.
func (q *querier) addLog(bytes int64) error {
	if err := q.fitsLog(bytes); err != nil {
		return err
	}
	q.book.now.log += bytes
	return nil
}

// fitsLog: error api's log_full.
func (q *querier) fitsLog(bytes int64) error {
	b := q.book
	limit := max(logLeast, b.quota)
	if bytes <= 0 || b.now.log+bytes <= limit {
		return nil
	}
	e := api.Errorf(api.CodeLogFull, "the room for history and names is used up: devices that make a checkpoint can shorten the history")
	e.Quota = &api.Quota{Usage: b.now.log, Limit: limit, Remaining: max(0, limit-b.now.log)}
	return e
}

// PutHeader keeps the next header and brings the roster to what it says. at < 0
// asks for nothing; else no batch may have come after feed number at. Errors:
// api's seq_taken, seq_gap, bad_header, cut_behind, log_full.
func (db *DB) PutHeader(ctx context.Context, account int64, h *api.ClearHeader, body []byte, at int64) (n int64, err error) {
	err = db.update(ctx, func(q *querier) error {
		if err := q.lock(account); err != nil {
			return err
		}
		same, err := q.sameHeader(account, h)
		if err != nil || same {
			return err
		}
		if at >= 0 {
			var newer int64
			if err := q.one("SELECT count(*) FROM batches WHERE account=$1 AND n>$2", []any{account, at}, &newer); err != nil {
				return err
			}
			if newer > 0 {
				return api.Errorf(api.CodeCutBehind, "%d batches came after %d", newer, at)
			}
		}
		n, err = q.putHeader(account, h, body)
		return err
	})
	return n, err
}

// sameHeader: this very header is here.
func (q *querier) sameHeader(account int64, h *api.ClearHeader) (bool, error) {
	var hash string
	err := q.one("SELECT hash FROM headers WHERE account=$1 AND seq=$2", []any{account, int64(h.Seq)}, &hash)
	if err == ErrNotFound {
		return false, nil
	}
	if err == nil && hash != hex.EncodeToString(h.Hash[:]) {
		err = api.Errorf(api.CodeSeqTaken, "there is another header %d", h.Seq)
	}
	return err == nil, err
}

func (q *querier) putHeader(account int64, h *api.ClearHeader, body []byte) (int64, error) {
	if err := q.nextHeader(account, h); err != nil {
		return 0, err
	}
	if err := q.addLog(int64(len(body))); err != nil {
		return 0, err
	}
	if err := q.must("INSERT INTO headers(account,seq,hash,body) VALUES($1,$2,$3,$4)",
		account, int64(h.Seq), hex.EncodeToString(h.Hash[:]), string(body)); err != nil {
		return 0, err
	}
	if err := q.setRoster(account, h); err != nil {
		return 0, err
	}
	return q.announce(account, "header", api.Change{Kind: api.KindHeader, Seq: h.Seq})
}

// nextHeader says whether it follows what is here.
func (q *querier) nextHeader(account int64, h *api.ClearHeader) error {
	if h.Seq == 1 {
		return nil // there is none yet, or sameHeader would have said so
	}
	var body string
	err := q.one("SELECT body FROM headers WHERE account=$1 AND seq=$2", []any{account, int64(h.Seq) - 1}, &body)
	if err == ErrNotFound {
		return api.Errorf(api.CodeSeqGap, "header %d is not here yet", h.Seq-1)
	}
	if err != nil {
		return err
	}
	prev, err := api.ParseHeader([]byte(body))
	if err == nil {
		err = h.Follows(prev)
	}
	if err != nil {
		return api.Errorf(api.CodeBadHeader, "%w", err)
	}
	return nil
}

// setRoster brings devices to what a header says. A revoked one loses its
// sessions.
func (q *querier) setRoster(account int64, h *api.ClearHeader) error {
	for _, d := range h.Devices {
		revoked, cut := int64(0), int64(0)
		if d.Revoked {
			revoked, cut = 1, int64(h.Cut[d.ID].Seq)
			if err := q.must("DELETE FROM sessions WHERE account=$1 AND device=$2", account, d.ID); err != nil {
				return err
			}
		}
		err := q.must(`INSERT INTO devices(account,device,pk,revoked,cut) VALUES($1,$2,$3,$4,$5)
			ON CONFLICT(account,device) DO UPDATE SET revoked=excluded.revoked, cut=excluded.cut`,
			account, d.ID, hex.EncodeToString(d.PK[:]), revoked, cut)
		if err != nil {
			return err
		}
	}
	return nil
}

// Header reads one, the newest for seq 0. Error: ErrNotFound.
func (db *DB) Header(ctx context.Context, account int64, seq uint64) (body string, number uint64, err error) {
	err = db.view(ctx, account, func(q *querier) error {
		if seq == 0 {
			return q.one("SELECT body,seq FROM headers WHERE account=$1 ORDER BY seq DESC LIMIT 1", []any{account}, &body, &number)
		}
		return q.one("SELECT body,seq FROM headers WHERE account=$1 AND seq=$2", []any{account, int64(seq)}, &body, &number)
	})
	return body, number, err
}

// PutBatch appends a batch to its device's chain; the same again is fine.
// Errors: api's other_bytes, seq_gap, chain_broken, bad_batch, device_revoked,
// log_full.
func (db *DB) PutBatch(ctx context.Context, account int64, b *api.ClearBatch, body []byte) (n int64, err error) {
	hash := hex.EncodeToString(b.Hash[:])
	err = db.update(ctx, func(q *querier) error {
		if err := q.lock(account); err != nil {
			return err
		}
		var have string
		err := q.one("SELECT hash,n FROM batches WHERE account=$1 AND device=$2 AND seq=$3", []any{account, b.Device, int64(b.Seq)}, &have, &n)
		switch {
		case err == nil && have == hash:
			return nil
		case err == nil:
			return api.Errorf(api.CodeOtherBytes, "there is another batch %d of this device", b.Seq)
		case err != ErrNotFound:
			return err
		}
		if err := q.mayFollow(account, b); err != nil {
			return err
		}
		n, err = q.appendBatch(account, b, hash, body)
		return err
	})
	return n, err
}

// mayFollow checks what is clear: roster, signature, cut, number and the hash of
// the batch before.
func (q *querier) mayFollow(account int64, b *api.ClearBatch) error {
	var pk, last string
	var revoked, cut, seq int64
	err := q.one("SELECT pk,revoked,cut,seq,hash FROM devices WHERE account=$1 AND device=$2", []any{account, b.Device}, &pk, &revoked, &cut, &seq, &last)
	if err == ErrNotFound {
		return api.Errorf(api.CodeBadBatch, "the device is not in the roster")
	}
	if err != nil {
		return err
	}
	raw, err := hex.DecodeString(pk)
	if err != nil || len(raw) != 32 {
		return fmt.Errorf("key of device %s: %w", b.Device, err)
	}
	switch {
	case b.Verify([32]byte(raw)) != nil:
		return api.Errorf(api.CodeBadBatch, "the signature is not the device's")
	case revoked != 0 && int64(b.Seq) > cut:
		return api.Errorf(api.CodeDeviceRevoked, "the device was revoked after its batch %d", cut)
	case seq == 0 && b.Seq > 1:
		return q.mayBegin(account, b)
	case int64(b.Seq) > seq+1:
		return api.Errorf(api.CodeSeqGap, "batch %d of the device is not here yet", seq+1)
	case int64(b.Seq) <= seq:
		return api.Errorf(api.CodeOtherBytes, "batch %d was collected", b.Seq) // it is not in the table
	case seq > 0 && hex.EncodeToString(b.Prev[:]) != last:
		return api.Errorf(api.CodeChainBroken, "batch %d does not follow the one before", b.Seq)
	}
	return nil
}

// mayBegin lets a chain begin in its middle where a checkpoint stands for what was
// before: a vault that moves here keeps no more than that of its early days.
func (q *querier) mayBegin(account int64, b *api.ClearBatch) error {
	var points int64
	err := q.one("SELECT count(*) FROM checkpoints WHERE account=$1 AND part=$2", []any{account, "m"}, &points)
	if err == nil && points == 0 {
		err = api.Errorf(api.CodeSeqGap, "batch 1 of the device is not here yet, and no checkpoint")
	}
	return err
}

func (q *querier) appendBatch(account int64, b *api.ClearBatch, hash string, body []byte) (int64, error) {
	if err := q.addLog(int64(len(body))); err != nil {
		return 0, err
	}
	sum := sha256Hex(body)
	n, err := q.announce(account, "batch/"+b.Device+"/"+strconv.FormatUint(b.Seq, 10),
		api.Change{Kind: api.KindBatch, Device: b.Device, Seq: b.Seq, Len: int64(len(body)), SHA256: sum})
	if err != nil {
		return 0, err
	}
	if err := q.must("INSERT INTO batches(account,device,seq,hash,n,len,body) VALUES($1,$2,$3,$4,$5,$6,$7)",
		account, b.Device, int64(b.Seq), hash, n, int64(len(body)), body); err != nil {
		return 0, err
	}
	return n, q.must("UPDATE devices SET seq=$3, hash=$4 WHERE account=$1 AND device=$2", account, b.Device, int64(b.Seq), hash)
}

// Batch reads one. Error: ErrNotFound.
func (db *DB) Batch(ctx context.Context, account int64, device string, seq uint64) (body []byte, err error) {
	err = db.view(ctx, account, func(q *querier) error {
		return q.one("SELECT body FROM batches WHERE account=$1 AND device=$2 AND seq=$3", []any{account, device, int64(seq)}, &body)
	})
	return body, err
}

// PutCheckpoint keeps a part; the last, "m", announces the checkpoint. The same
// again is fine. Errors: api's other_bytes, log_full.
func (db *DB) PutCheckpoint(ctx context.Context, account int64, name, device string, seq uint64, part string, body []byte) (n int64, err error) {
	sum := sha256Hex(body)
	err = db.update(ctx, func(q *querier) error {
		if err := q.lock(account); err != nil {
			return err
		}
		var have string
		err := q.one("SELECT sha256 FROM checkpoints WHERE account=$1 AND name=$2 AND part=$3", []any{account, name, part}, &have)
		switch {
		case err == nil && have != sum:
			return api.Errorf(api.CodeOtherBytes, "there is another part %s of this checkpoint", part)
		case err == nil && part != "m": // whoever puts it again is at work: it is not left behind
			return q.must("UPDATE checkpoints SET created=$4 WHERE account=$1 AND name=$2 AND part=$3", account, name, part, q.ms)
		case err != ErrNotFound:
			return err
		}
		if err := q.addLog(int64(len(body))); err != nil {
			return err
		}
		if err := q.must("INSERT INTO checkpoints(account,name,part,sha256,len,body,created) VALUES($1,$2,$3,$4,$5,$6,$7)",
			account, name, part, sum, int64(len(body)), body, q.ms); err != nil || part != "m" {
			return err
		}
		n, err = q.announce(account, "checkpoint/"+name, api.Change{Kind: api.KindCheckpoint, Name: name, Device: device, Seq: seq})
		return err
	})
	return n, err
}

// Checkpoint reads a part. Error: ErrNotFound.
func (db *DB) Checkpoint(ctx context.Context, account int64, name, part string) (body []byte, err error) {
	err = db.view(ctx, account, func(q *querier) error {
		return q.one("SELECT body FROM checkpoints WHERE account=$1 AND name=$2 AND part=$3", []any{account, name, part}, &body)
	})
	return body, err
}
