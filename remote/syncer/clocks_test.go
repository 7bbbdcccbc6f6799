package syncer_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
)

// shift puts the clock of a device wrong, and starts its program anew: one that
// runs counts time by a clock that cannot be put.
func (d *device) shift(by time.Duration) {
	d.clock = func() time.Time { return time.Now().Add(by) }
	d.restart()
}

const day = 24 * time.Hour

// Three devices, one's clock two days ahead, one's two days behind. The saves of
// that one come at once; it does not take what seems to come from the future, so
// an edit of both is a conflict. Those of the one ahead wait until their time has
// come. Each is told, then all agree, and no save is lost.
func TestWrongClocks(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "right", "ahead", "behind")
	right, ahead, behind := f.devices[0], f.devices[1], f.devices[2]
	right.write("Letters/shared.txt", "first")
	f.sync()
	f.agree()
	ahead.shift(2 * day)
	behind.shift(-2 * day)

	behind.write("Letters/shared.txt", "second, by the one behind")
	behind.write("Letters/behind.txt", "behind")
	behind.sync()
	right.sync()
	right.hasNone()
	right.want("Letters/", "Letters/behind.txt = behind", "Letters/shared.txt = second, by the one behind")
	right.write("Letters/shared.txt", "third")
	right.sync()
	behind.sync()
	behind.tellsClockOf("right")
	behind.want("Letters/", "Letters/behind.txt = behind", "Letters/shared.txt = second, by the one behind")
	behind.write("Letters/shared.txt", "fourth, by the one behind")
	behind.sync()
	right.sync()
	right.hasNone()
	right.contents("behind", "fourth, by the one behind", "third")

	ahead.write("Letters/ahead.txt", "from the future")
	ahead.sync()
	for _, d := range []*device{right, behind} {
		d.sync()
		d.tellsClockOf("ahead")
	}
	right.contents("behind", "fourth, by the one behind", "third")
	// The clock is put right. What follows what was saved in the future waits with it.
	ahead.shift(0)
	ahead.write("Letters/ahead.txt", "edited when the clock was right")
	ahead.sync()
	right.sync()
	right.has(syncer.CondPeerClock)
	for _, d := range f.devices {
		d.shift(day + time.Hour)
	}
	f.sync()
	f.agree()
	for _, d := range f.devices {
		d.hasNone()
		d.contents("behind", "edited when the clock was right", "fourth, by the one behind", "third")
	}
}

// tellsClockOf wants a condition that names a device.
func (d *device) tellsClockOf(name string) {
	d.f.t.Helper()
	if c, known := d.condition(syncer.CondPeerClock); !known || !strings.Contains(c.Text, name+": ") {
		d.f.t.Fatalf("%s is not told of the clock of %s: %+v", d.name, name, d.Status().Conditions)
	}
}

// contents wants the files to have these contents, whatever their names.
func (d *device) contents(want ...string) {
	d.f.t.Helper()
	var got []string
	for line := range strings.Lines(d.list()) {
		if _, content, file := strings.Cut(strings.TrimSpace(line), " = "); file {
			got = append(got, content)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		d.f.t.Fatalf("%s has %q, want %q", d.name, got, want)
	}
}

// A clock that jumps back between saves, while the program runs and between its
// runs: the last save is the one that everybody has.
func TestClockJumpsBack(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop", "desktop")
	laptop, desktop := f.devices[0], f.devices[1]
	for i, back := range []time.Duration{0, 3 * time.Hour, 20 * time.Hour, 0} {
		laptop.write("Letters/a.txt", fmt.Sprint("before jump ", i))
		laptop.shift(-back)
		text := fmt.Sprint("after jump ", i)
		laptop.write("Letters/a.txt", text)
		f.sync()
		f.agree()
		laptop.want("Letters/", "Letters/a.txt = "+text)
		desktop.write("Letters/b.txt", text)
		f.sync()
		f.agree()
		laptop.want("Letters/", "Letters/a.txt = "+text, "Letters/b.txt = "+text)
		f.must(desktop.v.Remove("Letters/b.txt", false))
		f.sync()
	}
	// By more than a day it takes nothing from the future, and says so; what it saves
	// comes to the others all the same.
	laptop.shift(-30 * day)
	desktop.write("Letters/b.txt", "of now")
	laptop.write("Letters/c.txt", "of last month")
	f.sync()
	laptop.tellsClockOf("desktop")
	desktop.contents("after jump 3", "of last month", "of now")
	laptop.shift(0)
	f.sync()
	f.agree()
	laptop.contents("after jump 3", "of last month", "of now")
	for _, d := range f.devices {
		d.hasNone()
	}
}

// A transfer that failed while the clock was ahead does not wait for the time it
// set itself then.
func TestBackOffUnderAWrongClock(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop", "desktop")
	laptop, desktop := f.devices[0], f.devices[1]
	laptop.shift(20 * time.Hour)
	laptop.engineWith(func(call, key string) fault {
		if call == "PutBlob" {
			return fault{err: syncer.ErrUnavailable}
		}
		return fault{}
	})
	laptop.write("Letters/a.txt", "dear")
	if err := laptop.trySync(); err == nil {
		t.Fatal("the content was sent")
	}
	laptop.shift(0)
	laptop.run()
	laptop.until("the content is sent", func() bool { return len(f.objects("blobs/*")) == 1 })
	laptop.halt()
	desktop.sync()
	desktop.want("Letters/", "Letters/a.txt = dear")
}
