package syncer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// saves remembers every closed save, and which of them somebody has replaced or
// deleted who had it before his eyes.
type saves struct {
	mu    sync.Mutex
	alive map[string]string // token to where it was saved
	moved map[string]int    // token to how often it was moved over a file
}

// movedOver notes that a content replaced another one. While others do something
// else with the file it was in, that file lives on, and both show it.
func (s *saves) movedOver(content string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.moved[tokenOf(content)]++
}

func (s *saves) saved(token, where string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alive[token] = where
}

func (s *saves) gone(content string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.alive, tokenOf(content))
}

// tokenOf is the first line of a content.
func tokenOf(content string) string {
	token, _, _ := strings.Cut(content, "\n")
	return token
}

// worker is a person at one device.
type worker struct {
	d     *device
	rng   *rand.Rand
	saves *saves
	count int
}

func (w *worker) path() string { return fmt.Sprintf("Letters/%c.txt", 'a'+rune(w.rng.IntN(8))) }

// look reads a file; false if it is there and its content is not.
func (w *worker) look(path string) (string, bool) {
	if _, err := w.d.v.Stat(path); err != nil {
		return "", true
	}
	text := w.d.read(path)
	return text, !strings.HasPrefix(text, "(")
}

// nothingOnDemand lets nothing come but by sync: else what a person sees may
// change between looking and doing.
func (d *device) nothingOnDemand() {
	d.v.OnFetch(func(context.Context, seal.ID) error { return syncer.ErrUnavailable })
}

// act does one thing that people do.
func (w *worker) act() {
	t := w.d.f.t
	t.Helper()
	path := w.path()
	old, ok := w.look(path)
	if !ok {
		return
	}
	switch w.rng.IntN(6) {
	case 0:
		if err := w.d.v.Remove(path, false); err == nil {
			w.saves.gone(old)
		} else if !errors.Is(err, vaultcore.ErrNotFound) {
			t.Errorf("%s: remove %s: %v", w.d.name, path, err)
		}
	case 1:
		to := w.path()
		if to == path {
			return
		}
		over, ok := w.look(to)
		if !ok {
			return
		}
		err := w.d.v.Move(path, to)
		if err != nil && !errors.Is(err, vaultcore.ErrNotFound) && !errors.Is(err, vaultcore.ErrExist) {
			t.Errorf("%s: move %s to %s: %v", w.d.name, path, to, err)
		}
		if err == nil {
			w.saves.gone(over)
			if over != "" {
				w.saves.movedOver(old)
			}
		}
	default:
		w.count++
		token := fmt.Sprintf("%s-%d", w.d.name, w.count)
		w.d.write(path, token+"\n"+strings.Repeat("x", 1<<w.rng.IntN(20)))
		w.saves.gone(old)
		w.saves.saved(token, path)
	}
}

// trouble is a network of a bad day.
func trouble(seed uint64, off func() bool) func(string, syncer.Remote) syncer.Remote {
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(seed, 1))
	plan := func(op, key string) fault {
		mu.Lock()
		defer mu.Unlock()
		if off() || rng.IntN(8) > 0 {
			return fault{}
		}
		err := fmt.Errorf("%w: a bad day", syncer.ErrUnavailable)
		switch rng.IntN(3) {
		case 0:
			return fault{err: err}
		case 1:
			if op == "GetBlob" {
				return fault{err: err, cut: 1 + rng.Int64N(1<<16)}
			}
			return fault{err: err, late: true}
		default:
			return fault{err: err, late: op == "PutBlob" || op == "Put"}
		}
	}
	return func(_ string, r syncer.Remote) syncer.Remote { return &faulty{Remote: r, plan: plan} }
}

// Three devices work at the same time over a remote that often fails, are killed
// now and then, and in the end have the same tree with everything in it that
// nobody replaced or deleted knowingly.
func TestSoak(t *testing.T) {
	t.Parallel()
	rounds := 25
	if testing.Short() {
		rounds = 8
	}
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			soak(t, seed, rounds)
		})
	}
}

func soak(t *testing.T, seed uint64, rounds int) {
	f := newFleet(t, folder(t), "ada", "bob", "cy")
	_, err := f.devices[0].v.MakeDir("Letters", true)
	f.must(err)
	f.sync()
	var mu sync.Mutex
	calm := false
	f.faults = trouble(seed, func() bool { mu.Lock(); defer mu.Unlock(); return calm })
	s := &saves{alive: make(map[string]string), moved: make(map[string]int)}
	var wg sync.WaitGroup
	for i, d := range f.devices {
		d.engine() // with faults from now on
		d.nothingOnDemand()
		w := &worker{d: d, rng: rand.New(rand.NewPCG(seed, uint64(i))), saves: s}
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range rounds {
				for range 1 + w.rng.IntN(4) {
					w.act()
				}
				_ = d.trySync() // fails on a bad day
				if w.rng.IntN(10) == 0 {
					d.kill()
					d.nothingOnDemand()
				}
			}
		}()
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	mu.Lock()
	calm = true
	mu.Unlock()
	f.sync()
	f.sync()
	f.agree()
	s.check(t, f)
}

// trashed notes what lies in the trash of a device.
func (d *device) trashed(tokens map[string]bool) {
	d.f.t.Helper()
	entries, err := d.v.Trash()
	d.f.must(err)
	for _, e := range entries {
		r, err := d.v.OpenTrash(e.ID)
		if err != nil {
			continue // deleted before its content came here; whose it was has it
		}
		b, err := io.ReadAll(r)
		r.Close()
		if err == nil {
			tokens[tokenOf(string(b))] = true
		}
	}
}

// check looks for every save that has to be there.
func (s *saves) check(t *testing.T, f *fleet) {
	d := f.devices[0]
	shown := make(map[string]int)
	err := d.v.List("", true, func(i vaultcore.Info) error {
		if i.Kind == "file" {
			shown[tokenOf(d.read(i.Path))]++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	trashed := make(map[string]bool)
	for _, d := range f.devices {
		d.trashed(trashed)
	}
	for token, where := range s.alive {
		// Who deletes a file whose newest content has not come deletes that too.
		if n := shown[token]; n == 0 && !trashed[token] || n > 1+s.moved[token] {
			t.Errorf("%s, saved as %s, is shown %d times", token, where, shown[token])
		}
	}
	if len(s.alive) == 0 {
		t.Error("nothing was left to look for")
	}
	for _, d := range f.devices {
		for _, c := range d.Status().Conditions {
			t.Errorf("%s: condition in ordinary use: %+v", d.name, c)
		}
	}
}
