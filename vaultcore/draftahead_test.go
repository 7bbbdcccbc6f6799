package vaultcore

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// aheadStore is a store that seals early, and a draft of it of which a part is
// sealed ahead, with what is in it.
func aheadStore(t *testing.T, size int) (*testStore, *draft, []byte) {
	t.Helper()
	ts := newTestStore(t, Limits{V3Max: 2 * mib, SealAhead: 64 << 10})
	d := ts.newDraft(nil, 0)
	want := noise(7, size)
	for off := 0; off < size; off += 100_000 {
		write(t, d, want[off:min(off+100_000, size)], int64(off))
		if d.flat != nil && d.flat.ahead != nil {
			_ = d.flat.ahead.land()
		}
	}
	if d.flat == nil || d.flat.ahead == nil || d.flat.ahead.sealed == 0 {
		t.Fatal("nothing is sealed ahead")
	}
	return ts, d, want
}

// partFiles are the unfinished blobs and what they hold.
func (ts *testStore) partFiles(t *testing.T) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(ts.dir, "attachments", "*"+partExt))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, name := range names {
		if files[name], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// What was sealed ahead is the content's start: closing adds to the file that is
// there, which opens like any other.
func TestSealedAheadIsTheContent(t *testing.T) {
	for _, size := range []int{300_000, 512 << 10, 512<<10 - plainHead, mib - 1, mib, mib + 100_001, 2 * mib} {
		ts, d, want := aheadStore(t, size)
		id, sealed := d.flat.ahead.blob, d.flat.ahead.sealed
		early := ts.partFiles(t)[filepath.Join(ts.dir, "attachments", partName(id))]
		if int64(len(early)) != (plainHead+sealed)&^(pageSize-1) {
			t.Errorf("%d bytes: %d of %d are on the disk", size, len(early), sealed)
		}
		c := ts.finish(t, d)
		if c.ref.blob != id || c.ref.version != seal.V3 {
			t.Errorf("%d bytes: sealed anew", size)
		}
		raw := ts.rawFile(t, c)
		if !bytes.HasPrefix(raw, early) {
			t.Errorf("%d bytes: what was there has changed", size)
		}
		key, err := c.key(ts.store)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := seal.OpenV3(&key, raw, int64(size), c.ref.hdr[:seal.HdrV3])
		if err != nil || !bytes.Equal(plain, want) {
			t.Errorf("%d bytes: opened whole: %v", size, err)
		}
		if files := ts.partFiles(t); len(files) > 0 {
			t.Errorf("%d bytes: left %d unfinished files", size, len(files))
		}
		ts.plain.trim()
		ts.idle(t)
	}
}

// Whatever needs the plaintext, or changes it, gets it back; what was sealed is
// not used any more, and no keystream ever meets another content.
func TestSealedAheadGivenUp(t *testing.T) {
	const size = 1_000_000
	same := func(want []byte) []byte { return want }
	for what, do := range map[string]func(t *testing.T, d *draft, want []byte) []byte{
		"written at its start": func(t *testing.T, d *draft, want []byte) []byte {
			write(t, d, []byte("header"), 3)
			copy(want[3:], "header")
			return want
		},
		"written over the border": func(t *testing.T, d *draft, want []byte) []byte {
			off := d.flat.ahead.sealed - 3
			write(t, d, []byte("border"), off)
			copy(want[off:], "border")
			return want
		},
		"cut": func(t *testing.T, d *draft, want []byte) []byte {
			if err := d.truncate(200_000); err != nil {
				t.Fatal(err)
			}
			return want[:200_000]
		},
		"kept": func(t *testing.T, d *draft, want []byte) []byte {
			if _, _, err := d.keep(true); err != nil {
				t.Fatal(err)
			}
			return want
		},
		"outgrown": func(t *testing.T, d *draft, want []byte) []byte {
			more := noise(8, 2*mib)
			write(t, d, more, int64(len(want)))
			return append(want, more...)
		},
		"left behind": func(t *testing.T, d *draft, want []byte) []byte {
			write(t, d, []byte("far"), 5*mib)
			return append(append(want, make([]byte, 5*mib-len(want))...), "far"...)
		},
		"emptied": func(t *testing.T, d *draft, want []byte) []byte {
			if err := d.truncate(0); err != nil {
				t.Fatal(err)
			}
			return nil
		},
		"of a vault that writes v4 now": func(_ *testing.T, _ *draft, want []byte) []byte { return same(want) },
	} {
		t.Run(what, func(t *testing.T) {
			ts, d, want := aheadStore(t, size)
			var early []byte
			for _, early = range ts.partFiles(t) {
			}
			ts.v4 = strings.HasSuffix(what, "v4 now")
			want = do(t, d, want)
			if d.flat != nil && d.flat.ahead != nil && !ts.v4 {
				t.Error("still sealed ahead")
			}
			wantDraft(t, d, want)
			if len(want) > 0 {
				c := ts.finish(t, d)
				wantBytes(t, ts.readBack(t, c, 5*mib), want)
				raw := ts.rawFile(t, c)
				for off := 0; off+16 <= min(len(early), len(raw)); off += 16 {
					if bytes.Equal(early[off:][:16], raw[off:][:16]) {
						t.Fatalf("the same ciphertext twice at %d", off)
					}
				}
			} else {
				d.discard()
			}
			ts.noneLeft(t)
		})
	}
}

// Reading costs nothing of what is sealed ahead, wherever it begins and ends.
func TestSealedAheadRead(t *testing.T) {
	ts, d, want := aheadStore(t, 1_000_000)
	border := int(d.flat.ahead.sealed)
	for _, off := range []int{0, 1, 15, 16, 4096, 100_001, border - 17, border - 1, border, border + 5, len(want) - 500} {
		for _, n := range []int{1, 15, 16, 17, 1000, 300_000} {
			buf := make([]byte, n)
			got, err := d.readAt(buf, int64(off))
			if err != nil || !bytes.Equal(buf[:got], want[off:min(off+n, len(want))]) {
				t.Fatalf("%d bytes at %d: %v", n, off, err)
			}
		}
	}
	id := d.flat.ahead.blob
	c := ts.finish(t, d)
	if c.ref.blob != id {
		t.Error("given up")
	}
	wantBytes(t, ts.readBack(t, c, mib), want)
	ts.plain.trim()
	ts.idle(t)
}

// A full disk is met by whoever closes the file, and loses nothing: neither
// when what was sealed ahead did not get there, nor when the rest does not.
func TestSealedAheadFullDisk(t *testing.T) {
	for _, when := range []string{"ahead", "at the end"} {
		t.Run(when, func(t *testing.T) {
			ts := newTestStoreIn(t, tinyDisk(t, "16m"), Limits{V3Max: 4 * mib, SealAhead: 256 << 10})
			ts.lie()
			d := ts.newDraft(nil, 0)
			want := noise(3, 3*mib)
			var remove func()
			if when == "ahead" {
				remove = ballast(t, ts.dir)
			}
			for off := 0; off < len(want); off += 128 << 10 {
				write(t, d, want[off:][:128<<10], int64(off))
			}
			if when == "at the end" {
				if d.flat.ahead == nil || d.flat.ahead.land() != nil {
					t.Fatal("nothing is sealed ahead")
				}
				remove = ballast(t, ts.dir)
			}
			_, err := d.finish()
			wantErr(t, err, ErrNoSpace)
			wantDraft(t, d, want)
			remove()
			c := ts.finish(t, d)
			wantBytes(t, ts.readBack(t, c, mib), want)
			ts.noneLeft(t)
		})
	}
}

// The disk never sees plaintext, however a program goes back and forth while
// its file is on the way there.
func TestSealedAheadNeverPlain(t *testing.T) {
	ts := newTestStore(t, Limits{V3Max: 8 * mib, SealAhead: 256 << 10})
	canary := bytes.Repeat([]byte("canary: plaintext of a passport! "), 8*mib/33)
	for range 20 {
		d := ts.newDraft(nil, 0)
		for off := 0; off < 4*mib; off += 256 << 10 {
			write(t, d, canary[off:][:256<<10], int64(off))
		}
		f, err := os.Open(filepath.Join(ts.dir, "attachments"))
		if err != nil {
			t.Fatal(err)
		}
		names, err := f.Readdirnames(-1)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(names, func(n string) bool { return strings.HasSuffix(n, partExt) })
		if i < 0 {
			t.Fatal("nothing is sealed ahead")
		}
		part, err := os.Open(filepath.Join(ts.dir, "attachments", names[i]))
		if err != nil {
			t.Fatal(err)
		}
		write(t, d, []byte("over"), 100) // opens what is in flight
		d.discard()                      // and gives the buffer to the next
		raw := make([]byte, 4*mib)
		n, _ := part.ReadAt(raw, 0)
		part.Close()
		if n == 0 {
			t.Fatal("nothing was written")
		}
		if bytes.Contains(raw[:n], []byte("passport")) {
			t.Fatal("plaintext on the disk")
		}
	}
	ts.idle(t)
}
