package integration

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"
)

// identity is one file under all its names and revisions. states lists what its
// names held after each step, oldest first; the first one is known to be durable.
// A power cut may leave any of them, but never an older one, and no mixture.
type identity struct {
	states []world
}

func (i *identity) last() world { return i.states[len(i.states)-1] }

func (i *identity) add(w world) { i.states = append(i.states, w) }

// historian is a writer that keeps, for each of its files, every state since the
// last one that an fsync or a barrier has promised to keep.
type historian struct {
	root   string
	rnd    *rand.Rand
	ids    map[uint32]*identity
	nextID uint32
	lost   int // states newer than the durable one that cuts took back: shows that the test bites
}

func newHistorian(root string, seed uint64) *historian {
	return &historian{root: root, rnd: rand.New(rand.NewPCG(seed, 4)), ids: map[uint32]*identity{}}
}

func (h *historian) path(name string) string { return filepath.Join(h.root, name) }

// run makes up to n steps and stops at the first error: the power is gone.
func (h *historian) run(n int) {
	for range n {
		if h.step() != nil {
			return
		}
	}
}

func (h *historian) step() error {
	id, name, s := h.pick()
	switch n := h.rnd.IntN(100); {
	case name == "" || len(h.ids) < 5 || n < 20 && len(h.ids) < 40:
		return h.create()
	case n < 40:
		return h.overwrite(id, name, s)
	case n < 60:
		return h.replace(id, name, s)
	case n < 70:
		return h.rename(id, name, s)
	case n < 80:
		return h.remove(id, name)
	case n < 92:
		return h.writeSyncWrite(id, name, s)
	default:
		return h.barrier()
	}
}

// pick returns a file that exists under one name.
func (h *historian) pick() (*identity, string, thing) {
	var all []uint32
	for id, i := range h.ids {
		if len(i.last()) == 1 {
			all = append(all, id)
		}
	}
	if len(all) == 0 {
		return nil, "", thing{}
	}
	sort.Slice(all, func(a, b int) bool { return all[a] < all[b] })
	i := h.ids[all[h.rnd.IntN(len(all))]]
	for name, s := range i.last() {
		return i, name, *s
	}
	return nil, "", thing{}
}

func (h *historian) size() int {
	limits := []int{100, 5000, 40 << 10, 300 << 10, 3 << 20}
	return 8 + h.rnd.IntN(limits[min(h.rnd.IntN(len(limits)), h.rnd.IntN(len(limits)))])
}

// put writes a whole file. The new state counts as possible from the first call
// on, and as the least there is once an fsync has returned.
func (h *historian) put(i *identity, name string, flag int, s thing, after world) error {
	i.add(after)
	defer noForks()()
	f, err := os.OpenFile(h.path(name), os.O_WRONLY|flag, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(s.data()); err != nil {
		return err
	}
	if h.rnd.IntN(3) > 0 {
		return f.Close()
	}
	if err := f.Sync(); err != nil {
		return err
	}
	i.states = i.states[len(i.states)-1:]
	return f.Close()
}

func (h *historian) create() error {
	h.nextID++
	s := thing{id: h.nextID, rev: 1, size: h.size()}
	name := fmt.Sprintf("f%d", s.id)
	i := &identity{states: []world{{}, {name: &thing{id: s.id}}}}
	h.ids[s.id] = i
	return h.put(i, name, os.O_CREATE|os.O_EXCL, s, world{name: &s})
}

func (h *historian) overwrite(i *identity, name string, s thing) error {
	s.rev, s.size = s.rev+1, h.size()
	return h.put(i, name, os.O_TRUNC, s, world{name: &s})
}

func (h *historian) replace(i *identity, name string, s thing) error {
	old, temp := s, name+".new"
	s.rev, s.size = s.rev+1, h.size()
	i.add(world{name: &old, temp: &thing{id: s.id}})
	if err := h.put(i, temp, os.O_CREATE|os.O_EXCL, s, world{name: &old, temp: &s}); err != nil {
		return err
	}
	i.add(world{name: &s})
	return os.Rename(h.path(temp), h.path(name))
}

func (h *historian) rename(i *identity, name string, s thing) error {
	to := fmt.Sprintf("f%d-%d", s.id, h.rnd.IntN(1_000_000))
	i.add(world{to: &s})
	return os.Rename(h.path(name), h.path(to))
}

func (h *historian) remove(i *identity, name string) error {
	i.add(world{})
	return os.Remove(h.path(name))
}

func (h *historian) writeSyncWrite(i *identity, name string, s thing) error {
	s.rev, s.size = s.rev+1, h.size()*2
	half := s
	half.size /= 2
	i.add(world{name: &half})
	defer noForks()()
	f, err := os.OpenFile(h.path(name), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(s.data()[:half.size]); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	i.states = i.states[len(i.states)-1:]
	i.add(world{name: &s})
	if _, err := f.Write(s.data()[half.size:]); err != nil {
		return err
	}
	return f.Close()
}

// barrier makes everything that was closed durable: fsync of a directory.
func (h *historian) barrier() error {
	d, err := os.Open(h.root)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return err
	}
	h.durable()
	return nil
}

// durable forgets all states but the present ones.
func (h *historian) durable() {
	for id, i := range h.ids {
		if i.states = i.states[len(i.states)-1:]; len(i.states[0]) == 0 {
			delete(h.ids, id)
		}
	}
}

// found is what one name holds after the cut; damaged means that the drive says
// EIO, and nothing else.
type found struct {
	data    []byte
	damaged bool
}

func (h *historian) look(t testing.TB) map[string]found {
	t.Helper()
	out := map[string]found{}
	list, err := os.ReadDir(h.root)
	must(t, err)
	for _, e := range list {
		if e.Type() != 0 {
			t.Fatalf("%s is a %v", e.Name(), e.Type())
		}
		data, err := os.ReadFile(h.path(e.Name()))
		if err != nil && !errors.Is(err, syscall.EIO) && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		out[e.Name()] = found{data, err != nil}
	}
	return out
}

// verify holds what the drive shows against the histories and returns how many
// files it shows as damaged. With keep it takes what it found for the new truth.
func (h *historian) verify(t testing.TB, keep bool) (damaged int) {
	t.Helper()
	got := h.look(t)
	claimed := map[string]bool{}
	for id, i := range h.ids {
		mine := map[string]found{}
		for name, f := range got {
			base, _, _ := strings.Cut(strings.TrimSuffix(name, ".new"), "-")
			if base == fmt.Sprintf("f%d", id) {
				mine[name], claimed[name] = f, true
			}
		}
		at := -1
		for n, state := range i.states {
			if i.holds(mine, state) {
				at = n
			}
		}
		if at < 0 {
			t.Fatalf("file %d is in none of the states since it was last made durable:\n%s", id, i.explain(mine))
		}
		for name, f := range mine {
			if f.damaged {
				damaged++
				if keep {
					must(t, os.Remove(h.path(name)))
				}
			}
		}
		h.lost += len(i.states) - 1 - at
		if keep {
			i.states = []world{i.shown(mine, i.states[at])}
		}
	}
	for name := range got {
		if !claimed[name] {
			t.Fatalf("%s was durably removed and is back", name)
		}
	}
	if keep && damaged > 0 {
		syncDir(t, h.root) // or the next cut may bring back what was removed here
	}
	return damaged
}

// holds says whether mine is that state. A file may be damaged only if its last
// durable state did not hold it: then no other content could have been shown.
func (i *identity) holds(mine map[string]found, state world) bool {
	for name := range mine {
		if state[name] == nil {
			return false
		}
	}
	for name, s := range state {
		f, ok := mine[name]
		switch {
		case !ok:
			return false
		case f.damaged:
			if i.states[0][name] != nil || len(i.states[0]) > 0 && len(state) == 1 {
				return false
			}
		case len(f.data) != s.size || string(f.data) != string(s.data()):
			return false
		}
	}
	return true
}

func (i *identity) shown(mine map[string]found, state world) world {
	out := world{}
	for name, s := range state {
		if !mine[name].damaged {
			out[name] = s
		}
	}
	return out
}

func (i *identity) explain(mine map[string]found) string {
	var b strings.Builder
	for name, f := range mine {
		fmt.Fprintf(&b, "found %s: damaged %v, %s\n", name, f.damaged, describe(f.data))
	}
	for n, state := range i.states {
		fmt.Fprintf(&b, "state %d:", n)
		for name, s := range state {
			fmt.Fprintf(&b, " %s = %v;", name, *s)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
