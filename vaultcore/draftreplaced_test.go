package vaultcore

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// A file that is here was replaced or deleted from elsewhere while it was written:
// what fsync made durable comes back after a kill, whatever the trash was told
// meanwhile.
func TestReplacedWhileWrittenKilled(t *testing.T) {
	t.Parallel()
	for _, cut := range []bool{false, true} {
		t.Run(fmt.Sprintf("power cut %v", cut), func(t *testing.T) { playAllReplaced(t, cut) })
	}
}

func playAllReplaced(t *testing.T, cut bool) {
	for _, size := range []int{10, 100 << 10} {
		for _, early := range []bool{false, true} {
			for _, emptied := range []bool{false, true} {
				for _, how := range []string{"replaced", "deleted"} {
					t.Run(fmt.Sprintf("%d bytes, fsync early %v, trash emptied %v, %s", size, early, emptied, how), func(t *testing.T) {
						playReplaced(t, size, early, emptied, how == "deleted", cut)
					})
				}
			}
		}
	}
}

func playReplaced(t *testing.T, size int, early, emptied, deleted, cut bool) {
	f := newFleet(t, "ada", "bob")
	ada, bob := f.devices[0], f.devices[1]
	ada.mkdir("A")
	data := randomBytes(size, 1)
	writeFile(t, ada.Vault, "A/f", data)
	f.sync()
	n := mustOpen(t, bob.Vault, "A/f", true)
	mustWriteAt(t, bob.Vault, n, "bob", 3)
	fsync := func() {
		if err := bob.Fsync(n); err != nil {
			t.Fatal(err)
		}
	}
	if early {
		fsync()
	}
	if deleted {
		ada.remove("A/f")
	} else {
		ada.write("A/f", "by ada")
	}
	ada.push()
	bob.pull()
	if !early {
		fsync()
	}
	if emptied {
		if _, _, err := bob.EmptyTrash(nil); err != nil {
			t.Fatal(err)
		}
	}
	bob.kill(cut)
	bob.wantNoAlarm()
	bob.wantOneOf("A", overlay(data, "bob", 3))
	f.sync()
	ada.wantOneOf("A", overlay(data, "bob", 3))
	if !deleted {
		ada.wantShows("= by ada")
	}
	wantSound(t, bob.Vault)
}

// A program opens a file in the moment in which a change from elsewhere drops its
// content, after the transaction and before the tree says so: it gets the file that
// is there then, and what fsync makes durable over it is there after a power cut.
func TestOpenedWhileReplacedKilled(t *testing.T) {
	for _, reads := range []bool{false, true} {
		t.Run(fmt.Sprintf("by a reader first %v", reads), func(t *testing.T) { playOpenedWhileReplaced(t, reads) })
	}
}

func playOpenedWhileReplaced(t *testing.T, reads bool) {
	f := newFleet(t, "ada", "bob")
	ada, bob := f.devices[0], f.devices[1]
	ada.mkdir("A")
	data := randomBytes(100<<10, 1)
	writeFile(t, ada.Vault, "A/f", data)
	f.sync()
	n, err := bob.Find("A/f")
	if err != nil {
		t.Fatal(err)
	}
	old := n.n
	opened := make(chan error, 1)
	began := false
	end := bob.atCommits(func() {
		if began || !lacksRow(bob.com.c, old) {
			return
		}
		began = true
		go func() { opened <- bob.Open(n, !reads, false) }()
		select {
		case err := <-opened:
			opened <- err
		case <-time.After(200 * time.Millisecond): // it waits for the change
		}
	})
	other := overlay(data, "by ada", 9)
	writeFile(t, ada.Vault, "A/f", other)
	ada.push()
	bob.pull()
	end()
	if !began {
		t.Fatal("the moment did not come")
	}
	want := overlay(data, "bob", 3)
	switch err := <-opened; {
	case errors.Is(err, ErrStale): // the kernel looks again
		n, want = mustOpen(t, bob.Vault, "A/f", true), overlay(other, "bob", 3)
	case err != nil:
		t.Fatal(err)
	case reads:
		if err := bob.Open(n, true, false); err != nil {
			t.Fatal(err)
		}
	}
	mustWriteAt(t, bob.Vault, n, "bob", 3)
	if err := bob.Fsync(n); err != nil {
		t.Fatal(err)
	}
	bob.kill(true)
	bob.wantNoAlarm()
	bob.wantHolds("A", want)
	wantSound(t, bob.Vault)
}

// wantHolds demands a file with a content in a directory.
func (d *device) wantHolds(dir string, want []byte) {
	d.f.t.Helper()
	found := false
	err := d.List(dir, true, func(i Info) error {
		n := d.mustFind(i.Path)
		found = found || i.Size == int64(len(want)) && d.content(n) == string(want[:40])
		return nil
	})
	if err != nil || !found {
		d.f.t.Fatalf("no file has what was made durable, %v: %s", err, d.list())
	}
}

// lacksRow says that a row is gone, or goes with the transaction under way.
func lacksRow(c *conn, row int64) bool {
	found, err := c.one("SELECT 1 FROM asset_attachments WHERE n=?", row)
	return err == nil && found == nil
}
