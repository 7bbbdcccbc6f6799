package syncer_test

import (
	"strings"
	"testing"
)

func TestTwoDevices(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop", "desktop")
	laptop, desktop := f.devices[0], f.devices[1]
	laptop.write("Letters/a.txt", "dear")
	laptop.write("Letters/large.bin", strings.Repeat("0123456789", 300_000))
	laptop.sync()
	desktop.sync()
	f.agree()
	if got := desktop.read("Letters/a.txt"); got != "dear" {
		t.Fatalf("the desktop reads %q", got)
	}
	desktop.write("Letters/a.txt", "dearest")
	desktop.write("Letters/b.txt", "new")
	desktop.sync()
	laptop.sync()
	f.agree()
	laptop.f.must(laptop.v.Remove("Letters/large.bin", false))
	laptop.f.must(laptop.v.Move("Letters/b.txt", "Letters/c.txt"))
	laptop.sync()
	desktop.sync()
	desktop.want("Letters/", "Letters/a.txt = dearest", "Letters/c.txt = new")
	f.agree()
	for _, d := range f.devices {
		s := d.Status()
		if !s.Online || len(s.Conditions) != 0 || s.Up.Count != 0 || s.Down.Count != 0 || s.Unpushed != 0 {
			t.Errorf("%s: %+v", d.name, s)
		}
		d.restart()
		d.sync()
	}
	f.agree()
}

// What one device saves appears on the other by itself.
func TestRun(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop", "desktop")
	for _, d := range f.devices {
		d.run()
	}
	laptop, desktop := f.devices[0], f.devices[1]
	desktop.Poke()
	laptop.write("Letters/a.txt", "dear")
	desktop.until("the file is here", func() bool { return desktop.read("Letters/a.txt") == "dear" })
	desktop.write("Letters/a.txt", "dearest")
	laptop.until("the answer is here", func() bool { return laptop.read("Letters/a.txt") == "dearest" })
	laptop.until("all is done", func() bool { s := laptop.Status(); return s.State == "idle" && s.Up.Count == 0 })
}

// A drive is in use from its mount on: nobody has to ask for anything for it to
// look at the remote again soon.
func TestInUseFromTheStart(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop", "desktop")
	laptop, desktop := f.devices[0], f.devices[1]
	f.sync()
	desktop.engineWith(func(string, string) fault { return fault{} })
	desktop.run()
	desktop.until("it has looked", func() bool { return desktop.Status().Online })
	laptop.write("Letters/a.txt", "dear")
	laptop.sync()
	desktop.until("it looks again", func() bool { return desktop.read("Letters/a.txt") == "dear" })
	desktop.halt()
}
