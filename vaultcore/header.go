package vaultcore

import (
	"context"
	"errors"
	"fmt"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// HeaderEnvelopes gives every header accepted so far above a number, ascending.
func (v *Vault) HeaderEnvelopes(after uint64) (out [][]byte, err error) {
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return nil, ErrClosed
	}
	err = v.reader.query("SELECT payload,sig FROM headers WHERE seq>? ORDER BY seq", func(c []dbValue) error {
		s := rowScanner{c: c}
		h, err := seal.ParseStored(s.blob(), s.blob())
		if err != nil {
			return fmt.Errorf("%w: recorded header: %w", ErrDamaged, err)
		}
		out = append(out, h.Envelope())
		return nil
	}, int64(after))
	return out, err
}

// HeaderSeq is the number of the newest header that is known, and of the newest
// one accepted, which is lower while a new password has to be given.
func (v *Vault) HeaderSeq() (known, accepted uint64) {
	accepted = v.keys.header().Seq
	if p := v.pending.Load(); p.foreign() {
		return p.last().Seq, accepted
	}
	return accepted, accepted
}

// AcceptHeader takes the next header of the chain: a device that joined, a new
// kit, a change made here that has reached the remote. One that is known already
// changes nothing. Errors: ErrNewEpoch for one of a new password and all behind
// it, which is kept until AcceptPassword or an unlock accepts it; seal.ErrGap
// when earlier ones are missing; seal.ErrRollback, ErrForeignHeader,
// seal.ErrSignature and ErrFork.
func (v *Vault) AcceptHeader(ctx context.Context, envelope []byte) error {
	if err := v.writable(); err != nil {
		return err
	}
	next, err := seal.ParseEnvelope(envelope)
	if err != nil {
		return err
	}
	v.keys.change.Lock()
	begun, err := v.acceptLocked(next)
	v.keys.change.Unlock()
	if begun {
		err = errors.Join(err, v.afterEpoch(ctx))
	}
	return err
}

// acceptLocked takes a header; begun says that the ledger has to follow, for
// an epoch began with it or a device was revoked.
func (v *Vault) acceptLocked(next *seal.SignedHeader) (begun bool, err error) {
	now, chain := v.keys.header(), v.pending.Load()
	if next.Seq < now.Seq {
		return false, errors.Join(foreignHeader(next.VerifySignature(now.DID)), v.sameHeader(next))
	}
	if known := chain.find(next.Seq); known != nil && known.Hash() == next.Hash() {
		return v.headerThere(chain)
	}
	if chain.foreign() && chain.find(next.Seq) != nil {
		if err := next.VerifySignature(now.DID); err != nil {
			return false, foreignHeader(err)
		}
		return false, v.replacePending(next, now, chain)
	}
	if err := v.verifyHeader(next, now, chain); err != nil || next.Seq == now.Seq {
		return false, err
	}
	if chain != nil && chain.own {
		v.lostRace(chain)
		chain = nil
	}
	if chain == nil && next.Epoch == now.Epoch {
		return revokes(now, next), v.acceptSameEpoch(now, next)
	}
	waiting := &pendingChain{headers: []*seal.SignedHeader{next}}
	if chain != nil {
		waiting.headers = append(chain.headers[:len(chain.headers):len(chain.headers)], next)
	}
	if err := v.setPending(waiting); err != nil {
		return false, err
	}
	return false, errNewEpoch(waiting)
}

func errNewEpoch(p *pendingChain) error {
	return blob.WithSaying(fmt.Errorf("%w: header %d is of epoch %d", ErrNewEpoch, p.last().Seq, p.last().Epoch), ErrNewEpoch.Error())
}

// verifyHeader checks a header against the identity and those before it; the
// vault key is not needed for that. The signature comes first: what nobody of
// the vault has signed proves nothing.
func (v *Vault) verifyHeader(next, now *seal.SignedHeader, chain *pendingChain) error {
	if err := next.VerifySignature(now.DID); err != nil {
		return foreignHeader(err)
	}
	prev := now
	if chain.foreign() && next.Seq > now.Seq {
		if prev = chain.find(next.Seq); prev == nil {
			prev = chain.last()
		}
	}
	return foreignHeader(next.VerifyNext(prev))
}

func foreignHeader(err error) error {
	if errors.Is(err, seal.ErrIdentityMismatch) {
		return fmt.Errorf("%w: %w", ErrForeignHeader, err)
	}
	return err
}

// headerThere: the remote has what waits. What was made here and its password is
// known becomes the header; what others made waits on.
func (v *Vault) headerThere(p *pendingChain) (begun bool, err error) {
	now := v.keys.header()
	switch {
	case !p.own:
		return false, errNewEpoch(p)
	case p.last().Epoch == now.Epoch:
		return revokes(now, p.last()), v.acceptSameEpoch(now, p.last())
	case p.vk != nil:
		return true, v.install(p, p.vk)
	}
	p = &pendingChain{headers: p.headers}
	if err := v.setPending(p); err != nil {
		return false, err
	}
	return false, errNewEpoch(p)
}

// lostRace: another header has the number of the one made here.
func (v *Vault) lostRace(p *pendingChain) {
	if p.busy {
		return // who made it does it again on top
	}
	v.event("header", "a change of password, kit or devices that was interrupted did not take place: another device was faster. Do it again")
}

// acceptSameEpoch makes the next header of the epoch the current one.
func (v *Vault) acceptSameEpoch(now, next *seal.SignedHeader) error {
	err := v.keys.withEpoch(0, func(k *seal.EpochKeys) error { return next.VerifyDevice(k.VaultKey(), now.DID) })
	if err != nil {
		return fmt.Errorf("%w: %w", ErrForeignHeader, err)
	}
	if err := v.home.WriteHeader(next); err != nil {
		return err
	}
	v.keys.setHeader(next)
	v.noteRoster(now, next)
	return v.recordNewHeader()
}

// revokes says whether a header shuts out a device that the one before lists.
func revokes(now, next *seal.SignedHeader) bool {
	for _, d := range next.Devices {
		if old, known := now.Roster(d.ID); known && d.Revoked && !old.Revoked {
			return true
		}
	}
	return false
}

// noteRoster tells the user who came and who went.
func (v *Vault) noteRoster(now, next *seal.SignedHeader) {
	for _, d := range next.Devices {
		old, known := now.Roster(d.ID)
		switch {
		case !known && d.ID != v.keys.deviceID():
			v.event("device", "a device joined the vault: "+d.ID.UUID())
		case d.Revoked && !old.Revoked:
			v.event("device", "a device was revoked: "+d.ID.UUID())
		}
	}
}

// recordNewHeader follows a new header.json with its row; nothing is pending
// any more.
func (v *Vault) recordNewHeader() error {
	_, err := v.com.do(func(t *txn) error { return v.recordHeader(t.conn) })
	if err != nil {
		return err
	}
	v.bar.commit()
	v.pending.Store(nil)
	return nil
}

// sameHeader compares an old header with the one accepted under its number.
func (v *Vault) sameHeader(h *seal.SignedHeader) error {
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return ErrClosed
	}
	payload, err := v.reader.one("SELECT payload FROM headers WHERE seq=?", int64(h.Seq))
	if err != nil {
		return err
	}
	if b, _ := payload.([]byte); b != nil && string(b) != string(h.Payload) {
		return fmt.Errorf("%w: vault header %d", ErrFork, h.Seq)
	}
	return nil
}
