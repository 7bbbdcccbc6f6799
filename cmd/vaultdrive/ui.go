package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// ui is where a command talks to: results go to out, everything said to a
// person (errors, warnings, prompts, progress) to err.
type ui struct {
	in      io.Reader
	out     io.Writer
	err     io.Writer
	outTerm bool // out is a terminal: names are escaped
	errTerm bool // err is a terminal: progress may be drawn
	// draining is set when an interrupt is no end but the begin of one: a
	// mount in the foreground takes its time to store what was written.
	draining atomic.Bool
}

func newUI() *ui {
	return &ui{
		in:      os.Stdin,
		out:     os.Stdout,
		err:     os.Stderr,
		outTerm: term.IsTerminal(int(os.Stdout.Fd())),
		errTerm: term.IsTerminal(int(os.Stderr.Fd())),
	}
}

// printf writes a line or more of result.
func (u *ui) printf(format string, args ...any) {
	fmt.Fprintf(u.out, format, args...)
}

// note says something to the person that is no result.
func (u *ui) note(format string, args ...any) {
	fmt.Fprintf(u.err, format+"\n", args...)
}

func (u *ui) warn(format string, args ...any) {
	u.note("warning: "+format, args...)
}

// name makes a name fit for the output: on a terminal no control or bidi
// character gets through, in a pipe names are what they are.
func (u *ui) name(s string) string {
	if u.outTerm {
		return escapeName(s)
	}
	return s
}

// escapeName shows control, format and bidi characters and bytes that are not
// UTF-8 as \x1b, \u202e or \U000e0001. The two joiners stay: scripts and emoji
// need them, and they move nothing.
func escapeName(s string) string {
	if !strings.ContainsFunc(s, vaultcore.UnsafeRune) && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && invalidAt(s, i):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case !vaultcore.UnsafeRune(r):
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	return b.String()
}

func invalidAt(s string, i int) bool {
	_, size := utf8.DecodeRuneInString(s[i:])
	return size == 1
}

// writeJSON prints one document. Characters a terminal would act on are
// written as \u escapes, which mean the same to every parser.
func (u *ui) writeJSON(v any) error {
	b, err := marshalSafe(v, "  ")
	if err != nil {
		return err
	}
	_, err = u.out.Write(append(b, '\n'))
	return err
}

func marshalSafe(v any, indent string) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode result: %w", err)
	}
	return escapeJSON(bytes.TrimRight(buf.Bytes(), "\n")), nil
}

// escapeJSON rewrites unsafe characters of an encoded document. Those below
// U+0020 are layout here: inside strings the encoder has escaped them already.
func escapeJSON(b []byte) []byte {
	unsafe := func(r rune) bool { return r >= 0x20 && vaultcore.UnsafeRune(r) }
	if !bytes.ContainsFunc(b, unsafe) {
		return b
	}
	var out bytes.Buffer
	for _, r := range string(b) {
		switch {
		case !unsafe(r):
			out.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&out, `\u%04x`, r)
		default:
			hi, lo := utf16.EncodeRune(r)
			fmt.Fprintf(&out, `\u%04x\u%04x`, hi, lo)
		}
	}
	return out.Bytes()
}

// humanSize gives a size as people write it: 512 B, 1.5 KiB, 23 MiB.
func humanSize(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1024, 0
	for value >= 1023.5 && unit < 4 {
		value /= 1024
		unit++
	}
	digits := 1
	if value >= 10 {
		digits = 0
	}
	return fmt.Sprintf("%.*f %ciB", digits, value, "KMGTP"[unit])
}

// parseSize reads a number of bytes, with K, M, G or T for powers of 1024.
func parseSize(s string) (int64, bool) {
	digits := strings.TrimRight(strings.TrimSuffix(strings.TrimSuffix(s, "B"), "i"), "kKMGT")
	unit := strings.TrimSuffix(strings.TrimSuffix(strings.TrimPrefix(s, digits), "B"), "i")
	n, err := strconv.ParseInt(digits, 10, 64)
	power, known := map[string]int{"": 0, "k": 10, "K": 10, "M": 20, "G": 30, "T": 40}[unit]
	if err != nil || n < 0 || !known || n > math.MaxInt64>>power {
		return 0, false
	}
	return n << power, true
}

// plural gives "1 file", "2 files".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if strings.HasSuffix(noun, "ch") {
		noun += "e"
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
