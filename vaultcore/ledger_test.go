package vaultcore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Two devices that take turns see the same files.
func TestSyncTurns(t *testing.T) {
	f := newFleet(t, "ada", "bob")
	ada, bob := f.devices[0], f.devices[1]
	ada.mkdir("Tax/2025")
	ada.write("Tax/2025/letter.txt", "dear sirs")
	ada.write("Tax/note.txt", "note")
	f.sync()
	f.want("Tax/", "Tax/2025/", "Tax/2025/letter.txt = dear sirs", "Tax/note.txt = note")
	bob.write("Tax/note.txt", "note by bob")
	bob.rename("Tax/2025/letter.txt", "Tax/letter.txt")
	f.sync()
	f.want("Tax/", "Tax/2025/", "Tax/letter.txt = dear sirs", "Tax/note.txt = note by bob")
	ada.remove("Tax/letter.txt")
	f.sync()
	f.want("Tax/", "Tax/2025/", "Tax/note.txt = note by bob")
	for _, d := range f.devices {
		wantSound(t, d.Vault)
	}
}

// The rows of the page's table of conflicts, on real vaults.
func TestConflicts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		ada, bob func(d *device)
		want     []string
	}{
		{
			"edit / edit",
			func(d *device) { d.write("A/f.txt", "ada's") }, func(d *device) { d.write("A/f.txt", "bob's") },
			[]string{"A/", "A/f.txt = bob's", "A/f (conflict ada 2026-03-01 ####).txt = ada's", "A/g.txt = g"},
		},
		{
			"edit / delete",
			func(d *device) { d.write("A/f.txt", "ada's") }, func(d *device) { d.remove("A/f.txt") },
			[]string{"A/", "A/f.txt = ada's", "A/g.txt = g"},
		},
		{
			"delete / edit",
			func(d *device) { d.remove("A/f.txt") }, func(d *device) { d.write("A/f.txt", "bob's") },
			[]string{"A/", "A/f.txt = bob's", "A/g.txt = g"},
		},
		{
			"rename / delete",
			func(d *device) { d.rename("A/f.txt", "A/n.txt") }, func(d *device) { d.remove("A/f.txt") },
			[]string{"A/", "A/n.txt = f", "A/g.txt = g"},
		},
		{
			"mode / delete",
			func(d *device) { d.chmod("A/f.txt", 0o640) }, func(d *device) { d.remove("A/f.txt") },
			[]string{"A/", "A/g.txt = g"},
		},
		{
			"delete / delete",
			func(d *device) { d.remove("A/f.txt") }, func(d *device) { d.remove("A/f.txt") },
			[]string{"A/", "A/g.txt = g"},
		},
		{
			"rename / rename",
			func(d *device) { d.rename("A/f.txt", "A/ada.txt") }, func(d *device) { d.rename("A/f.txt", "A/bob.txt") },
			[]string{"A/", "A/bob.txt = f", "A/g.txt = g"},
		},
		{
			"move / move",
			func(d *device) { d.mkdir("A/x"); d.rename("A/f.txt", "A/x/f.txt") },
			func(d *device) { d.mkdir("A/y"); d.rename("A/f.txt", "A/y/f.txt") },
			[]string{"A/", "A/x/", "A/y/", "A/y/f.txt = f", "A/g.txt = g"},
		},
		{
			"edit / rename",
			func(d *device) { d.write("A/f.txt", "ada's") }, func(d *device) { d.rename("A/f.txt", "A/n.txt") },
			[]string{"A/", "A/n.txt = ada's", "A/g.txt = g"},
		},
		{
			"create / create",
			func(d *device) { d.write("A/new.txt", "ada's") }, func(d *device) { d.write("A/new.txt", "bob's") },
			[]string{"A/", "A/f.txt = f", "A/g.txt = g", "A/new.txt = ada's", "A/new (####).txt = bob's"},
		},
		{
			"mkdir / mkdir",
			func(d *device) { d.mkdir("A/d"); d.write("A/d/1", "ada's") }, func(d *device) { d.mkdir("A/d"); d.write("A/d/2", "bob's") },
			[]string{"A/", "A/f.txt = f", "A/g.txt = g", "A/d/", "A/d/1 = ada's", "A/d/2 = bob's"},
		},
		{
			"asset deleted / file added in it",
			func(d *device) { d.remove("A/f.txt"); d.remove("A/g.txt"); d.remove("A") }, func(d *device) { d.write("A/new.txt", "bob's") },
			[]string{"A/", "A/new.txt = bob's"},
		},
		{
			"asset renamed / asset deleted",
			func(d *device) { d.remove("A/f.txt"); d.remove("A/g.txt"); d.remove("A") }, func(d *device) { d.rename("A", "B") },
			[]string{"B/"},
		},
		{
			"save by temp file and rename over",
			func(d *device) { d.write("A/f.tmp", "ada's"); d.rename("A/f.tmp", "A/f.txt") }, func(d *device) {},
			[]string{"A/", "A/f.txt = ada's", "A/g.txt = g"},
		},
		{
			"rename over / edit",
			func(d *device) { d.rename("A/g.txt", "A/f.txt") }, func(d *device) { d.write("A/f.txt", "bob's") },
			[]string{"A/", "A/f.txt = bob's", "A/f (conflict ada 2026-03-01 ####).txt = g"},
		},
		{
			"folder renamed / file in it edited",
			func(d *device) { d.mkdir("A/d"); d.rename("A/f.txt", "A/d/f.txt") }, func(d *device) { d.write("A/f.txt", "bob's") },
			[]string{"A/", "A/d/", "A/d/f.txt = bob's", "A/g.txt = g"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFleet(t, "ada", "bob")
			ada, bob := f.devices[0], f.devices[1]
			ada.mkdir("A")
			ada.write("A/f.txt", "f")
			ada.write("A/g.txt", "g")
			f.sync()
			c.ada(ada)
			ada.sealAll(SealOptions{})
			c.bob(bob)
			bob.sealAll(SealOptions{})
			f.sync()
			f.want(c.want...)
			for _, d := range f.devices {
				wantSound(t, d.Vault)
			}
		})
	}
}

func (d *device) chmod(path string, mode uint32) {
	d.f.t.Helper()
	n, err := d.Find(path)
	if err != nil {
		d.f.t.Fatal(err)
	}
	if _, err := d.SetAttr(n, SetAttr{Mode: &mode}); err != nil {
		d.f.t.Fatal(err)
	}
}

// A change from elsewhere under an open, written file: its save is an edit on
// what it was opened on, or the file is back. Readers go on with what they have.
func TestOpenFileUnderChange(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		bob  func(d *device)
		want []string
	}{
		{"edit", func(d *device) { d.write("A/f.txt", "bob's") }, []string{"A/", "A/f.txt = ada's", "A/f (conflict bob 2026-03-01 ####).txt = bob's"}},
		{"delete", func(d *device) { d.remove("A/f.txt") }, []string{"A/", "A/f.txt = ada's"}},
		{"asset deleted", func(d *device) { d.remove("A/f.txt"); d.remove("A") }, []string{"A/", "A/f.txt = ada's"}},
		{"rename", func(d *device) { d.rename("A/f.txt", "A/n.txt") }, []string{"A/", "A/n.txt = ada's"}},
	} {
		for _, end := range []string{"close", "fsync, kill", "fsync, power cut"} {
			t.Run(c.name+", "+end, func(t *testing.T) {
				f := newFleet(t, "ada", "bob")
				ada, bob := f.devices[0], f.devices[1]
				ada.mkdir("A")
				ada.write("A/f.txt", "first version")
				f.sync()
				reader, err := ada.OpenRead("A/f.txt")
				if err != nil {
					t.Fatal(err)
				}
				n := openFile(t, ada.Vault, "A/f.txt")
				if _, err := ada.WriteAt(n, []byte("ada's"), 0); err != nil {
					t.Fatal(err)
				}
				if end != "close" {
					if err := ada.Fsync(n); err != nil {
						t.Fatal(err)
					}
				}
				c.bob(bob)
				bob.push()
				ada.pull()
				reader.Close()
				switch end {
				case "close":
					closeFile(t, ada.Vault, n)
				case "fsync, kill":
					ada.kill(false)
				default:
					ada.kill(true)
				}
				f.sync()
				f.want(c.want...)
				for _, d := range f.devices {
					wantSound(t, d.Vault)
				}
			})
		}
	}
}

// Who reads a file goes on reading what it opened.
func TestReaderUnderChange(t *testing.T) {
	f := newFleet(t, "ada", "bob")
	ada, bob := f.devices[0], f.devices[1]
	ada.mkdir("A")
	ada.write("A/f.txt", "first")
	f.sync()
	n, err := ada.Find("A/f.txt")
	if err != nil {
		t.Fatal(err)
	}
	if err := ada.Open(n, false, false); err != nil {
		t.Fatal(err)
	}
	bob.write("A/f.txt", "second")
	bob.push()
	ada.pull()
	ada.want("A/", "A/f.txt = second")
	buf := make([]byte, 5)
	if _, err := ada.ReadAt(n, buf, 0); err != nil || string(buf) != "first" {
		t.Fatalf("an open file reads %q, %v", buf, err)
	}
	ada.Release(n, false)
	f.sync()
	f.want("A/", "A/f.txt = second")
}

// A content that is neither here nor on the remote shows the one before, under
// the new name; a save over that is a branch of its own.
func TestPending(t *testing.T) {
	f := newFleet(t, "ada", "bob")
	ada, bob := f.devices[0], f.devices[1]
	ada.mkdir("A")
	ada.write("A/f.txt", "first")
	f.sync()
	ada.write("A/f.txt", "second")
	ada.sealAll(SealOptions{})
	ada.rename("A/f.txt", "A/n.txt")
	ada.write("A/new.txt", "new")
	ada.sealAll(SealOptions{})
	ada.pushBatches()
	bob.pull()
	bob.want("A/", "A/n.txt = first", "A/new.txt = (not here)")
	bob.reopen()
	bob.want("A/", "A/n.txt = first", "A/new.txt = (not here)")
	bob.write("A/n.txt", "bob's")
	bob.push()
	ada.pushBlobs()
	bob.pull()
	f.sync()
	f.want("A/", "A/n.txt = bob's", "A/n (conflict ada 2026-03-01 ####).txt = second", "A/new.txt = new")
}

// A kill or a power cut between any two steps keeps every acknowledged save and
// shows no half.
func TestKillBetweenSyncSteps(t *testing.T) {
	t.Parallel()
	for _, power := range []bool{false, true} {
		f := newFleet(t, "ada", "bob")
		ada, bob := f.devices[0], f.devices[1]
		ada.mkdir("A")
		ada.write("A/f.txt", "f")
		f.sync()
		ada.write("A/f.txt", "ada's")
		if power {
			if err := ada.Barrier(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		ada.kill(power)
		ada.sealAll(SealOptions{})
		ada.kill(power)
		ada.pushBatches()
		ada.kill(power)
		bob.write("A/f.txt", "bob's")
		if power {
			if err := bob.Barrier(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		bob.kill(power)
		bob.pullBatches()
		bob.kill(power)
		bob.pull()
		ada.pushBlobs()
		ada.kill(power)
		bob.pullBlobs()
		bob.kill(power)
		f.sync()
		f.want("A/", "A/f.txt = bob's", "A/f (conflict ada 2026-03-01 ####).txt = ada's")
		for _, d := range f.devices {
			wantSound(t, d.Vault)
		}
	}
}

// A temporary file that lived between two batches is never published.
func TestShortLife(t *testing.T) {
	f := newFleet(t, "ada", "bob")
	ada := f.devices[0]
	ada.mkdir("A")
	f.sync()
	before, _ := ada.Heads(t.Context())
	ada.write("A/tmp", "x")
	ada.write("A/.~lock.f#", "scratch")
	ada.remove("A/tmp")
	b, _, err := ada.Seal(t.Context(), SealOptions{})
	if err != nil || b != nil {
		t.Fatalf("sealed %v, %v", b, err)
	}
	if after, _ := ada.Heads(t.Context()); after[ada.DeviceID()] != before[ada.DeviceID()] {
		t.Fatal("the chain went on")
	}
}

// Work on a shown conflict copy is a normal op on its branch.
func TestWorkOnCopy(t *testing.T) {
	f := newFleet(t, "ada", "bob")
	ada, bob := f.devices[0], f.devices[1]
	ada.mkdir("A")
	ada.write("A/f.txt", "f")
	f.sync()
	ada.write("A/f.txt", "ada's")
	ada.sealAll(SealOptions{})
	bob.write("A/f.txt", "bob's")
	f.sync()
	copyName := ""
	for name := range func(yield func(string) bool) {
		a, _ := ada.AssetByTitle("A")
		ada.ReadDir(a, 0, func(e *DirEntry) bool { return yield(e.Name) })
	} {
		if name != "f.txt" {
			copyName = name
		}
	}
	ada.write("A/"+copyName, "ada's, again")
	f.sync()
	f.want("A/", "A/f.txt = bob's", "A/f (conflict ada 2026-03-01 ####).txt = ada's, again")
	bob.remove("A/f.txt")
	f.sync()
	f.want("A/", "A/f.txt = ada's, again")
	ada.rename("A/f.txt", "A/g.txt")
	f.sync()
	f.want("A/", "A/g.txt = ada's, again")
}

// Restoring what a deletion is published of gives it a new id.
func TestRestorePublished(t *testing.T) {
	f := newFleet(t, "ada", "bob")
	ada, bob := f.devices[0], f.devices[1]
	ada.mkdir("A")
	ada.write("A/f.txt", "f")
	f.sync()
	ada.remove("A/f.txt")
	f.sync()
	f.want("A/")
	if _, err := bob.RestoreTrash("A/f.txt"); err != nil {
		t.Fatal(err)
	}
	f.sync()
	f.want("A/", "A/f.txt = f")
}

// Three devices, batches in any order and repeated.
func TestThreeDevices(t *testing.T) {
	f := newFleet(t, "ada", "bob", "eve")
	ada, bob, eve := f.devices[0], f.devices[1], f.devices[2]
	ada.mkdir("A")
	ada.write("A/f.txt", "f")
	f.sync()
	ada.write("A/f.txt", "ada's")
	bob.write("A/f.txt", "bob's")
	eve.write("A/f.txt", "eve's")
	for _, d := range f.devices {
		d.sealAll(SealOptions{})
	}
	f.sync()
	f.want("A/", "A/f.txt = eve's", "A/f (conflict ada 2026-03-01 ####).txt = ada's", "A/f (conflict bob 2026-03-01 ####).txt = bob's")
	late := f.join(ada, "late")
	late.pull()
	late.want("A/", "A/f.txt = eve's", "A/f (conflict ada 2026-03-01 ####).txt = ada's", "A/f (conflict bob 2026-03-01 ####).txt = bob's")
}

// A kill between a batch and the tree it changes.
func TestKillBehindBatch(t *testing.T) {
	f := newFleet(t, "ada", "bob")
	ada, bob := f.devices[0], f.devices[1]
	ada.mkdir("A")
	ada.write("A/f.txt", "f")
	f.sync()
	n := openFile(t, ada.Vault, "A/f.txt")
	if _, err := ada.WriteAt(n, []byte("ada's"), 0); err != nil {
		t.Fatal(err)
	}
	bob.write("A/f.txt", "bob's")
	bob.push()
	ada.pull()
	closeFile(t, ada.Vault, n)
	l, err := ada.lockLedger(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.hashDirty(t.Context(), SealOptions{all: true}); err != nil {
		t.Fatal(err)
	}
	ada.ns.Lock()
	s, err := l.sealNext(SealOptions{})
	ada.ns.Unlock()
	l.mu.Unlock()
	if err != nil || s == nil {
		t.Fatal(s, err)
	}
	ada.kill(false)
	ada.pushBatches() // waits for the ledger
	ada.want("A/", "A/f.txt = ada's", "A/f (conflict bob 2026-03-01 ####).txt = bob's")
	f.sync()
	f.want("A/", "A/f.txt = ada's", "A/f (conflict bob 2026-03-01 ####).txt = bob's")
}

// Rows that changed too lately wait for the next batch, and a batch has its
// bounds.
func TestSealBounds(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "ada", "bob")
	ada := f.devices[0]
	ada.mkdir("A")
	for i := range 700 {
		ada.write("A/"+string(rune('a'+i%26))+string(rune('a'+i/26)), "x")
	}
	before := f.now()
	ada.write("A/late", "late")
	b, more, err := ada.Seal(t.Context(), SealOptions{Before: before})
	if err != nil || b == nil || !more || len(b.Bytes) > 2*seal.BatchTarget {
		t.Fatal(b == nil, more, err)
	}
	ada.sealAll(SealOptions{Before: before})
	if n := ada.mustFind("A/late"); n.rev() != 0 {
		t.Fatal("sealed too early")
	}
	f.sync()
	f.devices[1].mustFind("A/late")
}

// A vault where it is off has no ledger, and says so.
func TestLedgerOff(t *testing.T) {
	v := newTestVault(t)
	if _, _, err := v.Seal(t.Context(), SealOptions{}); !errors.Is(err, ErrLedgerOff) {
		t.Fatal(err)
	}
	if v.LedgerOn() {
		t.Fatal("on")
	}
}

// Programs go on while batches are sealed and received; in the end all devices
// agree, what they show is there, and nothing is damaged.
func TestSyncUnderWork(t *testing.T) {
	f := newFleet(t, "ada", "bob")
	f.devices[0].mkdir("A/d")
	f.sync()
	var wg sync.WaitGroup
	done := make(chan struct{})
	for _, d := range f.devices {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r := rand.New(rand.NewPCG(1, uint64(len(d.name))))
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				d.workOnce(r, i)
			}
		}()
	}
	for range 12 {
		for _, d := range f.devices {
			d.push()
			d.pull()
		}
	}
	close(done)
	wg.Wait()
	f.sync()
	for _, d := range f.devices {
		d.wantAllHere()
		wantSound(t, d.Vault)
	}
}

// workOnce does one thing a program may do; what it meets may be gone.
func (d *device) workOnce(r *rand.Rand, i int) {
	a, err := d.AssetByTitle("A")
	if err != nil {
		return
	}
	name := func() string { return fmt.Sprint("f", r.IntN(6)) }
	switch r.IntN(8) {
	case 0:
		d.Unlink(a, name())
	case 1:
		d.Rename(a, name(), a, name(), 0)
	case 2:
		if n, _, err := d.Lookup(a, name()); err == nil {
			mode := uint32(0o600 + r.IntN(2)*0o40)
			d.SetAttr(n, SetAttr{Mode: &mode})
		}
	default:
		s := name()
		n, _, err := d.Lookup(a, s)
		if err == nil {
			err = d.Open(n, true, r.IntN(2) == 0)
		} else {
			n, _, err = d.Create(a, s, 0o600)
		}
		if err != nil {
			return
		}
		d.WriteAt(n, []byte(fmt.Sprint(d.name, " ", i)), int64(r.IntN(3)))
		if r.IntN(4) == 0 {
			d.Fsync(n)
		}
		if err := d.Flush(n); err != nil {
			d.f.t.Errorf("%s: close: %v", d.name, err)
		}
		d.Release(n, true)
	}
}
