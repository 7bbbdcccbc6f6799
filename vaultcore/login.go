package vaultcore

import "github.com/vaultdrive/vaultdrive/vaultcore/seal"

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
