package vaultcore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// TestCloseKilled ends a program at every step of a close, which is before and after
// every one of its transactions, while two edits of the same file come from other
// devices before, in the middle and after. However that was, what close had said is
// saved is a file, a conflict copy or in a trash in the end, and so are the two edits.
func TestCloseKilled(t *testing.T) {
	t.Parallel()
	var kills atomic.Int64
	t.Run("seeds", func(t *testing.T) {
		playSeeds(t, "VAULTDRIVE_CLOSE_SEEDS", 4, func(t *testing.T, seed uint64) { kills.Add(int64(playCloseKilled(t, seed))) })
	})
	if !t.Failed() && kills.Load() == 0 {
		t.Error("nothing was killed")
	}
}

// closer is bob, who saves a file that ada and cyd have edited meanwhile.
type closer struct {
	*fleet
	r              *rand.Rand
	ada, bob, cyd  *device
	size           int
	edits          map[string]bool // by token: contents of ada's and cyd's that have to be somewhere
	mu             sync.Mutex      // guards what follows; a transaction ends on any goroutine
	saves          []string        // contents of bob's, in the order in which he wrote them
	closed         int             // of saves: so many were closed
	kills          []killing
	trace          []string
	most, happened int
	before         map[string][]byte // the database as the last step found it
}

// killing is what there is when the program ends.
type killing struct {
	home   string
	log    map[seal.ID][][]byte
	blobs  map[seal.ID][]byte
	saves  []string
	closed int
	edits  map[string]bool
	trace  []string
}

func playCloseKilled(t *testing.T, seed uint64) int {
	r := rand.New(rand.NewPCG(seed, 3))
	limits := Limits{V3Max: 64 << 10, StreamHead: 16 << 10, DraftFile: 32 << 10, FetchWait: time.Second}
	c := &closer{
		fleet: newFleetOf(t, limits, []string{"", "v4"}[r.IntN(2)], "ada", "bob", "cyd"), r: r, size: []int{20, 5000, 60 << 10, 300 << 10}[r.IntN(4)],
		edits: make(map[string]bool), most: 8,
	}
	c.ada, c.bob, c.cyd = c.devices[0], c.devices[1], c.devices[2]
	c.ada.mkdir("A")
	c.write(c.ada, "A/f", "first")
	c.sync()
	c.edit(c.ada)
	if c.r.IntN(3) == 0 {
		c.cyd.pull()
	}
	c.edit(c.cyd)
	end := c.bob.atCommits(c.step)
	c.play()
	end()
	c.step()
	for _, k := range c.kills {
		c.check(&k)
	}
	return len(c.kills)
}

func (c *closer) note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trace = append(c.trace, fmt.Sprintf(format, args...))
}

// text is a content all of which says whose it is.
func (c *closer) text(token string) []byte {
	return bytes.Repeat([]byte(token+" "), c.size/len(token)+1)[:c.size]
}

func (c *closer) write(d *device, path, token string) {
	c.t.Helper()
	writeFile(c.t, d.Vault, path, c.text(token))
}

// edit is what another device does to the file.
func (c *closer) edit(d *device) {
	c.t.Helper()
	what, token := c.r.IntN(8), d.name+"'s edit"
	if n, err := d.Find("A/f"); err == nil {
		c.sees(d.content(n))
		switch what {
		case 0:
			d.remove("A/f")
		case 1:
			d.rename("A/f", "A/"+d.name)
		case 2:
			d.chmod("A/f", 0o640)
		case 3:
			d.rename("A/f", "A/"+d.name)
			c.write(d, "A/"+d.name, token)
			c.edits[token] = true
		case 4:
			c.write(d, "A/other", token)
			d.rename("A/other", "A/f")
			c.edits[token] = true
		case 5:
			d.removeAll()
		default:
			c.write(d, "A/f", token)
			c.edits[token] = true
		}
	}
	c.note("%s edits %d", d.name, what)
	d.sealAll(SealOptions{})
	d.pushBatches()
	if c.r.IntN(2) == 0 {
		d.push()
	}
}

func (d *device) has(path string) bool {
	_, err := d.Find(path)
	return err == nil
}

// step is a moment at which the program may end: after a transaction of it, or before
// the next thing it does. As many as most are chosen, each as likely as any other.
func (c *closer) step() {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer func() { c.before = c.database() }()
	k := killing{
		saves: slices.Clone(c.saves), closed: c.closed, log: maps.Clone(c.log), blobs: maps.Clone(c.blobs),
		edits: maps.Clone(c.edits), trace: slices.Clone(c.trace),
	}
	for id, frames := range k.log { // what goes on after one kill appends to its own log
		k.log[id] = slices.Clip(frames)
	}
	at := len(c.kills)
	if c.happened++; at == c.most {
		if at = rand.IntN(c.happened); at >= c.most {
			return
		}
	} else {
		c.kills = append(c.kills, killing{})
	}
	k.home = crashCopy(c.t, c.bob.Vault, false)
	if c.before != nil && rand.IntN(2) == 0 { // all files are there, and the transaction has not come
		for name, data := range c.before {
			c.must(os.WriteFile(filepath.Join(k.home, name), data, 0o600))
		}
	}
	c.kills[at] = k
}

// database is what lies in the files of bob's database. No transaction comes between,
// but the barrier may move pages from one of them to the other, and what is read of the
// one before and of the other after that is a database of long ago.
func (c *closer) database() map[string][]byte {
	c.t.Helper()
	end := time.Now().Add(2 * time.Minute)
	files := databaseBytes(c.t, c.bob.Home())
	for again := databaseBytes(c.t, c.bob.Home()); !slices.EqualFunc(files, again, bytes.Equal); {
		if time.Now().After(end) {
			c.t.Fatal("the database does not stand still for as long as reading it takes")
		}
		files, again = again, databaseBytes(c.t, c.bob.Home())
	}
	return map[string][]byte{dbName: files[0], dbName + "-wal": files[1]}
}

// play lets bob save the file, once or again, while the edits come.
func (c *closer) play() {
	own := c.saving()
	others := c.arriving()
	for opened := false; len(own) > 0 || len(others) > 0; {
		c.step()
		switch {
		case len(own) == 0, len(others) > 0 && c.r.IntN(2) == 0:
			others[0]()
			others = others[1:]
		case opened && len(others) > 0 && c.r.IntN(2) == 0:
			var both sync.WaitGroup
			both.Go(own[0])
			both.Go(others[0])
			both.Wait()
			own, others = own[1:], others[1:]
		default:
			own[0]()
			own, opened = own[1:], true
		}
	}
}

// saving is what a program does that saves a file.
func (c *closer) saving() (steps []func()) {
	bob := c.bob
	var n *Node
	steps = append(steps, func() { n = c.open() })
	for i := range 1 + c.r.IntN(3) {
		text := c.text(fmt.Sprint("bob's save ", i))
		steps = append(steps, func() {
			c.mu.Lock()
			c.saves = append(c.saves, string(text))
			c.mu.Unlock()
			for off := 0; off < len(text); off += 20 << 10 {
				_, err := bob.WriteAt(n, text[off:min(off+20<<10, len(text))], int64(off))
				c.must(err)
			}
		})
		if c.r.IntN(2) == 0 {
			steps = append(steps, func() {
				c.note("bob fsyncs")
				c.must(bob.Fsync(n))
			})
		}
		steps = append(steps, func() {
			c.note("bob closes save %d", i)
			if err := bob.Flush(n); err != nil {
				c.t.Error(err)
				return
			}
			c.mu.Lock()
			c.closed = i + 1
			c.mu.Unlock()
			c.note("bob has closed save %d", i)
		})
	}
	return append(steps, func() { bob.Release(n, true) })
}

// sees: what somebody has before his eyes he may replace or delete.
func (c *closer) sees(content string) {
	maps.DeleteFunc(c.edits, func(token string, _ bool) bool { return strings.HasPrefix(content, token) })
}

// open opens what is shown.
func (c *closer) open() *Node {
	bob := c.bob
	if !bob.has("A") {
		bob.mkdir("A")
	}
	n, err := bob.Find("A/f")
	if err != nil {
		c.note("bob makes a new file")
		return openFile(c.t, bob.Vault, "A/f")
	}
	bob.pullBlobs()
	n, err = bob.Find("A/f")
	c.must(err)
	seen := bob.content(n)
	c.sees(seen)
	truncate := seen == "(not here)" || c.r.IntN(2) == 0
	c.note("bob opens %.12q, truncating: %v", seen, truncate)
	c.must(bob.Open(n, true, truncate))
	return n
}

// arriving is what the engine does meanwhile, and where the edits come in.
func (c *closer) arriving() (steps []func()) {
	bob := c.bob
	some := []func(){
		func() { c.note("seal some"); bob.sealAll(SealOptions{Before: c.now().Add(-time.Millisecond)}) },
		func() { c.note("seal all"); bob.sealAll(SealOptions{}) },
		func() { c.note("push"); bob.push() },
		func() { c.note("barrier"); c.must(bob.Barrier(context.Background())) },
		func() { c.note("tidy"); c.must(bob.tidyKept(context.Background())) },
		func() { c.note("settle"); _, err := bob.settleDue(true); c.must(err) },
		func() { c.note("pull blobs"); bob.pullBlobs() },
	}
	for range 3 + c.r.IntN(5) {
		steps = append(steps, some[c.r.IntN(len(some))])
	}
	for _, d := range []*device{c.ada, c.cyd} {
		at := c.r.IntN(len(steps) + 1)
		steps = slices.Insert(steps, at, func() { c.note("%s's edit comes", d.name); c.arrive(d) })
	}
	return steps
}

func (c *closer) must(err error) {
	if err != nil {
		c.t.Error(err)
	}
}

func (c *closer) arrive(from *device) {
	ctx := context.Background()
	heads, err := c.bob.Heads(ctx)
	if err == nil {
		_, err = c.bob.Receive(ctx, c.log[from.DeviceID()][heads[from.DeviceID()].Seq:]...)
	}
	c.must(err)
}

// check goes on after a kill, and looks for what must not be lost.
func (c *closer) check(k *killing) {
	c.t.Helper()
	f := &fleet{t: c.t, limits: c.limits, write: c.fleet.write, remote: c.remote, log: k.log, blobs: k.blobs}
	f.clock.Store(c.clock.Load())
	for _, d := range c.devices {
		home := k.home
		if d != c.bob {
			home = crashCopy(c.t, d.Vault, false)
		}
		again := &device{f: f, name: d.name, home: home, password: d.password}
		again.open()
		f.devices = append(f.devices, again)
	}
	if rand.IntN(2) == 0 {
		f.devices[1].kill(false)
	}
	for range 3 {
		for _, d := range f.devices {
			d.push()
		}
		for _, d := range f.devices {
			d.pull()
		}
	}
	f.agree()
	found := make(map[string]bool)
	for _, d := range f.devices {
		d.gather(found)
		wantSound(c.t, d.Vault)
		if err := d.Close(context.Background()); err != nil {
			c.t.Error(err)
		}
	}
	c.judge(k, found)
}

// gather notes the contents of all files, and of the trash.
func (d *device) gather(found map[string]bool) {
	d.f.t.Helper()
	add := func(r *Reading, err error) {
		if err != nil {
			if !errors.Is(err, ErrTimeout) {
				d.f.t.Error(err)
			}
			return
		}
		defer r.Close()
		if b, err := io.ReadAll(r); err == nil {
			found[string(b)] = true
		}
	}
	for _, path := range d.files() {
		add(d.OpenRead(path))
	}
	entries, err := d.Trash()
	if err != nil {
		d.f.t.Fatal(err)
	}
	for _, e := range entries {
		if e.Kind == "file" {
			add(d.OpenTrash(e.ID))
		}
	}
}

// found says whether what was closed last is there, with whatever of the saves after it
// was written to the file since.
func (k *killing) found(there map[string]bool) bool {
	since := k.saves[k.closed-1:]
	for text := range there {
		ok := len(text) == len(since[0])
		for i := 0; ok && i < len(text); i++ {
			ok = slices.ContainsFunc(since, func(save string) bool { return save[i] == text[i] })
		}
		if ok {
			return true
		}
	}
	return false
}

func (c *closer) judge(k *killing, found map[string]bool) {
	c.t.Helper()
	var lost []string
	if k.closed > 0 && !k.found(found) {
		lost = append(lost, fmt.Sprint("bob's save ", k.closed-1))
	}
	for token := range k.edits {
		if !found[string(c.text(token))] {
			lost = append(lost, token)
		}
	}
	if len(lost) == 0 {
		return
	}
	var there []string
	for text := range found {
		there = append(there, text[:min(len(text), 20)])
	}
	c.t.Errorf("%q are nowhere; there are %q; after\n%s", lost, there, strings.Join(k.trace, "\n"))
}

// TestFirstFsyncKilled: the first fsync of a new file makes its row and then the draft.
// Whatever a kill leaves of the two is on all devices.
func TestFirstFsyncKilled(t *testing.T) {
	t.Parallel()
	for at := 1; playFirstFsync(t, at); at++ {
	}
}

// playFirstFsync ends the program after some transactions; false: it has no more.
func playFirstFsync(t *testing.T, transactions int) bool {
	f := newFleet(t, "ada", "bob")
	ada, bob := f.devices[0], f.devices[1]
	ada.mkdir("A")
	f.sync()
	n := openFile(t, bob.Vault, "A/f")
	mustWriteAt(t, bob.Vault, n, "bob's", 0)
	home := ""
	end := bob.atCommits(func() {
		if transactions--; transactions == 0 {
			home = crashCopy(t, bob.Vault, false)
		}
	})
	if err := bob.Fsync(n); err != nil {
		t.Fatal(err)
	}
	end()
	if home == "" {
		home = crashCopy(t, bob.Vault, false)
		transactions = 0
	}
	bob.home = home
	bob.open()
	bob.push()
	ada.pull()
	f.agree()
	if transactions == 0 {
		f.want("A/", "A/f = bob's")
	}
	return transactions < 0
}

// TestOpenTooLate: a file is looked up, a change from elsewhere takes its place, and only
// then it is opened, before anybody has told the kernel. A save would go to a file that
// has no place any more, and be lost with a close that says all is well.
func TestOpenTooLate(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(*device){
		"replaced": func(d *device) { d.write("A/f", "ada's") },
		"deleted":  func(d *device) { d.remove("A/f") },
	} {
		t.Run(what, func(t *testing.T) {
			f := newFleet(t, "ada", "bob")
			ada, bob := f.devices[0], f.devices[1]
			ada.mkdir("A")
			ada.write("A/f", "first")
			f.sync()
			n := bob.mustFind("A/f")
			change(ada)
			ada.push()
			bob.pull()
			for how, open := range map[string]func() error{
				"open":                  func() error { return bob.Open(n, true, false) },
				"open to truncate":      func() error { return bob.Open(n, false, true) },
				"truncate without open": func() error { return bob.Truncate(n, 2) },
			} {
				if err := open(); !errors.Is(err, ErrStale) {
					t.Errorf("%s: %v", how, err)
				}
			}
			if what == "replaced" { // looked up again
				bob.write("A/f", "bob's")
				f.sync()
				f.want("A/", "A/f = bob's")
			}
		})
	}
}

// TestSealedWhileWritten: a file that was saved is written on, made durable and not
// closed, and the save is sealed meanwhile. What comes back after a kill is made on that
// save and stands in its place, not beside it.
func TestSealedWhileWritten(t *testing.T) {
	f := newFleet(t, "ada", "bob")
	ada, bob := f.devices[0], f.devices[1]
	ada.mkdir("A")
	ada.write("A/f", "first")
	f.sync()
	bob.write("A/f", "saved")
	n := mustOpen(t, bob.Vault, "A/f", true)
	mustWriteAt(t, bob.Vault, n, "again", 0)
	if err := bob.Fsync(n); err != nil {
		t.Fatal(err)
	}
	bob.push()
	bob.kill(false)
	f.sync()
	f.want("A/", "A/f = again")
}
