package syncer

import (
	"context"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// Admitter is a remote that shows a vault's header only to whoever has the boot
// token of its address.
type Admitter interface {
	// SetBoot makes it another token; asked is false where none is asked for.
	SetBoot(ctx context.Context, token [16]byte) (asked bool, err error)
	// Admits says whether the token that it was opened with does.
	Admits(ctx context.Context) (bool, error)
}

// RenewBoot gives the remote the boot token that belongs to the newest revocation,
// so that the address a revoked device knows admits nobody.
func RenewBoot(ctx context.Context, v *vaultcore.Vault, r Remote) error {
	a, admits := r.(Admitter)
	if !admits {
		return nil
	}
	token, none, err := v.BootToken()
	if err != nil || none {
		return err
	}
	_, err = a.SetBoot(ctx, token)
	return err
}

// tellBoot is RenewBoot once a session and header. Every device does, so that it
// happens although the one that revoked was interrupted. To be called when nothing
// is missing.
func (e *Engine) tellBoot(ctx context.Context) error {
	v := e.o.Vault
	_, accepted := v.HeaderSeq()
	e.mu.Lock()
	told := e.bootHeader == accepted
	e.mu.Unlock()
	if told || v.EpochPending() || v.Revoked() {
		return nil
	}
	if err := RenewBoot(ctx, v, e.o.Remote); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.bootHeader = accepted
	return nil
}
