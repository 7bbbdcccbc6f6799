package vaultcore

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/history"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// maxClockAhead is how far ahead of ours a batch's clock may be.
const maxClockAhead = 24 * time.Hour

// Received says what became of some batches.
type Received struct {
	Applied int // batches, held ones of earlier calls with them
	// Replaced: an applied one replaced or deleted something, and its author waits for
	// others to have seen that before what was replaced goes from the remote.
	Replaced bool
	Waiting  []Wait // all that are held now
	// Refused has one error for each batch that was not taken. It stops the
	// chain of its device, nothing else.
	Refused []error
	// RefusedAt are the places of their frames in the call, in the same order: a
	// frame that cannot be read does not say whose it is.
	RefusedAt []int
}

// Wait is a batch that is verified and not applied yet.
type Wait struct {
	Device  seal.ID
	Seq     uint64
	Size    int                // bytes of its frame
	Missing map[seal.ID]uint64 // batches it names that have not come
	Vouch   bool               // it is of an epoch that is over and nobody has vouched for it
}

// heldBatch is a batch that passed all steps but the last.
type heldBatch struct {
	b     *seal.Batch
	body  *seal.Body
	after *peer // its author's chain once it counts
	goOn  bool  // what it waits for was given up
}

// Receive takes batches of other devices, of any order and repeated at will:
// the ten steps of the page, device by device. Whatever may be applied then is,
// in one transaction with the sealing of what changed here before it. Errors:
// ErrLedgerOff, ErrReadOnly, ErrFork (then the vault is frozen), those of the
// disk. What a single chain did wrong is in Received.
func (v *Vault) Receive(ctx context.Context, frames ...[]byte) (Received, error) {
	if err := v.writable(); err != nil {
		return Received{}, err
	}
	l, err := v.lockLedger(ctx)
	if err != nil {
		return Received{}, err
	}
	defer l.mu.Unlock()
	var r Received
	for i, f := range frames {
		err := l.admit(f)
		if err == nil {
			continue
		}
		r.Refused, r.RefusedAt = append(r.Refused, err), append(r.RefusedAt, i)
		if !l.strangerOnce(err, f) {
			v.journal(err)
		}
		if errors.Is(err, seal.ErrFork) {
			return r, err
		}
	}
	r.Applied, r.Replaced, err = l.applyHeld(ctx)
	r.Waiting = l.waiting()
	return r, err
}

// strangerOnce says whether a frame is of an unknown device and was not seen
// before: then the header that names its author may just be behind it, and whoever
// delivers fetches that and tries again.
func (l *ledger) strangerOnce(err error, frame []byte) bool {
	if !errors.Is(err, ErrUnknownDevice) {
		return false
	}
	sum := sha256.Sum256(frame)
	if l.strangers[sum] || len(l.strangers) > maxStrangers {
		return false
	}
	l.strangers[sum] = true
	return true
}

// maxStrangers bounds what is remembered of batches of unknown devices.
const maxStrangers = 1000

// GoOn applies the held batches of a device without those they wait for, which
// nobody has delivered in time: ErrWithheld is journalled.
func (v *Vault) GoOn(ctx context.Context, device seal.ID) (Received, error) {
	if err := v.writable(); err != nil {
		return Received{}, err
	}
	l, err := v.lockLedger(ctx)
	if err != nil {
		return Received{}, err
	}
	defer l.mu.Unlock()
	for _, h := range l.held[device] {
		if missing := l.missing(h, l.heads()); len(missing) > 0 && !h.goOn {
			h.goOn = true
			v.journal(fmt.Errorf("%w: batch %d of device %s names others", ErrWithheld, h.b.Seq, device))
		}
	}
	var r Received
	r.Applied, r.Replaced, err = l.applyHeld(ctx)
	r.Waiting = l.waiting()
	return r, err
}

// journal records what a chain did wrong. No name of a file is in it.
func (v *Vault) journal(err error) {
	kind := "chain"
	for name, cause := range map[string]error{
		"fork": seal.ErrFork, "unknown-device": ErrUnknownDevice, "signature": seal.ErrSignature, "stale-epoch": ErrStaleEpoch,
		"clock": ErrClock, "withheld": ErrWithheld, "resurrect": history.ErrResurrect, "local-rollback": ErrLocalRollback,
		"newer-version": seal.ErrNewer,
	} {
		if errors.Is(err, cause) {
			kind = name
		}
	}
	if errors.Is(err, seal.ErrGap) || errors.Is(err, ErrNewEpoch) {
		return // the engine fetches what is missing, or a condition says so
	}
	v.alarm(kind, err.Error())
}

// admit does steps 1 to 9. nil: the batch is held, or was known already.
func (l *ledger) admit(frame []byte) error {
	v := l.v
	b, err := seal.ParseBatch(v.keys.vaultID(), frame)
	if err != nil {
		return err
	}
	dev, err := l.rosterEntry(b.Device)
	if err != nil {
		return fmt.Errorf("batch %d of device %s: %w", b.Seq, b.Device, err)
	}
	tail := l.tail(b.Device)
	follows := b.Follows(tail.head)
	if b.Seq <= tail.head.Seq {
		same, known := l.knows(b.Device, b.Head())
		if same {
			return nil
		}
		if !known && b.Seq <= l.base.heads[b.Device] {
			return nil // a checkpoint stands for it
		}
		if !known {
			return fmt.Errorf("%w: batch %d of device %s", seal.ErrRollback, b.Seq, b.Device)
		}
		follows = fmt.Errorf("%w: batch %d of device %s", seal.ErrFork, b.Seq, b.Device)
	}
	if l.cutOff(b.Device, b.Seq) {
		return cmp.Or(b.VerifySignature(ed25519.PublicKey(dev.PK[:])),
			fmt.Errorf("%w: device %s was revoked and goes on publishing", ErrStaleEpoch, b.Device))
	}
	if errors.Is(follows, seal.ErrGap) && b.Device != v.keys.deviceID() {
		return follows
	}
	// What proves a fork has to be signed.
	if err := b.VerifySignature(ed25519.PublicKey(dev.PK[:])); err != nil {
		return err
	}
	if errors.Is(follows, seal.ErrFork) {
		return l.fork(follows, b)
	}
	if b.Device == v.keys.deviceID() {
		return fmt.Errorf("%w: batch %d, the last one here is %d", ErrLocalRollback, b.Seq, tail.head.Seq)
	}
	h := &heldBatch{b: b, after: tail.clone()}
	if err := l.checkEpoch(h, dev, tail); err != nil {
		return fmt.Errorf("batch %d of device %s: %w", b.Seq, b.Device, err)
	}
	if h.body, err = l.openBody(b); err != nil {
		return err
	}
	if err := l.checkClock(h, tail); err != nil {
		return fmt.Errorf("batch %d of device %s: %w", b.Seq, b.Device, err)
	}
	if err := l.checkSeen(h, tail); err != nil {
		return err
	}
	h.after.head, h.after.epoch, h.after.hlc = b.Head(), b.Epoch, h.body.HLC
	maps.Copy(h.after.seen, h.body.Seen)
	l.held[b.Device] = append(l.held[b.Device], h)
	return nil
}

func (l *ledger) rosterEntry(id seal.ID) (seal.Device, error) {
	if d, listed := l.v.keys.header().Roster(id); listed {
		return d, nil
	}
	if p := l.v.pending.Load(); p.foreign() {
		if _, listed := p.last().Roster(id); listed {
			return seal.Device{}, ErrNewEpoch
		}
	}
	return seal.Device{}, ErrUnknownDevice
}

// tail is where a device's chain stands with what is held.
func (l *ledger) tail(id seal.ID) *peer {
	if held := l.held[id]; len(held) > 0 {
		return held[len(held)-1].after
	}
	return l.peer(id)
}

// knows says whether a batch is the one we have of that number.
func (l *ledger) knows(device seal.ID, h seal.Head) (same, known bool) {
	for _, held := range l.held[device] {
		if held.b.Seq == h.Seq {
			return held.b.Hash == h.Hash, true
		}
	}
	if p := l.peers[device]; p != nil && p.head.Seq == h.Seq {
		return p.head.Hash == h.Hash, true
	}
	frame := l.storedBatch(device, h.Seq)
	if frame == nil {
		return false, false
	}
	b, err := seal.ParseBatch(l.v.keys.vaultID(), frame)
	return err == nil && b.Hash == h.Hash, true
}

func (l *ledger) storedBatch(device seal.ID, seq uint64) []byte {
	l.v.readMu.Lock()
	defer l.v.readMu.Unlock()
	if l.v.reader == nil {
		return nil
	}
	frame, err := l.v.reader.one("SELECT bytes FROM batches WHERE device=? AND seq=?", device[:], int64(seq))
	if err != nil {
		return nil
	}
	b, _ := frame.([]byte)
	return b
}

// heads gives the applied end of every chain.
func (l *ledger) heads() map[seal.ID]uint64 {
	m := make(map[seal.ID]uint64, len(l.peers))
	for id, p := range l.peers {
		m[id] = p.head.Seq
	}
	return m
}

// missing lists what a batch waits for.
func (l *ledger) missing(h *heldBatch, heads map[seal.ID]uint64) map[seal.ID]uint64 {
	var out map[seal.ID]uint64
	for id, head := range h.body.Seen {
		if l.cutOff(id, head.Seq) {
			continue // nobody gets it any more
		}
		if id != l.v.keys.deviceID() && heads[id] < head.Seq {
			if out == nil {
				out = make(map[seal.ID]uint64)
			}
			out[id] = head.Seq
		}
	}
	return out
}

// vouched says whether a batch of an epoch that is over counts.
func (l *ledger) vouched(h *heldBatch) bool {
	header := l.v.keys.header()
	if h.b.Epoch >= header.Epoch || h.b.Seq <= header.Cut[h.b.Device].Seq {
		return true
	}
	for _, d := range header.Devices {
		tail := l.tail(d.ID)
		if d.Revoked || tail.epoch != header.Epoch {
			continue
		}
		if d.ID == h.b.Device || tail.seen[h.b.Device].Seq >= h.b.Seq {
			return true
		}
	}
	return false
}

func (l *ledger) waiting() (out []Wait) {
	heads := l.heads()
	for id, held := range l.held {
		for _, h := range held {
			out = append(out, Wait{Device: id, Seq: h.b.Seq, Size: len(h.b.Bytes), Missing: l.missing(h, heads), Vouch: !l.vouched(h)})
		}
	}
	slices.SortFunc(out, func(a, b Wait) int {
		if c := bytes.Compare(a.Device[:], b.Device[:]); c != 0 {
			return c
		}
		return int(a.Seq) - int(b.Seq)
	})
	return out
}

// maxRun bounds the batches of one exclusive section.
const maxRun = 16

// nextRun takes the held batches that may be applied now, in an order in which
// each comes after what it names.
func (l *ledger) nextRun() (run []*heldBatch) {
	heads := l.heads()
	ids := slices.SortedFunc(maps.Keys(l.held), func(a, b seal.ID) int { return bytes.Compare(a[:], b[:]) })
	at := make(map[seal.ID]int)
	for moved := true; moved && len(run) < maxRun; {
		moved = false
		for _, id := range ids {
			for ; at[id] < len(l.held[id]) && len(run) < maxRun; at[id]++ {
				h := l.held[id][at[id]]
				if !l.vouched(h) || len(l.missing(h, heads)) > 0 && !h.goOn {
					break
				}
				run = append(run, h)
				heads[id] = h.b.Seq
				moved = true
			}
		}
	}
	return run
}

// applyHeld applies all that may be applied.
func (l *ledger) applyHeld(ctx context.Context) (applied int, replaced bool, err error) {
	for {
		run := l.nextRun()
		if len(run) == 0 {
			return applied, replaced, nil
		}
		if err := ctx.Err(); err != nil {
			return applied, replaced, err
		}
		var changes []Change
		err := l.hashed(ctx, func() (err error) {
			changes, err = l.applyRun(run)
			return err
		})
		l.v.changed(changes...)
		if errors.Is(err, errStalled) {
			return applied, replaced, nil
		}
		if err != nil {
			return applied, replaced, err
		}
		applied += len(run)
		for _, h := range run {
			replaced = replaced || slices.ContainsFunc(h.body.Ops, replaces)
			if l.held[h.b.Device] = l.held[h.b.Device][1:]; len(l.held[h.b.Device]) == 0 {
				delete(l.held, h.b.Device)
			}
		}
	}
}

// replaces says whether an op takes something away that was there.
func replaces(op seal.Op) bool {
	switch op := op.(type) {
	case *seal.Put:
		return op.Prev != [32]byte{}
	case *seal.Del:
		return true
	}
	return false
}

// applyRun seals what changed here, so that no batch of ours claims to have
// known what came after an edit, and then applies the batches.
func (l *ledger) applyRun(run []*heldBatch) (changes []Change, err error) {
	v := l.v
	v.ns.Lock()
	defer v.ns.Unlock()
	if err := l.noneUnhashed(); err != nil {
		return nil, err
	}
	in := &incoming{}
	if err := l.sealFirst(in); err != nil {
		return nil, err
	}
	l.broken = true // until the transaction is in, memory is ahead
	for _, h := range run {
		l.take(in, h)
	}
	changes, err = l.applyChanged(in.changed(), in)
	if err != nil {
		return nil, err
	}
	for _, h := range run {
		l.peers[h.b.Device] = h.after
		l.clock = max(l.clock, h.body.HLC)
	}
	l.lastOp += int64(in.count)
	l.broken = false
	return changes, nil
}

// sealFirst seals all that changed here. Error: errStalled while that may not be
// sealed; then nothing may be applied over it either.
func (l *ledger) sealFirst(in *incoming) error {
	if l.stalled() {
		return errors.Join(errStalled, l.v.sealable())
	}
	for more := true; more; {
		s, err := l.sealNext(SealOptions{})
		if err != nil {
			return err
		}
		if more = s != nil && s.more; s != nil {
			in.note(s.changed)
		}
	}
	return nil
}

// incoming is what a transaction of others' batches writes.
type incoming struct {
	run      []*heldBatch
	ops      [][]*opRow // by batch
	count    int
	puts     map[history.Digest]*seal.Put
	wraps    []*seal.Wrap
	sent     map[seal.ID]seal.ID // blob to who sent it
	found    []seal.ID           // blobs that this device saw on the remote
	want     []seal.ID           // blobs that others cannot fetch
	arrived  map[seal.ID]bool    // blobs whose file is in place
	revoked  bool                // what no op names any more was taken back
	attached map[seal.ID]bool
	assets   map[seal.ID]bool

	unfinished bool                   // a piece of more
	keys       map[seal.ID]*seal.Wrap // newer keys of contents than their records have
}

func (in *incoming) note(c history.Changed) {
	if in.attached == nil {
		in.attached, in.assets = make(map[seal.ID]bool), make(map[seal.ID]bool)
	}
	for _, id := range c.Attachments {
		in.attached[id] = true
	}
	for _, id := range c.Assets {
		in.assets[id] = true
	}
}

func (in *incoming) changed() (c history.Changed) {
	less := func(a, b seal.ID) int { return bytes.Compare(a[:], b[:]) }
	c.Attachments = slices.SortedFunc(maps.Keys(in.attached), less)
	c.Assets = slices.SortedFunc(maps.Keys(in.assets), less)
	return c
}

// take is step 10 for one batch: its ops enter the history.
func (l *ledger) take(in *incoming, h *heldBatch) {
	if in.puts == nil {
		in.puts, in.sent = make(map[history.Digest]*seal.Put), make(map[seal.ID]seal.ID)
	}
	var rows []*opRow
	dead := &deadIDs{l: l, h: h}
	for i, op := range h.body.Ops {
		switch op := op.(type) {
		case *seal.Wrap:
			in.wraps = append(in.wraps, op)
		case *seal.Want:
			in.want = append(in.want, op.Blobs...)
		case *seal.Sent:
			if !l.remote.IsZero() && op.Remote != l.remote {
				break
			}
			for _, blob := range op.Blobs {
				in.sent[blob] = h.b.Device
				if !l.sent[blob] {
					l.sent[blob] = true
					l.dueBlobs([]seal.ID{blob}, dueOthers)
					in.note(history.Changed{Attachments: l.pending.byBlob[blob]})
				}
			}
		}
		o, ok := l.v.opRowOf(h.b, h.body.HLC, i, op)
		if !ok || !dead.counts(o) {
			continue
		}
		if p, ok := op.(*seal.Put); ok {
			in.puts[o.put.Digest] = p
		}
		in.count++
		o.n = l.lastOp + int64(in.count)
		rows = append(rows, o)
	}
	in.run, in.ops = append(in.run, h), append(in.ops, rows)
	in.note(l.h.Add(historyOps(rows)))
}

// write puts the batches and what they say into the database.
func (in *incoming) write(l *ledger, t *txn) error {
	for i, h := range in.run {
		if err := l.putBatch(t, h.b, batchApplied, in.ops[i]); err != nil {
			return err
		}
		if err := t.putPeer(h.b.Device, h.after); err != nil {
			return err
		}
	}
	for blob, device := range in.sent {
		err := t.exec(`INSERT INTO blob_presence(blob,state,device) VALUES(?,1,?) ON CONFLICT(blob) DO NOTHING`, blob[:], device[:])
		if err != nil {
			return err
		}
	}
	own := l.v.keys.deviceID()
	for _, blob := range in.found {
		err := t.exec(`INSERT INTO blob_presence(blob,state,device,said) VALUES(?,2,?,1)
			ON CONFLICT(blob) DO UPDATE SET state=2,device=excluded.device`, blob[:], own[:])
		if err != nil {
			return err
		}
	}
	for _, blob := range in.want {
		if err := t.queueWanted(blob, l.v.nowNS()); err != nil {
			return err
		}
	}
	return nil
}
