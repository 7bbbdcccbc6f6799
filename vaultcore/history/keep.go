package history

import (
	"iter"
	"slices"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Birth says when an id was first heard of, in place of records that a
// checkpoint dropped: who is older keeps a name, whatever became of its first
// record.
type Birth struct {
	At           // of the id's first record
	ID   seal.ID // an attachment, or an asset
	Kind uint8   // BirthAttachment or BirthAsset
}

// Kinds of a Birth.
const (
	BirthAttachment uint8 = iota + 1
	BirthAsset
)

// Kept is what a checkpoint keeps of the records of a history. Of dels it
// keeps all: an id that died stays dead.
type Kept struct {
	records map[Digest]bool
	births  map[Digest]At
}

// Record says whether a record is kept, and if those before it are dropped the
// birth of its id, else nil.
func (k *Kept) Record(d Digest) (kept bool, born *At) {
	if !k.records[d] {
		return false, nil
	}
	if at, ok := k.births[d]; ok {
		return true, &at
	}
	return true, nil
}

// Keep decides which records still matter. settled says that a batch is old and
// that every active device has it; arrived that a blob is on the remote.
//
// A record is replaced for good once a settled record whose content has arrived
// stands on it, and dead for good under a settled del: nobody who knows that
// can make another change of it. All others are open. What holds a thread's open
// records together is kept, from the record down from which they fork; nothing
// is left out inside of that, since branches are ordered, merged and named by
// each other. What lies outside can neither be seen nor changed any more.
//
// in says which batches count, nil for all.
func (h *History) Keep(in, settled func(At) bool, arrived func(blob seal.ID) bool) *Kept {
	k := &Kept{records: make(map[Digest]bool, len(h.files)), births: make(map[Digest]At)}
	old := func(s stamp) bool { return settled(s.at()) }
	for _, t := range h.files {
		k.thread(t.within(in), old, func(v *version) bool { return old(v.stamp) && arrived(v.blob) }, false)
	}
	for _, a := range h.assets {
		k.thread(a.thread.within(in), old, func(v *version) bool { return old(v.stamp) }, true)
	}
	return k
}

func (s stamp) at() At { return At{Device: s.dev.id, Seq: s.seq, HLC: s.hlc} }

// thread enters what is kept of one id.
func (k *Kept) thread(t *thread, old func(stamp) bool, replaces func(*version) bool, directory bool) {
	if len(t.versions) == 0 {
		return
	}
	w := t.evaluate()
	top, last := 0, len(w.v)-1
	if root, ok := w.top(w.open(t.settledEnds(old), replaces, directory)); ok {
		if root == noOpen {
			return
		}
		top, last = root, w.last[root]
	}
	born, there := t.born(), false
	for i := top; i <= last; i++ {
		k.records[w.v[i].digest] = true
		there = there || w.v[i].stamp == born
	}
	if !there {
		k.births[w.v[top].digest] = born.at()
	}
}

// settledEnds gives the records that have a del, and whether one is settled.
func (t *thread) settledEnds(old func(stamp) bool) map[Digest]bool {
	if len(t.ends) == 0 {
		return nil
	}
	m := make(map[Digest]bool, len(t.ends))
	for _, e := range t.ends {
		m[e.prev] = m[e.prev] || old(e.stamp)
	}
	return m
}

// open gives the records that a change can still be made of, in branch order. A
// dead directory may come back under its title, for a file saved in it late, and
// be renamed: a del closes nothing there, and all its tips stay.
func (w *view) open(ends map[Digest]bool, replaces func(*version) bool, directory bool) (open []int) {
	replaced, dead := make([]bool, len(w.v)), make([]bool, len(w.v))
	for i, v := range w.v {
		p := w.up[i]
		settled, ended := ends[v.digest]
		dead[i] = settled || !ended && p >= 0 && dead[p] && w.v[p].sameWork(v)
		if p >= 0 && replaces(v) {
			replaced[p] = true
		}
	}
	for i := range w.v {
		if directory && (w.leaf(i) || !replaced[i]) || !replaced[i] && !dead[i] {
			open = append(open, i)
		}
	}
	return open
}

// Required gives the records that no checkpoint of the batches in may leave out. aged
// says that a batch is older than a checkpoint looks back.
//
// That is less than Keep keeps. Who makes a checkpoint may have dropped a record long
// ago, and then comes a change of it: of a file that was open all the while, of a
// device that was away for longer than it was waited for. The whole log needs the
// record again, to hold the two together, and its author has it no more. But nobody
// drops what was open then, and what was not has been replaced or deleted by something
// that is aged today; so what is required is what is open by age alone.
func (h *History) Required(in, aged func(At) bool, arrived func(blob seal.ID) bool) map[Digest]bool {
	required := make(map[Digest]bool, len(h.files))
	old := func(s stamp) bool { return aged(s.at()) }
	add := func(t *thread, replaces func(*version) bool, directory bool) {
		if t = t.within(in); len(t.versions) > 0 {
			w := t.evaluate()
			for _, i := range w.required(t.settledEnds(old), replaces, directory) {
				required[w.v[i].digest] = true
			}
		}
	}
	for _, t := range h.files {
		add(t, func(v *version) bool { return old(v.stamp) && arrived(v.blob) }, false)
	}
	for _, a := range h.assets {
		add(&a.thread, func(v *version) bool { return old(v.stamp) }, true)
	}
	return required
}

// required is open, but that a late del takes nothing back: a record that was dead
// with the one above it stays so.
func (w *view) required(ends map[Digest]bool, replaces func(*version) bool, directory bool) (out []int) {
	dead := make(map[Digest]bool, len(ends))
	for i, v := range w.v {
		p := w.up[i]
		dead[v.digest] = ends[v.digest] || p >= 0 && dead[w.v[p].digest] && w.v[p].sameWork(v)
	}
	for _, i := range w.open(ends, replaces, directory) {
		if directory || !dead[w.v[i].digest] {
			out = append(out, i)
		}
	}
	return out
}

const noOpen = -1

// top gives the record that everything open descends from, noOpen if nothing
// is; false: there is none, and all is kept.
func (w *view) top(open []int) (int, bool) {
	if len(open) == 0 {
		return noOpen, true
	}
	top := open[0]
	for top >= 0 && !w.holds(top, open[len(open)-1]) {
		top = w.up[top]
	}
	// One that is dead because it changed nothing of a deleted record stays so.
	for top >= 0 && w.up[top] >= 0 && w.ended[w.up[top]] > 0 && w.v[w.up[top]].sameWork(w.v[top]) {
		top = w.up[top]
	}
	return top, top >= 0
}

// Tips gives every live tip of attachments and assets as it was with the
// batches that in says, nil for all.
func (h *History) Tips(in func(At) bool) iter.Seq[seal.Tip] {
	return func(yield func(seal.Tip) bool) {
		for _, t := range h.files {
			if !t.eachTip(in, yield) {
				return
			}
		}
		for _, a := range h.assets {
			if !a.thread.eachTip(in, yield) {
				return
			}
		}
	}
}

func (t *thread) eachTip(in func(At) bool, yield func(seal.Tip) bool) bool {
	t = t.within(in)
	if len(t.versions) == 0 {
		return true
	}
	w := t.evaluate()
	for i := range w.v {
		if w.leaf(i) && w.ended[i] == 0 && !yield(seal.Tip{ID: t.id, Digest: w.v[i].digest}) {
			return false
		}
	}
	return true
}

// within gives the thread as it is with some batches only, nil for all.
func (t *thread) within(in func(At) bool) *thread {
	if in == nil {
		return t
	}
	out := func(s stamp) bool { return !in(s.at()) }
	if !slices.ContainsFunc(t.ends, func(e end) bool { return out(e.stamp) }) &&
		!slices.ContainsFunc(t.versions, func(v version) bool { return out(v.stamp) }) {
		return t
	}
	part := t.only(func(s stamp) bool { return in(s.at()) })
	part.birth = t.birth
	return part
}

// Blobs gives the blobs of the attachments' records that are kept, some of them
// more than once.
func (h *History) Blobs(k *Kept) iter.Seq[seal.ID] {
	return func(yield func(seal.ID) bool) {
		for _, t := range h.files {
			for i := range t.versions {
				if v := &t.versions[i]; k.records[v.digest] && !yield(v.blob) {
					return
				}
			}
		}
	}
}

// addBirths enters births; of two of one id the earlier counts.
func (h *History) addBirths(births []Birth) {
	for _, b := range births {
		var t *thread
		if b.Kind == BirthAsset {
			t = h.openAssetThread(b.ID)
		} else {
			t = h.openFile(b.ID)
		}
		if s := h.stamp(b.At); t.birth == nil || s.compare(*t.birth) < 0 {
			t.birth = &s
		}
	}
}

// BlobsOf gives the blobs of all records of an attachment.
func (h *History) BlobsOf(id seal.ID) iter.Seq[seal.ID] {
	return func(yield func(seal.ID) bool) {
		t := h.files[id]
		if t == nil {
			return
		}
		for i := range t.versions {
			if !yield(t.versions[i].blob) {
				return
			}
		}
	}
}
