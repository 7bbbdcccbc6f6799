package syncer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// ErrInDoubt: the remote did not answer whether it took a header. The next
// contact tells; until then the vault is as it was.
var ErrInDoubt = errors.New("whether the change took place is not known yet")

const (
	// headerTries bounds how often a change of the header is made again because
	// another device was faster.
	headerTries = 8
	// doubtTries and doubtPause are for the answer to a Put that got lost.
	doubtTries = 4
	doubtPause = 500 * time.Millisecond
)

// PullHeaders takes every header the remote has above ours, and settles what an
// interrupted change left. Headers of a new password are kept until it is given,
// which a condition of the vault says; that is no error. Errors: those of the
// remote and of vaultcore.AcceptHeader.
func PullHeaders(ctx context.Context, v *vaultcore.Vault, r Remote) error {
	if err := settleHeader(ctx, v, r); err != nil {
		return err
	}
	for {
		known, _ := v.HeaderSeq()
		envelope, err := r.Get(ctx, HeaderKey(known+1))
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := accept(ctx, v, known+1, envelope); err != nil {
			return err
		}
		if now, _ := v.HeaderSeq(); now <= known {
			return fmt.Errorf("header %d: %w", known+1, seal.ErrHeader) // under a number that is not its own
		}
	}
}

func accept(ctx context.Context, v *vaultcore.Vault, seq uint64, envelope []byte) error {
	err := v.AcceptHeader(ctx, envelope)
	if err != nil && !errors.Is(err, vaultcore.ErrNewEpoch) {
		return fmt.Errorf("header %d: %w", seq, err)
	}
	return nil
}

// settleHeader finds out what became of a header made here whose publishing was
// interrupted. One that did not arrive is published only if its password was
// given since: whoever made it then counts on it.
func settleHeader(ctx context.Context, v *vaultcore.Vault, r Remote) error {
	seq, envelope, wanted := v.Unsettled()
	if seq == 0 {
		return nil
	}
	there, err := r.Get(ctx, HeaderKey(seq))
	switch {
	case err == nil:
		return accept(ctx, v, seq, there)
	case !errors.Is(err, ErrNotFound):
		return err
	case !wanted:
		return v.Abandon(seq)
	}
	if err := r.Put(ctx, HeaderKey(seq), envelope); err != nil && !errors.Is(err, ErrOtherBytes) {
		return err
	}
	if there, err = r.Get(ctx, HeaderKey(seq)); err != nil {
		return err
	}
	return accept(ctx, v, seq, there)
}

// PushHeaders puts the vault's headers on a remote that lacks them: one that is
// new, or lost some. Errors: ErrOtherBytes when it has another history, those of
// the remote.
func PushHeaders(ctx context.Context, v *vaultcore.Vault, r Remote) error {
	envelopes, err := v.HeaderEnvelopes(0)
	if err != nil {
		return err
	}
	seqs := make([]uint64, len(envelopes))
	missing := len(envelopes)
	for ; missing > 0; missing-- {
		h, err := seal.ParseEnvelope(envelopes[missing-1])
		if err != nil {
			return err
		}
		seqs[missing-1] = h.Seq
		there, err := r.Get(ctx, HeaderKey(h.Seq))
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if string(there) != string(envelopes[missing-1]) {
			return fmt.Errorf("header %d: %w", h.Seq, ErrOtherBytes)
		}
		break
	}
	for i := missing; i < len(envelopes); i++ {
		if err := r.Put(ctx, HeaderKey(seqs[i]), envelopes[i]); err != nil {
			return fmt.Errorf("header %d: %w", seqs[i], err)
		}
	}
	return nil
}

// ChangePassword begins a new epoch under a new password, together with the
// remote: from then on only the new password opens the vault, here at once and
// on other devices once it is given there. The keys of files are wrapped anew by
// vaultcore.FinishRewrap, which the caller starts. Errors: ErrInDoubt, those of
// vaultcore.ProposePassword and of the remote.
func ChangePassword(ctx context.Context, v *vaultcore.Vault, r Remote, oldPassword, newPassword []byte, p seal.KDFParams) error {
	err := changeHeader(ctx, v, r, byPassword(v, oldPassword), func() (*vaultcore.HeaderChange, error) {
		return v.ProposePassword(ctx, oldPassword, newPassword, p)
	})
	// Another device may have been given the very same one.
	if errors.Is(err, vaultcore.ErrNewEpoch) && v.AcceptPassword(ctx, newPassword) == nil {
		return nil
	}
	return err
}

// Revoke shuts devices out: a new epoch under the same password, of which they
// do not get the keys, and what they have not said by now never counts. Errors
// as of ChangePassword and ProposeRevocation.
func Revoke(ctx context.Context, v *vaultcore.Vault, r Remote, password []byte, devices ...seal.ID) error {
	return changeHeader(ctx, v, r, byPassword(v, password), func() (*vaultcore.HeaderChange, error) {
		return v.ProposeRevocation(ctx, password, devices...)
	})
}

// CreateKit makes a recovery kit in place of an earlier one. The caller wipes
// it. Errors as of ChangePassword.
func CreateKit(ctx context.Context, v *vaultcore.Vault, r Remote, password []byte) (*vaultcore.RecoveryKit, error) {
	var kit *vaultcore.RecoveryKit
	err := changeHeader(ctx, v, r, byPassword(v, password), func() (c *vaultcore.HeaderChange, err error) {
		if kit != nil {
			kit.Wipe()
		}
		c, kit, err = v.ProposeKit(ctx, password)
		return c, err
	})
	if err != nil && kit != nil && !errors.Is(err, ErrInDoubt) {
		kit.Wipe()
		return nil, err
	}
	return kit, err // in doubt it may come to be the one that counts
}

// RestoreByKit is ChangePassword with the recovery kit in the place of the old
// password. A password that was changed meanwhile on another device is overtaken.
// Errors: seal.ErrKit, vaultcore.ErrForeignHeader, those of ChangePassword.
func RestoreByKit(ctx context.Context, v *vaultcore.Vault, r Remote, kit vaultcore.TypedKit, newPassword []byte, p seal.KDFParams) error {
	accept := func(ctx context.Context) error { return v.AcceptByKit(ctx, kit) }
	return changeHeader(ctx, v, r, accept, func() (*vaultcore.HeaderChange, error) {
		return v.ProposeRestore(ctx, kit, newPassword, p)
	})
}

// AddDevice lets a device into the roster. Errors as of ChangePassword.
func AddDevice(ctx context.Context, v *vaultcore.Vault, r Remote, password []byte, d seal.Device) error {
	return changeHeader(ctx, v, r, byPassword(v, password), func() (*vaultcore.HeaderChange, error) {
		return v.ProposeDevice(ctx, password, d)
	})
}

// byPassword accepts an epoch that another device began under the same password:
// a revocation keeps it.
func byPassword(v *vaultcore.Vault, password []byte) func(context.Context) error {
	return func(ctx context.Context) error { return v.AcceptPassword(ctx, password) }
}

// changeHeader makes a header on top of the newest one and of all that the
// devices have said.
func changeHeader(ctx context.Context, v *vaultcore.Vault, r Remote, accept func(context.Context) error, propose func() (*vaultcore.HeaderChange, error)) error {
	m := headerMaker{v: v, r: r, pull: PullAll, accept: accept}
	return m.change(ctx, propose)
}

// headerMaker makes headers on top of what the remote has.
type headerMaker struct {
	v *vaultcore.Vault
	r Remote
	// pull brings what the new header is to be on top of.
	pull func(context.Context, *vaultcore.Vault, Remote) error
	// accept takes an epoch that another device began meanwhile.
	accept func(context.Context) error
}

// change publishes a header and makes it the vault's own. Who loses the race does
// it again on top of what won.
func (m *headerMaker) change(ctx context.Context, propose func() (*vaultcore.HeaderChange, error)) error {
	for range headerTries {
		if err := m.pull(ctx, m.v, m.r); err != nil {
			return notPulled(err)
		}
		c, err := propose()
		if errors.Is(err, vaultcore.ErrNewEpoch) {
			if fault := m.accept(ctx); fault == nil {
				continue
			} else if errors.Is(fault, seal.ErrKit) {
				return fault // another kit has taken its place
			}
		}
		if err != nil {
			return err
		}
		if done, err := m.settle(ctx, c, publish(ctx, m.r, c)); done {
			return err
		}
	}
	return fmt.Errorf("%w: other devices change the vault's header all the time", ErrUnavailable)
}

// notPulled is what keeps a header from being made on top of what the remote has: that
// it cannot be asked, or what stands there.
func notPulled(err error) error {
	if m := meaningOf(err); m.kind == CondAltered {
		return blob.WithHint(err, "the remote holds something false where the next header belongs: "+m.hint)
	}
	return blob.WithHint(err, "password, kit and devices of a synced vault change together with its remote: try again when it can be reached")
}

// settle follows what became of a header at the remote; not done: it has to be made
// anew.
func (m *headerMaker) settle(ctx context.Context, c *vaultcore.HeaderChange, published error) (done bool, err error) {
	switch {
	case published == nil:
		_, _ = m.r.Settle(ctx, Settlement{}) // so that others hear of it at once; they find it anyway
		err = c.Commit(ctx)
		return !errors.Is(err, vaultcore.ErrHeaderMoved), err
	case errors.Is(published, ErrOtherBytes):
		err = c.Drop()
		return err != nil, err
	case errors.Is(published, ErrInDoubt):
		c.Doubt()
		return true, blob.WithHint(published, "the next contact with the remote tells: sync now; until then the vault is as it was")
	}
	return true, errors.Join(published, c.Drop())
}

// publish puts a header. ErrInDoubt: no answer came, and it may be there.
func publish(ctx context.Context, r Remote, c *vaultcore.HeaderChange) error {
	for try := 1; ; try++ {
		err := r.Put(ctx, HeaderKey(c.Seq()), c.Envelope())
		switch {
		case err == nil, errors.Is(err, ErrOtherBytes), refused(err):
			return err
		case try == doubtTries || ctx.Err() != nil:
			return fmt.Errorf("%w: %w", ErrInDoubt, err)
		}
		timer := time.NewTimer(doubtPause << try)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// refused says whether an error means that nothing was stored.
func refused(err error) bool {
	for _, cause := range []error{ErrDenied, ErrFull, ErrTooLarge, ErrForeign, ErrKey, ErrNoStore} {
		if errors.Is(err, cause) {
			return true
		}
	}
	return false
}

// PullAll brings the newest header and all chains here, no contents. Errors as of
// PullHeaders, and of vaultcore.Receive.
func PullAll(ctx context.Context, v *vaultcore.Vault, r Remote) error {
	if err := PullHeaders(ctx, v, r); err != nil {
		return err
	}
	cursor, err := v.Cursor(ctx)
	if err != nil {
		return err
	}
	for more := true; more; {
		c, err := r.Changes(ctx, cursor, Reconcile)
		if errors.Is(err, ErrStartOver) && cursor != nil {
			cursor = nil
			continue
		}
		if err != nil {
			return err
		}
		if err := receiveListed(ctx, v, r, c.List); err != nil {
			return err
		}
		cursor, more = c.Next, c.More
	}
	return nil
}

// receiveListed fetches the batches of others that are not applied here.
func receiveListed(ctx context.Context, v *vaultcore.Vault, r Remote, list []Change) error {
	heads, err := v.Heads(ctx)
	if err != nil {
		return err
	}
	own, known := v.DeviceID().UUID(), make(map[string]uint64)
	for id, head := range heads {
		known[id.UUID()] = head.Seq
	}
	var keys []string
	for _, c := range list {
		if c.Kind == KindBatch && c.Device != own && c.Seq > known[c.Device] {
			keys = append(keys, BatchKey(c.Device, c.Seq))
		}
	}
	slices.Sort(keys) // each chain in order
	for some := range slices.Chunk(keys, applyAtATime) {
		frames, err := fetchSmall(ctx, r, some)
		if err != nil {
			return err
		}
		// What is wrong with a single chain is no reason to change nothing.
		if _, err := v.Receive(ctx, frames...); err != nil {
			return err
		}
	}
	return nil
}

// NewIdentity makes this home another device of the vault, after it was put back
// to an older state or copied: what the remote does not have of its own chain is
// sealed again in the new name, and nothing is lost. The vault has to be closed
// then. Others call it name, or as before if that is empty. Errors as of
// ChangePassword.
func NewIdentity(ctx context.Context, v *vaultcore.Vault, r Remote, password []byte, name string) error {
	d := vaultcore.NewIdentity()
	defer d.Wipe()
	d.Name = name
	if err := AddDevice(ctx, v, r, password, d.Entry); err != nil {
		return err
	}
	common, err := commonBatch(ctx, v, r)
	if err != nil {
		return err
	}
	return v.BecomeDevice(ctx, d, common)
}

// commonBatch finds the last own batch that the remote has with the same bytes;
// 0 for none.
func commonBatch(ctx context.Context, v *vaultcore.Vault, r Remote) (uint64, error) {
	self := v.DeviceID()
	last, err := v.LastSealed(ctx)
	if err != nil {
		return 0, err
	}
	for ; last > 0; last-- {
		own, err := v.OwnBatches(ctx, last-1, 1)
		if err != nil {
			return 0, err
		}
		there, err := r.Get(ctx, BatchKey(self.UUID(), last))
		if err != nil && !errors.Is(err, ErrNotFound) {
			return 0, err
		}
		if err == nil && len(own) == 1 && own[0].Seq == last && string(own[0].Bytes) == string(there) {
			return last, nil
		}
	}
	return 0, nil
}
