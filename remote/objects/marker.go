package objects

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// MarkerKey is the whole key of a vault's marker in its store.
func MarkerKey(vault string) string { return base(vault) + syncer.MarkerKey }

const hintMarker = "is it mounted, and the right disk? Put it back, or disable sync and enable it again with the place where the vault's remote is now"

// readMarker gives the marker's bytes if it is this vault's. A marker that is
// not there although it was is a store that is not there.
func (r *Remote) readMarker(ctx context.Context) ([]byte, error) {
	k := syncer.Key{Kind: syncer.KeyMarker}
	b, err := r.read(ctx, syncer.MarkerKey, k.Limit())
	if errors.Is(err, syncer.ErrTooLarge) {
		return nil, fmt.Errorf("%w: its marker cannot be read", syncer.ErrForeign)
	}
	if errors.Is(err, blob.ErrNotFound) && r.remoteID() != "" {
		return nil, blob.WithHint(fmt.Errorf("the vault's marker is gone: %w: %w", syncer.ErrUnavailable, syncer.ErrNoStore), hintMarker)
	}
	if err != nil {
		return nil, err
	}
	m, err := r.judge(b)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remote = m.Remote // once seen it has to stay
	return b, nil
}

func (r *Remote) judge(b []byte) (syncer.Marker, error) {
	m, err := syncer.ParseMarker(b)
	if err == nil && m.Vault != r.o.Vault {
		err = fmt.Errorf("%w: %s", syncer.ErrForeign, m.Vault)
	}
	if remote := r.remoteID(); err == nil && remote != "" && m.Remote != remote {
		err = fmt.Errorf("%w: sync was enabled there anew, as %s", syncer.ErrForeign, m.Remote)
	}
	return m, err
}

func (r *Remote) remoteID() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.remote
}

// checkMarker looks once, before anything is believed or written.
func (r *Remote) checkMarker(ctx context.Context) error {
	if r.isKnown() {
		return nil
	}
	if err := r.marker.take(ctx); err != nil {
		return fmt.Errorf("look at the marker: %w", err)
	}
	defer r.marker.give()
	if r.isKnown() {
		return nil
	}
	return r.lookAtMarker(ctx)
}

// lookAtMarker looks again: the place may have changed under us.
func (r *Remote) lookAtMarker(ctx context.Context) error {
	_, err := r.readMarker(ctx)
	if err == nil || errors.Is(err, syncer.ErrForeign) || errors.Is(err, syncer.ErrNoStore) {
		r.setKnown(err == nil)
	}
	return err
}

func (r *Remote) isKnown() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known
}

func (r *Remote) setKnown(known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known = known
}

// putMarker claims the place for the vault. A returning device finds the marker
// it made before; with another id in it that is ErrOtherBytes, and Get tells it.
func (r *Remote) putMarker(ctx context.Context, content []byte) error {
	if _, err := r.judge(content); err != nil {
		return err
	}
	err := r.putOnce(ctx, syncer.MarkerKey, content)
	if err != nil && !errors.Is(err, syncer.ErrOtherBytes) {
		return err
	}
	if _, readErr := r.readMarker(ctx); readErr != nil {
		return readErr
	}
	r.setKnown(true)
	return err
}

// Vaults lists the ids of the vaults in a store, for those who join one.
func Vaults(ctx context.Context, store blob.Store) ([]string, error) {
	var found []string
	after := ""
	for {
		next, err := firstVault(ctx, store, after)
		if next == "" || err != nil {
			return found, err
		}
		// Only a marker makes it a vault; whatever lies below is passed over.
		if _, err := store.Head(ctx, MarkerKey(next)); err == nil {
			found = append(found, next)
		} else if !errors.Is(err, blob.ErrNotFound) {
			return found, err
		}
		after = base(next) + "~" // behind everything of that vault
	}
}

func firstVault(ctx context.Context, store blob.Store, after string) (string, error) {
	for attrs, err := range store.List(ctx, "vaults/", after) {
		if err != nil {
			return "", err
		}
		id, _, _ := strings.Cut(strings.TrimPrefix(attrs.Key, "vaults/"), "/")
		if syncer.ValidID(id) {
			return id, nil
		}
	}
	return "", nil
}
