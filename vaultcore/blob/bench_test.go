package blob_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkDoors is what one closed file above the row size costs in names:
// create, close, rename, remove. BenchmarkPlain is the same through package os.
func BenchmarkDoors(b *testing.B) {
	d := openDir(b, b.TempDir())
	for i := 0; b.Loop(); i++ {
		name := fmt.Sprintf("%032x", i)
		f, err := d.Create(name + ".part")
		if err != nil {
			b.Fatal(err)
		}
		f.Close()
		if err := d.Rename(name+".part", name+".bin"); err != nil {
			b.Fatal(err)
		}
		d.Remove(name + ".bin")
	}
}

func BenchmarkPlain(b *testing.B) {
	dir := b.TempDir()
	for i := 0; b.Loop(); i++ {
		name := filepath.Join(dir, fmt.Sprintf("%032x", i))
		f, err := os.OpenFile(name+".part", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			b.Fatal(err)
		}
		f.Close()
		if err := os.Rename(name+".part", name+".bin"); err != nil {
			b.Fatal(err)
		}
		os.Remove(name + ".bin")
	}
}
