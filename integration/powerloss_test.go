package integration

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// afterReboot makes a command see another kernel boot: it runs in a mount
// namespace of its own in which the kernel's boot id is a file of ours.
func (b *bed) afterReboot(cmd *exec.Cmd) *exec.Cmd {
	b.t.Helper()
	needRoot(b.t, "pretend that the machine has booted anew")
	needTool(b.t, "unshare", "util-linux")
	b.mounts++
	fake := b.file(fmt.Sprintf("boot-%d", b.mounts), fmt.Sprintf("00000000-0000-4000-8000-%012d\n", b.mounts))
	const script = alone + `mount --bind "$1" /proc/sys/kernel/random/boot_id && shift && exec "$@"`
	again := exec.Command("unshare", append([]string{"-m", "sh", "-c", script, filepath.Dir(b.vault), fake}, cmd.Args...)...)
	again.Env, again.Dir = cmd.Env, cmd.Dir
	return again
}

// checkReport is what `check --json` says.
type checkReport struct {
	Problems []struct{ Kind, ID, Path, Detail string }
	Orphans  int
}

// recover unlocks the vault for the first time after the cut and checks it. What
// was closed but never durable may have to be named as damaged, nothing else.
func (b *bed) recover() (damaged int) {
	b.t.Helper()
	r := b.finish(b.afterReboot(b.command("check", "--deep", "--json")))
	var report checkReport
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil {
		b.t.Fatalf("check after the cut: %v: %v", err, r)
	}
	if report.Orphans != 0 {
		b.t.Fatalf("%d orphans after the cut: %v", report.Orphans, r)
	}
	for _, p := range report.Problems {
		if p.Kind != "damaged" && p.Kind != "missing" {
			b.t.Fatalf("check after the cut: %v", r)
		}
	}
	if r.code != 0 && len(report.Problems) == 0 {
		b.t.Fatalf("check after the cut: %v", r)
	}
	return len(report.Problems)
}

// newVaultOn makes a vault that lies on the power box's disk.
func newVaultOn(t testing.TB, box *powerBox) *bed {
	t.Helper()
	b := newBed(t)
	b.vault = filepath.Join(box.dir, "vault")
	b.init()
	b.enroll()
	return b
}

// Power cuts at random calls under random work, each looked at under several
// ideas of what a disk forgets.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	seed := seedOf(t)
	rnd := rand.New(rand.NewPCG(seed, 5))
	box := newPowerBox(t)
	b := newVaultOn(t, box)
	m := b.mount()
	var writers []*historian
	for i := range 3 {
		writers = append(writers, newHistorian(m.asset(fmt.Sprint("Writer ", i)), rnd.Uint64()))
	}
	must(t, writers[0].barrier())
	damagedInAll := 0
	for range *powerRounds {
		box.arm(1 + rnd.IntN(300))
		var group sync.WaitGroup
		for _, w := range writers {
			group.Go(func() { w.run(60) })
		}
		group.Wait()
		box.cut()
		m.kill()
		outcomes := []loss{loseAll, loseJournal, loseStrict, loseNothing}
		rnd.Shuffle(len(outcomes), func(i, j int) { outcomes[i], outcomes[j] = outcomes[j], outcomes[i] })
		for n, l := range outcomes[:3] {
			diskSeed := rnd.Uint64()
			box.restore(l, diskSeed)
			want := b.recover()
			m = b.mountAgain()
			if want > 0 {
				m.expect("damaged") // each of those that check has named, and no other: see below
			}
			last := n == 2
			got := 0
			for _, w := range writers {
				got += w.verify(t, last)
			}
			if got != want {
				t.Errorf("loss %s: %d files answer EIO, check names %d", l, got, want)
			}
			damagedInAll += got
			if !last {
				m.unmount()
			}
		}
	}
	m.unmount()
	b.checkClean()
	lost := 0
	for _, w := range writers {
		lost += w.lost
	}
	t.Logf("%d cuts took back %d states, %d files were named as damaged", *powerRounds, lost, damagedInAll)
	if lost == 0 {
		t.Error("no cut took anything back: the disk forgets nothing")
	}
}

// What the barrier, which follows a close within a second, has covered is safe
// without any fsync by the program.
func TestPowerLossAfterBarrier(t *testing.T) {
	t.Parallel()
	box := newPowerBox(t)
	b := newVaultOn(t, box)
	m := b.mount()
	w := newHistorian(m.asset("Writer"), seedOf(t))
	for range 40 {
		must(t, w.step())
	}
	// The barrier's own commits count too, and nothing follows them: one commit
	// more makes sure that a pass comes whose target lies above the writer's last.
	commit := b.status()["commit"].(float64)
	m.asset("One more commit")
	waitFor(t, "the barrier has passed the writer's last commit", patience, func() bool {
		return b.status()["barrier"].(float64) > commit
	})
	w.durable()
	box.cut()
	m.kill()
	for _, l := range []loss{loseAll, loseStrict, loseJournal} {
		box.restore(l, 1)
		if n := b.recover(); n != 0 {
			t.Errorf("loss %s: %d damaged files", l, n)
		}
		m = b.mountAgain()
		w.verify(t, false)
		m.unmount()
	}
}

// Unmount is a barrier as well: the power may go when umount has returned.
func TestPowerLossAfterUnmount(t *testing.T) {
	t.Parallel()
	box := newPowerBox(t)
	b := newVaultOn(t, box)
	m := b.mount()
	w := newHistorian(m.asset("Writer"), seedOf(t))
	for range 60 {
		must(t, w.step())
	}
	m.unmount()
	w.durable()
	box.cut()
	for _, l := range []loss{loseAll, loseStrict, loseJournal} {
		box.restore(l, 2)
		if n := b.recover(); n != 0 {
			t.Errorf("loss %s: %d damaged files", l, n)
		}
		m = b.mountAgain()
		w.verify(t, false)
		m.unmount()
	}
}

// With --durability strict a close is as good as an fsync.
func TestPowerLossStrict(t *testing.T) {
	t.Parallel()
	box := newPowerBox(t)
	b := newVaultOn(t, box)
	m := b.mount("--durability", "strict")
	dir := m.asset("A")
	want := map[string][]byte{}
	for i := range 20 {
		name := fmt.Sprintf("file-%d", i%7)
		want[name] = pattern(uint32(i%7), uint32(i), 1000+i*i*500)
		must(t, os.WriteFile(filepath.Join(dir, name), want[name], 0o600))
	}
	box.cut()
	m.kill()
	for _, l := range []loss{loseAll, loseStrict, loseJournal} {
		box.restore(l, 3)
		if n := b.recover(); n != 0 {
			t.Errorf("loss %s: %d damaged files", l, n)
		}
		m = b.mountAgain()
		for name, data := range want {
			got, err := os.ReadFile(m.path("A", name))
			if err != nil || string(got) != string(data) {
				t.Errorf("loss %s: %s: %v, %s, want %s", l, name, err, describe(got), describe(data))
			}
		}
		m.unmount()
	}
}

// A disk that fails tells so: the error is that of close and of fsync, and the old
// content is what stays.
func TestCloseTellsDiskFailure(t *testing.T) {
	t.Parallel()
	box := newPowerBox(t)
	b := newVaultOn(t, box)
	m := b.mount()
	dir := m.asset("A")
	must(t, os.WriteFile(filepath.Join(dir, "file"), []byte("old"), 0o600))
	syncDir(t, dir)
	open := func(name string) *os.File {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o600)
		must(t, err)
		return f
	}
	closed, synced := open("file"), open("other")
	for _, f := range []*os.File{closed, synced} {
		_, err := f.WriteString("new")
		must(t, err)
	}
	box.cut()
	if err := closed.Close(); err == nil {
		t.Error("close succeeded on a dead disk")
	}
	if err := synced.Sync(); err == nil {
		t.Error("fsync succeeded on a dead disk")
	}
	synced.Close()
	m.kill()
	box.restore(loseStrict, 1)
	b.recover()
	m = b.mountAgain()
	if got, err := os.ReadFile(m.path("A", "file")); err != nil || string(got) != "old" {
		t.Errorf("%v, %q", err, got)
	}
	m.unmount()
}

// The power goes at each single call that init makes: there is a whole vault or
// none, and a second init works.
func TestPowerLossDuringInit(t *testing.T) {
	t.Parallel()
	for n := 1 + int(seedOf(t)%9); ; n += 9 {
		box := newPowerBox(t)
		b := newBed(t)
		b.vault = filepath.Join(box.dir, "vault")
		box.arm(n)
		done := b.run("init", "--kdf", "low").code == 0
		box.cut()
		for seed, l := range []loss{loseAll, loseStrict, loseJournal} {
			box.restore(l, uint64(seed))
			if _, err := os.Stat(b.vault); err != nil {
				if done {
					t.Errorf("call %d, loss %s: init had succeeded and there is no vault", n, l)
				}
				b.init()
			}
			b.checkClean()
		}
		if done {
			t.Logf("init makes fewer than %d calls", n)
			return
		}
	}
}
