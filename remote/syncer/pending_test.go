package syncer

import (
	"testing"
	"time"
)

// Contents that nobody has confirmed are asked for at once, then less and less often
// however often the remote rings, and at once for who waits.
func TestPendingIsAskedInPeace(t *testing.T) {
	now := noon
	e := &Engine{o: Options{Now: func() time.Time { return now }}}
	if !e.mayAsk(true, false) {
		t.Fatal("not asked at first")
	}
	wait := pendingFirst
	for range 9 {
		if e.mayAsk(true, false) || !e.asking.due || !e.refresh {
			t.Fatalf("asked again before %v are over, or forgotten", wait)
		}
		now = now.Add(wait)
		if !e.mayAsk(true, false) || e.asking.due {
			t.Fatalf("not asked after %v", wait)
		}
		wait = min(2*wait, pendingMost)
	}
	if wait != pendingMost || e.mayAsk(true, false) || !e.mayAsk(true, true) {
		t.Error("who waits has to wait longer")
	}
	now = now.Add(-time.Hour)
	if !e.mayAsk(true, false) {
		t.Error("a clock that was put back stops it")
	}
	if e.mayAsk(false, true) || !e.mayAsk(true, false) {
		t.Error("it goes on slowly with new ones")
	}
}
