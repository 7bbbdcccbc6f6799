package vaultcore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// page is a client with the keys of a vault and without its log.
type page struct {
	t    *testing.T
	f    *fleet
	s    *rowServer
	keys *keyring
	// epoch it knows; 0: it says none and takes the newest.
	epoch uint32
	n     int64
}

func newPage(t *testing.T, f *fleet, s *rowServer) *page {
	return &page{t: t, f: f, s: s, keys: f.devices[0].keys}
}

// made is what a client uploads.
type made struct {
	name, mime string
	content    []byte
	version    int
}

// upload puts a row, and its content, at the server.
func (p *page) upload(asset seal.ID, m made) ServerRow {
	p.t.Helper()
	key := seal.NewKey()
	p.n++
	r := ServerRow{
		ID: seal.NewID(), Type: 3, Parent: asset, Version: seal.V3, Size: int64(len(m.content)), Blob: seal.NewBlobID(), Number: 1, Client: true,
		Epoch: p.epoch, Created: noonOfMarch.Add(-time.Hour).UnixNano() + p.n,
	}
	if m.version != 0 {
		r.Version = uint8(m.version)
	}
	var err error
	if r.Key, _, err = p.keys.wrap(&key); err != nil {
		p.t.Fatal(err)
	}
	p.name(&r, &key, m.name, m.mime)
	sealed := sealContent(p.t, &key, p.keys.vaultID(), &r, m.content)
	r.Len, r.SHA256 = int64(len(sealed)), sha256.Sum256(sealed)
	p.f.blobs[r.Blob] = sealed
	p.s.rows[r.key()] = r
	return r
}

func (p *page) name(r *ServerRow, key *seal.Key, name, mime string) {
	p.t.Helper()
	var errs [2]error
	r.Name, errs[0] = seal.SealField(int(r.Version), key, p.keys.vaultID(), r.ID, seal.FieldName, name)
	r.MIME, errs[1] = seal.SealField(int(r.Version), key, p.keys.vaultID(), r.ID, seal.FieldMIME, mime)
	if err := errors.Join(errs[:]...); err != nil {
		p.t.Fatal(err)
	}
}

func sealContent(t *testing.T, key *seal.Key, vault seal.ID, r *ServerRow, content []byte) []byte {
	t.Helper()
	if r.Version == seal.V4 {
		c := seal.NewV4(key, vault, r.Blob)
		return c.SealChunks(append([]byte(nil), c.Header()...), content, 0, true)
	}
	buf := make([]byte, 12+len(content), len(content)+seal.OverheadV3)
	copy(buf[12:], content)
	sealed, err := seal.SealV3(key, buf, len(content))
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// fetching lets a device fetch ranges of what the remote has.
func (f *fleet) fetching(d *device) {
	d.OnFetchRange(func(_ context.Context, id seal.ID, off, n int64, w io.WriterAt) error {
		b, ok := f.blobs[id]
		if !ok {
			return blob.ErrNotFound
		}
		if off > int64(len(b)) {
			return io.ErrUnexpectedEOF
		}
		part := b[off:min(off+n, int64(len(b)))]
		if _, err := w.WriteAt(part, off); err != nil {
			return err
		}
		if int64(len(part)) < n {
			return io.ErrUnexpectedEOF
		}
		return nil
	})
}

// unverifiedWorld is two devices with a file, a server and a page.
func unverifiedWorld(t *testing.T) (f *fleet, ada, bob *device, s *rowServer, p *page) {
	t.Helper()
	f, ada, bob = twoWithFile(t)
	s = newRowServer(t)
	s.take(ada, true)
	f.fetching(ada)
	f.fetching(bob)
	return f, ada, bob, s, newPage(t, f, s)
}

func (d *device) unverified() []Unverified {
	d.f.t.Helper()
	list, err := d.Unverified(context.Background())
	if err != nil {
		d.f.t.Fatal(err)
	}
	return list
}

// unverifiedAt finds one by its path.
func (d *device) unverifiedAt(path string) Unverified {
	d.f.t.Helper()
	list := d.unverified()
	for _, u := range list {
		if u.Path == path {
			return u
		}
	}
	d.f.t.Fatalf("%s: nothing unverified at %q, but %+v", d.name, path, list)
	return Unverified{}
}

func (d *device) readUnverified(u Unverified) ([]byte, error) {
	d.f.t.Helper()
	r, err := d.OpenUnverified(u.ID, u.Version())
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.NewSectionReader(r, 0, r.Size()+1))
}

func (d *device) adopt(path string) Adopted {
	d.f.t.Helper()
	done, err := d.Adopt(context.Background(), d.unverifiedAt(path))
	if err != nil {
		d.f.t.Fatalf("%s: adopt %s: %v", d.name, path, err)
	}
	return done
}

func paths(list []Unverified) (out []string) {
	for _, u := range list {
		out = append(out, u.State+" "+u.Kind+" "+u.Path)
	}
	return out
}

// What a page uploads is listed, read and taken over as it is: one record says
// the row byte for byte, both devices have the file, and no row is written.
func TestAdopt(t *testing.T) {
	long := bytes.Repeat([]byte("0123456789abcdef"), 150_000) // 2.4 MB: several pieces of version 4
	for name, m := range map[string]made{
		"version 3": {"Letters/new ✈.txt", "text/plain", []byte("by the page"), 3},
		"empty":     {"nothing", "", nil, 3},
		"version 4": {"film.bin", "video/x", long, 4},
		"link":      {"link", mimeSymlink, []byte("f.txt"), 3},
	} {
		t.Run(name, func(t *testing.T) {
			f, ada, bob, s, p := unverifiedWorld(t)
			row := p.upload(ada.mustFind("A").id, m)
			s.puts = 0
			for _, d := range f.devices {
				if faults, _ := s.tell(d, false); len(faults) > 0 {
					t.Errorf("%s: faults %v", d.name, faults)
				}
				u := d.unverifiedAt("A/" + m.name)
				if u.Reseal || u.Problem != "" || u.Size != int64(len(m.content)) || u.ID != row.ID.UUID() {
					t.Errorf("%s: listed as %+v", d.name, u)
				}
				if got, err := d.readUnverified(u); err != nil || !bytes.Equal(got, m.content) {
					t.Errorf("%s: %d bytes, %v", d.name, len(got), err)
				}
				if n, _ := d.CountUnverified(); n != 1 {
					t.Errorf("%s: %d counted", d.name, n)
				}
			}
			if done := ada.adopt("A/" + m.name); done.Path != "A/"+m.name || done.Done != DoneSigned {
				t.Errorf("done %+v", done)
			}
			if left := ada.unverified(); len(left) > 0 {
				t.Errorf("still unverified: %v", paths(left))
			}
			s.travel(f)
			for _, d := range f.devices {
				if faults, _ := s.tell(d, true); len(faults) > 0 {
					t.Errorf("%s: faults %v", d.name, faults)
				}
				n := d.mustFind("A/" + m.name)
				if n.id != row.ID || n.content.ref.blob != row.Blob || n.mtime != row.Created {
					t.Errorf("%s: %s of %d shows %s", d.name, n.id.UUID(), n.mtime, n.content.ref.blob.Hex())
				}
				if n.kind == KindFile {
					d.wantContent("A/"+m.name, m.content)
				}
				if left := d.unverified(); len(left) > 0 {
					t.Errorf("%s: still unverified: %v", d.name, paths(left))
				}
			}
			now := s.rows[row.key()]
			if !bytes.Equal(now.Name, row.Name) || !bytes.Equal(now.Key, row.Key) || now.Blob != row.Blob || now.Epoch != ada.keys.epoch() {
				t.Errorf("the row says\n%+v, not\n%+v", now, row)
			}
			if _, err := ada.Adopt(context.Background(), Unverified{ID: row.ID.UUID(), State: UnverifiedRow}); !errors.Is(err, ErrNotFound) {
				t.Errorf("once more: %v", err)
			}
			f.sync()
			bob.mustFind("A/" + m.name)
		})
	}
}

func (d *device) wantContent(path string, want []byte) {
	d.f.t.Helper()
	r, err := d.OpenRead(path)
	if err != nil {
		d.f.t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, want) {
		d.f.t.Errorf("%s: %s has %d bytes, %v; want %d", d.name, path, len(got), err, len(want))
	}
}

// Two devices take over the same row: that is one record, and one file.
func TestAdoptTwice(t *testing.T) {
	f, ada, bob, s, p := unverifiedWorld(t)
	p.upload(ada.mustFind("A").id, made{name: "both.txt", mime: "text/plain", content: []byte("same")})
	for _, d := range f.devices {
		s.tell(d, false)
		d.adopt("A/both.txt")
	}
	s.travel(f)
	f.agree()
	if got := ada.list(); strings.Count(got, "both") != 1 {
		t.Errorf("shows\n%s", got)
	}
	for _, d := range f.devices {
		if faults, _ := s.tell(d, true); len(faults) > 0 {
			t.Errorf("%s: faults %v", d.name, faults)
		}
	}
	bob.mustFind("A/both.txt")
}

// The item that a page made for its files is taken over with them, under its id
// and title.
func TestAdoptAsset(t *testing.T) {
	f, ada, bob, s, p := unverifiedWorld(t)
	asset := ServerRow{ID: seal.NewID(), Asset: true, Type: 2, Client: true, Epoch: 1}
	var err error
	if asset.Name, _, err = p.keys.sealTitle(asset.ID, "From/the page"); err != nil {
		t.Fatal(err)
	}
	s.rows[asset.key()] = asset
	p.upload(asset.ID, made{name: "a.txt", mime: "text/plain", content: []byte("one")})
	s.tell(ada, false)
	want := []string{"unverified asset From%2Fthe page", "unverified file From%2Fthe page/a.txt"}
	if got := paths(ada.unverified()); !slices.Equal(got, want) {
		t.Fatalf("listed as %v", got)
	}
	ada.adopt("From%2Fthe page/a.txt")
	if left := ada.unverified(); len(left) > 0 {
		t.Errorf("still unverified: %v", paths(left))
	}
	s.travel(f)
	for _, d := range f.devices {
		if faults, _ := s.tell(d, true); len(faults) > 0 {
			t.Errorf("%s: faults %v", d.name, faults)
		}
		n := d.mustFind("From%2Fthe page")
		if n.id != asset.ID || n.atype != TypeNote {
			t.Errorf("%s: asset %s of type %v", d.name, n.id.UUID(), n.atype)
		}
		d.wantContent("From%2Fthe page/a.txt", []byte("one"))
	}
	bob.mustFind("From%2Fthe page")
}

// An item that was deleted comes back from the trash with the file that is taken
// over into it; where it is gone for good, that is said and nothing is done.
func TestAdoptIntoDeletedAsset(t *testing.T) {
	f, ada, bob, s, p := unverifiedWorld(t)
	row := p.upload(ada.mustFind("A").id, made{name: "late.txt", mime: "text/plain", content: []byte("late")})
	ada.remove("A/f.txt")
	ada.remove("A")
	s.travel(f)
	s.tell(ada, true)
	s.rows[row.key()] = row
	s.tell(ada, true)
	done := ada.adopt("A/late.txt")
	s.travel(f)
	f.agree()
	bob.wantContent(done.Path, []byte("late"))

	// Nothing of the item is left: the file can be read, and has no place.
	row = p.upload(ada.mustFind("A").id, made{name: "later.txt", mime: "text/plain", content: []byte("later")})
	ada.remove(done.Path)
	ada.remove("A")
	s.travel(f)
	if _, _, err := ada.EmptyTrash(nil); err != nil {
		t.Fatal(err)
	}
	ada.reopen()
	f.fetching(ada)
	s.rows[row.key()] = row
	s.tell(ada, true)
	before, list := ada.list(), ada.unverified()
	if len(list) != 1 {
		t.Fatalf("lists %v", paths(list))
	}
	if got, err := ada.readUnverified(list[0]); err != nil || string(got) != "later" {
		t.Errorf("reads %q, %v", got, err)
	}
	if _, err := ada.Adopt(context.Background(), list[0]); !errors.Is(err, ErrNoItem) {
		t.Errorf("adopt: %v", err)
	}
	if ada.list() != before {
		t.Errorf("shows\n%s", ada.list())
	}
}

// A name that is taken gives one beside it, by the rules of all names.
func TestAdoptTakenName(t *testing.T) {
	f, ada, bob, s, p := unverifiedWorld(t)
	row := p.upload(ada.mustFind("A").id, made{name: "f.txt", mime: "text/plain", content: []byte("another")})
	s.tell(ada, false)
	done := ada.adopt("A/f.txt")
	if want := fmt.Sprintf("A/f (%s).txt", row.ID.Hex()[:4]); done.Path != want {
		t.Errorf("adopted as %s, want %s", done.Path, want)
	}
	s.travel(f)
	f.agree()
	bob.wantContent(done.Path, []byte("another"))
	bob.mustFind("A/f.txt")
}

// A key of an epoch that is over may be in wrong hands: the content gets a new one.
func TestAdoptAnew(t *testing.T) {
	f, ada, bob, s, p := unverifiedWorld(t)
	content := bytes.Repeat([]byte("old key "), 40_000)
	old := p.upload(ada.mustFind("A").id, made{name: "dir/old.bin", mime: "application/x", content: content})
	r := f.headersOf(ada)
	ada.changePassword(r, secondPassword)
	bob.pullHeaders(r, ErrNewEpoch)
	bob.accept(secondPassword)
	s.travel(f)
	for _, d := range f.devices {
		s.tell(d, true)
		if u := d.unverifiedAt("A/dir/old.bin"); !u.Reseal || u.Problem != "" {
			t.Errorf("%s: listed as %+v", d.name, u)
		}
	}
	if done := ada.adopt("A/dir/old.bin"); done.Done != DoneResealed || done.Path != "A/dir/old.bin" {
		t.Errorf("done %+v", done)
	}
	s.travel(f)
	for _, d := range f.devices {
		if faults, _ := s.tell(d, true); len(faults) > 0 {
			t.Errorf("%s: faults %v", d.name, faults)
		}
		d.wantContent("A/dir/old.bin", content)
		if n := d.mustFind("A/dir/old.bin"); n.content.ref.blob == old.Blob || n.content.ref.epoch != 2 {
			t.Errorf("%s: blob %s of epoch %d", d.name, n.content.ref.blob.Hex(), n.content.ref.epoch)
		}
	}
	if now := s.rows[old.key()]; now.Blob == old.Blob || now.Epoch != 2 {
		t.Errorf("the row still says %+v", now)
	}
	if left := bob.unverified(); len(left) > 0 {
		t.Errorf("still unverified: %v", paths(left))
	}
}

// Refused, a row is deleted at the server, and its content released unless
// somebody else needs it.
func TestRefuse(t *testing.T) {
	f, ada, bob, s, p := unverifiedWorld(t)
	row := p.upload(ada.mustFind("A").id, made{name: "spam.txt", mime: "text/plain", content: []byte("buy")})
	stolen := p.upload(ada.mustFind("A").id, made{name: "copy.txt", mime: "text/plain", content: []byte("x")})
	needed := ada.mustFind("A/f.txt").content.ref.blob
	stolen.Blob = needed
	s.rows[stolen.key()] = stolen
	for _, d := range f.devices {
		s.tell(d, false)
	}
	s.puts = 0
	for _, at := range []string{"A/spam.txt", "A/copy.txt"} {
		if done, err := ada.Refuse(context.Background(), ada.unverifiedAt(at)); err != nil || done.Done != DoneRefused {
			t.Fatalf("%+v, %v", done, err)
		}
	}
	if left := ada.unverified(); len(left) > 0 {
		t.Errorf("still unverified: %v", paths(left))
	}
	ada.reopen() // it is not forgotten
	w, err := ada.ServerWork(context.Background(), false, 10)
	if err != nil || len(w.Rows) != 2 || len(w.Release) != 1 || w.Release[row.ID] != row.Blob {
		t.Fatalf("%+v, %v", w, err)
	}
	s.take(ada, false)
	if r := s.rows[row.key()]; !r.Deleted || s.puts != 2 {
		t.Errorf("the server has %+v after %d writes", r, s.puts)
	}
	for _, d := range f.devices {
		if faults, _ := s.tell(d, false); len(faults) > 0 {
			t.Errorf("%s: faults %v", d.name, faults)
		}
		if left := d.unverified(); len(left) > 0 {
			t.Errorf("%s: still unverified: %v", d.name, paths(left))
		}
	}
	bob.mustFind("A/f.txt")
}

func TestSelectUnverified(t *testing.T) {
	list := []Unverified{
		{ID: "1", Path: "A", State: UnverifiedRow, Kind: "asset"},
		{ID: "2", Path: "A/a.txt", State: UnverifiedRow, Kind: "file"},
		{ID: "3", Path: "A/a.txt", State: UnverifiedDeletion, Kind: "file"},
		{ID: "4", Path: "A/d/b.txt", State: UnverifiedRow, Kind: "file"},
		{ID: "5", Path: "A/d/c.txt", State: UnverifiedRevoked, Kind: "file"},
		{ID: "6", Path: "B/a.txt", State: UnverifiedDeletion, Kind: "file"},
	}
	for _, test := range []struct {
		refs      string
		deletions bool
		want      string
		err       error
	}{
		{"A", false, "1 2 4", nil},
		{"/A/d/", false, "4", nil},
		{"A/d/c.txt", false, "5", nil},
		{"A/d/b.txt A/d", false, "4", nil},
		{"A/a.txt", false, "", ErrInvalid},
		{"A/a.txt", true, "3", nil},
		{"2", false, "2", nil},
		{"3", false, "3", nil},
		{"B/a.txt", false, "6", nil},
		{"B", false, "", ErrNotFound},
		{"A/d", true, "", ErrNotFound},
		{"A/a", false, "", ErrNotFound},
	} {
		picked, err := SelectUnverified(list, strings.Fields(test.refs), test.deletions)
		var got []string
		for _, u := range picked {
			got = append(got, u.ID)
		}
		if strings.Join(got, " ") != test.want || !errors.Is(err, test.err) {
			t.Errorf("%s, %v: %v, %v; want %s, %v", test.refs, test.deletions, got, err, test.want, test.err)
		}
	}
	if got := AllUnverified(list, false); len(got) != 3 || got[2].ID != "4" {
		t.Errorf("all: %+v", got)
	}
	if got := AllUnverified(list, true); len(got) != 2 || got[1].ID != "6" {
		t.Errorf("all deletions: %+v", got)
	}
}

// Names that clash each get one of their own, and no file has that of a directory.
func TestUnverifiedNames(t *testing.T) {
	_, ada, _, s, p := unverifiedWorld(t)
	asset := ada.mustFind("A").id
	var rows []ServerRow
	for _, name := range []string{"a.txt", "a.txt", "d", "d/x", "A.txt"} {
		rows = append(rows, p.upload(asset, made{name: name, content: []byte(name)}))
	}
	s.tell(ada, false)
	want := []string{"A/A.txt", "A/a (" + rows[1].ID.Hex()[:4] + ").txt", "A/a.txt", "A/d (" + rows[2].ID.Hex()[:4] + ")", "A/d/x"}
	var got []string
	for _, u := range ada.unverified() {
		got = append(got, u.Path)
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("listed as %q, want %q", got, want)
	}
}

// A content is fetched once for all who read it at a time, and none of it stays
// when they are done.
func TestUnverifiedShelf(t *testing.T) {
	_, ada, _, s, p := unverifiedWorld(t)
	row := p.upload(ada.mustFind("A").id, made{name: "a.bin", content: bytes.Repeat([]byte("x"), 100_000)})
	s.tell(ada, false)
	fetched := 0
	ada.OnFetchRange(func(_ context.Context, id seal.ID, off, n int64, w io.WriterAt) error {
		fetched++
		_, err := w.WriteAt(p.f.blobs[id][off:off+n], off)
		return err
	})
	r, err := ada.OpenUnverified(row.ID.UUID(), row.version())
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for off := int64(0); off < r.Size(); off += int64(len(buf)) {
		if _, err := r.ReadAt(buf, off); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	if fetched != 1 || ada.shelf.used != 100_000 {
		t.Errorf("fetched %d times, %d bytes in memory", fetched, ada.shelf.used)
	}
	if err := r.Close(); err != nil || ada.shelf.used != 0 || len(ada.shelf.pieces) != 0 {
		t.Errorf("after the last close %d bytes in memory, %v", ada.shelf.used, err)
	}
	if _, err := r.ReadAt(buf, 0); !errors.Is(err, ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
}

// A server that hangs costs a reader its patience, and no more.
func TestUnverifiedHangs(t *testing.T) {
	f := newFleetOf(t, Limits{FetchWait: 50 * time.Millisecond}, "", "ada")
	ada := f.devices[0]
	ada.mkdir("A")
	ada.push()
	s := newRowServer(t)
	s.take(ada, true)
	p := newPage(t, f, s)
	p.upload(ada.mustFind("A").id, made{name: "a.txt", content: []byte("late")})
	s.tell(ada, false)
	gate := make(chan struct{})
	ada.OnFetchRange(func(ctx context.Context, id seal.ID, off, n int64, w io.WriterAt) error {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
		_, err := w.WriteAt(f.blobs[id][off:off+n], off)
		return err
	})
	u := ada.unverifiedAt("A/a.txt")
	r, err := ada.OpenUnverified(u.ID, u.Version())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	buf := make([]byte, 10)
	if _, err := r.ReadAt(buf, 0); !errors.Is(err, ErrTimeout) {
		t.Errorf("read: %v", err)
	}
	close(gate)
	for deadline := time.Now().Add(5 * time.Minute); ; {
		n, err := r.ReadAt(buf, 0)
		if string(buf[:n]) == "late" && errors.Is(err, io.EOF) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q, %v", buf[:n], err)
		}
	}
}
