package fs

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// TestTrashDirectory deletes files that are old enough to be kept and reads
// them below the hidden directory.
func TestTrashDirectory(t *testing.T) {
	m := mountVault(t, nil)
	c := startClient(t)
	trash := m.dir + "/.vaultdrive/trash"
	c.write(m.a+"/scan.pdf", "first")
	m.ahead.Add(int64(2 * time.Minute))
	c.must(call{Op: "unlink", Path: m.a + "/scan.pdf"})
	names := c.must(call{Op: "list", Path: trash}).Names
	if len(names) != 1 || !strings.HasPrefix(names[0], "scan~") || !strings.HasSuffix(names[0], ".pdf") {
		t.Fatalf("trash lists %v", names)
	}
	first := trash + "/" + names[0]
	if got := c.read(first); got != "first" {
		t.Errorf("reads %q", got)
	}
	if st := c.must(call{Op: "stat", Path: first}).Stat; st.Size != 5 || st.Mode&0o777 != 0o400 {
		t.Errorf("size %d, mode %o", st.Size, st.Mode)
	}
	c.refused(call{Op: "unlink", Path: first})
	c.refused(call{Op: "open", Path: first, Flags: os.O_WRONLY})
	c.refused(call{Op: "rename", Path: first, To: m.a + "/back"})

	// Deleted under the same name, and listed at once.
	c.write(m.a+"/scan.pdf", "second")
	m.ahead.Add(int64(2 * time.Minute))
	c.must(call{Op: "unlink", Path: m.a + "/scan.pdf"})
	if names := c.must(call{Op: "lsl", Path: trash}).Names; len(names) != 2 || names[0] == names[1] {
		t.Errorf("trash lists %v", names)
	}
	// An open file outlives the emptying.
	fd := c.open(first, os.O_RDONLY)
	if _, _, err := m.v.EmptyTrash(nil); err != nil {
		t.Fatal(err)
	}
	if names := c.must(call{Op: "list", Path: trash}).Names; len(names) != 0 {
		t.Errorf("emptied, and lists %v", names)
	}
	c.must(call{Op: "close", FD: fd})
	c.fails(call{Op: "open", Path: first}, syscall.ENOENT)
}

func TestTrashName(t *testing.T) {
	for _, c := range []struct{ path, want string }{
		{"A/scan.pdf", "scan~0123456789ab.pdf"},
		{"A/folder/README", "README~0123456789ab"},
		{"A/.bashrc", ".bashrc~0123456789ab"},
		{"A/" + strings.Repeat("é", 127) + ".txt", strings.Repeat("é", 119) + "~0123456789ab.txt"},
	} {
		got := trashName(&vaultcore.TrashEntry{ID: "01234567-89ab-cdef-0123-456789abcdef", Path: c.path})
		if got != c.want || len(got) > maxName || !utf8.ValidString(got) {
			t.Errorf("%s: got %s, want %s", c.path, got, c.want)
		}
	}
}
