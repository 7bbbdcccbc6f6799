package history

import (
	"bytes"
	"slices"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// openFile gives the thread of an attachment, withdrawn from the names.
func (h *History) openFile(id seal.ID) *thread {
	t := h.files[id]
	if t == nil {
		t = &thread{id: id}
		h.files[id] = t
	}
	if !h.now.files[t] {
		h.now.files[t] = true
		h.withdraw(t)
	}
	return t
}

func (h *History) openAsset(id seal.ID) *asset {
	a := h.asset(id)
	if _, open := h.now.assets[a]; !open {
		before := assetClaim{state: a.state()}
		if before.state.Visible() {
			c := a.claim()
			before.title = c.path
			h.titles.remove(c)
		}
		h.now.assets[a] = before
	}
	return a
}

// openAssetThread opens an asset for ops of its own: whatever they do to its
// names, its base may change.
func (h *History) openAssetThread(id seal.ID) *thread {
	a := h.openAsset(id)
	h.now.retitled[&a.thread] = true
	return &a.thread
}

// withdraw and claim take an attachment's visible files from the names of their
// assets, and enter them.
func (h *History) withdraw(t *thread) {
	for _, c := range slices.Backward(h.claims(t)) { // those of one path follow each other
		h.now.spaces[c.place.names] = true
		c.place.names.remove(c.claim)
		h.count(c, -1)
	}
}

func (h *History) claim(t *thread) {
	for _, c := range h.claims(t) {
		h.count(c, 1)
		h.now.spaces[c.place.names] = true
		c.place.names.add(c.claim)
	}
}

// count keeps what an asset holds. Only the first and the last live file can
// change how the asset stands, and any one the type of an asset without records.
func (h *History) count(c placed, by int) {
	a := c.place
	if a.live == 0 || a.live+by == 0 {
		h.openAsset(a.id)
	}
	if len(a.versions) == 0 {
		h.now.retitled[&a.thread] = true
	}
	a.live += by
	a.types[c.ptype] += by
	if a.types[c.ptype] == 0 {
		delete(a.types, c.ptype)
	}
}

func (h *History) finish() Changed {
	for t := range h.now.files {
		h.claim(t)
		h.now.attached[t] = true
		if len(t.versions) == 0 && len(t.ends) == 0 && t.birth == nil {
			delete(h.files, t.id)
		}
	}
	for a, before := range h.now.assets {
		after := assetClaim{state: a.state()}
		if after.state.Visible() {
			c := a.claim()
			after.title = c.path
			h.titles.add(c)
		}
		if after != before {
			h.now.retitled[&a.thread] = true
		}
	}
	h.titles.flush()
	for s := range h.now.spaces {
		s.flush()
	}
	c := Changed{Attachments: ids(h.now.attached), Assets: ids(h.now.retitled)}
	h.now = nil
	return c
}

func ids(set map[*thread]bool) []seal.ID {
	out := make([]seal.ID, 0, len(set))
	for t := range set {
		out = append(out, t.id)
	}
	slices.SortFunc(out, func(a, b seal.ID) int { return bytes.Compare(a[:], b[:]) })
	return out
}

// placed is a claim and where it goes.
type placed struct {
	*claim
	place *asset
	ptype uint8
}

// claims gives those of an attachment's visible files, in branch order.
func (h *History) claims(t *thread) []placed {
	if len(t.versions) == 0 {
		return nil
	}
	w, born := t.evaluate(), t.born()
	out := make([]placed, len(w.live))
	for i := range w.live {
		out[i] = w.claim(t, i, born)
	}
	return out
}

func (w *view) claim(t *thread, i int, born stamp) placed {
	b := &w.live[i]
	c := &claim{
		t: t, born: born, index: i, path: shownPath(b.values[attrName].name, t.id),
		folder: b.values[attrMIME].mime == MIMEFolder,
	}
	if i > 0 {
		c.copy = conflictSuffix(w.v[b.start])
	}
	return placed{c, b.values[attrParent].parent, b.values[attrParent].ptype}
}

// firstClaim is the claim of a main file.
func (h *History) firstClaim(t *thread) *claim { return t.evaluate().claim(t, 0, t.born()).claim }
