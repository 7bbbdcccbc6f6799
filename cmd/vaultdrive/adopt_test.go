package main

import (
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

func TestAdoptSaysWhatToDo(t *testing.T) {
	p := newPlace(t)
	p.ok("asset", "add", "A")
	p.says(
		said{"adopt", 0, "Nothing waits to be taken over."}, said{"adopt --json", 0, "[]"}, said{"adopt --all", 0, ""},
		said{"adopt --refuse", 2, "adopt --refuse takes PATH or --all"}, said{"adopt --all A", 2, "either PATH or --all"},
		said{"adopt A/x", 20, "vaultdrive adopt lists"}, said{"adopt --help", 0, ".vaultdrive/unverified"},
	)
}

func TestUnverifiedPath(t *testing.T) {
	for in, want := range map[string]string{
		"A/b.txt": "A/b.txt", "/A/b.txt": "A/b.txt", ".vaultdrive/unverified/A/b.txt": "A/b.txt", "/.vaultdrive/unverified/A": "A",
		"A/.vaultdrive/unverified/A/b.txt": "A/b.txt",
	} {
		if got := unverifiedPath(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestUnverifiedText(t *testing.T) {
	for _, test := range []struct {
		files, deletions int
		want             string
	}{
		{0, 0, ""},
		{1, 0, "1 file that no device has signed; vaultdrive adopt lists them"},
		{2, 1, "2 files that no device has signed, 1 file that somebody asked to delete; vaultdrive adopt lists them"},
	} {
		if got := unverifiedText(test.files, test.deletions); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

// Assets come behind what lies in them, or the server would not let them go.
func TestFilesFirst(t *testing.T) {
	got := filesFirst([]vaultcore.Unverified{{ID: "1", Kind: "asset"}, {ID: "2", Kind: "file"}, {ID: "3", Kind: "folder"}})
	if len(got) != 3 || got[0].ID != "2" || got[1].ID != "3" || got[2].ID != "1" {
		t.Errorf("%+v", got)
	}
}
