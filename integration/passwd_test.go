package integration

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// passwordIs tells whether the vault opens with that password.
func (b *bed) passwordIs(password string) bool {
	b.t.Helper()
	saved := b.unlock
	defer func() { b.unlock = saved }()
	b.unlock = []string{"--password-file", b.file("try", password+"\n")}
	switch r := b.run("ls", "/"); r.code {
	case 0:
		return true
	case 3:
		return false
	default:
		b.t.Fatalf("neither right nor wrong: %v", r)
		return false
	}
}

// A new password while the mount is in use: contents stay, sealed bytes of blobs
// do not move, the old password is dead, the new one opens.
func TestPasswordChangeWhileMounted(t *testing.T) {
	t.Parallel()
	b := newVault(t)
	m := b.mount()
	dir := m.asset("A")
	for i := range 200 {
		must(t, os.WriteFile(filepath.Join(dir, fmt.Sprint("file-", i)), pattern(uint32(i), 1, 8+i*500), 0o600))
	}
	must(t, os.Remove(filepath.Join(dir, "file-0")))
	open, err := os.OpenFile(filepath.Join(dir, "file-1"), os.O_RDWR, 0)
	must(t, err)
	defer open.Close() // a failure must not leave the mount busy
	must(t, open.Sync())
	want := snapshot(t, dir)
	m2 := b.blobs()
	b.changePassword("a second battery staple")
	for name, line := range b.blobs() {
		if old, ok := m2[name]; ok && old != line {
			t.Errorf("blob %s was written again", name)
		}
	}
	sameTree(t, snapshot(t, dir), want)
	_, err = open.WriteAt([]byte("after the change"), 0)
	must(t, err)
	must(t, open.Close())
	want = snapshot(t, dir)
	m.unmount()
	if b.passwordIs(testPassword) {
		t.Error("the old password still opens")
	}
	if !b.passwordIs("a second battery staple") {
		t.Error("the new password does not open")
	}
	m = b.mount()
	sameTree(t, snapshot(t, dir), want)
	m.unmount()
	b.checkClean()
}

// blobs gives the bytes of every finished blob. Beside a mount they come, and
// unfinished ones go, by themselves.
func (b *bed) blobs() map[string]string {
	b.t.Helper()
	dir := filepath.Join(b.vault, "attachments")
	entries, err := os.ReadDir(dir)
	must(b.t, err)
	found := make(map[string]string)
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".bin" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		must(b.t, err)
		found[e.Name()] = string(data)
	}
	return found
}

// kill -9 at a random moment of a password change, mounted and not: exactly one
// of the two passwords opens afterwards, and everything is there under it.
func TestPasswordChangeKilled(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(seedOf(t), 6))
	b := newVault(t)
	m := b.mount()
	dir := m.asset("A")
	for i := range 1500 {
		must(t, os.WriteFile(filepath.Join(dir, fmt.Sprint("file-", i)), pattern(uint32(i), 1, 8+i%4000), 0o600))
	}
	want := snapshot(t, dir)
	m.unmount()
	start := time.Now()
	b.changePassword("battery staple of the start")
	aim := float64(time.Since(start)) // follows the end of the change, as fast as the machine now is
	password, changed := "battery staple of the start", 0
	rounds := max(*crashRounds/8, 10)
	// More of them until there was one on each side: the machine may have become busier.
	round := 0
	for ; round < rounds || (changed == 0 || changed == round) && round < 10*rounds; round++ {
		next := fmt.Sprintf("battery staple number %d", round)
		mounted := round%2 == 0
		if mounted {
			m = b.mountAgain()
		}
		cmd := b.command("passwd", "--new-password-file", b.file("next", next+"\n"))
		must(t, cmd.Start())
		time.Sleep(time.Duration(aim * (0.5 + rnd.Float64()))) // the random moment itself
		if mounted {
			m.kill()
		} else {
			cmd.Process.Kill()
		}
		cmd.Wait()
		isNew, isOld := b.passwordIs(next), b.passwordIs(password)
		if isNew == isOld {
			t.Fatalf("round %d: new password opens: %v, old one: %v", round, isNew, isOld)
		}
		if isNew {
			password = next
			changed++
			aim *= 0.8
		} else {
			aim *= 1.25
		}
		b.unlock = []string{"--password-file", b.file("password", password+"\n")}
		b.password = b.unlock[1]
		if round%5 == 4 {
			b.checkClean()
		}
	}
	t.Logf("%d of %d changes had come through", changed, round)
	if changed == 0 || changed == round {
		t.Error("the kills all fell on one side of the change")
	}
	m = b.mount()
	sameTree(t, snapshot(t, dir), want)
	m.unmount()
	b.checkClean()
}
