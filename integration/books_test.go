package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The books of the crash tests are right where nothing ever crashes.
func TestBooksOnAPlainDirectory(t *testing.T) {
	t.Parallel()
	w := newModel(t.TempDir(), 1, 200_000)
	must(t, w.runSteps(2000))
	w.verify(t)
	h := newHistorian(t.TempDir(), 1)
	for range 1000 {
		must(t, h.step())
	}
	if damaged := h.verify(t, false); damaged != 0 || h.lost != 0 {
		t.Errorf("%d damaged, %d lost", damaged, h.lost)
	}
}

// They find what must not happen: a lost file, a mixture, an old state, a file
// that is back.
func TestBooksFindLosses(t *testing.T) {
	t.Parallel()
	for what, harm := range map[string]func(t *testing.T, w *model){
		"lost":    func(t *testing.T, w *model) { must(t, os.Remove(w.path(w.pick()))) },
		"back":    func(t *testing.T, w *model) { must(t, os.WriteFile(w.path("f0"), []byte("x"), 0o600)) },
		"cut":     func(t *testing.T, w *model) { must(t, os.Truncate(w.path(w.pick()), 0)) },
		"mixture": func(t *testing.T, w *model) { mix(t, w.path(w.pick())) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newModel(t.TempDir(), 2, 200_000)
			must(t, w.runSteps(200))
			harm(t, w)
			if got, err := w.look(); err == nil && w.differs(got, nil) == "" {
				t.Error("nobody noticed")
			}
		})
	}
}

func mix(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	data[len(data)-1] ^= 1
	must(t, os.WriteFile(path, data, 0o600))
}

// A history allows what a cut may leave, and nothing older than an fsync.
func TestBooksKnowWhatIsDurable(t *testing.T) {
	t.Parallel()
	old, next := &thing{id: 1, rev: 1, size: 100}, &thing{id: 1, rev: 2, size: 100}
	i := &identity{states: []world{{"f1": old}, {"f1": old, "f1.new": next}, {"f1": next}, {}}}
	whole := func(s *thing) found { return found{data: s.data()} }
	for _, tt := range []struct {
		mine map[string]found
		want string // the states that allow it
	}{
		{map[string]found{"f1": whole(old)}, "0"},
		{map[string]found{"f1": whole(old), "f1.new": whole(next)}, "1"},
		{map[string]found{"f1": whole(old), "f1.new": {damaged: true}}, "1"},
		{map[string]found{"f1": whole(next)}, "2"},
		{map[string]found{"f1": {damaged: true}}, ""},
		{map[string]found{"f1": {data: append(old.data()[:50:50], next.data()[50:]...)}}, ""},
		{map[string]found{}, "3"},
	} {
		var got strings.Builder
		for n, state := range i.states {
			if i.holds(tt.mine, state) {
				got.WriteByte(byte('0' + n))
			}
		}
		if got.String() != tt.want {
			t.Errorf("%v: states %q, want %q", tt.mine, got.String(), tt.want)
		}
	}
}

// The canary scan sees a canary in each spelling.
func TestScanFindsCanaries(t *testing.T) {
	t.Parallel()
	for what, text := range canaries() {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, "file"), append([]byte("before "), text...), 0o600))
		if len(text) < 8 {
			t.Errorf("%s is too short to mean anything: %q", what, text)
		}
		quiet := &silent{TB: t}
		scan(quiet, "self test", dir)
		if !quiet.failed {
			t.Errorf("%s was not seen", what)
		}
	}
}

// silent takes the failures that a self test provokes.
type silent struct {
	testing.TB
	failed bool
}

func (s *silent) Errorf(string, ...any) { s.failed = true }
func (s *silent) Helper()               {}
