package syncer

import (
	"context"
	"errors"
	"fmt"

	"github.com/vaultdrive/vaultdrive/vaultcore"
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
