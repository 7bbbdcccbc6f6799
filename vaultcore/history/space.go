package history

import (
	"bytes"
	"cmp"
	"slices"
	"sort"
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
//
// Claims come and go during a change; who shows how is decided once at its end, by
// flush. So a name that thousands want costs a change as much as it has of them, and
// not the square.
type space struct {
	one     map[string]*thread  // path -> the only claimant, a main file shown plain
	many    map[string][]*claim // all other paths, each in order of compare
	folders map[string]int      // path -> folder records at it and claims under it
	loose   map[string][]*claim // claims with a suffix, by what they look like at least; in order of looser
	unset   map[string]bool     // paths to decide anew
	stirred map[string]bool     // groups of loose whose names may be others
	first   func(*thread) *claim
	touched func(*thread)
}

func newSpace(first func(*thread) *claim, touched func(*thread)) *space {
	return &space{
		one: make(map[string]*thread), many: make(map[string][]*claim),
		folders: make(map[string]int), loose: make(map[string][]*claim),
		unset: make(map[string]bool), stirred: make(map[string]bool),
		first: first, touched: touched,
	}
}

func (s *space) add(c *claim) {
	s.count(c, 1)
	list := s.unfold(c.path)
	i, _ := slices.BinarySearchFunc(list, c, (*claim).compare)
	s.many[c.path] = slices.Insert(list, i, c)
	s.unset[c.path] = true
	s.touched(c.t)
	if len(list) == 0 {
		s.taking(c.path)
	}
}

// remove takes back the claim that add was given an equal of.
func (s *space) remove(c *claim) {
	s.count(c, -1)
	list := s.unfold(c.path)
	i := place(list, c)
	s.unloose(list[i])
	s.unset[c.path] = true
	if list = slices.Delete(list, i, i+1); len(list) == 0 {
		delete(s.many, c.path)
		s.taking(c.path)
		return
	}
	s.many[c.path] = list
}

// place gives where an equal of c is in its list.
func place(list []*claim, c *claim) int {
	same := func(o *claim) bool { return o.t == c.t && o.index == c.index }
	if i, found := slices.BinarySearchFunc(list, c, (*claim).compare); found && same(list[i]) {
		return i
	}
	return slices.IndexFunc(list, same)
}

// unfold gives the claims of a path, from now on as a list.
func (s *space) unfold(path string) []*claim {
	if t := s.one[path]; t != nil {
		delete(s.one, path)
		s.many[path] = []*claim{s.first(t)}
	}
	return s.many[path]
}

// flush decides what the claims that came and went leave open.
func (s *space) flush() {
	for path := range s.unset {
		s.settle(path, s.many[path])
	}
	clear(s.unset)
	for name := range s.stirred {
		for _, c := range s.loose[name] {
			s.touched(c.t)
		}
	}
	clear(s.stirred)
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
		s.unfold(path)
		s.unset[path] = true
		s.taking(path)
	}
}

func (s *space) taken(path string) bool {
	return s.one[path] != nil || len(s.many[path]) > 0 || s.folders[path] > 0
}

// settle decides all claims of one path anew.
func (s *space) settle(path string, list []*claim) {
	free, folder := s.folders[path] == 0, false
	var own *thread // whose file came last
	for _, c := range list {
		if c.folder {
			if c.twin != folder {
				s.touched(c.t)
			}
			c.twin, folder = folder, true
			continue
		}
		switch {
		case own == c.t:
			s.suffix(c, c.copy)
		case free:
			s.unloose(c)
			free = false
		default:
			s.suffix(c, createSuffix(c.t.id))
		}
		own = c.t
	}
	if len(list) == 1 && list[0].index == 0 && list[0].loose == "" {
		delete(s.many, path)
		s.one[path] = list[0].t
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
	group := s.loose[c.loose]
	i, _ := slices.BinarySearchFunc(group, c, looser)
	s.loose[c.loose] = slices.Insert(group, i, c)
	s.stirred[c.loose] = true
	s.touched(c.t)
}

func (s *space) unloose(c *claim) {
	if c.loose == "" {
		return
	}
	group := s.loose[c.loose]
	i, _ := slices.BinarySearchFunc(group, c, looser)
	group = slices.Delete(group, i, i+1)
	s.loose[c.loose] = group
	if len(group) == 0 {
		delete(s.loose, c.loose)
	}
	s.stirred[c.loose] = true
	s.touched(c.t)
	c.loose = ""
}

// looser orders those who look alike by their digits.
func looser(a, b *claim) int {
	return cmp.Or(strings.Compare(a.clash.digits, b.clash.digits), a.compare(b))
}

// taking tells those whose suffixed name path is, or could have been, that the
// path was taken or given back.
func (s *space) taking(path string) {
	if len(s.loose) == 0 {
		return
	}
	s.stirred[path] = true
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
			s.stirred[path[:start+minDigits]+path[i:]] = true
		}
	}
}

// shown gives the name a claim is shown under: with as many digits as no other
// suffix shares and no plain name has. Claims in one group differ in nothing
// but later digits, so both of a pair get longer ones. When all digits are used
// up, numbers follow, which those with the same digits take in turn.
func (s *space) shown(c *claim) string {
	if c.loose == "" {
		return c.path
	}
	group := s.loose[c.loose]
	at, _ := slices.BinarySearchFunc(group, c, looser)
	alike := func(i, n int) bool {
		return i >= 0 && i < len(group) && group[i].clash.digits[:n] == c.clash.digits[:n]
	}
	for n := minDigits; n <= maxDigits; n += 4 {
		name := c.clash.with(c.path, n, "")
		if !alike(at-1, n) && !alike(at+1, n) && !s.taken(name) && (n == minDigits || len(s.loose[name]) == 0) {
			return name
		}
	}
	from, to := s.ofDigits(group, c.clash.digits)
	for n := 2 + at - from; ; n += to - from {
		if name := c.clash.with(c.path, maxDigits, "-"+strconv.Itoa(n)); !s.taken(name) && len(s.loose[name]) == 0 {
			return name
		}
	}
}

// ofDigits gives those of a group who have all digits in common.
func (s *space) ofDigits(group []*claim, digits string) (from, to int) {
	by := func(c *claim, d string) int { return strings.Compare(c.clash.digits, d) }
	from, _ = slices.BinarySearchFunc(group, digits, by)
	return from, from + sort.Search(len(group)-from, func(i int) bool { return group[from+i].clash.digits != digits })
}

// shownAs gives the name for an equal of a claim that add was given, and
// whether it is a twin.
func (s *space) shownAs(like *claim) (name string, twin bool) {
	list := s.many[like.path]
	if i := place(list, like); i >= 0 {
		return s.shown(list[i]), list[i].twin
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
