package vaultcore

import (
	"io"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// waitingFile gives a file of which bob shows the first version, while ada's
// second one, whose record bob has, is on its way.
func waitingFile(t *testing.T) (f *fleet, ada, bob *device) {
	t.Helper()
	f = newFleet(t, "ada", "bob")
	ada, bob = f.devices[0], f.devices[1]
	ada.mkdir("A")
	ada.mkdir("B")
	ada.write("A/f.txt", "first")
	ada.write("A/o.txt", "other")
	f.sync()
	ada.write("A/f.txt", "second")
	ada.sealAll(SealOptions{})
	ada.pushBatches()
	bob.pull()
	bob.want("A/", "A/f.txt = first", "A/o.txt = other", "B/")
	return f, ada, bob
}

// blobOf is the content of a file.
func (d *device) blobOf(path string) seal.ID {
	d.f.t.Helper()
	n, err := d.Find(path)
	if err != nil {
		d.f.t.Fatal(err)
	}
	return n.content.ref.blob
}

// What nobody saw is not replaced, however what was saved over it and its own
// bytes meet.
func TestSaveOverWaitingContent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		play func(ada, bob *device)
	}{
		{"seen on the remote before sealing", func(ada, bob *device) {
			bob.write("A/f.txt", "bob's")
			if err := bob.Found(t.Context(), []seal.ID{ada.blobOf("A/f.txt")}); err != nil {
				t.Fatal(err)
			}
		}},
		{"said to be sent before sealing", func(ada, bob *device) {
			bob.write("A/f.txt", "bob's")
			ada.pushBlobs()
			bob.pullBatches()
		}},
		{"come before sealing", func(ada, bob *device) {
			bob.write("A/f.txt", "bob's")
			ada.pushBlobs()
			bob.pullBlobs()
		}},
		{"come while the file was open", func(ada, bob *device) {
			n := openFile(t, bob.Vault, "A/f.txt")
			if _, err := bob.WriteAt(n, []byte("bob's"), 0); err != nil {
				t.Fatal(err)
			}
			ada.pushBlobs()
			bob.pull()
			closeFile(t, bob.Vault, n)
		}},
		{"come while a kept draft waits for its process", func(ada, bob *device) {
			n := openFile(t, bob.Vault, "A/f.txt")
			if _, err := bob.WriteAt(n, []byte("bob's"), 0); err != nil {
				t.Fatal(err)
			}
			if err := bob.Fsync(n); err != nil {
				t.Fatal(err)
			}
			ada.pushBlobs()
			bob.pull()
			bob.kill(false)
		}},
		{"the target of a rename", func(ada, bob *device) {
			bob.write("A/tmp", "bob's")
			bob.rename("A/tmp", "A/f.txt")
			if err := bob.Found(t.Context(), []seal.ID{ada.blobOf("A/f.txt")}); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, ada, bob := waitingFile(t)
			c.play(ada, bob)
			f.sync()
			f.want("A/", "A/f.txt = bob's", "A/f (conflict ada 2026-03-01 ####).txt = second", "A/o.txt = other", "B/")
			for _, d := range f.devices {
				wantSound(t, d.Vault)
			}
		})
	}
}

// A new name, place or mode of a file whose newest content is pending is one of
// that content, and a move of what is shown leaves it where it is.
func TestChangeWaitingFile(t *testing.T) {
	t.Parallel()
	exchange := func(t *testing.T, d *device) {
		dir, _, err := d.parentOf("A/f.txt")
		if err == nil {
			err = d.Rename(dir, "f.txt", dir, "o.txt", RenameExchange)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		play func(t *testing.T, d *device)
		want []string
	}{
		{"rename", func(_ *testing.T, d *device) { d.rename("A/f.txt", "A/n.txt") }, []string{"A/n.txt = second", "A/o.txt = other"}},
		{"move", func(_ *testing.T, d *device) { d.rename("A/f.txt", "B/n.txt") }, []string{"A/o.txt = other", "B/n.txt = second"}},
		{"exchange", exchange, []string{"A/f.txt = other", "A/o.txt = second"}},
		{"chmod", func(_ *testing.T, d *device) { d.chmod("A/f.txt", 0o600) }, []string{"A/f.txt = second", "A/o.txt = other"}},
		{"rename, then save", func(_ *testing.T, d *device) { d.rename("A/f.txt", "A/n.txt"); d.write("A/n.txt", "bob's") },
			[]string{"A/f.txt = second", "A/n.txt = bob's", "A/o.txt = other"}},
		{"rename, sealed, then save", func(_ *testing.T, d *device) {
			d.rename("A/f.txt", "A/n.txt")
			d.sealAll(SealOptions{})
			d.kill(false)
			d.write("A/n.txt", "bob's")
		}, []string{"A/n (conflict ada 2026-03-01 ####).txt = second", "A/n.txt = bob's", "A/o.txt = other"}},
		{"over another", func(_ *testing.T, d *device) { d.rename("A/f.txt", "A/o.txt") }, []string{"A/f.txt = second", "A/o.txt = first"}},
		{"save over another", func(_ *testing.T, d *device) {
			d.write("A/f.txt", "bob's")
			d.rename("A/f.txt", "A/o.txt")
		}, []string{"A/f.txt = second", "A/o.txt = bob's"}},
		{"over another, and deleted", func(_ *testing.T, d *device) {
			d.rename("A/f.txt", "A/o.txt")
			d.remove("A/o.txt")
		}, []string{"A/f.txt = second"}},
	} {
		for _, found := range []string{"sealed before it comes", "seen before it is sealed"} {
			t.Run(c.name+", "+found, func(t *testing.T) {
				f, ada, bob := waitingFile(t)
				c.play(t, bob)
				if found == "seen before it is sealed" {
					if err := bob.Found(t.Context(), []seal.ID{ada.blobOf("A/f.txt")}); err != nil {
						t.Fatal(err)
					}
				}
				bob.push()
				bob.pull()
				f.sync()
				f.want(append(c.want, "A/", "B/")...)
				for _, d := range f.devices {
					wantSound(t, d.Vault)
				}
			})
		}
	}
}

// Who deletes a file ends it with what is pending of it, which its author has in
// the trash.
func TestDeleteWaitingFile(t *testing.T) {
	f, ada, bob := waitingFile(t)
	bob.remove("A/f.txt")
	bob.push()
	f.sync()
	f.want("A/", "A/o.txt = other", "B/")
	entries, err := ada.Trash()
	if err != nil || len(entries) != 1 {
		t.Fatalf("in the trash: %v, %v", entries, err)
	}
	r, err := ada.OpenTrash(entries[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if b, err := io.ReadAll(r); err != nil || string(b) != "second" {
		t.Fatalf("in the trash: %q, %v", b, err)
	}
}

// A content that two files show, and that is not sent yet, is sent also when one
// of them is saved, deleted or moved over meanwhile.
func TestUnsentContentOfTwoFiles(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		play func(d *device)
	}{
		{"save", func(d *device) { d.write("A/g", "later") }},
		{"delete", func(d *device) { d.remove("A/g") }},
		{"rename over", func(d *device) { d.write("A/t", "later"); d.rename("A/t", "A/g") }},
		{"delete, then forgotten", func(d *device) {
			d.remove("A/g")
			if _, _, err := d.EmptyTrash(nil); err != nil {
				d.f.t.Fatal(err)
			}
			d.sealAll(SealOptions{})
			d.clockOn(40 * 24 * time.Hour)
			if err := d.tidyKept(d.f.t.Context()); err != nil {
				d.f.t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFleet(t, "ada", "bob")
			ada, bob := f.devices[0], f.devices[1]
			ada.mkdir("A")
			ada.write("A/f", "old")
			ada.write("A/g", "other")
			f.sync()
			ada.write("A/f", "new")
			ada.sealAll(SealOptions{})
			ada.pushBatches()
			bob.pullBatches()
			bob.rename("A/f", "A/h") // what is not there yet goes along
			bob.sealAll(SealOptions{})
			bob.pushBatches()
			ada.rename("A/f", "A/g")
			ada.sealAll(SealOptions{})
			ada.pullBatches()
			ada.want("A/", "A/g = new", "A/h = new")
			c.play(ada)
			f.sync()
			bob.wantShows("A/h = new")
		})
	}
}

func (d *device) clockOn(by time.Duration) { d.f.clock.Add(by.Milliseconds()) }
