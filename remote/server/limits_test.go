package server

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// TestMemoryRatesHold: whenever calls come, no minute has more of them than
// allowed, who waits as long as told gets through, and the wait is about a minute
// at most.
func TestMemoryRatesHold(t *testing.T) {
	const limit = 60
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 1))
		now := time.Unix(1_800_000_000, 0)
		r := newMemoryRates(func() time.Time { return now })
		var taken []time.Time // once for each that counts
		for range 500 {
			now = now.Add([]time.Duration{0, time.Second, 29 * time.Second, 31 * time.Second, time.Minute}[random.IntN(5)] * time.Duration(random.IntN(3)))
			n := 1 + random.Int64N(limit)
			err := r.take("key", limit, n)
			var e *api.Error
			if errors.As(err, &e) {
				if e.RetryAfter <= 0 || e.RetryAfter > rateTime+eighth {
					t.Fatalf("seed %d: told to wait %v", seed, e.RetryAfter)
				}
				now = now.Add(e.RetryAfter)
				err = r.take("key", limit, n)
			}
			if err != nil {
				t.Fatalf("seed %d: refused after the wait: %v", seed, err)
			}
			for range n {
				taken = append(taken, now)
			}
			if last := len(taken) - 1 - limit; last >= 0 && now.Sub(taken[last]) < time.Minute {
				t.Fatalf("seed %d: %d calls within %v", seed, limit+1, now.Sub(taken[last]))
			}
		}
	}
}

// TestMemoryRatesLongerThanLimit: one that could never fit has a minute alone.
func TestMemoryRatesLongerThanLimit(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	r := newMemoryRates(func() time.Time { return now })
	must(t, r.take("key", 10, 1000))
	if r.take("key", 10, 1) == nil {
		t.Error("more beside one that is longer than the limit")
	}
	now = now.Add(rateTime + eighth)
	must(t, r.take("key", 10, 1000))
}

// TestBodiesForget: accounts without a body under way take no room, also refused.
func TestBodiesForget(t *testing.T) {
	b := newBodies(Limits{AllBodies: 1}.withDefaults())
	leave, err := b.enter(1, false)
	must(t, err)
	for account := range int64(10) {
		if _, err := b.enter(account, true); err == nil {
			t.Errorf("account %d is let in beyond the bound", account)
		}
	}
	if leave(); len(b.by) != 0 {
		t.Errorf("%d accounts are remembered", len(b.by))
	}
}
