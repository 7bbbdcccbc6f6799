package syncer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// takeHeaders takes the headers that are new, in order, after one made here whose
// publishing was interrupted.
func (e *Engine) takeHeaders(ctx context.Context, seqs []uint64) error {
	if err := settleHeader(ctx, e.o.Vault, e.o.Remote); err != nil {
		return err
	}
	for _, seq := range seqs {
		if _, err := e.takeHeader(ctx, seq); err != nil {
			return err
		}
	}
	return nil
}

// takeHeader takes one header. What the vault does not accept is a condition,
// and no error: batches go on under the header that counts here.
func (e *Engine) takeHeader(ctx context.Context, seq uint64) (taken bool, err error) {
	v := e.o.Vault
	if known, _ := v.HeaderSeq(); seq <= known {
		return false, nil
	}
	call, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	envelope, err := e.o.Remote.Get(call, HeaderKey(seq))
	if errors.Is(err, ErrNotFound) && !errors.Is(err, ErrNoStore) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("fetch header %d: %w", seq, err)
	}
	err = v.AcceptHeader(ctx, envelope)
	if known, _ := v.HeaderSeq(); err == nil && known < seq {
		err = seal.ErrRollback // one that is known, under a number that is not its own
	}
	if err != nil {
		err = fmt.Errorf("header %d: %w", seq, err)
		e.o.Log.Warn("header not accepted", "err", err)
		e.meet(err)
		return errors.Is(err, vaultcore.ErrNewEpoch), nil // then it is kept all the same
	}
	e.cond.clear(CondUnknown)
	return true, nil
}

// waitingHeaders looks again at the headers that wait for a password: nothing but that
// proves them, so another one in the place of one of them takes it here too.
func (e *Engine) waitingHeaders(ctx context.Context) error {
	v := e.o.Vault
	for _, waiting := range v.WaitingHeaders() {
		seq := waiting.Seq
		call, cancel := context.WithTimeout(ctx, callTime)
		envelope, err := e.o.Remote.Get(call, HeaderKey(seq))
		cancel()
		if notThere(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("fetch header %d: %w", seq, err)
		}
		if err := v.AcceptHeader(ctx, envelope); err != nil {
			e.meet(fmt.Errorf("header %d: %w", seq, err))
		}
	}
	return nil
}

// nextHeaders takes the headers that follow ours, told of or not.
func (e *Engine) nextHeaders(ctx context.Context) (taken bool, err error) {
	for {
		known, _ := e.o.Vault.HeaderSeq()
		one, err := e.takeHeader(ctx, known+1)
		if err != nil || !one {
			return taken, err
		}
		taken = true
	}
}

// RefuseHeaders drops headers of a new password that wait here and that the user says
// nobody of theirs made, and takes them away from the remote, which would show them
// again. Errors: ErrDenied where nothing can be taken away, those of vaultcore.RefuseHeaders and of the remote.
func RefuseHeaders(ctx context.Context, v *vaultcore.Vault, r Remote, password []byte) error {
	waiting := v.WaitingHeaders()
	if len(waiting) == 0 {
		return v.RefuseHeaders(ctx, password) // it says that there are none
	}
	if err := v.CheckPassword(ctx, password); err != nil {
		return err
	}
	// The last one first: what is left after a failure still follows the header of here.
	for _, h := range slices.Backward(waiting) {
		seq := h.Seq
		there, err := r.Get(ctx, HeaderKey(seq))
		if notThere(err) || err == nil && !bytes.Equal(there, h.Envelope()) {
			continue // gone, or another one is there, which is not meant
		}
		if err == nil {
			_, err = r.Settle(ctx, Settlement{False: []string{HeaderKey(seq)}})
		}
		if errors.Is(err, ErrDenied) {
			return blob.WithHint(err, "delete "+HeaderKey(seq)+" there by hand, then give the command again")
		}
		if err != nil {
			return fmt.Errorf("take header %d away: %w", seq, err)
		}
	}
	return v.RefuseHeaders(ctx, password)
}
