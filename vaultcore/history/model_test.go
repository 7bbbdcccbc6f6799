package history

import (
	"slices"
)

// The rules as the specification words them, with no thought for speed, to
// compare the package with.

type modelFile struct {
	content Digest
	base    []Digest
	name    string
	parent  Parent
	mode    uint32
	mtime   int64
	mime    string
}

type model struct {
	records map[Digest]*Record
	dels    map[Digest]bool
}

// after says whether a comes after b by (HLC, device).
func after(a, b *Record) bool {
	if a.HLC != b.HLC {
		return a.HLC > b.HLC
	}
	if c := slices.Compare(a.Device[:], b.Device[:]); c != 0 {
		return c > 0
	}
	return slices.Compare(a.Digest[:], b.Digest[:]) > 0
}

func (m *model) parent(r *Record) *Record { return m.records[r.Prev] }

func (m *model) children(of *Record) (out []*Record) {
	for _, r := range m.records {
		if m.parent(r) == of {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b *Record) int {
		if after(a, b) {
			return -1
		}
		return 1
	})
	return out
}

func (m *model) leaves(of *Record) (out []*Record) {
	children := m.children(of)
	if len(children) == 0 && of != nil {
		return []*Record{of}
	}
	for _, c := range children {
		out = append(out, m.leaves(c)...)
	}
	return out
}

func (m *model) live(r *Record) bool {
	for ; ; r = m.parent(r) {
		if m.dels[r.Digest] {
			return false
		}
		p := m.parent(r)
		if p == nil || p.Name != r.Name || p.Parent != r.Parent || p.Blob != r.Blob || p.MIME != r.MIME {
			return true
		}
	}
}

func (m *model) changed(r *Record, differs func(a, b *Record) bool) *Record {
	for m.parent(r) != nil && !differs(m.parent(r), r) {
		r = m.parent(r)
	}
	return r
}

func (m *model) content(tip *Record) *Record {
	return m.changed(tip, func(a, b *Record) bool { return a.Blob != b.Blob })
}

func (m *model) ancestor(a, b *Record) bool {
	for b = m.parent(b); b != nil; b = m.parent(b) {
		if a == b {
			return true
		}
	}
	return false
}

func (m *model) files() (out []modelFile) {
	var tips, contents []*Record
	for _, l := range m.leaves(nil) {
		if m.live(l) {
			tips = append(tips, l)
			contents = append(contents, m.content(l))
		}
	}
	into := func(c *Record) *Record {
		for {
			i := slices.IndexFunc(contents, func(o *Record) bool { return m.ancestor(c, o) })
			if i < 0 {
				return c
			}
			c = contents[i]
		}
	}
	var order []*Record
	for _, t := range tips {
		if c := into(m.content(t)); !slices.Contains(order, c) {
			order = append(order, c)
		}
	}
	for _, c := range order {
		var own, others []*Record
		for _, t := range tips {
			if m.content(t) == c {
				own = append(own, t)
			} else if into(m.content(t)) == c {
				others = append(others, t)
			}
		}
		out = append(out, m.merge(c, own, others))
	}
	return out
}

func (m *model) merge(c *Record, own, others []*Record) modelFile {
	all := slices.Concat(own, others)
	last := func(tips []*Record, differs func(a, b *Record) bool) *Record {
		var best *Record
		for _, t := range tips {
			if s := m.changed(t, differs); best == nil || after(s, best) {
				best = s
			}
		}
		return best
	}
	f := modelFile{
		content: c.Digest,
		name:    last(all, func(a, b *Record) bool { return a.Name != b.Name }).Name,
		parent:  last(all, func(a, b *Record) bool { return a.Parent != b.Parent }).Parent,
		mode:    last(all, func(a, b *Record) bool { return a.Mode != b.Mode }).Mode,
		mtime:   last(all, func(a, b *Record) bool { return a.Mtime != b.Mtime }).Mtime,
		mime:    last(own, func(a, b *Record) bool { return a.MIME != b.MIME }).MIME,
	}
	for _, t := range all {
		f.base = append(f.base, t.Digest)
	}
	return f
}
