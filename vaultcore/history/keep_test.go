package history

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// cutting is what a device drops when it takes a checkpoint for its log.
type cutting struct {
	horizon HLC
	heads   map[seal.ID]uint64
	settled func(At) bool
	arrived func(seal.ID) bool
}

// cut makes the checkpoint of what d has now: what is older than the horizon,
// and known to all by what d has heard of them, may be dropped.
func (d *drive) cut(horizon HLC, arrived func(seal.ID) bool) *cutting {
	c := &cutting{horizon: horizon, heads: maps.Clone(d.applied), arrived: arrived}
	c.heads[d.id] = uint64(len(d.log))
	known := make(map[seal.ID]map[seal.ID]uint64)
	for _, of := range d.w.devices {
		if n := c.heads[of.id]; of == d || n == 0 {
			known[of.id] = c.heads
		} else {
			known[of.id] = of.log[n-1].seen
		}
	}
	c.settled = func(at At) bool {
		if at.HLC > horizon {
			return false
		}
		for id, seen := range known {
			if id != at.Device && seen[at.Device] < at.Seq {
				return false
			}
		}
		return true
	}
	return c
}

// keptOps gives of some ops those a checkpoint keeps, with the births it adds.
func keptOps(k *Kept, ops Ops) Ops {
	ops.Records = slices.DeleteFunc(slices.Clone(ops.Records), func(r Record) bool {
		kept, born := k.Record(r.Digest)
		if born != nil {
			ops.Births = append(ops.Births, Birth{At: *born, ID: r.ID, Kind: BirthAttachment})
		}
		return !kept
	})
	ops.Assets = slices.DeleteFunc(slices.Clone(ops.Assets), func(r AssetRecord) bool {
		kept, born := k.Record(r.Digest)
		if born != nil {
			ops.Births = append(ops.Births, Birth{At: *born, ID: r.ID, Kind: BirthAsset})
		}
		return !kept
	})
	return ops
}

// within gives the batches up to some heads, or with not those after them.
func (w *world) within(heads map[seal.ID]uint64, not bool) (out []batch) {
	for _, b := range w.all() {
		if (b.at.Seq <= heads[b.at.Device]) != not {
			out = append(out, b)
		}
	}
	return out
}

// shows prints what users see, and the tips it stands on.
func shows(h *History) string {
	var lines []string
	for id := range h.Attachments() {
		for _, f := range h.Attachment(id, nil).Live {
			f.Content, f.At = Digest{}, At{} // the oldest record kept of those that have it
			lines = append(lines, fmt.Sprintf("%s %+v", id, f))
		}
	}
	for id := range h.Assets() {
		if a := h.Asset(id); a.State != Unknown {
			lines = append(lines, fmt.Sprintf("%+v", a))
		}
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

func liveBlobs(h *History) map[seal.ID]bool {
	out := make(map[seal.ID]bool)
	for id := range h.Attachments() {
		for _, f := range h.Attachment(id, nil).Live {
			out[f.Blob] = true
		}
	}
	return out
}

// oldTrash gives the contents that were deleted for good, and may be forgotten.
func oldTrash(h *History, settled func(At) bool) map[seal.ID]bool {
	out := make(map[seal.ID]bool)
	for _, t := range h.files {
		for _, e := range t.ends {
			if v := t.find(e.prev); v != nil && settled(e.at()) {
				out[v.blob] = true
			}
		}
	}
	return out
}

// checkTrash fails if something that was deleted later is lost.
func checkTrash(t tester, full, reduced *History, old map[seal.ID]bool) {
	t.Helper()
	for id := range full.Attachments() {
		for _, f := range full.Attachment(id, nil).Dead {
			has := slices.ContainsFunc(reduced.Attachment(id, nil).Dead, func(g File) bool { return g.Blob == f.Blob })
			if !has && !old[f.Blob] {
				t.Fatalf("the trash lost %s of %s", f.Blob, id)
			}
		}
	}
}

// less gives the entries of a that b has not.
func less[V comparable](a, b map[Digest]V) map[Digest]V {
	a = maps.Clone(a)
	maps.DeleteFunc(a, func(d Digest, v V) bool {
		w, ok := b[d]
		return ok && v == w
	})
	return a
}

// checkRequired fails if a checkpoint may not leave out what was dropped before, or
// what it does not keep anyhow.
func checkRequired(t tester, full *History, c *cutting, gone map[Digest]bool) {
	t.Helper()
	kept := full.Keep(nil, c.settled, c.arrived)
	for d := range full.Required(nil, func(at At) bool { return at.HLC <= c.horizon }, c.arrived) {
		if gone[d] {
			t.Fatalf("record %x is required, and was dropped for good", d[:4])
		}
		if !kept.records[d] {
			t.Fatalf("record %x is required, and not kept", d[:4])
		}
	}
}

func tipsOf(h *History, in func(At) bool) [32]byte { return seal.State(slices.Collect(h.Tips(in))) }

// steps plays on.
func (p *player) steps(n int) {
	for range n {
		d := p.w.devices[p.draw(len(p.w.devices), "device")]
		switch p.draw(6, "kind") {
		case 0, 1:
			p.hear(d)
		case 2:
			d.seal(func(*batch) { p.step(d); p.step(d) })
		case 3:
			d.seal(func(*batch) {}) // a sign of life
		default:
			p.step(d)
		}
	}
}

// TestCheckpointHistory: what a checkpoint keeps gives, with whatever comes
// later, what the whole log gives: P5. A later change of something dropped, which
// needs a draft open for longer than the horizon, may show a content more, never
// one less.
func TestCheckpointHistory(t *testing.T) {
	strict, loose, dropped := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		p := play(t)
		p.w.watch = false
		p.steps(rapid.IntRange(5, 30).Draw(t, "before"))
		if p.draw(2, "meet") == 0 {
			p.w.sync()
			for _, d := range p.w.devices {
				d.seal(func(*batch) {})
			}
			p.w.sync()
		}
		ada := p.w.devices[0]
		horizon := ada.hlc
		if p.draw(2, "old") == 0 {
			horizon = ada.log[p.draw(len(ada.log), "horizon")].at.HLC
		}
		for _, b := range p.w.made {
			if p.draw(8, "lost") > 0 {
				p.w.sent[b] = true
			}
		}
		arrived := func(b seal.ID) bool { return p.w.sent[b] }
		first := ada.cut(horizon, arrived)

		full := New()
		for _, b := range p.w.within(first.heads, false) {
			full.Add(ada.accept(b))
		}
		kept := full.Keep(nil, first.settled, first.arrived)
		reduced := New()
		gone := make(map[Digest]bool)
		for _, b := range p.w.within(first.heads, false) {
			ops := keptOps(kept, ada.accept(b))
			reduced.Add(ops)
			for _, r := range b.ops.Records {
				gone[r.Digest] = true
			}
			for _, r := range b.ops.Assets {
				gone[r.Digest] = true
			}
			for _, r := range ops.Records {
				delete(gone, r.Digest)
			}
			for _, r := range ops.Assets {
				delete(gone, r.Digest)
			}
		}
		thinned := make(map[seal.ID]bool)
		for _, b := range p.w.within(first.heads, false) {
			for _, r := range b.ops.Records {
				thinned[r.ID] = thinned[r.ID] || gone[r.Digest]
			}
		}
		dropped += len(gone)
		trash := oldTrash(full, first.settled)
		if got, want := shows(reduced), shows(full); got != want {
			t.Fatalf("the checkpoint shows\n%s\nthe log\n%s", got, want)
		}
		checkTrash(t, full, reduced, trash)
		if tipsOf(reduced, nil) != tipsOf(full, nil) {
			t.Fatal("another state")
		}

		p.steps(rapid.IntRange(5, 30).Draw(t, "after"))
		p.w.sync()
		before := tipsOf(full, nil)
		exact := true
		for _, b := range p.w.within(first.heads, true) {
			ops := ada.accept(b)
			for _, r := range ops.Records {
				// A save over a pending content with nothing to show is a first record; the
				// suffix of the other copy is named by the first record kept of that.
				exact = exact && !gone[r.Prev] && (r.Prev != Digest{} || !thinned[r.ID])
			}
			for _, r := range ops.Dels {
				exact = exact && !gone[r.Prev]
			}
			for _, r := range ops.Assets {
				exact = exact && !gone[r.Prev]
			}
			for _, r := range ops.AssetDels {
				exact = exact && !gone[r.Prev]
			}
			full.Add(ops)
			reduced.Add(ops)
		}
		in := func(at At) bool { return at.Seq <= first.heads[at.Device] }
		if tipsOf(full, in) != before || tipsOf(reduced, in) != before {
			t.Fatal("the state of then is another now")
		}
		second := ada.cut(ada.hlc, arrived)
		checkRequired(t, full, second, gone)
		if !exact {
			loose++
			there := liveBlobs(reduced)
			for b := range liveBlobs(full) {
				if !there[b] {
					t.Fatalf("content %q is lost", p.w.content[b])
				}
			}
			return
		}
		strict++
		if got, want := shows(reduced), shows(full); got != want {
			t.Fatalf("checkpoint and tail show\n%s\nthe log\n%s", got, want)
		}
		checkTrash(t, full, reduced, trash)
		// A checkpoint made of a checkpoint and a tail is that of the whole log.
		a, b := full.Keep(nil, second.settled, second.arrived), reduced.Keep(nil, second.settled, second.arrived)
		if !maps.Equal(a.records, b.records) || !maps.Equal(a.births, b.births) {
			t.Fatalf("a checkpoint of the log keeps other records than one of checkpoint and tail:\n%v %v\n%v %v", less(a.records, b.records), less(a.births, b.births), less(b.records, a.records), less(b.births, a.births))
		}
	})
	if !t.Failed() && (strict == 0 || dropped == 0) {
		t.Errorf("%d histories compared exactly, %d loosely, %d records dropped", strict, loose, dropped)
	}
	t.Logf("%d histories compared exactly, %d loosely, %d records dropped", strict, loose, dropped)
}
