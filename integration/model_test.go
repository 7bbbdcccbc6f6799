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

// thing is what one path holds: a directory, a symlink, or revision rev of the
// file id, size bytes of its pattern.
type thing struct {
	dir     bool
	link    string
	id, rev uint32
	size    int
}

func (s thing) String() string {
	switch {
	case s.dir:
		return "a directory"
	case s.link != "":
		return "a link to " + s.link
	}
	return fmt.Sprintf("file %d revision %d, %d bytes", s.id, s.rev, s.size)
}

// same compares what can be seen: the first bytes of two contents may be alike.
func (s thing) same(o thing) bool {
	return s == o || !s.dir && !o.dir && s.link == "" && o.link == "" && s.size == o.size && s.size < 8 && string(s.data()) == string(o.data())
}

// world is what a set of paths holds; a path that is not in it is not asked for,
// one that holds nil is absent.
type world map[string]*thing

// model is one writer and all it knows about its part of the drive: what every
// call that returned has made of it, and what the one call that was under way
// may have made of it. A crash must leave exactly one of these.
type model struct {
	root    string // directory on the mount that belongs to this writer
	rnd     *rand.Rand
	sure    map[string]thing
	maybe   []world // the outcomes of the call under way, the old state among them
	nextID  uint32
	maxSize int
	calls   int
}

func newModel(root string, seed uint64, maxSize int) *model {
	return &model{root: root, rnd: rand.New(rand.NewPCG(seed, 1)), sure: map[string]thing{}, maxSize: maxSize, nextID: uint32(seed%1000) * 100_000}
}

func (w *model) path(name string) string { return filepath.Join(w.root, name) }

// under declares the outcomes of the next call besides the present state.
func (w *model) under(after ...world) {
	before := world{}
	for _, a := range after {
		for name := range a {
			before[name] = w.now(name)
		}
	}
	for _, a := range after { // each outcome names every path concerned
		for name := range before {
			if _, ok := a[name]; !ok {
				a[name] = before[name]
			}
		}
	}
	w.maybe = append([]world{before}, after...)
}

// settle says that the last declared outcome is the present state.
func (w *model) settle() { w.accept(w.maybe[len(w.maybe)-1]); w.calls++ }

func (w *model) accept(a world) {
	for name, s := range a {
		if s == nil {
			delete(w.sure, name)
		} else {
			w.sure[name] = *s
		}
	}
	w.maybe = nil
}

func (w *model) now(name string) *thing {
	if s, ok := w.sure[name]; ok {
		return &s
	}
	return nil
}

// run makes random calls until one fails.
func (w *model) run() error {
	for {
		if err := w.step(); err != nil {
			return err
		}
	}
}

// isDead tells that the daemon has died under the call.
func isDead(err error) bool {
	return errors.Is(err, syscall.ENOTCONN) || errors.Is(err, syscall.ECONNABORTED)
}

// noForks keeps this process from forking until what it returns is called. A
// child has a copy of every descriptor until exec closes it, and that close is a
// FLUSH like any other: the vault would commit what we have written half.
func noForks() (allow func()) {
	syscall.ForkLock.RLock()
	return syscall.ForkLock.RUnlock
}

// step makes one random call and keeps the books.
func (w *model) step() error {
	name := w.pick()
	switch n := w.rnd.IntN(100); {
	case len(w.sure) < 6 || name == "" || n < 22:
		return w.write(w.freeName(), os.O_CREATE|os.O_EXCL)
	case len(w.sure) > 60 || n < 34:
		return w.remove(name)
	case n < 50:
		return w.write(name, os.O_TRUNC)
	case n < 58:
		return w.write(name, 0)
	case n < 70:
		return w.replace(name)
	case n < 78:
		return w.rename(name, w.freeName())
	case n < 84:
		return w.appendTo(name)
	case n < 90:
		return w.writeSyncWrite(name)
	case n < 93:
		return w.mkdir()
	case n < 95:
		return w.moveDir()
	case n < 97:
		return w.symlink()
	default:
		return w.rename(name, w.pick())
	}
}

// pick returns an existing regular file.
func (w *model) pick() string {
	var files []string
	for name, s := range w.sure {
		if !s.dir && s.link == "" {
			files = append(files, name)
		}
	}
	if len(files) == 0 {
		return ""
	}
	sort.Strings(files)
	return files[w.rnd.IntN(len(files))]
}

func (w *model) dirs() []string {
	out := []string{"."}
	for name, s := range w.sure {
		if s.dir {
			out = append(out, name)
		}
	}
	sort.Strings(out)
	return out
}

func (w *model) freeName() string {
	w.nextID++
	dirs := w.dirs()
	return filepath.Join(dirs[w.rnd.IntN(len(dirs))], fmt.Sprintf("f%d", w.nextID))
}

// size favours the borders: nearly empty, in the row, a file of its own, a
// stream. It is never 0: a truncation alone is committed by RELEASE, which nobody
// waits for.
func (w *model) size() int {
	limits := []int{1, 100, 5000, 32 << 10, 200 << 10, 1 << 20, w.maxSize}
	limit := limits[min(w.rnd.IntN(len(limits)*2), w.rnd.IntN(len(limits)*2))/2]
	return 1 + w.rnd.IntN(min(limit, w.maxSize))
}

func (w *model) fresh(name string) thing {
	w.nextID++
	s := thing{id: w.nextID, rev: 1, size: w.size()}
	if old, ok := w.sure[name]; ok {
		s.id, s.rev = old.id, old.rev+1
	}
	return s
}

func (s thing) data() []byte { return pattern(s.id, s.rev, s.size) }

// write writes a whole file, in one to three calls.
func (w *model) write(name string, flag int) error {
	s := w.fresh(name)
	if flag == 0 {
		s.size = max(s.size, w.sure[name].size) // an overwrite in place does not shrink
	}
	w.under(world{name: &s})
	if flag&os.O_EXCL != 0 {
		w.under(world{name: &thing{id: s.id}}, world{name: &s}) // it is there, and empty, once it is made
	}
	defer noForks()()
	f, err := os.OpenFile(w.path(name), os.O_WRONLY|flag, 0o600)
	if err != nil {
		return err
	}
	data, parts := s.data(), 1+w.rnd.IntN(3)
	for i := range parts {
		if _, err := f.Write(data[i*s.size/parts : (i+1)*s.size/parts]); err != nil {
			f.Close()
			return err
		}
	}
	if err := f.Close(); err != nil {
		return err
	}
	w.settle()
	return nil
}

// replace is what careful programs do: a new file renamed over the old one.
func (w *model) replace(name string) error {
	s := w.fresh(name)
	temp := fmt.Sprintf("%s.%d.new", name, w.nextID)
	w.under(world{temp: &thing{id: s.id}}, world{temp: &s})
	defer noForks()()
	f, err := os.OpenFile(w.path(temp), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err = f.Write(s.data()); err != nil {
		return err
	}
	if w.rnd.IntN(3) == 0 {
		if err = f.Sync(); err != nil {
			return err
		}
		w.accept(world{temp: &s})
		w.under(world{temp: &s})
	}
	if err = f.Close(); err != nil {
		return err
	}
	w.settle()
	return w.rename(temp, name)
}

func (w *model) rename(from, to string) error {
	if from == to || to == "" {
		return nil
	}
	s := w.sure[from]
	w.under(world{from: nil, to: &s})
	if err := os.Rename(w.path(from), w.path(to)); err != nil {
		return err
	}
	w.settle()
	return nil
}

func (w *model) remove(name string) error {
	w.under(world{name: nil})
	if err := os.Remove(w.path(name)); err != nil {
		return err
	}
	w.settle()
	return nil
}

func (w *model) appendTo(name string) error {
	old := w.sure[name]
	s := old
	s.size = min(old.size+1+w.rnd.IntN(20_000), max(w.maxSize, old.size))
	w.under(world{name: &s})
	defer noForks()()
	f, err := os.OpenFile(w.path(name), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(s.data()[old.size:])
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	w.settle()
	return nil
}

// writeSyncWrite fsyncs in the middle: from there on half is the least.
func (w *model) writeSyncWrite(name string) error {
	s := w.fresh(name)
	half := s
	half.size = s.size / 2
	w.under(world{name: &half}, world{name: &s})
	defer noForks()()
	f, err := os.OpenFile(w.path(name), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err = f.Write(s.data()[:half.size]); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	w.accept(world{name: &half})
	w.under(world{name: &s})
	if _, err = f.Write(s.data()[half.size:]); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	w.settle()
	return nil
}

func (w *model) mkdir() error {
	w.nextID++
	name := fmt.Sprintf("d%d", w.nextID)
	w.under(world{name: &thing{dir: true}})
	if err := os.Mkdir(w.path(name), 0o700); err != nil {
		return err
	}
	w.settle()
	return nil
}

// moveDir renames a folder and all in it, which is one step or none.
func (w *model) moveDir() error {
	dirs := w.dirs()
	from := dirs[w.rnd.IntN(len(dirs))]
	if from == "." {
		return w.mkdir()
	}
	w.nextID++
	to := fmt.Sprintf("d%d", w.nextID)
	after := world{}
	for name, s := range w.sure {
		if rest, ok := strings.CutPrefix(name, from); ok && (rest == "" || rest[0] == '/') {
			after[name], after[to+rest] = nil, &s
		}
	}
	w.under(after)
	if err := os.Rename(w.path(from), w.path(to)); err != nil {
		return err
	}
	w.settle()
	return nil
}

func (w *model) symlink() error {
	w.nextID++
	name := fmt.Sprintf("l%d", w.nextID)
	w.under(world{name: &thing{link: "to/" + name}})
	if err := os.Symlink("to/"+name, w.path(name)); err != nil {
		return err
	}
	w.settle()
	return nil
}

// verify looks at the drive after a crash. What it finds becomes the present
// state, so that the writer can go on.
func (w *model) verify(t testing.TB) {
	t.Helper()
	got, err := w.look()
	if err != nil {
		t.Fatalf("%s: %v", w.root, err)
	}
	var reasons []string
	outcomes := w.maybe
	if outcomes == nil {
		outcomes = []world{{}}
	}
	for i, outcome := range outcomes {
		diff := w.differs(got, outcome)
		if diff == "" {
			w.accept(outcome)
			return
		}
		reasons = append(reasons, fmt.Sprintf("outcome %d: %s", i, diff))
	}
	t.Fatalf("%s holds nothing that %d calls can have left:\n%s", filepath.Base(w.root), w.calls, strings.Join(reasons, "\n"))
}

func (w *model) differs(got map[string]thing, outcome world) string {
	want := map[string]thing{}
	for name, s := range w.sure {
		want[name] = s
	}
	for name, s := range outcome {
		delete(want, name)
		if s != nil {
			want[name] = *s
		}
	}
	var diff []string
	for name, s := range want {
		if g, ok := got[name]; !ok {
			diff = append(diff, fmt.Sprintf("%s is gone, want %v", name, s))
		} else if !g.same(s) {
			diff = append(diff, fmt.Sprintf("%s is %v, want %v", name, g, s))
		}
	}
	for name, g := range got {
		if _, ok := want[name]; !ok {
			diff = append(diff, fmt.Sprintf("%s should not be there: %v", name, g))
		}
	}
	sort.Strings(diff)
	return strings.Join(diff[:min(len(diff), 4)], "; ")
}

// look reads everything. A content that is not exactly one revision is an error.
func (w *model) look() (map[string]thing, error) {
	out := map[string]thing{}
	err := filepath.WalkDir(w.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(w.root, path)
		switch {
		case name == ".":
		case d.IsDir():
			out[name] = thing{dir: true}
		case d.Type()&fs.ModeSymlink != 0:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			out[name] = thing{link: link}
		default:
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if out[name], err = w.recognise(name, data); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

var errMixture = errors.New("not one revision")

// recognise finds the revision that data is. Contents too short to name their
// revision are compared with all that the books allow.
func (w *model) recognise(name string, data []byte) (thing, error) {
	candidates := []thing{}
	if s, ok := w.sure[name]; ok {
		candidates = append(candidates, s)
	}
	for _, outcome := range w.maybe {
		if s := outcome[name]; s != nil {
			candidates = append(candidates, *s)
		}
	}
	for _, s := range candidates {
		if s.size == len(data) && string(s.data()) == string(data) {
			return s, nil
		}
	}
	return thing{}, fmt.Errorf("%s: %w of %v: %s", name, errMixture, candidates, describe(data))
}
