package vaultcore

import (
	"context"
	"fmt"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// DeviceInfo is a device of the vault as this one knows it.
type DeviceInfo struct {
	ID      string `json:"id"`
	Name    string `json:"name"` // empty while none of its batches has come
	This    bool   `json:"this"`
	Revoked bool   `json:"revoked"`
	Batches uint64 `json:"batches"` // number of its last one
	// LastChange is the clock of that batch; nil without one.
	LastChange *time.Time `json:"last_change"`
}

// Devices lists the roster with what the ledger knows of each device. Errors:
// ErrLedgerOff, ErrClosed.
func (v *Vault) Devices(ctx context.Context) ([]DeviceInfo, error) {
	l, err := v.lockLedger(ctx)
	if err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	own := v.DeviceID()
	var out []DeviceInfo
	for _, d := range v.Roster() {
		i := DeviceInfo{ID: d.ID.UUID(), Name: l.h.DeviceName(d.ID), This: d.ID == own, Revoked: d.Revoked}
		if p := l.peers[d.ID]; p != nil && p.head.Seq > 0 {
			at := time.UnixMilli(p.hlc.Millis())
			i.Batches, i.LastChange = p.head.Seq, &at
		}
		if i.This && i.Name == "" {
			if i.Name, err = v.ownName(); err != nil {
				return nil, err
			}
		}
		out = append(out, i)
	}
	return out, nil
}

// ownName is what EnableLedger was told that others call this device.
func (v *Vault) ownName() (string, error) {
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return "", ErrClosed
	}
	sealed, err := v.reader.one("SELECT value FROM meta WHERE key=?", metaLedger)
	if err != nil {
		return "", err
	}
	var a seal.RowAAD
	a.Reset(metaLedger)
	b, _ := sealed.([]byte)
	name, err := v.keys.local().OpenRow(nil, b, a.Sum())
	if err != nil {
		return "", fmt.Errorf("%w: name of this device: %w", ErrDamaged, err)
	}
	return string(name), nil
}

// NameDevice changes what EnableLedger was told that others call this device, as long
// as no batch has said it. Errors: ErrInvalid afterwards, and for an impossible name;
// ErrLedgerOff, those of the database.
func (v *Vault) NameDevice(ctx context.Context, name string) error {
	if err := v.writable(); err != nil {
		return err
	}
	if name == "" || len(name) > seal.MaxDeviceName {
		return fmt.Errorf("%w: device name of %d bytes", ErrInvalid, len(name))
	}
	l, err := v.lockLedger(ctx)
	if err != nil {
		return err
	}
	defer l.mu.Unlock()
	was, err := v.ownName()
	if err != nil || was == name {
		return err
	}
	if l.peer(v.keys.deviceID()).head.Seq > 0 {
		return fmt.Errorf("%w: this device is called %s already, and keeps its name", ErrInvalid, was)
	}
	_, err = v.com.do(func(t *txn) error { return t.setMeta(metaLedger, v.sealName(name)) })
	return err
}

// sealName seals the name of this device for ownName.
func (v *Vault) sealName(name string) []byte {
	var a seal.RowAAD
	a.Reset(metaLedger)
	return v.keys.local().SealRow(nil, []byte(name), a.Sum())
}

// OwnDevice is this device as the roster lists it, or would: a vault that came
// back from a backup has a device that is not listed yet, and seals nothing.
func (v *Vault) OwnDevice() (d seal.Device, listed bool, err error) {
	if d, listed := v.keys.header().Roster(v.keys.deviceID()); listed {
		return d, true, nil
	}
	signer := v.keys.signer()
	if signer == nil {
		return d, false, ErrClosed
	}
	defer signer.Wipe()
	return seal.Device{ID: signer.Device(), PK: [32]byte(signer.Public())}, false, nil
}
