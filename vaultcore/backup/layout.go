// Package backup writes and reads .nt2backup files: one tar that holds a vault's
// headers, its log and the contents of its files, with a signed manifest in
// front that fixes every byte of the layout behind it. What is written here can
// be proved without a password, and opened with the one it was made under.
//
// The package refuses to know where a backup comes from or goes to, how a vault
// keeps its rows, and how anything is shown to a person. It trusts nothing it
// reads: no number of a file sizes memory, no name of a file becomes a path.
package backup

import (
	"errors"
	"fmt"
	"strconv"
)

// What may be wrong with a backup. Errors of what is in it (a signature, a chain,
// a key) are those of package seal beside ErrContent.
var (
	// ErrLayout: not the members, in the order and with the tar headers, that the
	// manifest asks for; or the file ends early, or goes on behind its end.
	ErrLayout = errors.New("not the layout of a backup")
	// ErrHash: a member is not what the manifest says.
	ErrHash = errors.New("a part of the backup was altered or damaged")
	// ErrContent: headers, log and manifest do not prove each other.
	ErrContent = errors.New("the backup does not prove itself")
	// ErrForeign: the backup of another vault than was asked for.
	ErrForeign = errors.New("backup of another vault")
	// ErrIncomplete: contents of live files are not in the backup.
	ErrIncomplete = errors.New("contents are missing")
)

// The tar: ustar headers of 512 bytes, and in front of a member of 8 GiB or more
// a PAX header with its size. For a name, a size and a time there is exactly one
// header, so a reader compares bytes and interprets nothing.
const (
	block       = 512
	maxOctal    = 1<<33 - 1 // the largest size that eleven octal digits hold
	trailerSize = 2 * block

	nameManifest = "manifest.json"
	nameSig      = "manifest.sig"
	nameMAC      = "manifest.mac"
)

// memberHead gives the tar header of a regular file, mode 0600, of nobody.
func memberHead(name string, size, mtime int64) []byte {
	if size <= maxOctal {
		return ustar(name, '0', 0o600, size, mtime)
	}
	record := sizeRecord(size)
	head := ustar(paxName(name), 'x', 0, int64(len(record)), 0)
	head = append(head, record...)
	head = append(head, make([]byte, padding(int64(len(record))))...)
	return append(head, ustar(name, '0', 0o600, 0, mtime)...)
}

// sizeRecord is the PAX record "‹length› size=‹n›\n", which counts itself.
func sizeRecord(size int64) string {
	text := " size=" + strconv.FormatInt(size, 10) + "\n"
	n := len(text)
	for n != len(text)+len(strconv.Itoa(n)) {
		n = len(text) + len(strconv.Itoa(n))
	}
	return strconv.Itoa(n) + text
}

// paxName is what the header of a PAX header is called: only blobs are so large,
// and they lie in one directory.
func paxName(name string) string {
	const dir = "blobs/"
	return dir + "PaxHeaders.0/" + name[len(dir):]
}

func ustar(name string, kind byte, mode, size, mtime int64) []byte {
	b := make([]byte, block)
	copy(b[0:100], name) // the longest has 90 bytes
	octal(b[100:108], mode)
	octal(b[108:116], 0) // owner
	octal(b[116:124], 0) // group
	octal(b[124:136], size)
	octal(b[136:148], mtime)
	b[156] = kind
	copy(b[257:265], "ustar\x0000")
	if kind == '0' {
		octal(b[329:337], 0) // device numbers
		octal(b[337:345], 0)
	}
	sum := 8 * int64(' ') // the field itself counts as spaces
	for _, c := range b {
		sum += int64(c)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// octal fills a field with digits and a zero byte behind them.
func octal(field []byte, n int64) {
	copy(field, fmt.Sprintf("%0*o\x00", len(field)-1, n))
}

// parseOctal reads what octal writes, and the caller compares the rest.
func parseOctal(field []byte) (int64, bool) {
	n, err := strconv.ParseInt(string(field[:len(field)-1]), 8, 64)
	return n, err == nil && n >= 0
}

// padding is what fills a member up to whole blocks.
func padding(size int64) int64 { return (block - size%block) % block }

// memberSize is what a member takes in the file.
func memberSize(name string, size int64) int64 {
	head := int64(block)
	if size > maxOctal {
		head = 3 * block
	}
	return head + size + padding(size)
}
