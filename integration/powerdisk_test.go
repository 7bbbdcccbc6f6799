package integration

import (
	"math/rand/v2"
	"sort"
	"sync"
	"syscall"
	"time"
)

// disk models a disk whose power can fail. It holds two states of everything:
// what programs see, and what would be left if the power went now. A write, a
// new name or a rename is only in the first until an fsync brings it into the
// second; what a cut leaves of the rest is up to a seed, as it is up to a real
// disk's cache.
//
// mu guards everything below it, the entries included.
type disk struct {
	mu      sync.Mutex
	root    *entry
	journal []*nameOp // changes of names, oldest first, not yet in the durable tree
	next    uint64
	dead    bool
	armed   int // cut before the n-th counted call from now; 0: not armed
	calls   int // counted calls so far: writes, name changes and fsyncs
	syncs   int
}

// entry is a file, directory or symlink of a disk.
type entry struct {
	ino     uint64
	mode    uint32
	mtime   time.Time
	target  string            // symlink
	names   map[string]*entry // directory: as seen
	durable map[string]*entry // directory: after a cut

	data    []byte   // file: as seen
	synced  []byte   // file: as of its last fsync
	pending []dataOp // what turns synced into data, oldest first
}

// dataOp is one write or, with truncate set, one new size.
type dataOp struct {
	off      int64
	data     []byte
	truncate bool
}

// nameOp is one change of names. A rename is a single one: no disk with a
// journal leaves half of it.
type nameOp struct {
	dir, to         *entry // to: target directory of a rename
	name, toName    string
	node            *entry
	kind            nameKind
	durable, byFile bool // byFile: only an fsync of the new file itself asked for it
}

type nameKind uint8

const (
	nameAdd nameKind = iota
	nameRemove
	nameMove
)

// loss says what a power cut leaves of what nobody synced.
type loss string

const (
	// loseAll leaves nothing that was not synced. The name of a new file counts
	// as synced with the file, as ext4, xfs and btrfs have it.
	loseAll loss = "all"
	// loseJournal keeps changes of names in order up to a random point, like a
	// journal, and a random subset of the data, torn at sectors.
	loseJournal loss = "journal"
	// loseStrict is what POSIX permits: any subset of names and data, and only an
	// fsync of the directory makes a name durable.
	loseStrict loss = "strict"
	// loseNothing is a machine that stopped behind a patient disk cache.
	loseNothing loss = "nothing"
)

const sector = 512

func newDisk() *disk {
	d := &disk{}
	d.root = d.newEntry(syscall.S_IFDIR | 0o755)
	return d
}

func (d *disk) newEntry(mode uint32) *entry {
	d.next++
	e := &entry{ino: d.next, mode: mode, mtime: time.Now()}
	if mode&syscall.S_IFMT == syscall.S_IFDIR {
		e.names, e.durable = map[string]*entry{}, map[string]*entry{}
	}
	return e
}

// countLocked is called before each change. It is where an armed cut happens.
func (d *disk) countLocked() syscall.Errno {
	d.calls++
	if d.armed > 0 {
		if d.armed--; d.armed == 0 {
			d.dead = true
		}
	}
	if d.dead {
		return syscall.EIO
	}
	return 0
}

// cut freezes the disk: from here on every change and every fsync fails.
func (d *disk) cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead = true
}

func (d *disk) writeLocked(e *entry, data []byte, off int64) {
	if end := off + int64(len(data)); end > int64(len(e.data)) {
		e.data = grow(e.data, end)
	}
	copy(e.data[off:], data)
	e.pending = append(e.pending, dataOp{off: off, data: append([]byte(nil), data...)})
	e.mtime = time.Now()
}

func (d *disk) truncateLocked(e *entry, size int64) {
	e.data = resize(e.data, size)
	e.pending = append(e.pending, dataOp{off: size, truncate: true})
	e.mtime = time.Now()
}

// syncLocked makes a file's data, or a directory's names, durable.
func (d *disk) syncLocked(e *entry) {
	d.syncs++
	for _, op := range e.pending {
		e.synced = op.apply(e.synced, op.data, op.off)
	}
	e.pending = nil
	for _, op := range d.journal {
		if op.dir == e || op.to == e {
			op.durable = true
		}
		if op.node == e && op.kind == nameAdd {
			op.byFile = true
		}
	}
	for len(d.journal) > 0 && d.journal[0].durable {
		d.journal[0].replay()
		d.journal = d.journal[1:]
	}
}

func (op *dataOp) apply(b, data []byte, off int64) []byte {
	if op.truncate {
		return resize(b, op.off)
	}
	b = grow(b, off+int64(len(data)))
	copy(b[off:], data)
	return b
}

// replay repeats one change on the durable tree.
func (op *nameOp) replay() {
	switch op.kind {
	case nameAdd:
		op.dir.durable[op.name] = op.node
	case nameRemove:
		if op.dir.durable[op.name] == op.node {
			delete(op.dir.durable, op.name)
		}
	case nameMove:
		if op.dir.durable[op.name] == op.node {
			delete(op.dir.durable, op.name)
		}
		op.to.durable[op.toName] = op.node
	}
}

// after returns the disk as the machine finds it when the power is back. It
// leaves d alone, so one cut can be looked at with many seeds.
func (d *disk) after(l loss, seed uint64) *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	rnd := rand.New(rand.NewPCG(seed, uint64(len(l))))
	image := imager{rnd: rnd, loss: l, out: newDisk(), seen: map[*entry]*entry{}, names: map[*entry]map[string]*entry{}}
	image.replay(d.journal)
	image.copyDir(d.root, image.out.root)
	return image.out
}

// imager makes the disk after a cut: names first, then what is reachable.
type imager struct {
	rnd   *rand.Rand
	loss  loss
	out   *disk
	seen  map[*entry]*entry            // entry before the cut to entry after it
	names map[*entry]map[string]*entry // durable names, with what survived
}

func (m *imager) replay(journal []*nameOp) {
	last := -1
	for i, op := range journal {
		if op.durable || op.byFile {
			last = i
		}
	}
	upTo := last + 1 + m.rnd.IntN(len(journal)-last)
	for i, op := range journal {
		keep := op.durable
		switch m.loss {
		case loseAll:
			keep = keep || op.byFile
		case loseJournal:
			keep = i < upTo
		case loseStrict:
			keep = keep || m.rnd.IntN(2) == 0
		case loseNothing:
			keep = true
		}
		if !keep {
			continue
		}
		shadow := *op
		shadow.dir, shadow.to = m.shadow(op.dir), m.shadow(op.to)
		shadow.replay()
	}
}

// shadow is a directory's stand-in whose durable names may be changed.
func (m *imager) shadow(dir *entry) *entry {
	if dir == nil {
		return nil
	}
	if _, ok := m.names[dir]; !ok {
		m.names[dir] = make(map[string]*entry, len(dir.durable))
		for name, e := range dir.durable {
			m.names[dir][name] = e
		}
	}
	return &entry{durable: m.names[dir]}
}

func (m *imager) copyDir(from, to *entry) {
	names := from.durable
	if changed, ok := m.names[from]; ok {
		names = changed
	}
	sorted := make([]string, 0, len(names))
	for name := range names {
		sorted = append(sorted, name)
	}
	sort.Strings(sorted) // map order must not feed the seed
	for _, name := range sorted {
		e := names[name]
		if m.seen[e] == nil {
			m.seen[e] = m.copyEntry(e)
		}
		to.names[name], to.durable[name] = m.seen[e], m.seen[e]
	}
}

func (m *imager) copyEntry(e *entry) *entry {
	c := m.out.newEntry(e.mode)
	c.mtime, c.target = e.mtime, e.target
	if e.names != nil {
		m.seen[e] = c
		m.copyDir(e, c)
		return c
	}
	c.data = append([]byte(nil), e.synced...)
	for _, op := range e.pending {
		if lost, torn := m.fate(); !lost {
			data, off := op.data, op.off
			if torn && !op.truncate {
				data, off = m.tear(data, off)
			}
			c.data = op.apply(c.data, data, off)
		}
	}
	c.synced = append([]byte(nil), c.data...)
	return c
}

func (m *imager) fate() (lost, torn bool) {
	switch m.loss {
	case loseNothing:
		return false, false
	case loseAll:
		return true, false
	}
	n := m.rnd.IntN(4)
	return n < 2, n == 2
}

// tear keeps one run of whole sectors of a write.
func (m *imager) tear(data []byte, off int64) ([]byte, int64) {
	cuts := []int{0, len(data)}
	for at := sector - int(off%sector); at < len(data); at += sector {
		cuts = append(cuts, at)
	}
	sort.Ints(cuts)
	from, to := cuts[m.rnd.IntN(len(cuts))], cuts[m.rnd.IntN(len(cuts))]
	if from > to {
		from, to = to, from
	}
	return data[from:to], off + int64(from)
}

func grow(b []byte, size int64) []byte {
	if size <= int64(len(b)) {
		return b
	}
	if size <= int64(cap(b)) {
		old := len(b)
		b = b[:size]
		clear(b[old:])
		return b
	}
	next := make([]byte, size, max(size, 2*int64(cap(b))))
	copy(next, b)
	return next
}

func resize(b []byte, size int64) []byte {
	if size <= int64(len(b)) {
		return b[:size]
	}
	return grow(b, size)
}
