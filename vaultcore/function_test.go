package vaultcore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// exact gives the tree with everything that is the same on every device: names
// in full, contents, modes and times, but no times of folders without a row.
func (d *device) exact() string {
	d.f.t.Helper()
	var lines []string
	var walk func(dir *Node, prefix string)
	walk = func(dir *Node, prefix string) {
		err := d.ReadDir(dir, 0, func(e *DirEntry) bool {
			p := prefix + e.Name
			switch e.Node.Kind() {
			case KindAsset:
				lines = append(lines, p+"/")
				walk(e.Node, p+"/")
			case KindFolder:
				line := p + "/"
				if d.hasRow(e.Node) {
					line = fmt.Sprintf("%s %o", line, e.Attr.Mode&0o777)
				}
				lines = append(lines, line)
				walk(e.Node, p+"/")
			default:
				lines = append(lines, fmt.Sprintf("%s %o %d = %s", p, e.Attr.Mode&0o777, e.Attr.Mtime, d.content(e.Node)))
			}
			return true
		})
		if err != nil {
			d.f.t.Fatal(err)
		}
	}
	walk(d.Root(), "")
	slices.Sort(lines)
	return joinLines(lines)
}

func (d *device) hasRow(n *Node) bool {
	d.tree.RLock()
	defer d.tree.RUnlock()
	return n.n != 0
}

// told gives the paths that the history shows, and shown those of the tree.
func (d *device) told() string {
	d.f.t.Helper()
	l, err := d.lockLedger(context.Background())
	if err != nil {
		d.f.t.Fatal(err)
	}
	defer l.mu.Unlock()
	paths := make(map[string]bool)
	titles := make(map[seal.ID]string)
	for id := range l.h.Assets() {
		if a := l.h.Asset(id); a.State.Visible() {
			paths[a.Name+"/"], titles[id] = true, a.Name
		}
	}
	for id := range l.h.Attachments() {
		for _, f := range l.h.Attachment(id, nil).Live {
			p := titles[f.Parent.ID] + "/" + f.Name
			for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
				paths[dir+"/"] = true
			}
			if f.MIME == mimeFolder {
				p += "/"
			}
			paths[p] = true
		}
	}
	return sortedPaths(paths)
}

func (d *device) shown() string {
	d.f.t.Helper()
	paths := make(map[string]bool)
	var walk func(dir *Node, prefix string)
	walk = func(dir *Node, prefix string) {
		err := d.ReadDir(dir, 0, func(e *DirEntry) bool {
			p := prefix + e.Name
			if e.Node.isDir() {
				p += "/"
				walk(e.Node, p)
			}
			paths[p] = true
			return true
		})
		if err != nil {
			d.f.t.Fatal(err)
		}
	}
	walk(d.Root(), "")
	return sortedPaths(paths)
}

func sortedPaths(paths map[string]bool) string {
	var lines []string
	for p := range paths {
		lines = append(lines, p)
	}
	slices.Sort(lines)
	return joinLines(lines)
}

// wantAsTold seals what changed and holds the tree against what the history says.
func (d *device) wantAsTold(when string) {
	d.f.t.Helper()
	d.sealAll(SealOptions{})
	if got, want := d.shown(), d.told(); got != want {
		d.f.t.Fatalf("%s, %s, shows\n%s\nits history says\n%s", d.name, when, got, want)
	}
}

// Devices that each made a directory of one name give the plain name to the same
// one, whichever came first and however often they were opened since.
func TestThreeLetters(t *testing.T) {
	f := newFleet(t, "ada", "bob", "cyd")
	for _, d := range f.devices {
		d.mkdir("Letters")
		d.write("Letters/"+d.name, d.name)
	}
	for i := range f.devices {
		f.devices[2-i].push() // born for the others in this order
	}
	c := &crowd{fleet: f, r: rand.New(rand.NewPCG(1, 1))}
	c.agreeExactly()
	for _, d := range f.devices {
		d.wantAsTold("with all")
		c.restart(d)
	}
	c.agreeExactly()
}

// A folder that comes with what is in it has the time its maker gave it, as rsync
// does in the end, also when that changes and after a restart.
func TestFolderTimes(t *testing.T) {
	f := newFleet(t, "ada", "bob")
	ada, bob := f.devices[0], f.devices[1]
	want := func(path string, at time.Time) {
		t.Helper()
		if got := bob.Attr(bob.mustFind(path)).Mtime; got != at.UnixNano() {
			t.Fatalf("%s: %s, want %s", path, time.Unix(0, got).UTC(), at)
		}
	}
	first, then := time.Unix(1e9, 5).UTC(), time.Unix(11e8, 7).UTC()
	ada.mkdir("A/d/e")
	ada.write("A/d/e/f.txt", "f")
	for _, at := range []time.Time{first, then} {
		ada.write("A/d/e/"+at.Format("2006"), "new")
		ns := at.UnixNano()
		for _, p := range []string{"A/d/e", "A/d"} {
			if err := ada.SetPathAttr(p, SetAttr{Mtime: &ns}); err != nil {
				t.Fatal(err)
			}
		}
		ada.push()
		bob.pull()
		want("A/d", at)
		want("A/d/e", at)
	}
	bob.reopen()
	want("A/d", then)
	want("A/d/e", then)
}

// What a published file leaves when it is renamed over another has a content of
// its own, which the log says the truth of when it comes back from the trash.
func TestRestoreOfRenamedOver(t *testing.T) {
	f := newFleet(t, "ada", "bob")
	ada := f.devices[0]
	ada.mkdir("A")
	ada.write("A/f.txt", "old")
	ada.write("A/new", "new")
	f.sync()
	ada.rename("A/new", "A/f.txt")
	ada.reopen()
	if _, err := ada.RestoreTrash("A/new"); err != nil {
		t.Fatal(err)
	}
	f.sync()
	f.want("A/", "A/f.txt = new", "A/new = ")
}

// A folder that was deleted on both sides and comes back with what is in it must
// not stop what comes after.
func TestDeletedFolderComesBack(t *testing.T) {
	f := newFleet(t, "ada", "bob")
	ada, bob := f.devices[0], f.devices[1]
	ada.mkdir("A/d")
	f.sync()
	ada.remove("A/d")
	bob.rename("A/d", "A/e")
	ada.push() // its row goes with this
	bob.push()
	for _, d := range f.devices {
		d.pull()
	}
	f.sync()
	f.want("A/", "A/e/")
}

// crowd is a fleet whose devices all want the same few names.
type crowd struct {
	*fleet
	r      *rand.Rand
	actors []*device
	text   int
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

func (c *crowd) title() string { return pick(c.r, "Letters", "Letters", "Bills") }

func (c *crowd) leaf() string { return pick(c.r, "a.txt", "b.txt", "d", "d/a.txt", "d/e", "d/e/b.txt") }

// some gives what lies in an asset of d, or nothing.
func (c *crowd) some(d *device) string {
	var all []string
	err := d.List("", true, func(i Info) error {
		if i.Kind != "asset" {
			all = append(all, i.Path)
		}
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
	if len(all) == 0 {
		return ""
	}
	return pick(c.r, all...)
}

// asset gives the shown title of an asset of d, or nothing.
func (c *crowd) asset(d *device) (title string) {
	var all []string
	err := d.ReadDir(d.Root(), 0, func(e *DirEntry) bool {
		all = append(all, e.Name)
		return true
	})
	if err != nil {
		c.t.Fatal(err)
	}
	if len(all) == 0 {
		return ""
	}
	return pick(c.r, all...)
}

// act changes something on a device; what cannot be done is not.
func (c *crowd) act(d *device) {
	c.t.Helper()
	err := c.try(d)
	for _, expected := range []error{ErrNotFound, ErrExist, ErrNotEmpty, ErrIsDir, ErrNotDir, ErrInvalid, ErrPermission, ErrCrossAsset} {
		if errors.Is(err, expected) {
			return
		}
	}
	if err != nil {
		c.t.Fatalf("%s: %v", d.name, err)
	}
}

func (c *crowd) try(d *device) error {
	switch c.r.IntN(12) {
	case 0:
		_, err := d.MakeDir(c.title(), true)
		return err
	case 1:
		return d.Move(c.asset(d), c.title())
	case 2:
		return d.Remove(c.asset(d), c.r.IntN(2) == 0)
	case 3:
		_, err := d.MakeDir(c.asset(d)+"/"+pick(c.r, "d", "d/e", "b.txt"), true)
		return err
	case 4:
		return d.Remove(c.some(d), c.r.IntN(2) == 0)
	case 5, 6:
		return d.Move(c.some(d), c.asset(d)+"/"+c.leaf())
	case 7:
		n, err := d.Find(c.some(d))
		if err != nil {
			return err
		}
		mode := pick[uint32](c.r, 0o600, 0o640, 0o700)
		_, err = d.SetAttr(n, SetAttr{Mode: &mode})
		return err
	case 8:
		trash, err := d.Trash()
		if err != nil || len(trash) == 0 {
			return err
		}
		_, err = d.RestoreTrash(pick(c.r, trash...).ID)
		return err
	}
	return c.save(d, c.asset(d)+"/"+c.leaf())
}

func (c *crowd) save(d *device, p string) error {
	c.text++
	w, err := d.OpenWrite(p, WriteOptions{Parents: true})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprint(w, d.name, " ", c.text); err != nil {
		w.Abort()
		return err
	}
	return w.Commit()
}

// hear takes some of what the remote has, in any order, and twice at times.
func (c *crowd) hear(d *device, all bool) {
	c.t.Helper()
	ctx := context.Background()
	heads, err := d.Heads(ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	for id, log := range c.log {
		if id == d.DeviceID() {
			continue
		}
		frames := log[min(heads[id].Seq, uint64(len(log))):]
		if !all && len(frames) > 0 {
			frames = frames[:c.r.IntN(len(frames)+1)]
		}
		if c.r.IntN(4) == 0 && heads[id].Seq > 0 {
			frames = append([][]byte{log[c.r.IntN(int(heads[id].Seq))]}, frames...)
		}
		r, err := d.Receive(ctx, frames...)
		if err != nil || len(r.Refused) > 0 {
			c.t.Fatalf("%s: %v, %v", d.name, r.Refused, err)
		}
		d.wantAsTold("with other batches")
	}
	if c.r.IntN(2) == 0 {
		d.pullBlobs()
		d.wantAsTold("with contents")
	}
}

func (c *crowd) restart(d *device) {
	c.t.Helper()
	d.sealAll(SealOptions{})
	before := d.exact()
	if c.r.IntN(2) == 0 {
		d.kill(false)
	} else {
		d.reopen()
	}
	if after := d.exact(); after != before {
		c.t.Fatalf("%s shows, opened again,\n%s\nand showed\n%s", d.name, after, before)
	}
	d.wantAsTold("opened again")
}

// TestTreeIsAFunctionOfState: devices that all want the same names have, after
// every batch, the tree that the history says, whatever came first and however
// often they were restarted; and so has who hears all of it at the end (P1).
func TestTreeIsAFunctionOfState(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			c := &crowd{fleet: newFleet(t, "ada", "bob", "cyd", "dan"), r: rand.New(rand.NewPCG(seed, 3))}
			c.actors = c.devices[:3]
			for range 150 {
				c.step()
			}
			for range 3 {
				for _, d := range c.actors {
					d.push()
				}
				for _, d := range c.actors {
					c.hear(d, true)
					d.pull()
				}
			}
			c.devices[3].push()
			c.agreeExactly()
			for _, d := range c.devices {
				c.restart(d)
				wantSound(t, d.Vault)
			}
			c.agreeExactly()
		})
	}
}

func (c *crowd) step() {
	d := pick(c.r, c.actors...)
	switch c.r.IntN(10) {
	case 0:
		d.sealAll(SealOptions{})
		d.wantAsTold("sealed")
	case 1:
		d.push()
		d.wantAsTold("sealed")
	case 2, 3:
		c.hear(d, false)
	case 4:
		c.restart(d)
	case 5: // what is new waits for the next batch
		before := d.f.now().Add(-time.Duration(c.r.IntN(40)) * time.Millisecond)
		d.sealAll(SealOptions{Before: before})
	default:
		c.act(d)
	}
}

// agreeExactly lets all, and who was never heard of, take everything at once.
func (c *crowd) agreeExactly() {
	c.t.Helper()
	for range 2 {
		for _, d := range c.devices {
			d.pull()
			d.push()
		}
	}
	c.agree()
	want := c.devices[0].exact()
	for _, d := range c.devices[1:] {
		if got := d.exact(); got != want {
			c.t.Fatalf("%s shows\n%s\n%s shows\n%s", d.name, got, c.devices[0].name, want)
		}
	}
}
