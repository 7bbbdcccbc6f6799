package syncer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// ErrNoVault: the vault of an address is not at the remote.
var ErrNoVault = errors.New("the vault is not there")

// ErrIdentity: a vault is there, and it is not the one of the address.
var ErrIdentity = errors.New("another identity than the address says")

// Site is a vault as a remote shows it to a device that is not part of it.
type Site struct {
	RemoteID string              // of the marker
	DID      string              // of the newest header, and the address says the same
	Headers  [][]byte            // envelopes, all, ascending
	logs     map[string][]uint64 // numbers of the batches there, by device
	points   []vaultcore.CheckpointID
}

// Look finds a vault at a remote by its address and changes nothing. Nothing
// but the identity is proved yet: that takes the password. Errors: ErrNoVault,
// ErrIdentity, those of the remote.
func Look(ctx context.Context, r Remote, a seal.Address) (*Site, error) {
	b, err := r.Get(ctx, MarkerKey)
	if errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("%w: vault %s", ErrNoVault, a.Vault)
	}
	if err != nil {
		return nil, err
	}
	m, err := ParseMarker(b)
	if err != nil {
		return nil, err
	}
	s := &Site{RemoteID: m.Remote, logs: make(map[string][]uint64)}
	newest, err := s.survey(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := s.readHeaders(ctx, r, newest); err != nil {
		return nil, err
	}
	last, err := seal.ParseEnvelope(s.Headers[len(s.Headers)-1])
	if err != nil {
		return nil, err
	}
	if err := a.Matches(last.DID); err != nil {
		return nil, fmt.Errorf("%w: the vault there is %s", ErrIdentity, last.DID)
	}
	s.DID = last.DID
	return s, nil
}

// Read is Look for a remote that shows the log to devices of the vault only, once
// this one is a device: Fill has something to do then.
func (s *Site) Read(ctx context.Context, r Remote) error {
	_, err := s.survey(ctx, r)
	return err
}

// survey lists what is there and gives the number of the newest header.
func (s *Site) survey(ctx context.Context, r Remote) (newest uint64, err error) {
	var cursor []byte
	for more := true; more; {
		c, err := r.Changes(ctx, cursor, Reconcile)
		if err != nil {
			return 0, err
		}
		for _, change := range c.List {
			switch change.Kind {
			case KindHeader:
				newest = max(newest, change.Seq)
			case KindBatch:
				s.logs[change.Device] = append(s.logs[change.Device], change.Seq)
			case KindCheckpoint:
				if id, ok := pointID(change); ok {
					s.points = append(s.points, id)
				}
			}
		}
		cursor, more = c.Next, c.More
	}
	for device, seqs := range s.logs {
		slices.Sort(seqs)
		s.logs[device] = slices.Compact(seqs)
	}
	return newest, nil
}

// readHeaders reads all headers, and those above the newest that was reported.
func (s *Site) readHeaders(ctx context.Context, r Remote, newest uint64) error {
	for seq := uint64(1); ; seq++ {
		b, err := r.Get(ctx, HeaderKey(seq))
		if errors.Is(err, ErrNotFound) && seq > newest {
			break
		}
		if err != nil {
			return fmt.Errorf("header %d: %w", seq, err)
		}
		if _, err := seal.ParseEnvelope(b); err != nil {
			return blob.WithHint(fmt.Errorf("header %d at the remote: %w", seq, err),
				"somebody changed it there; vaultdrive sync now --heal on a device of the vault puts the true one back")
		}
		s.Headers = append(s.Headers, b)
	}
	if len(s.Headers) == 0 {
		return fmt.Errorf("%w: only its marker is", ErrNoVault)
	}
	return nil
}

const (
	// readAtATime is how many batches are fetched at a time.
	readAtATime = 8
	// applyAtATime is how many are given to the vault in one go.
	applyAtATime = 8
)

// Fill brings what the remote has of the vault's log into a new home of it: the
// newest checkpoint, then the batches that follow. progress is told after each
// step, in parts and then in batches; it may be nil. Errors: those of the remote
// and of vaultcore.Receive, the first batch that was refused; those of
// checkpoints only when batches are missing that one should stand for.
func (s *Site) Fill(ctx context.Context, r Remote, v *vaultcore.Vault, progress func(done, total int64)) error {
	loaded, fault := loadNewest(ctx, v, r, s.points, progress)
	if !loaded && fault != nil && (!ofPoint(fault) || !s.fromFirst()) {
		return fault
	}
	heads, err := v.Heads(ctx)
	if err != nil {
		return err
	}
	var keys []string
	for device, seqs := range s.logs {
		id, err := seal.ParseUUID(device)
		if err != nil {
			continue
		}
		for _, seq := range seqs {
			if seq > heads[id].Seq {
				keys = append(keys, BatchKey(device, seq))
			}
		}
	}
	slices.Sort(keys)
	total := int64(len(keys))
	for done := int64(0); len(keys) > 0; {
		some := keys[:min(applyAtATime, len(keys))]
		keys = keys[len(some):]
		frames, err := fetchSmall(ctx, r, some)
		if err != nil {
			return err
		}
		got, err := v.Receive(ctx, frames...)
		if err != nil {
			return err
		}
		for _, err := range got.Refused {
			// What a revoked device went on to say is not part of the vault.
			if !errors.Is(err, vaultcore.ErrStaleEpoch) {
				return err
			}
		}
		if done += int64(len(some)); progress != nil {
			progress(done, total)
		}
	}
	return nil
}

// fromFirst says whether every chain is there from its first batch on, so that
// nothing is missing without a checkpoint.
func (s *Site) fromFirst() bool {
	for _, seqs := range s.logs {
		if len(seqs) > 0 && seqs[0] != 1 {
			return false
		}
	}
	return true
}

// fetchSmall reads small objects; the order stays.
func fetchSmall(ctx context.Context, r Remote, keys []string) ([][]byte, error) {
	frames := make([][]byte, len(keys))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readAtATime)
	for i, key := range keys {
		g.Go(func() error {
			b, err := r.Get(ctx, key)
			if err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
			frames[i] = b
			return nil
		})
	}
	return frames, g.Wait()
}

// Publish puts the header into the world that makes a device part of the vault.
// ErrOtherBytes: somebody changed the header meanwhile; Look again.
func Publish(ctx context.Context, r Remote, j vaultcore.JoinResult) error {
	if j.Header == nil {
		return nil // it was paired: the newest header lists it
	}
	err := r.Put(ctx, HeaderKey(j.Seq), j.Header)
	if errors.Is(err, ErrOtherBytes) {
		return blob.WithHint(fmt.Errorf("header %d: %w", j.Seq, err), "another device changed the vault at this moment: join again")
	}
	return err
}

// Introduce says the first word of a device that has joined, its name, so that
// the others do not know it by a number alone until it is used.
func Introduce(ctx context.Context, v *vaultcore.Vault, r Remote) error {
	e := New(Options{Vault: v, Remote: r, Prefetch: PrefetchNone})
	defer e.enter()()
	if err := e.load(ctx); err != nil {
		return err
	}
	if err := e.syncLog(ctx, nil); err != nil {
		return err
	}
	return e.settleSoon(ctx)
}
