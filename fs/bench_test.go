package fs

import (
	"fmt"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// served is a file system without a kernel, and a file in it that is open.
func served(t testing.TB, size int) (*fileSystem, uint64) {
	t.Helper()
	v := openVault(t, newVault(t), vaultcore.Options{})
	if _, err := v.AddAsset("A", "item"); err != nil {
		t.Fatal(err)
	}
	w, err := v.OpenWrite("A/f", vaultcore.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	f := newFileSystem(v, withDefaults(Options{}))
	id := lookupID(t, f, fuse.FUSE_ROOT_ID, "A")
	id = lookupID(t, f, id, "f")
	var out fuse.OpenOut
	if st := f.Open(nil, &fuse.OpenIn{InHeader: fuse.InHeader{NodeId: id}}, &out); !st.Ok() {
		t.Fatal(st)
	}
	t.Cleanup(func() {
		f.Release(nil, &fuse.ReleaseIn{InHeader: fuse.InHeader{NodeId: id}, Fh: out.Fh})
		f.nodes.clear()
	})
	return f, id
}

func lookupID(t testing.TB, f *fileSystem, dir uint64, name string) uint64 {
	t.Helper()
	var out fuse.EntryOut
	if st := f.Lookup(nil, &fuse.InHeader{NodeId: dir}, name, &out); !st.Ok() || out.NodeId == 0 {
		t.Fatalf("%s: %v", name, st)
	}
	return out.NodeId
}

// readSizes are a content in its row, one opened whole, and a chunked one.
var readSizes = []int{4 << 10, 1 << 20, 32 << 20}

func read(t testing.TB, f *fileSystem, id uint64, off uint64, buf []byte) {
	r, st := f.Read(nil, &fuse.ReadIn{InHeader: fuse.InHeader{NodeId: id}, Offset: off, Size: uint32(len(buf))}, buf)
	if !st.Ok() || r.Size() != len(buf) {
		t.Fatalf("read at %d: %v", off, st)
	}
	r.Done()
}

func BenchmarkRead(b *testing.B) {
	for _, size := range readSizes {
		for _, n := range []int{4 << 10, 128 << 10} {
			if n > size {
				continue
			}
			b.Run(fmt.Sprintf("%dKiB-of-%dKiB", n>>10, size>>10), func(b *testing.B) {
				f, id := served(b, size)
				buf, off := make([]byte, n), 0
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					read(b, f, id, uint64(off), buf)
					off = (off + n) % size
				}
			})
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	f, _ := served(b, 1)
	h := fuse.InHeader{NodeId: lookupID(b, f, fuse.FUSE_ROOT_ID, "A")}
	for _, name := range []string{"f", "absent"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var out fuse.EntryOut
				f.Lookup(nil, &h, name, &out)
			}
		})
	}
}

func BenchmarkReadDirPlus(b *testing.B) {
	f, _ := served(b, 1)
	dir, err := f.vault.AssetByTitle("A")
	if err != nil {
		b.Fatal(err)
	}
	for i := range 1000 {
		n, _, err := f.vault.Create(dir, fmt.Sprintf("file-%d", i), 0o600)
		if err != nil {
			b.Fatal(err)
		}
		f.vault.Release(n, true)
	}
	in := fuse.ReadIn{InHeader: fuse.InHeader{NodeId: lookupID(b, f, fuse.FUSE_ROOT_ID, "A"), Opcode: opReadDirPlus}}
	buf := make([]byte, 1<<20)
	b.ReportAllocs()
	for b.Loop() {
		f.ReadDirPlus(nil, &in, fuse.NewDirEntryList(buf, 0))
	}
}
