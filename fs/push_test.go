package fs

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// TestPushesAround reads one page of a chunk and wants its neighbours for
// nothing, also in the last chunk, which is shorter.
func TestPushesAround(t *testing.T) {
	m := mountVault(t, nil)
	c := startClient(t)
	const size = 1<<20 + 5000
	want := make([]byte, size)
	rand.NewChaCha8([32]byte{}).Read(want)
	m.put("A/f", string(want))
	fd := c.open(m.a+"/f", os.O_RDONLY)
	defer c.must(call{Op: "close", FD: fd})
	c.must(call{Op: "fadvise", FD: fd})
	read := func(off, n int) {
		t.Helper()
		got := c.must(call{Op: "pread", FD: fd, Off: int64(off), N: n}).Data
		if !bytes.Equal(got, want[off:min(off+n, size)]) {
			t.Errorf("wrong bytes at %d", off)
		}
	}
	for _, off := range []int{5 * vaultcore.OpenedMax, 7*vaultcore.OpenedMax + 8192, 1 << 20} {
		before := m.s.Counters().Pushed
		read(off, 4096)
		eventually(t, "the chunk is pushed", func() bool { return m.s.Counters().Pushed > before })
		if sent := m.requests(func() { read(off&^(vaultcore.OpenedMax-1), vaultcore.OpenedMax) }); total(sent) != 0 {
			t.Errorf("the chunk at %d: %v", off, sent)
		}
	}
	if st := c.must(call{Op: "fstat", FD: fd}).Stat; st.Size != size {
		t.Errorf("size %d", st.Size)
	}
}

// TestNoPushUnderWriters reads pages while somebody can write: nothing must
// be pushed then, and afterwards what is pushed is what was written.
func TestNoPushUnderWriters(t *testing.T) {
	m := mountVault(t, nil)
	c := startClient(t)
	m.put("A/f", strings.Repeat("a", 1<<20))
	fd := c.open(m.a+"/f", os.O_RDONLY)
	c.must(call{Op: "fadvise", FD: fd})
	w := c.open(m.a+"/f", os.O_RDWR)
	c.must(call{Op: "pread", FD: fd, N: 4096})
	c.must(call{Op: "pwrite", FD: w, Off: 4096, Data: bytes.Repeat([]byte("b"), 4096)})
	c.must(call{Op: "pread", FD: fd, Off: 12288, N: 4096})
	if n := m.s.Counters().Pushed; n != 0 {
		t.Errorf("%d pushes", n)
	}
	c.must(call{Op: "close", FD: w})
	eventually(t, "the writer is gone", func() bool {
		s, ok := m.v.Still(m.node("A/f"))
		if ok {
			s.End()
		}
		return ok
	})
	c.must(call{Op: "pread", FD: fd, Off: 8192, N: 4096})
	eventually(t, "the chunk is pushed", func() bool { return m.s.Counters().Pushed == 1 })
	if got := c.must(call{Op: "pread", FD: fd, N: 16384}).Data; string(got) != strings.Repeat("a", 4096)+strings.Repeat("b", 4096)+strings.Repeat("a", 8192) {
		t.Error("wrong bytes")
	}
	c.must(call{Op: "close", FD: fd})
}

// TestNoPushAroundTheCache leaves programs alone that read with O_DIRECT.
func TestNoPushAroundTheCache(t *testing.T) {
	m := mountVault(t, nil)
	c := startClient(t)
	m.put("A/f", strings.Repeat("a", 1<<20))
	fd := c.open(m.a+"/f", os.O_RDONLY|syscall.O_DIRECT)
	sent := m.requests(func() {
		for i := range 4 {
			c.must(call{Op: "pread", FD: fd, Off: int64(i * 4096), N: 4096})
		}
	})
	if n := m.s.Counters().Pushed; sent["READ"] != 4 || n != 0 {
		t.Errorf("%v and %d pushes", sent, n)
	}
	c.must(call{Op: "close", FD: fd})
}

// TestPushesSmallFiles wants a small file to be read without a READ, and to be
// pushed again only when the kernel may have lost it.
func TestPushesSmallFiles(t *testing.T) {
	m := mountVault(t, nil)
	c := startClient(t)
	for _, size := range []int{1, 4095, 4096, 10_000, smallFile} {
		want := strings.Repeat(string(rune('a'+size%26)), size)
		m.put("A/f", want)
		f := m.a + "/f"
		c.must(call{Op: "stat", Path: f})
		sent := m.requests(func() {
			if got := c.read(f); got != want {
				t.Errorf("%d bytes: wrong", size)
			}
		})
		if sent["OPEN"] != 1 || sent["READ"] != 0 {
			t.Errorf("%d bytes: %v", size, sent)
		}
		if st := c.must(call{Op: "stat", Path: f}).Stat; st.Size != int64(size) {
			t.Errorf("%d bytes: size %d", size, st.Size)
		}
		before := m.s.Counters().Pushed
		if c.read(f) != want || m.s.Counters().Pushed != before {
			t.Errorf("%d bytes: pushed twice", size)
		}
	}
}

// TestStatPushesNothing lets a program list and stat.
func TestStatPushesNothing(t *testing.T) {
	m := mountVault(t, nil)
	c := startClient(t)
	m.put("A/f", "content")
	c.must(call{Op: "lsl", Path: m.a})
	c.must(call{Op: "stat", Path: m.a + "/f"})
	if n := m.s.Counters().Pushed; n != 0 {
		t.Errorf("%d pushes", n)
	}
}

// TestKeptFollowsTheKernel forgets what the kernel was given where it may not
// have it any more.
func TestKeptFollowsTheKernel(t *testing.T) {
	m := mountVault(t, nil)
	c := startClient(t)
	m.put("A/f", strings.Repeat("a", 5000))
	f, n := m.a+"/f", m.node("A/f")
	kept := func(what string, want bool) {
		t.Helper()
		if n.Kept.Load() != want {
			t.Errorf("after %s: kept %v", what, !want)
		}
	}
	c.read(f)
	kept("a read", true)
	c.must(call{Op: "close", FD: c.open(f, os.O_RDWR)})
	kept("an open for writing", false)
	eventually(t, "RELEASE", func() bool { return m.s.Counters().Handles == 0 })
	c.read(f)
	kept("another read", true)
	c.must(call{Op: "truncate", Path: f, Off: 4000})
	kept("a truncation", false)
	if got := c.read(f); got != strings.Repeat("a", 4000) {
		t.Errorf("reads %d bytes", len(got))
	}
	eventually(t, "RELEASE", func() bool { return m.s.Counters().Handles == 0 })
	c.read(f)
	kept("a third read", true)
	fd := c.open(f, os.O_RDONLY)
	c.must(call{Op: "dontneed", FD: fd})
	if got := c.must(call{Op: "pread", FD: fd, N: 5000}).Data; string(got) != strings.Repeat("a", 4000) {
		t.Errorf("reads %d bytes", len(got))
	}
	kept("a READ", false)
	c.must(call{Op: "close", FD: fd})
}

// TestPushOfDamaged opens a file whose bytes were tampered with: the open
// succeeds, the read says it.
func TestPushOfDamaged(t *testing.T) {
	m := mountVault(t, nil)
	c := startClient(t)
	m.put("A/f", strings.Repeat("a", smallFile))
	check(t, m.v.Barrier(t.Context()))
	blobs, err := filepath.Glob(filepath.Join(m.home, "attachments", "*.bin"))
	if err != nil || len(blobs) != 1 {
		t.Fatalf("blobs %v, %v", blobs, err)
	}
	sealed, err := os.ReadFile(blobs[0])
	check(t, err)
	sealed[len(sealed)/2] ^= 1
	check(t, os.WriteFile(blobs[0], sealed, 0o600))
	fd := c.open(m.a+"/f", os.O_RDONLY)
	c.fails(call{Op: "pread", FD: fd, N: 4096}, syscall.EIO)
	c.must(call{Op: "close", FD: fd})
	if n := m.s.Counters().Pushed; n != 0 {
		t.Errorf("%d pushes", n)
	}
}
