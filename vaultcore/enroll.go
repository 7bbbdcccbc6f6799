package vaultcore

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// enrollDevice makes a device key and the slot it opens, in place of any
// earlier ones. Whoever has the key unlocks without the password until the
// next change of password; the caller stores it in the user's keyring or, as
// FormatDeviceKey writes it, in a file outside the vault, and wipes it.
func enrollDevice(home *Home, k *keyring) (seal.Key, error) {
	k.change.Lock()
	defer k.change.Unlock()
	dk := seal.NewKey()
	var slot []byte
	err := k.withEpoch(0, func(keys *seal.EpochKeys) error {
		slot = seal.SealDeviceSlot(&dk, k.vault, k.device, keys.Epoch(), keys.VaultKey())
		return nil
	})
	if err == nil {
		err = home.write(fileDeviceSlot, slot)
	}
	if err != nil {
		dk.Wipe()
		return seal.Key{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.current != nil { // else there is nothing left to keep it for
		own := dk
		k.dk, k.slotEpoch = k.secrets.keep(&own), k.head.Epoch
	}
	return dk, nil
}

// unenrollDevice removes the slot, which makes the device key worthless.
func unenrollDevice(home *Home, k *keyring) error {
	k.change.Lock()
	defer k.change.Unlock()
	if err := home.remove(fileDeviceSlot); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.dk != nil {
		k.dk.Wipe()
	}
	k.dk, k.slotEpoch = nil, 0
	return nil
}

// openByDevice takes the vault key from device.slot.
func (k *keyring) openByDevice(home *Home, dk *seal.Key) (*seal.Key, error) {
	epoch, vk, err := openSlot(home, k.vault, dk)
	if err != nil {
		return nil, err
	}
	kept := k.secrets.keep(&vk)
	switch {
	case epoch > k.head.Epoch:
		return nil, fmt.Errorf("%s: %w: epoch %d, and %s has %d", home.Path(fileHeader), ErrRollback, k.head.Epoch, fileDeviceSlot, epoch)
	case epoch < k.head.Epoch:
		return nil, fmt.Errorf("%s: %w: the password was changed", home.Path(fileDeviceSlot), ErrNotEnrolled)
	}
	if err := k.head.VerifyDevice(kept, k.head.DID); err != nil {
		return nil, headerError(home, err)
	}
	return kept, nil
}

// openSlot opens device.slot. The device's id is that of device.key, whose
// authenticity openLocal checks.
func openSlot(home *Home, vault seal.ID, dk *seal.Key) (uint32, seal.Key, error) {
	slot, err := home.read(fileDeviceSlot)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, seal.Key{}, fmt.Errorf("%s: %w", home.path, ErrNotEnrolled)
	}
	if err != nil {
		return 0, seal.Key{}, err
	}
	file, err := home.read(fileDeviceKey)
	if err != nil {
		return 0, seal.Key{}, err
	}
	var device seal.ID
	copy(device[:], file)
	epoch, vk, err := seal.OpenDeviceSlot(dk, vault, device, slot)
	if err != nil {
		return 0, seal.Key{}, fmt.Errorf("%s: %w: %w", home.Path(fileDeviceSlot), ErrNotEnrolled, err)
	}
	return epoch, vk, nil
}

// keepDeviceKey holds on to a device key that is this vault's, also one whose
// slot is of an earlier epoch, so that the slot can be made anew.
func (k *keyring) keepDeviceKey(home *Home, dk *seal.Key) {
	if dk == nil {
		return
	}
	epoch, vk, err := openSlot(home, k.vault, dk)
	if err != nil {
		return
	}
	defer vk.Wipe()
	if keys, ok := k.epochs[epoch]; ok && keys.VaultKey().Equal(&vk) {
		own := *dk
		k.dk, k.slotEpoch = k.secrets.keep(&own), epoch
	}
}

// The text form of a device key is one line of four words: what it is, the
// vault's id, the key in hexadecimal digits, and the first 4 bytes of
// SHA-256(L"vaultdrive/v1/device-key-text" ‖ vault ‖ key).
const (
	deviceKeyWord  = "vaultdrive-device-key-1"
	labelDeviceKey = "vaultdrive/v1/device-key-text\x00"
)

// FormatDeviceKey writes a device key as a line of text, for a file of mode
// 0600 or the user's keyring. The caller wipes it.
func FormatDeviceKey(vault seal.ID, dk *seal.Key) []byte {
	b := make([]byte, 0, 160)
	b = append(b, deviceKeyWord+" "+vault.UUID()+" "...)
	b = hex.AppendEncode(b, dk.Bytes())
	b = append(b, ' ')
	check := deviceKeyCheck(vault, dk)
	b = hex.AppendEncode(b, check[:])
	return append(b, '\n')
}

// ParseDeviceKey reads what FormatDeviceKey writes, for the given vault.
// Error: ErrDeviceKey.
func ParseDeviceKey(vault seal.ID, text []byte) (seal.Key, error) {
	words := bytes.Fields(text)
	if len(words) != 4 || string(words[0]) != deviceKeyWord {
		return seal.Key{}, fmt.Errorf("%w: it does not begin with %q", ErrDeviceKey, deviceKeyWord)
	}
	if id, err := seal.ParseUUID(string(words[1])); err != nil || id != vault {
		return seal.Key{}, fmt.Errorf("%w: it names vault %.40q", ErrDeviceKey, words[1])
	}
	raw := make([]byte, hex.DecodedLen(len(words[2])))
	defer clear(raw)
	if _, err := hex.Decode(raw, words[2]); err != nil {
		return seal.Key{}, fmt.Errorf("%w: damaged", ErrDeviceKey)
	}
	dk, err := seal.KeyFromBytes(raw)
	if err != nil {
		return seal.Key{}, fmt.Errorf("%w: damaged", ErrDeviceKey)
	}
	if check := deviceKeyCheck(vault, &dk); string(words[3]) != hex.EncodeToString(check[:]) {
		dk.Wipe()
		return seal.Key{}, fmt.Errorf("%w: damaged", ErrDeviceKey)
	}
	return dk, nil
}

func deviceKeyCheck(vault seal.ID, dk *seal.Key) [4]byte {
	h := sha256.New()
	h.Write([]byte(labelDeviceKey))
	h.Write(vault[:])
	h.Write(dk.Bytes())
	return [4]byte(h.Sum(nil))
}
