package vaultcore

import (
	"context"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// LoginSigner signs logins at a server as this device, and nothing else.
type LoginSigner struct{ v *Vault }

// LoginSigner gives the signer of this device.
func (v *Vault) LoginSigner() LoginSigner { return LoginSigner{v} }

// Sign signs a login message without its label (CRYPTO.md section 8). A vault
// that is closed gives a signature that no server takes.
func (s LoginSigner) Sign(message []byte) []byte {
	signer := s.v.keys.signer()
	if signer == nil {
		return nil
	}
	defer signer.Wipe()
	return signer.Sign(seal.ForSession, message)
}

// OwnerSigner signs logins at a server as the vault's identity, and nothing else:
// for a device that no header lists yet. Wipe it soon.
type OwnerSigner struct{ signer *seal.DeviceSigner }

// OwnerSigner gives the signer of the identity, by the password of now or of the
// header that waits for it. Errors: ErrWrongPassword, those of the KDF.
func (v *Vault) OwnerSigner(ctx context.Context, password []byte) (*OwnerSigner, error) {
	vk, ids, err := withPassword(password)(ctx, v.home, v.keys.header(), v.opt.KDF)
	if p := v.pending.Load(); notOfHeader(err) && p.foreign() {
		vk, ids, err = withPassword(password)(ctx, v.home, p.last(), v.opt.KDF)
	}
	if err != nil {
		return nil, err
	}
	vk.Wipe()
	defer ids.Wipe()
	return &OwnerSigner{seal.NewDeviceSigner(seal.ID{}, &ids)}, nil
}

// Sign signs a login message without its label.
func (s *OwnerSigner) Sign(message []byte) []byte { return s.signer.Sign(seal.ForSession, message) }

// Wipe overwrites the key.
func (s *OwnerSigner) Wipe() { s.signer.Wipe() }
