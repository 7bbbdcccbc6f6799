package vaultcore

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// asked has a client delete the server's row of a file.
func (p *page) asked(d *device, path string) {
	p.t.Helper()
	r := p.s.row(d, path)
	r.Deleted, r.Client, r.Number = true, true, r.Number+1
	p.s.rows[r.key()] = r
}

// What somebody asked to delete stays on every device until that is decided: the
// server may throw it away.
func TestDeletionIsHeld(t *testing.T) {
	f, _, bob, s, p := unverifiedWorld(t)
	ctx := context.Background()
	if err := bob.SetRemote(ctx, RemoteSettings{URL: "https://server.example", ID: f.remote, Enabled: true}); err != nil {
		t.Fatal(err)
	}
	bob.OnFetch(func(ctx context.Context, id seal.ID) error { return bob.PutBlob(ctx, id, bytes.NewReader(f.blobs[id])) })
	file := bob.mustFind("A/f.txt")
	if err := bob.Sent(ctx, []seal.ID{file.content.ref.blob}); err != nil {
		t.Fatal(err)
	}
	if out := bob.evict("A/f.txt"); out.Files != 1 {
		t.Fatalf("%+v", out)
	}
	p.asked(bob, "A/f.txt")
	s.tell(bob, false)
	wanted, err := bob.WantedBlobs(ctx)
	if err != nil || len(wanted) != 1 || !wanted[0].Held || len(bob.WorthFetching(wanted, true)) != 1 {
		t.Fatalf("%+v, %v", wanted, err)
	}
	bob.pullBlobs()
	if out := bob.evict("A/f.txt"); len(out.Kept) != 1 || out.Kept[0].Why != whyHeld {
		t.Errorf("%+v", out)
	}
	if _, err := bob.Refuse(ctx, bob.unverifiedAt("A/f.txt")); err != nil {
		t.Fatal(err)
	}
	if out := bob.evict("A/f.txt"); out.Files != 1 {
		t.Errorf("%+v", out)
	}
}

// A deletion that a client asked for is signed by a person, or taken back.
func TestAdoptDeletion(t *testing.T) {
	f, ada, bob, s, p := unverifiedWorld(t)
	p.asked(ada, "A/f.txt")
	for _, d := range f.devices {
		s.tell(d, false)
		if got := paths(d.unverified()); !slices.Equal(got, []string{"deletion file A/f.txt"}) {
			t.Errorf("%s lists %v", d.name, got)
		}
		if _, n := d.CountUnverified(); n != 1 {
			t.Errorf("%s counts %d", d.name, n)
		}
	}
	s.puts = 0
	if done := ada.adopt("A/f.txt"); done.Done != DoneDeleted {
		t.Errorf("done %+v", done)
	}
	s.travel(f)
	for _, d := range f.devices {
		s.tell(d, true)
		if _, err := d.Find("A/f.txt"); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", d.name, err)
		}
		if left := d.unverified(); len(left) > 0 {
			t.Errorf("%s: still unverified: %v", d.name, paths(left))
		}
	}
	s.wantPuts("what is deleted already", 0)
	if all, err := bob.Trash(); err != nil || len(all) != 1 {
		t.Errorf("trash %v, %v", all, err)
	}
}

func TestRefuseDeletion(t *testing.T) {
	f, ada, bob, s, p := unverifiedWorld(t)
	p.asked(ada, "A/f.txt")
	s.tell(ada, false)
	s.tell(bob, false)
	s.puts = 0
	done, err := bob.Refuse(context.Background(), bob.unverifiedAt("A/f.txt"))
	if err != nil || done.Done != DoneKept {
		t.Fatalf("%+v, %v", done, err)
	}
	bob.reopen()
	s.take(bob, true)
	s.wantPuts("the row is there again", 1)
	if r := s.row(bob, "A/f.txt"); r.Deleted {
		t.Errorf("the row says %+v", r)
	}
	for _, d := range f.devices {
		if faults, _ := s.tell(d, true); len(faults) > 0 {
			t.Errorf("%s: faults %v", d.name, faults)
		}
		d.mustFind("A/f.txt")
		if left := d.unverified(); len(left) > 0 {
			t.Errorf("%s: still unverified: %v", d.name, paths(left))
		}
	}
}

// What is taken over and deleted before others heard of it comes back from the
// trash, once.
func TestAdoptFromTrash(t *testing.T) {
	f, ada, _, s, p := unverifiedWorld(t)
	p.upload(ada.mustFind("A").id, made{name: "short.txt", mime: "text/plain", content: []byte("life")})
	s.tell(ada, false)
	ada.adopt("A/short.txt")
	ada.remove("A/short.txt")
	if len(ada.unverified()) == 1 {
		ada.adopt("A/short.txt")
	} else {
		t.Errorf("it is not listed again: %v", paths(ada.unverified()))
	}
	s.travel(f)
	f.agree()
	ada.wantContent("A/short.txt", []byte("life"))
}

// The row that gives way to another under the same id is another one: what was
// listed is not what is signed.
func TestAdoptChangedRow(t *testing.T) {
	_, ada, _, s, p := unverifiedWorld(t)
	row := p.upload(ada.mustFind("A").id, made{name: "a.txt", mime: "text/plain", content: []byte("seen")})
	s.tell(ada, false)
	u := ada.unverifiedAt("A/a.txt")
	if got, err := ada.readUnverified(u); err != nil || string(got) != "seen" {
		t.Fatalf("%q, %v", got, err)
	}
	other := p.upload(ada.mustFind("A").id, made{name: "a.txt", mime: "text/plain", content: []byte("not seen")})
	delete(s.rows, other.key())
	other.ID, other.Number = row.ID, 2
	s.rows[other.key()] = other
	s.tell(ada, false)
	if _, err := ada.Adopt(context.Background(), u); !errors.Is(err, ErrBusy) {
		t.Errorf("adopted what was not seen: %v", err)
	}
	if u := ada.unverifiedAt("A/a.txt"); u.Version() == "" {
		t.Error("no version")
	}
}

// Contents that a revocation took back are shown as unverified, beside the trash
// they lie in, and come back or go for good.
func TestTakenBackIsUnverified(t *testing.T) {
	f, ada, bob, eve, r := stolen(t)
	bob.remove("A/before.txt") // an ordinary deletion is none of it
	bob.push()
	bob.pullHeaders(r, ErrNewEpoch)
	bob.accept(testPassword)
	bob.write("A/more.txt", "bob vouches for what he did before")
	f.devices = []*device{ada, bob}
	f.syncWithout(eve) // opens every device again
	want := []string{"revoked file A/eve.txt", "revoked file A/f.txt"}
	if got := paths(bob.unverified()); !slices.Equal(got, want) {
		t.Fatalf("lists %v", got)
	}
	if n, _ := bob.CountUnverified(); n != 2 {
		t.Errorf("counts %d", n)
	}
	if got, err := bob.readUnverified(bob.unverifiedAt("A/eve.txt")); err != nil || string(got) != "eve's own" {
		t.Errorf("reads %q, %v", got, err)
	}
	if done, err := bob.Refuse(context.Background(), bob.unverifiedAt("A/f.txt")); err != nil || done.Done != DoneRefused {
		t.Errorf("%+v, %v", done, err)
	}
	if done := bob.adopt("A/eve.txt"); done.Done != DoneRestored || done.Path != "A/eve.txt" {
		t.Errorf("done %+v", done)
	}
	f.syncWithout(eve)
	ada.wantContent("A/eve.txt", []byte("eve's own"))
	if left := bob.unverified(); len(left) > 0 {
		t.Errorf("still unverified: %v", paths(left))
	}
	if trash := bob.trashNames(); slices.Contains(trash, "f.txt") || slices.Contains(trash, "eve.txt") {
		t.Errorf("trash holds %q", trash)
	}
}
