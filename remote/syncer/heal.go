package syncer

import (
	"context"
	"errors"
	"fmt"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// heal puts back what the remote has lost and is held here: headers, batches of
// every device, contents. The turn is held.
func (e *Engine) heal(ctx context.Context) error {
	call, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	ch, err := e.o.Remote.Changes(call, nil, Reconcile)
	if err != nil {
		return err
	}
	there := make(map[string]bool)
	for _, c := range ch.List {
		switch c.Kind {
		case KindHeader:
			there[HeaderKey(c.Seq)] = true
		case KindBatch:
			there[BatchKey(c.Device, c.Seq)] = true
		case KindCheckpoint:
			there[CheckpointEnd(c.Name)] = true
		}
	}
	errs := []error{putHeaders(ctx, e.o.Vault, e.o.Remote, there)}
	errs = append(errs, putChains(ctx, e.o.Vault, e.o.Remote, there), putPoints(ctx, e.o.Vault, e.o.Remote, there), e.healBlobs(ctx))
	e.mu.Lock()
	e.unsettled = true
	e.mu.Unlock()
	return errors.Join(errs...)
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
