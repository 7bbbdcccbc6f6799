package syncer

import "time"

// Programs come first. While they work in the mount, and nobody waits for what is
// sent, one content of each class goes at a time, and small ones begin giveWayEvery
// apart: however slow the line is, each costs the processor the same here and, where
// it is near, at the remote. Nothing starves by that: it ends with the work, and also
// after giveWayFor without a moment in which all small ones had gone.
const (
	giveWayEvery = 100 * time.Millisecond
	giveWayFor   = 2 * time.Minute
)

// giveWay is when small contents go beside the work of programs. It decides and does
// nothing itself; who uses it locks it.
type giveWay struct {
	behind time.Time // since when there have always been some to send; zero: there are none
	next   time.Time // not before, while they give way
}

// look notes whether there are small ones to send.
func (w *giveWay) look(now time.Time, some bool) {
	switch {
	case !some:
		w.behind = time.Time{}
	case w.behind.IsZero():
		w.behind = now
	}
}

// began notes that a small one has begun.
func (w *giveWay) began(now time.Time) { w.next = now.Add(giveWayEvery) }

// holds says whether the next small one waits.
func (w *giveWay) holds(now time.Time) bool {
	return now.Before(w.next) && now.Sub(w.behind) < giveWayFor
}

// wake is when one that waits may go; zero: none waits.
func (w *giveWay) wake(now time.Time) time.Time {
	if w.behind.IsZero() || !w.holds(now) {
		return time.Time{}
	}
	return w.next
}

// wake is when something that waits for a time may begin; zero: nothing does.
func (l *lane) wake() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	wake := l.q.wake()
	if until, closed := l.e.gates.closed(l.gate); closed && until.After(wake) {
		wake = until
	}
	if way := l.way.wake(l.e.o.Now()); l.up && !way.IsZero() && (wake.IsZero() || way.Before(wake)) {
		wake = way
	}
	return wake
}
