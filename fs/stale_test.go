package fs

import (
	"syscall"
	"testing"

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
