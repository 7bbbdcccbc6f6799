package vaultcore

import (
	"context"
	"io"
	"os"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// BenchmarkReadGiB reads 1 GiB of version 4 in order, where it lies in a file
// here and where a function brings it from another file, as a remote does whose
// network costs nothing.
func BenchmarkReadGiB(b *testing.B) {
	const size = 1 << 30
	f := newFleetOf(b, Limits{}, "v4", "ada")
	ada := f.devices[0]
	ada.useRemote()
	ada.mkdir("A")
	n := openFile(b, ada.Vault, farFile)
	piece := randomBytes(pieceSize, 5)
	for off := int64(0); off < size; off += pieceSize {
		if _, err := ada.WriteAt(n, piece, off); err != nil {
			b.Fatal(err)
		}
	}
	closeFile(b, ada.Vault, n)
	ada.sealAll(SealOptions{})
	ada.pushBatches()
	id := n.content.ref.blob
	away := awayCopy(b, ada.Vault, id)
	ada.OnFetchRange(func(_ context.Context, _ seal.ID, off, n int64, w io.WriterAt) error {
		_, err := io.Copy(io.NewOffsetWriter(w, off), io.NewSectionReader(away, off, n))
		return err
	})
	if err := ada.Sent(context.Background(), []seal.ID{id}); err != nil {
		b.Fatal(err)
	}
	read := func(b *testing.B) {
		if err := ada.Open(n, false, false); err != nil {
			b.Fatal(err)
		}
		defer ada.Release(n, false)
		buf := make([]byte, 128<<10)
		for off := int64(0); off < size; off += int64(len(buf)) {
			if _, err := ada.ReadAt(n, buf, off); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("here", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			read(b)
		}
	})
	b.Run("elsewhere", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			b.StopTimer()
			if out := ada.evict(farFile); out.Files != 1 {
				b.Fatalf("%+v", out)
			}
			b.StartTimer()
			read(b)
			b.StopTimer()
			eventually(b, "an ordinary blob", func() bool { return ada.residence(farFile) == ResidentHere })
			b.StartTimer()
		}
	})
}

// awayCopy copies a blob to where a remote would have it.
func awayCopy(b *testing.B, v *Vault, id seal.ID) *os.File {
	b.Helper()
	src, err := v.UploadSource(context.Background(), id)
	if err != nil {
		b.Fatal(err)
	}
	defer src.Close()
	dst, err := os.Create(b.TempDir() + "/away")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { dst.Close() })
	if _, err := io.Copy(dst, src); err != nil {
		b.Fatal(err)
	}
	return dst
}
