package api

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// LoginProof is what a client signs to log in (CRYPTO.md section 8).
type LoginProof struct {
	Audience string // scheme://host[:port] of the server, from the client's own configuration
	DID      string
	Device   [16]byte // zero: a page, which signs with the identity itself
	Nonce    [NonceSize]byte
	IssuedAt int64 // ms since 1970
	Expires  int64 // ms since 1970
}

const labelLogin = "vaultdrive/v1/did-session\x00"

// Message is the bytes that are signed: a label, then Body.
func (p *LoginProof) Message() []byte { return append([]byte(labelLogin), p.Body()...) }

// Body is Message without its label, for a signer that puts it in front itself.
func (p *LoginProof) Body() []byte {
	m := appendLP(nil, p.Audience)
	m = appendLP(m, p.DID)
	m = append(m, p.Device[:]...)
	m = append(m, p.Nonce[:]...)
	m = binary.BigEndian.AppendUint64(m, uint64(p.IssuedAt))
	return binary.BigEndian.AppendUint64(m, uint64(p.Expires))
}

func appendLP(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}

// ErrLogin: a login that is not to be believed, whatever the reason.
var ErrLogin = errors.New("login refused")

// Verify checks times and signature. It says for the server's own log what was
// wrong; the client is told ErrLogin alone. pk is the device's by the roster, or
// the identity's.
func (p *LoginProof) Verify(pk ed25519.PublicKey, sig []byte, now time.Time) error {
	ms, window := now.UnixMilli(), LoginWindow.Milliseconds()
	switch {
	case p.Expires <= p.IssuedAt || p.Expires-p.IssuedAt > ChallengeLife.Milliseconds():
		return fmt.Errorf("%w: valid for %d ms", ErrLogin, p.Expires-p.IssuedAt)
	case p.IssuedAt > ms+window || p.Expires < ms-window:
		return fmt.Errorf("%w: clock differs by %d ms", ErrLogin, p.IssuedAt-ms)
	case len(pk) != ed25519.PublicKeySize || len(sig) != ed25519.SignatureSize || !ed25519.Verify(pk, p.Message(), sig):
		return fmt.Errorf("%w: signature", ErrLogin)
	}
	return nil
}
