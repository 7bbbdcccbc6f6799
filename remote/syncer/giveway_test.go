package syncer

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// An hour of work in the mount, and more small saves than one upload after the other
// can send: for giveWayFor few of them go, then as many as one at a time can be, the
// oldest among them, and once nobody works, or somebody waits, all that may at a time.
func TestUploadsGiveWay(t *testing.T) {
	const (
		tick   = 50 * time.Millisecond // which is how long each takes
		saves  = 2                     // with every tick
		atOnce = int(giveWayFor / giveWayEvery)
	)
	now, busy := noon, true
	e := &Engine{o: Options{Now: func() time.Time { return now }, Busy: func() bool { return busy }}}
	e.gates.now = e.o.Now
	l := newLane(e, true, 0)
	l.batch = 1
	made, sent, early := int64(0), 0, 0
	oldest := make(map[int64]bool)
	for ; now.Before(noon.Add(time.Hour)); now = now.Add(tick) {
		for range saves {
			made++
			l.q.add(bigJob(made, 10<<10))
		}
		if j, ok := l.q.next(now, l.limits()); ok {
			l.begin(j)
			l.q.end(j.Blob)
			sent++
			oldest[j.N] = true
		}
		if now.Sub(noon) < giveWayFor {
			early = sent
		}
	}
	if early < atOnce-1 || early > atOnce+1 {
		t.Errorf("%d went in the first %v, want %d", early, giveWayFor, atOnce)
	}
	if rest := int((time.Hour - giveWayFor) / tick); sent-early < rest-1 {
		t.Errorf("%d went in the rest of the hour, want %d", sent-early, rest)
	}
	for n := range int64(1000) {
		if !oldest[n+1] {
			t.Fatalf("save %d has not gone after an hour", n+1)
		}
	}
	l.asked = 1
	if got := l.limits().small; got != maxSmall {
		t.Errorf("somebody waits, and %d go at a time", got)
	}
	l.asked, busy = 0, false
	if got := l.limits().small; got != maxSmall {
		t.Errorf("nobody works, and %d go at a time", got)
	}
}

// One content after the other goes while they give way, and the time to look again is
// when the next one may. With none left they give way anew.
func TestGiveWayEnds(t *testing.T) {
	now, busy := noon, true
	e := &Engine{o: Options{Now: func() time.Time { return now }, Busy: func() bool { return busy }}}
	e.gates.now = e.o.Now
	l := newLane(e, true, 0)
	l.batch = 1
	for n := range int64(3) {
		l.q.add(bigJob(n, 1))
	}
	begin := func() bool {
		j, ok := l.q.next(now, l.limits())
		if ok {
			l.begin(j)
			l.q.end(j.Blob)
		}
		return ok
	}
	if !begin() || begin() {
		t.Fatal("want one at once, and the next one later")
	}
	if got, want := l.wake(), noon.Add(giveWayEvery); !got.Equal(want) {
		t.Errorf("it looks again at %v, want %v", got, want)
	}
	if now = l.wake(); !begin() {
		t.Error("the second one does not go at its time")
	}
	if now = now.Add(giveWayFor); !begin() {
		t.Error("the third one has given way for too long")
	}
	l.limits()
	if got := l.wake(); !got.IsZero() {
		t.Errorf("there is nothing, and it looks again at %v", got)
	}
	l.q.add(bigJob(4, 1))
	l.q.add(bigJob(5, 1))
	now = now.Add(time.Hour)
	if !begin() || begin() {
		t.Error("after a pause they do not give way")
	}
	large := bigJob(6, smallSize+1)
	l.q.add(large)
	if j, ok := l.q.next(now, l.limits()); !ok || j.N != large.N {
		t.Error("a large one waits for the small ones")
	}
}

// bigJob is a job beside more others than job can number.
func bigJob(n, size int64) vaultcore.Job {
	j := vaultcore.Job{N: n, Size: size, Seq: 1}
	binary.BigEndian.PutUint64(j.Blob[:], uint64(n))
	return j
}
