package fs

import (
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// TestSaveBeforeTheNotice: the kernel knows a file that has just been replaced from
// elsewhere, and the notice of that is on its way. Whoever saves the file in that
// moment saves the one that is there now, and not one that nobody sees any more.
func TestSaveBeforeTheNotice(t *testing.T) {
	for how, flags := range map[string]int{"written over": syscall.O_RDWR, "emptied first": syscall.O_WRONLY | syscall.O_TRUNC} {
		t.Run(how, func(t *testing.T) {
			m := mountVault(t, nil)
			c := startClient(t)
			m.put("A/f", "first")
			path := m.a + "/f"
			if got := c.read(path); got != "first" {
				t.Fatalf("it reads %q", got)
			}
			m.settled()
			m.v.OnChange(func([]vaultcore.Change) {})
			m.done(m.v.Remove("A/f", false))
			m.put("A/f", "other")
			fd := c.open(path, flags)
			c.must(call{Op: "pwrite", FD: fd, Data: []byte("saved")})
			c.must(call{Op: "close", FD: fd})
			if got := m.get("A/f"); got != "saved" {
				t.Errorf("there is %q", got)
			}
		})
	}
}

// TestChangeBeforeTheNotice: in that moment every other request that changes
// something reaches what has the name now, not what nobody sees any more: of a
// file, and of a folder on the way to it.
func TestChangeBeforeTheNotice(t *testing.T) {
	attr := func(t *testing.T, c *client, path string) unix.Stat_t {
		return c.must(call{Op: "stat", Path: path}).Stat
	}
	for name, test := range map[string]struct {
		change call
		right  func(t *testing.T, m *mounted, c *client) bool
	}{
		"chmod": {call{Op: "chmod", Path: "d/f", Mode: 0o640}, func(t *testing.T, m *mounted, c *client) bool {
			return attr(t, c, m.a+"/d/f").Mode&0o777 == 0o640
		}},
		"touch": {call{Op: "utimes", Path: "d/f", Off: 1e9}, func(t *testing.T, m *mounted, c *client) bool {
			return attr(t, c, m.a+"/d/f").Mtim.Sec == 1e9
		}},
		"truncate": {call{Op: "truncate", Path: "d/f", Off: 2}, func(t *testing.T, m *mounted, c *client) bool { return m.get("A/d/f") == "ot" }},
		"setxattr": {call{Op: "setxattr", Path: "d/f", To: "user.x", Data: []byte("y")}, func(t *testing.T, m *mounted, c *client) bool {
			return string(c.must(call{Op: "getxattr", Path: m.a + "/d/f", To: "user.x", N: 9}).Data) == "y"
		}},
		"unlink":         {call{Op: "unlink", Path: "d/f"}, func(t *testing.T, m *mounted, c *client) bool { return !m.has("A/d/f") }},
		"rename":         {call{Op: "rename", Path: "d/f", To: "d/h"}, func(t *testing.T, m *mounted, c *client) bool { return m.get("A/d/h") == "other" }},
		"rename to":      {call{Op: "rename", Path: "g", To: "d/h"}, func(t *testing.T, m *mounted, c *client) bool { return m.get("A/d/h") == "stays" }},
		"rename over":    {call{Op: "rename", Path: "g", To: "d/f"}, func(t *testing.T, m *mounted, c *client) bool { return m.get("A/d/f") == "stays" }},
		"mkdir":          {call{Op: "mkdir", Path: "d/h", Mode: 0o700}, func(t *testing.T, m *mounted, c *client) bool { return m.has("A/d/h") }},
		"symlink":        {call{Op: "symlink", Path: "d/h", To: "x"}, func(t *testing.T, m *mounted, c *client) bool { return m.has("A/d/h") }},
		"mknod":          {call{Op: "mknod", Path: "d/h", Mode: unix.S_IFREG | 0o600}, func(t *testing.T, m *mounted, c *client) bool { return m.has("A/d/h") }},
		"create":         {call{Op: "write", Path: "d/h", Data: []byte("new")}, func(t *testing.T, m *mounted, c *client) bool { return m.get("A/d/h") == "new" }},
		"chmod a folder": {call{Op: "chmod", Path: "d", Mode: 0o750}, func(t *testing.T, m *mounted, c *client) bool { return attr(t, c, m.a+"/d").Mode&0o777 == 0o750 }},
		"what was not there": {call{Op: "chmod", Path: "d/late", Mode: 0o640}, func(t *testing.T, m *mounted, c *client) bool {
			return attr(t, c, m.a+"/d/late").Mode&0o777 == 0o640
		}},
	} {
		t.Run(name, func(t *testing.T) {
			m := mountVault(t, func(_ *mounted, o *Options) { o.XAttr = true })
			c := startClient(t)
			m.put("A/d/f", "first")
			m.put("A/g", "stays")
			c.must(call{Op: "stat", Path: m.a + "/d/f"})
			m.settled()
			m.v.OnChange(func([]vaultcore.Change) {})
			m.done(m.v.Remove("A/d", true))
			m.put("A/d/f", "other")
			m.put("A/d/late", "late")
			test.change.Path = m.a + "/" + test.change.Path
			if strings.HasPrefix(test.change.Op, "rename") {
				test.change.To = m.a + "/" + test.change.To
			}
			c.must(test.change)
			if !test.right(t, m, c) {
				t.Error("the change reached something that nobody sees")
			}
		})
	}
}

// TestChangeOfAnOpenDeletedFile: who has a deleted file open changes it as before.
func TestChangeOfAnOpenDeletedFile(t *testing.T) {
	m := mountVault(t, nil)
	c := startClient(t)
	m.put("A/f", "first")
	fd := c.open(m.a+"/f", syscall.O_RDWR)
	m.done(m.v.Remove("A/f", false))
	c.must(call{Op: "ftruncate", FD: fd, Off: 2})
	c.must(call{Op: "fchmod", FD: fd, Mode: 0o640})
	if st := c.must(call{Op: "fstat", FD: fd}).Stat; st.Size != 2 || st.Mode&0o777 != 0o640 {
		t.Errorf("it has size %d and mode %o", st.Size, st.Mode&0o777)
	}
	c.must(call{Op: "close", FD: fd})
}

// has says whether a path is there.
func (m *mounted) has(path string) bool {
	_, err := m.v.Stat(path)
	return err == nil
}
