package fs

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestSpareBuffers: what readers need again and again stays, what they do not need
// any more goes back to the kernel.
func TestSpareBuffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s spares
		take := func(n int) (all []*buffers) {
			for range n {
				b, err := s.take()
				if err != nil {
					t.Fatal(err)
				}
				b.in[0], b.out[maxWrite-1] = 1, 2
				all = append(all, b)
			}
			return all
		}
		give := func(all []*buffers) {
			for _, b := range all {
				s.give(b)
			}
		}
		want := func(when string, n int) {
			t.Helper()
			s.mu.Lock()
			defer s.mu.Unlock()
			if len(s.free) != n {
				t.Errorf("%s: %d are free, want %d", when, len(s.free), n)
			}
		}
		give(take(spareMost + 3))
		want("after a crowd", spareMost)
		for range 5 { // a burst in every time between two looks
			time.Sleep(spareEvery / 2)
			all := take(spareMost)
			want("in a burst", 0)
			give(all)
			time.Sleep(spareEvery / 2)
			synctest.Wait()
		}
		want("after bursts", spareMost)
		time.Sleep(3 * spareEvery)
		synctest.Wait()
		want("when all is quiet", spareIdle)
		for _, b := range take(spareIdle) {
			b.unmap()
		}
	})
}
