package syncer

import (
	"cmp"
	"container/heap"
	"slices"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// How many transfers are under way at a time, and what is small.
const (
	smallSize = 1 << 20 // bytes
	maxSmall  = 16
	maxLarge  = 4
	ageing    = 4 // every so many picks the one that has waited longest

	// maxLanding is how many contents may have come and wait for the disk, beside
	// those under way: many land together for little more than one.
	maxLanding = 256
)

// class is small or large, so that large ones do not hold small ones up.
type class int

const (
	small class = iota
	large
	classes
)

func classOf(size int64) class {
	if size <= smallSize {
		return small
	}
	return large
}

// queue orders the transfers of one direction. It decides and does nothing
// itself; who uses it locks it.
type queue struct {
	jobs    map[seal.ID]*queued
	ready   [classes]line
	waiting waiting
	active  [classes]int
	picks   [classes]int
	landing int   // active ones of which all has come; not counted in active
	bytes   int64 // of all jobs
}

// where a job is in its queue.
type where int

const (
	isReady where = iota
	isWaiting
	isBlocked
	isActive
)

type queued struct {
	vaultcore.Job
	where where
	rank  int            // in waiting
	why   string         // what kept the last attempt from working: a kind of condition
	aside bool           // active, and not counted: somebody waits for it
	lands bool           // active, and counted as landing
	later *vaultcore.Job // that came for this content while it was active
}

func newQueue() *queue { return &queue{jobs: make(map[seal.ID]*queued)} }

// line holds the ready jobs of a class by number. Taken ones leave holes that
// are passed over.
type line struct {
	list   []*queued
	sorted bool
}

func (l *line) push(q *queued) {
	if n := len(l.list); n > 0 && l.list[n-1].N > q.N {
		l.sorted = false
	} else if n == 0 {
		l.sorted = true
	}
	l.list = append(l.list, q)
}

// pop takes the newest, or the oldest.
func (l *line) pop(oldest bool) *queued {
	if !l.sorted {
		slices.SortStableFunc(l.list, func(a, b *queued) int { return cmp.Compare(a.N, b.N) })
		l.sorted = true
	}
	for len(l.list) > 0 {
		var q *queued
		if oldest {
			q, l.list = l.list[0], l.list[1:]
		} else {
			q, l.list = l.list[len(l.list)-1], l.list[:len(l.list)-1]
		}
		if q.where == isReady {
			return q
		}
	}
	return nil
}

// waiting is a heap by the time before which a job is not tried.
type waiting []*queued

func (w waiting) Len() int           { return len(w) }
func (w waiting) Less(i, j int) bool { return w[i].Until.Before(w[j].Until) }
func (w waiting) Swap(i, j int) {
	w[i], w[j] = w[j], w[i]
	w[i].rank, w[j].rank = i, j
}
func (w *waiting) Push(x any) {
	q := x.(*queued)
	q.rank = len(*w)
	*w = append(*w, q)
}
func (w *waiting) Pop() any {
	old := *w
	q := old[len(old)-1]
	*w = old[:len(old)-1]
	return q
}

// add enters a job, or leaves alone the one of that content that is there. One
// to send that is newer than an active one is tried after it: the active one may
// end because there was nothing to send then.
func (q *queue) add(j vaultcore.Job) {
	if e := q.jobs[j.Blob]; e != nil {
		if e.where == isActive && j.Up && j.N > e.N {
			e.later = &j
		}
		return
	}
	e := &queued{Job: j}
	q.jobs[j.Blob] = e
	q.bytes += j.Size
	q.place(e)
}

// place puts a job where its state says.
func (q *queue) place(e *queued) {
	switch {
	case e.Blocked != "":
		e.where = isBlocked
	case !e.Until.IsZero():
		e.where = isWaiting
		heap.Push(&q.waiting, e)
	default:
		e.where = isReady
		q.ready[classOf(e.Size)].push(e)
	}
}

// some says whether a job of a class is ready. Holes before it are dropped.
func (q *queue) some(c class) bool {
	l := &q.ready[c]
	for len(l.list) > 0 && l.list[0].where != isReady {
		l.list = l.list[1:]
	}
	return len(l.list) > 0
}

// limits bound what next gives.
type limits struct {
	small, large int
	largest      int64  // bytes; 0: any
	batch        uint64 // jobs of later batches wait for theirs
}

func (l limits) of(c class) int {
	if c == small {
		return l.small
	}
	return l.large
}

// next takes the job to begin now, if there is one.
func (q *queue) next(now time.Time, l limits) (vaultcore.Job, bool) {
	for len(q.waiting) > 0 && !q.waiting[0].Until.After(now) {
		e := heap.Pop(&q.waiting).(*queued)
		e.where = isReady
		q.ready[classOf(e.Size)].push(e)
	}
	for c := small; c < classes; c++ {
		if e := q.pick(c, l); e != nil {
			e.where = isActive
			q.active[c]++
			return e.Job, true
		}
	}
	return vaultcore.Job{}, false
}

func (q *queue) pick(c class, l limits) *queued {
	if q.active[c] >= l.of(c) || q.landing >= maxLanding || len(q.ready[c].list) == 0 {
		return nil
	}
	oldest := (q.picks[c]+1)%ageing == 0
	var early []*queued
	defer func() {
		for _, e := range early {
			q.ready[c].push(e)
		}
	}()
	for {
		e := q.ready[c].pop(oldest)
		if e == nil {
			return nil
		}
		if e.Seq > l.batch || l.largest > 0 && e.Size > l.largest {
			early = append(early, e)
			continue
		}
		q.picks[c]++
		return e
	}
}

// take makes a job active out of turn and beside the others; false if it is not
// there or active already.
func (q *queue) take(blob seal.ID) (vaultcore.Job, bool) {
	e := q.jobs[blob]
	if e == nil || e.where == isActive {
		return vaultcore.Job{}, false
	}
	if e.where == isWaiting {
		heap.Remove(&q.waiting, e.rank)
	}
	e.where, e.aside = isActive, true
	return e.Job, true
}

// land lets another job begin beside an active one of which all has come.
func (q *queue) land(blob seal.ID) {
	e := q.jobs[blob]
	if e == nil || e.where != isActive || e.aside || e.lands {
		return
	}
	e.lands = true
	q.landing++
	q.active[classOf(e.Size)]--
}

// end takes a job out, whatever it was, and enters the one that came meanwhile.
func (q *queue) end(blob seal.ID) {
	e := q.jobs[blob]
	if e == nil {
		return
	}
	q.leave(e)
	e.where = isBlocked // holes in a line are not ready
	q.bytes -= e.Size
	delete(q.jobs, blob)
	if e.later != nil {
		q.add(*e.later)
	}
}

func (q *queue) leave(e *queued) {
	switch e.where {
	case isActive:
		switch {
		case e.lands:
			q.landing--
		case !e.aside:
			q.active[classOf(e.Size)]--
		}
		e.aside, e.lands = false, false
	case isWaiting:
		heap.Remove(&q.waiting, e.rank)
	}
}

// put gives back an active job with what became of it, and why.
func (q *queue) put(blob seal.ID, s vaultcore.JobState, why string) {
	e := q.jobs[blob]
	if e == nil {
		return
	}
	q.leave(e)
	e.JobState, e.why, e.later = s, why, nil
	q.place(e)
}

// retry makes every job that waits ready, and with blocked those that are
// blocked too. It gives the changed ones.
func (q *queue) retry(blocked bool) (changed []vaultcore.Job) {
	for _, e := range q.jobs {
		if e.where != isWaiting && !(blocked && e.where == isBlocked) {
			continue
		}
		if e.where == isWaiting {
			heap.Remove(&q.waiting, e.rank)
		}
		e.Until, e.Blocked = time.Time{}, ""
		q.place(e)
		changed = append(changed, e.Job)
	}
	return changed
}

// has says whether a job is held up by that.
func (q *queue) has(why string) bool {
	for _, e := range q.jobs {
		if e.why == why {
			return true
		}
	}
	return false
}

// wake is when the first job that waits becomes ready; zero: none waits.
func (q *queue) wake() time.Time {
	if len(q.waiting) == 0 {
		return time.Time{}
	}
	return q.waiting[0].Until
}

// busy says whether a job is active, or could be begun under these limits
// without waiting for a time.
func (q *queue) busy(l limits) bool {
	for _, e := range q.jobs {
		if e.where == isActive || e.where == isReady && e.Seq <= l.batch && (l.largest == 0 || e.Size <= l.largest) {
			return true
		}
	}
	return false
}

// stuck lists what does not go on at once: blocked or waiting.
func (q *queue) stuck() (out []vaultcore.Job) {
	for _, e := range q.jobs {
		if e.where == isBlocked || e.where == isWaiting {
			out = append(out, e.Job)
		}
	}
	slices.SortFunc(out, func(a, b vaultcore.Job) int { return cmp.Compare(a.N, b.N) })
	return out
}
