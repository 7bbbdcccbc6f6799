package syncer

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// heal puts back what the remote has lost and is held here: headers, batches of
// every device, contents. The turn is held.
func (e *Engine) heal(ctx context.Context) error {
	there, err := listThere(ctx, e.o.Remote)
	if err != nil {
		return err
	}
	errs := []error{putHeaders(ctx, e.o.Vault, e.o.Remote, there)}
	errs = append(errs, e.checkHeaders(ctx, there))
	errs = append(errs, putPoints(ctx, e.o.Vault, e.o.Remote, there), putChains(ctx, e.o.Vault, e.o.Remote, there), e.healBlobs(ctx))
	e.mu.Lock()
	e.unsettled = true
	e.mu.Unlock()
	return errors.Join(errs...)
}

// checkHeaders names the headers there that are not ours: the vault has no use for
// them, but a device that joins begins with them.
func (e *Engine) checkHeaders(ctx context.Context, there map[string]bool) error {
	envelopes, err := e.o.Vault.HeaderEnvelopes(0)
	if err != nil {
		return err
	}
	for _, envelope := range envelopes {
		h, err := seal.ParseEnvelope(envelope)
		if err != nil {
			return err
		}
		if !there[HeaderKey(h.Seq)] {
			continue
		}
		b, err := e.o.Remote.Get(ctx, HeaderKey(h.Seq))
		if errors.Is(err, ErrNotFound) {
			continue // just taken away: the next look says so
		}
		if err == nil && !bytes.Equal(b, envelope) {
			err = ErrOtherBytes
		}
		if errors.Is(err, ErrOtherBytes) || errors.Is(err, ErrTooLarge) {
			e.meet(fmt.Errorf("header %d: %w", h.Seq, ErrOtherBytes))
		} else if err != nil {
			return err
		}
	}
	return nil
}

// healBlobs queues the contents held here that the remote does not have whole.
func (e *Engine) healBlobs(ctx context.Context) error {
	held, err := e.o.Vault.HeldBlobs(ctx)
	if err != nil {
		return err
	}
	var lost []seal.ID
	for len(held) > 0 {
		some := held[:min(len(held), statChunk)]
		held = held[len(some):]
		ids := make([]string, len(some))
		for i, b := range some {
			ids[i] = b.Blob.Hex()
		}
		sizes, err := e.o.Remote.StatBlobs(ctx, ids)
		if err != nil {
			return err
		}
		for i, b := range some {
			if sizes[i] != b.Len {
				lost = append(lost, b.Blob)
			}
		}
	}
	if len(lost) == 0 {
		return nil
	}
	if err := e.o.Vault.NotThere(ctx, lost); err != nil {
		return fmt.Errorf("queue lost contents: %w", err)
	}
	return e.loadJobs(ctx)
}
