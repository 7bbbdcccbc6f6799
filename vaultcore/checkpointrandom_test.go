package vaultcore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// months is a fleet on a remote that forgets: with checkpoints, and collections.
type months struct {
	*fleet
	r          *rand.Rand
	points     points
	order      []CheckpointID // oldest first
	candidates map[seal.ID]int64
	text       int

	late bool // a file was kept open for days: see agree

	headers   registry
	passwords int
}

func (m *months) device() *device { return m.devices[m.r.IntN(len(m.devices))] }

// files gives the paths of what d shows.
func (d *device) files() (paths []string) {
	d.f.t.Helper()
	err := d.List("", true, func(i Info) error {
		if i.Kind == "file" {
			paths = append(paths, i.Path)
		}
		return nil
	})
	if err != nil {
		d.f.t.Fatal(err)
	}
	return paths
}

// act changes something on a device.
func (m *months) act(d *device) {
	m.t.Helper()
	files := d.files()
	m.text++
	text := fmt.Sprint(d.name, "'s ", m.text)
	if len(files) == 0 || m.r.IntN(4) == 0 {
		d.write(fmt.Sprint("Tax/", m.r.IntN(6), ".txt"), text)
		return
	}
	path := files[m.r.IntN(len(files))]
	switch m.r.IntN(6) {
	case 0:
		d.remove(path)
	case 1:
		to := fmt.Sprint("Car/", m.r.IntN(6), " moved.txt")
		if !slices.Contains(files, to) {
			d.rename(path, to)
		}
	default:
		d.write(path, text)
	}
}

// hear takes what the remote has, some of it: chains in any order, and cut short.
func (m *months) hear(d *device, all bool) {
	m.t.Helper()
	ctx := context.Background()
	for {
		heads, err := d.Heads(ctx)
		if err != nil {
			m.t.Fatal(err)
		}
		var frames [][]byte
		gap := false
		for id, log := range m.log {
			if id == d.DeviceID() {
				continue
			}
			for _, frame := range log[min(heads[id].Seq, uint64(len(log))):] {
				if gap = gap || frame == nil; frame == nil || !all && m.r.IntN(4) == 0 {
					break
				}
				frames = append(frames, frame)
			}
		}
		if gap {
			m.startOver(d)
			continue
		}
		r, err := d.Receive(ctx, frames...)
		if err != nil {
			m.t.Fatalf("%s: %v", d.name, err)
		}
		for _, err := range r.Refused {
			if !errors.Is(err, ErrNewEpoch) && !errors.Is(err, ErrGap) {
				m.t.Fatalf("%s: %v", d.name, err)
			}
		}
		break
	}
	d.pullBlobs()
}

// learn takes the headers there are, and with accept gives the password of now.
func (m *months) learn(d *device, accept bool) {
	m.t.Helper()
	known, _ := d.HeaderSeq()
	for seq := known + 1; m.headers[seq] != nil; seq++ {
		if err := d.AcceptHeader(context.Background(), m.headers[seq]); err != nil && !errors.Is(err, ErrNewEpoch) {
			m.t.Fatalf("%s: header %d: %v", d.name, seq, err)
		}
	}
	if accept && d.EpochPending() {
		d.accept(m.password())
	}
}

func (m *months) password() string {
	if m.passwords == 0 {
		return testPassword
	}
	return fmt.Sprint("the horse's staple ", m.passwords)
}

func (m *months) changePassword(d *device) {
	m.t.Helper()
	m.learn(d, true)
	m.hear(d, true) // as the engine does
	m.passwords++
	d.changePassword(m.headers, m.password())
}

// push is that of the device, which seals nothing while the new password is missing.
func (m *months) push(d *device) {
	m.t.Helper()
	if !d.EpochPending() {
		d.push()
	}
}

// kill ends a program, with what it has open.
func (m *months) kill(d *device) {
	d.drafts = nil
	d.kill(false)
}

// draft opens a file to write, writes to an open one, or closes it.
func (m *months) draft(d *device) {
	m.t.Helper()
	if len(d.drafts) > 0 && m.r.IntN(2) == 0 {
		n := d.drafts[0]
		d.drafts = d.drafts[1:]
		closeFile(m.t, d.Vault, n)
		return
	}
	files := d.files()
	if len(files) == 0 {
		return
	}
	n, err := d.Find(files[m.r.IntN(len(files))])
	if err != nil || d.Open(n, true, true) != nil {
		return
	}
	m.text++
	d.WriteAt(n, fmt.Append(nil, d.name, "'s ", m.text), 0)
	if m.r.IntN(2) == 0 {
		d.Fsync(n)
	}
	d.drafts = append(d.drafts, n)
}

// startOver takes the newest checkpoint that covers what d has.
func (m *months) startOver(d *device) {
	m.t.Helper()
	for _, id := range slices.Backward(m.order) {
		err := d.LoadCheckpoint(context.Background(), id, m.points.fetch(id))
		if err == nil {
			return
		}
		if !errors.Is(err, ErrCheckpointOld) && !errors.Is(err, ErrStaleEpoch) && !errors.Is(err, ErrNewEpoch) {
			m.t.Fatalf("%s: start over: %v", d.name, err)
		}
	}
	m.t.Fatalf("%s finds no checkpoint to start over from", d.name)
}

// point lets a device that has everything write a checkpoint.
func (m *months) point(d *device) {
	m.t.Helper()
	m.learn(d, true)
	d.push()
	m.hear(d, true)
	if _, _, err := d.Seal(context.Background(), SealOptions{Empty: true}); err != nil {
		m.t.Fatal(err)
	}
	d.push()
	c := d.checkpoint(m.points)
	m.order = append(m.order, c.CheckpointID)
}

// collect is a day's housekeeping on a device that has everything.
func (m *months) collect(d *device) {
	m.t.Helper()
	ctx := context.Background()
	m.learn(d, true)
	d.push()
	m.hear(d, true)
	for _, id := range m.order {
		if err := d.NoteCheckpoint(ctx, id, m.points[id][0]); err != nil && !errors.Is(err, ErrStaleEpoch) {
			m.t.Fatalf("%s: %v", d.name, err)
		}
	}
	all, err := d.Checkpoints(ctx)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, c := range all {
		if c.Verdict == Disagrees {
			m.t.Fatalf("%s does not agree with %+v: %q", d.name, c, d.alarms())
		}
	}
	if base, due := ChooseBase(all, m.now()); due {
		before := d.list()
		d.load(m.points, base.CheckpointID)
		if after := d.list(); after != before && !(m.late && holdsAll(after, before)) {
			m.t.Fatalf("%s shows, with the base,\n%s\nand showed\n%s", d.name, after, before)
		}
	}
	needed, err := d.Needed(ctx)
	if err != nil {
		return // batches wait
	}
	m.sweep(needed)
}

// holdsAll says whether a listing has all contents of another.
func holdsAll(list, other string) bool {
	for line := range strings.Lines(other) {
		if _, content, ok := strings.Cut(strings.TrimSpace(line), " = "); ok && !strings.Contains(list, content) {
			return false
		}
	}
	return true
}

// agree holds the devices against each other. What stays open for longer than the log
// is kept may be saved over a record that some have dropped and others have not: those
// may show a copy more until all have one base.
func (m *months) agree() {
	m.t.Helper()
	if !m.late {
		m.fleet.agree()
		return
	}
	first := m.stateOf(m.devices[0])
	for _, d := range m.devices[1:] {
		if m.stateOf(d) != first {
			m.t.Fatalf("%s and %s hold other records:\n%s\n\n%s", d.name, m.devices[0].name, d.list(), m.devices[0].list())
		}
	}
}

func (m *months) stateOf(d *device) [32]byte {
	m.t.Helper()
	state, err := d.State(context.Background())
	if err != nil {
		m.t.Fatal(err)
	}
	return state
}

func (m *months) sweep(needed Needed) {
	now := m.now().UnixMilli()
	const week = 7 * 24 * 3600 * 1000
	for blob := range m.blobs {
		since, known := m.candidates[blob]
		switch {
		case needed.Named(blob):
			delete(m.candidates, blob)
		case !known:
			m.candidates[blob] = now
		case now-since >= week:
			delete(m.blobs, blob)
		}
	}
	for id, head := range needed.Heads {
		for i := range m.log[id][:head-1] {
			m.log[id][i] = nil
		}
	}
}

// TestMonths plays three devices over months, with checkpoints by any of them,
// bases, collections, changed passwords, files open meanwhile and kills: P5, P7. In
// the end all show the same, every content can be had, and so it is for one that
// joins.
func TestMonths(t *testing.T) {
	t.Parallel()
	var bases atomic.Int64
	t.Run("seeds", func(t *testing.T) {
		playSeeds(t, "VAULTDRIVE_MONTHS_SEEDS", 4, func(t *testing.T, seed uint64) { bases.Add(int64(playMonths(t, seed))) })
	})
	if !t.Failed() && bases.Load() == 0 {
		t.Error("no log was cut")
	}
}

// playMonths says how many bases there were.
func playMonths(t *testing.T, seed uint64) int {
	m := &months{
		fleet: newFleet(t, "ada", "bob", "cyd"), r: rand.New(rand.NewPCG(seed, 7)), points: points{}, candidates: make(map[seal.ID]int64),
	}
	m.devices[0].mkdir("Tax")
	m.devices[0].mkdir("Car")
	m.sync()
	m.headers = m.headersOf(m.devices[0])
	for range 120 {
		m.step(m.device())
	}
	for _, d := range m.devices {
		d.closeDrafts()
		m.learn(d, true)
	}
	for range 3 {
		for _, d := range m.devices {
			d.push()
		}
		for _, d := range m.devices {
			m.hear(d, true)
		}
	}
	m.agree()
	m.point(m.devices[0])
	for range 2 {
		m.pass(31)
		m.point(m.devices[1])
		m.collect(m.devices[2])
	}
	bases := m.devices[2].bases()
	m.joinLate()
	return bases
}

func (m *months) step(d *device) {
	switch m.r.IntN(16) {
	case 0:
		for _, d := range m.devices {
			m.late = m.late || len(d.drafts) > 0
		}
		m.pass(1 + m.r.IntN(20))
	case 1:
		m.point(d)
	case 2:
		m.collect(d)
	case 3, 4:
		m.push(d)
	case 5, 6:
		m.hear(d, m.r.IntN(3) == 0)
	case 7:
		m.draft(d)
	case 8:
		m.learn(d, m.r.IntN(2) == 0)
	case 9:
		switch m.r.IntN(5) {
		case 0:
			m.changePassword(d)
		case 1:
			m.kill(d)
		}
	default:
		m.act(d)
	}
}

func (d *device) bases() (n int) {
	all, err := d.Checkpoints(context.Background())
	if err != nil {
		d.f.t.Fatal(err)
	}
	for _, c := range all {
		if c.Base {
			n++
		}
	}
	return n
}

func (m *months) joinLate() {
	m.t.Helper()
	dan := m.joinBy(m.devices[0], "dan", m.password())
	dan.load(m.points, m.order[len(m.order)-1])
	for range 2 {
		for _, d := range m.devices {
			d.push()
		}
		for _, d := range m.devices {
			m.hear(d, true)
		}
	}
	m.agree()
	if list := dan.list(); strings.Contains(list, "(not here)") {
		m.t.Fatalf("contents are gone from the remote:\n%s", list)
	}
	m.oneBase()
	for _, d := range m.devices {
		d.reopen()
	}
	m.fleet.agree()
}

// oneBase brings all devices to the newest base, so that none holds what others have
// dropped: whatever stayed open for how long, they show the same then.
func (m *months) oneBase() {
	m.t.Helper()
	for range 2 {
		m.pass(31)
		m.point(m.devices[0])
		for _, d := range m.devices {
			m.hear(d, true)
		}
	}
	for range 2 {
		for _, d := range m.devices {
			m.collect(d)
			m.hear(d, true)
		}
	}
}
