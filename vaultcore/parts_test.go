package vaultcore

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// partSizes are lengths around which sealing and opening in parts changes its
// course: parts, pages and pieces of the file end beside each other.
func partSizes() (sizes []int) {
	for _, n := range []int{partsMin, partsMin + partSize, mib, 3 * mib, seal.MaxV3} {
		for _, off := range []int{-plainHead - 4097, -29, -28, -27, -16, -plainHead, -1, 0, 1, 4, 15, 16, 17, 4084, 4097} {
			if n+off <= seal.MaxV3 && (n < seal.MaxV3 || off == 0 || off == -1) {
				sizes = append(sizes, n+off)
			}
		}
	}
	return sizes
}

// The file is what one call of the cipher seals, and opens in parts and whole.
func TestPartsEdges(t *testing.T) {
	t.Parallel()
	ts := newTestStore(t, Limits{})
	all := noise(1, seal.MaxV3)
	for _, size := range partSizes() {
		for _, shape := range []string{"flat", "pages"} {
			d := ts.newDraft(nil, 0)
			write(t, d, all[:size], 0)
			if shape == "pages" {
				d.toPagesForTest(t)
			}
			c := ts.finish(t, d)
			wantBytes(t, ts.readBack(t, c, 5*mib), all[:size])
			raw := ts.rawFile(t, c)
			key, err := c.key(ts.store)
			if err != nil {
				t.Fatal(err)
			}
			plain, err := seal.OpenV3(&key, raw, int64(size), c.ref.hdr[:seal.HdrV3])
			if err != nil || !bytes.Equal(plain, all[:size]) {
				t.Errorf("%d bytes of %s: opened whole: %v", size, shape, err)
			}
			ts.plain.trim()
			ts.removeFile(binName(c.ref.blob))
		}
	}
	ts.idle(t)
}

// A draft that was sealed in parts can be read, changed and sealed again, under
// another key.
func TestPartsSealedAgain(t *testing.T) {
	ts := newTestStore(t, Limits{})
	want := noise(1, 3*mib+5)
	d := ts.newDraft(nil, 0)
	write(t, d, want, 0)
	first, err := d.finish()
	if err != nil {
		t.Fatal(err)
	}
	before := ts.rawFile(t, &content{ref: first.ref})
	wantDraft(t, d, want)
	write(t, d, []byte("changed"), mib)
	copy(want[mib:], "changed")
	c := ts.finish(t, d)
	wantBytes(t, ts.readBack(t, c, mib), want)
	after := ts.rawFile(t, c)
	for off := 0; off+16 <= len(want); off += 16 {
		if bytes.Equal(before[off:][:16], after[off:][:16]) {
			t.Fatalf("the same ciphertext twice at %d", off)
		}
	}
	ts.plain.trim()
	ts.idle(t)
}

// Pieces of the file may come in any order and from several goroutines.
func TestOpeningInAnyOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	key := seal.NewKey()
	for range 60 {
		size := r.IntN(120_000)
		plain := noise(r.Uint64(), size)
		buf := make([]byte, size+seal.OverheadV3)
		copy(buf[plainHead:], plain)
		blob, err := seal.SealV3(&key, buf, size)
		if err != nil {
			t.Fatal(err)
		}
		hdr := seal.HdrOfV3(blob)
		p, err := seal.NewOpenV3(&key, blob, int64(size), hdr[:])
		if err != nil {
			t.Fatal(err)
		}
		borders := []int{0, len(blob)}
		for range r.IntN(30) {
			borders = append(borders, r.IntN(len(blob)/64+1)*64)
		}
		slices.Sort(borders)
		borders = slices.Compact(borders)
		o := opening{parts: p, size: size, met: map[int]bool{}}
		var wg sync.WaitGroup
		for _, i := range r.Perm(len(borders) - 1) {
			wg.Go(func() { o.piece(borders[i], borders[i+1]) })
		}
		wg.Wait()
		got, err := p.Finish()
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%d bytes at %v: %v", size, borders, err)
		}
	}
}

// Whatever part is wrong, nothing of the others is shown or left in a buffer.
func TestPartsDamaged(t *testing.T) {
	const size = 3*mib + 100
	ts := newTestStore(t, Limits{})
	plain := bytes.Repeat([]byte("canary! "), size/8+1)[:size]
	c := ts.writeAll(t, plain, mib)
	good := ts.rawFile(t, c)
	for what, harm := range map[string]func(b []byte) []byte{
		"iv":            func(b []byte) []byte { b[3] ^= 1; return b },
		"first byte":    func(b []byte) []byte { b[plainHead] ^= 1; return b },
		"at a border":   func(b []byte) []byte { b[mib-2] ^= 1; return b },
		"in the middle": func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"last byte":     func(b []byte) []byte { b[len(b)-17] ^= 1; return b },
		"tag":           func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"cut":           func(b []byte) []byte { return b[:len(b)-1] },
		"longer":        func(b []byte) []byte { return append(b, 0) },
		"empty":         func([]byte) []byte { return nil },
		"pieces exchanged": func(b []byte) []byte {
			piece := bytes.Clone(b[mib:][:mib])
			copy(b[mib:], b[2*mib:][:mib])
			copy(b[2*mib:], piece)
			return b
		},
	} {
		if err := os.WriteFile(ts.path(binName(c.ref.blob)), harm(bytes.Clone(good)), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Run(what, func(t *testing.T) {
			ts.wantDamaged(t, c)
			for class := range plainClasses {
				for buf := ts.bufs.takePlain(class); buf != nil; buf = ts.bufs.takePlain(class) {
					if bytes.Contains(buf.mapping, []byte("canary!")) {
						t.Error("plaintext is left in a buffer")
					}
				}
			}
		})
	}
	if err := os.WriteFile(ts.path(binName(c.ref.blob)), good, 0o600); err != nil {
		t.Fatal(err)
	}
	wantBytes(t, ts.readBack(t, c, mib), plain)
	ts.plain.trim()
	ts.idle(t)
}

func BenchmarkWholeV3(b *testing.B) {
	for _, size := range []int{5 * mib, 20 * mib} {
		ts := newTestStore(b, Limits{})
		data := noise(1, size)
		buf := make([]byte, 128<<10)
		b.Run(fmt.Sprintf("write/%d", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				c := ts.writeAll(b, data, mib)
				ts.removeFile(binName(c.ref.blob))
			}
		})
		c := ts.writeAll(b, data, mib)
		b.Run(fmt.Sprintf("open/%d", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				c.acquire()
				if _, err := c.readAt(ts.store, buf, 0); err != nil {
					b.Fatal(err)
				}
				c.release()
				ts.plain.trim()
			}
		})
	}
}
