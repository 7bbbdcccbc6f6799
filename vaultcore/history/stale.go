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
