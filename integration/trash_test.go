package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

type trashEntry struct {
	ID, Path, Asset string
	Size            int64
}

func (b *bed) trash() []trashEntry {
	b.t.Helper()
	var out []trashEntry
	must(b.t, json.Unmarshal([]byte(b.ok("trash list", "--json")), &out))
	return out
}

// What was deleted a while after it was made comes back, content and attributes.
// Young files go at once, so the test begins with an example vault, whose files
// are old.
func TestTrash(t *testing.T) {
	t.Parallel()
	b := openExample(t, filepath.Join("testdata", exampleWhole+".tar.gz"))
	const name, size = "Passport/scan.pdf", 70_001
	text := exampleText(name, size)
	m := b.mount()
	must(t, os.Chmod(m.path(name), 0o604))
	must(t, os.WriteFile(m.path("Passport", "young"), text, 0o600))
	must(t, os.Remove(m.path(name)))
	must(t, os.Remove(m.path("Passport", "young")))
	list := b.trash()
	if len(list) != 1 || list[0].Size != size {
		t.Fatalf("in the trash: %+v", list)
	}
	hidden, err := os.ReadDir(m.path(".vaultdrive", "trash"))
	if err != nil || len(hidden) != 1 {
		t.Errorf("/.vaultdrive/trash: %v, %v", hidden, err)
	}
	check := func(m *mount) {
		t.Helper()
		got, err := os.ReadFile(m.path(name))
		if err != nil || string(got) != string(text) {
			t.Errorf("restored: %v, %s", err, describe(got))
		}
		info, err := os.Stat(m.path(name))
		if err != nil || info.Mode().Perm() != 0o604 || !info.ModTime().Equal(testTime) {
			t.Errorf("restored: %v, %v", err, info)
		}
	}
	b.ok("trash restore", list[0].ID)
	check(m)
	must(t, os.Remove(m.path(name)))
	m.kill()
	if list = b.trash(); len(list) != 1 {
		t.Fatalf("in the trash after a kill: %+v", list)
	}
	b.ok("trash restore", list[0].ID)
	m = b.mount()
	check(m)
	must(t, os.RemoveAll(m.path("Passport")))
	must(t, os.RemoveAll(m.path("Notes")))
	m.unmount()
	if list = b.trash(); len(list) < len(example) {
		t.Fatalf("in the trash after rm -r: %+v", list)
	}
	b.ok("trash empty", "--yes")
	if list = b.trash(); len(list) != 0 {
		t.Errorf("in the emptied trash: %+v", list)
	}
	if left, _ := filepath.Glob(filepath.Join(b.vault, "attachments", "*")); len(left) != 0 {
		t.Errorf("blobs after emptying: %v", left)
	}
	b.checkClean()
}
