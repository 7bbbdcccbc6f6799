// Package objects makes a syncer.Remote of any blob.Store: a directory, a NAS, a
// bucket. Nobody there thinks, so devices follow a layout, ring a doorbell after
// they put something, and clean up in turns.
//
// It refuses to know HTTP, keys, and what is inside of a header or batch.
package objects

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// parallel is how many requests one call has on the way at a time.
const parallel = 8

// Options say whose objects they are and what the store is known to do.
type Options struct {
	Vault  string // id
	Device string // our own, "" if we only look
	// Remote is the id in the marker as it was when sync was enabled here; ""
	// while it is not. With it a missing marker is a store that is not there.
	Remote string
	Caps   syncer.Caps // as Probe found them

	// Swap replaces key if its content still has that ETag, else blob.ErrChanged.
	// nil: the store has no such thing.
	Swap func(ctx context.Context, key string, r io.Reader, size int64, etag string) error
	// HeadChanged is the store's Head, but tells no more than key and ETag of an
	// object that still has that one. nil: the store has no such thing.
	HeadChanged func(ctx context.Context, key, etag string) (blob.Attrs, error)
	// Clock is the time by the store's clock, false if it has not said yet. nil:
	// it never does.
	Clock func() (time.Time, bool)
	// Now is our clock; nil for time.Now.
	Now func() time.Time
}

// Remote is one vault's part of a store. It has no goroutine of its own.
type Remote struct {
	store blob.Store
	o     Options
	base  string // of all keys, with the final slash

	marker turn // to look at the marker
	ringer turn // to write the tip

	mu     sync.Mutex // guards what follows; nothing is waited for under it
	known  bool       // the marker is ours
	remote string     // the id in it, "" while none was seen
	news   tip        // what the tip must say at least, by us
	rung   time.Time  // last writing of the tip
	behind bool       // the tip says less than news
}

var _ syncer.Remote = (*Remote)(nil)

// New gives the remote of a vault. It asks the store nothing.
func New(store blob.Store, o Options) (*Remote, error) {
	if !syncer.ValidID(o.Vault) || o.Device != "" && !syncer.ValidID(o.Device) {
		return nil, fmt.Errorf("remote of vault %.40q, device %.40q: %w", o.Vault, o.Device, syncer.ErrKey)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Remote{
		store: store, o: o, base: base(o.Vault), remote: o.Remote,
		marker: make(turn, 1), ringer: make(turn, 1),
		news: tip{Log: map[string]uint64{}},
	}, nil
}

func base(vault string) string { return "vaults/" + vault + "/" }

// Caps implements syncer.Remote.
func (r *Remote) Caps(context.Context) (syncer.Caps, error) { return r.o.Caps, nil }

// Get implements syncer.Remote.
func (r *Remote) Get(ctx context.Context, key string) ([]byte, error) {
	k, err := syncer.ParseKey(key)
	if err != nil {
		return nil, err
	}
	if k.Kind == syncer.KeyMarker {
		b, err := r.readMarker(ctx)
		return b, err
	}
	if err := r.checkMarker(ctx); err != nil {
		return nil, err
	}
	if k.Kind == syncer.KeyHeader && !r.o.Caps.CreateOnly {
		if err := r.settledHeader(ctx, key); err != nil {
			return nil, err
		}
	}
	return r.read(ctx, key, k.Limit())
}

// settledHeader holds back a header that another may still write over.
func (r *Remote) settledHeader(ctx context.Context, key string) error {
	attrs, err := r.store.Head(ctx, r.base+key)
	if err == nil && r.fresh(attrs) {
		err = fmt.Errorf("%s is younger than %v: %w", key, syncer.HeaderPause, syncer.ErrNotFound)
	}
	return err
}

func (r *Remote) fresh(attrs blob.Attrs) bool {
	return r.storeNow().Sub(attrs.ModTime) < syncer.HeaderPause
}

// storeNow is the store's time, or ours if it keeps its own to itself.
func (r *Remote) storeNow() time.Time {
	if r.o.Clock != nil {
		if now, ok := r.o.Clock(); ok {
			return now
		}
	}
	return r.o.Now()
}

// read takes a whole object of at most limit bytes.
func (r *Remote) read(ctx context.Context, key string, limit int64) ([]byte, error) {
	body, err := r.store.Get(ctx, r.base+key, 0, limit+1)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s is longer than %d bytes: %w", key, limit, syncer.ErrTooLarge)
	}
	return b, nil
}

// Put implements syncer.Remote.
func (r *Remote) Put(ctx context.Context, key string, content []byte) error {
	k, err := syncer.ParseKey(key)
	if err != nil {
		return err
	}
	if int64(len(content)) > k.Limit() {
		return fmt.Errorf("put %s: %d bytes: %w", key, len(content), syncer.ErrTooLarge)
	}
	if k.Kind == syncer.KeyMarker {
		return r.putMarker(ctx, content)
	}
	if err := r.checkMarker(ctx); err != nil {
		return err
	}
	if err := r.putOnce(ctx, key, content); err != nil {
		return err
	}
	if k.Kind == syncer.KeyHeader && !r.o.Caps.CreateOnly {
		if err := r.pause(ctx, key, content); err != nil {
			return err
		}
	}
	r.announce(k)
	_ = r.ring(ctx, false) // the object is there; Settle tells if nobody hears of it
	return nil
}

// putOnce writes create-only and finds out who was there if it is refused.
func (r *Remote) putOnce(ctx context.Context, key string, content []byte) error {
	if !r.o.Caps.CreateOnly {
		err := r.compare(ctx, key, content)
		if !errors.Is(err, syncer.ErrNotFound) {
			return err
		}
	}
	err := r.store.Put(ctx, r.base+key, bytes.NewReader(content), int64(len(content)), true)
	if errors.Is(err, blob.ErrExist) {
		return stillThere(r.compare(ctx, key, content))
	}
	return err
}

// stillThere turns "not found" by who was just told "exists" into an error that
// says nothing about either.
func stillThere(err error) error {
	if errors.Is(err, blob.ErrNotFound) {
		return fmt.Errorf("%w: there and not there (%v)", syncer.ErrUnavailable, err)
	}
	return err
}

// compare says whether the store has these bytes: nil, ErrOtherBytes, or
// ErrNotFound.
func (r *Remote) compare(ctx context.Context, key string, content []byte) error {
	there, err := r.read(ctx, key, int64(len(content)))
	if errors.Is(err, syncer.ErrTooLarge) || err == nil && !bytes.Equal(there, content) {
		return fmt.Errorf("put %s: %w", key, syncer.ErrOtherBytes)
	}
	return err
}

// pause waits until every other writer of the same header has seen this one or
// written over it, and reads who is left.
func (r *Remote) pause(ctx context.Context, key string, content []byte) error {
	if err := sleep(ctx, syncer.HeaderPause); err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	return stillThere(r.compare(ctx, key, content))
}

// turn lets one at a time do something that takes its time.
type turn chan struct{}

// take waits for the turn as long as the context allows.
func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// try takes the turn if nobody has it.
func (t turn) try() bool {
	select {
	case t <- struct{}{}:
		return true
	default:
		return false
	}
}

func (t turn) give() { <-t }

func sleep(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
