package seal

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// maxJSONInt bounds integers: up to it every JSON reader agrees on their value.
const maxJSONInt = 1<<53 - 1

// EncodeBase64 is RFC 4648 section 4 with padding.
func EncodeBase64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// DecodeBase64 accepts only what EncodeBase64 writes. Error: ErrEncoding.
func DecodeBase64(s string) ([]byte, error) {
	// Strict refuses stray padding bits, but still skips line ends.
	if strings.ContainsAny(s, "\r\n") {
		return nil, fmt.Errorf("%w: line end", ErrEncoding)
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, ErrEncoding
	}
	return b, nil
}

// fields takes a JSON object apart: each key is taken once, with its type, and
// end refuses what is missing, left over or of another type. The first error
// sticks, so a parser reads as the list of its keys.
type fields struct {
	m   map[string]any
	err error
}

func newFields(v any) *fields {
	m, ok := v.(map[string]any)
	f := &fields{m: m}
	if !ok {
		f.fail(fmt.Errorf("%w: JSON object expected", ErrFormat))
	}
	return f
}

func (f *fields) fail(err error) {
	if f.err == nil {
		f.err = err
	}
}

func (f *fields) take(key string) any {
	v, ok := f.m[key]
	if !ok {
		f.fail(fmt.Errorf("%w: JSON key %q missing", ErrFormat, key))
	}
	delete(f.m, key)
	return v
}

// takeAs takes a value of one JSON type.
func takeAs[T any](f *fields, key string) T {
	v, ok := f.take(key).(T)
	if !ok {
		f.fail(fmt.Errorf("%w: JSON key %q", ErrFormat, key))
	}
	return v
}

func (f *fields) text(key string) string { return takeAs[string](f, key) }
func (f *fields) flag(key string) bool   { return takeAs[bool](f, key) }
func (f *fields) list(key string) []any  { return takeAs[[]any](f, key) }

// object takes an object; the caller ends it.
func (f *fields) object(key string) *fields { return &fields{m: takeAs[map[string]any](f, key)} }

// has says whether there is such a key, and it was not taken yet.
func (f *fields) has(key string) bool {
	_, ok := f.m[key]
	return ok
}

// optional is object, but null gives nil.
func (f *fields) optional(key string) *fields {
	if v, ok := f.m[key]; ok && v == nil {
		delete(f.m, key)
		return nil
	}
	return f.object(key)
}

// bytes takes base64 of exactly n bytes, of any length if n is negative.
func (f *fields) bytes(key string, n int) []byte {
	b, err := DecodeBase64(f.text(key))
	if err != nil {
		f.fail(fmt.Errorf("JSON key %q: %w", key, err))
		return make([]byte, max(n, 0))
	}
	if n >= 0 && len(b) != n {
		f.fail(fmt.Errorf("%w: JSON key %q has %d bytes", ErrFormat, key, len(b)))
		return make([]byte, n)
	}
	return b
}

// number takes an integer from low to high.
func (f *fields) number(key string, low, high uint64) uint64 {
	n, err := strconv.ParseUint(string(takeAs[json.Number](f, key)), 10, 64)
	if err != nil || n < low || n > high {
		f.fail(fmt.Errorf("%w: JSON key %q out of range", ErrFormat, key))
	}
	return n
}

// id takes a UUID.
func (f *fields) id(key string) ID {
	id, err := ParseUUID(f.text(key))
	f.check(err)
	return id
}

// check notes an error of a value taken.
func (f *fields) check(err error) {
	if err != nil {
		f.fail(err)
	}
}

// end returns the first error; keys nobody took are one.
func (f *fields) end() error {
	if f.err == nil && len(f.m) > 0 {
		f.err = fmt.Errorf("%w: unknown JSON key", ErrFormat)
	}
	return f.err
}

// asHeaderError turns the classes of the JSON helpers into ErrHeader.
func asHeaderError(err error) error {
	if err == nil || errors.Is(err, ErrHeader) || errors.Is(err, ErrKDFParams) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrHeader, err)
}
