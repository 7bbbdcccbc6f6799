package blob_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob/blobtest"
)

func openDir(t testing.TB, path string) *blob.Dir {
	t.Helper()
	d, err := blob.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestDirStore(t *testing.T) {
	blobtest.Run(t, func(t *testing.T) blob.Store { return openDir(t, t.TempDir()) }, 100)
}

func TestDirStoreOnPoorFileSystems(t *testing.T) {
	for _, linkMissing := range []bool{false, true} {
		t.Run(fmt.Sprintf("link missing %v", linkMissing), func(t *testing.T) {
			if linkMissing {
				testLookThenRename(t)
				return
			}
			blobtest.Run(t, func(t *testing.T) blob.Store {
				d := openDir(t, t.TempDir())
				blob.PretendMissing(d, false)
				return d
			}, 100)
		})
	}
}

// With neither step two simultaneous writers may both win, so the suite's
// race is left out here.
func testLookThenRename(t *testing.T) {
	d := openDir(t, t.TempDir())
	blob.PretendMissing(d, true)
	for i, want := range []error{nil, blob.ErrExist} {
		err := d.Put(t.Context(), "d/a", strings.NewReader("x"), 1, true)
		if !errors.Is(err, want) {
			t.Errorf("Put %d: %v, want %v", i, err, want)
		}
	}
	writeFile(t, d, "old", "1")
	writeFile(t, d, "new", "2")
	if err := d.Rename("old", "new"); !errors.Is(err, blob.ErrExist) {
		t.Errorf("Rename over a file: %v", err)
	}
	if err := d.Rename("old", "newer"); err != nil {
		t.Error(err)
	}
}

func writeFile(t *testing.T, d *blob.Dir, name, text string) {
	t.Helper()
	f, err := d.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	f.Close()
}

func readFile(t *testing.T, d *blob.Dir, name string) string {
	t.Helper()
	f, err := d.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestDirDoors(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path)
	writeFile(t, d, "a.part", "hello")
	if _, err := d.Create("a.part"); !errors.Is(err, blob.ErrExist) {
		t.Errorf("Create twice: %v", err)
	}
	info, err := os.Stat(filepath.Join(path, "a.part"))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := d.Rename("a.part", "a.bin"); err != nil {
		t.Fatal(err)
	}
	if err := d.Rename("a.part", "b.bin"); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("Rename of nothing: %v", err)
	}
	writeFile(t, d, "b.part", "other")
	if err := d.Rename("b.part", "a.bin"); !errors.Is(err, blob.ErrExist) {
		t.Errorf("Rename over a blob: %v", err)
	}
	if got := readFile(t, d, "a.bin"); got != "hello" {
		t.Errorf("content %q", got)
	}
	if size, err := d.Stat("a.bin"); size != 5 || err != nil {
		t.Errorf("Stat: %d, %v", size, err)
	}
	if err := d.SyncFiles([]string{"a.bin", "gone.bin", "b.part"}, 8); err != nil {
		t.Error(err)
	}
	if err := d.Sync(); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := d.Remove("b.part"); err != nil {
			t.Errorf("Remove: %v", err)
		}
	}
	for _, err := range []error{second(d.Open("b.part")), second(d.Stat("b.part"))} {
		if !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("removed file: %v", err)
		}
	}
	if avail, total, err := d.Free(); avail == 0 || total < avail || err != nil {
		t.Errorf("Free: %d of %d, %v", avail, total, err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestDirHostileNames(t *testing.T) {
	d := openDir(t, t.TempDir())
	writeFile(t, d, "good", "x")
	for _, name := range append(blobtest.HostileKeys, "a/b") {
		for what, err := range map[string]error{
			"Create":      second(d.Create(name)),
			"Open":        second(d.Open(name)),
			"Stat":        second(d.Stat(name)),
			"Remove":      d.Remove(name),
			"Rename from": d.Rename(name, "x"),
			"Rename to":   d.Rename("good", name),
			"SyncFiles":   d.SyncFiles([]string{name}, 1),
		} {
			if !errors.Is(err, blob.ErrKey) {
				t.Errorf("%s %.30q: %v", what, name, err)
			}
		}
	}
}

func TestDirNames(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path)
	var want []string
	for i := range 3000 {
		name := fmt.Sprintf("%04d.bin", i)
		want = append(want, name)
		writeFile(t, d, name, name[:i%4])
	}
	os.Mkdir(filepath.Join(path, "folder"), 0o700)
	os.Symlink("0000.bin", filepath.Join(path, "link"))
	os.WriteFile(filepath.Join(path, ".dot"), nil, 0o600)
	var got []string
	err := d.Names(func(name string, size int64, mtime time.Time) bool {
		got = append(got, name)
		if mtime.IsZero() || time.Since(mtime) > time.Hour {
			t.Errorf("%s: mtime %v", name, mtime)
		}
		return true
	})
	slices.Sort(got)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%d names of %d, %v", len(got), len(want), err)
	}
	n := 0
	if err := d.Names(func(string, int64, time.Time) bool { n++; return n < 2 }); err != nil || n != 2 {
		t.Errorf("stopped after %d, %v", n, err)
	}
}

func TestDirFollowsNoLink(t *testing.T) {
	outside, path := t.TempDir(), t.TempDir()
	os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600)
	os.Symlink(filepath.Join(outside, "secret"), filepath.Join(path, "file"))
	os.Symlink(outside, filepath.Join(path, "folder"))
	os.Symlink("/nowhere", filepath.Join(path, "dangling"))
	unix.Mkfifo(filepath.Join(path, "pipe"), 0o600)
	d := openDir(t, path)
	for _, name := range []string{"file", "folder", "dangling"} {
		if _, err := d.Open(name); err == nil {
			t.Errorf("opened through the link %s", name)
		}
		if _, err := d.Create(name); !errors.Is(err, blob.ErrExist) {
			t.Errorf("created through the link %s: %v", name, err)
		}
	}
	for _, key := range []string{"file", "folder/secret", "pipe", "dangling"} {
		if _, err := d.Get(t.Context(), key, 0, -1); err == nil {
			t.Errorf("Get %s went through", key)
		}
		if _, err := d.Head(t.Context(), key); err == nil {
			t.Errorf("Head %s went through", key)
		}
	}
	if err := d.Put(t.Context(), "folder/new", strings.NewReader("x"), 1, false); !errors.Is(err, blob.ErrKey) {
		t.Errorf("Put through a link: %v", err)
	}
	for attrs, err := range d.List(t.Context(), "", "") {
		t.Errorf("listed %s, %v", attrs.Key, err)
	}
	if names, _ := os.ReadDir(outside); len(names) != 1 {
		t.Errorf("%d files outside", len(names))
	}
}

// TestDirForeignGivesWay puts a blob where somebody has put what is none: Head
// says that nothing is there, so a put has to succeed. A folder with something
// in it stays.
func TestDirForeignGivesWay(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path)
	outside := filepath.Join(t.TempDir(), "secret")
	os.WriteFile(outside, []byte("outside"), 0o600)
	for _, createOnly := range []bool{true, false} {
		os.Symlink(outside, filepath.Join(path, "link"))
		os.Symlink("/nowhere", filepath.Join(path, "dangling"))
		unix.Mkfifo(filepath.Join(path, "pipe"), 0o600)
		os.Mkdir(filepath.Join(path, "empty"), 0o700)
		for _, key := range []string{"link", "dangling", "pipe", "empty"} {
			if err := d.Put(t.Context(), key, strings.NewReader("x"), 1, createOnly); err != nil {
				t.Fatalf("put %s (createOnly %v): %v", key, createOnly, err)
			}
			if a, err := d.Head(t.Context(), key); err != nil || a.Size != 1 {
				t.Fatalf("head %s: %+v, %v", key, a, err)
			}
			os.Remove(filepath.Join(path, key))
		}
	}
	if b, err := os.ReadFile(outside); err != nil || string(b) != "outside" {
		t.Fatalf("what a link pointed to: %q, %v", b, err)
	}
	os.MkdirAll(filepath.Join(path, "full", "sub"), 0o700)
	for _, createOnly := range []bool{true, false} {
		if err := d.Put(t.Context(), "full", strings.NewReader("x"), 1, createOnly); err == nil {
			t.Fatal("a folder with something in it was replaced")
		}
	}
}

func TestDirMovedAndClosed(t *testing.T) {
	parent := t.TempDir()
	path := filepath.Join(parent, "a")
	os.Mkdir(path, 0o700)
	d := openDir(t, path)
	os.Rename(path, filepath.Join(parent, "b"))
	writeFile(t, d, "x", "still here")
	if got := readFile(t, d, "x"); got != "still here" {
		t.Errorf("after the directory moved: %q", got)
	}
	if _, err := blob.OpenDir(path); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("OpenDir of nothing: %v", err)
	}
	d.Close()
	for _, err := range []error{
		second(d.Create("y")), second(d.Open("x")), second(d.Stat("x")), d.Remove("x"), d.Rename("x", "y"), d.Sync(),
		d.Names(func(string, int64, time.Time) bool { return true }), second(d.Get(t.Context(), "x", 0, -1)),
		d.Put(t.Context(), "z", strings.NewReader(""), 0, true), d.SyncFiles([]string{"x"}, 1),
	} {
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
}

func TestDirManyAtOnce(t *testing.T) {
	d := openDir(t, t.TempDir())
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 50 {
				name := fmt.Sprintf("%d-%d", w, i)
				writeFile(t, d, name+".part", name)
				if err := d.Rename(name+".part", name+".bin"); err != nil {
					t.Error(err)
				}
				if got := readFile(t, d, name+".bin"); got != name {
					t.Errorf("read %q in %s", got, name)
				}
				if err := d.SyncFiles([]string{name + ".bin"}, 2); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for range 20 {
			_ = d.Names(func(string, int64, time.Time) bool { return true })
			_ = d.Sync()
		}
	})
	wg.Wait()
}

func TestDirSweep(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path)
	up, err := d.Start(t.Context(), blob.Upload{Key: "d/big", PartSize: 10})
	if err != nil {
		t.Fatal(err)
	}
	id := strings.Repeat("0a", 16)
	foreign := []string{".tmp-", ".tmp-xyz", ".tmp-" + id + ".old", ".up-" + id[:30], ".hidden", "d/blob.bin"}
	for _, name := range append(foreign, ".tmp-"+id, "d/.tmp-"+id) {
		os.WriteFile(filepath.Join(path, name), nil, 0o600)
	}
	if err := d.Sweep(t.Context(), time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Start(t.Context(), up); err != nil {
		t.Errorf("a young upload was swept: %v", err)
	}
	if err := d.Sweep(t.Context(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Start(t.Context(), up); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("an old upload is still there: %v", err)
	}
	for _, name := range foreign {
		if _, err := os.Stat(filepath.Join(path, name)); err != nil {
			t.Errorf("not ours, but swept: %s", name)
		}
	}
	for _, name := range []string{".tmp-" + id, "d/.tmp-" + id} {
		if _, err := os.Stat(filepath.Join(path, name)); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
}

func TestDirTornPartLog(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path)
	up, err := d.Start(t.Context(), blob.Upload{Key: "big", PartSize: 4})
	if err != nil {
		t.Fatal(err)
	}
	first, err := d.Part(t.Context(), up, 1, strings.NewReader("1234"), 4)
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.OpenFile(filepath.Join(path, ".up-"+up.ID+".parts"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	log.WriteString("\n2 4 00ab") // power went
	log.Close()
	found, err := d.Start(t.Context(), up)
	if err != nil || !slices.Equal(found.Parts, []blob.Part{first}) {
		t.Fatalf("parts %+v, %v", found.Parts, err)
	}
	second, err := d.Part(t.Context(), up, 2, strings.NewReader("56"), 2)
	if err != nil {
		t.Fatal(err)
	}
	if found, err = d.Start(t.Context(), up); err != nil || !slices.Equal(found.Parts, []blob.Part{first, second}) {
		t.Fatalf("parts %+v, %v", found.Parts, err)
	}
}

func TestDirNoSpace(t *testing.T) {
	path := t.TempDir()
	if err := unix.Mount("none", path, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("no small file system to fill: mount tmpfs: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(path, unix.MNT_DETACH) })
	d := openDir(t, path)
	if err := d.Put(t.Context(), "d/a", strings.NewReader("small"), 5, true); err != nil {
		t.Fatal(err)
	}
	const size = 1 << 20
	err := d.Put(t.Context(), "d/big", bytes.NewReader(make([]byte, size)), size, true)
	if !errors.Is(err, blob.ErrNoSpace) || !errors.Is(err, unix.ENOSPC) {
		t.Errorf("Put: %v", err)
	}
	up, err := d.Start(t.Context(), blob.Upload{Key: "d/big", PartSize: size})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = d.Part(t.Context(), up, 1, bytes.NewReader(make([]byte, size)), size); !errors.Is(err, blob.ErrNoSpace) {
		t.Errorf("Part: %v", err)
	}
	// What does not fit leaves room for what does.
	if err := d.Put(t.Context(), "d/b", bytes.NewReader(make([]byte, 64<<10)), 64<<10, true); err != nil {
		t.Errorf("a small blob beside an upload that does not fit: %v", err)
	}
	if err := d.Finish(t.Context(), up, true); err != nil {
		t.Errorf("abandon on a full disk: %v", err)
	}
	var st unix.Statfs_t
	if unix.Statfs(path, &st); st.Bfree == 0 {
		t.Error("the failed writes left the disk full")
	}
	if err := d.Delete(t.Context(), "d/a"); err != nil {
		t.Error(err)
	}
}

func TestWrap(t *testing.T) {
	for errno, want := range map[unix.Errno]error{
		unix.ENOSPC: blob.ErrNoSpace, unix.EDQUOT: blob.ErrNoSpace, unix.ENOENT: blob.ErrNotFound, unix.EEXIST: blob.ErrExist,
		unix.ESTALE: blob.ErrUnavailable, unix.ENOTCONN: blob.ErrUnavailable, unix.EIO: unix.EIO,
	} {
		err := blob.Wrap("write", "0a.bin", &os.PathError{Op: "write", Path: "x", Err: errno})
		if !errors.Is(err, want) || !errors.Is(err, errno) {
			t.Errorf("%v: %v", errno, err)
		}
	}
	if err := blob.Wrap("write", "x", nil); err != nil {
		t.Error(err)
	}
}

// Folders in folders without end, as somebody else may make them in a shared
// directory, cost a listing neither its descriptors nor what lies beside them.
func TestDirDeepFolders(t *testing.T) {
	root := t.TempDir()
	deep := root
	for range 60 {
		deep = filepath.Join(deep, "d")
	}
	if err := os.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{filepath.Join(deep, "far"), filepath.Join(root, "e"), filepath.Join(root, "d", "d", "near")} {
		if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d, err := blob.OpenDir(root)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var keys []string
	for a, err := range d.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, a.Key)
	}
	if want := []string{"d/d/near", "e"}; !slices.Equal(keys, want) {
		t.Errorf("it lists %q, want %q", keys, want)
	}
}
