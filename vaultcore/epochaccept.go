package vaultcore

import (
	"context"
	"errors"
	"fmt"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// EpochPending says that the password was changed on another device and has
// not been given here: what is here stays readable and saves go on, but nothing
// is sealed for others.
func (v *Vault) EpochPending() bool { return v.pending.Load().foreign() }

// Revoked says that the vault has shut this device out. What it holds stays
// readable; nothing it says counts any more.
func (v *Vault) Revoked() bool {
	header := v.keys.header()
	if p := v.pending.Load(); p.foreign() {
		header = p.last()
	}
	d, listed := header.Roster(v.keys.deviceID())
	return listed && d.Revoked
}

// Condition is a state that lasts until somebody does something about it. Kind
// is stable.
type Condition struct {
	Kind string `json:"kind"`
	Text string `json:"text"`
	Hint string `json:"hint,omitempty"`
}

// Kinds of conditions.
const (
	ConditionNewPassword = "password-changed"
	ConditionRevoked     = "device-revoked"
)

// Conditions lists what keeps this device from syncing.
func (v *Vault) Conditions() (list []Condition) {
	if v.Revoked() {
		return []Condition{{ConditionRevoked, "this device was revoked: it syncs no more",
			"what it holds stays readable; to use the vault here again, join it as a new device"}}
	}
	if v.EpochPending() {
		list = append(list, Condition{ConditionNewPassword, "the password was changed on another device, or a device was revoked",
			"give the password of now once: vaultdrive passwd --accept, or the next mount; files saved meanwhile are safe here and travel afterwards; if no password of yours is right, somebody who knows an old one made it: vaultdrive passwd --refuse"})
	}
	return list
}

// syncable says whether this device may seal for others. Errors: ErrRevoked,
// ErrNewEpoch.
func (v *Vault) syncable() error {
	if v.moved.Load() {
		return ErrClosed
	}
	if v.Revoked() {
		return ErrRevoked
	}
	if p := v.pending.Load(); p.foreign() {
		return errNewEpoch(p)
	}
	return nil
}

// AcceptPassword takes the epoch that another device began, by the password of
// that epoch: its keys, local.key and device.slot under them, and all headers on
// the way. The rename of header.json is the commit. Errors: ErrNotFound when no
// password waits, ErrWrongPassword, ErrForeignHeader, ErrReadOnly, those of the
// disk.
func (v *Vault) AcceptPassword(ctx context.Context, password []byte) error {
	return v.acceptEpoch(ctx, withPassword(password))
}

func (v *Vault) acceptEpoch(ctx context.Context, open opener) error {
	if err := v.writable(); err != nil {
		return err
	}
	// What lies between must not be lost to a power cut behind the commit.
	if err := v.Barrier(ctx); err != nil {
		return err
	}
	v.keys.change.Lock()
	begun, err := v.acceptEpochLocked(ctx, open)
	v.keys.change.Unlock()
	if begun {
		err = errors.Join(err, v.afterEpoch(ctx))
	}
	return err
}

func (v *Vault) acceptEpochLocked(ctx context.Context, open opener) (begun bool, err error) {
	p := v.pending.Load()
	if p == nil || p.busy {
		return false, fmt.Errorf("%w: no other device has changed the password", ErrNotFound)
	}
	vk, ids, err := open(ctx, v.home, p.last(), v.opt.KDF)
	if err != nil {
		return false, err
	}
	ids.Wipe()
	defer vk.Wipe()
	if p.own {
		// Whether it counts only the remote can say.
		kept := vk
		again := *p
		again.vk = v.keys.secrets.keep(&kept)
		v.pending.Store(&again)
		return false, nil
	}
	if err := v.install(p, &vk); err != nil {
		return false, err
	}
	v.event("password", "the password that was changed on another device is accepted")
	return true, nil
}

// install makes the last header of a chain the current one. change is held.
func (v *Vault) install(p *pendingChain, vk *seal.Key) error {
	now, last := v.keys.header(), p.last()
	older, err := v.keys.verifyChain(p, vk)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrForeignHeader, err)
	}
	defer wipeAll(older)
	if err := v.home.WriteHeader(last); err != nil {
		return err
	}
	kept := *vk
	v.keys.installChain(last, &kept, older)
	v.keys.renew(v.home)
	v.noteRoster(now, last)
	if err := v.recordNewHeader(); err != nil || !p.own {
		return err
	}
	return v.noteOwnEpoch()
}

func wipeAll(keys []seal.Key) {
	for i := range keys {
		keys[i].Wipe()
	}
}

// verifyChain checks every header of a chain under the key of its epoch, which
// the last one holds, and that the keys we have are among them.
func (k *keyring) verifyChain(p *pendingChain, vk *seal.Key) (older []seal.Key, err error) {
	last, now := p.last(), k.header()
	if older, err = last.PreviousKeys(vk); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			wipeAll(older)
		}
	}()
	if len(older) != int(last.Epoch)-1 {
		return nil, fmt.Errorf("%w: %d earlier vault keys in epoch %d", seal.ErrHeader, len(older), last.Epoch)
	}
	prev := now
	for _, h := range p.headers {
		key := vk
		if h.Epoch < last.Epoch {
			key = &older[h.Epoch-1]
		}
		if err := errors.Join(h.VerifyNext(prev), h.VerifyDevice(key, now.DID)); err != nil {
			return nil, err
		}
		prev = h
	}
	return older, k.knowsKeys(older)
}

// knowsKeys holds vault keys of epochs from 1 against those that are known,
// which are none while the vault is being unlocked.
func (k *keyring) knowsKeys(keys []seal.Key) error {
	k.mu.RLock()
	defer k.mu.RUnlock()
	for e, known := range k.epochs {
		if int(e) > len(keys) || !known.VaultKey().Equal(&keys[e-1]) {
			return fmt.Errorf("%w: another key of epoch %d", seal.ErrKeyCommit, e)
		}
	}
	return nil
}

// installChain makes a header of a later epoch the current one, with the keys of
// all epochs on the way. vk is taken over and wiped.
func (k *keyring) installChain(header *seal.SignedHeader, vk *seal.Key, older []seal.Key) {
	k.mu.Lock()
	for e := k.head.Epoch + 1; k.current != nil && e < header.Epoch; e++ {
		key := older[e-1]
		k.epochs[e] = seal.DeriveEpoch(k.secrets.keep(&key), k.vault, e)
	}
	k.mu.Unlock()
	k.install(header, vk)
}

// afterEpoch brings the ledger to a header of a new epoch: what a revocation
// cuts off is taken back, what waited may go on, and rows that changed here get
// their keys wrapped anew before they are sealed.
func (v *Vault) afterEpoch(ctx context.Context) error {
	if !v.LedgerOn() {
		return nil
	}
	if err := v.rewrapOwn(); err != nil {
		return err
	}
	l, err := v.lockLedger(ctx)
	if err != nil {
		return err
	}
	defer l.mu.Unlock()
	if err := l.newHeader(); err != nil {
		return err
	}
	_, _, err = l.applyHeld(ctx)
	return err
}
