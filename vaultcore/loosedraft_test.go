package vaultcore

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// forked is a file of which one save is durable, and which a program goes on
// writing to after another that has it open closed it: what such closes promise is
// kept, and on the disk only once a barrier has passed.
type forked struct {
	v                  *Vault
	n                  *Node
	old, first, second []byte // the saves

	log                     string // its file
	endOfFirst, endOfSecond int64  // what the log holds after a save
}

func newForked(t *testing.T, durable bool) *forked {
	t.Helper()
	stopped := time.Now() // nothing is committed because it rests
	v := openTest(t, newTestHome(t, ""), Options{Now: func() time.Time { return stopped }})
	f := &forked{v: v, old: randomBytes(70_000, 1), first: randomBytes(90_000, 2), second: randomBytes(50_001, 3)}
	mustMkdir(t, f.v, "A")
	f.n = openFile(t, f.v, "A/f")
	close := func() {
		t.Helper()
		if err := f.v.Flush(f.n); err != nil {
			t.Fatal(err)
		}
	}
	mustWriteAt(t, f.v, f.n, string(f.old), 0)
	close()
	if err := f.v.Barrier(context.Background()); err != nil {
		t.Fatal(err)
	}
	mustWriteAt(t, f.v, f.n, string(f.first), 0)
	if durable {
		if err := f.v.Fsync(f.n); err != nil {
			t.Fatal(err)
		}
	}
	close()
	f.endOfFirst = f.logEnd(t)
	return f
}

// again cuts the file and writes it anew, as the second close leaves it.
func (f *forked) again(t *testing.T) {
	t.Helper()
	if err := f.v.Truncate(f.n, 0); err != nil {
		t.Fatal(err)
	}
	mustWriteAt(t, f.v, f.n, string(f.second), 0)
	if err := f.v.Flush(f.n); err != nil {
		t.Fatal(err)
	}
	f.endOfSecond = f.logEnd(t)
}

func (f *forked) logEnd(t *testing.T) int64 {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(f.v.Home(), "scratch", "*"+logExt))
	if err != nil || len(logs) != 1 {
		t.Fatalf("logs %v, %v", logs, err)
	}
	f.log = filepath.Join("scratch", filepath.Base(logs[0]))
	st, err := os.Stat(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

// cut opens the vault as a power cut leaves it that has lost the log from an offset on.
func (f *forked) cut(t *testing.T, at int64) *Vault {
	t.Helper()
	home := crashCopy(t, f.v, true)
	if err := os.Truncate(filepath.Join(home, f.log), at); err != nil {
		t.Fatal(err)
	}
	return openTest(t, home, Options{})
}

func wantEvent(t *testing.T, v *Vault, kind string) {
	t.Helper()
	events, err := v.Events(0, 100)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(events, func(e Event) bool { return e.Kind == kind }) {
		t.Errorf("no event %q in %+v", kind, events)
	}
}

// TestPowerCutOfKeptSave: a save that was only kept, and whose log the power cut took
// a part of, leaves the durable save before it, never less.
func TestPowerCutOfKeptSave(t *testing.T) {
	t.Parallel()
	f := newForked(t, false)
	for _, at := range []int64{0, 1, 39, f.endOfFirst / 2, f.endOfFirst - 40, f.endOfFirst - 1} {
		v := f.cut(t, at)
		wantFile(t, v, "A/f", f.old)
		wantEvent(t, v, "power-cut")
		if drafts, err := v.draftRows(); err != nil || len(drafts) != 0 {
			t.Errorf("%d drafts are left, %v", len(drafts), err)
		}
		eventually(t, "the log is removed", func() bool {
			_, err := os.Stat(filepath.Join(v.Home(), f.log))
			return os.IsNotExist(err)
		})
		wantSound(t, v)
		if err := v.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	v := f.cut(t, f.endOfFirst)
	wantFile(t, v, "A/f", f.first)
	wantEvent(t, v, "recovered")
}

// TestPowerCutBetweenKeptSaves: what a log has of a save that did not reach the disk
// whole does not count: a cut without what was written after it is nobody's save.
func TestPowerCutBetweenKeptSaves(t *testing.T) {
	t.Parallel()
	for _, durable := range []bool{false, true} {
		f := newForked(t, durable)
		f.again(t)
		step := (f.endOfSecond - f.endOfFirst) / 7
		for at := f.endOfFirst; at < f.endOfSecond; at += step {
			v := f.cut(t, at)
			wantFile(t, v, "A/f", f.first)
			wantSound(t, v)
			if err := v.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		wantFile(t, f.cut(t, f.endOfSecond-1), "A/f", f.first)
		wantFile(t, f.cut(t, f.endOfSecond), "A/f", f.second)
	}
}

// TestPromisedSaveThatIsGone: a disk that loses what it said it had is told, the
// durable save before stays, and what is left can be had.
func TestPromisedSaveThatIsGone(t *testing.T) {
	t.Parallel()
	f := newForked(t, true)
	v := f.cut(t, f.endOfFirst-1)
	wantFile(t, v, "A/f", f.old)
	wantEvent(t, v, "draft")
	drafts, err := v.draftRows()
	if err != nil || len(drafts) != 1 {
		t.Fatalf("%d drafts, %v; want the one that could not be recovered", len(drafts), err)
	}
	size, read, done, err := v.rescueDraft(drafts[0].id.UUID())
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	got := make([]byte, size)
	if n, err := read(got, 0); err != nil || int64(n) != size {
		t.Errorf("rescue reads %d of %d bytes, %v", n, size, err)
	}
}

// TestPowerCutOfAllSaves: a file of which nothing had reached the disk, neither the
// save of its first close nor what a later one kept, is shown as damaged and told so.
func TestPowerCutOfAllSaves(t *testing.T) {
	t.Parallel()
	stopped := time.Now()
	o := Options{Now: func() time.Time { return stopped }}
	f := &forked{v: openTest(t, newTestHome(t, ""), o)}
	mustMkdir(t, f.v, "A")
	f.n = openFile(t, f.v, "A/f")
	for i := range 2 {
		mustWriteAt(t, f.v, f.n, string(randomBytes(90_000, int64(i))), int64(i)*90_000)
		if err := f.v.Flush(f.n); err != nil {
			t.Fatal(err)
		}
	}
	end, bin := f.logEnd(t), filepath.Join("attachments", binName(f.n.content.ref.blob))
	for _, whole := range []bool{false, true} { // the log; it stands on the lost save
		home := crashCopy(t, f.v, true)
		if err := os.Truncate(filepath.Join(home, bin), 4096); err != nil {
			t.Fatal(err)
		}
		if !whole {
			end /= 2
		}
		if err := os.Truncate(filepath.Join(home, f.log), end); err != nil {
			t.Fatal(err)
		}
		v := openTest(t, home, o)
		if i, err := v.Stat("A/f"); err != nil || i.State != "damaged" {
			t.Errorf("log whole: %v: %+v, %v; want damaged", whole, i, err)
		}
		wantEvent(t, v, "damaged")
		if drafts, err := v.draftRows(); err != nil || len(drafts) != 0 {
			t.Errorf("log whole: %v: %d drafts are left, %v", whole, len(drafts), err)
		}
		if err := v.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		end = f.logEnd(t)
	}
}

// TestNoRoomToRecover: a kept save that is whole stays when there is no room to make
// it the content, and is made so when there is.
func TestNoRoomToRecover(t *testing.T) {
	t.Parallel()
	f := newForked(t, false)
	home := filepath.Join(tinyDisk(t, "8m"), "vault")
	if err := os.CopyFS(home, os.DirFS(crashCopy(t, f.v, true))); err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(filepath.Dir(home), "ballast")
	fillDisk(t, ballast, 80<<10)
	v := openTest(t, home, Options{})
	if drafts, err := v.draftRows(); err != nil || len(drafts) != 1 || drafts[0].commitNo != 0 {
		t.Fatalf("drafts %+v, %v; want the one there is no room for", drafts, err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	wantFile(t, openTest(t, crashCopy(t, v, true), Options{}), "A/f", f.first)
}

// fillDisk makes a file that leaves so much of its disk.
func fillDisk(t *testing.T, name string, left uint64) {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(name), &st); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, make([]byte, st.Bavail*uint64(st.Bsize)-left), 0o600); err != nil {
		t.Fatal(err)
	}
}
