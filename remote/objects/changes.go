package objects

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// maxCursor is more than any cursor we make, in bytes.
const maxCursor = 1 << 20

// A remote that lists without end, or more than anybody could have put there, costs
// what one look takes: what lies behind is found by later ones.
const (
	maxChanges = 100_000   // reported by one look
	maxNames   = 1_000_000 // listed by one look
	maxChains  = 5_000     // remembered in a cursor
)

// cursor is how far a device has seen: without a gap in every chain, so that
// what is behind a gap is reported again. It also holds the tip's ETag, so that
// an idle look costs one request.
type cursor struct {
	Version     int               `json:"v"`
	ETag        string            `json:"etag,omitempty"`
	Log         map[string]uint64 `json:"log,omitempty"`
	Header      uint64            `json:"header,omitempty"`
	Blobs       uint64            `json:"blobs,omitempty"`
	Checkpoints []string          `json:"checkpoints,omitempty"` // complete ones
}

func parseCursor(b []byte) (cursor, error) {
	c := cursor{Version: 1}
	if len(b) > 0 && (len(b) > maxCursor || json.Unmarshal(b, &c) != nil || c.Version != 1) {
		return cursor{}, fmt.Errorf("cursor of the remote: %w", syncer.ErrKey)
	}
	if c.Log == nil {
		c.Log = map[string]uint64{}
	}
	return c, nil
}

func (c cursor) encode() []byte {
	b, err := json.Marshal(c)
	if err != nil {
		panic("objects: a cursor that is no JSON: " + err.Error()) // plain fields
	}
	return b
}

// Changes implements syncer.Remote. It never waits: nobody there could wake us.
func (r *Remote) Changes(ctx context.Context, from []byte, wait time.Duration) (syncer.Changes, error) {
	c, err := parseCursor(from)
	if err != nil {
		return syncer.Changes{}, err
	}
	full := wait == syncer.Reconcile || len(from) == 0
	if full {
		err = r.lookAtMarker(ctx)
	} else {
		err = r.checkMarker(ctx)
	}
	if err != nil {
		return syncer.Changes{}, err
	}
	l := &look{r: r, ctx: ctx, now: c}
	l.now.Log = maps.Clone(c.Log)
	if err := l.look(c, full); err != nil {
		return syncer.Changes{}, err
	}
	l.out.More = l.full() && l.now.beyond(c)
	_ = r.ring(ctx, false) // Settle tells if it cannot be done
	l.out.Next = l.now.encode()
	if r.o.Clock != nil {
		if now, ok := r.o.Clock(); ok {
			l.out.Clock, l.out.At = now, r.o.Now()
		}
	}
	return l.out, nil
}

// look is one run of Changes.
type look struct {
	r   *Remote
	ctx context.Context

	mu    sync.Mutex
	names int // listed
	now   cursor
	out   syncer.Changes
}

func (l *look) look(c cursor, full bool) error {
	seen := c.ETag
	if full {
		seen = "" // of any tip
	}
	heard, etag, err := l.r.tipSince(l.ctx, seen)
	if err != nil {
		return err
	}
	switch changed := etag != c.ETag; {
	case full || changed && etag == "":
		err = l.everything(c) // a tip that went away says nothing
	case changed:
		err = l.whereTold(c, heard)
	case etag != "":
		return nil
	}
	if err != nil {
		return err
	}
	if full || heard.Blobs != c.Blobs {
		l.add(syncer.Change{Kind: syncer.KindBlob})
	}
	l.now.ETag, l.now.Blobs = etag, heard.Blobs
	l.r.heard(heard, l.now.Log[l.r.o.Device])
	return nil
}

// tipSince gives the tip if its ETag is not the one known.
func (r *Remote) tipSince(ctx context.Context, etag string) (tip, string, error) {
	attrs, err := r.headChanged(ctx, r.base+tipKey, etag)
	if errors.Is(err, blob.ErrNotFound) {
		return parseTip(nil), "", nil
	}
	if err != nil || attrs.ETag == etag {
		return parseTip(nil), attrs.ETag, err
	}
	b, err := r.read(ctx, tipKey, maxTip)
	if errors.Is(err, blob.ErrNotFound) || errors.Is(err, syncer.ErrTooLarge) {
		return parseTip(nil), attrs.ETag, nil
	}
	return parseTip(b), attrs.ETag, err
}

func (r *Remote) headChanged(ctx context.Context, key, etag string) (blob.Attrs, error) {
	if r.o.HeadChanged == nil || etag == "" {
		return r.store.Head(ctx, key)
	}
	return r.o.HeadChanged(ctx, key, etag)
}

// whereTold looks at the chains that the tip says have grown.
func (l *look) whereTold(c cursor, heard tip) error {
	group, ctx := errgroup.WithContext(l.ctx)
	group.SetLimit(parallel)
	for device, seq := range heard.Log {
		if seq > c.Log[device] {
			group.Go(func() error { return l.chain(ctx, device, c.Log[device]) })
		}
	}
	if heard.Header > c.Header {
		group.Go(func() error { return l.headers(ctx, c.Header) })
	}
	if name := heard.Checkpoint; name != "" && !slices.Contains(c.Checkpoints, name) {
		group.Go(func() error { return l.checkpoint(ctx, name) })
	}
	return group.Wait()
}

// chain lists what follows batch known of one device.
func (l *look) chain(ctx context.Context, device string, known uint64) error {
	prefix := l.r.base + "log/" + device + "/"
	after := ""
	if known > 0 {
		after = l.r.base + syncer.BatchKey(device, known)
	}
	for attrs, err := range l.r.store.List(ctx, prefix, after) {
		if err != nil || l.another() {
			return err
		}
		if k, ok := l.r.parse(attrs.Key); ok && k.Kind == syncer.KeyBatch {
			l.batch(k)
		}
	}
	return nil
}

// parse takes a whole key apart, false for those that are not small objects.
func (r *Remote) parse(key string) (syncer.Key, bool) {
	k, err := syncer.ParseKey(key[min(len(r.base), len(key)):])
	return k, err == nil
}

func (l *look) batch(k syncer.Key) {
	l.add(syncer.Change{Kind: syncer.KindBatch, Device: k.Device, Seq: k.Seq})
	l.mu.Lock()
	defer l.mu.Unlock()
	// The first that is there begins what we know of a chain: those before it lie
	// under a checkpoint, or the engine will miss them.
	if known := l.now.Log[k.Device]; known == 0 && len(l.now.Log) < maxChains || known > 0 && k.Seq == known+1 {
		l.now.Log[k.Device] = k.Seq
	}
}

// another counts a name that was listed, and says that it is one too many.
func (l *look) another() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.names++
	return l.fullLocked()
}

// full says that one look has found what it may.
func (l *look) full() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fullLocked()
}

func (l *look) fullLocked() bool { return len(l.out.List) >= maxChanges || l.names > maxNames }

// beyond says that a cursor is further than one before it, so that the next look
// finds something else.
func (c cursor) beyond(before cursor) bool {
	for device, seq := range c.Log {
		if seq > before.Log[device] {
			return true
		}
	}
	return c.Header > before.Header
}

func (l *look) add(c syncer.Change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out.List = append(l.out.List, c)
}

func (l *look) gone(c syncer.Change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out.Gone = append(l.out.Gone, c)
}

// headers lists what follows header known, and looks whether that is there.
func (l *look) headers(ctx context.Context, known uint64) error {
	after := ""
	if known > 1 {
		after = l.r.base + syncer.HeaderKey(known-1)
	}
	there := known == 0
	for attrs, err := range l.r.store.List(ctx, l.r.base+"headers/", after) {
		if err != nil || l.another() {
			return err
		}
		k, ok := l.r.parse(attrs.Key)
		there = there || ok && k.Seq == known
		if ok && k.Seq > known && (l.r.o.Caps.CreateOnly || !l.r.fresh(attrs)) {
			l.add(syncer.Change{Kind: syncer.KindHeader, Seq: k.Seq})
			if k.Seq == l.now.Header+1 || l.now.Header == 0 {
				l.now.Header = k.Seq // of this goroutine alone
			}
		}
	}
	if !there {
		l.gone(syncer.Change{Kind: syncer.KindHeader, Seq: known})
	}
	return nil
}

// checkpoint looks whether one that was told of is complete.
func (l *look) checkpoint(ctx context.Context, name string) error {
	_, err := l.r.store.Head(ctx, l.r.base+syncer.CheckpointEnd(name))
	if errors.Is(err, blob.ErrNotFound) {
		return nil
	}
	if err == nil {
		l.complete(name)
	}
	return err
}

func (l *look) complete(name string) {
	device, seq, ok := syncer.ParseCheckpointName(name)
	if !ok {
		return
	}
	l.add(syncer.Change{Kind: syncer.KindCheckpoint, Device: device, Seq: seq, Name: name})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now.Checkpoints = append(slices.Clone(l.now.Checkpoints), name)
}

// everything looks at all that can be there, whatever the tip says.
func (l *look) everything(c cursor) error {
	group, ctx := errgroup.WithContext(l.ctx)
	group.Go(func() error { return l.headers(ctx, c.Header) })
	group.Go(func() error { return l.checkpoints(ctx, c.Checkpoints) })
	group.Go(func() error { return l.chains(ctx, c.Log) })
	return group.Wait()
}

// checkpoints lists the complete ones. One that was collected leaves the cursor.
func (l *look) checkpoints(ctx context.Context, known []string) error {
	var there []string
	for attrs, err := range l.r.store.List(ctx, l.r.base+"checkpoints/", "") {
		if err != nil {
			return err
		}
		if len(there) >= maxChains || l.another() {
			break
		}
		if k, ok := l.r.parse(attrs.Key); ok && k.Kind == syncer.KeyCheckpoint && k.Part == "m" {
			there = append(there, k.Name)
		}
	}
	l.mu.Lock()
	l.now.Checkpoints = slices.DeleteFunc(slices.Clone(known), func(name string) bool { return !slices.Contains(there, name) })
	l.mu.Unlock()
	for _, name := range there {
		if !slices.Contains(known, name) {
			l.complete(name)
		}
	}
	return nil
}

// chains walks through all chains, of devices we know and those we do not, and
// jumps over what the cursor has: about one listing for each device.
func (l *look) chains(ctx context.Context, known map[string]uint64) error {
	w := walk{look: l, known: known, there: map[string]bool{}}
	for jump := l.r.base + "log/"; jump != ""; {
		var err error
		if jump, err = w.from(ctx, jump); err != nil {
			return err
		}
	}
	if l.full() {
		return nil // what was not met may be there all the same
	}
	for device, seq := range known {
		if seq > 0 && !w.there[device] {
			l.gone(syncer.Change{Kind: syncer.KindBatch, Device: device, Seq: seq})
		}
	}
	return nil
}

type walk struct {
	*look
	known map[string]uint64
	at    string          // device whose chain is walked through
	there map[string]bool // devices whose known batch was met
}

// from lists until it is worth jumping, and says behind which key.
func (w *walk) from(ctx context.Context, after string) (jump string, err error) {
	for attrs, err := range w.r.store.List(ctx, w.r.base+"log/", after) {
		if err != nil || w.another() {
			return "", err
		}
		k, ok := w.r.parse(attrs.Key)
		if !ok || k.Kind != syncer.KeyBatch {
			continue
		}
		known := w.known[k.Device]
		if k.Device != w.at {
			w.at = k.Device
			if known > 1 && k.Seq < known {
				return w.r.base + syncer.BatchKey(k.Device, known-1), nil
			}
		}
		if k.Seq == known {
			w.there[k.Device] = true
		}
		if k.Seq > known {
			w.batch(k)
		}
	}
	return "", nil
}
