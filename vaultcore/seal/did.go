package seal

import (
	"crypto/ed25519"

	"github.com/vaultdrive/vaultdrive/vaultcore/didkey"
)

// DIDFromSeed returns the DID of the Ed25519 key pair with the seed ids.
func DIDFromSeed(ids *Key) string { return didkey.Format(PublicFromSeed(ids)) }

// PublicFromSeed returns the Ed25519 public key of a seed.
func PublicFromSeed(seed *Key) ed25519.PublicKey {
	return signer(seed).Public().(ed25519.PublicKey)
}

// signer expands a seed for one use. The expanded copy is on the heap and cannot
// be wiped, as with AES keys.
func signer(seed *Key) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(seed.b[:]) }
