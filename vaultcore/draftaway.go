package vaultcore

import "time"

// A draft over a content that is elsewhere takes writes as any other, and
// close must not wait for a network. So what was written is kept, which makes
// it as safe as a commit does, and the commit follows once what the draft
// stands on has come.

// How long is waited after a download for a draft has failed, and how long for
// one.
const (
	draftRetryMin = time.Second
	draftRetryMax = time.Minute
)

// missing gives something that sealing the draft needs and that is not here,
// nil if nothing is.
func (d *draft) missing() *awayError {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.missingLocked(0, d.length)
}

func (d *draft) missingLocked(from, to int64) *awayError {
	low := &d.lower
	to = min(to, low.shown)
	if low.content == nil && low.frozen == nil || d.ended || d.done != nil || low.content != nil && low.content.place.Load() != placeElsewhere {
		return nil
	}
	for page, last := from/pageSize, (to-1)/pageSize; page*pageSize < to; {
		n := d.pages.run(page, last)
		_, logged := d.pages.record(page)
		if !logged && !d.pages.inRAM(page) {
			at := max(page*pageSize, from)
			if away := low.missing(at, min((page+n)*pageSize, to)-at); away != nil {
				return away
			}
		}
		page += n
	}
	return nil
}

func (l *lower) missing(off, n int64) *awayError {
	if l.content != nil {
		return l.content.missing(off, n)
	}
	l.frozen.mu.Lock()
	defer l.frozen.mu.Unlock()
	return l.frozen.missingLocked(off, off+n)
}

// deferCommit keeps a draft that cannot be sealed yet and has what is missing
// fetched; o.mu is held. A file that has lost its row, and what it stood on, has
// nothing to keep the draft with: closing it says so, and it is committed in this
// session all the same once what is missing has come.
func (v *Vault) deferCommit(o *openState, away *awayError) error {
	v.tree.RLock()
	orphan := o.node.has(flagOrphan) && v.trashedBase(o.node) == nil
	v.tree.RUnlock()
	if orphan {
		v.completeDraft(o)
		return away
	}
	if err := v.keepDraft(o, false); err != nil {
		return err
	}
	v.completeDraft(o)
	return v.strictBarrier()
}

// completeDraft has what the draft needs fetched, beside everything else;
// o.mu is held.
func (v *Vault) completeDraft(o *openState) {
	if o.waits || !v.store.fetches.begin() {
		return
	}
	o.waits = true
	v.log.Info("a save waits for the rest of its file", "id", o.node.id.UUID())
	w := draftWait{v: v, o: o, pause: draftRetryMin}
	go func() {
		defer v.store.fetches.running.Done()
		for w.step() {
		}
		w.hold(nil)
	}()
}

// draftWait is the fetching of what a draft stands on.
type draftWait struct {
	v     *Vault
	o     *openState
	pause time.Duration // after the next failure
	held  *sparse       // of which nothing is shed meanwhile
}

// step brings a part of what the draft needs; false once that is all, or
// nothing is left to do.
func (w *draftWait) step() bool {
	v := w.v
	away, err := v.draftNeeds(w.o)
	if away == nil {
		if err == nil {
			v.closeOpen(w.o)
		}
		return false
	}
	p := patience{until: time.Now().Add(fetchPiece)}
	if err = v.store.bring(&p, away); err == nil {
		w.pause = draftRetryMin
		w.hold(away.c.sp.Load())
		return v.ctx.Err() == nil
	}
	select {
	case <-v.ctx.Done():
		return false
	case <-time.After(w.pause):
	}
	w.pause = min(2*w.pause, draftRetryMax)
	return true
}

func (w *draftWait) hold(sp *sparse) {
	if sp == w.held {
		return
	}
	if w.held != nil {
		w.held.needed.Add(-1)
	}
	if w.held = sp; sp != nil {
		sp.needed.Add(1)
	}
}

// draftNeeds gives what the draft of o still needs. If that is nothing, and
// nobody has the file open for writing, the draft is committed.
func (v *Vault) draftNeeds(o *openState) (away *awayError, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.draft != nil && !v.nameless(o.node) {
		if away = o.draft.missing(); away != nil {
			return away, nil
		}
	}
	o.waits = false
	v.tree.RLock()
	alone := o.writers == 0
	v.tree.RUnlock()
	if o.draft == nil || !alone {
		return nil, nil
	}
	if err = v.commitOpen(o, true); err != nil {
		v.keepFailed(o, err)
	}
	return nil, err
}
