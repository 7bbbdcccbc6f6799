package vaultcore

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// injection is a row that a server makes up out of what it has, and what a device
// makes of it.
type injection struct {
	make func(w *injecting) ServerRow
	// shown is the path it is listed under; "" for a row that is none. A %s in it is
	// the begin of its id.
	shown string
	// problem is a part of why nothing can be read of it; "": it opens, or fails when
	// it is read.
	problem string
	reads   string // what it reads as
	damaged bool   // reading it is ErrDamaged
}

// injecting is what a server has to make rows out of.
type injecting struct {
	*page
	ada   *device
	asset seal.ID
	good  ServerRow // of a client
	other ServerRow // of another
	file  ServerRow // of a file of the drive
	dead  seal.ID   // id of a file that was deleted
}

func (w *injecting) again(r ServerRow) ServerRow {
	r.ID, r.Number, r.Client = seal.NewID(), 1, true
	return r
}

// named seals names anew, as only a client with the keys can.
func (w *injecting) named(name, mime string) ServerRow {
	return w.upload(w.asset, made{name: name, mime: mime, content: []byte("evil")})
}

var injections = map[string]injection{
	"copy of a client's row": {make: func(w *injecting) ServerRow { return w.again(w.good) }, shown: "A/good.txt", reads: "good"},
	"copy of a drive's file": {make: func(w *injecting) ServerRow { return w.again(w.file) }, shown: "A/f.txt", reads: "f"},
	"made up of nothing": {make: func(w *injecting) ServerRow { return ServerRow{ID: seal.NewID(), Number: 1, Client: true} },
		shown: "unnamed-00000000/unnamed-%s", problem: "opens under no key"},
	"key of another": {make: func(w *injecting) ServerRow { r := w.again(w.good); r.Key = w.other.Key; return r },
		shown: "A/unnamed-%s", damaged: true},
	"key that the server knows": {make: func(w *injecting) ServerRow { r := w.again(w.good); r.Key = bytes.Repeat([]byte{7}, 60); return r },
		shown: "A/unnamed-%s", problem: "opens under no key"},
	"blob of another": {make: func(w *injecting) ServerRow {
		r := w.again(w.good)
		r.Blob, r.SHA256, r.Len, r.Size = w.other.Blob, w.other.SHA256, w.other.Len, w.other.Size
		return r
	}, shown: "A/good.txt", damaged: true},
	"blob of a drive's file under a client's key": {make: func(w *injecting) ServerRow {
		r := w.again(w.good)
		r.Blob, r.SHA256, r.Len, r.Size = w.file.Blob, w.file.SHA256, w.file.Len, w.file.Size
		return r
	}, shown: "A/good.txt", damaged: true},
	"blob that is not there":  {make: func(w *injecting) ServerRow { r := w.again(w.good); r.Blob = seal.NewBlobID(); return r }, shown: "A/good.txt", damaged: true},
	"other bytes in the blob": {make: func(w *injecting) ServerRow { r := w.again(w.good); r.SHA256[0]++; return r }, shown: "A/good.txt", damaged: true},
	"huge": {make: func(w *injecting) ServerRow {
		r := w.again(w.good)
		r.Size, r.Len = 1<<40, 1<<40+28
		return r
	}, shown: "A/good.txt", problem: "its sizes or its version"},
	"huge, of version 4": {make: func(w *injecting) ServerRow {
		r := w.again(w.good)
		r.Version, r.Size = seal.V4, 1<<39
		r.Len = seal.SealedSizeV4(r.Size)
		return r
	}, shown: "A/unnamed-%s", damaged: true},
	"negative size":         {make: func(w *injecting) ServerRow { r := w.again(w.good); r.Size, r.Len = -28, 0; return r }, shown: "A/good.txt", problem: "its sizes"},
	"version relabelled":    {make: func(w *injecting) ServerRow { r := w.again(w.good); r.Version = 9; return r }, shown: "A/unnamed-%s", problem: "its sizes or its version"},
	"name and type swapped": {make: func(w *injecting) ServerRow { r := w.again(w.good); r.Name, r.MIME = r.MIME, r.Name; return r }, shown: "A/text/plain", reads: "good"},
	"wrapped key as name":   {make: func(w *injecting) ServerRow { r := w.again(w.good); r.Name = r.Key; return r }, shown: "A/unnamed-%s", reads: "good"},
	"moved to another item": {make: func(w *injecting) ServerRow { r := w.again(w.good); r.Parent = seal.NewID(); return r }, shown: "unnamed-*/good.txt", reads: "good"},
	"moved into a file":     {make: func(w *injecting) ServerRow { r := w.again(w.good); r.Parent = w.file.ID; return r }, shown: "unnamed-*/good.txt", reads: "good"},
	"of an epoch to come":   {make: func(w *injecting) ServerRow { r := w.again(w.good); r.Epoch = 77; return r }, shown: "A/unnamed-%s", problem: "opens under no key"},
	"id of a deleted file":  {make: func(w *injecting) ServerRow { r := w.again(w.good); r.ID = w.dead; return r }},
	"climbing name":         {make: func(w *injecting) ServerRow { return w.named("../../../etc/passwd", "") }, shown: "A/%2E%2E/%2E%2E/%2E%2E/etc/passwd", reads: "evil"},
	"absolute name":         {make: func(w *injecting) ServerRow { return w.named("/etc//passwd", "") }, shown: "A/%/etc/%/passwd", reads: "evil"},
	"bidi name":             {make: func(w *injecting) ServerRow { return w.named("invoice\u202efdp.exe", "") }, shown: "A/invoice%E2%80%AEfdp.exe", reads: "evil"},
	"control characters":    {make: func(w *injecting) ServerRow { return w.named("a\n\x1b[2J\x00b", "") }, shown: "A/a%0A%1B[2J%00b", reads: "evil"},
	"long name":             {make: func(w *injecting) ServerRow { return w.named(strings.Repeat("n", 9000), "") }, shown: "A/unnamed-%s", reads: "evil"},
	"deep name":             {make: func(w *injecting) ServerRow { return w.named(strings.Repeat("d/", 1500)+"f", "") }, shown: "A/unnamed-%s", reads: "evil"},
	"folder with content":   {make: func(w *injecting) ServerRow { return w.named("dir", mimeFolder) }, shown: "A/dir", reads: "evil"},
	"link out of the drive": {make: func(w *injecting) ServerRow { return w.named("link", mimeSymlink) }, shown: "A/link", reads: "evil"},
}

// TestInjectedRow: whatever row a server makes up, it is no file of the drive: it
// is shown apart under a name that is no other's, reads as what its key
// authenticates or not at all, and changes nothing on any device. What the device
// holds is never taken for it.
func TestInjectedRow(t *testing.T) {
	t.Parallel()
	for name, in := range injections {
		t.Run(name, func(t *testing.T) {
			f, ada, bob, s, p := unverifiedWorld(t)
			w := injectingAt(f, ada, p)
			w.good = p.upload(w.asset, made{name: "good.txt", mime: "text/plain", content: []byte("good")})
			w.other = p.upload(w.asset, made{name: "other.txt", mime: "text/plain", content: []byte("of another length")})
			row := in.make(w)
			delete(s.rows, w.good.key())
			delete(s.rows, w.other.key())
			s.rows[row.key()] = row
			s.puts = 0
			for i, d := range []*device{ada, bob} {
				row.Number = int64(100 * (i + 1)) // also where the first has written over it
				s.rows[row.key()] = row
				before := d.list()
				faults, _ := s.tell(d, false)
				checkInjected(t, d, &in, &row, faults)
				if got := d.list(); got != before {
					t.Errorf("%s shows\n%s, and showed\n%s", d.name, got, before)
				}
				d.wantContent("A/f.txt", []byte("f")) // with its own key, whatever was read before
			}
		})
	}
}

func injectingAt(f *fleet, ada *device, p *page) *injecting {
	ada.write("A/gone.txt", "gone")
	p.s.travel(f)
	p.s.take(ada, true)
	w := &injecting{page: p, ada: ada, asset: ada.mustFind("A").id, file: p.s.row(ada, "A/f.txt"), dead: ada.mustFind("A/gone.txt").id}
	ada.remove("A/gone.txt")
	p.s.travel(f)
	for _, d := range f.devices {
		p.s.tell(d, true)
	}
	return w
}

func checkInjected(t *testing.T, d *device, in *injection, row *ServerRow, faults []RowFault) {
	t.Helper()
	list := d.unverified()
	if in.shown == "" {
		if len(list) > 0 || len(faults) == 0 {
			t.Errorf("%s lists %v, faults %v", d.name, paths(list), faults)
		}
		return
	}
	if len(list) != 1 || len(faults) > 0 {
		t.Fatalf("%s lists %v, faults %v", d.name, paths(list), faults)
	}
	u := list[0]
	if want := strings.Replace(in.shown, "%s", row.ID.Hex()[:8], 1); !matches(u.Path, want) || !utf8.ValidString(u.Path) || strings.ContainsFunc(u.Path, UnsafeRune) {
		t.Errorf("%s shows it as %q, want %q", d.name, u.Path, want)
	}
	for _, part := range strings.Split(u.Path, "/") {
		if part == "" || part == "." || part == ".." || len(part) > MaxComponent {
			t.Errorf("%s shows a component %q", d.name, part)
		}
	}
	got, err := d.readUnverified(u)
	switch {
	case in.problem != "":
		if !strings.Contains(u.Problem, in.problem) || !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: problem %q, %v", d.name, u.Problem, err)
		}
	case in.damaged:
		if !errors.Is(err, ErrDamaged) || len(got) > 0 {
			t.Errorf("%s: read as %q, %v", d.name, got, err)
		}
	case err != nil || string(got) != in.reads || u.Problem != "":
		t.Errorf("%s: read as %q, %v, %q", d.name, got, err, u.Problem)
	}
	if in.problem != "" || in.damaged {
		if done, err := d.Adopt(context.Background(), u); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: adopted: %+v, %v", d.name, done, err)
		}
	}
}

// matches compares with a pattern in which a star stands for anything.
func matches(got, want string) bool {
	begin, end, star := strings.Cut(want, "*")
	if !star {
		return got == want
	}
	return strings.HasPrefix(got, begin) && strings.HasSuffix(got, end)
}

// What a person takes over of all that harms nothing else: every other file stays,
// and all devices show the same.
func TestAdoptInjected(t *testing.T) {
	t.Parallel()
	for name, in := range injections {
		if in.problem != "" || in.damaged || in.shown == "" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			f, ada, bob, s, p := unverifiedWorld(t)
			w := injectingAt(f, ada, p)
			w.good = p.upload(w.asset, made{name: "good.txt", mime: "text/plain", content: []byte("good")})
			delete(s.rows, w.good.key())
			row := in.make(w)
			s.rows[row.key()] = row
			s.tell(ada, false)
			s.tell(bob, false)
			done, err := ada.Adopt(context.Background(), ada.unverified()[0])
			if err != nil {
				t.Fatal(err)
			}
			f.fetching(ada)
			s.travel(f)
			f.agree()
			s.travel(f)
			for _, d := range f.devices {
				if faults, _ := s.tell(d, true); slices.ContainsFunc(faults, func(f RowFault) bool { return f.Altered }) {
					t.Errorf("%s: faults %v", d.name, faults)
				}
				d.wantContent("A/f.txt", []byte("f"))
				n := d.mustFind(done.Path)
				if n.kind == KindSymlink {
					continue
				}
				d.wantContent(done.Path, []byte(in.reads))
			}
			for _, d := range f.devices {
				if left := d.unverified(); len(left) > 0 {
					t.Errorf("%s: still unverified: %v", d.name, paths(left))
				}
				if report, err := d.Check(context.Background(), CheckOptions{Deep: true}); err != nil || len(report.Problems) > 0 {
					t.Errorf("%s: check: %+v, %v", d.name, report.Problems, err)
				}
			}
		})
	}
}
