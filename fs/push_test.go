package fs

import (
	"bytes"
	"math/rand/v2"
	"os"
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
