package vaultcore

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// shed has the draft leave RAM, and checks that it has.
func shed(t *testing.T, d *draft) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.spillLocked(); err != nil {
		t.Fatal(err)
	}
	if !d.flat.isShed() {
		t.Fatal("not shed")
	}
	if ram := d.ram.Load(); ram > 3*pageSize {
		t.Fatalf("%d bytes are in RAM", ram)
	}
}

// shedStore is a store with a draft that left RAM twice, and has grown since.
func shedStore(t *testing.T, size int) (*testStore, *draft, []byte) {
	t.Helper()
	return shedIn(t, newTestStore(t, Limits{V3Max: 2 * mib}), size)
}

func shedIn(t *testing.T, ts *testStore, size int) (*testStore, *draft, []byte) {
	t.Helper()
	d := ts.newDraft(nil, 0)
	want := noise(7, size)
	for off := 0; off < size; off += 100_000 {
		write(t, d, want[off:min(off+100_000, size)], int64(off))
		if off == 300_000 || off == 600_000 {
			shed(t, d)
		}
	}
	return ts, d, want
}

// What left RAM is the content's start: closing adds to the file that is there.
func TestShedIsTheContent(t *testing.T) {
	for _, size := range []int{400_000, 400_001, 700_000, mib - plainHead, mib, mib + 100_001, 2 * mib} {
		ts, d, want := shedStore(t, size)
		a := d.flat.ahead
		early := ts.partFiles(t)[filepath.Join(ts.dir, "attachments", partName(a.blob))]
		if int64(len(early)) != a.sent || a.sent < 300_000 {
			t.Errorf("%d bytes: %d of %d are on the disk", size, len(early), a.sent)
		}
		id := a.blob
		c := ts.finish(t, d)
		raw := ts.rawFile(t, c)
		if c.ref.blob != id || c.ref.version != seal.V3 || !bytes.HasPrefix(raw, early) {
			t.Errorf("%d bytes: sealed anew", size)
		}
		key, err := c.key(ts.store)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := seal.OpenV3(&key, raw, int64(size), c.ref.hdr[:seal.HdrV3])
		if err != nil || !bytes.Equal(plain, want) {
			t.Errorf("%d bytes: opened whole: %v", size, err)
		}
		ts.noneLeft(t)
	}
}

// noneLeft checks that an ended draft left nothing behind.
func (ts *testStore) noneLeft(t *testing.T) {
	t.Helper()
	if files := ts.partFiles(t); len(files) > 0 {
		t.Errorf("left %d unfinished files", len(files))
	}
	ts.plain.trim()
	ts.idle(t)
}

// Whoever goes back, cuts, keeps or outgrows a draft that left RAM finds all of
// it, which does not come back to RAM as a whole; no keystream meets two contents.
func TestShedGivenUp(t *testing.T) {
	const size = 1_000_000
	for what, do := range map[string]func(t *testing.T, ts *testStore, d *draft, want []byte) []byte{
		"written at its start": func(t *testing.T, _ *testStore, d *draft, want []byte) []byte {
			write(t, d, []byte("header"), 3)
			copy(want[3:], "header")
			return want
		},
		"written over the border": func(t *testing.T, _ *testStore, d *draft, want []byte) []byte {
			off := d.flat.ahead.sealed - 3
			write(t, d, []byte("border"), off)
			copy(want[off:], "border")
			return want
		},
		"cut": func(t *testing.T, _ *testStore, d *draft, want []byte) []byte {
			if err := d.truncate(200_000); err != nil {
				t.Fatal(err)
			}
			return want[:200_000]
		},
		"kept": func(t *testing.T, _ *testStore, d *draft, want []byte) []byte {
			if _, _, err := d.keep(true); err != nil {
				t.Fatal(err)
			}
			return want
		},
		"outgrown": func(t *testing.T, _ *testStore, d *draft, want []byte) []byte {
			more := noise(8, 2*mib)
			write(t, d, more, int64(len(want)))
			return append(want, more...)
		},
		"left behind": func(t *testing.T, _ *testStore, d *draft, want []byte) []byte {
			write(t, d, []byte("far"), 5*mib)
			return append(append(want, make([]byte, 5*mib-len(want))...), "far"...)
		},
		"made longer than version 3": func(t *testing.T, _ *testStore, d *draft, want []byte) []byte {
			if err := d.truncate(3 * mib); err != nil {
				t.Fatal(err)
			}
			return append(want, make([]byte, 3*mib-len(want))...)
		},
		"emptied": func(t *testing.T, _ *testStore, d *draft, _ []byte) []byte {
			if err := d.truncate(0); err != nil {
				t.Fatal(err)
			}
			return nil
		},
		"of a vault that writes v4 now": func(_ *testing.T, ts *testStore, _ *draft, want []byte) []byte {
			ts.v4 = true
			return want
		},
		"written after a finish without a row": func(t *testing.T, _ *testStore, d *draft, want []byte) []byte {
			if _, err := d.finish(); err != nil {
				t.Fatal(err)
			}
			wantDraft(t, d, want)
			write(t, d, []byte("more"), int64(len(want)))
			return append(want, "more"...)
		},
	} {
		t.Run(what, func(t *testing.T) {
			ts, d, want := shedStore(t, size)
			var early []byte
			for _, early = range ts.partFiles(t) {
			}
			want = do(t, ts, d, want)
			wantDraft(t, d, want)
			if ram := d.ram.Load(); ram > 2*mib {
				t.Errorf("%d bytes are in RAM", ram)
			}
			if len(want) == 0 {
				d.discard()
				ts.noneLeft(t)
				return
			}
			c := ts.finish(t, d)
			wantBytes(t, ts.readBack(t, c, mib), want)
			raw := ts.rawFile(t, c)
			for off := 0; off+16 <= min(len(early), len(raw)); off += 16 {
				if bytes.Equal(early[off:][:16], raw[off:][:16]) {
					t.Fatalf("the same ciphertext twice at %d", off)
				}
			}
			ts.noneLeft(t)
		})
	}
}

// Finishing, and dropping what was finished, leaves no file.
func TestShedDropped(t *testing.T) {
	for _, finish := range []bool{false, true} {
		ts, d, _ := shedStore(t, 1_000_000)
		if finish {
			if _, err := d.finish(); err != nil {
				t.Fatal(err)
			}
		}
		d.discard()
		if files := ts.files(t); len(files) > 0 {
			t.Errorf("left: %v", files)
		}
		ts.idle(t)
	}
}

// Reading finds what is on the disk, what is sealed in RAM and what is not yet,
// and changes none of it.
func TestShedRead(t *testing.T) {
	ts, d, want := shedStore(t, 1_000_000)
	a := d.flat.ahead
	for _, off := range []int{0, 1, 15, 16, pageSize - plainHead - 1, pageSize, 299_999, int(a.shed) - plainHead - 1, int(a.shed), int(a.sealed) - 1, int(a.sealed), len(want) - 500} {
		for _, n := range []int{1, 15, 16, 17, 1000, 300_000, len(want)} {
			buf := make([]byte, n)
			got, err := d.readAt(buf, int64(off))
			if err != nil || !bytes.Equal(buf[:got], want[off:min(off+n, len(want))]) {
				t.Fatalf("%d bytes at %d: %v", n, off, err)
			}
		}
	}
	if !d.flat.isShed() {
		t.Error("given up")
	}
	wantBytes(t, ts.readBack(t, ts.finish(t, d), mib), want)
	ts.noneLeft(t)
}

// Whoever changes the file meanwhile is found out by whoever reads from it: no
// wrong byte is read, nor sealed into another content.
func TestShedAltered(t *testing.T) {
	for what, use := range map[string]func(d *draft) error{
		"read": func(d *draft) error {
			_, err := d.readAt(make([]byte, 100), 200_000)
			return err
		},
		"go back":  func(d *draft) error { return d.writeAt([]byte("x"), 0) },
		"outgrown": func(d *draft) error { return d.writeAt(make([]byte, 2*mib), 1_000_000) },
		"keep": func(d *draft) error {
			_, _, err := d.keep(true)
			return err
		},
	} {
		ts, d, want := shedStore(t, 1_000_000)
		name := filepath.Join(ts.dir, "attachments", partName(d.flat.ahead.blob))
		flip := func() {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			b[200_050] ^= 1
			if err := os.WriteFile(name, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		flip()
		if err := use(d); err == nil {
			t.Errorf("%s: an altered draft was used", what)
		} else {
			wantErr(t, err, ErrDamaged)
		}
		flip()
		wantDraft(t, d, want)
		wantBytes(t, ts.readBack(t, ts.finish(t, d), mib), want)
		ts.noneLeft(t)
	}
}

// A full disk is met by whoever writes or closes, and loses nothing.
func TestShedFullDisk(t *testing.T) {
	for _, when := range []string{"shed again", "closed", "closed, then written"} {
		t.Run(when, func(t *testing.T) {
			ts := newTestStoreIn(t, tinyDisk(t, "16m"), Limits{V3Max: 4 * mib})
			ts.lie()
			_, d, want := shedIn(t, ts, 2*mib)
			remove := ballast(t, ts.dir)
			if when == "shed again" {
				d.mu.Lock()
				err := d.spillLocked()
				d.mu.Unlock()
				wantErr(t, diskError(err), ErrNoSpace)
			} else {
				_, err := d.finish()
				wantErr(t, err, ErrNoSpace)
			}
			wantDraft(t, d, want)
			if when == "closed, then written" {
				wantErr(t, d.writeAt([]byte("more"), int64(len(want))), ErrNoSpace)
				wantDraft(t, d, want)
			}
			remove()
			if when == "closed, then written" {
				write(t, d, []byte("more"), int64(len(want)))
				want = append(want, "more"...)
			}
			wantBytes(t, ts.readBack(t, ts.finish(t, d), mib), want)
			ts.noneLeft(t)
		})
	}
}

// A short draft that left RAM, and could not be closed, leaves RAM once more.
func TestShedAfterFailedClose(t *testing.T) {
	ts := newTestStoreIn(t, tinyDisk(t, "16m"), Limits{V3Max: 4 * mib})
	ts.lie()
	d := ts.newDraft(nil, 0)
	want := noise(7, 200_000)
	write(t, d, want[:150_000], 0)
	shed(t, d)
	write(t, d, want[150_000:], 150_000)
	remove := ballast(t, ts.dir)
	_, err := d.finish()
	wantErr(t, err, ErrNoSpace)
	remove()
	d.mu.Lock()
	err = d.spillLocked()
	d.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	wantDraft(t, d, want)
	wantBytes(t, ts.readBack(t, ts.finish(t, d), mib), want)
	ts.noneLeft(t)
}

// More new files than RAM holds are each written to the disk once, whether each
// has a writer of its own or one thread goes from one to the other and would wait
// for itself; and what they hold in RAM stays bounded.
func TestManyDraftsAreWrittenOnce(t *testing.T) {
	const (
		files, size, step = 32, 3*mib + mib/2, 128 << 10
		total             = 16 * mib
	)
	want := noise(1, size+files)
	for _, writers := range []int{files, 1} {
		ts := newTestStore(t, Limits{DraftTotal: total, V3Max: 4 * mib})
		var made, most atomic.Int64
		ts.beforeFile = func() error {
			made.Add(1)
			return nil
		}
		drafts := make([]*draft, files)
		for i := range drafts {
			drafts[i] = ts.newDraft(nil, 0)
		}
		var done sync.WaitGroup
		for w := range writers {
			done.Go(func() {
				for off := 0; off < size; off += step {
					for i := w; i < files; i += writers {
						write(t, drafts[i], want[i+off:][:step], int64(off))
						for used := ts.budget.used.Load(); used > most.Load(); {
							most.Store(used)
						}
					}
				}
			})
		}
		done.Wait()
		for i, d := range drafts {
			wantBytes(t, ts.readBack(t, ts.finish(t, d), mib), want[i:][:size])
		}
		if n := made.Load(); n != files {
			t.Errorf("%d writers: %d files were made for %d contents", writers, n, files)
		}
		if most.Load() > total+files*(draftSlack+step) {
			t.Errorf("%d writers: %d bytes in RAM", writers, most.Load())
		}
		ts.noneLeft(t)
	}
}
