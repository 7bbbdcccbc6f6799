package seal

import (
	"crypto/ed25519"
	"fmt"

	"github.com/vaultdrive/vaultdrive/vaultcore/didkey"
)

// Purpose is what a device signs for. Each has a label of its own in front of
// the message, so that no signature can be used as another's.
type Purpose uint8

// The purposes of a device's signatures.
const (
	ForBatch   Purpose = iota + 1 // the hash of a batch or of a checkpoint part
	ForSession                    // the login message
	ForBackup                     // the SHA-256 of a backup's manifest
)

const (
	labelBatch   = "vaultdrive/v1/replica-batch\x00"
	labelSession = "vaultdrive/v1/did-session\x00"
	labelBackup  = "vaultdrive/v1/backup\x00"
)

func (p Purpose) label() string {
	switch p {
	case ForBatch:
		return labelBatch
	case ForSession:
		return labelSession
	case ForBackup:
		return labelBackup
	}
	panic(fmt.Sprintf("seal: signature for purpose %d", p)) // callers pass one of the constants
}

// DeviceSigner signs as one device. Its methods but Wipe are safe for concurrent
// use.
type DeviceSigner struct {
	redacted
	device ID
	key    ed25519.PrivateKey
}

// NewDeviceSigner expands the seed of a device's key for many signatures; dsk
// may be wiped afterwards.
func NewDeviceSigner(device ID, dsk *Key) *DeviceSigner {
	return &DeviceSigner{device: device, key: signer(dsk)}
}

// Device is the id the signatures are known by.
func (s *DeviceSigner) Device() ID { return s.device }

// Public is the key they verify with, as the roster holds it.
func (s *DeviceSigner) Public() ed25519.PublicKey { return s.key.Public().(ed25519.PublicKey) }

// Sign signs msg for a purpose; the label is put in front here.
func (s *DeviceSigner) Sign(p Purpose, msg []byte) []byte {
	return ed25519.Sign(s.key, append([]byte(p.label()), msg...))
}

// Wipe overwrites the key. Nothing may use s afterwards.
func (s *DeviceSigner) Wipe() { clear(s.key) }

// VerifyDeviceSignature checks what Sign made. Error: ErrSignature, also for a
// key or signature of another length, and a key under which signatures prove nothing.
func VerifyDeviceSignature(pk ed25519.PublicKey, p Purpose, msg, sig []byte) error {
	if didkey.Weak(pk) || !ed25519.Verify(pk, append([]byte(p.label()), msg...), sig) {
		return ErrSignature
	}
	return nil
}
