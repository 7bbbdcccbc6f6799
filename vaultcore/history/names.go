package history

import (
	"crypto/sha256"
	"encoding/hex"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Limits of shown names, in bytes.
const (
	maxComponent = 255
	maxPath      = 4096
	maxExt       = 32 // what is longer is no extension
)

// HiddenTitle is the directory in the root of a drive that no asset can be.
const HiddenTitle = ".vaultdrive"

// ReservedTitle says whether the root of a drive must not show an asset under
// this name: the hidden directory, the probe of the FUSE library, and the trash
// directories that desktops make on every drive.
func ReservedTitle(name string) bool {
	return name == HiddenTitle || name == ".go-fuse-epoll-hack" || strings.HasPrefix(name, ".Trash")
}

// ShownComponent maps a stored component to one a kernel can show. Mapping a
// shown component again changes nothing.
func ShownComponent(stored string) string {
	switch stored {
	case "":
		return "%"
	case ".":
		return "%2E"
	case "..":
		return "%2E%2E"
	}
	shown := stored
	if strings.ContainsAny(stored, "\x00/") {
		shown = strings.NewReplacer("\x00", "%00", "/", "%2F").Replace(stored)
	}
	if len(shown) <= maxComponent {
		return shown
	}
	sum := sha256.Sum256([]byte(stored))
	tail := "~" + hex.EncodeToString(sum[:4])
	return cut(shown, maxComponent-len(tail)) + tail
}

// RecoveredTitle is what an asset is shown as whose record has not come.
func RecoveredTitle(id seal.ID) string { return "recovered-" + id.Hex()[:8] }

// ShownTitle is ShownComponent for an asset; reserved titles are escaped, so
// that one from elsewhere cannot hide the drive's own directory.
func ShownTitle(title string) string {
	shown := ShownComponent(strings.ToValidUTF8(title, "\uFFFD"))
	if ReservedTitle(shown) {
		return ShownComponent("%2E" + shown[1:])
	}
	return shown
}

// shownPath maps a stored name to the path of an unnamed or a shown file.
func shownPath(stored string, id seal.ID) string {
	if shown, ok := spelled(stored); ok {
		return shown
	}
	return seal.UnnamedName(id)
}

// Nameable says whether a stored name is shown as the path it spells. Else, not UTF-8,
// or too long or too deep, it is no path at all and its file is shown unnamed: a few
// kilobytes of a record would make thousands of folders on every device.
func Nameable(stored string) bool {
	_, ok := spelled(stored)
	return ok
}

func spelled(stored string) (shown string, ok bool) {
	if stored == "" || strings.Count(stored, "/") >= seal.MaxDepth || !utf8.ValidString(stored) {
		return "", false
	}
	if plainPath(stored) {
		return stored, true
	}
	parts := strings.Split(stored, "/")
	for i, p := range parts {
		parts[i] = ShownComponent(p)
	}
	shown = strings.Join(parts, "/")
	return shown, len(shown) <= maxPath
}

// plainPath says whether every component is shown as it is stored.
func plainPath(name string) bool {
	if len(name) > maxPath {
		return false
	}
	for more := true; more; {
		var part string
		part, name, more = strings.Cut(name, "/")
		if part == "" || part == "." || part == ".." || len(part) > maxComponent || strings.IndexByte(part, 0) >= 0 {
			return false
		}
	}
	return true
}

// cut shortens s to at most n bytes of whole characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n = max(n, 0); n > 0 && !utf8.RuneStart(s[n]); {
		n--
	}
	return s[:n]
}

// suffix is what tells a file from another with the same plain path.
type suffix struct {
	label  string // "" or "conflict <device> <date> "
	digits string // 32 hexadecimal digits: of the id, or of a digest
}

const (
	minDigits = 4
	maxDigits = 32
)

// with puts the suffix before the extension of the last component, with n of
// its digits and then more. What must give way to it is the end of the stem, by
// as much as the longest form needs, so the place of the cut never depends on n.
// A folder too deep for any suffix shows its file in the one above.
func (s suffix) with(plain string, n int, more string) string {
	dir, base := path.Split(plain)
	stem, ext := splitExt(base)
	longest := len(" (") + len(s.label) + maxDigits + len("-9999999)")
	for dir != "" && len(dir)+longest+len(ext) > maxPath {
		dir, _ = path.Split(strings.TrimSuffix(dir, "/"))
	}
	room := min(maxComponent, maxPath-len(dir)) - longest - len(ext)
	return dir + cut(stem, room) + " (" + s.label + s.digits[:n] + more + ")" + ext
}

func splitExt(base string) (stem, ext string) {
	ext = path.Ext(base)
	if len(ext) == len(base) || len(ext) > maxExt {
		return base, ""
	}
	return base[:len(base)-len(ext)], ext
}

// createSuffix tells apart attachments, or assets, that were born with one name.
func createSuffix(id seal.ID) suffix { return suffix{digits: id.Hex()} }

// conflictSuffix names the first record of a branch: who wrote it, and when.
func conflictSuffix(first *version) suffix {
	return suffix{
		label:  "conflict " + first.dev.shown() + " " + first.hlc.Time().Format("2006-01-02") + " ",
		digits: hex.EncodeToString(first.digest[:maxDigits/2]),
	}
}

// shown gives the first name of a device; one that has none yet shows its id.
// What could be mistaken for structure of a path or a suffix becomes "_".
func (d *device) shown() string {
	if len(d.names) == 0 {
		return d.id.Hex()[:8]
	}
	name := strings.Map(func(r rune) rune {
		if strings.ContainsRune("/()", r) || r == utf8.RuneError || !unicode.IsPrint(r) {
			return '_'
		}
		return r
	}, cut(strings.ToValidUTF8(d.names[0].Name, "_"), 64))
	if name = strings.TrimSpace(name); name == "" {
		return d.id.Hex()[:8]
	}
	return name
}
