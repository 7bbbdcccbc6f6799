//go:build !race

package fs

import "testing"

// TestReadAllocates wants the hot path of READ to allocate nothing. Under the
// race detector pools forget on purpose, so it cannot hold there.
func TestReadAllocates(t *testing.T) {
	for _, size := range readSizes {
		f, id := served(t, size)
		for _, n := range []int{4 << 10, 128 << 10} {
			if n > size {
				continue
			}
			buf, off := make([]byte, n), 0
			got := testing.AllocsPerRun(200, func() {
				read(t, f, id, uint64(off), buf)
				off = (off + n) % size
			})
			if got >= 1 {
				t.Errorf("READ of %d bytes of %d: %v allocations", n, size, got)
			}
		}
	}
}
