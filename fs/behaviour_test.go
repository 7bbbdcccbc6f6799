package fs

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// TestRequestCounts holds the budget of round trips.
func TestRequestCounts(t *testing.T) {
	m := mountVault(t, nil)
	c := startClient(t)
	c.must(call{Op: "mkdir", Path: m.a + "/d", Mode: 0o755})
	file := m.a + "/d/f"
	budget := func(what string, most uint64, f func()) {
		t.Helper()
		if sent := m.requests(f); total(sent) > most {
			t.Errorf("%s: %d requests, want at most %d: %v", what, total(sent), most, sent)
		}
	}
	// A first round lets the kernel learn which calls it need not send.
	c.write(m.a+"/d/first", "x")
	c.must(call{Op: "lsl", Path: m.a + "/d"})

	budget("create, write and close", 4, func() { c.write(file, strings.Repeat("x", 4000)) })
	c.must(call{Op: "stat", Path: file})
	budget("stat of a known name", 0, func() { c.must(call{Op: "stat", Path: file}) })
	budget("read of what was just written", 1, func() { c.read(file) })
	budget("open and read again", 1, func() {
		fd := c.open(file, os.O_RDONLY)
		c.must(call{Op: "pread", FD: fd, N: 4000})
		c.must(call{Op: "close", FD: fd})
	})

	fd := c.open(file, os.O_RDWR)
	// Exactly one: what is written is the daemon's at once. It also shows that requests are counted.
	if sent := m.requests(func() { c.must(call{Op: "pwrite", FD: fd, Data: make([]byte, 4096)}) }); total(sent) != 1 || sent["WRITE"] != 1 {
		t.Errorf("write of 4 KiB: %v, want one WRITE", sent)
	}
	c.must(call{Op: "close", FD: fd})

	for i := range 40 {
		c.write(fmt.Sprintf("%s/d/%d", m.a, i), "x")
	}
	c.must(call{Op: "lsl", Path: m.a + "/d"})
	budget("second ls -l", 1, func() { c.must(call{Op: "lsl", Path: m.a + "/d"}) })

	perName := uint64(1) // and a GETATTR of the directory that the one before has changed
	if !passesAll(&Owner{UID: uint32(os.Geteuid())}) {
		perName = 2
	}
	budget("ten unlinks", 10*perName, func() {
		for i := range 10 {
			c.must(call{Op: "unlink", Path: fmt.Sprintf("%s/d/%d", m.a, i)})
		}
	})

	m.unmount()
	m.mount(nil)
	budget("first path walk, and the root", 3, func() { c.must(call{Op: "stat", Path: m.a + "/d"}) })
	budget("first stat of a name", 1, func() { c.must(call{Op: "stat", Path: m.a + "/d/first"}) })
	budget("cold open and read", 2, func() {
		fd := c.open(m.a+"/d/f", os.O_RDONLY)
		c.must(call{Op: "pread", FD: fd, N: 4096})
		c.must(call{Op: "close", FD: fd})
	})
	budget("open of an unknown name", 1, func() {
		c.fails(call{Op: "open", Path: m.a + "/d/none"}, syscall.ENOENT)
	})
	budget("the same again", 0, func() {
		c.fails(call{Op: "open", Path: m.a + "/d/none"}, syscall.ENOENT)
	})
}

// TestMappedWriteIsCommitted checks in the vault what a mapping wrote after
// the file was closed.
func TestMappedWriteIsCommitted(t *testing.T) {
	m := mountVault(t, nil)
	c := startClient(t)
	c.write(m.a+"/f", strings.Repeat(".", 9000))
	c.must(call{Op: "mapwrite", Path: m.a + "/f", N: 9000, Off: 4094, Data: []byte("mapped")})
	want := strings.Repeat(".", 4094) + "mapped" + strings.Repeat(".", 4900)
	eventually(t, "RELEASE has committed", func() bool { return m.get("A/f") == want })
}

func TestXAttrOff(t *testing.T) {
	m := mountVault(t, nil)
	c := startClient(t)
	c.write(m.a+"/f", "x")
	c.fails(call{Op: "getxattr", Path: m.a + "/f", To: ownXAttr + "id", N: 100}, unix.EOPNOTSUPP)
	if sent := m.requests(func() {
		c.do(call{Op: "getxattr", Path: m.a + "/f", To: ownXAttr + "id", N: 100})
		c.do(call{Op: "listxattr", Path: m.a + "/f", N: 100})
	}); total(sent) != 0 {
		t.Errorf("requests: %v", sent)
	}
}

func TestXAttrOn(t *testing.T) {
	m := mountVault(t, func(_ *mounted, o *Options) { o.XAttr = true })
	c := startClient(t)
	f := m.a + "/f.txt"
	c.write(f, "x")
	var info vaultcore.Info
	eventually(t, "RELEASE has come", func() bool {
		var err error
		if info, err = m.v.Stat("A/f.txt"); err != nil {
			t.Fatal(err)
		}
		return info.State != "draft"
	})
	for name, want := range map[string]string{"id": info.ID, "state": info.State, "version": fmt.Sprint(info.Version), "type": info.MIME} {
		a := c.must(call{Op: "getxattr", Path: f, To: ownXAttr + name, N: 300})
		if string(a.Data) != want || want == "" {
			t.Errorf("%s: got %q, want %q", name, a.Data, want)
		}
	}
	if a := c.must(call{Op: "getxattr", Path: m.a, To: ownXAttr + "type", N: 300}); string(a.Data) != "item" {
		t.Errorf("type of an asset: %q", a.Data)
	}
	size := c.must(call{Op: "listxattr", Path: f}).N
	list := string(c.must(call{Op: "listxattr", Path: f, N: size}).Data)
	if !strings.Contains(list, ownXAttr+"id\x00") || !strings.HasSuffix(list, "\x00") {
		t.Errorf("list %q", list)
	}
	c.fails(call{Op: "getxattr", Path: f, To: ownXAttr + "id", N: 3}, unix.ERANGE)
	c.fails(call{Op: "getxattr", Path: f, To: "user.other", N: 100}, unix.ENODATA)
	c.fails(call{Op: "getxattr", Path: f, To: "security.selinux", N: 100}, unix.ENODATA)
	c.fails(call{Op: "getxattr", Path: f, To: "system.posix_acl_access", N: 100}, unix.ENODATA)
	c.fails(call{Op: "setxattr", Path: f, To: ownXAttr + "id", Data: []byte("x")}, unix.EPERM)
	c.fails(call{Op: "setxattr", Path: f, To: "security.x", Data: []byte("x")}, unix.EOPNOTSUPP)
	c.fails(call{Op: "setxattr", Path: m.a, To: "user.other", Data: []byte("x")}, unix.EOPNOTSUPP)
	c.must(call{Op: "setxattr", Path: f, To: "user.mine", Data: []byte("kept")})
	if a := c.must(call{Op: "getxattr", Path: f, To: "user.mine", N: 100}); string(a.Data) != "kept" {
		t.Errorf("user.mine: %q", a.Data)
	}
	c.must(call{Op: "rmxattr", Path: f, To: "user.mine"})
	c.fails(call{Op: "rmxattr", Path: f, To: "user.mine"}, unix.ENODATA)
	c.fails(call{Op: "rmxattr", Path: f, To: ownXAttr + "id"}, unix.EPERM)
	c.fails(call{Op: "rmxattr", Path: f, To: "user.other"}, unix.ENODATA)
}

func TestReadOnlyMount(t *testing.T) {
	m := mountVault(t, nil)
	m.put("A/d/f", "content")
	m.unmount()
	m.mount(func(_ *mounted, o *Options) { o.ReadOnly = true })
	c := startClient(t)
	if got := c.read(m.a + "/d/f"); got != "content" {
		t.Errorf("reads %q", got)
	}
	for _, x := range []call{
		{Op: "write", Path: m.a + "/g"},
		{Op: "open", Path: m.a + "/d/f", Flags: os.O_RDWR},
		{Op: "open", Path: m.a + "/d/f", Flags: os.O_TRUNC},
		{Op: "mkdir", Path: m.a + "/e"},
		{Op: "unlink", Path: m.a + "/d/f"},
		{Op: "rename", Path: m.a + "/d/f", To: m.a + "/d/g"},
		{Op: "chmod", Path: m.a + "/d/f", Mode: 0o600},
		{Op: "symlink", Path: m.a + "/l", To: "x"},
	} {
		c.fails(x, syscall.EROFS)
	}
}

func TestRootHoldsAssets(t *testing.T) {
	m := mountVault(t, nil)
	c := startClient(t)
	c.fails(call{Op: "write", Path: m.dir + "/file"}, syscall.EPERM)
	c.fails(call{Op: "mkdir", Path: m.dir + "/.Trash-0", Mode: 0o700}, syscall.EPERM)
	c.fails(call{Op: "mkdir", Path: m.dir + "/.vaultdrive", Mode: 0o700}, syscall.EEXIST)
	c.fails(call{Op: "mkdir", Path: m.dir + "/" + pollHackName, Mode: 0o700}, syscall.EEXIST)
	c.must(call{Op: "mkdir", Path: m.dir + "/B", Mode: 0o700})
	if info, err := m.v.Stat("B"); err != nil || info.Kind != "asset" || info.Type != "item" {
		t.Errorf("mkdir made %+v, %v", info, err)
	}
	c.must(call{Op: "mkdir", Path: m.a + "/folder", Mode: 0o700})
	c.fails(call{Op: "rename", Path: m.a + "/folder", To: m.dir + "/C"}, syscall.EXDEV)
	c.fails(call{Op: "rename", Path: m.dir + "/B", To: m.a + "/B"}, syscall.EXDEV)
	c.write(m.a+"/f", "x")
	c.fails(call{Op: "rename", Path: m.a + "/f", To: m.dir + "/" + pollHackName}, syscall.EPERM)
	c.fails(call{Op: "rmdir", Path: m.a}, syscall.ENOTEMPTY)
	c.must(call{Op: "rmdir", Path: m.dir + "/B"})
	if got := c.must(call{Op: "list", Path: m.dir}).Names; !slices.Equal(got, []string{"A"}) {
		t.Errorf("root lists %v", got)
	}
}

func TestAssetAsRoot(t *testing.T) {
	m := mountVault(t, nil)
	m.put("A/x", "in A")
	m.unmount()
	m.mount(func(m *mounted, o *Options) { o.Asset = m.node("A") })
	c := startClient(t)
	c.write(m.dir+"/y", "at the root")
	if got := m.get("A/y"); got != "at the root" {
		t.Errorf("vault holds %q", got)
	}
	if got := c.must(call{Op: "list", Path: m.dir}).Names; !slices.Equal(got, []string{"x", "y"}) {
		t.Errorf("root lists %v", got)
	}
	c.must(call{Op: "mkdir", Path: m.dir + "/folder", Mode: 0o700})
	if info, err := m.v.Stat("A/folder"); err != nil || info.Kind != "folder" {
		t.Errorf("mkdir made %+v, %v", info, err)
	}
	c.fails(call{Op: "mkdir", Path: m.dir + "/.Trash-0", Mode: 0o700}, syscall.EPERM)
	c.fails(call{Op: "write", Path: m.dir + "/.vaultdrive"}, syscall.EISDIR)
	c.must(call{Op: "read", Path: m.dir + "/.vaultdrive/status.json"})
	m.put("A/z", "beside")
	if got := c.read(m.dir + "/z"); got != "beside" {
		t.Errorf("reads %q", got)
	}
}

func TestHiddenDirectory(t *testing.T) {
	n := 0
	m := mountVault(t, func(_ *mounted, o *Options) {
		o.StatusJSON = func() []byte { n++; return fmt.Appendf(nil, `{"made":%d}`, n) }
	})
	c := startClient(t)
	hidden := m.dir + "/.vaultdrive"
	if got := c.must(call{Op: "list", Path: hidden}).Names; !slices.Equal(got, []string{"conflicts", "status.json", "trash", "unverified"}) {
		t.Errorf("lists %v", got)
	}
	if slices.Contains(c.must(call{Op: "list", Path: m.dir}).Names, ".vaultdrive") {
		t.Error("the root lists it")
	}
	for i := 1; i <= 2; i++ {
		var status struct{ Made int }
		if err := json.Unmarshal([]byte(c.read(hidden+"/status.json")), &status); err != nil || status.Made != i {
			t.Errorf("status %+v, %v; want %d", status, err, i)
		}
	}
	if st := c.must(call{Op: "stat", Path: hidden + "/status.json"}).Stat; st.Size != 0 || st.Mode&0o777 != 0o400 {
		t.Errorf("status: size %d, mode %o", st.Size, st.Mode)
	}
	for _, dir := range []string{"unverified", "conflicts", "trash"} {
		if got := c.must(call{Op: "list", Path: hidden + "/" + dir}).Names; len(got) != 0 {
			t.Errorf("%s lists %v", dir, got)
		}
	}
	c.fails(call{Op: "stat", Path: hidden + "/none"}, syscall.ENOENT)
	c.refused(call{Op: "write", Path: hidden + "/new"})
	c.refused(call{Op: "mkdir", Path: hidden + "/trash/new", Mode: 0o700})
	c.refused(call{Op: "unlink", Path: hidden + "/status.json"})
	c.refused(call{Op: "rename", Path: hidden + "/status.json", To: m.a + "/s"})
	c.refused(call{Op: "rmdir", Path: hidden})
	c.refused(call{Op: "open", Path: hidden + "/status.json", Flags: os.O_RDWR})
}

func TestStatfs(t *testing.T) {
	m := mountVault(t, nil)
	c := startClient(t)
	st := c.must(call{Op: "statfs", Path: m.a}).Fs
	if st.Bsize != 4096 || st.Namelen != 255 || st.Blocks == 0 || st.Bavail == 0 || st.Bavail > st.Blocks {
		t.Errorf("%+v", st)
	}
}

// TestPanicIsEIO lets a handler panic: the request fails, the mount goes on.
func TestPanicIsEIO(t *testing.T) {
	m := mountVault(t, func(_ *mounted, o *Options) { o.StatusJSON = func() []byte { panic("secret name") } })
	m.panics = 2
	c := startClient(t)
	for range m.panics {
		c.fails(call{Op: "read", Path: m.dir + "/.vaultdrive/status.json"}, syscall.EIO)
	}
	c.write(m.a+"/f", "x")
	if log := m.log.all(); !strings.Contains(log, "hidden.go") || strings.Contains(log, "secret") {
		t.Errorf("log without a stack, or with the value:\n%s", log)
	}
}
