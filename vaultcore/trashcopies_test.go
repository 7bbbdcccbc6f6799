package vaultcore

import (
	"io"
	"slices"
	"testing"
)

// inTrash gives what lies in the trash of a device, by the id it is listed with.
func (d *device) inTrash() map[string]string {
	d.f.t.Helper()
	entries, err := d.Trash()
	if err != nil {
		d.f.t.Fatal(err)
	}
	found := make(map[string]string)
	for _, e := range entries {
		r, err := d.OpenTrash(e.ID)
		if err != nil {
			d.f.t.Fatalf("%s: open %s in the trash: %v", d.name, e.Path, err)
		}
		b, err := io.ReadAll(r)
		r.Close()
		if err != nil {
			d.f.t.Fatal(err)
		}
		found[e.ID] = string(b)
	}
	return found
}

// Deleted conflict copies are of one attachment, and each of them can be read,
// restored and thrown away by itself.
func TestTrashOfCopies(t *testing.T) {
	f := newFleet(t, "ada", "bob")
	ada, bob := f.devices[0], f.devices[1]
	ada.mkdir("A")
	ada.write("A/f", "first")
	f.sync()
	ada.write("A/f", "ada's")
	bob.write("A/f", "bob's")
	f.sync()
	err := ada.List("A", true, func(i Info) error { return ada.Remove(i.Path, false) })
	if err != nil {
		t.Fatal(err)
	}
	f.sync()
	f.want("A/")
	ids := make(map[string]string) // by content
	for _, d := range f.devices {
		before := d.inTrash()
		for id, text := range before {
			ids[text] = id
		}
		if len(before) != 2 || ids["ada's"] == "" || ids["bob's"] == "" {
			t.Fatalf("in the trash of %s: %v", d.name, before)
		}
		d.reopen()
		for id, text := range d.inTrash() {
			if before[id] != text {
				t.Fatalf("%s: %q was listed as %v, after a start as %s", d.name, text, before, id)
			}
		}
	}
	if _, err := bob.RestoreTrash(ids["bob's"]); err != nil {
		t.Fatal(err)
	}
	if n, _, err := bob.EmptyTrash([]string{ids["ada's"]}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	f.sync()
	f.want("A/", "A/f = bob's")
	var left []string
	for _, text := range ada.inTrash() {
		left = append(left, text)
	}
	if slices.Sort(left); len(bob.inTrash()) != 0 || !slices.Contains(left, "ada's") {
		t.Fatalf("in the trashes: ada %q, bob %v", left, bob.inTrash())
	}
}
