package vaultcore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// metaDeviceKey is the content of device.key since this home became another
// device: the file follows it.
const metaDeviceKey = "device_key"

// NewDevice is an identity that a home takes in the place of its own, after it
// was put back to an older state or copied: under the old one it can say nothing
// any more that others would not take for a fork.
type NewDevice struct {
	Entry seal.Device // for the roster
	Name  string      // what other devices call it; empty: as the old one
	dsk   seal.Key
}

// NewIdentity makes an identity. The caller wipes it.
func NewIdentity() *NewDevice {
	d := &NewDevice{Entry: seal.Device{ID: seal.NewID()}, dsk: seal.NewKey()}
	d.Entry.PK = [32]byte(seal.PublicFromSeed(&d.dsk))
	return d
}

// Wipe overwrites the secret.
func (d *NewDevice) Wipe() { d.dsk.Wipe() }

// BecomeDevice makes this home the new device, which the roster lists by now.
// common is the last batch of the old one that is the remote's too, 0 for none:
// what was sealed here after it is sealed again in the new name, and what the
// remote has under those numbers comes as another device's. Nothing else
// changes. The vault has to be closed then, and seals nothing before it was
// opened anew. Errors: ErrUnknownDevice, those of the database.
func (v *Vault) BecomeDevice(ctx context.Context, d *NewDevice, common uint64) error {
	if err := errors.Join(v.writable(), v.syncable()); err != nil {
		return err
	}
	l, err := v.lockLedger(ctx)
	if err != nil {
		return err
	}
	defer l.mu.Unlock()
	if len(d.Name) > seal.MaxDeviceName {
		return fmt.Errorf("%w: device name of %d bytes", ErrInvalid, len(d.Name))
	}
	if listed, _ := v.keys.header().Roster(d.Entry.ID); listed != d.Entry {
		return fmt.Errorf("%w: the new identity is not in the roster", ErrUnknownDevice)
	}
	v.ns.Lock()
	defer v.ns.Unlock()
	m := &moving{l: l, old: v.keys.deviceID(), d: d, common: min(common, l.peer(v.keys.deviceID()).head.Seq)}
	if err := m.prepare(); err != nil {
		return err
	}
	if _, err := v.com.do(m.write); err != nil {
		return err
	}
	v.moved.Store(true)
	l.broken = true
	if err := v.bar.syncLog(); err != nil {
		return err
	}
	return m.writeFiles()
}

// moving is a home on its way from one identity to another.
type moving struct {
	l       *ledger
	old     seal.ID
	d       *NewDevice
	common  uint64
	before  *peer // the old chain up to common, as others know it
	own     *peer // the new one
	batches []*seal.Batch
	ops     [][]*opRow
	count   int64
	keyFile []byte
}

func (m *moving) prepare() error {
	var err error
	if m.before, err = m.l.peerAt(m.old, m.common); err != nil {
		return err
	}
	m.own = &peer{seen: make(map[seal.ID]seal.Head)}
	m.keyFile = m.l.v.keys.local().SealDeviceKey(m.d.Entry.ID, &m.d.dsk)
	last := m.l.peer(m.old).head.Seq
	if m.common == last {
		return nil
	}
	name := m.d.Name
	if name == "" {
		if name, err = m.l.v.ownName(); err != nil {
			return err
		}
	}
	if err := m.seal(&seal.DeviceName{Name: name}); err != nil {
		return err
	}
	for seq := m.common + 1; seq <= last; seq++ {
		body, err := m.l.body(m.l.storedBatch(m.old, seq))
		if err != nil {
			return fmt.Errorf("batch %d: %w", seq, err)
		}
		var ops []seal.Op
		for _, op := range body.Ops {
			if _, named := op.(*seal.DeviceName); !named {
				ops = append(ops, op)
			}
		}
		if len(ops) == 0 {
			continue
		}
		if err := m.seal(ops...); err != nil {
			return err
		}
	}
	return nil
}

// seal makes the next batch of the new chain. A record has the digest it had, so
// that no row has to follow.
func (m *moving) seal(ops ...seal.Op) error {
	l := m.l
	body := &seal.Body{HLC: l.clock.Tick(l.v.trueMillis()), Seen: make(map[seal.ID]seal.Head), Ops: ops}
	for id, p := range l.peers {
		if id == m.old {
			p = m.before
		}
		if p.head.Seq > 0 && m.own.seen[id] != p.head {
			body.Seen[id] = p.head
		}
	}
	signer := seal.NewDeviceSigner(m.d.Entry.ID, &m.d.dsk)
	defer signer.Wipe()
	var b *seal.Batch
	err := l.v.keys.withEpoch(0, func(keys *seal.EpochKeys) (err error) {
		b, err = seal.SealBatch(keys, signer, m.own.head.Seq+1, m.own.head.Hash, body)
		return err
	})
	if err != nil {
		return err
	}
	m.own.head, m.own.epoch, m.own.hlc = b.Head(), b.Epoch, body.HLC
	maps.Copy(m.own.seen, body.Seen)
	l.clock = body.HLC
	m.batches = append(m.batches, b)
	m.ops = append(m.ops, m.rows(b, body))
	return nil
}

// rows makes the rows of a batch's ops.
func (m *moving) rows(b *seal.Batch, body *seal.Body) (rows []*opRow) {
	for i, op := range body.Ops {
		if o, ok := m.l.v.opRowOf(b, body.HLC, i, op); ok {
			m.count++
			o.n = m.l.lastOp + m.count
			rows = append(rows, o)
		}
	}
	return rows
}

// peerAt gives a chain as it stood at a batch.
func (l *ledger) peerAt(id seal.ID, seq uint64) (*peer, error) {
	p := &peer{seen: make(map[seal.ID]seal.Head)}
	for n := uint64(1); n <= seq; n++ {
		frame := l.storedBatch(id, n)
		if frame == nil {
			continue // under a checkpoint
		}
		b, err := seal.ParseBatch(l.v.keys.vaultID(), frame)
		if err != nil {
			return nil, err
		}
		body, err := l.openBody(b)
		if err != nil {
			return nil, err
		}
		p.head, p.epoch, p.hlc = b.Head(), b.Epoch, body.HLC
		maps.Copy(p.seen, body.Seen)
	}
	if p.head.Seq != seq {
		return nil, fmt.Errorf("%w: own batch %d is not here", ErrDamaged, seq)
	}
	return p, nil
}

// write is the transaction, and the commit of the whole.
func (m *moving) write(t *txn) error {
	for _, table := range []string{tableOps, "batches"} {
		if err := t.exec("DELETE FROM "+table+" WHERE device=? AND seq>?", m.old[:], int64(m.common)); err != nil {
			return err
		}
	}
	if err := t.exec("UPDATE batches SET state=? WHERE device=?", int64(batchApplied), m.old[:]); err != nil {
		return err
	}
	if err := m.writePeers(t); err != nil {
		return err
	}
	for i, b := range m.batches {
		if err := m.l.putBatch(t, b, batchSealed, m.ops[i]); err != nil {
			return err
		}
	}
	id := m.d.Entry.ID
	if m.d.Name != "" {
		if err := t.setMeta(metaLedger, m.l.v.sealName(m.d.Name)); err != nil {
			return err
		}
	}
	return errors.Join(
		t.exec("UPDATE transfer_jobs SET seq=? WHERE up=1", int64(m.own.head.Seq)),
		t.setMeta("device", idBytes(id)), t.setMeta(metaDeviceKey, m.keyFile))
}

func (m *moving) writePeers(t *txn) error {
	if m.common == 0 {
		if err := t.exec("DELETE FROM peers WHERE device=?", m.old[:]); err != nil {
			return err
		}
	} else if err := t.putPeer(m.old, m.before); err != nil {
		return err
	}
	if m.own.head.Seq == 0 {
		return nil
	}
	return t.putPeer(m.d.Entry.ID, m.own)
}

// writeFiles brings the files up to the database; a kill before is made up for at
// the next unlock, but that an enrolled device then needs the password once.
func (m *moving) writeFiles() error {
	k, home := m.l.v.keys, m.l.v.home
	if err := home.write(fileDeviceKey, m.keyFile); err != nil {
		return err
	}
	k.mu.RLock()
	var slot []byte
	if k.dk != nil && k.current != nil {
		slot = seal.SealDeviceSlot(k.dk, k.vault, m.d.Entry.ID, k.current.Epoch(), k.current.VaultKey())
	}
	k.mu.RUnlock()
	if slot == nil {
		return home.remove(fileDeviceSlot)
	}
	return home.write(fileDeviceSlot, slot)
}

// adoptDeviceKey makes device.key what the database says, where a kill came
// between the two.
func adoptDeviceKey(home *Home, want []byte) error {
	if want == nil || home.readOnly {
		return nil
	}
	have, err := home.read(fileDeviceKey)
	if err != nil || bytes.Equal(have, want) {
		return err
	}
	return home.write(fileDeviceKey, want)
}
