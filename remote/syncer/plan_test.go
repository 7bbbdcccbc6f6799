package syncer

import (
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return noon.Add(-d) }

// quietFacts are those of an idle vault that was just looked at.
func quietFacts() facts {
	return facts{now: noon, online: true, used: ago(time.Minute), polled: noon, reconciled: ago(time.Minute), sealed: ago(time.Hour)}
}

func TestNext(t *testing.T) {
	for _, c := range []struct {
		name string
		is   func(*facts)
		want step          // again is not compared
		in   time.Duration // until it decides again, if there is nothing to do
	}{
		{"idle", func(*facts) {}, step{}, pollInUse},
		{"never looked", func(f *facts) { f.polled, f.reconciled, f.online = time.Time{}, time.Time{}, false }, step{poll: true, reconcile: true}, 0},
		{"time to look", func(f *facts) { f.polled = ago(pollInUse) }, step{poll: true}, 0},
		{"time to look at everything", func(f *facts) { f.polled, f.reconciled = ago(pollInUse), ago(reconcileEvery) }, step{poll: true, reconcile: true}, 0},
		{"failed just now", func(f *facts) { f.failed, f.failures, f.jitter = noon, 3, 0.5 }, step{}, 2 * time.Second},
		{"failed a while ago", func(f *facts) { f.failed, f.failures, f.jitter = ago(4*time.Second), 3, 0.5 }, step{poll: true, reconcile: true}, 0},
		{"offline for long, in use", func(f *facts) { f.failed, f.failures, f.jitter = noon, 20, 0.999 }, step{}, retryInUse},
		{"offline for long, not in use", func(f *facts) { f.failed, f.failures, f.jitter, f.used = noon, 20, 0.5, ago(time.Hour) }, step{}, pollIdle},
		{"changed just now", func(f *facts) { f.unsealed, f.changed, f.dirty = 1, noon, noon }, step{}, sealQuiet},
		{"quiet since a change", func(f *facts) { f.unsealed, f.changed, f.dirty = 1, ago(time.Second), ago(time.Second) }, step{seal: true}, 0},
		{"changes all the time", func(f *facts) { f.unsealed, f.changed, f.dirty = 1, noon, ago(sealAtMost) }, step{seal: true, everything: true}, 0},
		{"changes for some time", func(f *facts) { f.unsealed, f.changed, f.dirty = 1, noon, ago(sealAtMost-500*time.Millisecond) }, step{}, 500 * time.Millisecond},
		{"a batch is full", func(f *facts) { f.unsealed, f.changed, f.dirty = sealRows, noon, noon }, step{seal: true}, 0},
		{"a batch is full and was just made", func(f *facts) { f.unsealed, f.changed, f.dirty, f.sealTried = sealRows, noon, noon, noon }, step{}, sealQuiet},
		{"a batch was made, and programs work", func(f *facts) {
			f.unsealed, f.changed, f.dirty, f.sealTried, f.sealAfter, f.busy = sealRows, noon, ago(sealAtMost), ago(time.Second), noon.Add(200*time.Millisecond), true
		}, step{}, 200 * time.Millisecond},
		{"a batch was made, and programs have ended their work", func(f *facts) {
			f.unsealed, f.changed, f.dirty, f.sealTried, f.sealAfter = sealRows, noon, ago(sealAtMost), ago(time.Second), noon.Add(2*time.Second)
		}, step{seal: true, everything: true}, 0},
		{"programs work", func(f *facts) { f.unsealed, f.changed, f.dirty, f.busy = sealRows, noon, ago(time.Second), true }, step{}, workEvery},
		{"programs have worked for a while", func(f *facts) { f.unsealed, f.changed, f.dirty, f.busy = 1, noon, ago(sealAtMost), true }, step{seal: true, beside: true}, 0},
		{"programs have worked for long", func(f *facts) { f.unsealed, f.changed, f.dirty, f.busy = 1, noon, ago(sealAllAfter), true },
			step{seal: true, everything: true, beside: true}, 0},
		{"programs work, and all was sealed lately", func(f *facts) {
			f.unsealed, f.changed, f.dirty, f.sealedAll, f.busy = 1, noon, ago(time.Hour), ago(sealAllAfter-time.Second), true
		}, step{seal: true, beside: true}, 0},
		{"changed, offline", func(f *facts) {
			f.unsealed, f.changed, f.dirty, f.online = 9, ago(time.Hour), ago(time.Hour), false
		}, step{}, pollInUse},
		{"changed, stopped", func(f *facts) { f.unsealed, f.changed, f.dirty, f.stopped = 9, ago(time.Hour), ago(time.Hour), true }, step{}, pollInUse},
		{"told nobody for long", func(f *facts) { f.unsaid = ago(sayWithin) }, step{seal: true}, 0},
		{"others wait for long", func(f *facts) { f.owed = ago(sayWithin) }, step{seal: true, empty: true}, 0},
		{"others wait for a moment", func(f *facts) { f.owed = ago(time.Minute) }, step{}, pollInUse},
		{"told nobody for a moment", func(f *facts) { f.unsaid = ago(time.Minute) }, step{}, pollInUse},
		{"never said anything", func(f *facts) { f.sealed = time.Time{} }, step{seal: true, empty: true}, 0},
		{"never said anything, and just tried", func(f *facts) { f.sealed, f.sealTried = time.Time{}, noon }, step{}, sealQuiet},
		{"no sign of life for a day", func(f *facts) { f.sealed = ago(lifeEvery) }, step{seal: true, empty: true}, 0},
		{"something to push", func(f *facts) { f.unpushed = true }, step{push: true}, 0},
		{"something to push, later", func(f *facts) { f.unpushed, f.pushAgain = true, noon.Add(3*time.Second) }, step{}, 3 * time.Second},
		{"something announced has not come", func(f *facts) { f.expected, f.polled = ago(3*time.Second), ago(pollSoon) }, step{poll: true}, 0},
		{"it never came", func(f *facts) { f.expected, f.polled = ago(time.Minute), ago(pollSoon) }, step{}, pollInUse - pollSoon},
		{"it says by itself what is new", func(f *facts) { f.bell, f.polled = true, ago(time.Minute) }, step{}, pollIdle - time.Minute},
		{"it just said so", func(f *facts) { f.bell, f.rung = true, true }, step{poll: true}, 0},
		{"metered", func(f *facts) { f.metered, f.polled = true, ago(time.Minute) }, step{}, pollIdle},
		{"a transfer failed", func(f *facts) { f.soon, f.polled = true, ago(pollSoon) }, step{poll: true}, 0},
		{"not in use for an hour", func(f *facts) { f.used, f.polled = ago(time.Hour), ago(pollIdle) }, step{poll: true}, 0},
		{"not in use for a little", func(f *facts) { f.used = ago(inUseFor + 200*time.Second) }, step{}, 20 * time.Second},
	} {
		f := quietFacts()
		c.is(&f)
		got := next(f)
		again := got.again
		if !got.gentle {
			t.Errorf("%s: it does not heed programs", c.name)
		}
		got.again, got.gentle = time.Time{}, false
		got.beside = got.beside && got.any()
		if got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
		if !got.any() && !again.Equal(noon.Add(c.in)) {
			t.Errorf("%s: again in %v, want %v", c.name, again.Sub(noon), c.in)
		}
		if again.Before(noon) || again.After(noon.Add(pollIdle)) {
			t.Errorf("%s: again in %v", c.name, again.Sub(noon))
		}
	}
}

// While programs work in the mount sealing takes a twentieth of their time, but not
// when somebody waits for it.
func TestSealingGivesWay(t *testing.T) {
	busy := true
	e := &Engine{o: Options{Now: func() time.Time { return noon }, Busy: func() bool { return busy }}}
	if e.givesWay(step{}, time.Second) || !e.sealAfter.IsZero() {
		t.Error("somebody waits, and it pauses")
	}
	if !e.givesWay(step{gentle: true}, 100*time.Millisecond) || !e.sealAfter.Equal(noon.Add(1900*time.Millisecond)) {
		t.Errorf("after 100 ms it goes on at %v", e.sealAfter)
	}
	busy = false
	if e.givesWay(step{gentle: true}, time.Second) {
		t.Error("nobody works, and it pauses")
	}
}

func TestBackoff(t *testing.T) {
	for failures := range 70 {
		most := backoff(failures, 0.999999)
		if failures == 0 && most != 0 || most > retryMost || backoff(failures, 0) > retryFirst/4 {
			t.Errorf("%d failures: %v to %v", failures, backoff(failures, 0), most)
		}
		if failures >= 11 && most < retryMost-time.Second {
			t.Errorf("%d failures: at most %v", failures, most)
		}
	}
}

func job(n int64, size int64, seq uint64) vaultcore.Job {
	return vaultcore.Job{N: n, Blob: seal.ID{byte(n), byte(n >> 8)}, Size: size, Seq: seq}
}

var open = limits{small: maxSmall, large: maxLarge, batch: 1}

// order takes everything a queue gives, one at a time.
func order(q *queue, l limits) (out []int64) {
	for {
		j, ok := q.next(noon, l)
		if !ok {
			return out
		}
		out = append(out, j.N)
		q.end(j.Blob)
	}
}

// The newest save goes first, and every fourth is the one that has waited
// longest.
func TestQueueOrder(t *testing.T) {
	q := newQueue()
	for n := range int64(8) {
		q.add(job(n, 1, 1))
		q.add(job(n, 1, 1)) // twice is once
	}
	want := []int64{7, 6, 5, 0, 4, 3, 2, 1}
	if got := order(q, open); len(got) != len(want) {
		t.Fatalf("order %v", got)
	} else {
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("order %v, want %v", got, want)
			}
		}
	}
	if len(q.jobs) != 0 || q.bytes != 0 || q.busy(open) {
		t.Errorf("left: %+v", q)
	}
}

// Large ones do not hold up small ones, nor the other way round, and no more are
// under way than may be.
func TestQueueClasses(t *testing.T) {
	q := newQueue()
	for n := range int64(40) {
		q.add(job(2*n, smallSize, 1))
		q.add(job(2*n+1, smallSize+1, 1))
	}
	begun := map[class]int{}
	var one vaultcore.Job
	for {
		j, ok := q.next(noon, open)
		if !ok {
			break
		}
		begun[classOf(j.Size)]++
		one = j
	}
	if begun[small] != maxSmall || begun[large] != maxLarge {
		t.Errorf("begun %v", begun)
	}
	q.put(one.Blob, vaultcore.JobState{Until: noon.Add(time.Minute)}, "")
	if _, ok := q.next(noon, open); !ok {
		t.Error("one that waits holds the others up")
	}
	if !q.wake().Equal(noon.Add(time.Minute)) {
		t.Errorf("wakes at %v", q.wake())
	}
	if _, ok := q.next(noon, limits{small: maxSmall, large: maxLarge, largest: 1, batch: 1}); ok {
		t.Error("a large one was begun on a metered network")
	}
}

// One of which all has come makes room for the next, up to a bound: the disk is
// waited for together.
func TestQueueLanding(t *testing.T) {
	q := newQueue()
	const count = maxSmall + maxLanding + 10
	for n := range int64(count) {
		q.add(job(n, 1, 1))
	}
	var landing []vaultcore.Job
	for {
		j, ok := q.next(noon, open)
		if !ok {
			break
		}
		q.land(j.Blob)
		q.land(j.Blob) // twice is once
		landing = append(landing, j)
	}
	if len(landing) != maxLanding || q.landing != maxLanding || q.active[small] != 0 {
		t.Fatalf("%d began, %d land, %d are active", len(landing), q.landing, q.active[small])
	}
	q.end(landing[0].Blob)
	q.put(landing[1].Blob, vaultcore.JobState{Until: noon.Add(time.Minute)}, "")
	if q.landing != maxLanding-2 {
		t.Errorf("%d land after two ended", q.landing)
	}
	begun := 0
	for {
		if _, ok := q.next(noon, open); !ok {
			break
		}
		begun++
	}
	if begun != maxSmall {
		t.Errorf("%d began then", begun)
	}
}

// A content goes after its batch, one that waits after its time, one that is
// blocked not at all until somebody asks.
func TestQueueWaits(t *testing.T) {
	q := newQueue()
	q.add(job(1, 1, 5))
	later := job(2, 1, 1)
	later.Until = noon.Add(time.Hour)
	q.add(later)
	blocked := job(3, 1, 1)
	blocked.Blocked = CondTooLarge
	q.add(blocked)
	if got := order(q, open); len(got) != 0 || q.busy(open) {
		t.Fatalf("began %v", got)
	}
	open := limits{small: 1, large: 1, batch: 5}
	if got := order(q, open); len(got) != 1 || got[0] != 1 {
		t.Fatalf("began %v after the batch", got)
	}
	if n := len(q.stuck()); n != 2 {
		t.Errorf("%d are stuck", n)
	}
	if got := q.retry(false); len(got) != 1 || got[0].N != 2 {
		t.Errorf("retried %v", got)
	}
	if got := order(q, open); len(got) != 1 || got[0] != 2 {
		t.Errorf("began %v", got)
	}
	q.retry(true)
	if got := order(q, open); len(got) != 1 || got[0] != 3 {
		t.Errorf("began %v", got)
	}
}

// What somebody waits for is begun beside the others, once.
func TestQueueTake(t *testing.T) {
	q := newQueue()
	q.add(job(1, 1, 1))
	j, ok := q.take(job(1, 1, 1).Blob)
	if _, again := q.take(j.Blob); !ok || again {
		t.Fatalf("taken %v, and again %v", ok, again)
	}
	if q.active[small] != 0 {
		t.Error("it takes the place of another")
	}
	q.put(j.Blob, vaultcore.JobState{}, "")
	if got := order(q, open); len(got) != 1 {
		t.Errorf("given back: %v", got)
	}
	if q.active[small] != 0 {
		t.Errorf("%d active", q.active[small])
	}
}

// A content can be asked for again while its attempt finds nothing to send.
func TestQueueAgainWhileActive(t *testing.T) {
	q := newQueue()
	first, later := job(1, 1, 1), job(1, 1, 1)
	first.Up, later.Up, later.N = true, true, 7
	q.add(first)
	active, _ := q.next(noon, open)
	q.add(first)
	q.add(later)
	if _, ok := q.next(noon, open); ok {
		t.Error("tried twice at a time")
	}
	q.end(active.Blob)
	if got := order(q, open); len(got) != 1 || got[0] != 7 {
		t.Errorf("after the first attempt: %v", got)
	}
	if len(q.jobs) != 0 || q.bytes != 0 || q.active[small] != 0 {
		t.Errorf("left: %+v", q)
	}
}

// The numbers of a chain are fetched in order; a gap is tried once and ends it.
func TestChainWanted(t *testing.T) {
	device := seal.NewID()
	c := &chain{listed: map[uint64]bool{3: true, 4: true, 6: true}}
	seqs := func(head uint64) (out []uint64) {
		for _, r := range c.wanted(device, head) {
			out = append(out, r.seq)
		}
		return out
	}
	for _, s := range []struct {
		head uint64
		want int
		last uint64
	}{{2, 3, 5}, {2, 2, 4}, {4, 0, 0}, {5, 1, 6}, {6, 0, 0}} {
		got := seqs(s.head)
		if len(got) != s.want || s.want > 0 && got[len(got)-1] != s.last {
			t.Errorf("behind %d: %v", s.head, got)
		}
	}
	c.held = 6
	if got := seqs(5); len(got) != 0 {
		t.Errorf("what is held is fetched again: %v", got)
	}
	c.held, c.stuck = 0, true
	if got := seqs(5); len(got) != 0 {
		t.Errorf("a stuck chain is tried: %v", got)
	}
}

// A rate is a rate from its first word on, and silent before there is enough to
// measure.
func TestMeter(t *testing.T) {
	var m meter
	at := func(s float64) time.Time { return noon.Add(time.Duration(s * float64(time.Second))) }
	m.add(at(0.5), 50_000) // buffers fill at once
	if got := m.rate(at(1)); got != 0 {
		t.Errorf("after half a second: %d", got)
	}
	for i := 1; i < 40; i++ {
		m.add(at(0.5+float64(i)), 1000)
		if got := m.rate(at(0.5 + float64(i))); i >= 14 && (got < 900 || got > 1150) {
			t.Errorf("1000 a second is %d after %d seconds", got, i)
		}
	}
	if got := m.rate(at(100)); got != 0 {
		t.Errorf("rate a minute later: %d", got)
	}
	m.add(at(200), 1000)
	m.add(at(203), 3000)
	if got := m.rate(at(204)); got != 1000 {
		t.Errorf("4000 in 4 seconds after a pause is %d", got)
	}
}

// Every condition says what to do.
func TestMeanings(t *testing.T) {
	for _, m := range meanings {
		if m.kind == "" || m.text == "" || m.hint == "" {
			t.Errorf("%+v", m)
		}
		if got := meaningOf(m.err); got.kind == CondLocal {
			t.Errorf("%v means nothing", m.err)
		}
	}
}
