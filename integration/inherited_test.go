package integration

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A mount in the background keeps nothing of the script that made it: a pipe
// would never end, a lock never be free.
func TestMountKeepsNothingInherited(t *testing.T) {
	needFUSE(t)
	b := newVault(t)
	dir := filepath.Join(b.dir, "mnt")
	must(t, os.Mkdir(dir, 0o700))
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	cmd := b.command("mount", dir)
	cmd.ExtraFiles = []*os.File{w, w, w, w} // the daemon has pipes of its own on the first two
	if got := b.finish(cmd); got.code != 0 {
		t.Fatalf("mount: %v", got)
	}
	must(t, w.Close())
	must(t, r.SetReadDeadline(time.Now().Add(patience)))
	if _, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the pipe is open while the vault is mounted: %v", err)
	}
	b.mustRun("umount", dir)
}
