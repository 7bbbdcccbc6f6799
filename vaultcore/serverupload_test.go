package vaultcore

import (
	"context"
	"testing"
)

// uploadRow is the row that goes with the content of a path.
func (d *device) uploadRow(path string) *UploadRow {
	d.f.t.Helper()
	up, err := d.UploadRow(context.Background(), d.mustFind(path).content.ref.blob)
	if err != nil {
		d.f.t.Fatal(err)
	}
	return up
}

// upload has the server take a content with its row.
func (s *rowServer) upload(d *device, path string) *UploadRow {
	s.t.Helper()
	up := d.uploadRow(path)
	if up == nil {
		s.t.Fatalf("no row goes with %s", path)
	}
	if old := s.rows[up.Row.key()]; old.Number != up.Row.Number {
		s.t.Fatalf("row written over version %d, the server has %d", up.Row.Number, old.Number)
	}
	row := up.Row
	row.Number++
	s.rows[row.key()] = row
	return up
}

// published seals what changed and pushes it, and none of the contents.
func (d *device) published() {
	d.sealAll(SealOptions{})
	d.pushBatches()
}

// uploading is a vault whose file has been published, with its asset, and not its
// content.
func uploading(t *testing.T) (f *fleet, ada, bob *device, s *rowServer) {
	f = newFleet(t, "ada", "bob")
	ada, bob, s = f.devices[0], f.devices[1], newRowServer(t)
	ada.mkdir("A")
	ada.write("A/f.txt", "first")
	ada.published()
	if up := ada.uploadRow("A/f.txt"); up != nil {
		t.Fatalf("a row before that of its asset: %+v", up)
	}
	w, err := ada.ServerAssets(t.Context(), true, 10)
	if err != nil || len(w.Rows) != 1 || !w.Rows[0].Asset || w.More {
		t.Fatalf("assets to be written: %+v, %v", w.Rows, err)
	}
	s.rows[w.Rows[0].key()] = w.Rows[0]
	if err := ada.ServerRowsPut(t.Context(), w.Rows); err != nil {
		t.Fatal(err)
	}
	return f, ada, bob, s
}

// A row that went with its content is what the log says: nobody writes it again,
// and nobody calls it a lie.
func TestUploadRow(t *testing.T) {
	for _, c := range []struct {
		name string
		put  func(t *testing.T, d *device, s *rowServer, up *UploadRow)
	}{
		{"answered", func(t *testing.T, d *device, s *rowServer, up *UploadRow) { d.rowPut(s, up) }},
		{"killed before the answer", func(t *testing.T, d *device, s *rowServer, up *UploadRow) {
			d.reopen()
			s.tell(d, true)
		}},
		{"told by the feed first", func(t *testing.T, d *device, s *rowServer, up *UploadRow) {
			s.tell(d, true)
			d.rowPut(s, up)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, ada, _, s := uploading(t)
			for range 2 { // new, then replaced
				c.put(t, ada, s, s.upload(ada, "A/f.txt"))
				if up := ada.uploadRow("A/f.txt"); c.name == "answered" && up != nil && up.Row.Number != s.row(ada, "A/f.txt").Number {
					t.Errorf("again over version %d", up.Row.Number)
				}
				s.travel(f)
				for _, d := range f.devices {
					if faults, claims := s.tell(d, true); len(faults)+len(claims) > 0 {
						t.Errorf("%s: faults %v, claims %v", d.name, faults, claims)
					}
					s.wantPuts(d.name, 0)
				}
				ada.write("A/f.txt", "second, and longer")
				ada.published()
			}
		})
	}
}

func (d *device) rowPut(s *rowServer, up *UploadRow) {
	d.f.t.Helper()
	if err := d.UploadRowPut(context.Background(), up, s.rows[up.Row.key()].Number); err != nil {
		d.f.t.Fatal(err)
	}
}

// What happened to the file while its content was on the way is written after it.
func TestUploadRowOvertaken(t *testing.T) {
	for name, change := range map[string]func(d *device){
		"renamed": func(d *device) { d.rename("A/f.txt", "A/g.txt") },
		"deleted": func(d *device) { d.remove("A/f.txt") },
	} {
		t.Run(name, func(t *testing.T) {
			_, ada, _, s := uploading(t)
			up := ada.uploadRow("A/f.txt")
			change(ada)
			ada.published()
			s.take(ada, true)
			s.wantPuts("before the content is there", 0)
			row := up.Row
			row.Number++
			s.rows[row.key()] = row
			ada.rowPut(s, up)
			ada.pushBlobs()
			if faults, _ := s.take(ada, false); len(faults) > 0 {
				t.Errorf("faults %v", faults)
			}
			s.wantPuts("what happened meanwhile", 1)
			if now := s.rows[row.key()]; now.Deleted != (name == "deleted") || !now.Deleted && string(now.Name) == string(row.Name) {
				t.Errorf("the row is %+v", now)
			}
		})
	}
}

// What the server said and nobody has compared yet is not written over.
func TestUploadRowNotCompared(t *testing.T) {
	f, ada, _, s := uploading(t)
	ada.rowPut(s, s.upload(ada, "A/f.txt"))
	s.travel(f)
	ada.write("A/f.txt", "second, and longer")
	ada.published()
	lie := s.row(ada, "A/f.txt")
	lie.Number++
	if err := ada.NoteServerRows(t.Context(), []ServerRow{lie}); err != nil {
		t.Fatal(err)
	}
	if up := ada.uploadRow("A/f.txt"); up != nil {
		t.Errorf("row %+v", up.Row)
	}
	other := newFleet(t, "eve").devices[0]
	if up, err := other.UploadRow(t.Context(), lie.Blob); up != nil || err != nil {
		t.Errorf("of a content that is nobody's: %v, %v", up, err)
	}
}
