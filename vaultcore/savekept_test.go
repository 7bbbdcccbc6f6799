package vaultcore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Any interleaving of saves, renames, deletions, drafts, kills and a sync that
// comes piece by piece: every closed save is shown in the end, or in a trash,
// unless somebody replaced or deleted it who had it before his eyes.
func TestSavesKept(t *testing.T) {
	playSeeds(t, "VAULTDRIVE_SAVE_SEEDS", 12, playSaves)
}

// saver plays people at the devices of a fleet, and remembers what they saved.
type saver struct {
	t     *testing.T
	f     *fleet
	r     *rand.Rand
	alive map[string]bool // tokens that have to be somewhere
	count int
	open  map[*device]*openSave
	trace []string

	headers   registry
	passwords int
	gone      *device         // revoked
	shown     map[string]bool // contents, when and where that was done
	deeds     map[*device][]deed
}

const savePaths = 5

// openSave is a file that somebody has open for writing.
type openSave struct {
	n           *Node
	seen, token string
	kept        bool // made durable before it is closed
}

func playSaves(t *testing.T, seed uint64) {
	s := &saver{
		t: t, r: rand.New(rand.NewPCG(seed, 1)), alive: make(map[string]bool), open: make(map[*device]*openSave), deeds: make(map[*device][]deed),
	}
	s.f = newFleet(t, []string{"ada", "bob", "cy"}[:2+s.r.IntN(2)]...)
	s.f.devices[0].mkdir("A")
	for i := range savePaths {
		s.save(s.f.devices[0], fmt.Sprint("A/f", i), "")
	}
	s.f.sync()
	s.headers = s.f.headersOf(s.f.devices[0])
	for range 200 {
		s.step(s.f.devices[s.r.IntN(len(s.f.devices))])
	}
	for _, d := range s.f.devices {
		if s.open[d] != nil {
			s.closeSave(d)
		}
	}
	s.meet()
	s.check()
}

func (s *saver) note(d *device, format string, args ...any) {
	s.trace = append(s.trace, d.name+": "+fmt.Sprintf(format, args...))
}

// step does one thing a device may do.
func (s *saver) step(d *device) {
	ctx, f := context.Background(), s.f
	s.sealed(d)
	switch k := s.r.IntN(106); {
	case k < 30:
		s.act(d)
	case k < 37:
		s.draft(d)
	case k < 46:
		s.note(d, "seal")
		s.seal(d, SealOptions{})
	case k < 50:
		s.note(d, "seal some")
		s.seal(d, SealOptions{Before: time.UnixMilli(f.clock.Load() - int64(s.r.IntN(60)))})
	case k < 63:
		s.note(d, "push batches")
		d.pushBatches()
	case k < 79:
		s.note(d, "pull batches")
		s.hear(d)
	case k < 86:
		s.note(d, "push some")
		s.pushSome(d)
	case k < 92:
		s.note(d, "pull some")
		d.pullSome(s.r)
	case k >= 100:
		s.epoch(d)
	case k < 95:
		s.find(d)
	case k < 97:
		s.must(d.tidyKept(ctx))
	case k < 98:
		s.must(d.Barrier(ctx))
	case k < 99:
		_, err := d.settleDue(true)
		s.must(err)
	default:
		s.kill(d)
	}
}

func (s *saver) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// find sees some contents on the remote that nobody has said to be there.
func (s *saver) find(d *device) {
	wanted, err := d.WantedBlobs(context.Background())
	s.must(err)
	var there []seal.ID
	for _, w := range wanted {
		if w.Pending && s.f.blobs[w.Blob] != nil {
			there = append(there, w.Blob)
		}
	}
	s.note(d, "found %d", len(there))
	s.must(d.Found(context.Background(), there))
}

// kill ends a device's program. A draft that was made durable comes back as a save.
func (s *saver) kill(d *device) {
	s.note(d, "kill")
	if o := s.open[d]; o != nil {
		delete(s.open, d)
		if o.kept {
			s.did(d, o.token, o.seen)
		}
	}
	d.kill(false)
}

func (s *saver) path() string { return fmt.Sprint("A/f", s.r.IntN(savePaths)) }

// look gives what a person sees at a path; false for what is not here, or open.
func (s *saver) look(d *device, path string) (n *Node, token string, ok bool) {
	n, err := d.Find(path)
	if err != nil {
		return nil, "", true
	}
	if n.kind != KindFile || n.open.Load() != nil {
		return nil, "", false
	}
	token = d.content(n)
	return n, token, token != "(not here)"
}

// act does one thing that people do.
func (s *saver) act(d *device) {
	path := s.path()
	n, old, ok := s.look(d, path)
	if !ok {
		return
	}
	switch s.r.IntN(8) {
	case 0:
		if n == nil {
			return
		}
		s.note(d, "remove %s = %s", path, old)
		s.must(d.Remove(path, false))
		s.did(d, "", old)
	case 1, 2:
		s.move(d, n, path, old)
	case 3:
		if n == nil {
			return
		}
		s.note(d, "chmod %s = %s", path, old)
		mode := uint32(0o600 + s.r.IntN(2)*0o40)
		_, err := d.SetAttr(n, SetAttr{Mode: &mode})
		s.must(err)
	default:
		s.save(d, path, old)
	}
}

func (s *saver) save(d *device, path, old string) {
	token := s.token(d)
	s.note(d, "save %s = %s over %s", path, token, old)
	d.write(path, token)
	s.did(d, token, old)
}

func (s *saver) token(d *device) string {
	s.count++
	return fmt.Sprint(d.name, "-", s.count)
}

func (s *saver) move(d *device, n *Node, path, old string) {
	to := s.path()
	over, replaced, ok := s.look(d, to)
	if n == nil || n == over || !ok {
		return
	}
	flags := RenameFlags(0)
	if over != nil && s.r.IntN(3) == 0 {
		flags = RenameExchange
	}
	s.note(d, "move %s = %s to %s = %s, %d", path, old, to, replaced, flags)
	dir, from, err := d.parentOf(path)
	s.must(err)
	_, name, err := d.parentOf(to)
	s.must(err)
	s.must(d.Rename(dir, from, dir, name, flags))
	if flags == 0 {
		s.did(d, "", replaced)
	}
}

// draft opens a file and writes to it, or closes an open one.
func (s *saver) draft(d *device) {
	if s.open[d] != nil {
		s.closeSave(d)
		return
	}
	path := s.path()
	n, old, ok := s.look(d, path)
	if n == nil || !ok {
		return
	}
	o := &openSave{n: n, seen: old, token: s.token(d), kept: s.r.IntN(3) == 0}
	s.note(d, "open %s = %s, write %s, durable: %v", path, old, o.token, o.kept)
	s.must(d.Open(n, true, true))
	_, err := d.WriteAt(n, []byte(o.token), 0)
	s.must(err)
	if o.kept {
		s.must(d.Fsync(n))
	}
	s.open[d] = o
}

func (s *saver) closeSave(d *device) {
	o := s.open[d]
	delete(s.open, d)
	s.note(d, "close %s over %s", o.token, o.seen)
	closeFile(s.t, d.Vault, o.n)
	s.did(d, o.token, o.seen)
}

// shownBy gives the contents that a device shows.
func shownBy(d *device) map[string]bool {
	shown := make(map[string]bool)
	for line := range strings.Lines(d.list()) {
		_, token, _ := strings.Cut(strings.TrimSpace(line), " = ")
		shown[token] = true
	}
	return shown
}

// check looks for every save that has to be there.
func (s *saver) check() {
	shown := shownBy(s.f.devices[0])
	for _, d := range s.f.devices {
		s.trashed(d, shown)
		wantSound(s.t, d.Vault)
	}
	for token := range s.alive {
		if !shown[token] {
			s.t.Errorf("%s is neither shown nor in a trash", token)
		}
	}
	if s.t.Failed() {
		s.t.Logf("%s\n%s", strings.Join(s.trace, "\n"), s.f.devices[0].list())
	}
}

// trashed notes what lies in the trash of a device.
func (s *saver) trashed(d *device, tokens map[string]bool) {
	entries, err := d.Trash()
	s.must(err)
	for _, e := range entries {
		r, err := d.OpenTrash(e.ID)
		if errors.Is(err, ErrTimeout) {
			continue // deleted before its content came here
		}
		s.must(err)
		b, err := io.ReadAll(r)
		r.Close()
		if err == nil {
			tokens[string(b)] = true
		}
	}
}
