package vaultcore

import (
	"testing"
)

// TestLateSave: a file is kept open for longer than the log is, and saved over a
// record that a device with a base has dropped and one without has not. The next
// checkpoint is no false one for whoever has the whole log, and with it both show
// the same.
func TestLateSave(t *testing.T) {
	t.Parallel()
	for what, replace := range map[string]func(*device){
		"replaced": func(d *device) { d.write("A/f", "ada's") },
		"renamed":  func(d *device) { d.rename("A/f", "A/g") },
		"deleted":  func(d *device) { d.remove("A/f") },
		"moved over": func(d *device) {
			d.write("A/g", "another")
			d.rename("A/g", "A/f")
		},
	} {
		for _, renames := range []bool{false, true} {
			name := what
			if renames {
				name += " and renamed after"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				playLateSave(t, replace, renames)
			})
		}
	}
}

func playLateSave(t *testing.T, replace func(*device), renames bool) {
	f := newFleet(t, "ada", "bob", "cyd")
	ada, bob, cyd := f.devices[0], f.devices[1], f.devices[2]
	ada.mkdir("A")
	ada.write("A/f", "first")
	f.live()
	n := mustOpen(t, bob.Vault, "A/f", true)
	mustWriteAt(t, bob.Vault, n, "bob's late save", 0)
	replace(ada)
	f.live()
	f.pass(31)
	f.live()
	p := points{}
	base := ada.checkpoint(p)
	ada.load(p, base.CheckpointID)
	closeFile(t, bob.Vault, n)
	if renames {
		dir, name := n.parent, n.name
		if err := bob.Rename(dir, name, dir, "late", 0); err != nil {
			t.Fatal(err)
		}
	}
	f.live()
	f.live()
	ada.wantShows("= bob's late save")
	next := ada.checkpoint(p)
	if v := cyd.note(p, next.CheckpointID).Verdict; v != Agrees {
		t.Errorf("cyd's verdict is %v", v)
	}
	cyd.load(p, next.CheckpointID)
	cyd.wantNoAlarm()
	bob.load(p, base.CheckpointID)
	bob.wantNoAlarm()
	bob.load(p, bob.checkpoint(p).CheckpointID)
	f.agree()
	for _, d := range f.devices {
		wantSound(t, d.Vault)
	}
	f.sync()
	f.live()
	cyd.load(p, cyd.checkpoint(p).CheckpointID)
	f.sync()
}
