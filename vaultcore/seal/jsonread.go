package seal

import (
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxJSONDepth is how deep values may nest: above what any of our documents needs.
const maxJSONDepth = 8

// parseJSON reads one strict JSON value: valid UTF-8 and no lone surrogates, no
// repeated keys, nothing behind the value. encoding/json lets all of these pass,
// so two readers could see two documents; and a log of 100,000 records is read
// several times as fast without its tokens. The types are those of encoding/json,
// numbers as json.Number. Error: ErrFormat.
func parseJSON(b []byte) (any, error) {
	if !utf8.Valid(b) {
		return nil, fmt.Errorf("%w: JSON is not UTF-8", ErrFormat)
	}
	r := &jsonReader{b: b}
	v, ok := r.value(0)
	r.space()
	if !ok || r.i < len(b) {
		return nil, fmt.Errorf("%w: JSON at byte %d", ErrFormat, r.i)
	}
	return v, nil
}

// jsonReader reads values at i; false from any method means a fault there.
type jsonReader struct {
	b []byte
	i int
}

// peek returns the next byte, 0 at the end: no value has a zero byte outside
// strings, nor inside.
func (r *jsonReader) peek() byte {
	if r.i < len(r.b) {
		return r.b[r.i]
	}
	return 0
}

func (r *jsonReader) take(c byte) bool {
	if r.peek() != c {
		return false
	}
	r.i++
	return true
}

func (r *jsonReader) space() {
	for r.i < len(r.b) && (r.b[r.i] == ' ' || r.b[r.i] == '\t' || r.b[r.i] == '\r' || r.b[r.i] == '\n') {
		r.i++
	}
}

func (r *jsonReader) value(depth int) (any, bool) {
	if depth > maxJSONDepth {
		return nil, false
	}
	r.space()
	switch r.peek() {
	case '{':
		return r.object(depth)
	case '[':
		return r.array(depth)
	case '"':
		return r.text()
	case 't':
		return true, r.word("true")
	case 'f':
		return false, r.word("false")
	case 'n':
		return nil, r.word("null")
	}
	return r.number()
}

func (r *jsonReader) word(w string) bool {
	if len(r.b)-r.i < len(w) || string(r.b[r.i:r.i+len(w)]) != w {
		return false
	}
	r.i += len(w)
	return true
}

func (r *jsonReader) object(depth int) (any, bool) {
	r.i++ // the brace
	m := map[string]any{}
	for r.space(); !r.take('}'); r.space() {
		if len(m) > 0 && !r.take(',') {
			return nil, false
		}
		r.space()
		key, ok := r.text()
		if _, repeated := m[key]; !ok || repeated {
			return nil, false
		}
		if r.space(); !r.take(':') {
			return nil, false
		}
		if m[key], ok = r.value(depth + 1); !ok {
			return nil, false
		}
	}
	return m, true
}

func (r *jsonReader) array(depth int) (any, bool) {
	r.i++ // the bracket
	list := []any{}
	for r.space(); !r.take(']'); r.space() {
		if len(list) > 0 && !r.take(',') {
			return nil, false
		}
		v, ok := r.value(depth + 1)
		if !ok {
			return nil, false
		}
		list = append(list, v)
	}
	return list, true
}

func (r *jsonReader) number() (any, bool) {
	start := r.i
	r.take('-')
	if !r.take('0') && !r.digits() {
		return nil, false
	}
	if r.take('.') && !r.digits() {
		return nil, false
	}
	if r.take('e') || r.take('E') {
		if !r.take('+') {
			r.take('-')
		}
		if !r.digits() {
			return nil, false
		}
	}
	return json.Number(r.b[start:r.i]), true
}

// digits takes one digit or more.
func (r *jsonReader) digits() bool {
	start := r.i
	for c := r.peek(); c >= '0' && c <= '9'; c = r.peek() {
		r.i++
	}
	return r.i > start
}

func (r *jsonReader) text() (string, bool) {
	if !r.take('"') {
		return "", false
	}
	start := r.i
	for r.i < len(r.b) {
		switch c := r.b[r.i]; {
		case c == '"':
			r.i++
			return string(r.b[start : r.i-1]), true
		case c == '\\':
			return r.escapedText(start)
		case c < 0x20:
			return "", false
		}
		r.i++
	}
	return "", false
}

// escapedText goes on with a text that began at start, at its first escape.
func (r *jsonReader) escapedText(start int) (string, bool) {
	out := append([]byte(nil), r.b[start:r.i]...)
	for r.i < len(r.b) {
		c := r.b[r.i]
		r.i++
		switch {
		case c == '"':
			return string(out), true
		case c < 0x20:
			return "", false
		case c != '\\':
			out = append(out, c)
		default:
			char, ok := r.escape()
			if !ok {
				return "", false
			}
			out = utf8.AppendRune(out, char)
		}
	}
	return "", false
}

// escape reads what follows a backslash.
func (r *jsonReader) escape() (rune, bool) {
	c := r.peek()
	r.i++
	switch c {
	case '"', '\\', '/':
		return rune(c), true
	case 'b':
		return '\b', true
	case 'f':
		return '\f', true
	case 'n':
		return '\n', true
	case 'r':
		return '\r', true
	case 't':
		return '\t', true
	case 'u':
		return r.unicode()
	}
	return 0, false
}

// unicode reads the digits of \uXXXX, of two such for a character beyond 16 bits.
// Half a pair is no character: readers differ in what they make of it.
func (r *jsonReader) unicode() (rune, bool) {
	char, ok := r.hex4()
	if !ok || !utf16.IsSurrogate(char) {
		return char, ok
	}
	if !r.word(`\u`) {
		return 0, false
	}
	low, ok := r.hex4()
	char = utf16.DecodeRune(char, low)
	return char, ok && char != utf8.RuneError
}

func (r *jsonReader) hex4() (rune, bool) {
	if len(r.b)-r.i < 4 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(r.b[r.i:r.i+4]), 16, 16)
	r.i += 4
	return rune(n), err == nil
}
