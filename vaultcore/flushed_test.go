package vaultcore

import (
	"bytes"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// A file is closed by one who has it, written on and closed by another, and is still
// open: the second save is kept only. Who asks for all that was closed gets it, and
// until then it counts as one that is not safe elsewhere; what is written and not
// closed is nobody's yet.
func TestSealTakesWhatCloseKept(t *testing.T) {
	f := newFleet(t, "ada", "bob")
	ada, bob := f.devices[0], f.devices[1]
	ada.mkdir("A")
	f.sync()
	share := func() { // and nobody's program ends
		t.Helper()
		ada.push()
		bob.pull()
	}
	unconfirmed := func(want int, ids ...seal.ID) {
		t.Helper()
		if got, err := ada.Unconfirmed(t.Context(), ids); got != want || err != nil {
			t.Fatalf("%d are unconfirmed, %v; want %d", got, err, want)
		}
	}
	n := openFile(t, ada.Vault, "A/f")
	save := func(text string, off int64) []byte {
		t.Helper()
		data := bytes.Repeat([]byte(text), keepAbove)
		mustWriteAt(t, ada.Vault, n, string(data), off)
		if err := ada.Flush(n); err != nil {
			t.Fatal(err)
		}
		return data
	}
	want := save("first ", 0)
	share()
	unconfirmed(0)
	want = append(want, save("second ", int64(len(want)))...)
	if d := ada.Status().Drafts; d != 1 {
		t.Fatalf("%d drafts of a save that is only kept", d)
	}
	unconfirmed(1)
	unconfirmed(1, n.id)
	unconfirmed(0, ada.mustFind("A").id)
	share()
	wantFile(t, bob.Vault, "A/f", want)
	unconfirmed(0)

	// Nobody asks: it is taken once nobody has written to it for a while.
	want = append(want, save("third ", int64(len(want)))...)
	ada.commitRested()
	unconfirmed(1)
	f.clock.Add(retryDraftsEvery.Milliseconds())
	ada.commitRested()
	if d := ada.Status().Drafts; d != 0 {
		t.Fatalf("%d drafts of a save that has rested", d)
	}
	share()
	wantFile(t, bob.Vault, "A/f", want)

	mustWriteAt(t, ada.Vault, n, "not closed", 0)
	share()
	wantFile(t, bob.Vault, "A/f", want)
	unconfirmed(0)
	copy(want, "not closed")
	closeFile(t, ada.Vault, n)
	share()
	wantFile(t, bob.Vault, "A/f", want)
}

// A file is opened, written and closed while who saved it before has not let go of it
// yet, which the kernel tells late: that is a save like any other, and is committed.
func TestSaveBeforeRelease(t *testing.T) {
	v := newTestVault(t)
	mustMkdir(t, v, "A")
	want := randomBytes(4*keepAbove, 1)
	n := openFile(t, v, "A/f")
	for range 3 {
		mustWriteAt(t, v, n, string(want), 0)
		if err := v.Flush(n); err != nil {
			t.Fatal(err)
		}
		if d := v.Status().Drafts; d != 0 {
			t.Fatalf("%d drafts after a close", d)
		}
		want = randomBytes(5*keepAbove, 2)
		if err := v.Open(n, true, true); err != nil {
			t.Fatal(err)
		}
		v.Release(n, true)
	}
	v.Release(n, true)
}
