package vaultcore

import "testing"

// Folders that two devices made under one name are shown as one: nothing that a
// backup needs is behind the other.
func TestSnapshotOfMergedFolders(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "ada", "bob")
	ada, bob := f.devices[0], f.devices[1]
	ada.mkdir("A")
	f.sync()
	ada.mkdir("A/N")
	bob.mkdir("A/N")
	ada.write("A/N/x", "ada's")
	bob.write("A/N/x", "bob's")
	f.sync()
	for _, d := range f.devices {
		s, err := d.Snapshot(t.Context(), d.name)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Missing) > 0 {
			t.Errorf("%s: missing %+v", d.name, s.Missing)
		}
		s.Close()
	}
}
