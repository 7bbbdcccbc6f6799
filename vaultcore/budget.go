package vaultcore

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
)

// draftSlack is what a draft may hold in RAM whatever the others hold. Drafts
// of no more are not worth spilling to make room for others.
const draftSlack = 256 << 10

// draftBudget bounds the RAM of all drafts together.
type draftBudget struct {
	perFile, total int64

	used atomic.Int64

	mu     sync.Mutex
	drafts map[*draft]struct{} // those that hold more than draftSlack
}

// change adds n bytes, which may be negative, to what d holds.
func (b *draftBudget) change(d *draft, n int64) {
	if n == 0 {
		return
	}
	b.used.Add(n)
	now := d.ram.Add(n)
	if was := now - n; (was > draftSlack) == (now > draftSlack) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if now > draftSlack {
		b.drafts[d] = struct{}{}
	} else {
		delete(b.drafts, d)
	}
}

// makeRoomLocked spills until d, whose mu is held, may take n bytes more:
// itself beyond its own bound, the largest first beyond the common one. A
// draft that is busy is passed over, so no lock is waited for. Error: d's own
// spill failed.
func (b *draftBudget) makeRoomLocked(d *draft, n int64) error {
	if own := d.ram.Load(); own > 0 && own+n > b.perFile {
		if err := d.spillLocked(); err != nil {
			return err
		}
	}
	if b.used.Load()+n <= b.total || d.ram.Load()+n <= draftSlack {
		return nil
	}
	for _, other := range b.largestFirst() {
		var err error
		if other == d {
			err = d.spillLocked()
		} else if other.mu.TryLock() {
			_ = other.spillLocked() // that draft keeps what it has; its own next write says so
			other.mu.Unlock()
		}
		if err != nil || b.used.Load()+n <= b.total {
			return err
		}
	}
	return nil
}

func (b *draftBudget) largestFirst() []*draft {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]*draft, 0, len(b.drafts))
	for d := range b.drafts {
		all = append(all, d)
	}
	slices.SortFunc(all, func(x, y *draft) int { return cmp.Compare(y.ram.Load(), x.ram.Load()) })
	return all
}
