package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// lastByte takes all that a disk has, and again whatever comes free of it, as
// another program that writes would.
func lastByte(t *testing.T, disk string) {
	t.Helper()
	fill(t, disk, -1<<20)
	if left := freeOf(t, disk); left != 0 {
		t.Fatalf("%d bytes are left of the disk", left)
	}
}

func freeOf(t *testing.T, disk string) int64 {
	t.Helper()
	var st syscall.Statfs_t
	must(t, syscall.Statfs(disk, &st))
	return int64(st.Bavail) * st.Bsize
}

// fullToTheLastByte is a mounted device with 40 published files, four of them
// deleted, on a disk that another program has filled to its last byte.
func fullToTheLastByte(t *testing.T) (bob *bed, there *mount, disk string, files map[string][]byte) {
	t.Helper()
	files = someFiles(40, 300_000)
	_, bob, _, disk = smallDevices(t, 120<<20, files)
	there = bob.mountAgain()
	there.expect("") // a full disk is worth a warning, in whatever words
	there.sameFiles(files)
	for i := range 4 {
		name := fmt.Sprintf("file-%02d", i)
		must(t, os.Remove(there.path("A", name)))
		delete(files, name)
	}
	bob.ok("sync now")
	lastByte(t, disk)
	there.useUp()
	return bob, there, disk, files
}

// useUp makes empty files until the database itself has no room for one more: what
// its files had allocated before is used then.
func (m *mount) useUp() {
	m.b.t.Helper()
	for i := range 100_000 {
		f, err := os.Create(m.path("A", fmt.Sprint("empty-", i)))
		if err == nil {
			err = f.Close()
		}
		if errors.Is(err, syscall.ENOSPC) {
			return
		}
		must(m.b.t, err)
	}
	m.b.t.Fatal("the database never ran out of room")
}

// On a disk that is full to its last byte all works that makes room: deleting in
// the mount, the trash, eviction; and so does unmounting.
func TestRoomIsMadeOnTheLastByte(t *testing.T) {
	t.Parallel()
	for what, act := range map[string]func(b *bed, m *mount, files map[string][]byte){
		"trash": func(b *bed, m *mount, files map[string][]byte) { b.ok("trash empty", "--yes") },
		"evict": func(b *bed, m *mount, files map[string][]byte) { b.ok("evict", "A") },
		"delete": func(b *bed, m *mount, files map[string][]byte) {
			for i := 4; i < 30; i++ {
				name := fmt.Sprintf("file-%02d", i)
				must(b.t, os.Remove(m.path("A", name)))
				delete(files, name)
			}
			b.ok("trash empty", "--yes")
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			bob, there, disk, files := fullToTheLastByte(t)
			act(bob, there, files)
			waitFor(t, "room on the disk", patience, func() bool { return freeOf(t, disk) > 600_000 })
			must(t, os.Remove(filepath.Join(disk, "filler")))
			files["after"] = pattern(50, 1, 1<<20)
			must(t, os.WriteFile(there.path("A", "after"), files["after"], 0o600))
			there.unmount()
			there = bob.mountAgain()
			there.sameFiles(files)
			there.unmount()
			bob.checkClean()
		})
	}
}

// A vault on such a disk is unmounted, killed and mounted again as any other, and
// room is made then too.
func TestMountOnTheLastByte(t *testing.T) {
	t.Parallel()
	bob, there, disk, files := fullToTheLastByte(t)
	must(t, os.Remove(there.path("A", "file-30")))
	delete(files, "file-30")
	lastByte(t, disk)
	there.unmount()
	there = bob.mountAgain()
	there.expect("")
	must(t, os.Remove(there.path("A", "file-31")))
	delete(files, "file-31")
	lastByte(t, disk)
	there.kill()
	there = bob.mountAgain()
	there.expect("")
	there.sameFiles(files)
	bob.ok("trash empty", "--yes")
	must(t, os.Remove(filepath.Join(disk, "filler")))
	there.unmount()
	bob.checkClean()
}
