package vaultcore

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

func mustWriteAt(t testing.TB, v *Vault, n *Node, data string, off int64) {
	t.Helper()
	if _, err := v.WriteAt(n, []byte(data), off); err != nil {
		t.Fatalf("write at %d: %v", off, err)
	}
}

func mustOpen(t testing.TB, v *Vault, path string, write bool) *Node {
	t.Helper()
	n, err := v.Find(path)
	if err == nil {
		err = v.Open(n, write, false)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func overlay(data []byte, s string, off int64) []byte {
	out := bytes.Clone(data)
	for int64(len(out)) < off+int64(len(s)) {
		out = append(out, 0)
	}
	copy(out[off:], s)
	return out
}

// A write into a file that is elsewhere fetches what it touches; closing waits
// for nothing and loses nothing; the save is published once the rest has come.
func TestWriteFar(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]int64{"inside": 2*pieceSize + 777, "append": 3*pieceSize + 55, "behind the end": 4 * pieceSize} {
		t.Run(name, func(t *testing.T) {
			f, bob, r, data := farAway(t, Limits{FetchWait: 10 * time.Minute}, 3*pieceSize+55)
			want := overlay(data, "changed", at)
			n := mustOpen(t, bob.Vault, farFile, true)
			mustWriteAt(t, bob.Vault, n, "changed", at)
			if r.asked() > 2 {
				t.Fatalf("%d requests for a few bytes", r.asked())
			}
			open := r.hang()
			began := time.Now()
			if err := bob.Flush(n); err != nil {
				t.Fatal(err)
			}
			bob.Release(n, true)
			if took := time.Since(began); took > 5*time.Minute {
				t.Fatalf("close took %v", took)
			}
			wantRange(t, bob.Vault, farFile, want, at, 7)
			if got := bob.Status().Drafts; got != 1 {
				t.Fatalf("%d drafts", got)
			}
			open()
			eventually(t, "the commit", func() bool { return bob.Status().Drafts == 0 })
			wantRange(t, bob.Vault, farFile, want, 0, int64(len(want)))
			wantSound(t, bob.Vault)
			f.sync()
			wantRange(t, f.devices[0].Vault, farFile, want, 0, int64(len(want)))
		})
	}
}

// Whole pages need nothing of the old content; a part of one says at write that
// the rest does not come, and what was written before stays.
func TestWriteFarOffline(t *testing.T) {
	t.Parallel()
	_, bob, r, data := farAway(t, Limits{FetchWait: 100 * time.Millisecond}, 3*pieceSize)
	open := r.hang()
	defer open()
	page := string(randomBytes(pageSize, 3))
	n := mustOpen(t, bob.Vault, farFile, true)
	mustWriteAt(t, bob.Vault, n, page, 5*pageSize)
	if _, err := bob.WriteAt(n, []byte("part"), 50*pageSize+3); !errors.Is(err, ErrTimeout) {
		t.Fatalf("a part of a page: %v", err)
	}
	if err := bob.Flush(n); err != nil {
		t.Fatal(err)
	}
	bob.Release(n, true)
	want := overlay(data, page, 5*pageSize)
	if i, err := bob.Stat(farFile); err != nil || i.State != "dirty" || bob.SavesWaiting() != 1 {
		t.Fatalf("%+v, %v; %d saves wait", i, err, bob.SavesWaiting())
	}
	wantRange(t, bob.Vault, farFile, want, 5*pageSize, pageSize)
	if _, err := readRange(bob.Vault, farFile, 0, 10); !errors.Is(err, ErrTimeout) {
		t.Fatal(err)
	}
	// The session ends, without the remote, and the next has it.
	for _, powerCut := range []bool{false, true} {
		if err := bob.Barrier(t.Context()); err != nil {
			t.Fatal(err)
		}
		bob.kill(powerCut)
		r.connect(bob)
		wantRange(t, bob.Vault, farFile, want, 5*pageSize, pageSize)
	}
	bob.reopen()
	wantRange(t, bob.Vault, farFile, want, 5*pageSize, pageSize)
	open()
	r.connect(bob)
	eventually(t, "the commit", func() bool { return bob.Status().Drafts == 0 })
	if left := bob.SavesWaiting(); left != 0 {
		t.Fatalf("%d saves wait", left)
	}
	wantRange(t, bob.Vault, farFile, want, 0, int64(len(want)))
	wantSound(t, bob.Vault)
}

// A kill at every moment after close keeps what was written.
func TestWriteFarKilled(t *testing.T) {
	t.Parallel()
	_, bob, r, data := farAway(t, Limits{}, 2*pieceSize+9)
	gate := r.hang()
	page := string(randomBytes(pageSize, 3))
	n := mustOpen(t, bob.Vault, farFile, true)
	mustWriteAt(t, bob.Vault, n, page, 0)
	if err := bob.Flush(n); err != nil {
		t.Fatal(err)
	}
	bob.Release(n, true)
	want := overlay(data, page, 0)
	copies := []string{crashCopy(t, bob.Vault, false)}
	// Each piece that has come, and nothing under way.
	pass := make(chan struct{})
	r.set(func() {
		r.bend = func(p []byte, _ int64) ([]byte, error) {
			<-pass
			return p, nil
		}
	})
	gate()
	c := bob.mustFind(farFile).content
	for have := int64(1); have < 3; have++ {
		pass <- struct{}{}
		eventually(t, "a piece", func() bool {
			sp := c.sp.Load()
			sp.mu.Lock()
			defer sp.mu.Unlock()
			return sp.count == have
		})
		copies = append(copies, crashCopy(t, bob.Vault, false))
	}
	close(pass)
	eventually(t, "the commit", func() bool { return bob.Status().Drafts == 0 })
	if err := bob.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	bob.store.fetches.end() // adopting goes on beside the commit
	bob.retired.wait()
	copies = append(copies, crashCopy(t, bob.Vault, false), crashCopy(t, bob.Vault, true))
	r.set(func() { r.bend = nil })
	for i, home := range copies {
		d := &device{f: bob.f, name: "bob", home: home}
		d.open()
		r.connect(d)
		eventually(t, "the commit", func() bool { return d.Status().Drafts == 0 })
		wantRange(t, d.Vault, farFile, want, 0, int64(len(want)))
		wantSound(t, d.Vault)
		if err := d.Close(context.Background()); err != nil {
			t.Fatalf("copy %d: %v", i, err)
		}
	}
}

// Emptying a file, replacing it whole, renaming and deleting it fetch nothing.
func TestChangeFarWithoutFetch(t *testing.T) {
	_, bob, r, _ := farAway(t, Limits{FetchWait: time.Minute}, 2*pieceSize)
	defer r.hang()()
	bob.rename(farFile, "A/moved")
	bob.rename("A/moved", farFile)
	n := mustOpen(t, bob.Vault, farFile, true)
	whole := randomBytes(2*pieceSize, 11)
	if _, err := bob.WriteAt(n, whole, 0); err != nil {
		t.Fatal(err)
	}
	if err := bob.Flush(n); err != nil {
		t.Fatal(err)
	}
	bob.Release(n, true)
	if d := bob.Status().Drafts; d != 0 {
		t.Fatalf("%d drafts of a file that was written whole", d)
	}
	wantRange(t, bob.Vault, farFile, whole, 0, 2*pieceSize)
	bob.write("A/near", "x")
	bob.remove(farFile)
	if r.asked() != 0 {
		t.Fatalf("%d requests", r.asked())
	}
	wantSound(t, bob.Vault)
}

func TestTruncateFar(t *testing.T) {
	_, bob, r, data := farAway(t, Limits{FetchWait: time.Minute}, 3*pieceSize)
	gate := r.hang()
	n := bob.mustFind(farFile)
	if err := bob.Truncate(n, pieceSize+100); err != nil {
		t.Fatal(err)
	}
	if got := bob.Attr(n).Size; got != pieceSize+100 {
		t.Fatalf("%d bytes", got)
	}
	gate()
	eventually(t, "the commit", func() bool { return bob.Status().Drafts == 0 })
	wantRange(t, bob.Vault, farFile, data[:pieceSize+100], 0, 3*pieceSize)
	if n := r.asked(); n > 2 {
		t.Fatalf("%d pieces for two", n)
	}
	gate = r.hang()
	defer gate()
	if err := bob.Truncate(n, 0); err != nil {
		t.Fatal(err)
	}
	wantRange(t, bob.Vault, farFile, nil, 0, 10)
	wantSound(t, bob.Vault)
}

// A draft that waits goes with its file.
func TestUnlinkWaitingDraft(t *testing.T) {
	_, bob, r, _ := farAway(t, Limits{}, 2*pieceSize)
	gate := r.hang()
	n := mustOpen(t, bob.Vault, farFile, true)
	mustWriteAt(t, bob.Vault, n, string(make([]byte, pageSize)), 0)
	if err := bob.Flush(n); err != nil {
		t.Fatal(err)
	}
	bob.Release(n, true)
	bob.remove(farFile)
	gate()
	eventually(t, "no draft", func() bool { return bob.Status().Drafts == 0 })
	bob.reopen()
	bob.want("A/")
	wantSound(t, bob.Vault)
}

// A file that was replaced from elsewhere while it was written, over a content
// that is not here: closing waits for nothing, and the save comes as an edit of its
// own once the rest has come.
func TestWriteFarReplaced(t *testing.T) {
	f, bob, r, data := farAway(t, Limits{FetchWait: time.Minute}, 2*pieceSize)
	ada := f.devices[0]
	open := r.hang()
	page := string(randomBytes(pageSize, 3))
	n := mustOpen(t, bob.Vault, farFile, true)
	mustWriteAt(t, bob.Vault, n, page, 0)
	ada.write(farFile, "by ada")
	ada.push()
	bob.pullBatches()
	if err := bob.Flush(n); err != nil {
		t.Fatalf("close: %v", err)
	}
	bob.Release(n, true)
	open()
	eventually(t, "the commit", func() bool { return bob.Status().Drafts == 0 })
	want, found := overlay(data, page, 0), 0
	if err := bob.List("A", true, func(i Info) error {
		if i.Size == int64(len(want)) {
			found++
			wantRange(t, bob.Vault, i.Path, want, 0, i.Size)
		}
		return nil
	}); err != nil || found != 1 {
		t.Fatalf("%d copies of the save, %v: %s", found, err, bob.list())
	}
	wantSound(t, bob.Vault)
}

// A version 3 file is fetched whole for the same.
func TestWriteFarV3(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "ada", "bob")
	ada, bob := f.devices[0], f.devices[1]
	data := randomBytes(1<<20, 1)
	ada.mkdir("A")
	writeFile(t, ada.Vault, farFile, data)
	ada.push()
	bob.pullBatches()
	r := f.demand(bob)
	r.set(func() { r.blobs = map[seal.ID][]byte{bob.mustFind(farFile).content.ref.blob: nil} })
	n := mustOpen(t, bob.Vault, farFile, true)
	if _, err := bob.WriteAt(n, []byte("x"), 5); !errors.Is(err, ErrTimeout) && !errors.Is(err, blob.ErrSize) {
		t.Fatalf("write: %v", err)
	}
	r.set(func() { r.blobs = nil })
	eventually(t, "the write", func() bool {
		_, err := bob.WriteAt(n, []byte("changed"), 5)
		return err == nil
	})
	if err := bob.Flush(n); err != nil {
		t.Fatal(err)
	}
	bob.Release(n, true)
	want := overlay(data, "changed", 5)
	wantRange(t, bob.Vault, farFile, want, 0, int64(len(want)))
	wantSound(t, bob.Vault)
}

func writeAll(path, data string) error { return os.WriteFile(path, []byte(data), 0o600) }

// A file over a content that is elsewhere was replaced from elsewhere while it was
// written: what fsync or close made durable comes back after a kill, as an edit of
// its own, whichever came first and however often the program is killed.
func TestWriteFarReplacedKilled(t *testing.T) {
	t.Parallel()
	fsync := func(t *testing.T, bob *device, n *Node) {
		if err := bob.Fsync(n); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name          string
		before, after func(t *testing.T, bob *device, n *Node)
	}{
		{"fsync, replaced", fsync, nil},
		{"replaced, fsync", nil, fsync},
		{"fsync, replaced, fsync", fsync, fsync},
		{"replaced, close", nil, func(t *testing.T, bob *device, n *Node) {
			if err := bob.Flush(n); err != nil {
				t.Fatal(err)
			}
			bob.Release(n, true)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, bob, r, data := farAway(t, Limits{FetchWait: time.Minute}, 2*pieceSize)
			open := r.hang()
			page := string(randomBytes(pageSize, 3))
			n := mustOpen(t, bob.Vault, farFile, true)
			mustWriteAt(t, bob.Vault, n, page, 0)
			if c.before != nil {
				c.before(t, bob, n)
			}
			f.devices[0].write(farFile, "by ada")
			f.devices[0].push()
			bob.pullBatches()
			if c.after != nil {
				c.after(t, bob, n)
			}
			bob.kill(false)
			r.connect(bob)
			bob.pullBatches()
			bob.kill(true)
			open()
			r.connect(bob)
			eventually(t, "the commit", func() bool { return bob.Status().Drafts == 0 })
			bob.wantNoAlarm()
			bob.wantOneOf("A", overlay(data, page, 0))
			bob.pull()
			bob.wantOneOf("A", []byte("by ada"))
			wantSound(t, bob.Vault)
		})
	}
}

// wantOneOf demands exactly one file with a content in a directory.
func (d *device) wantOneOf(dir string, want []byte) {
	d.f.t.Helper()
	found := 0
	err := d.List(dir, true, func(i Info) error {
		if i.Size == int64(len(want)) {
			found++
			wantRange(d.f.t, d.Vault, i.Path, want, 0, i.Size)
		}
		return nil
	})
	if err != nil || found != 1 {
		d.f.t.Fatalf("%d files of %d bytes, %v: %s", found, len(want), err, d.list())
	}
}
