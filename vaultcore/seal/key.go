package seal

import (
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// Key is a 32-byte secret. It cannot be compared with ==, and prints, logs and
// marshals as [redacted]. A Key in an unexported field of another struct is
// beyond the reach of its methods: such a struct must not be printed.
type Key struct {
	_ [0]func() // not comparable: == would leak by timing
	redacted
	b [keySize]byte
}

// NewKey returns a random key.
func NewKey() Key {
	var k Key
	rand.Read(k.b[:]) // never fails: crypto/rand ends the program instead
	return k
}

// KeyFromBytes copies b, which must be 32 bytes. Error: ErrFormat.
func KeyFromBytes(b []byte) (Key, error) {
	var k Key
	if len(b) != keySize {
		return k, fmt.Errorf("%w: key of %d bytes", ErrFormat, len(b))
	}
	copy(k.b[:], b)
	return k, nil
}

// Bytes returns the secret itself, not a copy.
func (k *Key) Bytes() []byte { return k.b[:] }

// Equal compares in constant time.
func (k *Key) Equal(o *Key) bool { return subtle.ConstantTimeCompare(k.b[:], o.b[:]) == 1 }

// Wipe overwrites the key with zeros.
func (k *Key) Wipe() { clear(k.b[:]) }

// IsZero reports whether the key was never set or has been wiped.
func (k *Key) IsZero() bool {
	var zero [keySize]byte
	return subtle.ConstantTimeCompare(k.b[:], zero[:]) == 1
}

// redacted is embedded by every type that holds secrets.
type redacted struct{}

const redactedText = "[redacted]"

// Format implements fmt.Formatter for every verb.
func (redacted) Format(f fmt.State, _ rune) { io.WriteString(f, redactedText) }

// LogValue implements slog.LogValuer.
func (redacted) LogValue() slog.Value { return slog.StringValue(redactedText) }

// MarshalText implements encoding.TextMarshaler, and so serves JSON too.
func (redacted) MarshalText() ([]byte, error) { return []byte(redactedText), nil }
