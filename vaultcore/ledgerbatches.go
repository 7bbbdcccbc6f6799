package vaultcore

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// StoredBatch is a batch as the database keeps it.
type StoredBatch struct {
	Seq    uint64
	Hash   [32]byte
	Bytes  []byte
	Pushed bool
}

// OwnBatches gives at most max of this device's own batches above a number, in
// order. A retry sends these very bytes.
func (v *Vault) OwnBatches(ctx context.Context, after uint64, max int) ([]StoredBatch, error) {
	return v.Batches(ctx, v.keys.deviceID(), after, max)
}

// Batches is OwnBatches for any device: whoever holds a batch can put it again
// on a remote that lost it.
func (v *Vault) Batches(ctx context.Context, device seal.ID, after uint64, max int) (out []StoredBatch, err error) {
	l, err := v.lockLedger(ctx)
	if err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	v.readMu.Lock()
	defer v.readMu.Unlock()
	err = v.reader.query("SELECT seq,hash,state,bytes FROM batches WHERE device=? AND seq>? ORDER BY seq LIMIT ?", func(c []dbValue) error {
		s := rowScanner{c: c}
		b := StoredBatch{Seq: uint64(s.num())}
		copy(b.Hash[:], s.blob())
		b.Pushed = s.num() != batchSealed
		b.Bytes = bytes.Clone(s.blob())
		out = append(out, b)
		return nil
	}, device[:], int64(after), int64(max))
	return out, err
}

// Pushed notes that the remote has our batches up to seq.
func (v *Vault) Pushed(ctx context.Context, seq uint64) error {
	if _, err := v.useLedger(ctx); err != nil {
		return err
	}
	device := v.keys.deviceID()
	_, err := v.com.do(func(t *txn) error {
		return t.exec("UPDATE batches SET state=? WHERE device=? AND seq<=? AND state=?", int64(batchPushed), device[:], int64(seq), int64(batchSealed))
	})
	if err == nil {
		v.remember(seq)
	}
	return err
}

// LastSealed gives the number of the last own batch. Applying what others sent
// seals too, and what arrives.
func (v *Vault) LastSealed(context.Context) (uint64, error) {
	device := v.keys.deviceID()
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return 0, ErrClosed
	}
	n, err := v.reader.one("SELECT coalesce(max(seq),0) FROM batches WHERE device=?", device[:])
	seq, _ := n.(int64)
	return uint64(seq), err
}

// LastPushed gives the number of the last own batch that is known to be on the
// remote; those above it are to be pushed, in order.
func (v *Vault) LastPushed(ctx context.Context) (uint64, error) {
	l, err := v.lockLedger(ctx)
	if err != nil {
		return 0, err
	}
	defer l.mu.Unlock()
	return v.lastPushed()
}

func (v *Vault) lastPushed() (uint64, error) {
	device := v.keys.deviceID()
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return 0, ErrClosed
	}
	n, err := v.reader.one("SELECT coalesce(max(seq),0) FROM batches WHERE device=? AND state=?", device[:], int64(batchPushed))
	seq, _ := n.(int64)
	return uint64(seq), err
}

// CheckOwn judges what a remote holds under a number of our own chain: nil for
// what we put there, ErrLocalRollback for what was signed in our name and is not
// here, so that this vault is an older copy or has a twin, seal.ErrSignature or
// seal.ErrFormat for what somebody else wrote. It changes nothing.
func (v *Vault) CheckOwn(ctx context.Context, frame []byte) error {
	b, err := seal.ParseBatch(v.keys.vaultID(), frame)
	if err != nil {
		return err
	}
	l, err := v.lockLedger(ctx)
	if err != nil {
		return err
	}
	defer l.mu.Unlock()
	dev, err := l.rosterEntry(b.Device)
	if err != nil || b.Device != v.keys.deviceID() {
		return fmt.Errorf("%w: a batch of device %s in place of ours", seal.ErrSignature, b.Device)
	}
	if same, known := l.knows(b.Device, b.Head()); known && same {
		return nil
	}
	if err := b.VerifySignature(ed25519.PublicKey(dev.PK[:])); err != nil {
		return err
	}
	return fmt.Errorf("%w: batch %d is there, the last one here is %d", ErrLocalRollback, b.Seq, l.peer(b.Device).head.Seq)
}
