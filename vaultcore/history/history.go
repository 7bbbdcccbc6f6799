package history

import (
	"cmp"
	"iter"
	"slices"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// History is a set of accepted ops and the tree they make. It grows by Add;
// only Revoke and Remove take something back. Each costs as much as the ids it
// touches. Not safe for concurrent use.
type History struct {
	files   map[seal.ID]*thread
	assets  map[seal.ID]*asset
	devices map[seal.ID]*device
	types   map[string]string // MIME types, each kept once
	titles  *space
	now     *change // what the running call touches
}

// asset is a directory. It exists here as soon as an attachment names it.
type asset struct {
	thread
	names *space
	types map[uint8]int // visible files by the type they say their asset has
	live  int           // visible files
}

// Changed lists whose Attachment or Asset may give another answer than before,
// in order of ids. It may name too many, never too few.
type Changed struct {
	Attachments []seal.ID
	Assets      []seal.ID
}

// change collects what a call touches. An id is withdrawn from the names
// before its first op is entered and claims them anew after the last.
type change struct {
	files    map[*thread]bool
	assets   map[*asset]assetClaim
	attached map[*thread]bool // only another's names changed theirs
	retitled map[*thread]bool
	spaces   map[*space]bool // whose claims came or went
}

// assetClaim is how an asset was before.
type assetClaim struct {
	state State
	title string
}

// New returns the history of an empty vault.
func New() *History {
	h := &History{
		files: make(map[seal.ID]*thread), assets: make(map[seal.ID]*asset),
		devices: make(map[seal.ID]*device), types: make(map[string]string),
	}
	h.titles = newSpace(
		func(t *thread) *claim { return h.assets[t.id].claim() },
		func(t *thread) { h.now.retitled[t] = true },
	)
	return h
}

// Add enters ops. What is known already changes nothing.
func (h *History) Add(ops Ops) Changed {
	h.begin()
	h.addDevices(ops.Devices)
	h.addBirths(ops.Births)
	for i := range ops.Assets {
		r := &ops.Assets[i]
		h.openAssetThread(r.ID).addVersion(version{
			digest: r.Digest, prev: r.Prev, stamp: h.stamp(r.At), rev: r.Rev,
			name: r.Title, mtime: r.Ctime, ptype: r.Type,
		})
	}
	for _, d := range ops.AssetDels {
		h.openAssetThread(d.ID).addEnd(end{d.Prev, h.stamp(d.At)})
	}
	for i := range ops.Records {
		r := &ops.Records[i]
		h.openFile(r.ID).addVersion(version{
			digest: r.Digest, prev: r.Prev, stamp: h.stamp(r.At), rev: r.Rev,
			parent: h.asset(r.Parent.ID), ptype: r.Parent.Type, name: r.Name, mime: h.mime(r.MIME),
			blob: r.Blob, mtime: r.Mtime, size: r.Size, mode: r.Mode,
		})
	}
	for _, d := range ops.Dels {
		h.openFile(d.ID).addEnd(end{d.Prev, h.stamp(d.At)})
	}
	return h.finish()
}

// Revoke takes back every op of a device after its batch seq: what a
// revocation cuts off. The work of others on it lives as branches of its own.
func (h *History) Revoke(id seal.ID, seq uint64) Changed {
	h.begin()
	d := h.devices[id]
	if d == nil {
		return h.finish()
	}
	record := func(v *version) bool { return v.dev == d && v.seq > seq }
	del := func(e end) bool { return e.dev == d && e.seq > seq }
	for _, t := range h.files {
		h.unborn(t, d, seq)
		h.strip(t, record, del)
	}
	for _, a := range h.assets {
		h.unborn(&a.thread, d, seq)
		h.strip(&a.thread, record, del)
	}
	h.rename(d, slices.DeleteFunc(slices.Clone(d.names), func(n DeviceName) bool { return n.Seq > seq }))
	return h.finish()
}

// Remove takes back single records and dels, each named by the At, ID, Digest
// and Prev that Add was given: what a checkpoint drops. Device names stay.
func (h *History) Remove(ops Ops) Changed {
	h.begin()
	for i := range ops.Records {
		r := &ops.Records[i]
		h.removeVersion(h.files[r.ID], r.At, r.Digest, r.Prev)
	}
	for i := range ops.Assets {
		r := &ops.Assets[i]
		h.removeVersion(h.assetThread(r.ID), r.At, r.Digest, r.Prev)
	}
	for _, d := range ops.Dels {
		h.removeEnd(h.files[d.ID], d)
	}
	for _, d := range ops.AssetDels {
		h.removeEnd(h.assetThread(d.ID), d)
	}
	return h.finish()
}

func (h *History) removeVersion(t *thread, at At, d, prev Digest) {
	s := h.stamp(at)
	h.strip(t, func(v *version) bool { return v.stamp == s && v.digest == d && v.prev == prev }, func(end) bool { return false })
}

func (h *History) removeEnd(t *thread, d Del) {
	gone := end{d.Prev, h.stamp(d.At)}
	h.strip(t, func(*version) bool { return false }, func(e end) bool { return e == gone })
}

// unborn forgets a birth that is revoked.
func (h *History) unborn(t *thread, d *device, seq uint64) {
	if t.birth != nil && t.birth.dev == d && t.birth.seq > seq {
		h.open(t)
		t.birth = nil
	}
}

// open withdraws a thread from the names.
func (h *History) open(t *thread) {
	if a := h.assets[t.id]; a != nil && t == &a.thread {
		h.openAssetThread(t.id)
	} else {
		h.openFile(t.id)
	}
}

// strip deletes from a thread, which it opens only if there is something.
func (h *History) strip(t *thread, record func(*version) bool, del func(end) bool) {
	if t == nil {
		return
	}
	hit := slices.ContainsFunc(t.ends, del)
	for i := range t.versions {
		hit = hit || record(&t.versions[i])
	}
	if !hit {
		return
	}
	h.open(t)
	t.known = nil
	t.ends = slices.DeleteFunc(t.ends, del)
	t.versions = slices.DeleteFunc(t.versions, func(v version) bool { return record(&v) })
}

func (h *History) assetThread(id seal.ID) *thread {
	if a := h.assets[id]; a != nil {
		return &a.thread
	}
	return nil
}

func (h *History) begin() {
	h.now = &change{
		files: make(map[*thread]bool), assets: make(map[*asset]assetClaim),
		attached: make(map[*thread]bool), retitled: make(map[*thread]bool), spaces: make(map[*space]bool),
	}
}

func (h *History) asset(id seal.ID) *asset {
	a := h.assets[id]
	if a == nil {
		a = &asset{thread: thread{id: id}, types: make(map[uint8]int)}
		a.names = newSpace(h.firstClaim, func(t *thread) { h.now.attached[t] = true })
		h.assets[id] = a
	}
	return a
}

func (h *History) device(id seal.ID) *device {
	d := h.devices[id]
	if d == nil {
		d = &device{id: id}
		h.devices[id] = d
	}
	return d
}

func (h *History) stamp(at At) stamp { return stamp{at.HLC, at.Seq, h.device(at.Device)} }

func (h *History) mime(s string) string {
	if kept, ok := h.types[s]; ok {
		return kept
	}
	h.types[s] = s
	return s
}

func (h *History) addDevices(names []DeviceName) {
	for _, n := range names {
		d := h.device(n.Device)
		if !slices.Contains(d.names, n) {
			h.rename(d, append(slices.Clone(d.names), n))
		}
	}
}

// rename gives a device its names, the first of its chain first. Every copy is
// withdrawn before, because conflict suffixes hold device names.
func (h *History) rename(d *device, names []DeviceName) {
	slices.SortFunc(names, func(a, b DeviceName) int {
		return cmp.Or(cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.HLC, b.HLC), cmp.Compare(a.Name, b.Name))
	})
	before := d.shown()
	if (&device{id: d.id, names: names}).shown() != before {
		for _, a := range h.assets {
			for _, t := range a.names.copies() {
				h.openFile(t.id)
			}
		}
	}
	d.names = names
}

// DeviceName gives the newest name of a device, "" for one that has said none.
func (h *History) DeviceName(id seal.ID) string {
	d := h.devices[id]
	if d == nil || len(d.names) == 0 {
		return ""
	}
	return d.names[len(d.names)-1].Name
}

// Attachments gives every id known, dead ones too, in no order.
func (h *History) Attachments() iter.Seq[seal.ID] {
	return func(yield func(seal.ID) bool) {
		for id := range h.files {
			if !yield(id) {
				return
			}
		}
	}
}

// Assets gives every asset known or named by an attachment, in no order.
func (h *History) Assets() iter.Seq[seal.ID] {
	return func(yield func(seal.ID) bool) {
		for id := range h.assets {
			if !yield(id) {
				return
			}
		}
	}
}
