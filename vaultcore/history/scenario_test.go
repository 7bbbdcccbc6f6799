package history

import (
	"slices"
	"strings"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// TestConflicts has a scenario for every row of the conflict rules. Ada and Bob
// start with the same files (unless the scenario starts from nothing), act
// without hearing of each other, in the order told, and then sync.
func TestConflicts(t *testing.T) {
	type acts func(w *world, ada, bob *drive)
	base := func(w *world, ada, bob *drive) {
		ada.mkdirAsset("Tax") // 1d01
		ada.create("Tax/note.txt", "first")
	}
	for name, c := range map[string]struct {
		before acts
		apart  acts
		after  acts // once they have synced; they sync again
		want   string
	}{
		"edit, edit: the later keeps the name": {before: base,
			apart: func(w *world, ada, bob *drive) {
				ada.write("Tax/note.txt", "ada's")
				bob.write("Tax/note.txt", "bob's")
			},
			want: `
				Tax/
				Tax/note (conflict ada 2026-03-01 a003).txt: ada's
				Tax/note.txt: bob's`},
		"edit, edit by a clock a day ahead": {before: base,
			apart: func(w *world, ada, bob *drive) {
				ada.skew = 24 * 3600 * 1000
				ada.write("Tax/note.txt", "ada's")
				bob.write("Tax/note.txt", "bob's")
			},
			want: `
				Tax/
				Tax/note (conflict bob 2026-03-01 b001).txt: bob's
				Tax/note.txt: ada's`},
		"edit, edit: later edits on the other branch do not take the name": {before: base,
			apart: func(w *world, ada, bob *drive) {
				ada.write("Tax/note.txt", "ada's")
				bob.write("Tax/note.txt", "bob's")
				ada.write("Tax/note.txt", "ada's second")
			},
			want: `
				Tax/
				Tax/note (conflict ada 2026-03-01 a003).txt: ada's second
				Tax/note.txt: bob's`},
		"edit, delete: the edit survives": {before: base,
			apart: func(w *world, ada, bob *drive) {
				ada.write("Tax/note.txt", "ada's")
				bob.rm("Tax/note.txt")
			},
			want: `
				Tax/
				Tax/note.txt: ada's`},
		"rename, delete: the rename survives": {before: base,
			apart: func(w *world, ada, bob *drive) {
				bob.rm("Tax/note.txt")
				ada.rename("Tax/note.txt", "kept.txt")
			},
			want: `
				Tax/
				Tax/kept.txt: first`},
		"mtime, delete: deleted": {before: base,
			apart: func(w *world, ada, bob *drive) {
				bob.rm("Tax/note.txt")
				ada.touch("Tax/note.txt", 5)
				ada.chmod("Tax/note.txt", 0o400)
			},
			want: `
				Tax/`},
		"mode and then an edit, delete: the edit survives": {before: base,
			apart: func(w *world, ada, bob *drive) {
				bob.rm("Tax/note.txt")
				ada.chmod("Tax/note.txt", 0o400)
				ada.write("Tax/note.txt", "ada's")
				ada.chmod("Tax/note.txt", 0o600)
			},
			want: `
				Tax/
				Tax/note.txt: ada's`},
		"sealed anew without a change, delete: deleted": {before: base,
			apart: func(w *world, ada, bob *drive) {
				bob.rm("Tax/note.txt")
				f := ada.file("Tax/note.txt")
				ada.put(f.id, f.Base, func(*Record) {}, f.File)
				a, _ := ada.asset("Tax")
				bob.rmAsset("Tax")
				ada.retitle(a.Name, a.Title)
			},
			want: ``},
		"delete, delete: deleted": {before: base,
			apart: func(w *world, ada, bob *drive) {
				bob.rm("Tax/note.txt")
				ada.rm("Tax/note.txt")
			},
			want: `
				Tax/`},
		"rename, rename: the later name": {before: base,
			apart: func(w *world, ada, bob *drive) {
				bob.rename("Tax/note.txt", "bob.txt")
				ada.rename("Tax/note.txt", "ada.txt")
			},
			want: `
				Tax/
				Tax/ada.txt: first`},
		"move, move: the later place": {
			before: func(w *world, ada, bob *drive) {
				base(w, ada, bob)
				ada.mkdirAsset("A")
				ada.mkdirAsset("B")
			},
			apart: func(w *world, ada, bob *drive) {
				ada.move("Tax/note.txt", "A")
				bob.move("Tax/note.txt", "B")
			},
			want: `
				A/
				B/
				B/note.txt: first
				Tax/`},
		"move, rename: both": {
			before: func(w *world, ada, bob *drive) {
				base(w, ada, bob)
				ada.mkdirAsset("A")
			},
			apart: func(w *world, ada, bob *drive) {
				ada.move("Tax/note.txt", "A")
				bob.rename("Tax/note.txt", "new.txt")
			},
			want: `
				A/
				A/new.txt: first
				Tax/`},
		"edit, rename: one file": {before: base,
			apart: func(w *world, ada, bob *drive) {
				ada.write("Tax/note.txt", "ada's")
				bob.rename("Tax/note.txt", "new.txt")
			},
			want: `
				Tax/
				Tax/new.txt: ada's`},
		"edit, rename, and then an edit of the one file": {before: base,
			apart: func(w *world, ada, bob *drive) {
				ada.write("Tax/note.txt", "ada's")
				bob.rename("Tax/note.txt", "new.txt")
			},
			after: func(w *world, ada, bob *drive) {
				bob.write("Tax/new.txt", "bob's")
			},
			want: `
				Tax/
				Tax/new.txt: bob's`},
		"edit, rename, and then a delete of the one file": {before: base,
			apart: func(w *world, ada, bob *drive) {
				bob.rename("Tax/note.txt", "new.txt")
				ada.write("Tax/note.txt", "ada's")
			},
			after: func(w *world, ada, bob *drive) { ada.rm("Tax/new.txt") },
			want: `
				Tax/`},
		"edit, edit, rename: the name goes to the main file": {before: base,
			apart: func(w *world, ada, bob *drive) {
				ada.write("Tax/note.txt", "ada's")
				cyd := w.device("cyd")
				cyd.rename("Tax/note.txt", "new.txt")
				bob.write("Tax/note.txt", "bob's")
			},
			want: `
				Tax/
				Tax/new.txt: bob's
				Tax/note.txt: ada's`},
		"create, create: the earlier born keeps the name": {
			before: func(w *world, ada, bob *drive) { ada.mkdirAsset("Tax") },
			apart: func(w *world, ada, bob *drive) {
				bob.create("Tax/list.tar.gz", "bob's") // 1d02
				ada.create("Tax/list.tar.gz", "ada's") // 1d03
				ada.create("Tax/.rc", "ada's")
				bob.create("Tax/.rc", "bob's") // 1d05
			},
			want: `
				Tax/
				Tax/.rc (1d05): bob's
				Tax/.rc: ada's
				Tax/list.tar (1d03).gz: ada's
				Tax/list.tar.gz: bob's`},
		"create, create: names of other bytes are other names": {
			before: func(w *world, ada, bob *drive) { ada.mkdirAsset("Tax") },
			apart: func(w *world, ada, bob *drive) {
				bob.create("Tax/a", "bob's")
				ada.create("Tax/A", "ada's")
			},
			want: `
				Tax/
				Tax/A: ada's
				Tax/a: bob's`},
		"create, create in a folder: the last component is told apart": {
			before: func(w *world, ada, bob *drive) { ada.mkdirAsset("Tax") },
			apart: func(w *world, ada, bob *drive) {
				bob.create("Tax/2025/may.d/x.pdf", "bob's")
				ada.create("Tax/2025/may.d/x.pdf", "ada's") // 1d03
			},
			want: `
				Tax/
				Tax/2025/may.d/x (1d03).pdf: ada's
				Tax/2025/may.d/x.pdf: bob's`},
		"folder, file: the folder keeps the name": {
			before: func(w *world, ada, bob *drive) { ada.mkdirAsset("Tax") },
			apart: func(w *world, ada, bob *drive) {
				ada.create("Tax/2025", "ada's") // 1d02
				bob.create("Tax/2025/x.pdf", "bob's")
				ada.create("Tax/empty", "ada's too") // 1d04
				bob.create("Tax/empty/", "")
			},
			want: `
				Tax/
				Tax/2025 (1d02): ada's
				Tax/2025/x.pdf: bob's
				Tax/empty (1d04): ada's too
				Tax/empty/`},
		"folder, folder: one": {
			before: func(w *world, ada, bob *drive) { ada.mkdirAsset("Tax") },
			apart: func(w *world, ada, bob *drive) {
				ada.create("Tax/2025/", "")
				ada.create("Tax/2025/a", "ada's")
				bob.create("Tax/2025/", "")
				bob.create("Tax/2025/b", "bob's")
			},
			want: `
				Tax/
				Tax/2025/
				Tax/2025/a: ada's
				Tax/2025/b: bob's`},
		"two assets of one title": {
			apart: func(w *world, ada, bob *drive) {
				ada.mkdirAsset("Car") // 1d01
				bob.mkdirAsset("Car") // 1d02
				ada.create("Car/a", "ada's")
				bob.create("Car/b", "bob's")
			},
			want: `
				Car (1d02)/
				Car (1d02)/b: bob's
				Car/
				Car/a: ada's`},
		"asset deleted, file added in it: recovered": {before: base,
			apart: func(w *world, ada, bob *drive) {
				ada.rmAsset("Tax")
				bob.create("Tax/more.txt", "bob's")
			},
			want: `
				Tax/ recovered
				Tax/more.txt: bob's`},
		"asset deleted, file changed in it: recovered": {before: base,
			apart: func(w *world, ada, bob *drive) {
				bob.write("Tax/note.txt", "bob's")
				ada.rmAsset("Tax")
			},
			want: `
				Tax/ recovered
				Tax/note.txt: bob's`},
		"recovered, and its last file deleted: gone": {before: base,
			apart: func(w *world, ada, bob *drive) {
				bob.write("Tax/note.txt", "bob's")
				ada.rmAsset("Tax")
			},
			after: func(w *world, ada, bob *drive) { ada.rm("Tax/note.txt") },
			want:  ``},
		"recovered, and given a title: alive": {before: base,
			apart: func(w *world, ada, bob *drive) {
				bob.write("Tax/note.txt", "bob's")
				ada.rmAsset("Tax")
			},
			after: func(w *world, ada, bob *drive) { ada.retitle("Tax", "Tax again") },
			want: `
				Tax again/
				Tax again/note.txt: bob's`},
		"asset changed, asset deleted: stays": {
			before: func(w *world, ada, bob *drive) { ada.mkdirAsset("Tax") },
			apart: func(w *world, ada, bob *drive) {
				ada.rmAsset("Tax")
				bob.retitle("Tax", "Taxes")
			},
			want: `
				Taxes/`},
		"asset renamed twice: the later title": {
			before: func(w *world, ada, bob *drive) { ada.mkdirAsset("Tax") },
			apart: func(w *world, ada, bob *drive) {
				ada.retitle("Tax", "Ada's")
				bob.retitle("Tax", "Bob's")
			},
			want: `
				Bob's/`},
		"change under an open file: its save is a conflict copy": {before: base,
			apart: func(w *world, ada, bob *drive) {
				opened := ada.file("Tax/note.txt")
				bob.write("Tax/note.txt", "bob's") // b001
				w.sync()
				ada.save(opened, "ada's")
			},
			want: `
				Tax/
				Tax/note (conflict bob 2026-03-01 b001).txt: bob's
				Tax/note.txt: ada's`},
		"delete under an open file: the file is back": {before: base,
			apart: func(w *world, ada, bob *drive) {
				opened := ada.file("Tax/note.txt")
				bob.rm("Tax/note.txt")
				w.sync()
				ada.save(opened, "ada's")
			},
			want: `
				Tax/
				Tax/note.txt: ada's`},
		"work on a copy is work on its branch": {before: base,
			apart: func(w *world, ada, bob *drive) {
				ada.write("Tax/note.txt", "ada's")
				bob.write("Tax/note.txt", "bob's")
			},
			after: func(w *world, ada, bob *drive) {
				bob.write("Tax/note (conflict ada 2026-03-01 a003).txt", "bob on ada's")
			},
			want: `
				Tax/
				Tax/note (conflict ada 2026-03-01 a003).txt: bob on ada's
				Tax/note.txt: bob's`},
		"a copy renamed loses the suffix": {before: base,
			apart: func(w *world, ada, bob *drive) {
				ada.write("Tax/note.txt", "ada's")
				bob.write("Tax/note.txt", "bob's")
			},
			after: func(w *world, ada, bob *drive) {
				bob.rename("Tax/note (conflict ada 2026-03-01 a003).txt", "mine.txt")
			},
			want: `
				Tax/
				Tax/mine.txt: ada's
				Tax/note.txt: bob's`},
		"a copy deleted leaves the main file": {before: base,
			apart: func(w *world, ada, bob *drive) {
				ada.write("Tax/note.txt", "ada's")
				bob.write("Tax/note.txt", "bob's")
			},
			after: func(w *world, ada, bob *drive) {
				bob.rm("Tax/note (conflict ada 2026-03-01 a003).txt")
			},
			want: `
				Tax/
				Tax/note.txt: bob's`},
		"main deleted: the copy moves up": {before: base,
			apart: func(w *world, ada, bob *drive) {
				ada.write("Tax/note.txt", "ada's")
				bob.write("Tax/note.txt", "bob's")
			},
			after: func(w *world, ada, bob *drive) { ada.rm("Tax/note.txt") },
			want: `
				Tax/
				Tax/note.txt: ada's`},
		"main renamed: the copy moves up": {before: base,
			apart: func(w *world, ada, bob *drive) {
				ada.write("Tax/note.txt", "ada's")
				bob.write("Tax/note.txt", "bob's")
			},
			after: func(w *world, ada, bob *drive) { ada.rename("Tax/note.txt", "main.txt") },
			want: `
				Tax/
				Tax/main.txt: bob's
				Tax/note.txt: ada's`},
		"a copy of a copy": {before: base,
			apart: func(w *world, ada, bob *drive) {
				ada.write("Tax/note.txt", "ada's")
				bob.write("Tax/note.txt", "bob's")
			},
			after: func(w *world, ada, bob *drive) {
				ada.write("Tax/note (conflict ada 2026-03-01 a003).txt", "ada's 2")
				bob.write("Tax/note (conflict ada 2026-03-01 a003).txt", "bob on ada's")
			},
			want: `
				Tax/
				Tax/note (conflict ada 2026-03-01 a003).txt: bob on ada's
				Tax/note (conflict ada 2026-03-01 a004).txt: ada's 2
				Tax/note.txt: bob's`},
		"save by temporary file and rename over": {before: base,
			apart: func(w *world, ada, bob *drive) {
				tmp := ada.create("Tax/note.tmp", "saved")
				f := ada.file("Tax/note.tmp")
				ada.seal(func(*batch) {
					target := ada.file("Tax/note.txt")
					ada.put(target.id, target.Base, func(r *Record) { r.Blob = f.Blob }, target.File)
					ada.rmSeen(seen{tmp, f.File})
				})
			},
			want: `
				Tax/
				Tax/note.txt: saved`},
		"three branches of one name in a clash": {
			before: func(w *world, ada, bob *drive) {
				ada.mkdirAsset("Tax")
				ada.create("Tax/a", "first") // 1d02
				ada.create("Tax/b", "other") // 1d03
			},
			apart: func(w *world, ada, bob *drive) {
				ada.write("Tax/b", "ada's")
				bob.write("Tax/b", "bob's")
			},
			after: func(w *world, ada, bob *drive) { ada.rename("Tax/a", "b") },
			want: `
				Tax/
				Tax/b (1d03): bob's
				Tax/b (conflict ada 2026-03-01 a004): ada's
				Tax/b: first`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "ada", "bob", "cyd")
			ada, bob := w.devices[0], w.devices[1]
			for _, act := range []acts{c.before, c.apart, c.after} {
				if act != nil {
					act(w, ada, bob)
				}
				w.sync()
			}
			w.sync()
			for _, d := range w.devices {
				checkList(t, d, c.want)
			}
			checkOrders(t, w, 20)
		})
	}
}

func checkList(t *testing.T, d *drive, want string) {
	t.Helper()
	var lines []string
	for _, l := range strings.Split(want, "\n") {
		if l = strings.TrimSpace(l); l != "" {
			lines = append(lines, l)
		}
	}
	slices.Sort(lines)
	if got := d.list(); !slices.Equal(got, lines) {
		t.Errorf("%s sees\n%s\nwant\n%s", d.name, strings.Join(got, "\n"), strings.Join(lines, "\n"))
	}
}

// TestTwiceIsOnce: the same content twice, a batch sent twice, one row adopted
// by two devices are nothing.
func TestTwiceIsOnce(t *testing.T) {
	w := newWorld(t, "ada", "bob")
	ada, bob := w.devices[0], w.devices[1]
	asset := ada.mkdirAsset("Tax")
	w.sync()
	row := Record{ID: w.newID(), Digest: Digest{7}, Rev: 1, Parent: Parent{3, asset}, Name: "scan.pdf", Blob: w.newBlob("scan")}
	for _, d := range w.devices {
		d.seal(func(b *batch) {
			row.At = b.at
			b.ops.Records = append(b.ops.Records, row)
		})
	}
	w.sync()
	for _, d := range w.devices {
		d.h.Add(ada.log[len(ada.log)-1].ops)
		checkList(t, d, `
			Tax/
			Tax/scan.pdf: scan`)
	}
	checkOrders(t, w, 20)
	// The earlier author is revoked: the record is still the other's.
	bob.h.Revoke(ada.id, 2)
	checkList(t, bob, `
		Tax/
		Tax/scan.pdf: scan`)
	if n := len(bob.h.files[row.ID].versions); n != 1 {
		t.Errorf("%d versions left, want 1", n)
	}
}

// TestRevoked: work on what a revocation took back lives as its own branch.
func TestRevoked(t *testing.T) {
	w := newWorld(t, "ada", "bob", "eve")
	ada, bob, eve := w.devices[0], w.devices[1], w.devices[2]
	ada.mkdirAsset("Tax")
	ada.create("Tax/note.txt", "first")
	w.sync()
	cut := uint64(len(eve.log))
	eve.write("Tax/note.txt", "eve's")
	eve.create("Tax/eve.txt", "eve's own")
	w.sync()
	bob.write("Tax/note.txt", "bob on eve's")
	w.sync()
	for _, d := range []*drive{ada, bob} {
		changed := d.h.Revoke(eve.id, cut)
		if len(changed.Attachments) != 2 {
			t.Errorf("revoking changed %d attachments, want 2", len(changed.Attachments))
		}
		checkList(t, d, `
			Tax/
			Tax/note (conflict ada 2026-03-01 a002).txt: first
			Tax/note.txt: bob on eve's`)
	}
	var ops []batch
	for _, b := range w.all() {
		if b.at.Device != eve.id || b.at.Seq <= cut {
			ops = append(ops, b)
		}
	}
	fresh := New()
	for _, b := range ops {
		fresh.Add(b.ops)
	}
	if got, want := dump(bob.h), dump(fresh); got != want {
		t.Errorf("after revoking\n%s\nwithout the ops\n%s", got, want)
	}
}

// TestLateParent: a record whose prev has not come is a branch of its own, until
// it comes; an asset whose record has not come is shown recovered.
func TestLateParent(t *testing.T) {
	w := newWorld(t, "ada", "bob")
	ada, bob := w.devices[0], w.devices[1]
	id := ada.mkdirAsset("Tax")
	ada.create("Tax/note.txt", "first")
	ada.write("Tax/note.txt", "second")
	ada.write("Tax/note.txt", "third")
	ops := ada.log[1:]
	bob.h.Add(ops[1].ops)
	bob.h.Add(ops[3].ops)
	unnamed := RecoveredTitle(id)
	checkList(t, bob, unnamed+"/ recovered\n"+
		unnamed+"/note (conflict ada 2026-03-01 a002).txt: first\n"+
		unnamed+"/note.txt: third")
	bob.h.Add(ops[2].ops)
	checkList(t, bob, unnamed+"/ recovered\n"+unnamed+"/note.txt: third")
	bob.h.Add(ops[0].ops)
	checkList(t, bob, "Tax/\nTax/note.txt: third")
}

// TestLateDel: a del of a record that has not come does nothing yet.
func TestLateDel(t *testing.T) {
	w := newWorld(t, "ada", "bob")
	ada, bob := w.devices[0], w.devices[1]
	ada.mkdirAsset("Tax")
	ada.create("Tax/note.txt", "first")
	ada.write("Tax/note.txt", "second")
	ada.rm("Tax/note.txt")
	for _, i := range []int{1, 4, 2} {
		bob.h.Add(ada.log[i].ops)
	}
	checkList(t, bob, "Tax/\nTax/note.txt: first")
	bob.h.Add(ada.log[3].ops)
	checkList(t, bob, "Tax/")
}

// TestPending: a file whose content has not come shows the one before, under
// the new name; a save on that is a branch beside the content nobody saw.
func TestPending(t *testing.T) {
	w := newWorld(t, "ada", "bob")
	ada, bob := w.devices[0], w.devices[1]
	ada.mkdirAsset("Tax")
	ada.create("Tax/note.txt", "first")
	w.sync()
	bob.here[bob.file("Tax/note.txt").Blob] = true
	ada.write("Tax/note.txt", "second")
	ada.rename("Tax/note.txt", "new.txt")
	ada.create("Tax/only.txt", "never seen")
	bob.dropped = map[seal.ID]bool{ada.file("Tax/new.txt").Blob: true, ada.file("Tax/only.txt").Blob: true}
	w.sync()
	checkList(t, bob, `
		Tax/
		Tax/new.txt: second pending, shows first
		Tax/only.txt: never seen pending, shows nothing`)
	bob.rename("Tax/new.txt", "newer.txt") // needs no content
	bob.write("Tax/newer.txt", "bob on first")
	bob.write("Tax/only.txt", "bob on nothing")
	bob.dropped = nil
	w.sync()
	for _, d := range w.devices {
		checkList(t, d, `
			Tax/
			Tax/newer (conflict ada 2026-03-01 a003).txt: second
			Tax/newer.txt: bob on first
			Tax/only (conflict ada 2026-03-01 a005).txt: never seen
			Tax/only.txt: bob on nothing`)
	}
}

// TestResurrect: only a first record on an id its author knew dead is refused.
func TestResurrect(t *testing.T) {
	w := newWorld(t, "ada", "bob")
	ada, bob := w.devices[0], w.devices[1]
	ada.mkdirAsset("Tax")
	id := ada.create("Tax/note.txt", "first")
	f := ada.file("Tax/note.txt")
	w.sync()
	ada.rm("Tax/note.txt")
	root := &Record{ID: id, Digest: Digest{9}, Rev: 1}
	knew := func(seal.ID, uint64) bool { return true }
	deaf := func(dev seal.ID, seq uint64) bool { return dev != ada.id || seq < uint64(len(ada.log)) }
	if err := ada.h.CheckRecord(root, knew); err != ErrResurrect {
		t.Errorf("a root by one who knew: %v, want ErrResurrect", err)
	}
	if err := ada.h.CheckRecord(root, deaf); err != nil {
		t.Errorf("a root by one who did not know: %v", err)
	}
	edit := &Record{ID: id, Digest: Digest{9}, Prev: f.Base[0], Rev: 2}
	if err := ada.h.CheckRecord(edit, knew); err != nil {
		t.Errorf("an edit by one who knew: %v", err)
	}
	// A tombstone outlives the records it ended.
	ada.h.Remove(ada.log[2].ops)
	if err := ada.h.CheckRecord(root, knew); err != ErrResurrect {
		t.Errorf("a root after the records were dropped: %v, want ErrResurrect", err)
	}
	bob.rename("Tax/note.txt", "kept.txt")
	ada.pull(bob, 1)
	if err := ada.h.CheckRecord(root, knew); err != nil {
		t.Errorf("a root on an id that lives: %v", err)
	}
}

// TestTrash: what deletes ended is listed with when; what was replaced is not.
func TestTrash(t *testing.T) {
	w := newWorld(t, "ada", "bob")
	ada, bob := w.devices[0], w.devices[1]
	ada.mkdirAsset("Tax")
	id := ada.create("Tax/note.txt", "first")
	w.sync()
	ada.write("Tax/note.txt", "ada's")
	bob.rename("Tax/note.txt", "new.txt")
	bob.write("Tax/new.txt", "bob's")
	w.sync()
	w.sync()
	ada.rm("Tax/note.txt")
	a := ada.h.Attachment(id, nil)
	if len(a.Live) != 1 || len(a.Dead) != 1 {
		t.Fatalf("%d live and %d dead, want 1 and 1", len(a.Live), len(a.Dead))
	}
	dead := a.Dead[0]
	if got := w.content[dead.Blob]; got != "ada's" || dead.Stored != "note.txt" {
		t.Errorf("in the trash: %q as %q", got, dead.Stored)
	}
	if dead.Deleted != ada.hlc {
		t.Errorf("deleted at %v, want %v", dead.Deleted.Time(), ada.hlc.Time())
	}
	ada.rm("Tax/new.txt")
	if a = ada.h.Attachment(id, nil); len(a.Live) != 0 || len(a.Dead) != 2 {
		t.Errorf("%d live and %d dead, want 0 and 2", len(a.Live), len(a.Dead))
	}
}

// TestCircle: prevs that close a circle, which only a signed lie can make, hide
// nothing.
func TestCircle(t *testing.T) {
	h := New()
	at := At{Device: seal.ID{1}, Seq: 1, HLC: 1}
	one := Record{At: at, ID: seal.ID{9}, Digest: Digest{1}, Prev: Digest{2}, Rev: 2, Name: "a", Blob: seal.ID{1}}
	two := Record{At: at, ID: seal.ID{9}, Digest: Digest{2}, Prev: Digest{1}, Rev: 2, Name: "a", Blob: seal.ID{2}}
	h.Add(Ops{Records: []Record{one, two}})
	if n := len(h.Attachment(one.ID, nil).Live); n != 2 {
		t.Errorf("%d files, want 2", n)
	}
}
