package integration

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// newSmallDisk mounts a tmpfs and returns where.
func newSmallDisk(t testing.TB, size string) string {
	t.Helper()
	needRoot(t, "mount a small disk")
	dir := shortTemp(t, "small")
	must(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size))
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// A full disk is said at write, loses nothing, and goes away when there is room.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	needFUSE(t)
	disk := newSmallDisk(t, "160m")
	b := newBed(t)
	b.vault = filepath.Join(disk, "vault")
	b.init()
	m := b.mount()
	m.expect("") // a full disk is worth a warning, in whatever words
	dir := m.asset("A")
	kept := map[string][]byte{}
	for i := range 10 {
		name := fmt.Sprintf("before-%d", i)
		kept[name] = pattern(uint32(i), 1, 20_000*i+1)
		must(t, os.WriteFile(filepath.Join(dir, name), kept[name], 0o600))
	}
	fill := func(name string, block int) error {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		data := pattern(99, 1, block)
		for {
			if _, err := f.Write(data); err != nil {
				if closed := f.Close(); closed != nil {
					t.Logf("%s: close says %v after the failed write", name, closed)
				}
				return err
			}
		}
	}
	for _, block := range []int{4096, 1 << 20} {
		if err := fill(fmt.Sprint("fill-", block), block); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("filling in blocks of %d ended with %v, want ENOSPC", block, err)
		}
	}
	// Old files are read, overwritten in place where there is room, and never half.
	for name, data := range kept {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || string(got) != string(data) {
			t.Errorf("%s on the full disk: %v, %s", name, err, describe(got))
		}
	}
	overwrite := os.WriteFile(filepath.Join(dir, "before-9"), pattern(9, 2, 4<<20), 0o600)
	if overwrite == nil {
		kept["before-9"] = pattern(9, 2, 4<<20)
	} else if !errors.Is(overwrite, syscall.ENOSPC) {
		t.Errorf("overwriting on a full disk: %v", overwrite)
	}
	// The drive still puts away what was written, so the two may be asked at different moments.
	waitFor(t, "statfs that tells of no more than the disk has", patience, func() bool {
		var st, under syscall.Statfs_t
		must(t, syscall.Statfs(dir, &st))
		must(t, syscall.Statfs(disk, &under))
		return st.Blocks > 0 && st.Bavail*uint64(st.Bsize) <= under.Bavail*uint64(under.Bsize)+1<<20
	})
	fillers, _ := filepath.Glob(filepath.Join(dir, "fill-*"))
	for _, name := range fillers {
		must(t, os.Remove(name))
	}
	b.ok("trash empty", "--yes")
	must(t, os.WriteFile(filepath.Join(dir, "after"), pattern(50, 1, 5<<20), 0o600))
	kept["after"] = pattern(50, 1, 5<<20)
	if overwrite != nil {
		delete(kept, "before-9") // empty or whole, as O_TRUNC has it, but not damaged
		got, err := os.ReadFile(filepath.Join(dir, "before-9"))
		if err != nil || !strings.HasPrefix(string(pattern(9, 2, 4<<20)), string(got)) && string(got) != string(pattern(9, 1, 180_001)) {
			t.Errorf("before-9: %v, %s", err, describe(got))
		}
	}
	m.unmount()

	m = b.mount()
	for name, data := range kept {
		got, err := os.ReadFile(m.path("A", name))
		if err != nil || string(got) != string(data) {
			t.Errorf("%s after a new mount: %v, %s", name, err, describe(got))
		}
	}
	m.unmount()
	b.checkClean()
}

// No room for the vault itself, nor for one more row: clear words, unharmed vault.
func TestInitAndCommandsOnFullDisk(t *testing.T) {
	t.Parallel()
	disk := newSmallDisk(t, "8m")
	b := newBed(t)
	b.vault = filepath.Join(disk, "vault")
	b.init()
	b.ok("asset add", "A")
	filler := filepath.Join(disk, "filler")
	f, err := os.Create(filler)
	must(t, err)
	_, err = io.Copy(f, zeros{})
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	must(t, f.Close())
	big := b.file("big", string(pattern(1, 1, 1<<20)))
	r := b.run("put", big, "A/big")
	clearError(t, r, "no_space", 29)
	other := *b
	other.vault = filepath.Join(disk, "other")
	clearError(t, other.run("init", "--kdf", "low"), "no_space", 29)
	if left, _ := filepath.Glob(filepath.Join(disk, "*other*")); len(left) > 0 {
		t.Errorf("a failed init leaves %v", left)
	}
	must(t, os.Remove(filler))
	b.ok("put", big, "A/big")
	b.checkClean()
}

// zeros never end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Limits are said at write and at truncate, not at close.
func TestFileTooLarge(t *testing.T) {
	t.Parallel()
	b := newVault(t)
	m := b.mount()
	f, err := os.Create(filepath.Join(m.asset("A"), "file"))
	must(t, err)
	_, err = f.WriteString("small")
	must(t, err)
	const limit = 1 << 40
	if _, err := f.WriteAt([]byte("x"), limit); !errors.Is(err, syscall.EFBIG) {
		t.Errorf("write beyond the limit: %v, want EFBIG", err)
	}
	if err := f.Truncate(limit + 1); !errors.Is(err, syscall.EFBIG) {
		t.Errorf("truncate beyond the limit: %v, want EFBIG", err)
	}
	must(t, f.Close())
	remount(t, b, m, map[string]string{"A/file": "small"})
}
