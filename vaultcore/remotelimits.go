package vaultcore

import (
	"context"
	"fmt"
	"time"
)

// limitsAge is how old an answer about limits may be to refuse a write.
const limitsAge = time.Hour

// RemoteLimits are what the remote lets the vault store, as it said lately.
type RemoteLimits struct {
	MaxFile int64 // bytes of plaintext; 0: no limit known
	Room    int64 // bytes that can still be sent there; < 0: no limit known
	At      time.Time
}

// farLimits is RemoteLimits as writes hold themselves to it.
type farLimits struct {
	RemoteLimits
	base int64 // bytes of all files when it was learnt
}

// SetRemoteLimits lets writes fail, with ErrTooLarge and ErrQuota, that the remote
// would not take. What waits to be sent is taken off the room. An answer that is
// older than an hour refuses nothing.
func (v *Vault) SetRemoteLimits(ctx context.Context, r RemoteLimits) error {
	l, err := v.lockLedger(ctx)
	if err != nil {
		return err
	}
	defer l.mu.Unlock()
	f := &farLimits{RemoteLimits: r}
	if r.Room >= 0 {
		var waiting int64
		err := l.read(`SELECT (SELECT coalesce(sum(size),0) FROM transfer_jobs WHERE up=1)
			+ (SELECT coalesce(sum(blob_len),0) FROM asset_attachments WHERE dirty<>0 AND dirty&2<>0 AND deleted=0)`,
			func(s *rowScanner) { waiting = s.num() })
		if err != nil {
			return err
		}
		f.Room = max(0, r.Room-waiting)
	}
	v.tree.RLock()
	f.base = v.counts.bytes
	v.tree.RUnlock()
	v.far.Store(f)
	return nil
}

// fitsRemote refuses to make a file longer than the remote takes, or than there is
// room for; what stays on this device has no such bound. o.mu is held. Errors:
// ErrTooLarge, ErrQuota.
func (v *Vault) fitsRemote(o *openState, end int64) error {
	f := v.far.Load()
	if f == nil {
		return nil
	}
	var have int64
	switch {
	case o.draft != nil:
		have = o.draft.size()
	case o.content != nil:
		have = o.content.ref.size
	}
	if end <= have || v.now().Sub(f.At) >= limitsAge {
		return nil
	}
	n := o.node
	v.tree.RLock()
	local := n.flags&(flagScratch|flagUnlinked|flagTmp) != 0
	grown := v.counts.bytes - f.base
	v.tree.RUnlock()
	switch {
	case local:
		return nil
	case f.MaxFile > 0 && end > f.MaxFile:
		return fmt.Errorf("%w: the remote takes files of at most %d bytes", ErrTooLarge, f.MaxFile)
	case f.Room >= 0 && grown+end-have > f.Room:
		return fmt.Errorf("%w: %d bytes are left there", ErrQuota, max(0, f.Room-grown))
	}
	return nil
}
