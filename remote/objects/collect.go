package objects

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

const (
	// grace is how long a blob stays a candidate, and how old it is at least.
	grace = 7 * 24 * time.Hour
	// maxCandidates of one cycle; the next ones take the rest.
	maxCandidates = 50_000
	maxCycle      = 4 << 20 // bytes
	maxCycles     = 64      // under way at a time; one is begun a day
	// maxListed objects of a kind are looked at by one collection: a remote may list
	// without end.
	maxListed   = 1_000_000
	cycleForm   = "20060102"
	cyclePrefix = "gc/"
)

// cycle is one day's list of blobs that nobody named.
type cycle struct {
	Version int       `json:"v"`
	Blobs   []string  `json:"blobs"`
	key     string    // whole
	made    time.Time // by the store's clock
}

// candidates are the blobs that nobody names, but those of cycles that still
// run: they are named once.
func candidates(there []stored, named func(string) bool, running []cycle) []string {
	known := map[string]bool{}
	for _, c := range running {
		for _, id := range c.Blobs {
			known[id] = true
		}
	}
	var ids []string
	for _, b := range there {
		if len(ids) < maxCandidates && !known[b.id] && !named(b.id) {
			ids = append(ids, b.id)
		}
	}
	return ids
}

// sweep decides what a collection may remove at the time now: candidates of
// cycles that are over, which still nobody names and which are old themselves.
// Cycles that are over end with it. All times are the store's.
func sweep(there []stored, named func(string) bool, cycles []cycle, now time.Time) (remove []stored, over []cycle) {
	due := map[string]bool{}
	for _, c := range cycles {
		if now.Sub(c.made) >= grace {
			over = append(over, c)
			for _, id := range c.Blobs {
				due[id] = true
			}
		}
	}
	for _, b := range there {
		if due[b.id] && now.Sub(b.made) >= grace && !named(b.id) {
			remove = append(remove, b)
		}
	}
	return remove, over
}

// stored is a blob as the listing has it.
type stored struct {
	id   string
	size int64
	made time.Time
}

// Settle implements syncer.Remote.
func (r *Remote) Settle(ctx context.Context, s syncer.Settlement) (syncer.Settled, error) {
	if err := ctx.Err(); err != nil {
		return syncer.Settled{}, fmt.Errorf("settle: %w", err)
	}
	if err := r.checkMarker(ctx); err != nil {
		return syncer.Settled{}, err
	}
	if err := r.ring(ctx, true); err != nil {
		return syncer.Settled{}, err
	}
	c := collecting{r: r}
	keys, err := pairKeys(s.Done)
	if err == nil {
		keys, err = falseKeys(keys, s.False)
	}
	if err == nil {
		err = c.remove(ctx, keys)
	}
	if err == nil && s.Collect != nil {
		err = c.collect(ctx, *s.Collect)
	}
	c.out.Removed, c.out.Freed = int(c.removed.Load()), c.freed.Load()
	return c.out, err
}

func pairKeys(keys []string) (gone []stored, err error) {
	for _, key := range keys {
		if k, err := syncer.ParseKey(key); err != nil || k.Kind != syncer.KeyPair {
			return nil, fmt.Errorf("%w: %.80q is no key of a pairing", syncer.ErrKey, key)
		}
		gone = append(gone, stored{id: key})
	}
	return gone, nil
}

// falseKeys adds the keys of objects that are to be put anew.
func falseKeys(gone []stored, keys []string) ([]stored, error) {
	for _, key := range keys {
		k, err := syncer.ParseKey(key)
		small := err == nil && (k.Kind == syncer.KeyHeader || k.Kind == syncer.KeyBatch || k.Kind == syncer.KeyCheckpoint)
		name, inBlobs := strings.CutPrefix(key, "blobs/")
		id, isBlob := strings.CutSuffix(name, ".bin")
		if !small && !(inBlobs && isBlob && syncer.ValidBlob(id)) {
			return nil, fmt.Errorf("%w: %.80q is nothing that is put again", syncer.ErrKey, key)
		}
		gone = append(gone, stored{id: key})
	}
	return gone, nil
}

// collecting is one call of Settle.
type collecting struct {
	r       *Remote
	out     syncer.Settled
	removed atomic.Int64
	freed   atomic.Int64
}

// remove deletes objects; the id of each is its key below the vault.
func (c *collecting) remove(ctx context.Context, objects []stored) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, o := range objects {
		group.Go(func() error {
			if err := c.r.store.Delete(ctx, c.r.base+o.id); err != nil {
				return err
			}
			c.removed.Add(1)
			c.freed.Add(o.size)
			return nil
		})
	}
	return group.Wait()
}

// collect is one cycle: today's candidates, then what earlier ones left.
func (c *collecting) collect(ctx context.Context, what syncer.Collection) error {
	// The place is looked at again: nothing is removed from a stranger's.
	if err := c.r.lookAtMarker(ctx); err != nil {
		return err
	}
	there, err := c.blobs(ctx)
	if err != nil {
		return err
	}
	cycles, err := c.cycles(ctx)
	if err != nil {
		return err
	}
	today := cycle{Version: 1, Blobs: candidates(there, what.Named, cycles)}
	now, err := c.begin(ctx, today)
	if errors.Is(err, blob.ErrExist) {
		return nil // somebody did it today
	}
	if err != nil {
		return err
	}
	c.out.Collected, c.out.Candidates = true, len(today.Blobs)
	gone, over := sweep(there, what.Named, cycles, now)
	if err := c.remove(ctx, blobObjects(gone)); err != nil {
		return err
	}
	if err := c.trim(ctx, what); err != nil {
		return err
	}
	if err := c.sweepPairs(ctx, now); err != nil {
		return err
	}
	for _, o := range over {
		if err := c.r.store.Delete(ctx, o.key); err != nil {
			return err
		}
	}
	return nil
}

// sweepPairs removes what killed pairings left, at the time now of the store.
func (c *collecting) sweepPairs(ctx context.Context, now time.Time) error {
	var old []stored
	for attrs, err := range c.r.store.List(ctx, c.r.base+"pair/", "") {
		if err != nil {
			return err
		}
		if len(old) == maxListed {
			break
		}
		if k, ok := c.r.parse(attrs.Key); ok && k.Kind == syncer.KeyPair && now.Sub(attrs.ModTime) > syncer.PairTime {
			old = append(old, stored{id: strings.TrimPrefix(attrs.Key, c.r.base), size: attrs.Size})
		}
	}
	return c.remove(ctx, old)
}

func blobObjects(blobs []stored) []stored {
	objects := slices.Clone(blobs)
	for i := range objects {
		objects[i].id = "blobs/" + objects[i].id + ".bin"
	}
	return objects
}

func (c *collecting) blobs(ctx context.Context) (found []stored, err error) {
	prefix := c.r.base + "blobs/"
	for attrs, err := range c.r.store.List(ctx, prefix, "") {
		if err != nil {
			return nil, err
		}
		if len(found) == maxListed {
			break
		}
		id, ok := strings.CutSuffix(strings.TrimPrefix(attrs.Key, prefix), ".bin")
		if ok && syncer.ValidBlob(id) {
			found = append(found, stored{id, attrs.Size, attrs.ModTime})
		}
	}
	return found, nil
}

// cycles reads those that are under way. One that cannot be read has no
// candidates.
func (c *collecting) cycles(ctx context.Context) (found []cycle, err error) {
	for attrs, err := range c.r.store.List(ctx, c.r.base+cyclePrefix, "") {
		if err != nil {
			return nil, err
		}
		if len(found) == maxCycles {
			break
		}
		b, err := c.r.read(ctx, strings.TrimPrefix(attrs.Key, c.r.base), maxCycle)
		if errors.Is(err, blob.ErrNotFound) {
			continue
		}
		if err != nil && !errors.Is(err, syncer.ErrTooLarge) {
			return nil, err
		}
		var read cycle
		if err != nil || json.Unmarshal(b, &read) != nil || read.Version != 1 {
			read = cycle{}
		}
		read.key, read.made = attrs.Key, attrs.ModTime
		found = append(found, read)
	}
	return found, nil
}

// begin stores today's candidates and learns from that what time it is there.
// The day is by the best clock we have: a wrong one makes a cycle more or less.
func (c *collecting) begin(ctx context.Context, today cycle) (now time.Time, err error) {
	content, err := json.Marshal(today)
	if err != nil {
		return time.Time{}, err
	}
	key := c.r.base + cyclePrefix + c.r.storeNow().UTC().Format(cycleForm)
	if !c.r.o.Caps.CreateOnly {
		if _, err := c.r.store.Head(ctx, key); !errors.Is(err, blob.ErrNotFound) {
			return time.Time{}, errors.Join(err, fmt.Errorf("%s: %w", key, blob.ErrExist))
		}
	}
	if err := c.r.store.Put(ctx, key, bytes.NewReader(content), int64(len(content)), true); err != nil {
		return time.Time{}, err
	}
	attrs, err := c.r.store.Head(ctx, key)
	return attrs.ModTime, err
}

// trim removes batches below the heads and old checkpoints, the end of each
// first: one without its end is none.
func (c *collecting) trim(ctx context.Context, what syncer.Collection) error {
	for device, head := range what.Heads {
		if err := c.trimChain(ctx, device, head); err != nil {
			return err
		}
	}
	for _, name := range what.Checkpoints {
		if err := c.trimCheckpoint(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (c *collecting) trimChain(ctx context.Context, device string, head uint64) error {
	if !syncer.ValidID(device) {
		return fmt.Errorf("chain of %.40q: %w", device, syncer.ErrKey)
	}
	var below []stored
	for attrs, err := range c.r.store.List(ctx, c.r.base+"log/"+device+"/", "") {
		if err != nil {
			return err
		}
		k, ok := c.r.parse(attrs.Key)
		if ok && k.Seq >= head || len(below) == maxListed {
			break
		}
		if ok {
			below = append(below, stored{id: syncer.BatchKey(device, k.Seq), size: attrs.Size})
		}
	}
	return c.remove(ctx, below)
}

func (c *collecting) trimCheckpoint(ctx context.Context, name string) error {
	if _, _, ok := syncer.ParseCheckpointName(name); !ok {
		return fmt.Errorf("checkpoint %.80q: %w", name, syncer.ErrKey)
	}
	if err := c.remove(ctx, []stored{{id: syncer.CheckpointEnd(name)}}); err != nil {
		return err
	}
	prefix := c.r.base + "checkpoints/" + name + "/"
	var parts []stored
	for attrs, err := range c.r.store.List(ctx, prefix, "") {
		if err != nil {
			return err
		}
		if len(parts) == maxListed {
			break
		}
		parts = append(parts, stored{id: strings.TrimPrefix(attrs.Key, c.r.base), size: attrs.Size})
	}
	return c.remove(ctx, parts)
}
