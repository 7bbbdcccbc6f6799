package vaultcore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// deed is what somebody did knowingly: a save, and the one it ended. A revocation
// takes it back when it is in no batch that counts.
type deed struct {
	made, ended string
	after       uint64 // own batches sealed before it
	sealed      uint64 // the batch that has it at the latest, 0: not yet
}

// did notes a deed.
func (s *saver) did(d *device, made, ended string) {
	s.t.Helper()
	delete(s.alive, ended)
	if made != "" {
		s.alive[made] = true
	}
	s.deeds[d] = append(s.deeds[d], deed{made: made, ended: ended, after: d.head().Seq})
}

// sealed notes what is in a batch by now.
func (s *saver) sealed(d *device) {
	s.t.Helper()
	d.flushAttrs()
	left, _, err := d.Unsealed(context.Background(), 1)
	s.must(err)
	for i := range s.deeds[d] {
		if x := &s.deeds[d][i]; left == 0 && x.sealed == 0 {
			x.sealed = d.head().Seq
		}
	}
}

// seal does nothing while the new password is missing, or on a device that was
// shut out.
func (s *saver) seal(d *device, o SealOptions) {
	if d.sealable() == nil {
		d.sealAll(o)
	}
}

func (s *saver) pushSome(d *device) {
	if d.sealable() == nil {
		d.pushSome(s.r)
	}
}

// hear takes what the remote has. Refused may be what is of another epoch, or cut.
func (s *saver) hear(d *device) {
	s.t.Helper()
	heads, err := d.Heads(context.Background())
	s.must(err)
	var frames [][]byte
	for _, id := range sortedIDs(slices.Collect(maps.Keys(s.f.log))) {
		if log := s.f.log[id]; id != d.DeviceID() && heads[id].Seq < uint64(len(log)) {
			frames = append(frames, log[heads[id].Seq:]...)
		}
	}
	if s.r.IntN(3) == 0 { // late, and in any order
		s.r.Shuffle(len(frames), func(i, j int) { frames[i], frames[j] = frames[j], frames[i] })
	}
	r, err := d.Receive(context.Background(), frames...)
	s.must(err)
	for _, err := range r.Refused {
		if !errors.Is(err, ErrNewEpoch) && !errors.Is(err, ErrStaleEpoch) && !errors.Is(err, ErrGap) {
			s.t.Fatalf("%s: refused: %v", d.name, err)
		}
	}
}

// epoch does one thing of those that headers are about.
func (s *saver) epoch(d *device) {
	switch k := s.r.IntN(10); {
	case k < 4:
		s.learn(d)
	case k < 8:
		s.accept(d)
	case s.gone == nil && k == 9 && len(s.f.devices) > 2:
		s.revoke(d)
	default:
		s.changePassword(d)
	}
}

// learn hears of headers.
func (s *saver) learn(d *device) {
	s.note(d, "pull headers")
	known, _ := d.HeaderSeq()
	for seq := known + 1; s.headers[seq] != nil; seq++ {
		if err := d.AcceptHeader(context.Background(), s.headers[seq]); err != nil && !errors.Is(err, ErrNewEpoch) {
			s.t.Fatalf("%s: header %d: %v", d.name, seq, err)
		}
	}
}

// accept gives the password of now where it is asked for.
func (s *saver) accept(d *device) {
	if !d.EpochPending() {
		return
	}
	err := d.AcceptPassword(context.Background(), []byte(s.password()))
	s.note(d, "accept: %v", err)
	if errors.Is(err, ErrWrongPassword) {
		return // it was changed once more
	}
	s.must(err)
	d.password = s.password()
}

func (s *saver) password() string {
	if s.passwords == 0 {
		return testPassword
	}
	return fmt.Sprint("the horse's staple ", s.passwords)
}

// upToDate brings d to the newest header; false for one that is shut out.
func (s *saver) upToDate(d *device) bool {
	s.learn(d)
	s.accept(d)
	return !d.Revoked()
}

func (s *saver) changePassword(d *device) {
	if !s.upToDate(d) {
		return
	}
	s.note(d, "change the password")
	s.passwords++
	d.changePassword(s.headers, s.password())
}

// revoke shuts another device out. What it did since the last batch that counts is
// undone: its saves go, and those it ended are to be there again.
func (s *saver) revoke(d *device) {
	if !s.upToDate(d) {
		return
	}
	others := slices.DeleteFunc(slices.Clone(s.f.devices), func(o *device) bool { return o == d })
	s.gone = others[s.r.IntN(len(others))]
	s.note(d, "revoke %s", s.gone.name)
	s.shown = shownBy(d)
	d.revoke(s.headers, s.gone)
}

// undo takes back what a revocation does. Of what may or may not be in a batch
// that counts nothing is asked.
func (s *saver) undo(cut uint64) {
	ended := make(map[string]bool) // for all we know
	there := map[string]bool{}     // beyond doubt
	for _, d := range s.f.devices {
		for _, x := range s.deeds[d] {
			ended[x.ended] = ended[x.ended] || d != s.gone || x.after < cut
			there[x.made] = d != s.gone || x.sealed > 0 && x.sealed <= cut && s.shown[x.made]
		}
	}
	for _, x := range s.deeds[s.gone] {
		if !there[x.made] {
			delete(s.alive, x.made)
		}
		if x.ended != "" && there[x.ended] && !ended[x.ended] {
			s.alive[x.ended] = true
		}
	}
}

// meet lets all who are left have everything.
func (s *saver) meet() {
	s.t.Helper()
	for range 2 {
		for _, d := range s.f.devices {
			s.learn(d)
			s.accept(d)
		}
	}
	if s.gone == nil {
		s.f.sync()
		return
	}
	left := slices.DeleteFunc(slices.Clone(s.f.devices), func(d *device) bool { return d == s.gone })
	cut := left[0].keys.header().Cut[s.gone.DeviceID()].Seq
	s.undo(cut)
	s.f.devices = left
	s.gone.pushBatches()
	for _, d := range left {
		s.hear(d) // what is cut off, once more
	}
	s.f.log[s.gone.DeviceID()] = s.f.log[s.gone.DeviceID()][:cut]
	for range 3 {
		for _, d := range left {
			d.push()
			d.pull()
			s.find(d) // nobody is left to say that what it sent is there
		}
	}
	s.agree()
	for _, d := range left {
		d.reopen()
	}
	s.agree()
}

// agree is that of the fleet, but for what stands in for a content that only a
// device had that was shut out: the nearest earlier one that is here.
func (s *saver) agree() {
	s.t.Helper()
	list := func(d *device) string {
		l, err := d.lockLedger(context.Background())
		s.must(err)
		defer l.mu.Unlock()
		waits := make(map[string]bool)
		for id := range l.pending.byAtt {
			for _, n := range d.indexRows([]seal.ID{id}, nil).byID[id] {
				if !n.has(flagUnlinked) {
					waits[shownPath(n)] = true
				}
			}
		}
		return fmt.Sprintf("%x\n%s", l.state(nil), masked(d.exact(), waits))
	}
	first := list(s.f.devices[0])
	for _, d := range s.f.devices[1:] {
		if got := list(d); got != first {
			s.t.Fatalf("%s shows\n%s\n%s shows\n%s", d.name, got, s.f.devices[0].name, first)
		}
	}
}

// masked hides the contents of some paths in a listing.
func masked(list string, paths map[string]bool) string {
	lines := strings.Split(list, "\n")
	for i, line := range lines {
		for p := range paths {
			if strings.HasPrefix(line, p+" ") {
				lines[i], _, _ = strings.Cut(line, " = ")
			}
		}
	}
	return joinLines(lines)
}
