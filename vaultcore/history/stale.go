package history

import (
	"bytes"
	"slices"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Outlived gives the records of a device after its batch seq that change only
// mtime or mode of what is dead in next, and would revive it there: next, which
// takes the place of h, has the del and not the record any more, so it cannot
// see that. The device answers each with a del of its own.
func (h *History) Outlived(next *History, device seal.ID, seq uint64) (out []Del) {
	for id, t := range next.files {
		old := h.files[id]
		if old == nil || len(t.ends) == 0 || len(t.versions) == 0 {
			continue
		}
		w := t.evaluate()
		for i, v := range w.v {
			if w.leaf(i) && w.ended[i] == 0 && v.dev.id == device && v.seq > seq && w.outlived(i, t, old) {
				out = append(out, Del{ID: id, Prev: v.digest})
			}
		}
	}
	slices.SortFunc(out, func(a, b Del) int { return bytes.Compare(a.Prev[:], b.Prev[:]) })
	return out
}

// outlived says whether a tip and all above it changed nothing that outlives a
// delete, by what old still knows, up to a record that only a del names.
func (w *view) outlived(i int, t, old *thread) bool {
	for ; ; i = w.up[i] {
		v := old.find(w.v[i].digest)
		if v == nil {
			return false
		}
		before := old.find(v.prev)
		if before == nil || !before.sameWork(v) {
			return false
		}
		if w.up[i] < 0 {
			return slices.ContainsFunc(t.ends, func(e end) bool { return e.prev == v.prev })
		}
	}
}

// Unlike says whether some file is another in next, which takes the place of h: of the
// same ops it has dropped some, or got some back, that nobody needs. So all is as it
// was, but where something was made on a record that others had dropped by then: which
// contents it replaced, and which it stands beside, only that record tells.
func (h *History) Unlike(next *History) bool {
	for id, t := range h.files {
		n := next.files[id]
		if n != nil && len(n.versions) == len(t.versions) {
			continue
		}
		if !slices.EqualFunc(h.Attachment(id, nil).Live, next.Attachment(id, nil).Live, sameFile) {
			return true
		}
	}
	return false
}

// sameFile leaves out which record brought the content: a checkpoint keeps the oldest
// but those that are dropped.
func sameFile(a, b File) bool {
	return a.Blob == b.Blob && slices.Equal(a.Base, b.Base) && a.Rev == b.Rev && a.Parent == b.Parent && a.Stored == b.Stored &&
		a.Name == b.Name && a.MIME == b.MIME && a.Mode == b.Mode && a.Mtime == b.Mtime && a.Twin == b.Twin
}
