package objects

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

const (
	probePrefix = "probe/"
	probeText   = "0123456789abcdefghijklmnopqrstuvwxyz"
	otherText   = "something else of another length"
	// wrongETag has the form that most stores use, and is nobody's.
	wrongETag = "00000000000000000000000000000000"
)

// IsProbe says whether a whole key is one that Probe uses: before there is a
// marker, a store need not take others.
func IsProbe(vault, key string) bool { return strings.HasPrefix(key, base(vault)+probePrefix) }

// Probe finds out what a store can do, by trying it with an object of its own
// below the vault. limits is what is known of it by its kind: sizes and parts.
// A condition that should fail and passes counts as one the store has not. What
// Probe leaves behind after an error is ignored by everybody.
func Probe(ctx context.Context, store blob.Store, o Options, limits syncer.Caps) (syncer.Caps, error) {
	var id [16]byte
	rand.Read(id[:]) // never fails since Go 1.24
	p := prober{ctx: ctx, store: store, o: o, key: base(o.Vault) + probePrefix + hex.EncodeToString(id[:])}
	caps := limits
	caps.Version = 1
	for _, step := range []func(*syncer.Caps) error{p.createOnly, p.readBack, p.swap, p.remove} {
		if err := step(&caps); err != nil {
			_ = store.Delete(ctx, p.key)
			return syncer.Caps{}, fmt.Errorf("try what the remote can do: %w", err)
		}
	}
	return caps, nil
}

type prober struct {
	ctx   context.Context
	store blob.Store
	o     Options
	key   string
}

func (p *prober) put(text string, createOnly bool) error {
	return p.store.Put(p.ctx, p.key, strings.NewReader(text), int64(len(text)), createOnly)
}

func (p *prober) get(off, n int64) (string, error) {
	body, err := p.store.Get(p.ctx, p.key, off, n)
	if err != nil {
		return "", err
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, 1<<10))
	return string(b), err
}

func (p *prober) createOnly(caps *syncer.Caps) error {
	if err := p.put(probeText, true); err != nil {
		return err
	}
	err := p.put(otherText, true)
	caps.CreateOnly = errors.Is(err, blob.ErrExist)
	if err != nil && !caps.CreateOnly {
		return err
	}
	// Refused and written all the same would be worse than not refused.
	text, err := p.get(0, -1)
	caps.CreateOnly = caps.CreateOnly && text == probeText
	return err
}

func (p *prober) readBack(caps *syncer.Caps) error {
	if err := p.put(probeText, false); err != nil {
		return err
	}
	text, err := p.get(0, -1)
	if err != nil {
		return err
	}
	if text != probeText {
		return fmt.Errorf("%w: it gives back other bytes than were stored", syncer.ErrUnavailable)
	}
	middle, err := p.get(10, 5)
	caps.Range = middle == probeText[10:15]
	return err
}

func (p *prober) swap(caps *syncer.Caps) error {
	caps.Swap = false
	if p.o.Swap == nil {
		return nil
	}
	swap := func(etag, text string) error {
		return p.o.Swap(p.ctx, p.key, strings.NewReader(text), int64(len(text)), etag)
	}
	attrs, err := p.store.Head(p.ctx, p.key)
	if err != nil {
		return err
	}
	err = swap(wrongETag, otherText)
	if err == nil || errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if !errors.Is(err, blob.ErrChanged) {
		return err
	}
	err = swap(attrs.ETag, otherText)
	if errors.Is(err, blob.ErrChanged) {
		return nil // it refuses everything
	}
	caps.Swap = err == nil
	return err
}

func (p *prober) remove(caps *syncer.Caps) error {
	err := p.store.Delete(p.ctx, p.key)
	if errors.Is(err, blob.ErrDenied) {
		caps.Delete = false // an archive: everything works but collection
		return nil
	}
	if err != nil {
		return err
	}
	_, err = p.store.Head(p.ctx, p.key)
	caps.Delete = errors.Is(err, blob.ErrNotFound)
	if caps.Delete {
		err = nil
	}
	return err
}
