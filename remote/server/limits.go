package server

import (
	"context"
	"sync"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/server/metadb"
)

// Limits are the operator's, per account unless said. 0 takes the default of
// SYNC.md section 7, a negative number lifts the limit.
type Limits struct {
	JSONUploads int64 // an hour
	RawBytes    int64 // an hour, on the free plan
	RawUploads  int64 // an hour, on the free plan
	RawPremium  int64 // an hour, on the premium plan
	Downloads   int64 // a minute
	Lists       int64
	Deletes     int64
	Failed      int64 // uploads an hour
	BlobBytes   int64 // read, a minute
	BlobReads   int64
	LogReads    int64
	LogPushes   int64
	Other       int64

	Bodies, JSONBodies, AllBodies int // at once; the last over all accounts
	Waiters, AllWaiters           int // of a session, of an account

	Challenges, Headers, Registrations int64 // a minute and address
}

// NoLimits are for a server whose users trust each other: quotas hold, and how
// much may be done in a time or at once does not.
func NoLimits() Limits {
	return Limits{JSONUploads: -1, RawBytes: -1, RawUploads: -1, RawPremium: -1, Downloads: -1, Lists: -1, Deletes: -1, Failed: -1, BlobBytes: -1,
		BlobReads: -1, LogReads: -1, LogPushes: -1, Other: -1, Bodies: -1, JSONBodies: -1, AllBodies: -1, Waiters: -1, AllWaiters: -1,
		Challenges: -1, Headers: -1, Registrations: -1}
}

func (l Limits) withDefaults() Limits {
	for _, d := range []struct {
		at  *int64
		def int64
	}{
		{&l.JSONUploads, 10}, {&l.RawBytes, 250 << 20}, {&l.RawUploads, 600}, {&l.RawPremium, 3600},
		{&l.Downloads, 30}, {&l.Lists, 30}, {&l.Deletes, 30}, {&l.Failed, 60},
		{&l.BlobBytes, 750 << 20}, {&l.BlobReads, 1200}, {&l.LogReads, 1200}, {&l.LogPushes, 600}, {&l.Other, 120},
		{&l.Challenges, 60}, {&l.Headers, 60}, {&l.Registrations, 10},
	} {
		if *d.at == 0 {
			*d.at = d.def
		}
		*d.at = max(0, *d.at) // 0 is no limit from here on
	}
	for _, d := range []struct {
		at  *int
		def int
	}{
		{&l.Bodies, 16}, {&l.JSONBodies, 3}, {&l.AllBodies, 256}, {&l.Waiters, 4}, {&l.AllWaiters, 64},
	} {
		if *d.at == 0 {
			*d.at = d.def
		}
		*d.at = max(0, *d.at)
	}
	return l
}

// Classes of calls that the database counts, exactly.
func (s *Server) classJSON() metadb.Limit {
	return metadb.Limit{Class: "upload", Max: s.o.Limits.JSONUploads, Window: time.Hour}
}

func (s *Server) classRaw(plan string) metadb.Limit {
	if plan == api.PlanFree {
		return metadb.Limit{Class: "raw", Max: s.o.Limits.RawUploads, Window: time.Hour}
	}
	return metadb.Limit{Class: "raw", Max: s.o.Limits.RawPremium, Window: time.Hour}
}

// classRawBytes has no limit on the premium plan.
func (s *Server) classRawBytes(plan string) metadb.Limit {
	l := metadb.Limit{Class: "raw-bytes", Window: time.Hour}
	if plan == api.PlanFree {
		l.Max = s.o.Limits.RawBytes
	}
	return l
}

func (s *Server) classDownload() metadb.Limit {
	return metadb.Limit{Class: "download", Max: s.o.Limits.Downloads, Window: time.Minute}
}

func (s *Server) classList() metadb.Limit {
	return metadb.Limit{Class: "list", Max: s.o.Limits.Lists, Window: time.Minute}
}

func (s *Server) classDelete() metadb.Limit {
	return metadb.Limit{Class: "delete", Max: s.o.Limits.Deletes, Window: time.Minute}
}

func (s *Server) classFailed() metadb.Limit {
	return metadb.Limit{Class: "failed", Max: s.o.Limits.Failed, Window: time.Hour}
}

// take uses one of a class.
func (s *Server) take(ctx context.Context, account int64, l metadb.Limit) error {
	_, err := s.o.DB.Take(ctx, account, l, 1)
	return err
}

// other bounds calls that have no limit of their own, each kind for itself.
func (s *Server) other(c *call) error {
	return s.memory.take("other "+c.route+" "+c.account.Vault, s.o.Limits.Other, 1)
}

// memoryRates count what comes too often to be written down each time: reads of
// the log and of blobs, and calls without a login by address. They are this
// process's own; at most maxRates keys are kept, the least recent go.
type memoryRates struct {
	now func() time.Time
	mu  sync.Mutex
	m   map[string]*window
}

// window counts by eighths of a minute: the newest at 0.
type window struct {
	start time.Time // of the newest
	n     [eighths + 1]int64
}

const (
	rateTime = time.Minute
	eighths  = 8
	// eighth is what a count is rounded to: a minute that begins within one sees
	// the rest of it too, so one more than fit is counted, and no minute has more
	// than the limit.
	eighth = rateTime / eighths
)

const maxRates = 100_000

func newMemoryRates(now func() time.Time) *memoryRates {
	return &memoryRates{now: now, m: make(map[string]*window)}
}

// move brings the window to a time; what is before it is forgotten.
func (w *window) move(at time.Time) {
	steps := int64(at.Sub(w.start) / eighth)
	if steps <= 0 {
		return
	}
	n := w.n
	w.n = [eighths + 1]int64{}
	if steps < int64(len(n)) {
		copy(w.n[steps:], n[:])
	}
	w.start = w.start.Add(time.Duration(steps) * eighth)
}

// free is when n more fit below a limit, at the latest: when enough of what is
// counted is over.
func (w *window) free(limit, n int64) time.Time {
	var sum int64
	for i, c := range w.n {
		if sum += c; sum+n > limit && sum > 0 {
			return w.start.Add(time.Duration(len(w.n)-i) * eighth)
		}
	}
	return w.start
}

// take uses n of key's limit within a minute; one that is longer than the limit
// has a minute for itself. Error: api's rate_limited.
func (r *memoryRates) take(key string, limit, n int64) error {
	if limit == 0 {
		return nil
	}
	at := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.m[key]
	if w == nil {
		if len(r.m) >= maxRates {
			r.forget(at)
		}
		w = &window{start: at}
		r.m[key] = w
	}
	w.move(at)
	if free := w.free(limit, n); free.After(w.start) {
		return api.Limited(api.CodeRateLimited, free.Sub(at), "too many calls: %d a minute are allowed", limit)
	}
	w.n[0] += n
	return nil
}

// forget drops what is over, and everything if that is not enough; mu is held.
func (r *memoryRates) forget(at time.Time) {
	for key, w := range r.m {
		if at.Sub(w.start) > rateTime+eighth {
			delete(r.m, key)
		}
	}
	if len(r.m) >= maxRates {
		clear(r.m)
	}
}

// bodies bounds the uploads under way.
type bodies struct {
	l   Limits
	mu  sync.Mutex
	all int
	by  map[int64]*bodyCount
}

type bodyCount struct{ all, json int }

func newBodies(l Limits) *bodies { return &bodies{l: l, by: make(map[int64]*bodyCount)} }

// enter takes a place; the caller gives it back with leave. Error: api's
// rate_limited or unavailable.
func (b *bodies) enter(account int64, json bool) (leave func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.by[account]
	if c == nil {
		c = &bodyCount{}
	}
	switch {
	case b.l.AllBodies > 0 && b.all >= b.l.AllBodies:
		return nil, api.Limited(api.CodeUnavailable, time.Second, "%d uploads are under way", b.all)
	case b.l.Bodies > 0 && c.all >= b.l.Bodies, json && b.l.JSONBodies > 0 && c.json >= b.l.JSONBodies:
		return nil, api.Limited(api.CodeRateLimited, time.Second, "%d uploads of this account are under way", c.all)
	}
	b.by[account] = c
	b.all++
	c.all++
	if json {
		c.json++
	}
	return func() { b.leave(account, c, json) }, nil
}

func (b *bodies) leave(account int64, c *bodyCount, json bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all--
	c.all--
	if json {
		c.json--
	}
	if c.all == 0 {
		delete(b.by, account)
	}
}

// seen says whether note had key within that time.
func (r *memoryRates) seen(key string, life time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.m[key]
	return w != nil && r.now().Sub(w.start) < life
}

func (r *memoryRates) note(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.now()
	if len(r.m) >= maxRates {
		r.forget(at)
	}
	r.m[key] = &window{start: at}
}
