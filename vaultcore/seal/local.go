package seal

import (
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"sync/atomic"
)

const (
	labelRow        = "vaultdrive/v1/row\x00"
	labelDeviceKey  = "vaultdrive/v1/device-key\x00"
	labelDeviceSlot = "vaultdrive/v1/device-slot\x00"

	deviceKeySize  = 16 + WrappedKeySize            // device id ‖ IV ‖ ct ‖ tag
	deviceSlotSize = ivSize + 4 + keySize + tagSize // IV ‖ GCM(u32 epoch ‖ VK)
	// MaxRowSeals is how often one row key may seal; then a new local data key
	// is due (random 96-bit nonces, NIST SP 800-38D with a margin).
	MaxRowSeals = 1 << 31
)

// LocalKeys are the keys derived from the local data key of a device. All
// methods but Wipe are safe for concurrent use.
type LocalKeys struct {
	redacted
	row    cipher.AEAD
	device cipher.AEAD
	uses   atomic.Uint64
}

// DeriveLocal derives the local keys (FORMAT.md "Keys").
func DeriveLocal(ldk *Key, vault ID) *LocalKeys {
	l := &LocalKeys{}
	row := hk(ldk.b[:], "local-row", vault[:], keySize)
	device := hk(ldk.b[:], "device-key", vault[:], keySize)
	l.row, l.device = newGCM(row), newGCM(device)
	clear(row)
	clear(device)
	return l
}

// SealRow appends IV ‖ ct of a row's sealed fields to dst; aad is the Sum of a
// RowAAD over the clear columns. No allocation when dst has len(fields)+Overhead
// spare bytes. fields must not overlap them.
func (l *LocalKeys) SealRow(dst, fields, aad []byte) []byte {
	l.uses.Add(1)
	return sealRandom(l.row, dst, fields, aad)
}

// OpenRow appends the fields of a sealed row to dst; without an allocation when
// dst has room. On error dst comes back as it was. Errors: ErrTruncated, ErrAuth.
func (l *LocalKeys) OpenRow(dst, sealed, aad []byte) ([]byte, error) {
	return openRandom(l.row, dst, sealed, aad)
}

// Uses counts the rows sealed since DeriveLocal; the sum over all runs is to
// stay below MaxRowSeals.
func (l *LocalKeys) Uses() uint64 { return l.uses.Load() }

// SealDeviceKey returns the file device.key: a device's id and signing seed.
func (l *LocalKeys) SealDeviceKey(device ID, dsk *Key) []byte {
	file := append(make([]byte, 0, deviceKeySize), device[:]...)
	return sealRandom(l.device, file, dsk.b[:], labelIDs(labelDeviceKey, device))
}

// OpenDeviceKey opens the file device.key. Errors: ErrFormat, ErrAuth.
func (l *LocalKeys) OpenDeviceKey(file []byte) (device ID, dsk Key, err error) {
	if len(file) != deviceKeySize {
		return ID{}, Key{}, fmt.Errorf("%w: device key file of %d bytes", ErrFormat, len(file))
	}
	device = ID(file[:16])
	dsk, err = openKey(l.device, file[16:], labelIDs(labelDeviceKey, device))
	if err != nil {
		return ID{}, Key{}, err
	}
	return device, dsk, nil
}

// Wipe drops the expanded keys. Nothing may use l afterwards.
func (l *LocalKeys) Wipe() { l.row, l.device = nil, nil }

// RowAAD builds the associated data of a sealed row: a label, the table's name,
// then every clear column in schema order, each behind its length. It is reused
// from row to row and must not be shared between goroutines.
type RowAAD struct{ b []byte }

// Reset starts the data of a row of the given table.
func (a *RowAAD) Reset(table string) {
	a.b = append(a.b[:0], labelRow...)
	a.b = binary.BigEndian.AppendUint32(a.b, uint32(len(table)))
	a.b = append(a.b, table...)
}

// Bytes adds a column of bytes or text; nil and empty are the same.
func (a *RowAAD) Bytes(col []byte) { a.b = appendLP(a.b, col) }

// Uint adds an integer column as u64.
func (a *RowAAD) Uint(u uint64) {
	a.b = binary.BigEndian.AppendUint32(a.b, 8)
	a.b = binary.BigEndian.AppendUint64(a.b, u)
}

// Sum returns the data; it is valid until the next Reset.
func (a *RowAAD) Sum() []byte { return a.b }

// SealDeviceSlot returns the file device.slot of an enrolled device: the vault
// key under the device's own key dk, so that it unlocks without the password.
func SealDeviceSlot(dk *Key, vault, device ID, epoch uint32, vk *Key) []byte {
	plain := binary.BigEndian.AppendUint32(make([]byte, 0, 4+keySize), epoch)
	plain = append(plain, vk.b[:]...)
	defer clear(plain)
	return sealRandom(slotAEAD(dk, vault, device), make([]byte, 0, deviceSlotSize), plain, labelIDs(labelDeviceSlot, device))
}

// OpenDeviceSlot opens the file device.slot. Errors: ErrFormat, ErrAuth.
func OpenDeviceSlot(dk *Key, vault, device ID, file []byte) (epoch uint32, vk Key, err error) {
	if len(file) != deviceSlotSize {
		return 0, Key{}, fmt.Errorf("%w: device slot of %d bytes", ErrFormat, len(file))
	}
	plain, err := openRandom(slotAEAD(dk, vault, device), nil, file, labelIDs(labelDeviceSlot, device))
	if err != nil {
		return 0, Key{}, err
	}
	defer clear(plain)
	vk.b = [keySize]byte(plain[4:])
	return binary.BigEndian.Uint32(plain), vk, nil
}

func slotAEAD(dk *Key, vault, device ID) cipher.AEAD {
	raw := hk(dk.b[:], "device-slot", labelIDs("", vault, device), keySize)
	defer clear(raw)
	return newGCM(raw)
}
