package seal

import (
	"encoding/base64"
	"encoding/hex"
	"strconv"
)

// jsonWriter writes one JSON document: no white space, keys in the order of the
// calls, one spelling for every value. The same meaning always has the same bytes.
type jsonWriter struct{ b []byte }

// next puts the comma between two values of one object or list.
func (w *jsonWriter) next() {
	if n := len(w.b); n > 0 && w.b[n-1] != '{' && w.b[n-1] != '[' {
		w.b = append(w.b, ',')
	}
}

func (w *jsonWriter) key(key string) {
	w.next()
	w.b = append(append(append(w.b, '"'), key...), '"', ':')
}

// open begins an object or list as the value of key, or as an item of a list
// when key is empty. close ends it.
func (w *jsonWriter) open(key string, bracket byte) {
	if key == "" {
		w.next()
	} else {
		w.key(key)
	}
	w.b = append(w.b, bracket)
}

func (w *jsonWriter) close(bracket byte) { w.b = append(w.b, bracket) }

func (w *jsonWriter) text(key, s string) {
	w.key(key)
	w.quote(s)
}

func (w *jsonWriter) number(key string, n uint64) {
	w.key(key)
	w.b = strconv.AppendUint(w.b, n, 10)
}

// decimal writes an integer of 64 bits as text: JSON numbers end at 2^53.
func (w *jsonWriter) decimal(key string, n int64) { w.text(key, strconv.FormatInt(n, 10)) }

func (w *jsonWriter) bytes(key string, b []byte) {
	w.key(key)
	w.b = append(w.b, '"')
	w.b = base64.StdEncoding.AppendEncode(w.b, b)
	w.b = append(w.b, '"')
}

func (w *jsonWriter) id(key string, id ID) { w.text(key, id.UUID()) }

func (w *jsonWriter) hexID(key string, id ID) {
	w.key(key)
	w.hexItem(id)
}

func (w *jsonWriter) hexItem(id ID) {
	w.b = append(w.b, '"')
	w.b = hex.AppendEncode(w.b, id[:])
	w.b = append(w.b, '"')
}

// quote writes valid UTF-8 with only those escapes JSON asks for.
func (w *jsonWriter) quote(s string) {
	const digits = "0123456789abcdef"
	w.b = append(w.b, '"')
	for _, c := range []byte(s) {
		switch {
		case c == '"' || c == '\\':
			w.b = append(w.b, '\\', c)
		case c < 0x20:
			w.b = append(w.b, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		default:
			w.b = append(w.b, c)
		}
	}
	w.b = append(w.b, '"')
}
