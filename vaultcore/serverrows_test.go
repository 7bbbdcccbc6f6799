package vaultcore

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// rowServer is what a server keeps of rows: it takes what it is given, and may say
// otherwise.
type rowServer struct {
	t    *testing.T
	rows map[rowKey]ServerRow
	puts int
}

func newRowServer(t *testing.T) *rowServer {
	return &rowServer{t: t, rows: make(map[rowKey]ServerRow)}
}

// take writes what a device has to write until nothing is left.
func (s *rowServer) take(d *device, all bool) (faults []RowFault, claims []seal.ID) {
	s.t.Helper()
	for range 100 {
		w, err := d.ServerWork(context.Background(), all, 3)
		if err != nil {
			s.t.Fatal(err)
		}
		faults, claims = append(faults, w.Faults...), append(claims, w.Claim...)
		for i := range w.Rows {
			r := &w.Rows[i]
			old := s.rows[r.key()]
			if old.Number != r.Number {
				s.t.Fatalf("row written over version %d, the server has %d", r.Number, old.Number)
			}
			if s.puts++; !r.Asset {
				r.Number++
			}
			s.rows[r.key()] = *r
		}
		if err := d.ServerRowsPut(context.Background(), w.Rows); err != nil {
			s.t.Fatal(err)
		}
		if !w.More && len(w.Rows) == 0 {
			return faults, claims
		}
	}
	s.t.Fatal("there is always more to write")
	return nil, nil
}

// tell has the server say what it has to a device, which looks at once.
func (s *rowServer) tell(d *device, all bool) (faults []RowFault, claims []seal.ID) {
	s.t.Helper()
	var rows []ServerRow
	for _, r := range s.rows {
		rows = append(rows, r)
	}
	if err := d.NoteServerRows(context.Background(), rows); err != nil {
		s.t.Fatal(err)
	}
	return s.take(d, all)
}

// travel lets what changed reach every device, and leaves them open.
func (s *rowServer) travel(f *fleet) {
	s.t.Helper()
	for range 2 {
		for _, d := range f.devices {
			d.push()
		}
		for _, d := range f.devices {
			d.pull()
		}
	}
}

// row is that of a file.
func (s *rowServer) row(d *device, path string) ServerRow {
	s.t.Helper()
	r, ok := s.rows[rowKey{false, d.mustFind(path).id}]
	if !ok {
		s.t.Fatalf("no row of %s", path)
	}
	return r
}

func (s *rowServer) wantPuts(what string, n int) {
	s.t.Helper()
	if s.puts != n {
		s.t.Errorf("%s: %d rows written, want %d", what, s.puts, n)
	}
	s.puts = 0
}

// A device writes what differs, once, and another finds that it agrees.
func TestServerRows(t *testing.T) {
	f, ada, bob := twoWithFile(t)
	s := newRowServer(t)
	ada.write("A/.~lock.f.txt#", "scratch")
	ada.mkdir("A/Folder")
	s.travel(f)
	s.take(ada, true)
	s.wantPuts("asset, file and folder", 3)
	r := s.row(ada, "A/f.txt")
	key, err := ada.keys.unwrap(r.Epoch, r.Key)
	if err != nil {
		t.Fatal(err)
	}
	if name, err := seal.OpenField(int(r.Version), &key, ada.keys.vaultID(), r.ID, seal.FieldName, r.Name); err != nil || name != "f.txt" {
		t.Errorf("name %q, %v", name, err)
	}
	if faults, _ := s.tell(bob, true); len(faults) > 0 {
		t.Errorf("faults %v", faults)
	}
	s.wantPuts("the other device", 0)
	ada.reopen()
	s.take(ada, true)
	s.tell(ada, true)
	s.wantPuts("again after a restart", 0)

	bob.rename("A/f.txt", "A/g.txt")
	s.travel(f)
	s.take(ada, false)
	s.wantPuts("what the other renamed is its to write", 0)
	s.take(bob, false)
	s.wantPuts("a rename", 1)
	if faults, _ := s.tell(ada, true); len(faults) > 0 {
		t.Errorf("faults %v", faults)
	}
	s.wantPuts("the rename at the other device", 0)

	bob.write("A/g.txt", "other content")
	bob.sealAll(SealOptions{})
	bob.pushBatches()
	s.take(bob, true)
	s.wantPuts("before the content is there", 0)
	s.travel(f)
	s.take(ada, true) // bob went away in between
	s.wantPuts("what was left behind", 1)
	bob.reopen()
	s.tell(bob, true)
	s.wantPuts("what the other wrote for it", 0)

	ada.remove("A/g.txt")
	s.travel(f)
	s.take(ada, false)
	s.wantPuts("a delete", 1)
	if faults, _ := s.tell(bob, true); len(faults) > 0 {
		t.Errorf("faults %v", faults)
	}
	s.wantPuts("the delete at the other device", 0)
}

// A conflict has one row, of the file that has the name.
func TestServerRowOfConflict(t *testing.T) {
	f, ada, bob := twoWithFile(t)
	ada.write("A/f.txt", "of ada")
	bob.write("A/f.txt", "of bob")
	f.sync()
	s := newRowServer(t)
	s.take(ada, true)
	s.wantPuts("asset and file", 2)
	if r := s.row(ada, "A/f.txt"); r.Blob != ada.mustFind("A/f.txt").content.ref.blob {
		t.Errorf("the row has the content of the conflict copy")
	}
	s.tell(bob, true)
	s.wantPuts("the other device", 0)
}

// Rows that no record names are left alone, whatever they say.
func TestServerRowUnnamed(t *testing.T) {
	_, ada, _ := twoWithFile(t)
	s := newRowServer(t)
	s.take(ada, true)
	r := s.row(ada, "A/f.txt")
	s.puts, r.ID, r.Client = 0, seal.NewID(), true
	s.rows[r.key()] = r
	before := ada.list()
	if faults, _ := s.tell(ada, true); len(faults) > 0 {
		t.Errorf("faults %v", faults)
	}
	s.wantPuts("a row of a client", 0)
	if ada.list() != before {
		t.Errorf("shows\n%s", ada.list())
	}
}

// A client's delete is a wish: the content is claimed back, the file stays, and
// its next change is written again.
func TestServerRowDeleteAsked(t *testing.T) {
	f, ada, _ := twoWithFile(t)
	s := newRowServer(t)
	s.take(ada, true)
	s.puts = 0
	r := s.row(ada, "A/f.txt")
	r.Deleted, r.Client, r.Number = true, true, r.Number+1
	s.rows[r.key()] = r
	faults, claims := s.tell(ada, true)
	if len(faults) != 1 || !faults[0].Asked || faults[0].Altered || !strings.Contains(faults[0].String(), "A/f.txt") {
		t.Errorf("faults %v", faults)
	}
	if !slices.Contains(claims, r.Blob) {
		t.Errorf("claims %v, not %v", claims, r.Blob)
	}
	ada.reopen()
	if faults, claims := s.tell(ada, true); len(faults)+len(claims) > 0 {
		t.Errorf("again %v %v", faults, claims)
	}
	s.wantPuts("a wish", 0)
	ada.write("A/f.txt", "still needed")
	s.travel(f)
	s.take(ada, false)
	s.wantPuts("a later change", 1)
}

// rowAttacks are what a malicious server may say of a.txt, which has older
// versions, with b.txt beside it (CRYPTO.md section 13).
var rowAttacks = map[string]struct {
	change func(a, b, old ServerRow, other seal.ID) ServerRow
	what   string
}{
	"SwapRecords":      {func(a, b, _ ServerRow, _ seal.ID) ServerRow { b.ID, b.Number = a.ID, a.Number; return b }, "content"},
	"SwapNameMime":     {func(a, _, _ ServerRow, _ seal.ID) ServerRow { a.Name, a.MIME = a.MIME, a.Name; return a }, "name, MIME type"},
	"CrossField":       {func(a, b, _ ServerRow, _ seal.ID) ServerRow { a.Name = b.Name; return a }, "name"},
	"ParentSwap":       {func(a, _, _ ServerRow, other seal.ID) ServerRow { a.Parent = other; return a }, "parent"},
	"RecordRollback":   {func(a, _, old ServerRow, _ seal.ID) ServerRow { old.Number = a.Number; return old }, "content"},
	"WrappedKeyReplay": {func(a, _, old ServerRow, _ seal.ID) ServerRow { a.Key = old.Key; return a }, "key"},
	"ForeignKey":       {func(a, b, _ ServerRow, _ seal.ID) ServerRow { a.Key = b.Key; return a }, "key"},
	"VersionRelabel":   {func(a, _, _ ServerRow, _ seal.ID) ServerRow { a.Version = 7 - a.Version; return a }, "version of the encryption"},
	"Size":             {func(a, _, _ ServerRow, _ seal.ID) ServerRow { a.Size++; return a }, "size"},
	"Garbage":          {func(a, _, _ ServerRow, _ seal.ID) ServerRow { return ServerRow{ID: a.ID, Number: a.Number} }, "parent"},
	"ForgedDelete":     {func(a, _, _ ServerRow, _ seal.ID) ServerRow { a.Deleted = true; return a }, "deleted"},
}

// Whatever a server says of a row, the attested revision stays in use, the lie
// has a name, and what is right is written again.
func TestServerRowAttacks(t *testing.T) {
	t.Parallel()
	for name, attack := range rowAttacks {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, "ada", "bob")
			ada, bob := f.devices[0], f.devices[1]
			ada.mkdir("A")
			ada.mkdir("B")
			ada.write("A/a.txt", "first")
			ada.write("A/b.md", "bee")
			f.sync()
			s := newRowServer(t)
			s.take(ada, true)
			old := s.row(ada, "A/a.txt")
			ada.write("A/a.txt", "second version")
			s.travel(f)
			s.take(ada, false)
			s.tell(bob, true)
			right := s.row(ada, "A/a.txt")
			lie := attack.change(right, s.row(ada, "A/b.md"), old, ada.mustFind("B").id)
			for _, d := range f.devices {
				s.puts, lie.Number = 0, s.row(ada, "A/a.txt").Number+1
				s.rows[right.key()] = lie
				before := d.list()
				faults, _ := s.tell(d, false)
				if len(faults) != 1 || !faults[0].Altered || !strings.Contains(faults[0].What, attack.what) {
					t.Errorf("%s: faults %v, want %q", d.name, faults, attack.what)
				}
				s.wantPuts(d.name, 1)
				if got := d.list(); got != before {
					t.Errorf("%s shows\n%s", d.name, got)
				}
				now := s.row(ada, "A/a.txt")
				if now.Number = right.Number; now.Blob != right.Blob || now.Parent != right.Parent || string(now.Name) != string(right.Name) || now.Deleted {
					t.Errorf("%s wrote %+v, not %+v", d.name, now, right)
				}
			}
		})
	}
}

// After a change of the password the rows get the new keys, and an old one that
// comes back is named.
func TestServerRowEpoch(t *testing.T) {
	f, ada, bob := twoWithFile(t)
	s := newRowServer(t)
	s.take(ada, true)
	old := s.row(ada, "A/f.txt")
	r := f.headersOf(ada)
	ada.changePassword(r, secondPassword)
	bob.pullHeaders(r, ErrNewEpoch)
	bob.accept(secondPassword)
	s.travel(f)
	s.take(ada, true)
	s.wantPuts("asset and file, twice", 4)
	now := s.row(ada, "A/f.txt")
	if now.Epoch <= old.Epoch || string(now.Key) == string(old.Key) {
		t.Fatalf("epoch %d after %d", now.Epoch, old.Epoch)
	}
	s.puts, old.Number = 0, now.Number+1
	s.rows[old.key()] = old
	if faults, _ := s.tell(ada, false); len(faults) != 0 && !faults[0].Altered {
		t.Errorf("faults %v", faults)
	}
	s.wantPuts("the key of an old epoch", 1)
}
