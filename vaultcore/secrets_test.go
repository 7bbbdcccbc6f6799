package vaultcore

import (
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

func TestSecretsArena(t *testing.T) {
	a, err := newArena()
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	const writers, each = 4, arenaSize / secretSize / 4
	kept := make([][]*seal.Key, writers)
	want := make([][]seal.Key, writers)
	for w := range writers {
		wg.Go(func() {
			for range each {
				k := seal.NewKey()
				want[w] = append(want[w], k)
				kept[w] = append(kept[w], a.keep(&k))
				if !k.IsZero() {
					t.Error("the caller's copy was not wiped")
				}
			}
		})
	}
	wg.Wait()
	seen := map[*seal.Key]bool{}
	for w := range writers {
		for i, k := range kept[w] {
			if seen[k] || !k.Equal(&want[w][i]) {
				t.Fatal("two secrets share a slot")
			}
			seen[k] = true
		}
	}
	extra := seal.NewKey()
	beyond := a.keep(&extra)
	if seen[beyond] || beyond.IsZero() {
		t.Error("a full arena must go on in the heap")
	}
	a.wipe()
	for k := range seen {
		if !k.IsZero() {
			t.Fatal("a secret survived wipe")
		}
	}
	runtime.KeepAlive(a)
}

func TestSecretsLocked(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		t.Fatal(err)
	}
	a, err := newArena()
	if err != nil {
		t.Fatal(err)
	}
	defer a.wipe()
	if !a.locked && limit.Cur > 8*arenaSize {
		t.Error("not locked although the limit allows it")
	}
}

func TestSecretsSwap(t *testing.T) {
	sys := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(sys, name)
		os.MkdirAll(filepath.Dir(path), 0o700)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(name, to string) {
		path := filepath.Join(sys, name)
		os.MkdirAll(filepath.Dir(path), 0o700)
		if err := os.Symlink(filepath.Join(sys, to), path); err != nil {
			t.Fatal(err)
		}
	}
	write("block/sda1/size", "1")
	write("block/dm-0/dm/uuid", "CRYPT-LUKS2-abc-swap\n")
	write("block/dm-1/dm/uuid", "LVM-abc\n") // a volume on encrypted storage
	link("block/dm-1/slaves/dm-0", "block/dm-0")
	write("block/dm-2/dm/uuid", "LVM-abc\n") // one that is partly in clear
	link("block/dm-2/slaves/dm-0", "block/dm-0")
	link("block/dm-2/slaves/sda1", "block/sda1")
	write("block/dm-3/dm/uuid", "LVM-loop\n")
	link("block/dm-3/slaves/dm-3", "block/dm-3")
	write("block/zram0/backing_dev", "none\n")
	write("block/zram1/backing_dev", "/dev/sda1\n")
	for _, name := range []string{"sda1", "dm-0", "dm-1", "dm-2", "dm-3", "zram0", "zram1"} {
		link("class/block/"+name, "block/"+name)
	}
	link("dev/block/8:1", "block/sda1")
	link("dev/block/253:1", "block/dm-1")
	device := func(path string) string {
		return map[string]string{"/plain": "8:1", "/swap file": "253:1"}[path]
	}
	const heading = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
	for line, want := range map[string]bool{
		"":                                false,
		"/dev/sda1 partition 1 0 -2\n":    true,
		"/dev/dm-0 partition 1 0 -2\n":    false,
		"/dev/dm-1 partition 1 0 -2\n":    false,
		"/dev/dm-2 partition 1 0 -2\n":    true,
		"/dev/dm-3 partition 1 0 -2\n":    true,
		"/dev/zram0 partition 1 0 -2\n":   false,
		"/dev/zram1 partition 1 0 -2\n":   true,
		"/dev/unknown partition 1 0 -2\n": true,
		"/plain file 1 0 -2\n":            true,
		"/swap\\040file file 1 0 -2\n":    false,
		"/elsewhere file 1 0 -2\n":        true,
		"/dev/zram0 partition 1 0 -2\n/dev/sda1 partition 1 0 -2\n": true,
	} {
		if got := unencryptedSwap([]byte(heading+line), sys, device); got != want {
			t.Errorf("%q: unencrypted %v", line, got)
		}
	}
	UnencryptedSwap() // whatever this machine has, it must not fail
}
