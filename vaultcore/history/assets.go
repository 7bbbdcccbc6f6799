package history

import "github.com/vaultdrive/vaultdrive/vaultcore/seal"

// State is how an asset stands.
type State uint8

// The states of an asset. A recovered one was deleted, or its first record has
// not come, and it stays a directory while it holds something live.
const (
	Unknown State = iota
	Live
	Recovered
	Deleted
)

// Visible says whether the asset is a directory of the drive.
func (s State) Visible() bool { return s == Live || s == Recovered }

// Asset is what an asset's id shows.
type Asset struct {
	ID    seal.ID
	State State
	Type  uint8
	Title string // as stored; "" while no record has come
	Name  string // as shown, unique in the root; "" if not visible
	Ctime int64
	// Base are the tips a change is made on. A recovered asset has the tip
	// that gives its title: a new title on it revives the asset.
	Base []Digest
	Rev  uint64 // of Base[0]
}

// state needs no names.
func (a *asset) state() State {
	switch {
	case a.alive():
		return Live
	case a.live > 0:
		return Recovered
	case len(a.ends) > 0 || len(a.versions) > 0:
		return Deleted
	}
	return Unknown
}

// Asset evaluates an id.
func (h *History) Asset(id seal.ID) Asset {
	a := h.assets[id]
	if a == nil {
		return Asset{ID: id}
	}
	out := Asset{ID: id, State: a.state(), Type: a.likelyType()}
	if len(a.versions) > 0 {
		a.describe(&out)
	}
	if out.State.Visible() {
		c := a.claim()
		out.Name, _ = h.titles.shownAs(c)
	}
	return out
}

// describe merges the tips: contents of an asset are attachments of their own,
// so there is one directory whatever happened to its title.
func (a *asset) describe(out *Asset) {
	w := a.evaluate()
	tips, alive := w.tips()
	title := w.title(tips)
	main := w.v[tips[0]]
	out.Type, out.Title, out.Ctime, out.Rev = main.ptype, title.name, main.mtime, main.rev
	if !alive {
		tips = tips[:1]
	}
	for _, k := range tips {
		out.Base = append(out.Base, w.v[k].digest)
	}
}

// title gives the record that changed the title last.
func (w *view) title(tips []int) *version {
	var title *version
	for _, k := range tips {
		if v := w.v[w.setter[k][attrName]]; title == nil || v.compare(title) > 0 {
			title = v
		}
	}
	return title
}

func (w *view) alive() bool { return len(w.live) > 0 }

// likelyType is what most of the files in an asset without records say it is.
func (a *asset) likelyType() (best uint8) {
	for t := range a.types {
		if n := a.types[t] - a.types[best]; n > 0 || n == 0 && t < best {
			best = t
		}
	}
	return best
}

// claim is the asset's wish for its title.
func (a *asset) claim() *claim {
	c := &claim{t: &a.thread, born: a.born(), path: RecoveredTitle(a.id)}
	if len(a.versions) > 0 {
		w := a.evaluate()
		tips, _ := w.tips()
		c.path = ShownTitle(w.title(tips).name)
	}
	return c
}
