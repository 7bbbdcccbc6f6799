package history

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// checkOrders adds all ops of a world in n orders, cut and repeated at random:
// P1.
func checkOrders(t tester, w *world, n int) {
	t.Helper()
	var ops []Ops
	for _, b := range w.all() {
		ops = append(ops, b.single()...)
	}
	var want string
	for i := range n {
		got := dump(addAll(ops, rand.New(rand.NewPCG(1, uint64(i))), i > 0))
		if i == 0 {
			want = got
		}
		if got != want {
			t.Fatalf("order %d gives\n%s\nthe first\n%s", i, got, want)
		}
	}
}

func addAll(ops []Ops, r *rand.Rand, mix bool) *History {
	h := New()
	some := slices.Clone(ops)
	for range len(ops) / 4 {
		some = append(some, ops[r.IntN(len(ops))])
	}
	if mix {
		r.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
	}
	for len(some) > 0 {
		k := 1 + r.IntN(min(3, len(some)))
		h.Add(joined(some[:k]))
		some = some[k:]
	}
	return h
}

func joined(some []Ops) (one Ops) {
	for _, o := range some {
		one.Records = append(one.Records, o.Records...)
		one.Dels = append(one.Dels, o.Dels...)
		one.Assets = append(one.Assets, o.Assets...)
		one.AssetDels = append(one.AssetDels, o.AssetDels...)
		one.Devices = append(one.Devices, o.Devices...)
	}
	return one
}

// checkChanged fails if an answer changed whose id was not named.
func (d *drive) checkChanged(changed Changed) {
	now := make(map[seal.ID]string)
	for id := range d.h.Attachments() {
		now[id] = dumpFile(d.h, id)
	}
	for id := range d.h.Assets() {
		now[id] = fmt.Sprintf("%+v", d.h.Asset(id))
	}
	for id, s := range now {
		old, known := d.mirror[id]
		if known && old != s && !slices.Contains(changed.Attachments, id) && !slices.Contains(changed.Assets, id) {
			d.w.t.Fatalf("%s: %s changed silently from\n%s\nto\n%s", d.name, id, old, s)
		}
	}
	d.mirror = now
}

// checkNames fails on shown names that are not unique and valid: P4.
func (d *drive) checkNames() {
	taken := make(map[string]string)
	folders := make(map[string]bool)
	for id := range d.h.Assets() {
		a := d.h.Asset(id)
		if !a.State.Visible() {
			continue
		}
		checkShown(d.w.t, a.Name)
		if strings.Contains(a.Name, "/") || ReservedTitle(a.Name) || taken[a.Name] != "" {
			d.w.t.Fatalf("asset %s is shown as %q like %s", id, a.Name, taken[a.Name])
		}
		taken[a.Name] = id.String()
	}
	var files []string
	for id := range d.h.Attachments() {
		for _, f := range d.h.Attachment(id, nil).Live {
			checkShown(d.w.t, f.Name)
			if d.h.Asset(f.Parent.ID).Name == "" {
				d.w.t.Fatalf("%s lies in an asset nobody sees", f.Name)
			}
			p := f.Parent.ID.Hex() + "/" + f.Name
			for i := range p {
				if p[i] == '/' {
					folders[p[:i]] = true
				}
			}
			switch {
			case f.Twin:
			case f.MIME == MIMEFolder && taken[p] == "":
				taken[p] = id.String()
			case taken[p] != "":
				d.w.t.Fatalf("%s is shown as %q like %s", id, f.Name, taken[p])
			default:
				taken[p] = id.String()
				files = append(files, p)
			}
		}
	}
	for _, p := range files {
		if folders[p] {
			d.w.t.Fatalf("%q is a file and a folder", p)
		}
	}
}

// checkModel compares every id with the rules as they are worded.
func (d *drive) checkModel() {
	ids := make(map[seal.ID]*model)
	of := func(id seal.ID) *model {
		if ids[id] == nil {
			ids[id] = &model{records: make(map[Digest]*Record), dels: make(map[Digest]bool)}
		}
		return ids[id]
	}
	for _, b := range d.w.all() {
		for i := range b.ops.Records {
			of(b.ops.Records[i].ID).records[b.ops.Records[i].Digest] = &b.ops.Records[i]
		}
		for _, e := range b.ops.Dels {
			of(e.ID).dels[e.Prev] = true
		}
	}
	for id, m := range ids {
		var got []modelFile
		for _, f := range d.h.Attachment(id, nil).Live {
			got = append(got, modelFile{f.Content, f.Base, f.Stored, f.Parent, f.Mode, f.Mtime, f.MIME})
		}
		if want := m.files(); fmt.Sprint(got) != fmt.Sprint(want) {
			d.w.t.Fatalf("%s shows\n%x\nby the rules\n%x", id, got, want)
		}
	}
}

// checkContents fails unless every content that nobody replaced or deleted
// knowingly is visible exactly once, and no other twice: P2 and P3.
func (d *drive) checkContents() {
	times := make(map[seal.ID]int)
	for id := range d.h.Attachments() {
		for _, f := range d.h.Attachment(id, nil).Live {
			times[f.Blob]++
		}
	}
	for _, b := range d.w.made {
		fate, touched := d.w.fate[b]
		if n := times[b]; n > 1 || n == 0 && !touched {
			d.w.t.Fatalf("%s shows content %q %d times (%s):\n%s", d.name, d.w.content[b], n, fate, strings.Join(d.list(), "\n"))
		}
	}
}

var (
	someNames  = []string{"a.txt", "a.txt", "a.txt", "b.txt", "d/a.txt", "d/e/a.txt", "d", "d/e", "d/", "d/e/", "a (1d1d).txt", "a (1d1d1d1d).txt", "a (conflict ada 2026-03-01 a0a0).txt", "../x", "", "a\x00", strings.Repeat("n", 255) + "/x", strings.Repeat("x", 250) + ".txt"}
	someTitles = []string{"Tax", "Tax", "Car", ".vaultdrive", "a/b", "Tax (1d1d)"}
)

// player draws what the devices of a world do.
type player struct {
	*rapid.T
	w      *world
	opened map[*drive][]seen
	text   int
}

func play(t *rapid.T) *player {
	w := newWorld(t, "ada", "bob", "cyd")
	p := &player{T: t, w: w, opened: make(map[*drive][]seen)}
	// Digests and ids that begin alike, so that suffixes clash.
	w.digest = func(d *drive, n int) Digest {
		g := hashDigest(d.name, n)
		copy(g[:], []byte{d.id[0], d.id[0], d.id[0], byte(n % 2)})
		return g
	}
	w.newID = func() seal.ID {
		w.count++
		id := hashID("id", w.count)
		copy(id[:], []byte{0x1d, 0x1d, 0x1d, byte(w.count % 2)})
		return id
	}
	w.watch = true
	for _, d := range w.devices {
		d.skew = rapid.Int64Range(-90_000, 90_000).Draw(t, "skew")
		d.dropped = make(map[seal.ID]bool)
	}
	w.devices[0].mkdirAsset("Tax")
	w.devices[0].create("Tax/a.txt", "first")
	w.sync()
	return p
}

func (p *player) draw(n int, what string) int { return rapid.IntRange(0, n-1).Draw(p.T, what) }

// pick draws a visible file of d that is no folder, if there is one.
func (p *player) pick(d *drive) (string, bool) {
	files := d.files()
	maps.DeleteFunc(files, func(_ string, f seen) bool { return f.MIME == MIMEFolder })
	return p.oneOf(slices.Collect(maps.Keys(files)))
}

func (p *player) oneOf(names []string) (string, bool) {
	if len(names) == 0 {
		return "", false
	}
	sort.Strings(names)
	return names[p.draw(len(names), "which")], true
}

func (p *player) asset(d *drive) (string, bool) {
	var names []string
	for id := range d.h.Assets() {
		if a := d.h.Asset(id); a.State.Visible() {
			names = append(names, a.Name)
		}
	}
	return p.oneOf(names)
}

func (p *player) says(d *drive) string {
	p.text++
	return fmt.Sprint(d.name, "'s ", p.text)
}

func (p *player) step(d *drive) {
	file, any := p.pick(d)
	asset, some := p.asset(d)
	name := someNames[p.draw(len(someNames), "name")]
	switch act := p.draw(14, "act"); {
	case act == 0:
		d.mkdirAsset(someTitles[p.draw(len(someTitles), "title")])
	case act == 1 && some && p.draw(4, "really") == 0:
		d.rmAsset(asset)
	case act == 2 && some:
		d.retitle(asset, someTitles[p.draw(len(someTitles), "title")])
	case act <= 4 && some:
		a, _ := d.asset(asset)
		d.createIn(Parent{a.Type, a.ID}, name, p.says(d))
	case act <= 6 && any:
		d.write(file, p.says(d))
	case act == 7 && any:
		p.opened[d] = append(p.opened[d], d.file(file))
	case act == 8 && len(p.opened[d]) > 0:
		d.save(p.opened[d][0], p.says(d))
		p.opened[d] = p.opened[d][1:]
	case act == 9 && any:
		d.rename(file, strings.TrimSuffix(name, "/"))
	case act == 10 && any && some:
		d.move(file, asset)
	case act == 11 && any:
		d.chmod(file, uint32(0o600+p.draw(2, "mode")))
	case act == 12 && any:
		d.touch(file, int64(p.draw(3, "mtime")))
	case act == 13 && any:
		d.rm(file)
	}
}

func (p *player) hear(d *drive) {
	from := p.w.devices[p.draw(len(p.w.devices), "from")]
	if from == d {
		return
	}
	if p.draw(3, "lossy") == 0 { // some of the contents have not come
		for _, b := range from.log {
			for _, r := range b.ops.Records {
				d.dropped[r.Blob] = p.draw(2, "lost") == 0
			}
		}
	}
	d.pull(from, 1+p.draw(4, "batches"))
}

// TestAnyHistory plays three devices with skewed clocks that hear of each other
// in parts and late, save drafts that were open meanwhile, and meet in the end.
func TestAnyHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := play(t)
		for range rapid.IntRange(5, 40).Draw(t, "steps") {
			d := p.w.devices[p.draw(3, "device")]
			switch p.draw(6, "kind") {
			case 0, 1:
				p.hear(d)
			case 2: // two changes in one batch
				d.seal(func(*batch) { p.step(d); p.step(d) })
			default:
				p.step(d)
			}
			d.checkNames()
		}
		p.w.sync()
		want := dump(p.w.devices[0].h)
		for _, d := range p.w.devices {
			d.dropped = nil
			if got := dump(d.h); got != want {
				t.Fatalf("%s sees\n%s\n%s sees\n%s", d.name, got, p.w.devices[0].name, want)
			}
		}
		d := p.w.devices[0]
		d.checkNames()
		d.checkContents()
		d.checkModel()
		checkOrders(t, p.w, 3)
		p.checkRevoked()
	})
}

// checkRevoked compares taking ops back with never having had them.
func (p *player) checkRevoked() {
	gone := p.w.devices[p.draw(3, "revoked")]
	cut := uint64(p.draw(len(gone.log)+1, "cut"))
	fresh := New()
	for _, b := range p.w.all() {
		if b.at.Device != gone.id || b.at.Seq <= cut {
			fresh.Add(b.ops)
		}
	}
	h := p.w.devices[0].h
	h.Revoke(gone.id, cut)
	if got, want := dump(h), dump(fresh); got != want {
		p.Fatalf("after revoking\n%s\nwithout the ops\n%s", got, want)
	}
	for _, b := range p.w.all() {
		h.Add(b.ops)
	}
	for _, b := range p.w.all() {
		if b.at.Device == gone.id && b.at.Seq > cut {
			b.ops.Devices = nil
			h.Remove(b.ops)
		}
	}
	if got, want := dump(h), dump(fresh); cut > 0 && got != want {
		p.Fatalf("after removing\n%s\nwithout the ops\n%s", got, want)
	}
}

// TestStaleDevice: one that was away while all was deleted revives nothing by
// times and modes, and loses nothing it had not sent: P9.
func TestStaleDevice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := play(t)
		ada, stale := p.w.devices[0], p.w.devices[2]
		for range 10 {
			p.step(ada)
		}
		p.w.sync()
		unsent := make(map[string]bool)
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			file, any := p.pick(stale)
			switch act := p.draw(4, "act"); {
			case !any:
			// A change of merged tips says the merged name on one of them: a
			// rename by what the log can tell, so it would live.
			case act < 2 && len(stale.file(file).Base) > 1:
			case act == 0:
				stale.touch(file, int64(p.draw(100, "mtime")))
			case act == 1:
				stale.chmod(file, uint32(p.draw(512, "mode")))
			case act == 2:
				text := p.says(stale)
				delete(unsent, p.w.content[stale.file(file).Blob])
				stale.write(file, text)
				unsent[text] = true
			}
		}
		for _, d := range []*drive{ada, p.w.devices[1]} {
			for {
				name, any := p.asset(d)
				if !any {
					break
				}
				d.rmAsset(name)
			}
			p.w.devices[1].pull(ada, 1<<30)
		}
		p.w.sync()
		got := make(map[string]bool)
		for id := range ada.h.Attachments() {
			for _, f := range ada.h.Attachment(id, nil).Live {
				got[p.w.content[f.Blob]] = true
			}
		}
		if !maps.Equal(got, unsent) {
			t.Fatalf("alive after all: %v, want %v", got, unsent)
		}
	})
}
