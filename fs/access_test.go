package fs

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestAccessOfRoot wants the same answers of a mount whose modes the kernel
// checks, because it lets others in, and of one where root passes: all may be
// done but running what nobody may run.
func TestAccessOfRoot(t *testing.T) {
	if !passesAll(&Owner{UID: uint32(os.Geteuid())}) {
		t.Skip("only root passes whatever modes say")
	}
	for name, others := range map[string]bool{"alone": false, "with others": true} {
		t.Run(name, func(t *testing.T) {
			m := mountVault(t, func(_ *mounted, o *Options) { o.AllowOther = others })
			c := startClient(t)
			c.must(call{Op: "mkdir", Path: m.a + "/d", Mode: 0})
			for _, f := range []struct {
				path string
				mode uint32
				runs bool
			}{
				{"d/none", 0, false}, {"d/plain", 0o644, false}, {"d/others", 0o001, true}, {"d/script", 0o700, true}, {"d", 0, true},
			} {
				path := filepath.Join(m.a, f.path)
				if f.path != "d" {
					c.write(path, "#!/bin/sh\n")
				}
				c.must(call{Op: "chmod", Path: path, Mode: f.mode})
				want := syscall.Errno(0)
				if !f.runs {
					want = unix.EACCES
				}
				for mode, errno := range map[int]syscall.Errno{
					unix.F_OK: 0, unix.R_OK: 0, unix.W_OK: 0, unix.R_OK | unix.W_OK: 0,
					unix.X_OK: want, unix.R_OK | unix.X_OK: want,
				} {
					if got := c.do(call{Op: "access", Path: path, N: mode}).Errno; got != errno {
						t.Errorf("%s of mode %o: access %d: %v, want %v", f.path, f.mode, mode, got, errno)
					}
				}
				if f.path == "d" {
					continue
				}
				if got := c.do(call{Op: "run", Path: path}).Errno; got != want {
					t.Errorf("%s of mode %o is run: %v, want %v", f.path, f.mode, got, want)
				}
				c.must(call{Op: "write", Path: path, Data: []byte("x")})
				c.read(path)
			}
			c.must(call{Op: "chdir", Path: m.a + "/d"})
			c.must(call{Op: "chdir", Path: "/"})
			c.must(call{Op: "unlink", Path: m.a + "/d/none"})
			c.must(call{Op: "access", Path: filepath.Join(m.dir, ".vaultdrive"), N: unix.X_OK})
			c.fails(call{Op: "access", Path: filepath.Join(m.dir, ".vaultdrive/status.json"), N: unix.X_OK}, unix.EACCES)
		})
	}
}
