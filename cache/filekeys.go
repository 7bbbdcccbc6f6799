// Package cache keeps unwrapped file keys ready: a bounded LRU that unwraps
// once per miss and wipes what it lets go.
//
// It refuses to know where keys come from, what they open, SQL and FUSE.
package cache

import (
	"context"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// FileKeys is a cache of unwrapped file keys by blob. A key is wiped when it
// is evicted, removed or purged; since callers get copies, that never takes a
// key out of someone's hands. Safe for concurrent use.
type FileKeys struct {
	max int

	mu    sync.Mutex
	keys  *simplelru.LRU[seal.ID, *seal.Key]
	calls map[seal.ID]*call // unwraps under way
	stats Counters
}

// Counters describe a cache since it was made.
type Counters struct {
	Hits      uint64 `json:"hits"`      // found at once
	Misses    uint64 `json:"misses"`    // unwraps begun
	Evictions uint64 `json:"evictions"` // pushed out by a newer key
	Waits     uint64 `json:"waits"`     // times a caller waited for another's unwrap
	Len       int    `json:"keys"`      // keys held
	Max       int    `json:"max_keys"`  // how many may be
}

// call is one unwrap that others may wait for.
type call struct {
	done    chan struct{} // closed when it is over
	waiting int           // callers that still want key; guarded by mu
	dropped bool          // the blob was removed meanwhile; guarded by mu
	// Set before done is closed, read after.
	key seal.Key
	ok  bool
}

// NewFileKeys makes a cache of at most max keys, at least one.
func NewFileKeys(max int) *FileKeys {
	if max < 1 {
		max = 1
	}
	c := &FileKeys{max: max, calls: map[seal.ID]*call{}}
	wipe := func(_ seal.ID, k *seal.Key) { k.Wipe() }
	keys, err := simplelru.NewLRU(max, wipe)
	if err != nil {
		panic("cache: " + err.Error()) // only for a size below one
	}
	c.keys = keys
	return c
}

// Get gives a copy of the blob's key. On a miss one caller runs unwrap, all
// others for that blob wait for it or until their ctx ends. An error goes to
// the caller whose unwrap failed and is not kept: one of those who waited
// then tries with its own. Get itself returns only unwrap's errors and ctx's.
func (c *FileKeys) Get(ctx context.Context, blob seal.ID, unwrap func() (seal.Key, error)) (seal.Key, error) {
	for {
		c.mu.Lock()
		if k, ok := c.keys.Get(blob); ok {
			c.stats.Hits++
			out := *k
			c.mu.Unlock()
			return out, nil
		}
		running, ok := c.calls[blob]
		if !ok {
			return c.leadLocked(blob, unwrap)
		}
		c.stats.Waits++
		running.waiting++
		c.mu.Unlock()

		key, ok, err := c.wait(ctx, running)
		if ok || err != nil {
			return key, err
		}
	}
}

// wait gives the key of a running unwrap; not ok if that failed.
func (c *FileKeys) wait(ctx context.Context, running *call) (key seal.Key, ok bool, err error) {
	select {
	case <-running.done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		key, ok = running.key, running.ok
	}
	running.leaveLocked()
	return key, ok, err
}

// leadLocked runs unwrap for everybody. It unlocks mu.
func (c *FileKeys) leadLocked(blob seal.ID, unwrap func() (seal.Key, error)) (key seal.Key, err error) {
	mine := &call{done: make(chan struct{}), waiting: 1}
	c.calls[blob] = mine
	c.stats.Misses++
	c.mu.Unlock()

	ok := false
	defer func() { // also when unwrap panics, or the others would wait for ever
		c.mu.Lock()
		defer c.mu.Unlock()
		if mine.ok = ok; ok {
			mine.key = key
			if !mine.dropped {
				c.addLocked(blob, &key)
			}
		}
		if c.calls[blob] == mine {
			delete(c.calls, blob)
		}
		close(mine.done)
		mine.leaveLocked()
	}()
	key, err = unwrap()
	ok = err == nil
	return key, err
}

// leaveLocked wipes the call's copy behind the last one who wanted it. Whoever
// gave up while the unwrap was still running is covered by the leader, which
// leaves after it has set the key.
func (r *call) leaveLocked() {
	if r.waiting--; r.waiting == 0 {
		r.key.Wipe()
	}
}

// Add puts in a copy of a key that is known without unwrapping, as the writer
// of a blob knows it.
func (c *FileKeys) Add(blob seal.ID, k *seal.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addLocked(blob, k)
}

func (c *FileKeys) addLocked(blob seal.ID, k *seal.Key) {
	if old, ok := c.keys.Get(blob); ok {
		*old = *k
		return
	}
	own := *k
	if c.keys.Add(blob, &own) {
		c.stats.Evictions++
	}
}

// Remove forgets a blob's key, also one that is being unwrapped.
func (c *FileKeys) Remove(blob seal.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keys.Remove(blob)
	if running, ok := c.calls[blob]; ok {
		running.dropped = true
	}
}

// Purge wipes everything. What is being unwrapped still reaches those who
// asked for it, and is not kept.
func (c *FileKeys) Purge() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keys.Purge()
	for _, running := range c.calls {
		running.dropped = true
	}
}

// Counters gives the figures so far.
func (c *FileKeys) Counters() Counters {
	c.mu.Lock()
	defer c.mu.Unlock()
	stats := c.stats
	stats.Len, stats.Max = c.keys.Len(), c.max
	return stats
}
