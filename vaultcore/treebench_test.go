package vaultcore

import (
	"context"
	"fmt"
	"testing"
)

// save writes and closes a file of 4 KiB by its place.
func save(b *testing.B, v *Vault, dir *Node, name string, data []byte) {
	b.Helper()
	n, _, err := v.Create(dir, name, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := v.WriteAt(n, data, 0); err != nil {
		b.Fatal(err)
	}
	closeFile(b, v, n)
}

// BenchmarkCommit is what the closes of small files cost without a kernel:
// of new ones, of one written over and over, and their removal.
func BenchmarkCommit(b *testing.B) {
	data := randomBytes(4<<10, 1)
	b.Run("create", func(b *testing.B) {
		v := newTestVault(b)
		dir := mustMkdir(b, v, "A")
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			save(b, v, dir, fmt.Sprint(i), data)
		}
	})
	b.Run("replace", func(b *testing.B) {
		v := newTestVault(b)
		mustMkdir(b, v, "A")
		b.ReportAllocs()
		for b.Loop() {
			writeFile(b, v, "A/f", data)
		}
	})
	b.Run("remove", func(b *testing.B) {
		v := newTestVault(b)
		dir := mustMkdir(b, v, "A")
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			b.StopTimer()
			name := fmt.Sprint(i)
			save(b, v, dir, name, data)
			b.StartTimer()
			if err := v.Unlink(dir, name); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkBarrier makes one small file durable, which is what its fsync costs.
func BenchmarkBarrier(b *testing.B) {
	v := newTestVault(b)
	dir := mustMkdir(b, v, "A")
	data := randomBytes(4<<10, 1)
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		save(b, v, dir, fmt.Sprint(i), data)
		b.StartTimer()
		if err := v.Barrier(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFolder works in a folder of 100,000 empty files.
func BenchmarkFolder(b *testing.B) {
	const files = 100_000
	v := newTestVault(b)
	dir := mustMkdir(b, v, "A")
	for i := range files {
		n, _, err := v.Create(dir, fmt.Sprintf("file-%06d", i), 0o600)
		if err != nil {
			b.Fatal(err)
		}
		closeFile(b, v, n)
	}
	b.Run("lookup", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, _, err := v.Lookup(dir, fmt.Sprintf("file-%06d", i*7919%files)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("list", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			seen := 0
			if err := v.ReadDir(dir, 0, func(*DirEntry) bool { seen++; return true }); err != nil || seen < files {
				b.Fatal(seen, err)
			}
		}
	})
	b.Run("rename", func(b *testing.B) {
		b.ReportAllocs()
		from, to := "file-000000", "renamed"
		for b.Loop() {
			if err := v.Rename(dir, from, dir, to, 0); err != nil {
				b.Fatal(err)
			}
			from, to = to, from
		}
		if from != "file-000000" { // as the next run expects it
			if err := v.Rename(dir, from, dir, to, 0); err != nil {
				b.Fatal(err)
			}
		}
	})
}
