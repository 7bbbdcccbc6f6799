package history

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

func TestSuffixText(t *testing.T) {
	long := strings.Repeat("x", 251) + ".pdf"
	deep := strings.Repeat("d/", 2046)
	v := &version{digest: Digest{0x1a, 0x2b, 0x3c, 0x4d}}
	v.dev, v.hlc = &device{names: []DeviceName{{Name: "laptop"}}}, HLC(noon)<<16
	id := seal.ID{0xab, 0xcd, 0xef}
	for _, c := range []struct {
		s     suffix
		plain string
		n     int
		want  string
	}{
		{createSuffix(id), "a.txt", 4, "a (abcd).txt"},
		{createSuffix(id), "a.txt", 8, "a (abcdef00).txt"},
		{createSuffix(id), "a", 4, "a (abcd)"},
		{createSuffix(id), ".rc", 4, ".rc (abcd)"},
		{createSuffix(id), "x.y/a", 4, "x.y/a (abcd)"},
		{createSuffix(id), "a." + strings.Repeat("e", 40), 4, "a." + strings.Repeat("e", 40) + " (abcd)"},
		{createSuffix(id), long, 4, strings.Repeat("x", 208) + " (abcd).pdf"},
		{createSuffix(id), "é" + strings.Repeat("é", 126), 4, strings.Repeat("é", 106) + " (abcd)"},
		{createSuffix(id), deep + "abc", 4, strings.Repeat("d/", 2026) + "a (abcd)"},
		{conflictSuffix(v), "a.txt", 4, "a (conflict laptop 2026-03-01 1a2b).txt"},
		{conflictSuffix(v), "f/a.txt", 8, "f/a (conflict laptop 2026-03-01 1a2b3c4d).txt"},
	} {
		if got := c.s.with(c.plain, c.n, ""); got != c.want {
			t.Errorf("%.40q with %d digits:\n got %.300q\nwant %.300q", c.plain, c.n, got, c.want)
		}
	}
}

func TestDeviceNames(t *testing.T) {
	for name, want := range map[string]string{
		"laptop": "laptop", "ada.local": "ada.local", "a/b (c)": "a_b _c_", "  ": "0f000000", "": "0f000000",
		"\x00\xff\u202e": "___", strings.Repeat("é", 40): strings.Repeat("é", 32),
	} {
		d := &device{id: seal.ID{0x0f}, names: []DeviceName{{Name: name}}}
		if got := d.shown(); got != want {
			t.Errorf("%q is shown as %q, want %q", name, got, want)
		}
	}
}

func TestShownNames(t *testing.T) {
	id := seal.ID{0x12, 0x34, 0x56, 0x78}
	for _, c := range []struct{ stored, want string }{
		{"a/b/c.txt", "a/b/c.txt"}, {"", "unnamed-12345678"}, {"\xff", "unnamed-12345678"},
		{"a//b", "a/%/b"}, {"../x", "%2E%2E/x"}, {"a/./b", "a/%2E/b"}, {"a\x00b", "a%00b"}, {"/", "%/%"},
		{strings.Repeat("\x00", 2000), ""}, {strings.Repeat("a\x00/", 1300), "unnamed-12345678"},
	} {
		got := shownPath(c.stored, id)
		if c.want != "" && got != c.want {
			t.Errorf("%.20q is shown as %q, want %q", c.stored, got, c.want)
		}
		checkShown(t, got)
		if again := shownPath(got, id); again != got {
			t.Errorf("%q shown again is %q", got, again)
		}
	}
	for title, want := range map[string]string{".vaultdrive": "%2Evaultdrive", ".Trash-1000": "%2ETrash-1000", "a/b": "a%2Fb", "": "%", "\xff": "\uFFFD", ".x": ".x"} {
		if got := ShownTitle(title); got != want {
			t.Errorf("title %q is shown as %q, want %q", title, got, want)
		}
	}
}

func TestLongReservedTitle(t *testing.T) {
	got := ShownTitle(".Trash" + strings.Repeat("h", 249))
	if checkShown(t, got); ReservedTitle(got) || ShownTitle(got) != got {
		t.Errorf("shown as %q", got)
	}
}

// TestLongerDigits: both of two suffixes that begin alike get longer ones, and
// a plain name that looks like a suffix is never taken.
func TestLongerDigits(t *testing.T) {
	h := New()
	add := func(n byte, name string, id seal.ID) {
		at := At{Device: seal.ID{1}, Seq: uint64(n), HLC: HLC(n)}
		h.Add(Ops{Records: []Record{{At: at, ID: id, Digest: Digest{n}, Rev: 1, Name: name, Blob: seal.ID{n}}}})
	}
	name := func(id seal.ID) string { return h.Attachment(id, nil).Live[0].Name }
	check := func(id seal.ID, want string) {
		t.Helper()
		if got := name(id); got != want {
			t.Errorf("shown as %q, want %q", got, want)
		}
	}
	one, two, three := seal.ID{1}, seal.ID{0xab, 0xcd, 0x11}, seal.ID{0xab, 0xcd, 0x22}
	add(1, "a.txt", one)
	add(2, "a.txt", two)
	check(one, "a.txt")
	check(two, "a (abcd).txt")
	add(3, "a.txt", three)
	check(two, "a (abcd1100).txt")
	check(three, "a (abcd2200).txt")
	add(4, "a (abcd2200).txt", seal.ID{4})
	check(three, "a (abcd22000000).txt")
	add(5, "a (abcd1100).txt/x", seal.ID{5})
	check(two, "a (abcd11000000).txt")
}

func checkShown(t interface{ Errorf(string, ...any) }, name string) {
	if len(name) > maxPath || !utf8.ValidString(name) {
		t.Errorf("no valid name: %q", name)
	}
	for _, p := range strings.Split(name, "/") {
		if p == "" || p == "." || p == ".." || len(p) > maxComponent || strings.IndexByte(p, 0) >= 0 {
			t.Errorf("no valid component: %q", p)
		}
	}
}
