package server

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// checkpointAt puts a whole checkpoint whose author had come to seq.
func (p *person) checkpointAt(seq int) {
	p.w.t.Helper()
	p.do("PUT", api.PathCheckpoint(p.vault, fmt.Sprintf("%020d-%s", seq, p.device), "m"), p.frame(1, 1, [32]byte{})).want(http.StatusCreated)
}

func (p *person) push() {
	p.w.t.Helper()
	body := p.batch()
	p.do("PUT", api.PathBatch(p.vault, p.device, uint64(len(p.batches))), body).want(http.StatusCreated)
}

// collect asks for batches below seq to go.
func (p *person) collect(seq uint64) *answer {
	p.w.t.Helper()
	return p.do("POST", api.PathVault(p.vault)+"/collect", api.Collect{Heads: map[string]uint64{p.device: seq}})
}

func (p *person) later(d time.Duration) {
	p.w.t.Helper()
	p.w.pass(d)
	p.login()
}

// Batches go only below a checkpoint that is 30 days old and has a successor, and
// none that came after it, whatever a device says.
func TestCollect(t *testing.T) {
	onBoth(t, Options{}, testCollect)
}

func testCollect(t *testing.T, w *world) {
	p := w.register()
	p.push()
	p.push()
	p.collect(3).code(api.CodeBehind)
	p.checkpointAt(2)
	p.push()
	p.checkpointAt(3)
	p.collect(3).code(api.CodeBehind) // two, and both young
	p.later(30*24*time.Hour - time.Second)
	p.collect(3).code(api.CodeBehind)
	p.later(time.Second)
	// The newest is never the base: of the two that are old it is the first.
	var done api.Collected
	p.collect(4).want(http.StatusOK).into(&done)
	if done.Removed != 2 {
		t.Errorf("%d batches went, want the 2 that came before the checkpoint", done.Removed)
	}
	for seq, status := range []int{404, 404, 200} {
		p.do("GET", api.PathBatch(p.vault, p.device, uint64(seq+1)), nil).want(status)
	}
	p.push() // the chain goes on
	p.collect(2).want(http.StatusOK).into(&done)
	if done.Removed != 0 {
		t.Errorf("%d batches went again", done.Removed)
	}
}

// checkpointParts puts parts of a checkpoint, "m" being its end, and gives them.
func (p *person) checkpointParts(seq int, parts ...string) (bodies [][]byte) {
	p.w.t.Helper()
	for n, part := range parts {
		path := api.PathCheckpoint(p.vault, fmt.Sprintf("%020d-%s", seq, p.device), part)
		status := http.StatusOK // of a part that the feed does not tell of
		if part == "m" {
			status = http.StatusCreated
		}
		bodies = append(bodies, p.frame(1, uint64(n+1), [32]byte{byte(n)}))
		p.do("PUT", path, bodies[n]).want(status)
	}
	return bodies
}

func (p *person) wantParts(what string, status int, seq int, parts ...string) {
	p.w.t.Helper()
	for _, part := range parts {
		p.w.t.Log(what, seq, part)
		p.do("GET", api.PathCheckpoint(p.vault, fmt.Sprintf("%020d-%s", seq, p.device), part), nil).want(status)
	}
}

func (p *person) logSize() int64 {
	p.w.t.Helper()
	var u api.Usage
	p.do("GET", api.PathUsage, nil).want(http.StatusOK).into(&u)
	return u.Log
}

// A checkpoint goes a week after another has become the base in its place, and its
// room is free again: a device that is slow, or late by its clock, reads it to its
// end. The base and what came after it stay.
func TestCollectCheckpoints(t *testing.T) {
	onBoth(t, Options{}, testCollectCheckpoints)
}

func testCollectCheckpoints(t *testing.T, w *world) {
	p := w.register()
	p.push()
	before := p.logSize()
	p.checkpointParts(1, "1", "2", "m")
	first := p.logSize() - before
	p.checkpointParts(9, "1", "2") // and never its end
	p.later(20 * 24 * time.Hour)
	p.push()
	p.checkpointParts(2, "1", "m")
	p.later(30*24*time.Hour - time.Second)
	p.push()
	p.checkpointParts(3, "1", "m")
	var done api.Collected
	collect := func(what string, removed int) {
		t.Helper()
		if p.collect(1).want(http.StatusOK).into(&done); done.Removed != removed {
			t.Errorf("%s: %d removed, want %d", what, done.Removed, removed)
		}
	}
	collect("the first is the base; parts without an end are old", 2)
	p.wantParts("left behind", 404, 9, "1", "2")
	p.later(time.Second)
	collect("the second has just become it", 0)
	p.wantParts("a slow device reads on", 200, 1, "1", "2", "m")
	p.later(7*24*time.Hour - time.Second)
	p.wantParts("a slow device begins", 200, 1, "m", "1")
	collect("not a week yet", 0)
	p.later(time.Second)
	full := p.logSize()
	collect("a week", 3)
	if freed := full - p.logSize(); freed != first {
		t.Errorf("%d bytes free again, want %d", freed, first)
	}
	p.wantParts("a slow device finds it gone", 404, 1, "m", "1", "2")
	p.wantParts("the base", 200, 2, "1", "m")
	p.wantParts("its successor", 200, 3, "1", "m")
	var feed api.Changes
	p.do("GET", api.PathVault(p.vault)+"/changes?after=0", nil).want(http.StatusOK).into(&feed)
	var named []string
	for _, c := range feed.Changes {
		if c.Kind == api.KindCheckpoint {
			named = append(named, c.Name[19:20])
		}
	}
	if !slices.Equal(named, []string{"2", "3"}) {
		t.Errorf("the feed has checkpoints %v", named)
	}
	collect("again", 0)
	p.checkpointParts(1, "1", "2", "m") // a device that has it brings it again: it is just another
	p.later(80 * 24 * time.Hour)
	collect("all but that are old: the third is the base", 2)
}

// Parts are left behind only when nobody puts them again.
func TestCollectSlowWriter(t *testing.T) {
	onBoth(t, Options{}, func(t *testing.T, w *world) {
		p := w.register()
		p.push()
		p.checkpointParts(1, "m")
		p.checkpointParts(2, "m")
		bodies := p.checkpointParts(5, "1", "2")
		p.later(36 * 24 * time.Hour)
		p.do("PUT", api.PathCheckpoint(p.vault, fmt.Sprintf("%020d-%s", 5, p.device), "1"), bodies[0]).want(http.StatusOK)
		p.later(2 * 24 * time.Hour)
		var done api.Collected
		if p.collect(1).want(http.StatusOK).into(&done); done.Removed != 0 {
			t.Errorf("%d removed", done.Removed)
		}
		p.wantParts("of somebody at work", 200, 5, "1", "2")
	})
}

// One checkpoint without a successor is not enough, however old.
func TestCollectNeedsASuccessor(t *testing.T) {
	w := newWorld(t, filepath.Join(t.TempDir(), "meta.db"), Options{})
	p := w.register()
	p.push()
	p.checkpointAt(1)
	p.later(90 * 24 * time.Hour)
	p.collect(2).code(api.CodeBehind)
}
