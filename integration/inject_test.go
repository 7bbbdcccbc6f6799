package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// lethalCalls are the system calls before which strace kills the program.
var lethalCalls = []struct{ name, calls string }{
	{"sync", "fsync,fdatasync,sync_file_range"},
	{"rename", "rename,renameat,renameat2"},
	{"write", "write,pwrite64,writev,pwritev"},
	{"truncate and unlink", "ftruncate,fallocate,unlink,unlinkat"},
}

// dying makes a command that is killed before its n-th call (counted in each
// thread) of the given ones.
func (b *bed) dying(cmd *exec.Cmd, calls string, n int) *exec.Cmd {
	b.t.Helper()
	strace := needTool(b.t, "strace", "strace")
	inject := fmt.Sprintf("inject=%s:signal=KILL:when=%d", calls, n)
	again := exec.Command(strace, append([]string{"-f", "-qq", "-o", "/dev/null", "-e", "trace=" + calls, "-e", inject}, cmd.Args...)...)
	again.Env, again.Dir = cmd.Env, cmd.Dir
	return again
}

// steps grows like the Fibonacci numbers: early calls one by one, late ones here
// and there.
func steps(limit int) []int {
	out := []int{1}
	for a, b := 1, 2; b <= limit; a, b = b, a+b {
		out = append(out, b)
	}
	return out
}

// The daemon dies between any two steps of its work: the old or the new state of
// each file exists afterwards, never a mixture.
func TestKilledBetweenCalls(t *testing.T) {
	t.Parallel()
	needTool(t, "strace", "strace")
	for _, lethal := range lethalCalls {
		t.Run(lethal.name, func(t *testing.T) {
			t.Parallel()
			b := newVault(t)
			b.enroll()
			m := b.mount()
			w := newModel(m.asset("Writer"), 11, 1<<20)
			m.unmount()
			died := 0
			for _, n := range steps(150) {
				m = b.prepare()
				m.cmd = b.dying(m.cmd, lethal.calls, n)
				if m.launch() == nil {
					must(t, w.runSteps(80))
				}
				if m.end() {
					died++
				}
				m = b.mountAgain()
				w.verify(t)
				m.unmount()
				b.checkClean()
			}
			enoughDeaths(t, died)
		})
	}
}

// end unmounts a daemon that may be dead, or die of it, and tells whether it has.
func (m *mount) end() (died bool) {
	m.b.t.Helper()
	m.b.finish(m.b.plain("umount", m.dir))
	m.afterDeath()
	return m.exitErr != nil
}

// enoughDeaths fails a test whose program never died: it tested nothing.
func enoughDeaths(t *testing.T, n int) {
	t.Helper()
	t.Logf("killed %d times", n)
	if n == 0 {
		t.Error("nothing was ever killed")
	}
}

// runSteps makes n calls; a daemon that dies ends it without an error.
func (w *model) runSteps(n int) error {
	for range n {
		if err := w.step(); err != nil {
			if isDead(err) {
				return nil
			}
			return err
		}
	}
	return nil
}

// init dies anywhere: there is a vault that opens, or none, and init works again.
func TestInitKilledBetweenCalls(t *testing.T) {
	t.Parallel()
	for _, lethal := range lethalCalls {
		t.Run(lethal.name, func(t *testing.T) {
			t.Parallel()
			died := 0
			defer func() { enoughDeaths(t, died) }()
			for _, n := range steps(60) {
				b := newBed(t)
				r := b.finish(b.dying(b.command("init", "--kdf", "low"), lethal.calls, n))
				if _, err := os.Stat(b.vault); err != nil {
					if r.code == 0 {
						t.Fatalf("call %d: init succeeded without a vault", n)
					}
					b.init()
				}
				b.ok("asset add", "A")
				b.checkClean()
				if r.code == 0 {
					return
				}
				died++
			}
		})
	}
}

// passwd dies anywhere, without a mount: one of the two passwords opens, and the
// change is finished or undone by the next unlock.
func TestPasswordChangeKilledBetweenCalls(t *testing.T) {
	t.Parallel()
	for _, lethal := range lethalCalls {
		t.Run(lethal.name, func(t *testing.T) {
			t.Parallel()
			b := newVault(t)
			for i := range 5 {
				b.ok("asset add", fmt.Sprint("Asset ", i))
				b.ok("put", b.file("text", string(pattern(uint32(i), 1, 50_000*i+9))), fmt.Sprintf("Asset %d/file", i))
			}
			password, died := testPassword, 0
			defer func() { enoughDeaths(t, died) }()
			for _, n := range steps(90) {
				next := fmt.Sprintf("battery staple number %d", n)
				cmd := b.command("passwd", "--new-password-file", b.file("next", next+"\n"))
				r := b.finish(b.dying(cmd, lethal.calls, n))
				isNew, isOld := b.passwordIs(next), b.passwordIs(password)
				if isNew == isOld {
					t.Fatalf("call %d: new password opens: %v, old one: %v", n, isNew, isOld)
				}
				if r.code == 0 && !isNew {
					t.Fatalf("call %d: passwd succeeded and the old password opens", n)
				}
				if isNew {
					password = next
				}
				b.unlock = []string{"--password-file", b.file("password", password+"\n")}
				for i := range 5 {
					if got := b.ok("get", fmt.Sprintf("Asset %d/file", i), "-"); got != string(pattern(uint32(i), 1, 50_000*i+9)) {
						t.Fatalf("call %d: file %d: %s", n, i, describe([]byte(got)))
					}
				}
				b.checkClean()
				if r.code == 0 {
					return
				}
				died++
			}
		})
	}
}

// put, rm and trash empty die anywhere, without a mount.
func TestCommandsKilledBetweenCalls(t *testing.T) {
	t.Parallel()
	b := newVault(t)
	b.enroll()
	b.ok("asset add", "A")
	small, large := pattern(1, 1, 9000), pattern(1, 2, 300_000)
	b.file("small", string(small))
	b.file("large", string(large))
	died := 0
	for _, lethal := range lethalCalls {
		for _, n := range steps(40) {
			b.ok("put", "--force", filepath.Join(b.dir, "small"), "A/file")
			r := b.finish(b.dying(b.command("put", "--force", filepath.Join(b.dir, "large"), "A/file"), lethal.calls, n))
			got := b.ok("get", "A/file", "-")
			if got != string(large) && (got != string(small) || r.code == 0) {
				t.Fatalf("%s %d: %s", lethal.name, n, describe([]byte(got)))
			}
			b.checkClean()
			if r.code == 0 {
				break
			}
			died++
		}
	}
	enoughDeaths(t, died)
}
