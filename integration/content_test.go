package integration

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"
)

// pattern is the content of revision rev of the file id: every 16 bytes name the
// file, the revision and the place, so that a mixture of two revisions, or of two
// files, cannot pass for either.
func pattern(id, rev uint32, size int) []byte {
	var b bytes.Buffer
	b.Grow(size + 16)
	var unit [16]byte
	binary.BigEndian.PutUint32(unit[:], id)
	binary.BigEndian.PutUint32(unit[4:], rev)
	for b.Len() < size {
		binary.BigEndian.PutUint64(unit[8:], uint64(b.Len()))
		b.Write(unit[:])
	}
	return b.Bytes()[:size]
}

// describe says in one line what a content that should have been a pattern is.
func describe(data []byte) string {
	if len(data) < 16 {
		return fmt.Sprintf("%d bytes %x", len(data), data)
	}
	id, rev := binary.BigEndian.Uint32(data), binary.BigEndian.Uint32(data[4:])
	want := pattern(id, rev, len(data))
	for i := range data {
		if data[i] != want[i] {
			return fmt.Sprintf("%d bytes, file %d revision %d up to byte %d, then %x", len(data), id, rev, i, data[i:min(i+16, len(data))])
		}
	}
	return fmt.Sprintf("%d bytes, file %d revision %d", len(data), id, rev)
}

// randomBytes cannot be compressed, and are the same for the same seed.
func randomBytes(seed uint64, size int) []byte {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	b := make([]byte, size)
	_, _ = rand.NewChaCha8(key).Read(b)
	return b
}

// snapshot describes a tree: kind, mode, size, time and content of everything.
// What is not the vault's to keep (owner, inode, directory sizes) is left out.
func snapshot(t testing.TB, root string) map[string]string {
	t.Helper()
	out := map[string]string{}
	must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		line := info.Mode().String()
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %d %x", info.Size(), info.ModTime().UnixNano(), checksum(data))
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line = "-> " + target
		}
		rel, _ := filepath.Rel(root, path)
		out[rel] = line
		return nil
	}))
	delete(out, ".")
	return out
}

func checksum(data []byte) uint64 {
	h := uint64(14695981039346656037)
	for len(data) >= 8 {
		h = (h ^ binary.LittleEndian.Uint64(data)) * 1099511628211
		data = data[8:]
	}
	for _, c := range data {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}

// sameTree compares two snapshots and names the first differences.
func sameTree(t testing.TB, got, want map[string]string) {
	t.Helper()
	var diff []string
	for name, w := range want {
		if g, ok := got[name]; !ok {
			diff = append(diff, name+": missing")
		} else if g != w {
			diff = append(diff, fmt.Sprintf("%s:\n  got  %s\n  want %s", name, g, w))
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			diff = append(diff, name+": should not be there")
		}
	}
	sort.Strings(diff)
	if len(diff) > 0 {
		t.Fatalf("%d differences, the first:\n%s", len(diff), strings.Join(diff[:min(8, len(diff))], "\n"))
	}
}

// testTime is a time with nanoseconds, to see whether they are kept.
var testTime = time.Date(2024, 2, 29, 12, 34, 56, 123456789, time.UTC)
