package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"slices"
	"sync"
)

// scratch holds what would otherwise escape to the heap on every call through
// the cipher.AEAD interface. It comes from a pool and goes back wiped.
type scratch struct {
	nonce [ivSize]byte
	key   [keySize]byte
	aad   [96]byte
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

func getScratch() *scratch { return scratches.Get().(*scratch) }

func (s *scratch) put() {
	clear(s.key[:])
	scratches.Put(s)
}

// newGCM expands a 32-byte key. Callers that use a key more than once keep the
// result: expansion costs more than sealing a name.
func newGCM(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("seal: AES key: " + err.Error()) // every caller passes 32 bytes
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("seal: GCM: " + err.Error())
	}
	return aead
}

// sealRandom appends IV ‖ ct ‖ tag with a fresh random IV to dst. It allocates
// only when dst lacks capacity; plain must not overlap the part appended.
func sealRandom(aead cipher.AEAD, dst, plain, aad []byte) []byte {
	dst = slices.Grow(dst, Overhead+len(plain))
	start := len(dst)
	dst = dst[:start+ivSize]
	iv := dst[start:]
	rand.Read(iv)
	return aead.Seal(dst, iv, plain, aad)
}

// openRandom appends the plaintext of IV ‖ ct ‖ tag to dst. A failed open leaves
// dst at its old length and nothing of the plaintext behind it.
func openRandom(aead cipher.AEAD, dst, sealed, aad []byte) ([]byte, error) {
	if len(sealed) < Overhead {
		return dst, ErrTruncated
	}
	out, err := aead.Open(dst, sealed[:ivSize], sealed[ivSize:], aad)
	if err != nil {
		return dst, ErrAuth
	}
	return out, nil
}

// hk is HKDF-SHA-256 with an empty salt and info = "vaultdrive/v1/label" 00 ‖ ctx.
func hk(ikm []byte, label string, ctx []byte, n int) []byte {
	out, err := hkdf.Key(sha256.New, ikm, nil, "vaultdrive/v1/"+label+"\x00"+string(ctx), n)
	if err != nil {
		panic("seal: HKDF: " + err.Error()) // only for lengths beyond 255 hashes
	}
	return out
}

// expand512 is HKDF-Expand with SHA-512. There is no extract step: the file key
// is uniform already, and a browser then needs only HMAC.
func expand512(key *Key, info string, n int) []byte {
	out, err := hkdf.Expand(sha512.New, key.b[:], info, n)
	if err != nil {
		panic("seal: HKDF: " + err.Error())
	}
	return out
}

// epochCtx is the HKDF context of keys that belong to a vault and an epoch.
func epochCtx(vault ID, epoch uint32) []byte {
	return binary.BigEndian.AppendUint32(append(make([]byte, 0, 20), vault[:]...), epoch)
}

// appendLP appends x behind its length as u32.
func appendLP(b, x []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(x))), x...)
}
