package vaultcore

import (
	"context"
	"fmt"
	"slices"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Whoever knows an old password knows the identity too, and can sign headers of epochs
// that no password of the user's opens (CRYPTO.md sections 2 and 13). They wait here as
// true ones do, and are told apart by the password alone; so what waits gives way to
// another header of its number, and to the user's word, but never by itself to none.

// replacePending takes another header of a new epoch in the place of one that waits:
// only the password given can tell which is true, so what the remote shows now waits.
// change is held.
func (v *Vault) replacePending(next, now *seal.SignedHeader, chain *pendingChain) error {
	before := chain.headers[:next.Seq-chain.headers[0].Seq]
	prev := now
	if len(before) > 0 {
		prev = before[len(before)-1]
	}
	if err := next.VerifyNext(prev); err != nil {
		return foreignHeader(err)
	}
	if next.Epoch <= now.Epoch {
		// It would have this device go on under keys that the one that waits has ended.
		v.alarm("header-forged", fmt.Sprintf("a change of the password waits here as header %d, and the remote shows another header in its place: if none of your passwords opens the one that waits, somebody who knows an old one made it: vaultdrive passwd --refuse", next.Seq))
		return errNewEpoch(chain)
	}
	waiting := &pendingChain{headers: append(before[:len(before):len(before)], next)}
	if err := v.setPending(waiting); err != nil {
		return err
	}
	v.alarm("header-forged", fmt.Sprintf("two different changes of the password were shown, both as header %d: one of them was made by somebody who knows an old password and can write to the remote; the one there now waits for its password, and if none of yours opens it: vaultdrive passwd --refuse", next.Seq))
	return errNewEpoch(waiting)
}

// WaitingHeaders gives the headers that wait for a password of theirs, in order. They
// are not to be changed.
func (v *Vault) WaitingHeaders() []*seal.SignedHeader {
	if p := v.pending.Load(); p.foreign() {
		return slices.Clone(p.headers)
	}
	return nil
}

// RefuseHeaders drops the headers that wait, since the user says that nobody of theirs
// made them: somebody who knows an old password did. They have to be gone from the
// remote, or they come again. The password is that of this device. Errors: ErrNotFound
// when none waits, ErrWrongPassword, ErrReadOnly.
func (v *Vault) RefuseHeaders(ctx context.Context, password []byte) error {
	if err := v.writable(); err != nil {
		return err
	}
	v.keys.change.Lock()
	defer v.keys.change.Unlock()
	p := v.pending.Load()
	if !p.foreign() {
		return fmt.Errorf("%w: no other device has changed the password", ErrNotFound)
	}
	if err := v.CheckPassword(ctx, password); err != nil {
		return err
	}
	if err := v.setPending(nil); err != nil {
		return err
	}
	v.event("header", fmt.Sprintf("header %d and what came behind it were refused: no device of the user's made them", p.headers[0].Seq))
	return nil
}

// CheckPassword says whether a password opens the header that counts here. Error:
// ErrWrongPassword.
func (v *Vault) CheckPassword(ctx context.Context, password []byte) error {
	header, err := v.keys.currentHeader(v.home)
	if err != nil {
		return err
	}
	vk, ids, err := withPassword(password)(ctx, v.home, header, v.opt.KDF)
	vk.Wipe()
	ids.Wipe()
	return err
}
