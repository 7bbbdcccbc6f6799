package api

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrDID: not a did:key of an Ed25519 key, or not in its one spelling.
var ErrDID = errors.New("not a did:key of an Ed25519 key")

// A DID is did:key:z ‖ base58btc(ED 01 ‖ Ed25519 public key), W3C CCG did:key.
const (
	didPrefix   = "did:key:z"
	didKeySize  = 2 + ed25519.PublicKeySize
	maxDIDText  = 48 // base58 of 34 bytes: at most 47 characters
	base58Chars = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
)

// ParseDID gives the public key of a DID. Error: ErrDID.
func ParseDID(did string) (ed25519.PublicKey, error) {
	text, ok := strings.CutPrefix(did, didPrefix)
	if !ok || len(text) > maxDIDText {
		return nil, ErrDID
	}
	raw, ok := decodeBase58(text)
	if !ok || raw[0] != 0xed || raw[1] != 0x01 {
		return nil, ErrDID
	}
	pk := ed25519.PublicKey(raw[2:])
	if FormatDID(pk) != did || weakKey(pk) {
		return nil, ErrDID // leading digits of zero, or nobody's key
	}
	return pk, nil
}

// FormatDID gives the DID of a public key.
func FormatDID(pk ed25519.PublicKey) string {
	return didPrefix + encodeBase58(append([]byte{0xed, 0x01}, pk...))
}

// encodeBase58 divides by 58 again and again. No DID begins with a zero byte, so
// the digits that stand for those have no place here.
func encodeBase58(b []byte) string {
	num := bytes.Clone(b)
	var out []byte
	for len(num) > 0 {
		rest := 0
		for i, d := range num {
			rest = rest<<8 | int(d)
			num[i] = byte(rest / 58)
			rest %= 58
		}
		out = append([]byte{base58Chars[rest]}, out...)
		num = bytes.TrimLeft(num, "\x00")
	}
	return string(out)
}

func decodeBase58(s string) ([]byte, bool) {
	out := make([]byte, didKeySize)
	for i := range len(s) {
		carry := strings.IndexByte(base58Chars, s[i])
		if carry < 0 {
			return nil, false
		}
		for j := len(out) - 1; j >= 0; j-- {
			carry += 58 * int(out[j])
			out[j] = byte(carry)
			carry >>= 8
		}
		if carry != 0 {
			return nil, false
		}
	}
	return out, true
}

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
