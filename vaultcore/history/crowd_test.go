package history

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// crowd is what a device that keeps to no rule can sign: records that all want one
// name, under ids chosen so that only the last of their digits differ, or all of one id.
func crowd(n, from int, oneID bool) (ops Ops) {
	for i := from; i < from+n; i++ {
		r := Record{
			At: At{Device: seal.ID{7}, Seq: uint64(i + 1), HLC: HLC(noon+int64(i)) << 16}, ID: seal.ID{1}, Rev: 1,
			Parent: Parent{Type: 3, ID: seal.ID{9}}, Name: "one.txt", MIME: "text/plain",
		}
		if !oneID {
			binary.BigEndian.PutUint32(r.ID[12:], uint32(i))
		}
		binary.BigEndian.PutUint32(r.Digest[12:], uint32(i+1))
		binary.BigEndian.PutUint32(r.Blob[12:], uint32(i+1))
		ops.Records = append(ops.Records, r)
	}
	return ops
}

// What thousands of files of one name cost is theirs alone: one more of them asks
// nobody else for another name, and each has one.
func TestCrowd(t *testing.T) {
	const many, more = 3000, 100
	h := New()
	h.Add(crowd(many, 0, false))
	c := h.Add(crowd(more, many, false))
	// Beside the new ones, whoever looked like one of them in all digits but the last.
	if got := len(c.Attachments); got > many+more {
		t.Errorf("%d files may have another name", got)
	}
	touched := 0
	for _, s := range []*space{h.assets[seal.ID{9}].names} {
		s.touched = func(*thread) { touched++ }
		s.add(&claim{t: &thread{id: seal.ID{2}}, born: stamp{hlc: HLC(noon+many*2) << 16, dev: &device{}}, path: "one.txt"})
		s.flush()
	}
	if touched > 3 {
		t.Errorf("one file more asks %d for another name", touched)
	}
	names := make(map[string]bool)
	for id := range h.Attachments() {
		for _, f := range h.Attachment(id, nil).Live {
			if names[f.Name] || !strings.HasPrefix(f.Name, "one") {
				t.Fatalf("two files are called %s", f.Name)
			}
			names[f.Name] = true
		}
	}
	if len(names) != many+more {
		t.Errorf("%d of %d files have names", len(names), many+more)
	}
}

// One id with thousands of contents is settled once for all that a call brings: what it
// takes grows with their number, and not with its square.
func TestCrowdOfCopies(t *testing.T) {
	const many = 3000
	h := New()
	h.Add(crowd(many, 0, true))
	names := h.assets[seal.ID{9}].names
	asked, touched := 0, names.touched
	names.touched = func(t *thread) { asked++; touched(t) }
	h.Add(crowd(1, many, true))
	if asked > 10*many {
		t.Errorf("one content more has %d looked at, %d times each", many, asked/many)
	}
	shown := make(map[string]bool)
	live := h.Attachment(seal.ID{1}, nil).Live
	for _, f := range live {
		shown[f.Name] = true
	}
	if len(live) != many+1 || len(shown) != many+1 || !shown["one.txt"] {
		t.Errorf("%d contents under %d names", len(live), len(shown))
	}
}

// A name that is no path is shown as a file of its own, in one place; its depth would
// make thousands of folders of one record.
func TestTooDeep(t *testing.T) {
	id := seal.ID{0xab, 0xcd, 0xef, 0x01}
	deepest := strings.Repeat("d/", seal.MaxDepth-1) + "f"
	for name, want := range map[string]string{
		deepest:                      deepest,
		"d/" + deepest:               "unnamed-abcdef01",
		strings.Repeat("/", 4096):    "unnamed-abcdef01",
		strings.Repeat("a/", 2047):   "unnamed-abcdef01",
		strings.Repeat("\x00", 4096): "", // one component, cut to 255 bytes
		strings.Repeat("\x00/", 127): "", // each "%00"
		strings.Repeat(strings.Repeat("\x00", 80)+"/", 20): "unnamed-abcdef01",
		"a//b": "a/%/b",
	} {
		got := shownPath(name, id)
		if want == "" && (got == "unnamed-abcdef01" || len(got) > maxPath) || want != "" && got != want {
			t.Errorf("%.20q… is shown as %.40q", name, got)
		}
		if Nameable(name) != (got != "unnamed-abcdef01") {
			t.Errorf("%.20q…: nameable %v", name, Nameable(name))
		}
	}
	h := New()
	var ops Ops
	for i := range 512 {
		r := crowd(1, i, false).Records[0]
		r.Name = fmt.Sprint(i, "/", strings.Repeat("a/", 2000))
		ops.Records = append(ops.Records, r)
	}
	h.Add(ops)
	if n := len(h.assets[seal.ID{9}].names.folders); n > 0 {
		t.Errorf("%d folders", n)
	}
}
