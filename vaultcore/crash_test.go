package vaultcore

import (
	"bytes"
	"context"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// A closed file survives a kill, whatever its size and however it was saved.
func TestKillKeepsClosedFiles(t *testing.T) {
	t.Parallel()
	v := newTestVault(t)
	a := mustMkdir(t, v, "A/d")
	files := map[string][]byte{}
	for i, size := range []int{0, 1, 4096, 33 << 10, 1 << 20, 26 << 20} {
		p := fmt.Sprintf("A/d/f%d", i)
		files[p] = randomBytes(size, int64(i))
		writeFile(t, v, p, files[p])
	}
	files["A/d/f1"] = randomBytes(50000, 77)
	writeFile(t, v, "A/d/f1", files["A/d/f1"])
	writeFile(t, v, "A/d/tmp", []byte("saved through a temporary file"))
	if err := v.Rename(a, "tmp", a, "f2", 0); err != nil {
		t.Fatal(err)
	}
	files["A/d/f2"] = []byte("saved through a temporary file")
	if err := v.Remove("A/d/f3", false); err != nil {
		t.Fatal(err)
	}
	delete(files, "A/d/f3")

	crashed := openTest(t, crashCopy(t, v, false), Options{})
	for p, data := range files {
		wantFile(t, crashed, p, data)
	}
	wantTree(t, crashed, "A/ A/d/ A/d/f0 A/d/f1 A/d/f2 A/d/f4 A/d/f5")
	eventually(t, "leftovers removed", func() bool {
		r, err := crashed.Check(context.Background(), CheckOptions{})
		return err == nil && len(r.Problems) == 0
	})
	wantSound(t, crashed)
}

// A session that is killed before its first commit may have made files already.
func TestKillBeforeFirstCommit(t *testing.T) {
	v := newTestVault(t)
	mustMkdir(t, v, "A")
	data := randomBytes(70000, 1)
	writeFile(t, v, "A/doc", data)
	home := v.home.Path("")
	if err := v.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	v = openTest(t, home, Options{})
	n, err := v.Find("A/doc")
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Open(n, true, true); err != nil {
		t.Fatal(err)
	}
	for off := int64(0); off < 30<<20; off += 1 << 20 {
		if _, err := v.WriteAt(n, randomBytes(1<<20, 2), off); err != nil {
			t.Fatal(err)
		}
	}
	if parts, _ := filepath.Glob(v.home.Path("attachments/*.part")); len(parts) == 0 {
		t.Fatal("nothing streams: this tests nothing")
	}
	crashed := openTest(t, crashCopy(t, v, false), Options{})
	wantFile(t, crashed, "A/doc", data)
	eventually(t, "leftovers removed", func() bool {
		r, err := crashed.Check(context.Background(), CheckOptions{})
		return err == nil && len(r.Problems) == 0
	})
}

// What fsync promised comes back after a kill, under the file's name, and the
// draft's file is gone afterwards.
func TestKillKeepsSyncedDrafts(t *testing.T) {
	t.Parallel()
	for _, size := range []int{100, 5000, 1 << 20, 30 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			v := newTestVault(t)
			a := mustMkdir(t, v, "A")
			old := randomBytes(70000, 1)
			writeFile(t, v, "A/doc", old)
			n, _ := v.Find("A/doc")
			if err := v.Open(n, true, false); err != nil {
				t.Fatal(err)
			}
			data := randomBytes(size, 2)
			for off := 0; off < size; off += 1 << 20 {
				if _, err := v.WriteAt(n, data[off:min(off+1<<20, size)], int64(off)); err != nil {
					t.Fatal(err)
				}
			}
			if err := v.Fsync(n); err != nil {
				t.Fatal(err)
			}
			if err := v.Rename(a, "doc", a, "renamed", 0); err != nil {
				t.Fatal(err)
			}
			want := append([]byte(nil), old...)
			if size > len(want) {
				want = append(want, make([]byte, size-len(want))...)
			}
			copy(want, data)
			for _, power := range []bool{false, true} {
				home := crashCopy(t, v, power)
				crashed := openTest(t, home, Options{})
				wantFile(t, crashed, "A/renamed", want)
				wantTree(t, crashed, "A/ A/renamed")
				if err := crashed.Close(context.Background()); err != nil {
					t.Fatal(err)
				}
				again := openTest(t, home, Options{})
				wantFile(t, again, "A/renamed", want)
				wantSound(t, again)
				if left, _ := os.ReadDir(filepath.Join(home, "scratch")); len(left) > 0 {
					t.Errorf("scratch holds %d files", len(left))
				}
			}
			v.Release(n, true)
			wantFile(t, v, "A/renamed", want)
		})
	}
}

// An older draft never comes back over a newer commit.
func TestCommittedDraftStaysDown(t *testing.T) {
	v := newTestVault(t)
	mustMkdir(t, v, "A")
	n := openFile(t, v, "A/f")
	if _, err := v.WriteAt(n, bytes.Repeat([]byte("old"), 20000), 0); err != nil {
		t.Fatal(err)
	}
	if err := v.Fsync(n); err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte("new"), 20000)
	if _, err := v.WriteAt(n, want, 0); err != nil {
		t.Fatal(err)
	}
	closeFile(t, v, n)
	crashed := openTest(t, crashCopy(t, v, false), Options{})
	wantFile(t, crashed, "A/f", want)
	wantSound(t, crashed)
}

// After a power cut a row whose blob did not reach the disk falls back to the
// revision before it, and if there is none is kept as damaged.
func TestPowerCutFallsBack(t *testing.T) {
	v := newTestVault(t)
	mustMkdir(t, v, "A")
	old, fresh := randomBytes(100<<10, 1), randomBytes(120<<10, 2)
	writeFile(t, v, "A/f", old)
	if err := v.Barrier(context.Background()); err != nil {
		t.Fatal(err)
	}
	writeFile(t, v, "A/f", fresh)
	writeFile(t, v, "A/only", fresh)
	var lost []string
	v.tree.RLock()
	for _, name := range []string{"f", "only"} {
		lost = append(lost, binName(v.root.dir.byName["A"].dir.byName[name].content.ref.blob))
	}
	v.tree.RUnlock()
	home := crashCopy(t, v, true)
	for _, name := range lost {
		if err := os.Truncate(filepath.Join(home, "attachments", name), 4096); err != nil {
			t.Fatal(err)
		}
	}
	crashed := openTest(t, home, Options{})
	wantFile(t, crashed, "A/f", old)
	if i, err := crashed.Stat("A/only"); err != nil || i.State != "damaged" {
		t.Errorf("A/only: %+v, %v", i, err)
	}
	if r, err := crashed.OpenRead("A/only"); err == nil {
		if _, err := r.ReadAt(make([]byte, 10), 0); err == nil {
			t.Error("a lost content was read")
		}
		r.Close()
	}
	events, err := crashed.Events(0, 100)
	if err != nil || len(events) < 2 {
		t.Errorf("events: %+v, %v", events, err)
	}
}

// Random work in several files at once, killed at random moments: what was
// closed before the copy began is there.
func TestCrashPoints(t *testing.T) {
	t.Parallel()
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	v := newTestVault(t)
	mustMkdir(t, v, "A")
	rng := rand.New(rand.NewSource(42))
	closed := map[string][]byte{}
	for round := range rounds {
		var wg sync.WaitGroup
		for w := range 4 {
			p := fmt.Sprintf("A/w%d", w)
			size := rng.Intn(200 << 10)
			data := randomBytes(size, int64(round*10+w))
			closed[p] = data
			wg.Add(1)
			go func() {
				defer wg.Done()
				writeFile(t, v, p, data)
			}()
		}
		wg.Wait()
		crashed := openTest(t, crashCopy(t, v, round%2 == 1), Options{})
		for p, data := range closed {
			wantFile(t, crashed, p, data)
		}
		if err := crashed.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	wantSound(t, v)
}

func TestPasswordChange(t *testing.T) {
	home := newTestHome(t, "")
	v := openTest(t, home, Options{})
	mustMkdir(t, v, "A/d")
	for i := range 50 {
		writeFile(t, v, fmt.Sprintf("A/d/f%d", i), randomBytes(i*1000, int64(i)))
	}
	if err := v.ChangePassword(context.Background(), []byte("not the password"), []byte("another long password"), seal.KDFParams{}, nil); err == nil {
		t.Fatal("a wrong password changed the password")
	}
	last := 0
	if err := v.ChangePassword(context.Background(), []byte(testPassword), []byte("another long password"), seal.KDFParams{}, func(done, _ int) { last = done }); err != nil {
		t.Fatal(err)
	}
	if last < 52 {
		t.Errorf("progress ended at %d rows", last)
	}
	writeFile(t, v, "A/d/after", []byte("after"))
	wantSound(t, v)
	if err := v.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(context.Background(), home, Credentials{Password: []byte(testPassword)}, Options{KDF: quickKDF}); err == nil {
		t.Fatal("the old password still opens the vault")
	}
	again, err := Open(context.Background(), home, Credentials{Password: []byte("another long password")}, Options{KDF: quickKDF})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close(context.Background())
	for i := range 50 {
		wantFile(t, again, fmt.Sprintf("A/d/f%d", i), randomBytes(i*1000, int64(i)))
	}
	if left, err := again.rewrapLeft(); left != 0 || err != nil {
		t.Errorf("%d rows are of an older epoch, %v", left, err)
	}
	wantSound(t, again)
}
