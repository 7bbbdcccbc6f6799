package vaultcore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// points are the checkpoints on the remote of a fleet, each with its last part
// first.
type points map[CheckpointID][][]byte

// checkpoint lets d write one and puts it on the remote.
func (d *device) checkpoint(p points) Checkpoint {
	d.f.t.Helper()
	ctx := context.Background()
	c, err := d.WriteCheckpoint(ctx)
	if err != nil {
		d.f.t.Fatalf("%s: checkpoint: %v", d.name, err)
	}
	frames := make([][]byte, c.Parts+1)
	for part := 1; part <= c.Parts+1; part++ {
		if frames[part%(c.Parts+1)], err = d.CheckpointFrame(ctx, c.CheckpointID, part); err != nil {
			d.f.t.Fatal(err)
		}
	}
	p[c.CheckpointID] = frames
	if err := d.CheckpointPushed(ctx, c.CheckpointID); err != nil {
		d.f.t.Fatal(err)
	}
	return c
}

func (p points) fetch(id CheckpointID) func(context.Context, int) ([]byte, error) {
	return func(_ context.Context, part int) ([]byte, error) {
		if part >= len(p[id]) {
			return nil, fmt.Errorf("part %d is missing", part)
		}
		return bytes.Clone(p[id][part]), nil
	}
}

func (d *device) load(p points, id CheckpointID) {
	d.f.t.Helper()
	if err := d.LoadCheckpoint(context.Background(), id, p.fetch(id)); err != nil {
		d.f.t.Fatalf("%s: load: %v", d.name, err)
	}
}

func (d *device) note(p points, id CheckpointID) Checkpoint {
	d.f.t.Helper()
	if err := d.NoteCheckpoint(context.Background(), id, p[id][0]); err != nil {
		d.f.t.Fatalf("%s: note: %v", d.name, err)
	}
	return d.known(id)
}

func (d *device) known(id CheckpointID) Checkpoint {
	d.f.t.Helper()
	all, err := d.Checkpoints(context.Background())
	if err != nil {
		d.f.t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(c Checkpoint) bool { return c.CheckpointID == id })
	if i < 0 {
		d.f.t.Fatalf("%s does not know checkpoint %v", d.name, id)
	}
	return all[i]
}

// pass lets days go by.
func (f *fleet) pass(days int) { f.clock.Add(int64(days) * 24 * time.Hour.Milliseconds()) }

// live lets every device say that it is there, and what it has seen.
func (f *fleet) live() {
	f.t.Helper()
	for range 2 {
		for _, d := range f.devices {
			d.sealAll(SealOptions{})
			if _, _, err := d.Seal(context.Background(), SealOptions{Empty: true}); err != nil {
				f.t.Fatal(err)
			}
			d.push()
		}
		for _, d := range f.devices {
			d.pull()
		}
	}
}

func (d *device) rows(table string) (n int) {
	d.f.t.Helper()
	d.readMu.Lock()
	defer d.readMu.Unlock()
	v, err := d.reader.one("SELECT count(*) FROM " + table)
	if err != nil {
		d.f.t.Fatal(err)
	}
	return int(v.(int64))
}

func (d *device) alarmed(what string) {
	d.f.t.Helper()
	if !slices.ContainsFunc(d.alarms(), func(a string) bool { return strings.Contains(a, what) }) {
		d.f.t.Errorf("%s: no alarm with %q in %q", d.name, what, d.alarms())
	}
}

// busy makes a history with what a checkpoint has to carry: conflict copies,
// renames, deletions, folders, names that clash.
func busy(f *fleet) {
	f.t.Helper()
	ada, bob := f.devices[0], f.devices[1]
	ada.mkdir("Tax")
	ada.mkdir("Car")
	ada.write("Tax/a.txt", "one")
	ada.write("Tax/b.txt", "bee")
	ada.mkdir("Tax/sub")
	ada.write("Tax/sub/deep.txt", "deep")
	f.sync()
	for i := range 5 {
		ada.write("Tax/a.txt", fmt.Sprint("ada's ", i))
		f.sync()
	}
	ada.write("Tax/b.txt", "ada's bee")
	bob.write("Tax/b.txt", "bob's bee")
	bob.write("Car/new.txt", "bob's new")
	ada.write("Car/new.txt", "ada's new")
	ada.rename("Tax/sub/deep.txt", "Tax/sub/deeper.txt")
	f.sync()
	ada.write("Tax/gone.txt", "gone")
	f.sync()
	bob.remove("Tax/gone.txt")
	f.sync()
}

// TestCheckpointJoin: a device that loads a checkpoint and what follows it is
// as one that had the whole log, and what it makes is like any other's.
func TestCheckpointJoin(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "ada", "bob")
	busy(f)
	p := points{}
	c := f.devices[0].checkpoint(p)
	f.devices[1].write("Tax/later.txt", "later")
	f.devices[1].remove("Tax/a.txt")
	f.sync()

	cyd := f.join(f.devices[0], "cyd")
	cyd.load(p, c.CheckpointID)
	if k := cyd.known(c.CheckpointID); !k.Base || !k.Held || k.Verdict != Agrees {
		t.Errorf("after loading: %+v", k)
	}
	cyd.pull()
	f.agree()
	cyd.reopen()
	f.agree()
	cyd.load(p, c.CheckpointID) // again changes nothing
	cyd.write("Tax/b.txt", "cyd's bee")
	cyd.write("Tax/c.txt", "see")
	cyd.remove("Tax/sub/deeper.txt")
	f.sync()
	// Chains go on at its heads: everything below is known, and ignored.
	r, err := cyd.Receive(context.Background(), f.log[f.devices[0].DeviceID()]...)
	if err != nil || r.Applied != 0 || len(r.Refused) != 0 {
		t.Errorf("old batches again: %+v, %v", r, err)
	}
	// What it writes is what ada would write.
	f.live()
	second := cyd.checkpoint(p)
	for _, d := range f.devices[:2] {
		if k := d.note(p, second.CheckpointID); k.Verdict != Agrees {
			t.Errorf("%s: %+v, %q", d.name, k, d.alarms())
		}
	}
	dan := f.join(f.devices[1], "dan")
	dan.load(p, second.CheckpointID)
	dan.pull()
	f.sync()
}

// TestCheckpointBase: after a month the log below a checkpoint goes, and nothing
// looks different.
func TestCheckpointBase(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "ada", "bob")
	ada, bob := f.devices[0], f.devices[1]
	busy(f)
	for i := range 30 {
		ada.write("Tax/often.txt", fmt.Sprint("version ", i))
		ada.push()
	}
	f.sync()
	f.pass(31)
	f.live()
	p := points{}
	first := ada.checkpoint(p)
	f.pass(31)
	bob.write("Tax/b.txt", "bob's bee again")
	f.live()
	second := bob.checkpoint(p)
	for _, d := range f.devices {
		for _, c := range []Checkpoint{first, second} {
			if k := d.note(p, c.CheckpointID); k.Verdict != Agrees || !k.Pushed {
				t.Errorf("%s: %+v", d.name, k)
			}
		}
		all, err := d.Checkpoints(context.Background())
		base, due := ChooseBase(all, f.now())
		if err != nil || !due || base.CheckpointID != first.CheckpointID {
			t.Fatalf("base %+v, %v, %v", base, due, err)
		}
		ops, batches, before := d.rows("ops"), d.rows("batches"), d.list()
		d.load(p, first.CheckpointID)
		if d.rows("ops") > ops-30 || d.rows("batches") > batches-30 {
			t.Errorf("%s has %d ops and %d batches, had %d and %d", d.name, d.rows("ops"), d.rows("batches"), ops, batches)
		}
		if after := d.list(); after != before {
			t.Errorf("%s shows\n%s\nand showed\n%s", d.name, after, before)
		}
		all, err = d.Checkpoints(context.Background())
		if _, due := ChooseBase(all, f.now()); due || err != nil {
			t.Errorf("%s: the base is due again, %v", d.name, err)
		}
	}
	f.agree()
	ada.write("Tax/often.txt", "the last")
	bob.rename("Tax/b.txt", "Tax/bee.txt")
	f.sync()
	cyd := f.join(bob, "cyd")
	cyd.load(p, second.CheckpointID)
	cyd.pull()
	f.sync()
	// The next one is made of the base and what came after.
	third := cyd.checkpoint(p)
	for _, d := range f.devices {
		if k := d.note(p, third.CheckpointID); k.Verdict != Agrees {
			t.Errorf("%s: %+v, %q", d.name, k, d.alarms())
		}
	}
}

// TestStartOver: a device that was away for longer than batches are kept takes a
// checkpoint, and what it had not sent lives.
func TestStartOver(t *testing.T) {
	t.Parallel()
	f, cyd, p, id := awayTooLong(t)
	cyd.load(p, id)
	f.sync()
	list := cyd.list()
	for _, want := range []string{"= cyd's edit offline", "Tax/cyd.txt = only cyd has it", "= edit of what is deleted", "= much later 2"} {
		if !strings.Contains(list, want) {
			t.Errorf("no %q in\n%s", want, list)
		}
	}
	if strings.Contains(list, "touched.txt") {
		t.Errorf("a change of mode revived a file:\n%s", list)
	}
}

// TestKilledWhileStartingOver: whenever the program dies while it takes a
// checkpoint in the place of its log, it has the same files afterwards.
func TestKilledWhileStartingOver(t *testing.T) {
	t.Parallel()
	f, cyd, p, id := awayTooLong(t)
	var homes []string
	var lasts []uint64
	var mu sync.Mutex
	over := false
	look := func() {
		mu.Lock()
		defer mu.Unlock()
		// A look within a transaction sees what the one before has left.
		if last := cyd.com.last.Load(); !over && (len(lasts) == 0 || lasts[len(lasts)-1] != last) {
			homes, lasts = append(homes, crashCopy(t, cyd.Vault, false)), append(lasts, last)
		}
	}
	f.look.Store(&look)
	cyd.load(p, id)
	f.look.Store(nil)
	mu.Lock() // one from the background may still be on its way
	over = true
	mu.Unlock()
	want := cyd.list()
	if len(homes) < 3 {
		t.Fatalf("it died only %d times", len(homes))
	}
	for i, home := range homes {
		killed := &device{f: f, name: fmt.Sprint("cyd killed ", i), home: home}
		killed.open()
		killed.load(p, id)
		if got := killed.list(); got != want {
			t.Errorf("killed after commit %d: it shows\n%s\nwant\n%s", lasts[i], got, want)
		}
		wantSound(t, killed.Vault)
	}
	t.Logf("killed %d times", len(homes))
}

// awayTooLong gives a device that was away for longer than batches are kept, with
// changes of its own, and a checkpoint of the others that it has not taken.
func awayTooLong(t *testing.T) (f *fleet, cyd *device, p points, id CheckpointID) {
	t.Helper()
	f = newFleet(t, "ada", "bob", "cyd")
	ada, bob := f.devices[0], f.devices[1]
	cyd = f.devices[2]
	busy(f)
	ada.write("Tax/touched.txt", "only its mode is changed")
	f.sync()
	f.devices = []*device{ada, bob}
	cyd.write("Tax/a.txt", "cyd's edit offline")
	cyd.write("Tax/cyd.txt", "only cyd has it")
	cyd.write("Tax/sub/deeper.txt", "edit of what is deleted")
	n, err := cyd.Find("Tax/touched.txt")
	if err != nil {
		t.Fatal(err)
	}
	mode := uint32(0o640)
	if _, err := cyd.SetAttr(n, SetAttr{Mode: &mode}); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		ada.write("Tax/a.txt", fmt.Sprint("much later ", i))
		f.sync()
	}
	ada.remove("Tax/sub/deeper.txt")
	ada.remove("Tax/touched.txt")
	f.live()
	f.pass(200)
	f.live()
	f.pass(31)
	f.live()
	p = points{}
	c := ada.checkpoint(p)
	// The remote has only what follows.
	for _, d := range f.devices {
		id := d.DeviceID()
		for i := range int(c.Heads[id]) - 1 {
			f.log[id][i] = nil
		}
	}
	r, err := cyd.Receive(context.Background(), f.log[ada.DeviceID()][c.Heads[ada.DeviceID()]-1:]...)
	if err != nil || r.Applied != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	f.devices = append(f.devices, cyd)
	return f, cyd, p, c.CheckpointID
}

// altered gives a checkpoint with something done to its frames.
func (p points) altered(id CheckpointID, do func([][]byte) [][]byte) points {
	frames := make([][]byte, len(p[id]))
	for i := range frames {
		frames[i] = bytes.Clone(p[id][i])
	}
	return points{id: do(frames)}
}

// TestCheckpointHostile: whatever a remote makes of a checkpoint, nothing is
// taken from it, and it can be loaded when it is whole again.
func TestCheckpointHostile(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "ada", "bob")
	ada := f.devices[0]
	busy(f)
	for i := range 200 {
		ada.write("Tax/"+strings.Repeat("long name ", 20)+fmt.Sprint(i), "x")
	}
	f.sync()
	p := points{}
	old := ada.checkpoint(p)
	ada.write("Car/another.txt", "another")
	f.sync()
	c := ada.checkpoint(p)
	if c.Parts < 1 {
		t.Fatalf("%d parts", c.Parts)
	}
	cyd := f.join(ada, "cyd")
	cyd.mkdir("Own")
	cyd.write("Own/mine.txt", "not sealed yet")
	ctx := context.Background()
	for what, test := range map[string]struct {
		p    points
		want error
	}{
		"a bit of a part":        {p.altered(c.CheckpointID, func(b [][]byte) [][]byte { b[1][500] ^= 1; return b }), seal.ErrSignature},
		"a bit of the last part": {p.altered(c.CheckpointID, func(b [][]byte) [][]byte { b[0][300] ^= 1; return b }), seal.ErrSignature},
		"a part cut off":         {p.altered(c.CheckpointID, func(b [][]byte) [][]byte { b[1] = b[1][:2000]; return b }), seal.ErrFormat},
		"nothing":                {p.altered(c.CheckpointID, func(b [][]byte) [][]byte { b[0] = nil; return b }), seal.ErrFormat},
		"a part missing":         {p.altered(c.CheckpointID, func(b [][]byte) [][]byte { return b[:1] }), nil},
		"part of another":        {p.altered(c.CheckpointID, func(b [][]byte) [][]byte { b[1] = p[old.CheckpointID][1]; return b }), seal.ErrFormat},
		"another":                {points{c.CheckpointID: p[old.CheckpointID]}, ErrCheckpoint},
		"a batch":                {p.altered(c.CheckpointID, func(b [][]byte) [][]byte { b[0] = f.log[ada.DeviceID()][0]; return b }), seal.ErrFormat},
	} {
		err := cyd.LoadCheckpoint(ctx, c.CheckpointID, test.p.fetch(c.CheckpointID))
		if err == nil || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", what, err, test.want)
		}
		if cyd.rows("checkpoint_parts") != 0 {
			t.Errorf("%s: parts are kept", what)
		}
	}
	cyd.load(p, c.CheckpointID)
	err := cyd.LoadCheckpoint(ctx, old.CheckpointID, p.fetch(old.CheckpointID))
	if !errors.Is(err, ErrCheckpointOld) {
		t.Errorf("an older one: %v", err)
	}
	f.sync()
	if !strings.Contains(cyd.list(), "mine.txt = not sealed yet") {
		t.Error("a local save is lost")
	}
	foreign := newFleet(t, "eve", "mal")
	busy(foreign)
	theirs := points{}
	other := foreign.devices[0].checkpoint(theirs)
	err = cyd.NoteCheckpoint(ctx, other.CheckpointID, theirs[other.CheckpointID][0])
	if !errors.Is(err, seal.ErrFormat) {
		t.Errorf("of another vault: %v", err)
	}
}
