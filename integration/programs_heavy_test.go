package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestLibreOffice(t *testing.T) {
	t.Parallel()
	needTool(t, "soffice", "libreoffice-writer-nogui")
	b := newVault(t)
	m := b.mount()
	asset := m.asset("Letters")
	profile := "-env:UserInstallation=file://" + filepath.Join(b.dir, "office")
	office := func(args ...string) string {
		t.Helper()
		return tool(t, asset, "soffice", append([]string{profile, "--headless", "--norestore"}, args...)...)
	}
	must(t, os.WriteFile(filepath.Join(asset, "letter.txt"), []byte("Dear vault,\nkeep this.\n"), 0o644))
	office("--convert-to", "odt", "letter.txt")
	office("--convert-to", "docx", "letter.odt")
	office("--convert-to", "pdf", "letter.odt")
	tool(t, asset, "soffice", profile, "--headless", "--cat", "letter.docx")
	for _, name := range []string{"letter.odt", "letter.docx", "letter.pdf"} {
		if info, err := os.Stat(filepath.Join(asset, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if text := tool(t, asset, "soffice", profile, "--headless", "--cat", "letter.odt"); !strings.Contains(text, "keep this") {
		t.Errorf("the document says %q", text)
	}
	m.unmount()
	b.checkClean()
}

// The lock file of an open document is a scratch name: it exists for everybody on
// the mount, and is never part of what would be published.
func TestOfficeLockStaysLocal(t *testing.T) {
	t.Parallel()
	b := newVault(t)
	m := b.mount()
	asset := m.asset("Letters")
	must(t, os.WriteFile(filepath.Join(asset, "letter.odt"), []byte("document"), 0o644))
	lock := filepath.Join(asset, ".~lock.letter.odt#")
	must(t, os.WriteFile(lock, []byte(",user,host,01.01.2026 00:00,file:///tmp;"), 0o644))
	if _, err := os.Stat(lock); err != nil {
		t.Fatal(err)
	}
	if state := b.fileState("Letters/.~lock.letter.odt#"); state != "scratch" {
		t.Errorf("the lock file is %q, want scratch", state)
	}
	must(t, os.Rename(lock, filepath.Join(asset, "kept.txt")))
	if state := b.fileState("Letters/kept.txt"); state == "scratch" {
		t.Error("an ordinary name is still scratch after the rename")
	}
	m.unmount()
}

func TestFioVerify(t *testing.T) {
	t.Parallel()
	needTool(t, "fio", "fio")
	b := newVault(t)
	m := b.mount()
	asset := m.asset("Bench")
	for _, job := range [][]string{
		{"--rw=randwrite", "--bs=4k", "--size=16m", "--fsync=64"},
		{"--rw=write", "--bs=1m", "--size=64m", "--end_fsync=1"},
		{"--rw=randrw", "--bsrange=1k-64k", "--size=8m", "--numjobs=3"},
		{"--rw=randwrite", "--bs=4k", "--size=8m", "--ioengine=mmap"},
		{"--rw=randwrite", "--bs=4k", "--size=8m", "--ioengine=libaio", "--iodepth=8", "--direct=1"},
	} {
		t.Run(strings.Join(job, " "), func(t *testing.T) {
			args := append([]string{"--name=job", "--directory=" + asset, "--verify=crc32c", "--verify_fatal=1", "--randseed=7",
				"--verify_state_save=0", "--output=" + filepath.Join(b.dir, "fio.log")}, job...)
			if out, err := tryTool(b.dir, "fio", args...); err != nil {
				log, _ := os.ReadFile(filepath.Join(b.dir, "fio.log"))
				t.Errorf("fio: %v\n%s\n%s", err, out, log)
			}
			left, _ := filepath.Glob(filepath.Join(asset, "job*"))
			for _, name := range left {
				must(t, os.Remove(name))
			}
		})
	}
	m.unmount()
	b.checkClean()
}

// alone is the beginning of a script in a mount namespace of its own, which has no
// other FUSE mount than the one at its argument 0: those of other tests would end
// with the script only, whoever unmounts them.
const alone = `awk -v keep="$0" '$3 ~ /^fuse/ && $2 != keep {print $2}' /proc/mounts | while read -r d; do umount -c -l "$d"; done; `

// tryStress runs stress-ng where it sees no other FUSE mount than the one at mnt:
// its stressor "io" opens every mount of the machine, and tests that unmount at
// the same time, of this package and of others, would find theirs in use.
func tryStress(dir, mnt string, args ...string) (string, error) {
	if exec.Command("unshare", "--mount", "true").Run() != nil { // no root: see mount.unmount
		return tryTool(dir, "stress-ng", args...)
	}
	return tryTool(dir, "unshare", append([]string{"--mount", "sh", "-c", alone + `exec stress-ng "$@"`, mnt}, args...)...)
}

func TestStressNG(t *testing.T) {
	t.Parallel()
	needTool(t, "stress-ng", "stress-ng")
	b := newVault(t)
	m := b.mount()
	m.expect("hard links are not supported")
	asset := m.asset("Stress")
	// Stressors that need what we refuse (hard links, locks of other kinds, extended
	// attributes, ioctls of disk file systems) are left out by name.
	for _, stressor := range []string{"access", "chdir", "chmod", "dentry", "dir", "dirdeep", "dirmany", "dup", "fallocate", "fcntl", "fiemap",
		"filename", "flock", "fpunch", "fstat", "getdent", "io", "lease", "lockf", "lockofd", "open", "readahead", "rename", "seek", "symlink",
		"sync-file", "touch", "utime", "verity"} {
		out, err := tryStress(asset, m.dir, "--temp-path", asset, "--"+stressor, "2", "--timeout", "1s", "--verify", "--metrics-brief")
		if err != nil && !strings.Contains(out, "skipped") && !strings.Contains(out, "not implemented") {
			t.Errorf("%s: %v\n%.1500s", stressor, err, out)
		}
	}
	waitFor(t, "the asset is empty again", patience, func() bool {
		list, err := os.ReadDir(asset)
		for _, e := range list {
			os.RemoveAll(filepath.Join(asset, e.Name()))
		}
		return err == nil && len(list) == 0
	})
	m.unmount()
	b.checkClean()
}
