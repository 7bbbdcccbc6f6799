package vaultcore

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// fleet is one vault on several devices, and what a blind remote holds of it.
type fleet struct {
	t       testing.TB
	clock   atomic.Int64 // ms since 1970
	devices []*device
	limits  Limits // of every device
	write   string // write setting of the vault
	remote  seal.ID
	log     map[seal.ID][][]byte // by device, by number - 1
	blobs   map[seal.ID][]byte
	look    atomic.Pointer[func()] // called at each look at the clock
}

// device is one device of a fleet.
type device struct {
	*Vault
	f        *fleet
	name     string
	home     string
	password string
	drafts   []*Node // open for writing
}

var noonOfMarch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// newFleet makes a vault and joins a device for each further name.
func newFleet(t testing.TB, names ...string) *fleet { return newFleetOf(t, Limits{}, "", names...) }

// fetchPatience is Limits.FetchWait of who does not set it: what a remote gives at
// once is not given up on, however busy the machine is.
const fetchPatience = 5 * time.Minute

// newFleetOf is newFleet with limits and a write setting.
func newFleetOf(t testing.TB, limits Limits, write string, names ...string) *fleet {
	limits.FetchWait = cmp.Or(limits.FetchWait, fetchPatience)
	f := &fleet{
		t: t, limits: limits, write: write, remote: seal.NewID(), log: make(map[seal.ID][][]byte), blobs: make(map[seal.ID][]byte),
	}
	f.clock.Store(noonOfMarch.UnixMilli())
	first := f.start(names[0], newTestHome(t, write))
	for _, name := range names[1:] {
		f.join(first, name)
	}
	return f
}

// now moves on with every look, so that no two changes share a time.
func (f *fleet) now() time.Time {
	if look := f.look.Load(); look != nil {
		(*look)()
	}
	return time.UnixMilli(f.clock.Add(1)).UTC()
}

func (f *fleet) start(name, home string) *device { return f.startBy(name, home, testPassword) }

func (f *fleet) startBy(name, home, password string) *device {
	d := &device{f: f, name: name, home: home, password: password}
	d.open()
	if err := d.EnableLedger(context.Background(), name); err != nil {
		f.t.Fatalf("%s: enable: %v", name, err)
	}
	f.devices = append(f.devices, d)
	return d
}

func (d *device) open() {
	d.f.t.Helper()
	d.password = cmp.Or(d.password, testPassword)
	d.Vault = openWith(d.f.t, d.home, Credentials{Password: []byte(d.password)}, Options{Now: d.f.now, Limits: d.f.limits})
}

func (d *device) reopen() {
	d.f.t.Helper()
	if err := d.Close(context.Background()); err != nil {
		d.f.t.Fatalf("%s: close: %v", d.name, err)
	}
	d.open()
}

// atCommits calls look after each of a device's transactions, on whatever goroutine
// they are, until end returns.
func (d *device) atCommits(look func()) (end func()) {
	var mu sync.Mutex
	over := false
	v := d.Vault
	v.OnCommit(func() {
		mu.Lock()
		defer mu.Unlock()
		if !over {
			look()
		}
	})
	return func() {
		v.OnCommit(func() {})
		mu.Lock()
		over = true
		mu.Unlock()
	}
}

// kill goes on with what a kill at this moment would have left.
func (d *device) kill(powerCut bool) {
	d.f.t.Helper()
	d.home = crashCopy(d.f.t, d.Vault, powerCut)
	d.open()
}

func (f *fleet) join(by *device, name string) *device {
	f.t.Helper()
	return f.joinBy(by, name, testPassword)
}

func (f *fleet) joinBy(by *device, name, password string) *device {
	f.t.Helper()
	headers, err := by.HeaderEnvelopes(0)
	if err != nil {
		f.t.Fatal(err)
	}
	r, err := Join(context.Background(), JoinOptions{
		Home: filepath.Join(f.t.TempDir(), name), Password: []byte(password), Headers: headers,
		DID: by.keys.header().DID, KDF: quickKDF,
	})
	if err != nil {
		f.t.Fatalf("%s: join: %v", name, err)
	}
	for _, d := range f.devices {
		if err := d.AcceptHeader(context.Background(), r.Header); err != nil {
			f.t.Fatalf("%s: accept header: %v", d.name, err)
		}
	}
	return f.startBy(name, r.Home, password)
}

// push seals all that changed, puts the batches on the remote, then the blobs,
// then says so.
func (d *device) push() {
	d.f.t.Helper()
	d.sealAll(SealOptions{})
	d.pushBatches()
	d.pushBlobs()
}

func (d *device) sealAll(o SealOptions) {
	d.f.t.Helper()
	for more := true; more; {
		var err error
		if _, more, err = d.Seal(context.Background(), o); err != nil {
			d.f.t.Fatalf("%s: seal: %v", d.name, err)
		}
	}
}

func (d *device) pushBatches() {
	d.f.t.Helper()
	id := d.DeviceID()
	batches, err := d.OwnBatches(context.Background(), uint64(len(d.f.log[id])), 1000)
	if err != nil {
		d.f.t.Fatal(err)
	}
	for _, b := range batches {
		d.f.log[id] = append(d.f.log[id], b.Bytes)
	}
	if err := d.Pushed(context.Background(), uint64(len(d.f.log[id]))); err != nil {
		d.f.t.Fatal(err)
	}
}

func (d *device) pushBlobs() {
	d.f.t.Helper()
	ctx := context.Background()
	ids, err := d.UploadBlobs(ctx)
	if err != nil {
		d.f.t.Fatal(err)
	}
	var sent []seal.ID
	for _, id := range ids {
		src, err := d.UploadSource(ctx, id)
		if errors.Is(err, ErrNotFound) {
			continue // replaced meanwhile
		}
		if err != nil {
			d.f.t.Fatalf("%s: upload %s: %v", d.name, id.Hex(), err)
		}
		data, err := io.ReadAll(src)
		if err != nil || int64(len(data)) != src.Len {
			d.f.t.Fatalf("%s: upload of %d bytes: %v", d.name, len(data), err)
		}
		src.Close()
		if sha256.Sum256(data) != src.SHA256 {
			d.f.t.Fatalf("%s uploads other bytes as %s than its log says", d.name, id.Hex())
		}
		d.f.blobs[id] = data
		sent = append(sent, id)
	}
	if err := d.Sent(ctx, sent); err != nil {
		d.f.t.Fatal(err)
	}
	unsaid, err := d.Unsaid(ctx, 1<<20)
	if err != nil {
		d.f.t.Fatal(err)
	}
	for some := range slices.Chunk(unsaid, seal.MaxBlobs) {
		d.sealAll(SealOptions{Ops: []seal.Op{&seal.Sent{Remote: d.f.remote, Blobs: some}}})
	}
	d.pushBatches()
}

// pull takes what the remote has: batches, then blobs.
func (d *device) pull() Received {
	d.f.t.Helper()
	r := d.pullBatches()
	d.pullBlobs()
	return r
}

func (d *device) pullBatches() Received {
	d.f.t.Helper()
	heads, err := d.Heads(context.Background())
	if err != nil {
		d.f.t.Fatal(err)
	}
	var frames [][]byte
	for id, log := range d.f.log {
		if id != d.DeviceID() {
			frames = append(frames, log[heads[id].Seq:]...)
		}
	}
	r, err := d.Receive(context.Background(), frames...)
	if err != nil {
		d.f.t.Fatalf("%s: receive: %v", d.name, err)
	}
	for _, err := range r.Refused {
		d.f.t.Fatalf("%s: refused: %v", d.name, err)
	}
	return r
}

func (d *device) pullBlobs() {
	d.f.t.Helper()
	wanted, err := d.WantedBlobs(context.Background())
	if err != nil {
		d.f.t.Fatal(err)
	}
	for _, w := range wanted {
		data := d.f.blobs[w.Blob]
		if data == nil {
			continue
		}
		if err := d.PutBlob(context.Background(), w.Blob, bytes.NewReader(data)); err != nil {
			d.f.t.Fatalf("%s: put blob: %v", d.name, err)
		}
	}
}

// sync lets every device push and pull until all have everything, reopens
// them, and holds their states and trees against each other.
func (f *fleet) sync() {
	f.t.Helper()
	for range 3 {
		for _, d := range f.devices {
			d.push()
		}
		for _, d := range f.devices {
			d.pull()
		}
	}
	f.agree()
	for _, d := range f.devices {
		before := d.list()
		d.reopen()
		if after := d.list(); after != before {
			f.t.Fatalf("%s shows, opened again,\n%s\nand showed\n%s", d.name, after, before)
		}
	}
}

func (f *fleet) agree() {
	f.t.Helper()
	first, err := f.devices[0].State(context.Background())
	if err != nil {
		f.t.Fatal(err)
	}
	for _, d := range f.devices[1:] {
		state, err := d.State(context.Background())
		if err != nil {
			f.t.Fatal(err)
		}
		if state != first {
			f.t.Fatalf("%s and %s hold other records:\n%s\n\n%s", d.name, f.devices[0].name, d.list(), f.devices[0].list())
		}
		if got, want := d.list(), f.devices[0].list(); got != want {
			f.t.Fatalf("%s shows\n%s\n%s shows\n%s", d.name, got, f.devices[0].name, want)
		}
	}
}

var someDigits = regexp.MustCompile(`\b[0-9a-f]{4}\)`)

// list gives the tree with the contents of its files; digits that depend on
// random ids are hidden.
func (d *device) list() string {
	d.f.t.Helper()
	var lines []string
	var walk func(dir *Node, prefix string)
	walk = func(dir *Node, prefix string) {
		err := d.ReadDir(dir, 0, func(e *DirEntry) bool {
			p := prefix + e.Name
			switch e.Node.Kind() {
			case KindFile:
				lines = append(lines, p+" = "+d.content(e.Node))
			case KindSymlink:
				target, err := d.Readlink(e.Node)
				lines = append(lines, fmt.Sprintf("%s -> %s %v", p, target, err))
			default:
				lines = append(lines, p+"/")
				walk(e.Node, p+"/")
			}
			return true
		})
		if err != nil {
			d.f.t.Fatal(err)
		}
	}
	walk(d.Root(), "")
	slices.Sort(lines)
	return someDigits.ReplaceAllString(joinLines(lines), "####)")
}

func joinLines(lines []string) string {
	var b bytes.Buffer
	for i, l := range lines {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(l)
	}
	return b.String()
}

func (d *device) content(n *Node) string {
	if err := d.Open(n, false, false); err != nil {
		return err.Error()
	}
	defer d.Release(n, false)
	buf := make([]byte, d.Attr(n).Size)
	k, err := d.ReadAt(n, buf, 0)
	switch {
	case errors.Is(err, ErrTimeout):
		return "(not here)"
	case err != nil:
		return err.Error()
	}
	return string(buf[:min(k, 40)])
}

func (d *device) want(lines ...string) {
	d.f.t.Helper()
	slices.Sort(lines)
	if got, want := d.list(), joinLines(lines); got != want {
		d.f.t.Fatalf("%s shows\n%s\nwant\n%s", d.name, got, want)
	}
}

func (f *fleet) want(lines ...string) {
	f.t.Helper()
	for _, d := range f.devices {
		d.want(lines...)
	}
}

func (d *device) write(path, data string) *Node {
	d.f.t.Helper()
	return writeFile(d.f.t, d.Vault, path, []byte(data))
}

func (d *device) mkdir(path string) { d.f.t.Helper(); mustMkdir(d.f.t, d.Vault, path) }

func (d *device) remove(path string) {
	d.f.t.Helper()
	if err := d.Remove(path, false); err != nil {
		d.f.t.Fatalf("%s: remove %s: %v", d.name, path, err)
	}
}

func (d *device) rename(from, to string) {
	d.f.t.Helper()
	dir, name, err := d.parentOf(from)
	if err != nil {
		d.f.t.Fatal(err)
	}
	newDir, newName, err := d.parentOf(to)
	if err != nil {
		d.f.t.Fatal(err)
	}
	if err := d.Rename(dir, name, newDir, newName, 0); err != nil {
		d.f.t.Fatalf("%s: rename %s: %v", d.name, from, err)
	}
}
