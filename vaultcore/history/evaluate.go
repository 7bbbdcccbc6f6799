package history

import "slices"

// attr is what a merged file takes from each tip by itself.
type attr int

const (
	attrName attr = iota
	attrParent
	attrMode
	attrMtime
	attrMIME
	attrs
)

// view is a thread with everything decided but shown names.
type view struct {
	forest
	content []int        // the nearest record above or at each that changed the blob
	setter  [][attrs]int // likewise for each attribute
	ended   []HLC        // when the branch at each was ended, 0 if it was not
	live    []branch     // in branch order: the first is the main one
	dead    []branch     // contents that only ended tips hold: the trash
}

// branch is one visible content with the tips merged into it.
type branch struct {
	content int
	tips    []int // those that hold the content, then the others; each in branch order
	own     int   // how many hold the content
	start   int   // first record that no earlier branch shares: it names the conflict
	values  [attrs]*version
}

func (t *thread) evaluate() *view {
	if len(t.versions) == 1 {
		return t.evaluateOne()
	}
	w := &view{forest: plant(t.versions)}
	w.trace(t.endings())
	var live, all []int
	for k := range w.v {
		if !w.leaf(k) {
			continue
		}
		all = append(all, k)
		if w.ended[k] == 0 {
			live = append(live, k)
		}
	}
	contents := w.contentsOf(all)
	w.live = w.branches(live, w.contentsOf(live))
	for i := range w.live {
		w.live[i].start = w.startOf(w.live[i].content, contents)
	}
	if len(live) < len(all) {
		w.dead = w.buried(all, contents)
	}
	return w
}

// single is the view of a thread with one record, which most are, in one piece.
type single struct {
	view
	versions [1]*version
	numbers  [4][1]int
	setters  [1][attrs]int
	ends     [1]HLC
	branches [1]branch
}

func (t *thread) evaluateOne() *view {
	v := &t.versions[0]
	s := &single{versions: [1]*version{v}, numbers: [4][1]int{{-1}, {0}, {0}, {0}}, ends: [1]HLC{t.endings()[v.digest]}}
	s.branches[0] = branch{tips: s.numbers[3][:], own: 1, values: [attrs]*version{v, v, v, v, v}}
	s.view = view{
		forest:  forest{v: s.versions[:], up: s.numbers[0][:], last: s.numbers[1][:]},
		content: s.numbers[2][:], setter: s.setters[:], ended: s.ends[:],
	}
	if s.ends[0] == 0 {
		s.live = s.branches[:]
	} else {
		s.dead = s.branches[:]
	}
	return &s.view
}

// endings gives the earliest del of each record. A del of a record that is not
// known yet waits in the thread and does nothing here.
func (t *thread) endings() map[Digest]HLC {
	if len(t.ends) == 0 {
		return nil
	}
	m := make(map[Digest]HLC, len(t.ends))
	for _, e := range t.ends {
		if h, ok := m[e.prev]; !ok || e.hlc < h {
			m[e.prev] = max(e.hlc, 1)
		}
	}
	return m
}

// trace walks down from the roots and notes where each value came from.
func (w *view) trace(endings map[Digest]HLC) {
	n := len(w.v)
	w.content, w.setter, w.ended = make([]int, n), make([][attrs]int, n), make([]HLC, n)
	for k, v := range w.v {
		w.ended[k] = endings[v.digest]
		p := w.up[k]
		if p < 0 {
			w.content[k] = k
			w.setter[k] = [attrs]int{k, k, k, k, k}
			continue
		}
		u := w.v[p]
		from := func(same bool, above int) int {
			if same {
				return above
			}
			return k
		}
		w.content[k] = from(u.blob == v.blob, w.content[p])
		w.setter[k] = [attrs]int{
			attrName:   from(u.name == v.name, w.setter[p][attrName]),
			attrParent: from(u.sameParent(v), w.setter[p][attrParent]),
			attrMode:   from(u.mode == v.mode, w.setter[p][attrMode]),
			attrMtime:  from(u.mtime == v.mtime, w.setter[p][attrMtime]),
			attrMIME:   from(u.mime == v.mime, w.setter[p][attrMIME]),
		}
		if w.ended[k] == 0 && u.sameWork(v) {
			w.ended[k] = w.ended[p]
		}
	}
}

// contentsOf gives the contents of some tips in branch order, each once.
func (w *view) contentsOf(tips []int) []int {
	out := make([]int, 0, len(tips))
	for _, k := range tips {
		out = append(out, w.content[k])
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// heirs gives for each content the one it is merged into: itself, or the first
// in branch order that replaced it. In branch order whatever descends from a
// content follows it directly, so looking at the next one is enough.
func (w *view) heirs(contents []int) []int {
	out := make([]int, len(contents))
	for i := len(contents) - 1; i >= 0; i-- {
		out[i] = i
		if i+1 < len(contents) && w.holds(contents[i], contents[i+1]) {
			out[i] = out[i+1]
		}
	}
	return out
}

// branches merges tips into one branch per content that no other replaced.
func (w *view) branches(tips, contents []int) []branch {
	if len(tips) == 0 {
		return nil
	}
	heirs := w.heirs(contents)
	all := make([]branch, len(contents))
	for _, own := range []bool{true, false} {
		for _, k := range tips {
			i, _ := slices.BinarySearch(contents, w.content[k])
			b := &all[heirs[i]]
			if (heirs[i] == i) != own {
				continue
			}
			b.tips = append(b.tips, k)
			if own {
				b.own++
			}
		}
	}
	out := all[:0]
	for i := range all {
		if heirs[i] == i {
			all[i].content = contents[i]
			w.merge(&all[i])
			out = append(out, all[i])
		}
	}
	return out
}

// merge takes each attribute from the tip that changed it last. The type is
// one with the content (it says what is a folder or a link), so only tips that
// hold the content have a say in it.
func (w *view) merge(b *branch) {
	for a := range attrs {
		tips := b.tips
		if a == attrMIME {
			tips = b.tips[:b.own]
		}
		for _, k := range tips {
			if v := w.v[w.setter[k][a]]; b.values[a] == nil || v.compare(b.values[a]) > 0 {
				b.values[a] = v
			}
		}
	}
}

// buried gives what only ended tips hold and no living content replaced.
func (w *view) buried(all, contents []int) []branch {
	held := make(map[int]bool)
	for _, k := range all {
		if w.ended[k] == 0 {
			held[w.content[k]] = true
		}
	}
	heirs := w.heirs(contents)
	var dead []int
	for _, k := range all {
		i, _ := slices.BinarySearch(contents, w.content[k])
		if w.ended[k] > 0 && !held[contents[i]] && !held[contents[heirs[i]]] {
			dead = append(dead, k)
		}
	}
	return w.branches(dead, w.contentsOf(dead))
}

// startOf gives the first record of a content's branch: the one below the
// lowest fork with an earlier content that neither replaced it nor was replaced
// by it. Ended branches count, so a suffix stays when another copy is deleted.
func (w *view) startOf(content int, contents []int) int {
	i, _ := slices.BinarySearch(contents, content)
	for i--; i >= 0 && w.holds(contents[i], content); {
		i--
	}
	k := content
	for w.up[k] >= 0 && (i < 0 || !w.holds(w.up[k], contents[i])) {
		k = w.up[k]
	}
	return k
}

// tips gives the live ones in branch order, or all if none lives.
func (w *view) tips() (tips []int, alive bool) {
	var all []int
	for k := range w.v {
		if !w.leaf(k) {
			continue
		}
		all = append(all, k)
		if w.ended[k] == 0 {
			tips = append(tips, k)
		}
	}
	if len(tips) > 0 {
		return tips, true
	}
	return all, false
}
