package vaultcore

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPrepareReadsAhead: what a program will read first of a large file comes from
// the disk before it asks, and no more than that.
func TestPrepareReadsAhead(t *testing.T) {
	t.Parallel()
	v := openTest(t, newTestHome(t, ""), Options{Limits: streamLimits()})
	want := randomBytes(3<<20, 1)
	mustMkdir(t, v, "A")
	n := writeFile(t, v, "A/large", want)
	if err := v.Open(n, false, false); err != nil {
		t.Fatal(err)
	}
	defer v.Release(n, false)
	f, err := os.Open(filepath.Join(v.Home(), "attachments", binName(n.content.ref.blob)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
	cached := func(off, n uint64) uint64 {
		var st unix.Cachestat_t
		if err := unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{Off: off, Len: n}, &st, 0); err != nil {
			t.Skip("the kernel does not say what it has: ", err)
		}
		return st.Cache * uint64(os.Getpagesize())
	}
	if got := cached(0, 2<<20); got != 0 {
		t.Skipf("the file system keeps %d bytes of a file that is not wanted", got)
	}
	v.Prepare(n)
	eventually(t, "the first 768 KiB are here", func() bool { return cached(0, 768<<10) == 768<<10 })
	if got := cached(1<<20, 1<<20); got != 0 {
		t.Errorf("%d bytes of the second MiB were read as well", got)
	}
	got := make([]byte, 1<<20)
	if k, err := v.ReadAt(n, got, 0); err != nil || !bytes.Equal(got[:k], want[:k]) || k == 0 {
		t.Errorf("%d bytes, %v, or others", k, err)
	}
}
