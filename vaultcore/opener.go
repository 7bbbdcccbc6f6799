package vaultcore

import (
	"context"
	"errors"
	"fmt"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// TypedKit is a recovery kit as a person typed it.
type TypedKit struct {
	Secret string // as printed; case, blanks and hyphens do not matter
	// DID is the identity on the paper. Empty trusts that of the vault, which the
	// user should then have compared.
	DID string
}

// opener accepts a header by what only the owner of the vault has, the password
// or the recovery kit. The caller wipes both keys. Errors: ErrWrongPassword or
// seal.ErrKit, ErrForeignHeader, those of the KDF.
type opener func(ctx context.Context, home *Home, header *seal.SignedHeader, kdf KDF) (vk, ids seal.Key, err error)

func withPassword(password []byte) opener {
	return func(ctx context.Context, home *Home, header *seal.SignedHeader, kdf KDF) (vk, ids seal.Key, err error) {
		kek, err := kdf(ctx, password, header.KDF)
		switch {
		case errors.Is(err, seal.ErrPassword):
			return vk, ids, headerError(home, err)
		case err != nil:
			return vk, ids, fmt.Errorf("unlock %s: %w", home.path, err)
		}
		defer kek.Wipe()
		vk, ids, err = header.OpenPassword(&kek)
		return vk, ids, headerError(home, err)
	}
}

func withKit(typed TypedKit) opener {
	return func(_ context.Context, home *Home, header *seal.SignedHeader, _ KDF) (vk, ids seal.Key, err error) {
		kit, err := seal.ParseKit(typed.Secret)
		if err != nil {
			return vk, ids, err
		}
		defer kit.Wipe()
		did := typed.DID
		if did == "" {
			did = header.DID
		}
		vk, ids, err = header.OpenKit(&kit, did)
		return vk, ids, headerError(home, err)
	}
}

// opener gives what opens a header as its owner; nil with a device key alone.
func (c *Credentials) opener() opener {
	switch {
	case c.Kit != nil:
		return withKit(*c.Kit)
	case c.Password != nil:
		return withPassword(c.Password)
	}
	return nil
}

// notOfHeader says that a password or kit is not that of the header it was tried
// on.
func notOfHeader(err error) bool {
	return errors.Is(err, ErrWrongPassword) || errors.Is(err, seal.ErrKit)
}
