package integration

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// fill takes what a disk has left, but for some bytes. Removing the file gives it
// back.
func fill(t *testing.T, disk string, spare int64) (file string) {
	t.Helper()
	var st syscall.Statfs_t
	must(t, syscall.Statfs(disk, &st))
	file = filepath.Join(disk, "filler")
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	must(t, err)
	defer f.Close()
	n := int64(st.Bavail)*st.Bsize - spare
	if _, err := io.CopyN(f, zeros{}, n); err != nil && !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	return file
}

// condition waits until a condition of synchronisation is named, or is not any
// more. Every `status` names it then too.
func (b *bed) condition(kind string, there bool) {
	b.t.Helper()
	waitFor(b.t, fmt.Sprintf("condition %s: %v", kind, there), patience, func() bool {
		for _, c := range b.syncStatus().Conditions {
			if c.Kind == kind {
				return there
			}
		}
		return !there
	})
	if text := b.ok("status"); there && !strings.Contains(text, "disk of this device is full") {
		b.t.Errorf("status says nothing of %s:\n%s", kind, text)
	}
}

// sameFiles compares what a mount shows of asset A.
func (m *mount) sameFiles(want map[string][]byte) {
	m.b.t.Helper()
	for name, data := range want {
		got, err := os.ReadFile(m.path("A", name))
		if err != nil || string(got) != string(data) {
			m.b.t.Errorf("%s: %v, %s", name, err, describe(got))
		}
	}
}

// smallDevices are ada, with files in A, and bob on a disk of his own, as full as
// leaves spare bytes.
func smallDevices(t *testing.T, spare int64, files map[string][]byte) (ada, bob *bed, here *mount, disk string) {
	t.Helper()
	needFUSE(t)
	disk = newSmallDisk(t, "192m")
	remote := "file://" + shortTemp(t, "nas")
	ada = newDevice(t, "ada", remote, nil, nil)
	here = ada.mountAgain()
	here.asset("A")
	for name, data := range files {
		must(t, os.WriteFile(here.path("A", name), data, 0o600))
	}
	ada.ok("sync now")
	bob = newBed(t)
	bob.vault = filepath.Join(disk, "vault")
	if r := bob.join("bob", remote, ada.address()); r.code != 0 {
		t.Fatalf("bob joins: %v", r)
	}
	fill(t, disk, spare)
	return ada, bob, here, disk
}

func someFiles(n, size int) map[string][]byte {
	files := make(map[string][]byte)
	for i := range n {
		files[fmt.Sprintf("file-%02d", i)] = pattern(uint32(i), 1, size)
	}
	return files
}

// Contents arrive on a disk that cannot hold them: that is named, what a person
// saves has room before what is fetched ahead, nothing is lost, and all arrives by
// itself once there is room.
func TestDiskFullWhileContentsArrive(t *testing.T) {
	t.Parallel()
	files := someFiles(12, 6<<20)
	ada, bob, here, disk := smallDevices(t, 40<<20, files)
	there := bob.mountAgain()
	there.expect("") // a full disk is worth a warning, in whatever words
	bob.condition("disk-full", true)
	denied := 0
	for name, data := range files {
		got, err := os.ReadFile(there.path("A", name))
		if errors.Is(err, syscall.ENOSPC) {
			denied++
		} else if err != nil || string(got) != string(data) {
			t.Errorf("%s: %v, %s", name, err, describe(got))
		}
	}
	if denied == 0 {
		t.Error("everything could be read: the disk was not full")
	}
	files["saved"] = pattern(77, 1, 2<<20)
	must(t, os.WriteFile(there.path("A", "saved"), files["saved"], 0o600))
	waitFor(t, "ada has what bob saved on the full disk", patience, func() bool {
		got, err := os.ReadFile(here.path("A", "saved"))
		return err == nil && string(got) == string(files["saved"])
	})
	must(t, os.Remove(filepath.Join(disk, "filler")))
	bob.condition("disk-full", false)
	waitFor(t, "all contents are here", patience, func() bool { return bob.syncStatus().Queue == 0 })
	ada.ok("sync now")
	here.unmount()
	must(t, os.RemoveAll(strings.TrimPrefix(bob.syncStatus().Remote, "file://")+"/vaults"))
	there.sameFiles(files) // without the remote
	there.unmount()
	bob.checkClean()
	ada.checkClean()
}

// Somebody else takes the very last byte of the disk. The drive goes on showing
// what it has, says no to what needs room, and takes part again once there is some.
func TestDiskFullToTheLastByte(t *testing.T) {
	t.Parallel()
	files := someFiles(6, 3<<20)
	ada, bob, here, disk := smallDevices(t, 100<<20, files)
	there := bob.mountAgain()
	there.expect("")
	bob.ok("sync now")
	there.sameFiles(files)
	fill(t, disk, 0)
	files["new"] = pattern(50, 1, 1<<20)
	must(t, os.WriteFile(here.path("A", "new"), files["new"], 0o600))
	must(t, os.Remove(here.path("A", "file-00")))
	delete(files, "file-00")
	ada.ok("sync now")
	if err := os.WriteFile(there.path("A", "denied"), pattern(51, 1, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("saving on the full disk: %v", err)
	}
	clearError(t, bob.run("sync now"), "no_space", 29)
	bob.condition("disk-full", true)
	for _, name := range []string{"file-01", "file-02"} {
		there.sameFiles(map[string][]byte{name: files[name]})
	}
	must(t, os.Remove(filepath.Join(disk, "filler")))
	bob.condition("disk-full", false)
	waitFor(t, "bob has what ada saved", patience, func() bool {
		got, err := os.ReadFile(there.path("A", "new"))
		return err == nil && string(got) == string(files["new"])
	})
	bob.ok("sync now")
	there.sameFiles(files)
	names, err := os.ReadDir(there.path("A"))
	must(t, err)
	if slices.ContainsFunc(names, func(e os.DirEntry) bool { return e.Name() == "file-00" }) {
		t.Error("what ada deleted is still there")
	}
	there.unmount()
	here.unmount()
	bob.checkClean()
	ada.checkClean()
}
