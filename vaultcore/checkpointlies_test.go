package vaultcore

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// rogue writes, with a device's own key, what it is told to, as the checkpoint of
// the log that device holds.
type rogue struct {
	d     *device
	as    *seal.DeviceSigner // nil: the device
	ops   []seal.PlacedOp
	heads map[seal.ID]seal.Chain
	hlc   seal.HLC
	state [32]byte
}

// roguish begins with what an honest checkpoint would say.
func (d *device) roguish() *rogue {
	d.f.t.Helper()
	l, err := d.lockLedger(context.Background())
	if err != nil {
		d.f.t.Fatal(err)
	}
	defer l.mu.Unlock()
	w, err := l.beginCheckpoint()
	if err != nil {
		d.f.t.Fatal(err)
	}
	r := &rogue{d: d, heads: w.chains, hlc: w.hlc, state: w.state}
	s := l.allOps(w.heads)
	for {
		ops, err := s.next()
		if err != nil {
			d.f.t.Fatal(err)
		}
		if len(ops) == 0 {
			return r
		}
		for i := range ops {
			if born, ok := w.keeps(&ops[i]); ok {
				r.ops = append(r.ops, seal.PlacedOp{At: ops[i].At, Op: ops[i].Op, Born: born})
			}
		}
	}
}

// publish signs it.
func (r *rogue) publish(p points) CheckpointID {
	r.d.f.t.Helper()
	var frames [][]byte
	var author seal.ID
	err := r.d.keys.withEpoch(0, func(k *seal.EpochKeys) error {
		signer := r.as
		if signer == nil {
			signer = r.d.keys.signer()
			defer signer.Wipe()
		}
		author = signer.Device()
		w := seal.NewCheckpointWriter(k, signer)
		for _, op := range r.ops {
			part, err := w.Add(op)
			if err != nil {
				return err
			}
			if part != nil {
				frames = append(frames, part.Bytes)
			}
		}
		last, err := w.Finish(r.heads, r.hlc, r.state)
		if err == nil {
			frames = append([][]byte{last.Bytes}, frames...)
		}
		return err
	})
	if err != nil {
		r.d.f.t.Fatal(err)
	}
	id := CheckpointID{author, r.heads[author].Seq}
	p[id] = frames
	return id
}

// drop leaves out the first op that is of a kind.
func (r *rogue) drop(kind func(seal.Op) bool) {
	for i := range r.ops {
		if kind(r.ops[i].Op) {
			r.ops = append(r.ops[:i:i], r.ops[i+1:]...)
			return
		}
	}
	r.d.f.t.Fatal("no such op")
}

func isPut(op seal.Op) bool { _, ok := op.(*seal.Put); return ok }
func isDel(op seal.Op) bool { _, ok := op.(*seal.Del); return ok }

// TestCheckpointLies: a device of the vault that signs what is not so is found out
// by whoever holds the log, and nothing is dropped for it.
func TestCheckpointLies(t *testing.T) {
	t.Parallel()
	for what, lie := range map[string]func(*rogue){
		"another state": func(r *rogue) { r.state[0] ^= 1 },
		"another hash of a head": func(r *rogue) {
			for id, c := range r.heads {
				c.Hash[0] ^= 1
				r.heads[id] = c
			}
		},
		"another clock of a head": func(r *rogue) {
			id := r.d.DeviceID()
			c := r.heads[id]
			c.HLC--
			r.heads[id] = c
		},
		"another seen of a head": func(r *rogue) {
			id := r.d.DeviceID()
			c := r.heads[id]
			c.Seen = maps.Clone(c.Seen)
			for of, h := range c.Seen {
				h.Hash[1] ^= 1
				c.Seen[of] = h
			}
			r.heads[id] = c
		},
		"a record left out":   func(r *rogue) { r.drop(isPut) },
		"a deletion left out": func(r *rogue) { r.drop(isDel) },
		"a record changed": func(r *rogue) {
			for i := range r.ops {
				if p, ok := r.ops[i].Op.(*seal.Put); ok {
					q := *p
					q.Mtime++
					r.ops[i].Op = &q
					return
				}
			}
		},
		"an op invented": func(r *rogue) {
			last := r.ops[len(r.ops)-1]
			last.Index += 100
			last.Op, last.Born = &seal.Want{}, nil
			r.ops = append(r.ops, last)
		},
		"a deletion invented": func(r *rogue) {
			last := r.ops[len(r.ops)-1]
			var victim *seal.Put
			for _, op := range r.ops {
				if p, ok := op.Op.(*seal.Put); ok {
					victim = p
				}
			}
			last.Index += 100
			last.Op, last.Born = &seal.Del{ID: victim.ID, Prev: victim.Digest(r.d.keys.vaultID())}, nil
			r.ops = append(r.ops, last)
		},
	} {
		t.Run(strings.ReplaceAll(what, " ", "-"), func(t *testing.T) {
			f := newFleet(t, "ada", "bob")
			ada, bob := f.devices[0], f.devices[1]
			busy(f)
			f.live()
			p := points{}
			r := bob.roguish()
			lie(r)
			id := r.publish(p)
			before, batches := ada.list(), ada.rows("batches")
			if err := ada.LoadCheckpoint(context.Background(), id, p.fetch(id)); !errors.Is(err, ErrCheckpoint) {
				t.Errorf("taken as base: %v", err)
			}
			ada.alarmed("checkpoint")
			all, err := ada.Checkpoints(context.Background())
			if err != nil || len(all) != 1 || all[0].Verdict != Disagrees || all[0].Base {
				t.Errorf("known: %+v, %v", all, err)
			}
			if ada.list() != before || ada.rows("batches") != batches || ada.rows("checkpoint_parts") != 0 {
				t.Error("something was dropped")
			}
			ada.write("Tax/after.txt", "after")
			f.sync()
			honest := ada.checkpoint(p)
			ada.load(p, honest.CheckpointID)
			f.sync()
		})
	}
}

// TestCheckpointHonest: what the rogue begins with is what it says.
func TestCheckpointHonest(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "ada", "bob")
	busy(f)
	f.live()
	p := points{}
	f.devices[0].load(p, f.devices[1].roguish().publish(p))
	f.sync()
}

// TestCheckpointAuthors: who is no part of the vault makes no checkpoint of it,
// nor does one count that covers what a revocation took back.
func TestCheckpointAuthors(t *testing.T) {
	t.Parallel()
	f, ada, bob, eve, headers := stolen(t)
	ctx := context.Background()
	p := points{}
	for what, d := range map[string]*device{"of the revoked device": eve, "of one who had not heard of it": bob} {
		id := d.roguish().publish(p)
		if err := ada.NoteCheckpoint(ctx, id, p[id][0]); !errors.Is(err, ErrStaleEpoch) {
			t.Errorf("%s: %v", what, err)
		}
		if err := ada.LoadCheckpoint(ctx, id, p.fetch(id)); !errors.Is(err, ErrStaleEpoch) {
			t.Errorf("%s, loaded: %v", what, err)
		}
	}
	r := ada.roguish()
	key, id := seal.NewKey(), seal.NewID()
	r.as = seal.NewDeviceSigner(id, &key)
	r.heads[id] = seal.Chain{Head: seal.Head{Seq: 1, Hash: [32]byte{1}}, Epoch: 1}
	unknown := r.publish(p)
	if err := ada.NoteCheckpoint(ctx, unknown, p[unknown][0]); !errors.Is(err, ErrUnknownDevice) {
		t.Errorf("of nobody: %v", err)
	}
	bob.pullHeaders(headers, ErrNewEpoch)
	bob.accept(testPassword)
	f.devices = []*device{ada, bob}
	f.syncWithout(eve)
	good := bob.roguish().publish(p)
	if v := ada.note(p, good).Verdict; v != Agrees {
		t.Errorf("after all have heard: %v, %q", v, ada.alarms())
	}
	ada.load(p, good)
	f.syncWithout(eve)
}
