package history

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// tester is what testing.T and rapid.T share.
type tester interface {
	Helper()
	Errorf(string, ...any)
	Fatalf(string, ...any)
}

// world is some devices and the batches they have sealed, all in memory.
type world struct {
	t       tester
	now     int64 // ms since 1970, the true time
	devices []*drive
	content map[seal.ID]string // what each blob says
	count   int
	digest  func(d *drive, n int) Digest
	newID   func() seal.ID
	fate    map[seal.ID]string // blob -> who replaced or deleted it knowingly
	made    []seal.ID
	sent    map[seal.ID]bool // blobs that everybody knows to be on the remote
	watch   bool
}

// drive is a device: its history, what it sealed, and what it applied.
type drive struct {
	w       *world
	name    string
	id      seal.ID
	h       *History
	skew    int64 // ms its clock is off
	hlc     HLC
	log     []batch
	applied map[seal.ID]uint64
	here    map[seal.ID]bool
	records int
	open    *batch // collects what one seal says
	dropped map[seal.ID]bool
	mirror  map[seal.ID]string
}

type batch struct {
	at   At
	seen map[seal.ID]uint64
	ops  Ops
}

// noon is the time of every first act: 1 March 2026, 12:00 UTC.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixMilli()

// newWorld has a device per name. Their digests begin with the device's number
// and a counter, so that suffixes can be foretold: ada a0.., bob b0.., cyd c0..;
// ids begin with 1d and a counter.
func newWorld(t tester, names ...string) *world {
	w := &world{t: t, now: noon, content: make(map[seal.ID]string), fate: make(map[seal.ID]string), sent: make(map[seal.ID]bool)}
	w.digest = func(d *drive, n int) Digest {
		sum := hashDigest(d.name, n)
		sum[0], sum[1] = d.id[0], byte(n)
		return sum
	}
	w.newID = func() seal.ID {
		w.count++
		id := hashID("id", w.count)
		id[0], id[1] = 0x1d, byte(w.count)
		return id
	}
	for i, name := range names {
		d := &drive{
			w: w, name: name, id: seal.ID{byte(0xa0 + 16*i)}, h: New(),
			applied: make(map[seal.ID]uint64), here: make(map[seal.ID]bool),
		}
		w.devices = append(w.devices, d)
		d.seal(func(b *batch) { b.ops.Devices = append(b.ops.Devices, DeviceName{b.at, name}) })
	}
	w.sync()
	return w
}

func hashDigest(kind string, n int) Digest { return sha256.Sum256(fmt.Append(nil, kind, n)) }

func hashID(kind string, n int) seal.ID {
	sum := sha256.Sum256(fmt.Append(nil, kind, n))
	return seal.ID(sum[:16])
}

func (w *world) newBlob(text string) seal.ID {
	id := hashID("blob", len(w.content))
	w.content[id] = text
	w.made = append(w.made, id)
	return id
}

// seal makes one batch of what do says and applies it at home. A nested seal
// goes into the same batch.
func (d *drive) seal(do func(*batch)) {
	if d.open != nil {
		do(d.open)
		return
	}
	d.w.now += 1000
	d.hlc = max(d.hlc, HLC(d.w.now+d.skew)<<16) + 1
	b := batch{at: At{d.id, uint64(len(d.log) + 1), d.hlc}, seen: make(map[seal.ID]uint64)}
	for id, seq := range d.applied {
		b.seen[id] = seq
	}
	b.seen[d.id] = b.at.Seq - 1
	d.open = &b
	do(&b)
	d.open = nil
	d.log = append(d.log, b)
	d.add(b.ops)
}

// add checks, if asked to, that nothing changes silently.
func (d *drive) add(ops Ops) {
	changed := d.h.Add(ops)
	if d.w.watch {
		d.checkChanged(changed)
	}
}

// pull applies what another device sealed and d has not applied, up to n batches.
func (d *drive) pull(from *drive, n int) {
	for ; n > 0 && d.applied[from.id] < uint64(len(from.log)); n-- {
		b := from.log[d.applied[from.id]]
		d.applied[from.id]++
		d.add(d.accept(b))
		d.hlc = max(d.hlc, b.at.HLC)
	}
}

// accept takes out what resurrects a dead id, as far as d can know.
func (d *drive) accept(b batch) Ops {
	ops := b.ops
	for dev, seq := range b.seen {
		if dev != d.id && dev != b.at.Device && d.applied[dev] < seq {
			return ops
		}
	}
	seen := func(dev seal.ID, seq uint64) bool { return seq <= b.seen[dev] }
	ops.Records = slices.DeleteFunc(slices.Clone(ops.Records), func(r Record) bool { return d.h.CheckRecord(&r, seen) != nil })
	ops.Assets = slices.DeleteFunc(slices.Clone(ops.Assets), func(r AssetRecord) bool { return d.h.CheckAsset(&r, seen) != nil })
	return ops
}

func (w *world) sync() {
	for _, d := range w.devices {
		for _, from := range w.devices {
			if d != from {
				d.pull(from, 1<<30)
			}
		}
	}
}

func (w *world) device(name string) *drive {
	i := slices.IndexFunc(w.devices, func(d *drive) bool { return d.name == name })
	return w.devices[i]
}

// where is what d knows of a blob: its own and those it fetched are here, those
// of others are uploaded unless the world dropped them.
func (d *drive) where(b seal.ID) Presence {
	switch {
	case d.dropped[b] && !d.here[b] && !d.w.sent[b]:
		return Nowhere
	case d.here[b]:
		return Here
	}
	return Remote
}

// seen is one visible file as a program has it: where it is and what it was.
type seen struct {
	id seal.ID
	File
}

// files gives what d shows, by "title/path".
func (d *drive) files() map[string]seen {
	out := make(map[string]seen)
	for id := range d.h.Attachments() {
		for _, f := range d.h.Attachment(id, d.where).Live {
			p := d.h.Asset(f.Parent.ID).Name + "/" + f.Name
			if old, ok := out[p]; ok && !f.Twin && !old.Twin {
				d.w.t.Fatalf("%s shows two files as %q", d.name, p)
			}
			if !f.Twin {
				out[p] = seen{id, f}
			}
		}
	}
	return out
}

func (d *drive) file(path string) seen {
	d.w.t.Helper()
	f, ok := d.files()[path]
	if !ok {
		d.w.t.Fatalf("%s has no %q, but:\n%s", d.name, path, strings.Join(d.list(), "\n"))
	}
	return f
}

func (d *drive) asset(name string) (out Asset, ok bool) {
	for id := range d.h.Assets() {
		if a := d.h.Asset(id); a.State.Visible() && a.Name == name {
			return a, true
		}
	}
	return out, false
}

// list is a literal listing: assets and folders with "/", files with contents.
func (d *drive) list() (out []string) {
	for id := range d.h.Assets() {
		if a := d.h.Asset(id); a.State.Visible() {
			line := a.Name + "/"
			if a.State == Recovered {
				line += " recovered"
			}
			out = append(out, line)
		}
	}
	for p, f := range d.files() {
		if f.MIME == MIMEFolder {
			out = append(out, p+"/")
			continue
		}
		line := p + ": " + d.w.content[f.Blob]
		if f.Pending {
			line += " pending, shows " + cmp.Or(d.w.content[f.ShowsBlob], "nothing")
		}
		out = append(out, line)
	}
	sort.Strings(out)
	return out
}

// The verbs of a device.

func (d *drive) mkdirAsset(title string) seal.ID {
	id := d.w.newID()
	d.seal(func(b *batch) {
		b.ops.Assets = append(b.ops.Assets, AssetRecord{At: b.at, ID: id, Digest: d.nextDigest(), Rev: 1, Type: 3, Ctime: d.w.now, Title: title})
	})
	return id
}

func (d *drive) retitle(from, to string) {
	a, _ := d.asset(from)
	prev, dels := Put(a.Base)
	d.seal(func(b *batch) {
		b.ops.Assets = append(b.ops.Assets, AssetRecord{At: b.at, ID: a.ID, Digest: d.nextDigest(), Prev: prev, Rev: a.Rev + 1, Type: a.Type, Ctime: a.Ctime, Title: to})
		b.ops.AssetDels = append(b.ops.AssetDels, d.dels(b, a.ID, dels)...)
	})
}

func (d *drive) rmAsset(name string) {
	a, _ := d.asset(name)
	d.seal(func(b *batch) {
		for _, f := range d.files() {
			if f.Parent.ID == a.ID {
				d.rmSeen(f)
			}
		}
		b.ops.AssetDels = append(b.ops.AssetDels, d.dels(b, a.ID, Delete(a.Base))...)
	})
}

func (d *drive) nextDigest() Digest {
	d.records++
	return d.w.digest(d, d.records)
}

func (d *drive) dels(b *batch, id seal.ID, ends []Digest) (out []Del) {
	for _, e := range ends {
		out = append(out, Del{b.at, id, e})
	}
	return out
}

// put seals a record made on a base.
func (d *drive) put(id seal.ID, base []Digest, change func(*Record), like File) {
	prev, dels := Put(base)
	rev, _ := d.h.Rev(id, prev)
	d.seal(func(b *batch) {
		r := Record{
			At: b.at, ID: id, Digest: d.nextDigest(), Prev: prev, Rev: rev + 1, Parent: like.Parent, Name: like.Stored,
			MIME: like.MIME, Mode: like.Mode, Mtime: like.Mtime, Size: like.Size, Blob: like.Blob,
		}
		change(&r)
		b.ops.Records = append(b.ops.Records, r)
		b.ops.Dels = append(b.ops.Dels, d.dels(b, id, dels)...)
	})
}

func (d *drive) create(path, text string) seal.ID {
	d.w.t.Helper()
	title, name, _ := strings.Cut(path, "/")
	a, ok := d.asset(title)
	if !ok {
		d.w.t.Fatalf("%s has no asset %q", d.name, title)
	}
	return d.createIn(Parent{a.Type, a.ID}, name, text)
}

func (d *drive) createIn(p Parent, name, text string) seal.ID {
	id, mime := d.w.newID(), "text/plain"
	if strings.HasSuffix(name, "/") {
		name, mime = strings.TrimSuffix(name, "/"), MIMEFolder
	}
	blob := seal.ID{}
	if mime != MIMEFolder {
		blob = d.w.newBlob(text)
		d.here[blob] = true
	}
	d.put(id, nil, func(r *Record) { r.Blob, r.Mtime = blob, d.w.now }, File{Parent: p, Stored: name, MIME: mime, Mode: 0o600})
	return id
}

func (d *drive) write(path, text string) { d.w.t.Helper(); d.save(d.file(path), text) }

// save is a write on what a program opened, however long ago.
func (d *drive) save(f seen, text string) {
	blob := d.w.newBlob(text)
	d.here[blob] = true
	over := f.Blob
	if f.Pending {
		over = f.ShowsBlob
	}
	d.w.fate[over] = d.name + " wrote over it"
	id, base := f.id, f.ContentBase()
	if len(base) == 0 && len(d.h.Attachment(id, nil).Live) == 0 {
		id = d.w.newID() // the id died meanwhile, and a first record would be refused
	}
	d.put(id, base, func(r *Record) { r.Blob, r.Mtime = blob, d.w.now }, f.File)
}

func (d *drive) rename(path, to string) {
	d.w.t.Helper()
	f := d.file(path)
	d.put(f.id, f.Base, func(r *Record) { r.Name = to }, f.File)
}

func (d *drive) move(path, asset string) {
	d.w.t.Helper()
	f := d.file(path)
	a, _ := d.asset(asset)
	d.put(f.id, f.Base, func(r *Record) { r.Parent = Parent{a.Type, a.ID} }, f.File)
}

func (d *drive) chmod(path string, mode uint32) {
	d.w.t.Helper()
	f := d.file(path)
	d.put(f.id, f.Base, func(r *Record) { r.Mode = mode }, f.File)
}

func (d *drive) touch(path string, mtime int64) {
	d.w.t.Helper()
	f := d.file(path)
	d.put(f.id, f.Base, func(r *Record) { r.Mtime = mtime }, f.File)
}

func (d *drive) rm(path string) { d.w.t.Helper(); d.rmSeen(d.file(path)) }

func (d *drive) rmSeen(f seen) {
	d.w.fate[f.Blob] = d.name + " deleted it"
	d.seal(func(b *batch) { b.ops.Dels = append(b.ops.Dels, d.dels(b, f.id, Delete(f.Base))...) })
}

// all gives every op of the world.
func (w *world) all() []batch {
	var out []batch
	for _, d := range w.devices {
		out = append(out, d.log...)
	}
	return out
}

// single cuts a batch into ops.
func (b batch) single() (out []Ops) {
	for _, r := range b.ops.Records {
		out = append(out, Ops{Records: []Record{r}})
	}
	for _, r := range b.ops.Dels {
		out = append(out, Ops{Dels: []Del{r}})
	}
	for _, r := range b.ops.Assets {
		out = append(out, Ops{Assets: []AssetRecord{r}})
	}
	for _, r := range b.ops.AssetDels {
		out = append(out, Ops{AssetDels: []Del{r}})
	}
	for _, r := range b.ops.Devices {
		out = append(out, Ops{Devices: []DeviceName{r}})
	}
	return out
}

// dump prints everything a history answers.
func dump(h *History) string {
	var lines []string
	for id := range h.Attachments() {
		lines = append(lines, dumpFile(h, id))
	}
	for id := range h.Assets() {
		if a := h.Asset(id); a.State != Unknown {
			lines = append(lines, fmt.Sprintf("%+v", a))
		}
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

func dumpFile(h *History, id seal.ID) string {
	return fmt.Sprintf("%+v", h.Attachment(id, func(b seal.ID) Presence { return Presence(binary.BigEndian.Uint16(b[:]) % 3) }))
}
