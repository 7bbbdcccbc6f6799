package vaultcore

import (
	"cmp"
	"context"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

const (
	// trimDelay is how long after a reason to look at the size of the cache that
	// is done: many come together.
	trimDelay = 300 * time.Millisecond
	// recencyEvery is how often it is written down what was opened, and
	// recencyMax how many files that is bounded to.
	recencyEvery = time.Minute
	recencyMax   = 4096
	evictBatch   = 64
)

// cacheKeeper keeps what lies on this device within a bound. When a file was
// opened last is the modification time of its blob's file: it costs no row and
// survives the session; nothing else uses it.
type cacheKeeper struct {
	limit atomic.Int64 // bytes; 0: none
	wake  chan struct{}

	mu     sync.Mutex
	recent map[seal.ID]int64 // opened since that was written down, s since 1970
}

func (k *cacheKeeper) init() {
	k.wake = make(chan struct{}, 1)
	k.recent = make(map[seal.ID]int64)
}

// look has the size looked at soon.
func (k *cacheKeeper) look() {
	if k.limit.Load() == 0 {
		return
	}
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// fits says whether n bytes are within the bound.
func (k *cacheKeeper) fits(n int64) bool {
	limit := k.limit.Load()
	return limit == 0 || n <= limit
}

// opened notes that a content was opened just now.
func (k *cacheKeeper) opened(c *content, now func() time.Time) {
	if k.limit.Load() == 0 {
		return
	}
	at := now().Unix()
	c.used.Store(uint32(at))
	k.mu.Lock()
	if len(k.recent) < recencyMax {
		k.recent[c.ref.blob] = at
	}
	k.mu.Unlock()
}

// SetCacheSize bounds the bytes of contents on this device, whole ones and what
// is here of others; 0 is no bound. What is above it and may be evicted is, the
// longest unopened first. Only Evict's conditions limit it: what the remote has
// not confirmed stays, whatever the bound.
func (v *Vault) SetCacheSize(bytes int64) {
	v.cache.limit.Store(max(bytes, 0))
	v.cache.look()
}

// CacheUse is how many bytes of contents lie on this device, and the bound.
type CacheUse struct {
	Bytes   int64 `json:"bytes"`
	Partial int64 `json:"partial"` // of them: in contents that are not here as a whole
	Limit   int64 `json:"limit"`   // 0: none
}

// CacheUse measures the contents on this device.
func (v *Vault) CacheUse() CacheUse {
	u := CacheUse{Limit: v.cache.limit.Load()}
	for _, n := range v.store.fetches.sparseSizes() {
		u.Partial += n
	}
	u.Bytes = u.Partial
	v.tree.RLock()
	defer v.tree.RUnlock()
	seen := make(map[*content]bool)
	add := func(n *Node) {
		if c := n.content; c != nil && c.place.Load() == placeBin && !seen[c] {
			seen[c] = true
			u.Bytes += c.ref.sealedLen
		}
	}
	v.walk(v.root, add)
	for _, t := range v.trash {
		add(t.node)
	}
	return u
}

// cacheLoop keeps the cache within its bound.
func (v *Vault) cacheLoop() {
	v.scanSparse()
	if err := v.forgetEvicted(); err != nil {
		v.log.Warn("marks of evicted contents not dropped", "err", err)
	}
	write := time.NewTicker(recencyEvery)
	defer write.Stop()
	for {
		select {
		case <-v.ctx.Done():
			v.writeRecency()
			return
		case <-write.C:
			v.writeRecency()
			continue
		case <-v.cache.wake:
		}
		select {
		case <-v.ctx.Done():
		case <-time.After(trimDelay):
			if err := v.trimCache(v.ctx); err != nil && v.ctx.Err() == nil {
				v.log.Warn("cache not trimmed", "err", err)
			}
		}
	}
}

// writeRecency writes down what was opened of late.
func (v *Vault) writeRecency() {
	v.cache.mu.Lock()
	recent := v.cache.recent
	v.cache.recent = make(map[seal.ID]int64)
	v.cache.mu.Unlock()
	for id, at := range recent {
		for _, name := range []string{binName(id), sparseName(id)} {
			if err := v.attachments.Touch(name, time.Unix(at, 0)); err != nil {
				v.log.Debug("time of last use not kept", "blob", id.Hex(), "err", err)
			}
		}
	}
}

// cached is something that can be given up for room.
type cached struct {
	blob   seal.ID
	bytes  int64
	used   int64 // s since 1970
	sparse bool
}

// trimCache evicts until the cache is within its bound.
func (v *Vault) trimCache(ctx context.Context) error {
	u := v.CacheUse()
	over := u.Bytes - u.Limit
	if u.Limit == 0 || over <= 0 {
		return nil
	}
	items, err := v.cachedItems()
	if err != nil {
		return err
	}
	for len(items) > 0 && over > 0 {
		var batch map[seal.ID]bool
		var gone int64
		batch, items, gone = v.nextBatch(items, over)
		todo := v.evictees(batch)
		if err := v.evict(ctx, todo); err != nil {
			return err
		}
		for _, e := range todo {
			if e.why == "" {
				gone += e.size
			}
		}
		over -= gone
	}
	return nil
}

// nextBatch takes the oldest items that could make over bytes of room. Sparse
// files go at once, of those in use what nobody is near; the others are left
// to evict.
func (v *Vault) nextBatch(items []cached, over int64) (batch map[seal.ID]bool, rest []cached, gone int64) {
	batch = make(map[seal.ID]bool)
	planned := int64(0)
	for len(items) > 0 && gone+planned < over && len(batch) < evictBatch {
		it := items[0]
		items = items[1:]
		if it.sparse {
			gone += v.shedSparse(it.blob, over-gone-planned)
			continue
		}
		batch[it.blob] = true
		planned += it.bytes
	}
	return batch, items, gone
}

// shedSparse makes room in a sparse file; one nobody uses goes as a whole.
func (v *Vault) shedSparse(id seal.ID, need int64) int64 {
	if n := v.dropSparse(id); n > 0 {
		return n
	}
	f := v.store.fetches
	f.mu.Lock()
	sp := f.sparse[id]
	if sp != nil {
		sp.refs++
	}
	f.mu.Unlock()
	if sp == nil {
		return 0
	}
	defer sp.put()
	return sp.shed(need)
}

// cachedItems lists what might be given up, the longest unopened first. What
// the remote has not confirmed is left out.
func (v *Vault) cachedItems() ([]cached, error) {
	which := "state=2"
	if v.confirmer.Load() != nil {
		which = "state>0" // looked for before they go
	}
	confirmed, err := v.presentBlobs(which)
	if err != nil {
		return nil, err
	}
	var items []cached
	err = v.attachments.Names(func(name string, size int64, mtime time.Time) bool {
		ext := path.Ext(name)
		id, err := seal.ParseHex(strings.TrimSuffix(name, ext))
		if err == nil && (ext == sparseExt || ext == binExt && confirmed[id]) {
			items = append(items, cached{blob: id, bytes: size, used: mtime.Unix(), sparse: ext == sparseExt})
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	used := v.lastUses()
	sizes := v.store.fetches.sparseSizes()
	for i := range items {
		it := &items[i]
		it.used = max(it.used, used[it.blob])
		if it.sparse {
			it.bytes = sizes[it.blob]
		}
	}
	slices.SortStableFunc(items, func(a, b cached) int { return cmp.Compare(a.used, b.used) })
	return items, nil
}

// presentBlobs gives the blobs that are on the remote, by whose word says which.
func (v *Vault) presentBlobs(which string) (map[seal.ID]bool, error) {
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return nil, ErrClosed
	}
	out := make(map[seal.ID]bool)
	err := v.reader.query("SELECT blob FROM blob_presence WHERE "+which, func(c []dbValue) error {
		s := rowScanner{c: c}
		out[s.id()] = true
		return nil
	})
	return out, err
}

// lastUses gives when contents were opened in this session.
func (v *Vault) lastUses() map[seal.ID]int64 {
	v.tree.RLock()
	defer v.tree.RUnlock()
	out := make(map[seal.ID]int64)
	v.walk(v.root, func(n *Node) {
		if c := n.content; c != nil && c.used.Load() != 0 {
			out[c.ref.blob] = max(out[c.ref.blob], int64(c.used.Load()))
		}
	})
	return out
}

// scanSparse takes stock of the sparse files of earlier sessions. Those of
// contents that are here, or that nothing names any more, go.
func (v *Vault) scanSparse() {
	if !v.LedgerOn() {
		return
	}
	var ids []seal.ID
	err := v.attachments.EachName(func(name string) bool {
		if id, err := seal.ParseHex(strings.TrimSuffix(name, sparseExt)); err == nil && path.Ext(name) == sparseExt {
			ids = append(ids, id)
		}
		return v.ctx.Err() == nil
	})
	for _, id := range ids {
		if named, nerr := v.namedElsewhere(id); nerr != nil || !named {
			v.dropDeadSparse(id)
			continue
		}
		v.noteSparse(id)
	}
	if err != nil {
		v.log.Warn("sparse files not listed", "err", err)
	}
	v.cache.look()
}

// noteSparse counts a sparse file that nobody has open.
func (v *Vault) noteSparse(id seal.ID) {
	f := v.store.fetches
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sparse[id] != nil {
		return // it counts itself
	}
	if bytes, _, err := v.attachments.Usage(sparseName(id)); err == nil {
		f.size(id, bytes)
	}
}

// namedElsewhere says whether a row names a content that is not here.
func (v *Vault) namedElsewhere(id seal.ID) (bool, error) {
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return false, ErrClosed
	}
	found, err := v.reader.one("SELECT 1 FROM asset_attachments WHERE blob=? AND place=0 LIMIT 1", id[:])
	return found != nil, err
}

// dropDeadSparse removes the sparse file of a content that is here or that
// nothing names any more. In doubt it stays; the next unlock looks again.
func (v *Vault) dropDeadSparse(id seal.ID) {
	if v.ledger.Load() == nil {
		return
	}
	if named, err := v.namedElsewhere(id); err != nil || named {
		return
	}
	f := v.store.fetches
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sparse[id] == nil {
		v.store.removeSparse(id)
	}
}

// dropSparseFiles gives up what is here of contents that are elsewhere and that
// nobody uses, for want of space. It says whether that was anything.
func (v *Vault) dropSparseFiles() bool {
	freed := int64(0)
	for id := range maps.Keys(v.store.fetches.sparseSizes()) {
		freed += v.dropSparse(id)
	}
	return freed > 0
}
