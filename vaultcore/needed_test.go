package vaultcore

import (
	"context"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

func (d *device) needs(blob seal.ID) bool {
	d.f.t.Helper()
	n, err := d.Needed(context.Background())
	if err != nil {
		d.f.t.Fatal(err)
	}
	return n.Named(blob)
}

// A content that was replaced stays on the remote until every active device knows
// that it was: one that is away may have named its file anew, which shows it again
// when what replaced it is deleted.
func TestReplacedStaysUntilAllKnow(t *testing.T) {
	f := newFleet(t, "ada", "bob", "cyd")
	ada, bob, cyd := f.devices[0], f.devices[1], f.devices[2]
	ada.mkdir("A")
	ada.write("A/f", "old")
	f.sync()
	old := ada.blobOf("A/f")
	ada.write("A/f", "new")
	bob.rename("A/f", "A/g") // and is away
	ada.push()
	cyd.pull()
	if !cyd.needs(old) {
		t.Fatal("bob has not seen what replaced it")
	}
	ada.remove("A/f")
	ada.push()
	cyd.pull()
	if !cyd.needs(old) {
		t.Fatal("bob has not seen what became of it")
	}
	bob.push()
	f.sync()
	f.want("A/", "A/g = old")
	if !cyd.needs(old) {
		t.Fatal("a live file has it")
	}
	bob.write("A/g", "newer")
	for range 2 { // each says what it has seen
		for _, d := range f.devices {
			if _, _, err := d.Seal(t.Context(), SealOptions{Empty: true}); err != nil {
				t.Fatal(err)
			}
			d.push()
		}
		for _, d := range f.devices {
			d.pull()
		}
	}
	for _, d := range f.devices {
		if d != bob && d.needs(old) {
			t.Fatalf("%s still needs what all know to be replaced", d.name)
		}
	}
}
