package integration

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// backedUp is a mounted vault with a tree of everything in it, a program that
// goes on writing, and a backup that was made beside that.
type backedUp struct {
	*bed
	m    *mount
	file string
	want map[string]string // of the asset that stood still
}

func newBackedUp(t *testing.T) *backedUp {
	t.Helper()
	b := &backedUp{bed: newVault(t)}
	b.m = b.mount()
	b.file = filepath.Join(b.dir, "vault.nt2backup")
	still := b.m.asset("canarytitle-7f31")
	deep := filepath.Join(still, "canaryfolder-5d0e", "deep")
	must(t, os.MkdirAll(deep, 0o750))
	for i, size := range []int{0, 1, 4096, 16_384, 40_000, 300_000, 27 << 20} {
		path := filepath.Join(deep, fmt.Sprintf("canaryname-b2c9-%d", i))
		must(t, os.WriteFile(path, append(pattern(uint32(i), 1, size), "canarycontent-91aa"...), 0o640))
		must(t, os.Chtimes(path, testTime, testTime))
	}
	must(t, os.Symlink("canarytarget-c4d8", filepath.Join(still, "link")))
	b.want = snapshot(t, still)
	load := b.m.asset("Load")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for rev := uint32(1); ; rev++ {
			select {
			case <-stop:
				return
			default:
			}
			path := filepath.Join(load, fmt.Sprint(rev%20))
			if err := os.WriteFile(path, pattern(rev%20, rev, 50_000), 0o600); err != nil {
				t.Errorf("write beside the backup: %v", err)
				return
			}
		}
	}()
	b.ok("backup create", b.file)
	close(stop)
	<-stopped
	return b
}

// A backup made beside a mount under load proves itself, holds nothing in clear,
// and comes back as the same tree, byte for byte.
func TestBackupBesideAMount(t *testing.T) {
	t.Parallel()
	b := newBackedUp(t)
	var view struct {
		DID      string
		Contents int
		Missing  int
	}
	must(t, json.Unmarshal([]byte(b.mustRun("backup", "verify", "--json", b.file)), &view))
	if view.Contents < len(b.want)-1 || view.Missing != 0 {
		t.Errorf("the backup says %+v", view)
	}
	b.mustRun("backup", "verify", "--deep", "--did", view.DID, "--password-file", b.password, b.file)
	copied := filepath.Join(b.dir, "copied")
	must(t, os.Mkdir(copied, 0o700))
	data, err := os.ReadFile(b.file)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(copied, "backup"), data, 0o600))
	scan(t, "the backup", copied)
	b.m.unmount()

	back := &bed{t: t, dir: b.dir, vault: filepath.Join(b.dir, "back"), password: b.password, unlock: b.unlock, env: b.env, mounts: b.mounts}
	back.ok("backup restore", "--no-remote", b.file)
	back.checkClean()
	m := back.mount()
	sameTree(t, snapshot(t, m.path("canarytitle-7f31")), b.want)
	names, err := os.ReadDir(m.path("Load"))
	must(t, err)
	for _, e := range names {
		got, err := os.ReadFile(m.path("Load", e.Name()))
		must(t, err)
		if !isRevision(got, e.Name()) {
			t.Errorf("Load/%s came back as something that was never written", e.Name())
		}
	}
	must(t, os.WriteFile(m.path("Load", "after"), []byte("life goes on"), 0o600))
	m.unmount()
	again := filepath.Join(b.dir, "again.nt2backup")
	back.ok("backup create", again)
	back.mustRun("backup", "verify", "--password-file", b.password, "--did", view.DID, again)
	scan(t, "what commands about backups leave", filepath.Join(b.dir, "home"), filepath.Join(b.dir, "run"), filepath.Join(b.dir, "logs"), back.vault)
}

// isRevision says whether data is one that the load wrote under that name.
func isRevision(data []byte, name string) bool {
	var id uint32
	if _, err := fmt.Sscan(name, &id); err != nil || len(data) != 50_000 {
		return false
	}
	rev := binary.BigEndian.Uint32(data[4:])
	return rev%20 == id && bytes.Equal(pattern(id, rev, len(data)), data)
}

// A mounted backup is a tree that rsync copies, beside the vault it is of; what a
// killed mount leaves is cleared away by the next.
func TestBackupMountAndRsync(t *testing.T) {
	t.Parallel()
	needTool(t, "rsync", "rsync")
	b := newBackedUp(t)
	then := filepath.Join(b.dir, "then")
	must(t, os.Mkdir(then, 0o700))
	t.Cleanup(func() { unmountForSure(t, then) })
	mountBackup := func() {
		t.Helper()
		b.mustRun("backup", "mount", "--password-file", b.password, b.file, then)
	}
	views := filepath.Join(b.dir, "home", "cache", "vaultdrive", "backups", "*")
	mountBackup()
	out := filepath.Join(b.dir, "out")
	tool(t, b.dir, "rsync", "-a", filepath.Join(then, "canarytitle-7f31")+"/", out+"/")
	sameTree(t, snapshot(t, out), b.want)
	sameTree(t, snapshot(t, b.m.path("canarytitle-7f31")), b.want)
	scan(t, "a mounted backup", filepath.Join(b.dir, "home"), filepath.Join(b.dir, "run"), filepath.Join(b.dir, "logs"))

	var view struct{ PID int }
	must(t, json.Unmarshal([]byte(b.mustRun("backup", "mount", "--json", "--password-file", b.password, b.file, emptyDir(t, b.dir, "second"))), &view))
	must(t, syscall.Kill(view.PID, syscall.SIGKILL))
	b.mustRun("umount", filepath.Join(b.dir, "second"))
	b.mustRun("umount", then)
	if left, _ := filepath.Glob(views); len(left) != 1 {
		t.Errorf("a killed mount and an ended one left %d directories, want that of the killed one", len(left))
	}
	mountBackup()
	if left, _ := filepath.Glob(views); len(left) != 1 {
		t.Errorf("the next mount has %d directories, want its own alone", len(left))
	}
	b.mustRun("umount", then)
	if left, _ := filepath.Glob(views); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
	b.m.unmount()
}

func emptyDir(t *testing.T, parent, name string) string {
	t.Helper()
	dir := filepath.Join(parent, name)
	must(t, os.Mkdir(dir, 0o700))
	t.Cleanup(func() { unmountForSure(t, dir) })
	return dir
}

// A backup that does not fit says so, leaves nothing, and hurts neither the vault
// nor the backup that was there before.
func TestBackupOnAFullDisk(t *testing.T) {
	t.Parallel()
	disk := newSmallDisk(t, "4m")
	b := newVault(t)
	m := b.mount()
	dir := m.asset("A")
	must(t, os.WriteFile(filepath.Join(dir, "small"), []byte("x"), 0o600))
	file := filepath.Join(disk, "b.nt2backup")
	b.ok("backup create", file)
	before, err := os.ReadFile(file)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "large"), pattern(1, 1, 8<<20), 0o600))
	r := b.run("backup create", "--force", file)
	if r.code != 29 || !strings.Contains(r.stderr, "hint: free space") {
		t.Errorf("on a full disk: %v; want exit code 29 and a hint", r)
	}
	after, err := os.ReadFile(file)
	must(t, err)
	names, err := os.ReadDir(disk)
	must(t, err)
	if !bytes.Equal(before, after) || len(names) != 1 {
		t.Errorf("the old backup is gone, or something is left beside it: %v", names)
	}
	back := &bed{t: t, dir: b.dir, vault: filepath.Join(disk, "back"), password: b.password, unlock: b.unlock, env: b.env}
	large := filepath.Join(b.dir, "large.nt2backup")
	b.ok("backup create", large)
	if r := back.run("backup restore", large); r.code != 29 {
		t.Errorf("restore on a full disk: %v; want exit code 29", r)
	}
	if names, err = os.ReadDir(disk); err != nil || len(names) != 1 {
		t.Errorf("a restore that did not fit left %v, %v", names, err)
	}
	m.unmount()
	b.checkClean()
}
