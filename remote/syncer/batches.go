package syncer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

const (
	fetchRun  = 64       // batches received at a time
	runBytes  = 16 << 20 // of them: no more are fetched beyond
	heldBytes = 16 << 20 // of a chain that waits: no more of it is fetched meanwhile
)

// chain is what is known of a device's chain beyond what is applied.
type chain struct {
	listed  map[uint64]bool // numbers the remote was seen to have
	held    uint64          // last batch that is verified and waits; 0: none
	count   int             // of those
	size    int             // of those, bytes
	waited  time.Duration   // for batches they name, in looks that went well
	stuck   bool            // the next one is missing or was refused; not tried at every look
	missing uint64          // the first one that is not there though it should be; 0: none
	tried   uint64          // number that was not listed and was tried all the same
}

// last is the greatest number that was seen.
func (c *chain) last() (seq uint64) {
	for n := range c.listed {
		seq = max(seq, n)
	}
	return seq
}

// forget drops what is applied.
func (c *chain) forget(head uint64) {
	maps.DeleteFunc(c.listed, func(seq uint64, _ bool) bool { return seq <= head })
}

// ref names a batch.
type ref struct {
	device seal.ID
	seq    uint64
}

// wanted lists what to fetch of a chain whose batches up to head are applied: the
// numbers that follow without a gap, and the first of a gap once, for a remote
// may have it without saying so.
func (c *chain) wanted(device seal.ID, head uint64) (out []ref) {
	if c.stuck || c.size >= heldBytes {
		return nil
	}
	last := c.last()
	for seq := max(head, c.held) + 1; seq <= last; seq++ {
		if !c.listed[seq] {
			if c.tried != seq {
				c.tried = seq
				out = append(out, ref{device, seq})
			}
			break
		}
		out = append(out, ref{device, seq})
	}
	return out
}

// takeBatches fetches and receives what the remote has beyond what is here.
// whole says that nothing of it is missing, held back or refused.
func (e *Engine) takeBatches(ctx context.Context, news map[seal.ID][]uint64, reconcile bool) (whole bool, err error) {
	e.hearOf(news, reconcile)
	if _, err := e.received(ctx, nil); err != nil { // what is held may have been lost
		return false, err
	}
	for {
		heads, err := e.o.Vault.Heads(ctx)
		if err != nil {
			return false, err
		}
		next := e.toFetch(heads)
		if len(next) == 0 {
			over, err := e.pastGap(ctx)
			if err != nil {
				return false, err
			}
			if over {
				continue
			}
			break
		}
		if err := e.takeRun(ctx, next[:min(len(next), fetchRun)]); err != nil {
			return false, err
		}
	}
	if reconcile {
		if err := e.forgetGone(ctx); err != nil {
			return false, err
		}
	}
	if err := e.checkOwnChain(ctx); err != nil {
		return false, err
	}
	if err := e.goOn(ctx); err != nil {
		return false, err
	}
	return e.caughtUp(ctx)
}

// hearOf enters what was announced.
func (e *Engine) hearOf(news map[seal.ID][]uint64, reconcile bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for device, seqs := range news {
		c := e.chains[device]
		if c == nil {
			c = &chain{listed: make(map[uint64]bool)}
			e.chains[device] = c
		}
		for _, seq := range seqs {
			c.listed[seq] = true
		}
		c.stuck = false
	}
	if reconcile {
		for _, c := range e.chains {
			c.stuck, c.tried, c.missing = false, 0, 0
		}
	}
}

// toFetch lists what is to be fetched, chain by chain.
func (e *Engine) toFetch(heads map[seal.ID]seal.Head) (out []ref) {
	self := e.o.Vault.DeviceID()
	e.mu.Lock()
	defer e.mu.Unlock()
	devices := slices.SortedFunc(maps.Keys(e.chains), func(a, b seal.ID) int { return bytes.Compare(a[:], b[:]) })
	for _, device := range devices {
		if c := e.chains[device]; device != self {
			c.forget(heads[device].Seq)
			out = append(out, c.wanted(device, heads[device].Seq)...)
		}
	}
	return out
}

// takeRun fetches and receives some batches.
func (e *Engine) takeRun(ctx context.Context, run []ref) error {
	frames, err := e.fetchBatches(ctx, run)
	if err != nil {
		return err
	}
	run = run[:len(frames)]
	var got [][]byte
	var from []ref
	given := make(map[seal.ID]uint64)
	broken := make(map[seal.ID]bool)
	for i, r := range run {
		if frames[i] == nil {
			e.gap(r)
			broken[r.device] = true
		}
		if broken[r.device] {
			continue
		}
		got, from, given[r.device] = append(got, frames[i]), append(from, r), r.seq
	}
	refused, err := e.received(ctx, from, got...)
	if err != nil {
		return err
	}
	return e.noteRefused(ctx, given, refused)
}

// fetchBatches gets the bytes of each, nil for one that is not there; of fewer than
// were asked for where they are too many to be held at a time.
func (e *Engine) fetchBatches(ctx context.Context, run []ref) ([][]byte, error) {
	keys := make([]string, len(run))
	for i, r := range run {
		keys[i] = BatchKey(r.device.UUID(), r.seq)
	}
	return e.getSome(ctx, keys, runBytes)
}

// gap notes a batch that is not there though it should be.
func (e *Engine) gap(r ref) {
	e.mu.Lock()
	c := e.chains[r.device]
	delete(c.listed, r.seq)
	c.stuck, c.missing = true, r.seq
	e.mu.Unlock()
}

// received gives batches to the vault, and once more after headers that know
// their authors. from says where each was found.
func (e *Engine) received(ctx context.Context, from []ref, frames ...[]byte) (refused int, err error) {
	r, err := e.o.Vault.Receive(ctx, frames...)
	if err == nil && slices.ContainsFunc(r.Refused, func(err error) bool { return errors.Is(err, vaultcore.ErrUnknownDevice) }) {
		taken, herr := e.nextHeaders(ctx)
		if herr != nil {
			return 0, herr
		}
		if taken {
			r, err = e.o.Vault.Receive(ctx, frames...)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("receive batches: %w", err)
	}
	for i, cause := range r.Refused {
		if errors.Is(cause, seal.ErrGap) {
			continue // behind one that was refused
		}
		if errors.Is(cause, seal.ErrFormat) { // it does not say which it is
			at := from[r.RefusedAt[i]]
			cause = fmt.Errorf("%s: %w", BatchKey(at.device.UUID(), at.seq), cause)
		}
		if errors.Is(cause, vaultcore.ErrClock) {
			cause = fmt.Errorf("%s: %w", e.deviceName(ctx, from[r.RefusedAt[i]].device), cause)
		}
		refused++
		e.o.Log.Warn("batch refused", "err", cause)
		e.meet(cause)
	}
	if r.Applied > 0 {
		e.applied(r.Replaced)
	}
	e.noteHeld(r.Waiting)
	return refused, nil
}

// deviceName names a device to a person.
func (e *Engine) deviceName(ctx context.Context, id seal.ID) string {
	devices, err := e.o.Vault.Devices(ctx)
	if err == nil {
		for _, d := range devices {
			if d.ID == id.UUID() && d.Name != "" {
				return d.Name
			}
		}
	}
	return "device " + id.UUID()
}

// applied notes that rows changed: own batches may have been sealed before, and
// contents be wanted. A server keeps what was replaced until all have said that they
// have seen it.
func (e *Engine) applied(replaced bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.o.Now()
	if replaced && e.caps.Rows && e.owed.IsZero() {
		e.owed = now
	}
	e.refresh, e.unpushed, e.hint = true, true, true
	e.used, e.expected = now, now
}

func (e *Engine) noteHeld(waiting []vaultcore.Wait) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.chains {
		c.held, c.count, c.size = 0, 0, 0
	}
	for _, w := range waiting {
		if c := e.chains[w.Device]; c != nil {
			c.held, c.count, c.size = max(c.held, w.Seq), c.count+1, c.size+w.Size
		}
	}
}

// noteRefused marks the chains whose batches were not taken, so that they are
// not fetched again at every look. One that was neither taken nor refused is one
// that is known, under a number that is not its own.
func (e *Engine) noteRefused(ctx context.Context, given map[seal.ID]uint64, refused int) error {
	heads, err := e.o.Vault.Heads(ctx)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for device, seq := range given {
		if c := e.chains[device]; max(heads[device].Seq, c.held) < seq {
			c.stuck = true
			if refused == 0 {
				e.meet(fmt.Errorf("%w: in place of batch %d of device %s", seal.ErrRollback, seq, device))
			}
		}
	}
	return nil
}

// checkOwnChain looks whether the remote has batches in our name that are not
// here.
func (e *Engine) checkOwnChain(ctx context.Context) error {
	seq, err := e.ownBeyond(ctx)
	if err != nil || seq == 0 {
		return err
	}
	frames, err := e.fetchBatches(ctx, []ref{{e.o.Vault.DeviceID(), seq}})
	if err != nil || frames[0] == nil {
		return err
	}
	err = e.o.Vault.CheckOwn(ctx, frames[0])
	if errors.Is(err, seal.ErrFormat) { // it does not say which it is
		err = fmt.Errorf("batch %d of this device: %w", seq, err)
	}
	if err != nil {
		e.ownTrouble(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.beyond = errors.Is(err, vaultcore.ErrLocalRollback)
	return nil
}

// ownBeyond gives the first number of our chain that the remote has and we have
// not, once until the next look at everything; 0 for none.
func (e *Engine) ownBeyond(ctx context.Context) (first uint64, err error) {
	self := e.o.Vault.DeviceID()
	heads, err := e.o.Vault.Heads(ctx)
	if err != nil {
		return 0, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.chains[self]
	if c == nil || c.stuck {
		return 0, nil
	}
	c.forget(heads[self].Seq)
	for seq := range c.listed {
		if first == 0 || seq < first {
			first = seq
		}
	}
	c.stuck = true
	e.beyond = false
	return first, nil
}

// ownTrouble is a chain of ours that is not as we left it.
func (e *Engine) ownTrouble(err error) {
	e.meet(err)
	if errors.Is(err, vaultcore.ErrLocalRollback) {
		m := meaningOf(err)
		e.o.Vault.Alarm(m.kind, m.text+"; "+m.hint)
	}
}

// waits gives the chains whose batches wait for others that nobody delivers.
func waits(waiting []vaultcore.Wait) map[seal.ID]bool {
	out := make(map[seal.ID]bool)
	for _, w := range waiting {
		if len(w.Missing) > 0 && !w.Vouch {
			out[w.Device] = true
		}
	}
	return out
}

// goOn applies what has waited for too long without what it waits for.
func (e *Engine) goOn(ctx context.Context) error {
	r, err := e.o.Vault.Receive(ctx)
	if err != nil {
		return err
	}
	for _, device := range e.givenUp(r.Waiting) {
		r, err := e.o.Vault.GoOn(ctx, device)
		if err != nil {
			return err
		}
		if r.Applied > 0 {
			e.applied(r.Replaced)
		}
		e.noteHeld(r.Waiting)
	}
	return nil
}

// givenUp counts how long chains wait, in looks that went well, and gives those
// that have waited long enough.
func (e *Engine) givenUp(waiting []vaultcore.Wait) (out []seal.ID) {
	waits := waits(waiting)
	e.mu.Lock()
	defer e.mu.Unlock()
	// A look that was long ago says nothing about the time in between.
	var passed time.Duration
	if !e.polled.IsZero() {
		passed = min(e.o.Now().Sub(e.polled), pollMetered)
	}
	for device, c := range e.chains {
		if !waits[device] {
			c.waited = 0
			continue
		}
		if c.waited += passed; c.waited >= giveUpAfter(e.caps) {
			c.waited = 0
			e.giveUpLocked(device, waiting)
			out = append(out, device)
		}
	}
	return out
}

// caughtUp says whether everything that was seen is applied. What a revoked
// device writes beyond its end never is.
func (e *Engine) caughtUp(ctx context.Context) (bool, error) {
	heads, err := e.o.Vault.Heads(ctx)
	if err != nil {
		return false, err
	}
	e.tellMissing(heads)
	revoked := make(map[seal.ID]bool)
	for _, d := range e.o.Vault.Roster() {
		revoked[d.ID] = d.Revoked
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for device, c := range e.chains {
		c.forget(heads[device].Seq)
		if len(c.listed) > 0 && !revoked[device] || c.count > 0 {
			return false, nil
		}
	}
	return true, nil
}
