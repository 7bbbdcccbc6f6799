package api

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"
)

// maxDepth is how deep JSON may nest; nothing of ours needs half of it.
const maxDepth = 16

// maxMembers is twice what the longest list that a server takes may have.
const maxMembers = 2 * MaxRows

// ErrJSON: not JSON as this interface takes it.
var ErrJSON = errors.New("not strict JSON")

// Unmarshal is json.Unmarshal for input of somebody else: valid UTF-8, no
// repeated key, no key that differs in case from the one it would fill, nothing
// behind the value, and not nested without end. Unknown keys are skipped, so
// that a newer client can talk to an older server.
func Unmarshal(b []byte, v any) error {
	if err := CheckJSON(b); err != nil {
		return err
	}
	return decode(b, v)
}

// FieldError is an ErrJSON about a value of the wrong type.
type FieldError struct {
	Field string // its key, below others as "row.size_bytes"; empty for the whole
	Value string // what came, as "string" or "number 1.5"
}

func (e *FieldError) Error() string {
	if e.Field == "" {
		return fmt.Sprintf("%v: what came is of the wrong type: %.40s", ErrJSON, e.Value)
	}
	return fmt.Sprintf("%v: %.40q is of another type than what came: %.40s", ErrJSON, e.Field, e.Value)
}

// Unwrap says that it is an ErrJSON.
func (e *FieldError) Unwrap() error { return ErrJSON }

func decode(b []byte, v any) error {
	err := json.Unmarshal(b, v)
	if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
		// encoding/json names types of ours, which mean nothing to who sent this.
		return &FieldError{Field: wrong.Field, Value: wrong.Value}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrJSON, err)
	}
	return nil
}

// UnmarshalInput is Unmarshal for what a client sends to a server: at most
// maxMembers in each object and array, or a short body of many empty ones would
// fill the memory.
func UnmarshalInput(b []byte, v any) error {
	if err := checkJSON(b, maxMembers); err != nil {
		return err
	}
	return decode(b, v)
}

// CheckJSON is the part of Unmarshal that encoding/json leaves out.
func CheckJSON(b []byte) error { return checkJSON(b, math.MaxInt) }

func checkJSON(b []byte, most int) error {
	if !utf8.Valid(b) {
		return fmt.Errorf("%w: invalid UTF-8", ErrJSON)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := checkValue(d, 0, most); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: more than one value", ErrJSON)
	}
	return nil
}

func checkValue(d *json.Decoder, depth, most int) error {
	tok, err := d.Token()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrJSON, err)
	}
	open, ok := tok.(json.Delim)
	switch {
	case !ok:
		return nil
	case depth == maxDepth:
		return fmt.Errorf("%w: nested too deep", ErrJSON)
	case open == '{':
		return checkObject(d, depth, most)
	}
	for n := 0; d.More(); n++ {
		if n == most {
			return fmt.Errorf("%w: an array of more than %d", ErrJSON, most)
		}
		if err := checkValue(d, depth+1, most); err != nil {
			return err
		}
	}
	return endOf(d)
}

// checkObject compares keys without regard to case: encoding/json fills a field
// from any spelling, so two of them would leave it to the order.
func checkObject(d *json.Decoder, depth, most int) error {
	seen := make(map[string]bool)
	for d.More() {
		tok, err := d.Token()
		if err != nil {
			return fmt.Errorf("%w: %w", ErrJSON, err)
		}
		key, _ := tok.(string) // a key is a string, or Token fails
		folded := strings.ToLower(key)
		if len(seen) == most {
			return fmt.Errorf("%w: an object of more than %d", ErrJSON, most)
		}
		if seen[folded] {
			return fmt.Errorf("%w: key %.40q repeated", ErrJSON, key)
		}
		if folded != key {
			return fmt.Errorf("%w: key %.40q is not in lower case", ErrJSON, key)
		}
		seen[folded] = true
		if err := checkValue(d, depth+1, most); err != nil {
			return err
		}
	}
	return endOf(d)
}

func endOf(d *json.Decoder) error {
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("%w: %w", ErrJSON, err)
	}
	return nil
}

// Decode64 reads base64 of RFC 4648 section 4 with padding, n bytes unless n is
// negative. Line breaks and stray bits of the last character are refused, so
// that there is one text for some bytes.
func Decode64(s string, n int) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, fmt.Errorf("%w: line break in base64", ErrJSON)
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("%w: base64: %w", ErrJSON, err)
	}
	if n >= 0 && len(b) != n {
		return nil, fmt.Errorf("%w: %d bytes of base64, not %d", ErrJSON, len(b), n)
	}
	return b, nil
}
