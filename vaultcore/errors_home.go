package vaultcore

import (
	"errors"
	"fmt"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Failures of a vault's home and of unlocking it. The error around them names
// the path.
var (
	// ErrInUse: another process has the vault open; it is named where known.
	ErrInUse = errors.New("vault is in use")
	// ErrNoVault: the path is no vault; what is missing is named.
	ErrNoVault = errors.New("not a vault")
	// ErrWrongPassword: the password does not open the vault's header.
	ErrWrongPassword = fmt.Errorf("%w", seal.ErrPassword)
	// ErrForeignHeader: header, local files and database are not all of one
	// vault and device, or one of them was altered.
	ErrForeignHeader = errors.New("parts of different vaults, or altered")
	// ErrRollback: the header is older than one that was accepted before.
	ErrRollback = fmt.Errorf("vault header: %w", seal.ErrRollback)
	// ErrNotEnrolled: the device key does not unlock the vault, not any more or
	// not until the password has been given once.
	ErrNotEnrolled = errors.New("device is not enrolled")
	// ErrDeviceKey: a text or file that should hold this vault's device key
	// does not.
	ErrDeviceKey = errors.New("not a device key of this vault")
	// ErrReadOnlyDisk: the disk of the vault cannot be written.
	ErrReadOnlyDisk = errors.New("disk of the vault is read-only")
)
