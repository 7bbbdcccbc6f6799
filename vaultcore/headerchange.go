package vaultcore

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// ErrHeaderMoved: another header became the current one while this one was
// being made. Nothing is lost: make it again on top.
var ErrHeaderMoved = errors.New("the vault's header changed meanwhile")

// ErrNeedsRemote: password, kit and devices of a vault that is synced change
// together with its remote.
var ErrNeedsRemote = errors.New("the vault is synced: this change needs its remote")

// HeaderChange is the next header of a vault that has a remote: made here, kept
// durably, and not the vault's own before the remote has it. Publish Envelope
// create-only under Seq, then Commit; Drop when another was faster. Of a change
// in doubt neither is called: AcceptHeader, given what the remote has under that
// number, decides, in this session or a later one.
type HeaderChange struct {
	v      *Vault
	header *seal.SignedHeader
	epoch  bool
	note   [2]string // kind and text of the event
}

// Seq is the number the header has to get.
func (c *HeaderChange) Seq() uint64 { return c.header.Seq }

// Envelope is what has to be published.
func (c *HeaderChange) Envelope() []byte { return c.header.Envelope() }

// ProposePassword makes the header of a new epoch under a new password. p as of
// ChangePassword. Errors: ErrWrongPassword, seal.ErrWeakPassword, ErrNewEpoch
// while the password of another device's change has to be given first.
func (v *Vault) ProposePassword(ctx context.Context, oldPassword, newPassword []byte, p seal.KDFParams) (*HeaderChange, error) {
	return v.proposePassword(ctx, withPassword(oldPassword), newPassword, p)
}

func (v *Vault) proposePassword(ctx context.Context, open opener, newPassword []byte, p seal.KDFParams) (*HeaderChange, error) {
	if err := seal.CheckPassword(newPassword); err != nil {
		return nil, err
	}
	c := &HeaderChange{v: v, epoch: true, note: [2]string{"password", "the password was changed"}}
	return c, c.propose(ctx, open, newPassword, p)
}

// ProposeRevocation makes the header of a new epoch, under the same password, in
// which devices are revoked: nothing they say beyond what counts here now counts
// any more. Errors: ErrNotFound for a device that is not in the roster,
// ErrInvalid for this one.
func (v *Vault) ProposeRevocation(ctx context.Context, password []byte, devices ...seal.ID) (*HeaderChange, error) {
	for _, id := range devices {
		if _, listed := v.keys.header().Roster(id); !listed {
			return nil, fmt.Errorf("device %s: %w", id.UUID(), ErrNotFound)
		}
		if id == v.keys.deviceID() {
			return nil, fmt.Errorf("%w: a device does not revoke itself; use another one", ErrInvalid)
		}
	}
	c := &HeaderChange{v: v, epoch: true}
	return c, c.propose(ctx, withPassword(password), password, seal.KDFParams{}, func(h *seal.Header) {
		for i := range h.Devices {
			for _, id := range devices {
				h.Devices[i].Revoked = h.Devices[i].Revoked || h.Devices[i].ID == id
			}
		}
	})
}

// propose makes a header of the next epoch and keeps it.
func (c *HeaderChange) propose(ctx context.Context, open opener, next []byte, p seal.KDFParams, changes ...func(*seal.Header)) error {
	cut, err := c.v.headsForCut(ctx)
	if err != nil {
		return err
	}
	return c.make(ctx, open, func(header *seal.SignedHeader, vk, ids *seal.Key) (*seal.SignedHeader, seal.Key, error) {
		all := append([]func(*seal.Header){cutAt(cut)}, changes...)
		return nextEpoch(ctx, header, vk, ids, next, c.v.opt.KDF, p, all...)
	})
}

// ProposeKit makes the header with a new recovery kit. The caller wipes the kit.
func (v *Vault) ProposeKit(ctx context.Context, password []byte) (*HeaderChange, *RecoveryKit, error) {
	c := &HeaderChange{v: v, note: [2]string{"kit", "a recovery kit was made"}}
	kit := &RecoveryKit{Kit: seal.NewRecovery()}
	err := c.make(ctx, withPassword(password), func(header *seal.SignedHeader, vk, ids *seal.Key) (*seal.SignedHeader, seal.Key, error) {
		kit.Vault, kit.DID = header.Vault, header.DID
		next, err := headerWithKit(header, &kit.Kit, vk, ids)
		return next, seal.Key{}, err
	})
	if err != nil {
		kit.Wipe()
		return nil, nil, err
	}
	return c, kit, nil
}

// ProposeDevice makes the header whose roster has one device more.
func (v *Vault) ProposeDevice(ctx context.Context, password []byte, d seal.Device) (*HeaderChange, error) {
	c := &HeaderChange{v: v, note: [2]string{"device", "a device was let in: " + d.ID.UUID()}}
	return c, c.make(ctx, withPassword(password), func(header *seal.SignedHeader, vk, ids *seal.Key) (*seal.SignedHeader, seal.Key, error) {
		next, err := header.Next(ids, func(h *seal.Header) { h.Devices = append(h.Devices, d) })
		return next, seal.Key{}, err
	})
}

// AnswerPairing seals the vault key of now to a device that the roster lists.
// Error: ErrUnknownDevice.
func (v *Vault) AnswerPairing(q *seal.PairQuestion) (answer []byte, err error) {
	if d, _ := v.keys.header().Roster(q.Device.ID); d != q.Device || d.Revoked {
		return nil, fmt.Errorf("%w: %s", ErrUnknownDevice, q.Device.ID.UUID())
	}
	err = v.keys.withEpoch(0, func(k *seal.EpochKeys) (err error) {
		answer, err = q.Answer(v.keys.vaultID(), k.VaultKey())
		return err
	})
	return answer, err
}

// make opens the header, has the next one made, and keeps it
// durably before anybody can see it.
func (c *HeaderChange) make(ctx context.Context, open opener, next func(*seal.SignedHeader, *seal.Key, *seal.Key) (*seal.SignedHeader, seal.Key, error)) error {
	v := c.v
	if err := errors.Join(v.writable(), v.syncable()); err != nil {
		return err
	}
	v.keys.change.Lock()
	defer v.keys.change.Unlock()
	if p := v.pending.Load(); p.foreign() {
		return errNewEpoch(p)
	}
	header, err := v.keys.currentHeader(v.home)
	if err != nil {
		return err
	}
	vk, ids, err := open(ctx, v.home, header, v.opt.KDF)
	if err != nil {
		return err
	}
	defer vk.Wipe()
	defer ids.Wipe()
	made, newVK, err := next(header, &vk, &ids)
	if err != nil {
		return err
	}
	c.header = made
	p := &pendingChain{headers: []*seal.SignedHeader{made}, own: true, busy: true}
	if made.Epoch > header.Epoch {
		p.vk = v.keys.secrets.keep(&newVK)
	}
	if err := v.setPending(p); err != nil {
		return err
	}
	return v.Barrier(ctx)
}

// Commit makes the header the vault's own: the remote has it. Then keys of rows
// that wait are wrapped anew; those of the others are the caller's to start, by
// FinishRewrap. Error: ErrHeaderMoved when the vault has another header by now.
func (c *HeaderChange) Commit(ctx context.Context) error {
	v := c.v
	v.keys.change.Lock()
	begun, err := c.commitLocked()
	v.keys.change.Unlock()
	if err != nil {
		return err
	}
	if c.note[0] != "" {
		v.event(c.note[0], c.note[1])
	}
	if begun {
		return v.afterEpoch(ctx)
	}
	return nil
}

func (c *HeaderChange) commitLocked() (begun bool, err error) {
	p := c.v.pending.Load()
	switch {
	case c.v.keys.header().Hash() == c.header.Hash():
		return c.epoch, nil // a pull was faster
	case p == nil || !p.own || p.last().Hash() != c.header.Hash():
		return false, ErrHeaderMoved
	}
	return c.v.headerThere(p)
}

// Drop forgets the header: the remote has another one under its number, which
// AcceptHeader takes.
func (c *HeaderChange) Drop() error {
	v := c.v
	v.keys.change.Lock()
	defer v.keys.change.Unlock()
	if p := v.pending.Load(); p != nil && p.own && p.last().Hash() == c.header.Hash() {
		return v.setPending(nil)
	}
	return nil
}

// Doubt leaves the header to be decided by what the remote turns out to have.
func (c *HeaderChange) Doubt() {
	v := c.v
	v.keys.change.Lock()
	defer v.keys.change.Unlock()
	if p := v.pending.Load(); p != nil && p.own && p.last().Hash() == c.header.Hash() {
		again := *p
		again.busy = false
		v.pending.Store(&again)
	}
}

// Unsettled gives the header made here whose fate is not known, nil if there is
// none: a call or an earlier session ended between publishing and Commit. wanted
// says that its password was given since, so whoever made it counts on it.
func (v *Vault) Unsettled() (seq uint64, envelope []byte, wanted bool) {
	p := v.pending.Load()
	if p == nil || !p.own || p.busy {
		return 0, nil, false
	}
	return p.last().Seq, p.last().Envelope(), p.vk != nil
}

// Abandon gives up what Unsettled named: the remote does not have it. Should it
// arrive there later it is a header like any other.
func (v *Vault) Abandon(seq uint64) error {
	v.keys.change.Lock()
	defer v.keys.change.Unlock()
	p := v.pending.Load()
	if p == nil || !p.own || p.busy || p.last().Seq != seq {
		return nil
	}
	if err := v.setPending(nil); err != nil {
		return err
	}
	v.event("header", "a change of password, kit or devices that was interrupted did not take place; do it again")
	return nil
}

// headsForCut gives the last batch of each device that counts here, nil while
// there is no ledger.
func (v *Vault) headsForCut(ctx context.Context) (map[seal.ID]seal.Head, error) {
	heads, err := v.Heads(ctx)
	if errors.Is(err, ErrLedgerOff) {
		return nil, nil
	}
	return heads, err
}

// cutAt sets the cut of a new epoch: what counts of each device in the earlier
// ones. It goes up only, and is final for devices revoked before.
func cutAt(heads map[seal.ID]seal.Head) func(*seal.Header) {
	return func(h *seal.Header) {
		cut := maps.Clone(h.Cut)
		if cut == nil {
			cut = make(map[seal.ID]seal.Cut)
		}
		for _, d := range h.Devices {
			if head := heads[d.ID]; !d.Revoked && head.Seq > cut[d.ID].Seq {
				cut[d.ID] = seal.Cut(head)
			}
		}
		h.Cut = cut
	}
}
