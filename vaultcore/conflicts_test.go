package vaultcore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// conflicts gives one line for each conflict: kind, path, and who wrote each version.
func (d *device) conflicts() []string {
	d.f.t.Helper()
	all, err := d.Conflicts(context.Background())
	if err != nil {
		d.f.t.Fatal(err)
	}
	var lines []string
	for _, c := range all {
		line := c.Kind + " " + c.Path + ":"
		for _, w := range c.Versions {
			line += fmt.Sprintf(" %s(%v,%d)", w.Device, w.This, w.Size)
		}
		lines = append(lines, line)
	}
	return lines
}

// clash makes ada and bob write A/f.txt without knowing of each other.
func clash(t *testing.T) (f *fleet, ada, bob *device) {
	t.Helper()
	f = newFleet(t, "ada", "bob")
	ada, bob = f.devices[0], f.devices[1]
	ada.mkdir("A")
	ada.write("A/f.txt", "f")
	f.sync()
	ada.write("A/f.txt", "ada's")
	bob.write("A/f.txt", "by bob")
	f.sync()
	return f, ada, bob
}

func (d *device) copyOf(path string) string {
	d.f.t.Helper()
	all, err := d.Conflicts(context.Background())
	if err != nil || len(all) != 1 || all[0].Path != path || len(all[0].Versions) != 2 {
		d.f.t.Fatalf("conflicts: %+v, %v", all, err)
	}
	return all[0].Versions[1].Path
}

func TestConflictsAreListed(t *testing.T) {
	t.Parallel()
	f, ada, bob := clash(t)
	for d, want := range map[*device]string{
		ada: "edit A/f.txt: bob(false,6) ada(true,5)",
		bob: "edit A/f.txt: bob(true,6) ada(false,5)",
	} {
		if got := d.conflicts(); !slices.Equal(got, []string{want}) {
			t.Errorf("%s lists %q, want %q", d.name, got, want)
		}
		if events, err := d.Events(0, 100); err != nil || len(events) == 0 || events[len(events)-1].Kind != "conflict" ||
			!strings.HasPrefix(events[len(events)-1].Text, "A/f (conflict ada") {
			t.Errorf("%s: events %+v, %v", d.name, events, err)
		}
		if n := d.Status().Conflicts; n != 1 {
			t.Errorf("%s: status counts %d", d.name, n)
		}
	}
	ada.mkdir("B")
	f.sync()
	ada.write("B/new", "a")
	bob.write("B/new", "bb")
	f.sync()
	want := []string{"edit A/f.txt: bob(false,6) ada(true,5)", "name B/new: ada(true,1) bob(false,2)"}
	if got := ada.conflicts(); !slices.Equal(got, want) {
		t.Errorf("ada lists %q, want %q", got, want)
	}
}

func TestKeepConflict(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		keep  func(d *device) (string, Keep)
		want  []string
		trash int64 // bytes of what is dropped, 0 for nothing
	}{
		{"mine", func(*device) (string, Keep) { return "A/f.txt", KeepMine }, []string{"A/", "A/f.txt = ada's"}, 6},
		{"theirs", func(*device) (string, Keep) { return "A/f.txt", KeepTheirs }, []string{"A/", "A/f.txt = by bob"}, 5},
		{"main", func(*device) (string, Keep) { return "/A/f.txt", KeepNamed }, []string{"A/", "A/f.txt = by bob"}, 5},
		{"copy", func(d *device) (string, Keep) { return d.copyOf("A/f.txt"), KeepNamed }, []string{"A/", "A/f.txt = ada's"}, 6},
		{"both", func(*device) (string, Keep) { return "A/f.txt", KeepBoth },
			[]string{"A/", "A/f.txt = by bob", "A/f - ada 2026-03-01.txt = ada's"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, ada, _ := clash(t)
			at, how := c.keep(ada)
			if _, err := ada.KeepConflict(context.Background(), at, how); err != nil {
				t.Fatal(err)
			}
			ada.want(c.want...)
			ada.trashHolds(c.trash)
			f.sync()
			f.want(c.want...)
			for _, d := range f.devices {
				if left := d.conflicts(); left != nil {
					t.Errorf("%s still lists %q", d.name, left)
				}
				d.trashHolds(c.trash)
				wantSound(t, d.Vault)
			}
		})
	}
}

// trashHolds demands one entry of that many bytes; 0: an empty trash.
func (d *device) trashHolds(size int64) {
	d.f.t.Helper()
	entries, err := d.Trash()
	if err != nil {
		d.f.t.Fatal(err)
	}
	if size == 0 && len(entries) == 0 || len(entries) == 1 && entries[0].Size == size {
		return
	}
	d.f.t.Errorf("%s: the trash holds %+v, want %d bytes", d.name, entries, size)
}

func TestKeepConflictRefuses(t *testing.T) {
	t.Parallel()
	f, ada, bob := clash(t)
	ada.write("A/alone.txt", "x")
	for _, c := range []struct {
		path string
		how  Keep
		want error
	}{
		{"A/none.txt", KeepNamed, ErrNotFound},
		{"A/alone.txt", KeepMine, ErrNotFound},
	} {
		if _, err := ada.KeepConflict(context.Background(), c.path, c.how); !errors.Is(err, c.want) {
			t.Errorf("%s %s: %v, want %v", c.path, c.how, err, c.want)
		}
	}
	// Three devices: of two strangers' versions none is "theirs".
	eve := f.join(ada, "eve")
	f.sync()
	if _, err := eve.KeepConflict(context.Background(), "A/f.txt", KeepTheirs); !errors.Is(err, ErrInvalid) {
		t.Errorf("theirs of two: %v", err)
	}
	if _, err := eve.KeepConflict(context.Background(), "A/f.txt", KeepMine); !errors.Is(err, ErrInvalid) {
		t.Errorf("mine of none: %v", err)
	}
	ada.mkdir("Twice")
	bob.mkdir("Twice")
	f.sync()
	if got := ada.conflicts(); len(got) != 2 || !strings.HasPrefix(got[1], "asset Twice") {
		t.Errorf("ada lists %q", got)
	}
	if _, err := ada.KeepConflict(context.Background(), "Twice", KeepBoth); !errors.Is(err, ErrNotSupported) {
		t.Errorf("assets: %v", err)
	}
}

func TestDevicesAreListed(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "ada", "bob")
	ada, bob := f.devices[0], f.devices[1]
	ada.mkdir("A")
	list := func(d *device) string {
		infos, err := d.Devices(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, i := range infos {
			out = append(out, fmt.Sprintf("%s %v %v", i.Name, i.This, i.LastChange != nil))
		}
		return strings.Join(out, ", ")
	}
	if got := list(ada); got != "ada true false,  false false" {
		t.Errorf("before: %s", got)
	}
	f.sync()
	bob.mkdir("B")
	f.sync()
	if got := list(ada); got != "ada true true, bob false true" {
		t.Errorf("ada: %s", got)
	}
	if got := list(bob); got != "ada false true, bob true true" {
		t.Errorf("bob: %s", got)
	}
}
