package fs

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// TestNoticesChangesBesideTheMount lets the kernel cache everything, changes
// it through the vault, and looks again.
func TestNoticesChangesBesideTheMount(t *testing.T) {
	m := mountVault(t, nil)
	c := startClient(t)
	list := func(dir string) []string { return c.must(call{Op: "list", Path: dir}).Names }
	m.put("A/d/f", "one")
	m.put("A/d/g", "g")
	d := m.a + "/d"

	// Cached: listing, content, attributes, absence.
	for range 2 {
		list(d)
		c.read(d + "/f")
		c.must(call{Op: "stat", Path: d + "/f"})
		c.fails(call{Op: "stat", Path: d + "/new"}, syscall.ENOENT)
	}
	if sent := m.requests(func() { list(d); c.fails(call{Op: "stat", Path: d + "/new"}, syscall.ENOENT) }); total(sent) != 0 {
		t.Errorf("not cached: %v", sent)
	}

	m.put("A/d/new", "n")  // known to be absent
	m.put("A/d/other", "") // never looked up
	if got := list(d); !slices.Equal(got, []string{"f", "g", "new", "other"}) {
		t.Errorf("after adding: %v", got)
	}
	if got := c.read(d + "/new"); got != "n" {
		t.Errorf("new reads %q", got)
	}

	m.put("A/d/f", "two, and longer")
	if got := c.read(d + "/f"); got != "two, and longer" {
		t.Errorf("replaced content reads %q", got)
	}
	if st := c.must(call{Op: "stat", Path: d + "/f"}).Stat; st.Size != 15 {
		t.Errorf("replaced content has size %d", st.Size)
	}
	m.put("A/d/f", "3")
	if got := c.read(d + "/f"); got != "3" {
		t.Errorf("shorter content reads %q", got)
	}

	m.done(m.v.Remove("A/d/new", false))
	m.done(m.v.Move("A/d/g", "A/d/moved"))
	if got := list(d); !slices.Equal(got, []string{"f", "moved", "other"}) {
		t.Errorf("after removing and moving: %v", got)
	}
	c.fails(call{Op: "stat", Path: d + "/new"}, syscall.ENOENT)
	c.fails(call{Op: "stat", Path: d + "/g"}, syscall.ENOENT)
	if got := c.read(d + "/moved"); got != "g" {
		t.Errorf("moved reads %q", got)
	}

	m.done(m.v.RenameAsset("A", "B"))
	if got := c.read(m.dir + "/B/d/f"); got != "3" {
		t.Errorf("renamed asset reads %q", got)
	}
	c.fails(call{Op: "stat", Path: m.a}, syscall.ENOENT)
	m.done(m.v.Remove("B/d", true))
	c.fails(call{Op: "stat", Path: m.dir + "/B/d/f"}, syscall.ENOENT)
	c.fails(call{Op: "stat", Path: m.dir + "/B/d"}, syscall.ENOENT)
	if got := list(m.dir + "/B"); len(got) != 0 {
		t.Errorf("after removing a folder: %v", got)
	}
	_, err := m.v.AddAsset("C", "note")
	m.done(err)
	if got := list(m.dir); !slices.Equal(got, []string{"B", "C"}) {
		t.Errorf("root lists %v", got)
	}
}

func (m *mounted) done(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
	m.settled()
}

// TestOpenReaderKeepsOldContent replaces a file under an open reader.
func TestOpenReaderKeepsOldContent(t *testing.T) {
	m := mountVault(t, nil)
	c := startClient(t)
	old := strings.Repeat("old ", 50_000)
	m.put("A/f", old)
	fd := c.open(m.a+"/f", os.O_RDONLY)
	if a := c.must(call{Op: "pread", FD: fd, N: 4}); string(a.Data) != "old " {
		t.Fatalf("reads %q", a.Data)
	}
	m.put("A/f", "new")
	if got := c.read(m.a + "/f"); got != "new" {
		t.Errorf("a new open reads %q", got)
	}
	if a := c.must(call{Op: "pread", FD: fd, N: 4, Off: 199_996}); string(a.Data) != "old " {
		t.Errorf("the old handle reads %q", a.Data)
	}
	if st := c.must(call{Op: "fstat", FD: fd}).Stat; st.Size != 200_000 {
		t.Errorf("the old handle has size %d", st.Size)
	}
	c.must(call{Op: "close", FD: fd})
}

// TestRemovedWorkingDirectory takes away the directory a program stands in.
func TestRemovedWorkingDirectory(t *testing.T) {
	m := mountVault(t, nil)
	c := startClient(t)
	m.put("A/d/e/f", "x")
	c.must(call{Op: "chdir", Path: m.a + "/d/e"})
	c.read("f")
	m.done(m.v.Remove("A/d", true))
	c.fails(call{Op: "open", Path: "f"}, syscall.ENOENT)
	c.fails(call{Op: "open", Path: "g", Flags: os.O_CREATE | os.O_RDWR}, syscall.ENOENT)
	c.fails(call{Op: "stat", Path: m.a + "/d"}, syscall.ENOENT)
	c.must(call{Op: "chdir", Path: "/"})
}

// TestManyChangesAtOnce goes over the limit of single announcements.
func TestManyChangesAtOnce(t *testing.T) {
	m := mountVault(t, nil)
	c := startClient(t)
	const files = maxNames + 500
	dir := m.node("A")
	var changes []vaultcore.Change
	for i := range files {
		name := fmt.Sprintf("f%05d", i)
		if i%10 == 0 { // known to be absent
			c.fails(call{Op: "stat", Path: m.a + "/" + name}, syscall.ENOENT)
		}
	}
	c.must(call{Op: "list", Path: m.a})
	for i := range files {
		name := fmt.Sprintf("f%05d", i)
		n, _, err := m.v.Create(dir, name, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		m.v.Release(n, true)
		changes = append(changes, vaultcore.Change{Kind: vaultcore.ChangeEntry, Dir: dir, Name: name})
	}
	m.s.fs.notifier.push(changes)
	m.settled()
	if got := len(c.must(call{Op: "list", Path: m.a}).Names); got != files {
		t.Errorf("%d names, want %d", got, files)
	}
	for i := 0; i < files; i += 10 {
		c.must(call{Op: "stat", Path: fmt.Sprintf("%s/f%05d", m.a, i)})
	}
}

// TestNotifierFolds wants a thousand changes of a directory to be one entry,
// and removals to be kept by name beyond the limit.
func TestNotifierFolds(t *testing.T) {
	v := openVault(t, newVault(t), vaultcore.Options{})
	q := newNotifier(v, slog.New(slog.DiscardHandler))
	if _, err := v.AddAsset("there", "item"); err != nil {
		t.Fatal(err)
	}
	for i := range maxNames {
		q.push([]vaultcore.Change{{Kind: vaultcore.ChangeEntry, Dir: v.Root(), Name: fmt.Sprint(i)}})
	}
	q.push([]vaultcore.Change{
		{Kind: vaultcore.ChangeEntry, Dir: v.Root(), Name: "there"},
		{Kind: vaultcore.ChangeEntry, Dir: v.Root(), Name: "gone"},
		{Kind: vaultcore.ChangeContent, Node: v.Root()},
		{Kind: vaultcore.ChangeAttr, Node: v.Root()},
	})
	d := q.pending.dirs[v.Root()]
	_, there := d.names["there"]
	_, gone := d.names["gone"]
	if len(q.pending.dirs) != 1 || !d.all || there || !gone || len(d.names) != maxNames+1 {
		t.Errorf("%d directories, all %v, there %v, gone %v, %d names", len(q.pending.dirs), d.all, there, gone, len(d.names))
	}
	if content := q.pending.nodes[v.Root()]; !content {
		t.Error("a change of attributes hid one of content")
	}
	q.stop()
	q.push([]vaultcore.Change{{Kind: vaultcore.ChangeEntry, Dir: v.Root(), Name: "late"}})
	if len(q.pending.dirs) != 0 {
		t.Error("took a change after the end")
	}
}
