package history

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// claim is the wish of one visible file, or asset, to be shown under its plain
// path.
type claim struct {
	t      *thread
	born   stamp
	index  int // place among the visible files of its thread
	path   string
	folder bool
	copy   suffix // of its branch, for all but the main file
	// Set by the space:
	twin  bool   // a folder that an earlier born folder shows already
	clash suffix // the one it is shown with
	loose string // its path with that suffix and the fewest digits; "" while shown plain
}

// compare puts the earlier born first, and files of one thread in branch order.
func (c *claim) compare(o *claim) int {
	if c.t == o.t {
		return cmp.Compare(c.index, o.index)
	}
	return cmp.Or(c.born.order(o.born), bytes.Compare(c.t.id[:], o.t.id[:]))
}

// order is compare for stamps that may have no author.
func (a stamp) order(b stamp) int {
	if a.dev == nil || b.dev == nil {
		return cmp.Compare(a.hlc, b.hlc)
	}
	return a.compare(b)
}

// space is one directory of names: the titles in the root, or the paths in an
// asset. It says who is shown plain and who with a suffix; that depends on the
// claims alone, not on the order they came in:
//   - a path that is a folder, by a record or by what lies under it, belongs to
//     the folder: moving a file aside moves one name, moving a folder moves many;
//   - folders of one path are one folder, the others are its twins;
//   - else the first file of the earliest born thread has it;
//   - further files of the same thread show the conflict suffix of their
//     branch, first files of other threads the digits of their id.
type space struct {
	one     map[string]*thread  // path -> the only claimant, a main file shown plain
	many    map[string][]*claim // all other paths
	folders map[string]int      // path -> folder records at it and claims under it
	loose   map[string][]*claim // claims with a suffix, by what they look like at least
	first   func(*thread) *claim
	touched func(*thread)
}

func newSpace(first func(*thread) *claim, touched func(*thread)) *space {
	return &space{
		one: make(map[string]*thread), many: make(map[string][]*claim),
		folders: make(map[string]int), loose: make(map[string][]*claim),
		first: first, touched: touched,
	}
}

func (s *space) add(c *claim) {
	s.count(c, 1)
	list := s.at(c.path)
	i, _ := slices.BinarySearchFunc(list, c, (*claim).compare)
	list = slices.Insert(list, i, c)
	s.settle(c.path, list)
	if len(list) == 1 {
		s.taking(c.path)
	}
}

// remove takes back the claim that add was given an equal of.
func (s *space) remove(c *claim) {
	s.count(c, -1)
	list := s.at(c.path)
	i := slices.IndexFunc(list, func(o *claim) bool { return o.t == c.t && o.index == c.index })
	s.unloose(list[i])
	list = slices.Delete(list, i, i+1)
	s.settle(c.path, list)
	if len(list) == 0 {
		s.taking(c.path)
	}
}

func (s *space) at(path string) []*claim {
	if t := s.one[path]; t != nil {
		return []*claim{s.first(t)}
	}
	return s.many[path]
}

// count keeps folders for a claim that comes (1) or goes (-1).
func (s *space) count(c *claim, by int) {
	if c.folder {
		s.countFolder(c.path, by)
	}
	for i := strings.IndexByte(c.path, '/'); i >= 0; {
		s.countFolder(c.path[:i], by)
		j := strings.IndexByte(c.path[i+1:], '/')
		if j < 0 {
			break
		}
		i += 1 + j
	}
}

func (s *space) countFolder(path string, by int) {
	n := s.folders[path] + by
	s.folders[path] = n
	if n == 0 {
		delete(s.folders, path)
	}
	if n == 0 || n == 1 && by == 1 {
		s.settle(path, s.at(path))
		s.taking(path)
	}
}

func (s *space) taken(path string) bool {
	return s.one[path] != nil || len(s.many[path]) > 0 || s.folders[path] > 0
}

// settle decides all claims of one path anew.
func (s *space) settle(path string, list []*claim) {
	free, folder := s.folders[path] == 0, false
	for i, c := range list {
		if c.folder {
			c.twin, folder = folder, true
			s.touched(c.t)
			continue
		}
		switch {
		case ownBefore(list[:i], c.t):
			s.suffix(c, c.copy)
		case free:
			s.unloose(c)
			free = false
		default:
			s.suffix(c, createSuffix(c.t.id))
		}
		s.touched(c.t)
	}
	s.keep(path, list)
}

// ownBefore says whether the files just before are of the same thread.
func ownBefore(list []*claim, t *thread) bool {
	for i := len(list) - 1; i >= 0 && list[i].t == t; i-- {
		if !list[i].folder {
			return true
		}
	}
	return false
}

func (s *space) keep(path string, list []*claim) {
	delete(s.one, path)
	delete(s.many, path)
	switch {
	case len(list) == 1 && list[0].index == 0 && list[0].loose == "":
		s.one[path] = list[0].t
	case len(list) > 0:
		s.many[path] = list
	}
}

// suffix enters c among those shown with a suffix.
func (s *space) suffix(c *claim, with suffix) {
	if c.loose != "" && c.clash == with {
		return
	}
	s.unloose(c)
	c.clash = with
	c.loose = with.with(c.path, minDigits, "")
	s.loose[c.loose] = append(s.loose[c.loose], c)
	s.touchLoose(c.loose)
}

func (s *space) unloose(c *claim) {
	if c.loose == "" {
		return
	}
	group := slices.DeleteFunc(s.loose[c.loose], func(o *claim) bool { return o == c })
	s.loose[c.loose] = group
	if len(group) == 0 {
		delete(s.loose, c.loose)
	}
	s.touchLoose(c.loose)
	c.loose = ""
}

func (s *space) touchLoose(name string) {
	for _, c := range s.loose[name] {
		s.touched(c.t)
	}
}

// taking tells those whose suffixed name path is, or could have been, that the
// path was taken or given back.
func (s *space) taking(path string) {
	if len(s.loose) == 0 {
		return
	}
	s.touchLoose(path)
	for i := range len(path) {
		if path[i] != ')' {
			continue
		}
		digits := path[:i]
		if j := strings.LastIndexByte(digits, '-'); j > 0 && strings.Trim(digits[j+1:], "0123456789") == "" {
			digits = digits[:j]
		}
		start := len(strings.TrimRight(digits, "0123456789abcdef"))
		if len(digits)-start > minDigits {
			s.touchLoose(path[:start+minDigits] + path[i:])
		}
	}
}

// shown gives the name a claim is shown under: with as many digits as no other
// suffix shares and no plain name has. Claims in one group differ in nothing
// but later digits, so both of a pair get longer ones. When all digits are used
// up, numbers follow, which members of a group take in turn.
func (s *space) shown(c *claim) string {
	if c.loose == "" {
		return c.path
	}
	group := s.loose[c.loose]
	for n := minDigits; n <= maxDigits; n += 4 {
		name := c.clash.with(c.path, n, "")
		shared := slices.ContainsFunc(group, func(o *claim) bool { return o != c && o.clash.digits[:n] == c.clash.digits[:n] })
		if !shared && !s.taken(name) && (n == minDigits || len(s.loose[name]) == 0) {
			return name
		}
	}
	rank := 0
	for _, o := range group {
		if o.compare(c) < 0 {
			rank++
		}
	}
	for n := 2 + rank; ; n += len(group) {
		if name := c.clash.with(c.path, maxDigits, "-"+strconv.Itoa(n)); !s.taken(name) && len(s.loose[name]) == 0 {
			return name
		}
	}
}

// shownAs gives the name for an equal of a claim that add was given, and
// whether it is a twin.
func (s *space) shownAs(like *claim) (name string, twin bool) {
	for _, c := range s.many[like.path] {
		if c.t == like.t && c.index == like.index {
			return s.shown(c), c.twin
		}
	}
	return like.path, false
}

// copies gives the threads whose claims may be shown with a device's name.
func (s *space) copies() (out []*thread) {
	for _, list := range s.many {
		for _, c := range list {
			if c.index > 0 {
				out = append(out, c.t)
			}
		}
	}
	return out
}
