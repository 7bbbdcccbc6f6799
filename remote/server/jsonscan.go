package server

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// contentField is the one field of an upload that is too long to keep.
const contentField = "encrypted_content"

const (
	maxKey       = 64
	maxScanDepth = 8
	maxFields    = 64
)

// scanUpload reads the flat JSON object of an upload, its fields in any order.
// Of encrypted_content the decoded bytes go to w; the others come back as JSON,
// at most api.MaxField each. Errors: api's bad_request, file_too_large for
// content longer than a file may be, body_too_large; those of r and w.
func scanUpload(r io.Reader, w io.Writer) (fields []byte, err error) {
	s := &scanner{r: bufio.NewReaderSize(r, 32<<10)}
	out, err := s.object(w)
	if err != nil {
		return nil, err
	}
	return out, nil
}

type scanner struct{ r *bufio.Reader }

func bad(format string, args ...any) error { return api.Errorf(api.CodeBadRequest, format, args...) }

// next gives the next byte that is no white space.
func (s *scanner) next() (byte, error) {
	for {
		b, err := s.r.ReadByte()
		if err != nil {
			return 0, err
		}
		if b != ' ' && b != '\t' && b != '\n' && b != '\r' {
			return b, nil
		}
	}
}

func (s *scanner) want(c byte) error {
	b, err := s.next()
	if err == nil && b != c {
		err = bad("%q where %q should be", b, c)
	}
	return err
}

// object reads all of the body.
func (s *scanner) object(w io.Writer) ([]byte, error) {
	if err := s.want('{'); err != nil {
		return nil, err
	}
	seen := make(map[string]bool)
	out := []byte{'{'}
	b, err := s.next()
	if err != nil {
		return nil, err
	}
	for b != '}' {
		if b != '"' {
			return nil, bad("%q where a field should be", b)
		}
		if len(seen) == maxFields {
			return nil, bad("more than %d fields", maxFields)
		}
		if out, err = s.field(out, seen, w); err != nil {
			return nil, err
		}
		if b, err = s.next(); err != nil {
			return nil, err
		}
		if b == ',' {
			if b, err = s.next(); err == nil && b == '}' {
				err = bad("a comma before the end")
			}
			if err != nil {
				return nil, err
			}
		} else if b != '}' {
			return nil, bad("%q where a comma should be", b)
		}
	}
	if !seen[contentField] {
		return nil, api.BadField(contentField, "missing")
	}
	if b, err := s.next(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = bad("%q behind the end", b)
		}
		return nil, err
	}
	return append(out, '}'), nil
}

// field reads one; the quote before its name is read.
func (s *scanner) field(out []byte, seen map[string]bool, w io.Writer) ([]byte, error) {
	name, err := s.str(nil, maxKey)
	if err != nil {
		return nil, err
	}
	if seen[string(name)] || strings.ToLower(string(name)) != string(name) {
		return nil, bad("field %.40q repeated, or not in lower case", name)
	}
	seen[string(name)] = true
	if err := s.want(':'); err != nil {
		return nil, err
	}
	if string(name) == contentField {
		return out, s.content(w)
	}
	value, err := s.value(nil, 0)
	if err != nil {
		return nil, err
	}
	if len(out) > 1 {
		out = append(out, ',')
	}
	quoted, err := json.Marshal(string(name))
	if err != nil {
		return nil, err
	}
	out = append(append(out, quoted...), ':')
	return append(out, value...), nil
}

// str reads a string whose first quote is read, without its escapes.
func (s *scanner) str(out []byte, limit int) ([]byte, error) {
	for {
		b, err := s.r.ReadByte()
		switch {
		case err != nil:
			return nil, err
		case b == '"':
			if !utf8.Valid(out) {
				return nil, bad("invalid UTF-8")
			}
			return out, nil
		case b < ' ':
			return nil, bad("control character in a string")
		case b == '\\':
			if out, err = s.escape(out); err != nil {
				return nil, err
			}
		default:
			out = append(out, b)
		}
		if len(out) > limit {
			return nil, bad("a string is longer than %d bytes", limit)
		}
	}
}

var escapes = map[byte]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

func (s *scanner) escape(out []byte) ([]byte, error) {
	b, err := s.r.ReadByte()
	if err != nil {
		return nil, err
	}
	if plain, ok := escapes[b]; ok {
		return append(out, plain), nil
	}
	if b != 'u' {
		return nil, bad("escape of %q", b)
	}
	r, err := s.hex4()
	if err != nil {
		return nil, err
	}
	if utf16.IsSurrogate(r) {
		second, err := s.r.Peek(2)
		if err != nil {
			return nil, err
		}
		if string(second) != `\u` {
			return nil, bad("half of a surrogate pair")
		}
		s.r.Discard(2)
		low, err := s.hex4()
		if err != nil {
			return nil, err
		}
		if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
			return nil, bad("half of a surrogate pair")
		}
	}
	return utf8.AppendRune(out, r), nil
}

func (s *scanner) hex4() (rune, error) {
	var r rune
	for range 4 {
		b, err := s.r.ReadByte()
		if err != nil {
			return 0, err
		}
		digit := strings.IndexByte("0123456789abcdef", b|0x20)
		if digit < 0 || b < '0' {
			return 0, bad("%q is no hex digit", b)
		}
		r = r<<4 | rune(digit)
	}
	return r, nil
}

// value reads any JSON value and gives its own bytes. encoding/json checks what
// is in it later; here its end is found, and its length bounded.
func (s *scanner) value(out []byte, depth int) ([]byte, error) {
	b, err := s.next()
	if err != nil {
		return nil, err
	}
	return s.valueFrom(out, b, depth)
}

func (s *scanner) valueFrom(out []byte, b byte, depth int) ([]byte, error) {
	if len(out) > api.MaxField {
		return nil, bad("a field is longer than %d bytes", api.MaxField)
	}
	switch {
	case b == '"':
		return s.rawString(append(out, b))
	case b == '{' || b == '[':
		if depth == maxScanDepth {
			return nil, bad("nested too deep")
		}
		return s.composite(append(out, b), map[byte]byte{'{': '}', '[': ']'}[b], depth)
	}
	return s.literal(append(out, b))
}

// rawString copies a string as it is written.
func (s *scanner) rawString(out []byte) ([]byte, error) {
	for {
		b, err := s.r.ReadByte()
		if err != nil {
			return nil, err
		}
		out = append(out, b)
		switch {
		case len(out) > api.MaxField:
			return nil, bad("a field is longer than %d bytes", api.MaxField)
		case b == '"':
			return out, nil
		case b == '\\':
			if b, err = s.r.ReadByte(); err != nil {
				return nil, err
			}
			out = append(out, b)
		}
	}
}

// composite copies what is inside of an object or array, and its end. Two values
// with nothing but white space between them would become one.
func (s *scanner) composite(out []byte, end byte, depth int) ([]byte, error) {
	for value := false; ; {
		b, err := s.next()
		switch {
		case err != nil:
			return nil, err
		case b == end:
			return append(out, b), nil
		case b == ',' || b == ':':
			out, value = append(out, b), false
		case value:
			return nil, bad("%q where a comma should be", b)
		default:
			value = true
			if out, err = s.valueFrom(out, b, depth+1); err != nil {
				return nil, err
			}
		}
		if len(out) > api.MaxField {
			return nil, bad("a field is longer than %d bytes", api.MaxField)
		}
	}
}

// literal copies a number, true, false or null.
func (s *scanner) literal(out []byte) ([]byte, error) {
	for {
		next, err := s.r.Peek(1)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if err != nil || strings.IndexByte(" \t\r\n,}]:", next[0]) >= 0 {
			return out, nil
		}
		if len(out) > api.MaxField {
			return nil, bad("a field is longer than %d bytes", api.MaxField)
		}
		s.r.Discard(1)
		out = append(out, next[0])
	}
}

// content decodes a string of base64 on its way. Some encoders write "/" as
// "\/", so escapes are resolved here too.
func (s *scanner) content(w io.Writer) error {
	b, err := s.next()
	if err != nil {
		return err
	}
	if b != '"' {
		return api.BadField(contentField, "not a string")
	}
	d := &base64Writer{w: w}
	for {
		n, stop, err := s.run()
		if err != nil {
			return err
		}
		chunk, err := s.r.Peek(n)
		if err != nil {
			return err
		}
		if _, err := d.Write(chunk); err != nil {
			return err
		}
		s.r.Discard(n)
		switch stop {
		case '"':
			s.r.Discard(1)
			return d.Close()
		case '\\':
			s.r.Discard(1)
			plain, err := s.escape(nil)
			if err != nil {
				return err
			}
			if _, err := d.Write(plain); err != nil {
				return err
			}
		}
	}
}

// run gives the length of what is buffered up to a quote or backslash, and which
// of them stands there; 0 for neither.
func (s *scanner) run() (n int, stop byte, err error) {
	if _, err := s.r.Peek(1); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, 0, err
	}
	buffered, err := s.r.Peek(s.r.Buffered())
	if err != nil {
		return 0, 0, err
	}
	if i := bytes.IndexAny(buffered, "\"\\"); i >= 0 {
		return i, buffered[i], nil
	}
	return len(buffered), 0, nil
}

// base64Writer decodes strictly what is written to it: one text for some bytes.
type base64Writer struct {
	w    io.Writer
	tail []byte // less than a group and one more
	n    int64
	buf  []byte
}

func (d *base64Writer) Write(p []byte) (int, error) {
	if d.n += int64(len(p)); d.n > api.MaxBase64Legal {
		return 0, api.Errorf(api.CodeBodyTooLarge, "%s is longer than %d characters", contentField, api.MaxBase64Legal)
	}
	in := append(d.tail, p...)
	// The last group may have padding, so one is always kept back.
	whole := max(0, (len(in)-1)/4*4)
	if err := d.decode(in[:whole], false); err != nil {
		return 0, err
	}
	d.tail = append([]byte(nil), in[whole:]...)
	return len(p), nil
}

// Close decodes the last group.
func (d *base64Writer) Close() error {
	if d.n > api.MaxBase64 {
		return api.Errorf(api.CodeFileTooLarge, "a file has at most %d bytes", api.MaxFile)
	}
	return d.decode(d.tail, true)
}

func (d *base64Writer) decode(in []byte, last bool) error {
	if len(in) == 0 {
		return nil
	}
	if !last && in[len(in)-1] == '=' || bytes.ContainsAny(in, "\r\n") {
		return api.BadField(contentField, "not base64")
	}
	if need := base64.StdEncoding.DecodedLen(len(in)); cap(d.buf) < need {
		d.buf = make([]byte, need)
	}
	n, err := base64.StdEncoding.Strict().Decode(d.buf[:cap(d.buf)], in)
	if err != nil {
		return api.BadField(contentField, "not base64")
	}
	_, err = d.w.Write(d.buf[:n])
	return err
}
