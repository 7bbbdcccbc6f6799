package history

import "slices"

// forest holds the records of a thread in branch order: a parent before its
// children, and of two children (or roots) the one with the larger (HLC,
// device) first, with everything below it. Positions index all three slices.
type forest struct {
	v    []*version
	up   []int // position of the parent, -1 at a root
	last []int // last position of the subtree
}

func plant(versions []version) forest {
	known, place := distinct(versions)
	next := make([]int, len(known)) // siblings, the smaller first
	first := make([]int, len(known)+1)
	for i := range first {
		first[i] = -1
	}
	for i := len(known) - 1; i >= 0; i-- {
		p := parentOf(known, place, i) + 1
		next[i], first[p] = first[p], i
	}
	return walk(known, first, next)
}

// distinct gives one version per digest, the smallest, in ascending order.
func distinct(versions []version) (known []*version, place map[Digest]int) {
	known = make([]*version, 0, len(versions))
	for i := range versions {
		known = append(known, &versions[i])
	}
	slices.SortFunc(known, (*version).compare)
	place = make(map[Digest]int, len(known))
	known = slices.DeleteFunc(known, func(v *version) bool {
		if _, ok := place[v.digest]; ok {
			return true
		}
		place[v.digest] = len(place)
		return false
	})
	return known, place
}

// parentOf gives -1 for a root. A digest covers rev but not prev, so a signed
// lie could close a circle of prevs that no root leads to, and hide contents: a
// parent counts only if its rev is smaller.
func parentOf(known []*version, place map[Digest]int, i int) int {
	p, ok := place[known[i].prev]
	if !ok || known[p].rev >= known[i].rev {
		return -1
	}
	return p
}

func walk(known []*version, first, next []int) forest {
	n := len(known)
	f := forest{v: make([]*version, 0, n), up: make([]int, 0, n), last: make([]int, n)}
	type step struct{ at, up int }
	var todo []step
	push := func(list, up int) {
		for i := list; i >= 0; i = next[i] {
			todo = append(todo, step{i, up})
		}
	}
	for push(first[0], -1); len(todo) > 0; {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		k := len(f.v)
		f.v, f.up = append(f.v, known[s.at]), append(f.up, s.up)
		push(first[s.at+1], k)
	}
	for k := n - 1; k >= 0; k-- {
		f.last[k] = max(f.last[k], k)
		if p := f.up[k]; p >= 0 {
			f.last[p] = max(f.last[p], f.last[k])
		}
	}
	return f
}

func (f *forest) leaf(k int) bool { return f.last[k] == k }

// holds says whether k is in the subtree of top.
func (f *forest) holds(top, k int) bool { return top <= k && k <= f.last[top] }
