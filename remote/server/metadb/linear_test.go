package metadb

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/server/metatest"
)

// Fifty clients at once, ten on each of five accounts: an order of what fifty do
// on one cannot be searched for in the life of a test. What holds for one account
// with all fifty, sums alone, TestRaces looks at.
const linearClients, linearAccounts = 50, 5

// onHandles runs a test on SQLite, on PostgreSQL, and on PostgreSQL through two
// pools, as two processes have them.
func onHandles(t *testing.T, run func(t *testing.T, w []*world)) {
	t.Run("sqlite", func(t *testing.T) { run(t, []*world{newWorld(t, filepath.Join(t.TempDir(), "meta.db"))}) })
	t.Run("postgres", func(t *testing.T) { run(t, []*world{newWorld(t, metatest.Postgres(t))}) })
	t.Run("postgres twice", func(t *testing.T) {
		at := metatest.Postgres(t)
		run(t, []*world{newWorld(t, at), newWorld(t, at)})
	})
}

// TestLinearizableQuota: whatever fifty clients reserve, commit, give up and
// delete at once, there is an order of it in which the quota was exact.
func TestLinearizableQuota(t *testing.T) {
	onHandles(t, func(t *testing.T, w []*world) {
		const quota = 1500
		var wg sync.WaitGroup
		var histories []*metatest.History
		for range linearAccounts {
			a, parent := w[0].account(quota)
			h := metatest.NewHistory()
			histories = append(histories, h)
			for i := range linearClients / linearAccounts {
				c := &quotaClient{w: w[i%len(w)], h: h, id: i, a: a, parent: parent, r: rand.New(rand.NewPCG(uint64(i), uint64(a.ID)))}
				wg.Go(func() {
					for range 4 {
						c.act()
					}
				})
			}
		}
		wg.Wait()
		for _, h := range histories {
			h.Check(t, metatest.QuotaModel(quota))
		}
	})
}

type quotaClient struct {
	w      *world
	h      *metatest.History
	id     int
	a      Account
	parent api.Parent
	r      *rand.Rand
}

func (c *quotaClient) do(op string, bytes int64, do func() error) (refused bool) {
	c.h.Do(c.id, metatest.QuotaIn{Op: op, Bytes: bytes}, func() any {
		var e *api.Error
		switch err := do(); {
		case err == nil:
			return metatest.QuotaOut{}
		case errors.As(err, &e) && e.Code == api.CodeQuotaExceeded:
			refused = true
			return metatest.QuotaOut{Refused: true, Usage: e.Usage, Remaining: e.Remaining}
		default:
			c.w.t.Errorf("%s: %v", op, err)
			return metatest.QuotaOut{}
		}
	})
	return refused
}

// act is one upload, or a look.
func (c *quotaClient) act() {
	u := upload(c.a, c.parent, 100+int64(c.r.IntN(5))*100)
	switch c.r.IntN(5) {
	case 0:
		c.h.Do(c.id, metatest.QuotaIn{Op: "read"}, func() any {
			now, err := c.w.AccountByID(ctx, c.a.ID)
			if err != nil {
				c.w.t.Error(err)
			}
			return metatest.QuotaOut{Usage: now.Usage, Remaining: now.Remaining}
		})
	case 1:
		refused := c.do("store", u.Stored, func() error { _, err := c.w.Commit(ctx, u, false); return err })
		if !refused && c.r.IntN(2) == 0 {
			c.do("delete", u.Stored, func() error { return c.w.DeleteRow(ctx, c.a.ID, u.Row.ID, api.ByClient, "r") })
		}
	default:
		if c.do("admit", u.Stored, func() error { _, _, err := c.w.Admit(ctx, u); return err }) {
			return
		}
		if c.r.IntN(3) == 0 {
			c.do("abort", u.Stored, func() error { return c.w.Abort(ctx, u) })
			return
		}
		c.do("commit", u.Stored, func() error { _, err := c.w.Commit(ctx, u, true); return err })
	}
}

// TestLinearizableRate: the same for a window of time, in which uses end and are
// given back.
func TestLinearizableRate(t *testing.T) {
	onHandles(t, func(t *testing.T, w []*world) {
		l := Limit{Class: "upload", Max: 4, Window: 5 * time.Second}
		var clients []*windowClient
		var histories []*metatest.History
		for range linearAccounts {
			a, _ := w[0].account(1000)
			histories = append(histories, metatest.NewHistory())
			for i := range linearClients / linearAccounts {
				clients = append(clients, &windowClient{w: w[i%len(w)], h: histories[len(histories)-1], id: i, a: a, l: l, r: rand.New(rand.NewPCG(uint64(i), uint64(a.ID)))})
			}
		}
		now := w[0].clock.Load()
		for range 8 {
			now += 1300 // between rounds: what is at once is at one time
			for _, one := range w {
				one.clock.Store(now)
			}
			var wg sync.WaitGroup
			for _, c := range clients {
				wg.Go(c.act)
			}
			wg.Wait()
		}
		for _, h := range histories {
			h.Check(t, metatest.RateModel(int(l.Max), l.Window))
		}
	})
}

type windowClient struct {
	w     *world
	h     *metatest.History
	id    int
	a     Account
	l     Limit
	r     *rand.Rand
	slots []Slot
}

// act takes from a window, or gives back what is still in it.
func (c *windowClient) act() {
	now := c.w.clock.Load()
	for len(c.slots) > 0 && c.slots[0].At <= now-c.l.Window.Milliseconds() {
		c.slots = c.slots[1:]
	}
	if len(c.slots) > 0 && c.r.IntN(2) == 0 {
		slot := c.slots[0]
		c.slots = c.slots[1:]
		c.h.Do(c.id, metatest.RateIn{Back: true, At: slot.At}, func() any {
			if err := c.w.Return(ctx, c.a.ID, slot); err != nil {
				c.w.t.Error(err)
			}
			return metatest.RateOut{}
		})
		return
	}
	c.h.Do(c.id, metatest.RateIn{At: now}, func() any {
		s, err := c.w.Take(ctx, c.a.ID, c.l, 1)
		var e *api.Error
		switch {
		case err == nil:
			c.slots = append(c.slots, s)
		case errors.As(err, &e) && e.Code == api.CodeRateLimited:
			return metatest.RateOut{Refused: true, Wait: e.RetryAfter}
		default:
			c.w.t.Error(err)
		}
		return metatest.RateOut{}
	})
}
