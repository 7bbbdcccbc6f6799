package syncer

import (
	"time"
)

// When to seal, to push and to look. The decisions here know no remote, no
// vault and no clock; they are given what is and say what is next.
const (
	sealQuiet  = time.Second      // nothing changed for that long
	sealAtMost = 10 * time.Second // after the first change, whatever happens
	sealRows   = 200              // changed rows that make about a full batch
	sayWithin  = 15 * time.Minute // after a confirmation
	lifeEvery  = 24 * time.Hour   // an empty batch, as a sign of life

	// While programs work in the mount, and nobody waits, a change waits sealAtMost
	// until it is sealed, so that it is at rest, and its content in a file, before it
	// costs anything; sealing takes a twentieth of the time, and every sealAllAfter it
	// takes also what changes all the time. It looks every workEvery whether they
	// still work.
	sealPause    = 19 // times as long as a batch took
	sealAllAfter = time.Minute
	workEvery    = 500 * time.Millisecond

	pollInUse      = 5 * time.Second
	pollIdle       = 5 * time.Minute
	pollMetered    = 15 * time.Minute
	pollSoon       = time.Second // while something announced has not come
	soonFor        = 15 * time.Second
	inUseFor       = 5 * time.Minute
	reconcileEvery = 15 * time.Minute

	retryFirst = time.Second
	retryMost  = 15 * time.Minute
	retryInUse = 30 * time.Second // somebody waits
)

// facts are what the loop knows when it decides.
type facts struct {
	now     time.Time
	online  bool // the last answer of the remote was one
	stopped bool // a condition forbids to say anything there
	metered bool
	busy    bool // programs work in the mount

	used       time.Time // last request or change
	bell       bool      // the remote says by itself that something is new
	rung       bool      // and just did
	polled     time.Time // last good look
	reconciled time.Time // last good look at everything
	failed     time.Time // last failure, zero after a good look
	failures   int       // in a row
	jitter     float64   // in [0, 1)
	soon       bool      // somebody has a reason to look at once
	expected   time.Time // when something was announced that has not come; zero: nothing

	unsealed  int       // changed rows
	changed   time.Time // last change
	dirty     time.Time // since when something has been unsealed
	sealTried time.Time // last attempt, whatever came of it
	sealAfter time.Time // programs that work in the mount come first until then
	sealedAll time.Time // last attempt at everything
	unsaid    time.Time // since when a confirmation has been untold; zero: none
	owed      time.Time // since when others wait to hear that something was seen; zero: they do not
	sealed    time.Time // last own batch; zero: unknown
	unpushed  bool
	pushAgain time.Time // not before
}

// step is what to do now, and when to decide again if there is nothing.
type step struct {
	poll, reconcile               bool
	seal, everything, empty, push bool
	gentle                        bool // nobody waits for it: programs come first
	beside                        bool // and they work
	again                         time.Time
}

// quiet is how long what is sealed must not have changed.
func (s step) quiet() time.Duration {
	if s.beside {
		return sealAtMost
	}
	return sealQuiet
}

func (s step) any() bool { return s.poll || s.seal || s.push }

// next decides.
func next(f facts) step {
	s := step{again: f.now.Add(pollIdle), gentle: true, beside: f.busy}
	at := nextPoll(f)
	if !f.now.Before(at) {
		s.poll = true
		s.reconcile = f.failures > 0 || f.reconciled.IsZero() || f.now.Sub(f.reconciled) >= reconcileEvery
	}
	s.sooner(f, at)
	if !f.online || f.stopped {
		return s
	}
	s.decideSeal(f)
	if f.unpushed {
		s.push = !f.now.Before(f.pushAgain)
		s.sooner(f, f.pushAgain)
	}
	return s
}

func (s *step) sooner(f facts, at time.Time) {
	if at.Before(s.again) {
		s.again = at
	}
	if s.again.Before(f.now) {
		s.again = f.now
	}
}

// nextPoll is when the remote is asked again what is new.
func nextPoll(f facts) time.Time {
	if !f.failed.IsZero() {
		return f.failed.Add(f.retryWait())
	}
	if f.polled.IsZero() {
		return f.now
	}
	if f.rung {
		return f.now
	}
	if f.soon {
		return f.polled.Add(pollSoon)
	}
	return f.polled.Add(f.pollWait())
}

func (f facts) inUse() bool { return !f.used.IsZero() && f.now.Sub(f.used) < inUseFor }

func (f facts) retryWait() time.Duration {
	wait := backoff(f.failures, f.jitter)
	if f.inUse() {
		wait = min(wait, retryInUse)
	}
	return wait
}

func (f facts) pollWait() time.Duration {
	switch {
	case f.metered:
		return pollMetered
	case !f.expected.IsZero() && f.now.Sub(f.expected) < soonFor:
		return pollSoon
	case f.bell:
		return pollIdle
	case f.inUse():
		return pollInUse
	case f.used.IsZero():
		return pollIdle
	}
	idle := f.now.Sub(f.used) - inUseFor
	return min(max(idle/10, pollInUse), pollIdle)
}

// diskTries bounds the failures that count when the disk of this device is full:
// looking again costs no network, and whoever makes room wants to see it used.
const diskTries = 6 // 32 s

// backoff is how long to wait after a number of failures in a row: doubling with
// full jitter, so that many devices do not come back at the same moment.
func backoff(failures int, jitter float64) time.Duration {
	if failures <= 0 {
		return 0
	}
	most := retryMost
	if failures < 11 {
		most = min(retryFirst<<(failures-1), retryMost)
	}
	// Never at once, or a failure that takes no time would be a busy loop.
	return max(time.Duration(jitter*float64(most)), retryFirst/4)
}

// sealAt is when what changed is sealed.
func (f facts) sealAt() time.Time {
	at, late := f.changed.Add(sealQuiet), f.dirty.Add(sealAtMost)
	switch {
	case f.busy:
		at = late
	case f.unsealed >= sealRows:
		at = f.now
	case late.Before(at):
		at = late
	}
	// What changed a moment ago is left for the next batch, so an attempt may
	// have come to nothing.
	if t := f.sealTried.Add(sealQuiet); t.After(at) {
		at = t
	}
	if f.busy && f.sealAfter.After(at) {
		at = f.sealAfter
	}
	return at
}

// takesAll says whether also what changed a moment ago is sealed.
func (f facts) takesAll() bool {
	if !f.busy {
		return f.now.Sub(f.dirty) >= sealAtMost
	}
	return f.now.Sub(f.dirty) >= sealAllAfter && f.now.Sub(f.sealedAll) >= sealAllAfter
}

func (s *step) decideSeal(f facts) {
	if f.unsealed > 0 {
		at := f.sealAt()
		s.seal = !f.now.Before(at)
		s.everything = s.seal && f.takesAll()
		s.sooner(f, at)
	}
	if f.unsealed > 0 && f.busy {
		s.sooner(f, f.now.Add(workEvery))
	}
	if !f.unsaid.IsZero() {
		at := f.unsaid.Add(sayWithin)
		s.seal = s.seal || !f.now.Before(at)
		s.sooner(f, at)
	}
	at := f.sealed.Add(lifeEvery)
	if f.sealed.IsZero() { // its first word is its name, by which others call it
		at = f.sealTried.Add(sealQuiet)
	}
	if owed := f.owed.Add(sayWithin); !f.owed.IsZero() && owed.Before(at) {
		at = owed
	}
	s.empty = !f.now.Before(at)
	s.seal = s.seal || s.empty
	s.sooner(f, at)
}

// Waits for batches that others name and nobody delivers, in polls that went
// well.
const (
	withheldAfter       = 15 * time.Minute
	withheldAfterFolder = 24 * time.Hour // other programs bring its files in any order
)

func giveUpAfter(c Caps) time.Duration {
	if c.Folder {
		return withheldAfterFolder
	}
	return withheldAfter
}
