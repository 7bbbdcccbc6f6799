package syncer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// healObject is a small object as it is held here.
type healObject struct {
	key  string
	mine []byte
	// genuine says whether other bytes are a true object of that very place: then
	// there are two histories, and neither is written over.
	genuine func(there []byte) bool
}

// compareLog compares the small objects held here that the remote has, and replaces
// those that are false there.
func (h *healing) compareLog(ctx context.Context, there map[string]bool) error {
	for _, some := range []func(context.Context, func(...healObject) error) error{h.headers, h.points, h.chains} {
		err := some(ctx, func(objects ...healObject) error {
			objects = slices.DeleteFunc(objects, func(o healObject) bool { return !there[presentBy(o.key)] })
			return h.compare(ctx, objects)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// presentBy is the key by which a listing tells that an object is there: that of the
// end, for any part of a checkpoint.
func presentBy(key string) string {
	if k, err := ParseKey(key); err == nil && k.Kind == KeyCheckpoint {
		return CheckpointEnd(k.Name)
	}
	return key
}

func (h *healing) headers(_ context.Context, each func(...healObject) error) error {
	v := h.e.o.Vault
	envelopes, err := v.HeaderEnvelopes(0)
	if err != nil {
		return err
	}
	var objects []healObject
	for _, envelope := range envelopes {
		mine, err := seal.ParseEnvelope(envelope)
		if err != nil {
			return err
		}
		objects = append(objects, healObject{HeaderKey(mine.Seq), envelope, func(there []byte) bool {
			other, err := seal.ParseEnvelope(there)
			return err == nil && other.Seq == mine.Seq && other.Vault == mine.Vault && other.VerifySignature(v.DID()) == nil
		}})
	}
	return each(objects...)
}

func (h *healing) points(ctx context.Context, each func(...healObject) error) error {
	v := h.e.o.Vault
	known, err := v.Checkpoints(ctx)
	if err != nil {
		return err
	}
	for _, c := range known {
		if !c.Held || !c.Pushed {
			continue
		}
		err := eachPart(ctx, v, c, func(key string, frame []byte) error {
			// A device makes one checkpoint behind each of its batches.
			return each(healObject{key, frame, func([]byte) bool { return false }})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (h *healing) chains(ctx context.Context, each func(...healObject) error) error {
	v := h.e.o.Vault
	heads, err := v.Heads(ctx)
	if err != nil {
		return err
	}
	for device := range heads {
		for after := uint64(0); ; {
			batches, err := v.Batches(ctx, device, after, pushRun)
			if err != nil {
				return err
			}
			if len(batches) == 0 {
				break
			}
			var objects []healObject
			for _, b := range batches {
				after = b.Seq
				if b.Pushed {
					objects = append(objects, healObject{BatchKey(device.UUID(), b.Seq), b.Bytes, h.trueBatch(device, b.Seq)})
				}
			}
			if err := each(objects...); err != nil {
				return err
			}
		}
	}
	return nil
}

// trueBatch says whether bytes are a batch that a device signed under a number.
func (h *healing) trueBatch(device seal.ID, seq uint64) func([]byte) bool {
	v := h.e.o.Vault
	return func(there []byte) bool {
		b, err := seal.ParseBatch(v.VaultID(), there)
		if err != nil || b.Device != device || b.Seq != seq {
			return false
		}
		for _, d := range v.Roster() {
			if d.ID == device {
				return b.VerifySignature(d.PK[:]) == nil
			}
		}
		return false
	}
}

// compare reads some objects there and replaces what is false.
func (h *healing) compare(ctx context.Context, objects []healObject) error {
	keys := make([]string, len(objects))
	for i, o := range objects {
		keys[i] = o.key
	}
	there, err := h.e.getAll(ctx, keys)
	if err != nil {
		return err
	}
	for i, o := range objects {
		// What is not there was just taken away: the next look says so.
		if there[i] == nil || bytes.Equal(there[i], o.mine) {
			continue
		}
		if err := h.replace(ctx, o, there[i]); err != nil {
			return err
		}
	}
	return nil
}

// replace takes a false object away and puts the true one.
func (h *healing) replace(ctx context.Context, o healObject, there []byte) error {
	if o.genuine(there) {
		h.False = append(h.False, o.key+" (its author signed both: two histories, neither is written over)")
		return nil
	}
	err := h.takeAway(ctx, o.key)
	if err == nil {
		call, cancel := context.WithTimeout(ctx, callTime)
		defer cancel()
		err = h.e.o.Remote.Put(call, o.key, o.mine)
	}
	return h.note(o.key, err)
}

// takeAway has a false object removed from the remote.
func (h *healing) takeAway(ctx context.Context, key string) error {
	if !h.canTakeAway() {
		return fmt.Errorf("%w: this remote lets nothing be replaced", ErrDenied)
	}
	call, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	_, err := h.e.o.Remote.Settle(call, Settlement{False: []string{key}})
	return err
}

func (h *healing) canTakeAway() bool {
	h.e.mu.Lock()
	defer h.e.mu.Unlock()
	return h.e.caps.Delete
}

// note notes how replacing an object went; what concerns the remote as a whole, but
// for the right to remove something there, is the error.
func (h *healing) note(key string, err error) error {
	switch {
	case err == nil:
		h.Replaced = append(h.Replaced, key)
		h.e.o.Log.Info("false object replaced", "key", key)
	case errors.Is(err, ErrDenied), errors.Is(err, ErrOtherBytes):
		h.False = append(h.False, key+" (delete it there by hand, then heal again)")
		h.e.o.Log.Warn("false object not replaced", "key", key, "err", err)
	default:
		return fmt.Errorf("replace %s: %w", key, err)
	}
	return nil
}
