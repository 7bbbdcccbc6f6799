package server

import (
	"fmt"
	"net/http"
	"path/filepath"
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

// One checkpoint without a successor is not enough, however old.
func TestCollectNeedsASuccessor(t *testing.T) {
	w := newWorld(t, filepath.Join(t.TempDir(), "meta.db"), Options{})
	p := w.register()
	p.push()
	p.checkpointAt(1)
	p.later(90 * 24 * time.Hour)
	p.collect(2).code(api.CodeBehind)
}
