package syncer_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// exchange puts two objects into each other's place.
func exchange(t *testing.T, a, b string) {
	t.Helper()
	for _, move := range [][2]string{{a, a + "~"}, {b, a}, {a + "~", b}} {
		if err := os.Rename(move[0], move[1]); err != nil {
			t.Fatal(err)
		}
	}
}

// TestHealReplaces: what is false at the remote, of the right length too, is put
// right by who holds the true bytes, and a device that was refused goes on.
func TestHealReplaces(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(f *fleet, d *device) (keys []string){
		"contents of equal length": func(f *fleet, d *device) []string {
			blobs := f.objects("blobs/*")
			exchange(f.t.(*testing.T), blobs[0], blobs[1])
			return blobs[:2]
		},
		"a content cut": func(f *fleet, d *device) []string {
			path := f.objects("blobs/*")[0]
			f.must(os.Truncate(path, 7))
			return []string{path}
		},
		"batches": func(f *fleet, d *device) []string {
			batches := slices.Sorted(maps.Keys(f.batchesOf(d)))
			a, b := batches[len(batches)-2], batches[len(batches)-1]
			exchange(f.t.(*testing.T), a, b)
			return []string{a, b}
		},
		"an old header": func(f *fleet, d *device) []string {
			path := filepath.Join(f.dir(), syncer.HeaderKey(1))
			f.must(os.WriteFile(path, []byte(`{"payload":1}`), 0o600))
			return []string{path}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, folder(t), "laptop", "desktop")
			laptop, desktop := f.devices[0], f.devices[1]
			f.sync()
			for _, file := range []string{"a", "b"} {
				laptop.write("Letters/"+file+".txt", "dear "+file)
				laptop.sync()
			}
			true1 := f.contentsOf()
			paths := harm(f, laptop)
			_ = desktop.trySync()
			done := laptop.heal()
			if len(done.Replaced) != len(paths) || len(done.False) > 0 {
				t.Errorf("of %d false objects healing replaced %v and left %v", len(paths), done.Replaced, done.False)
			}
			for _, path := range paths {
				key := strings.TrimPrefix(path, f.dir()+"/")
				if !slices.ContainsFunc(done.Replaced, func(r string) bool { return strings.HasPrefix(r, key) }) {
					t.Errorf("%s is not named in %v", key, done.Replaced)
				}
				if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, true1[path]) {
					t.Errorf("%s is not what was put there: %v", key, err)
				}
			}
			laptop.hasNone()
			desktop.sync()
			desktop.hasNone()
			desktop.want("Letters/", "Letters/a.txt = dear a", "Letters/b.txt = dear b")
			if again := laptop.heal(); again.PutBack+len(again.Replaced) > 0 {
				t.Errorf("healed what was whole: %+v", again)
			}
		})
	}
}

// TestHealTellsWhatStaysFalse: a remote that lets nothing be removed keeps what is
// false; all of it is named, and it is an error.
func TestHealTellsWhatStaysFalse(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop")
	laptop := f.devices[0]
	for _, name := range strings.Split("abcdefghijkl", "") {
		laptop.write("Letters/"+name, "dear "+name)
	}
	laptop.sync()
	blobs := f.objects("blobs/*")
	for _, path := range blobs {
		flip(t, path)
	}
	laptop.engineWith(func(op, key string) fault {
		if op == "Settle" && key != "" {
			return fault{err: syncer.ErrDenied}
		}
		return fault{}
	})
	done, err := laptop.Heal(context.Background())
	if !errors.Is(err, syncer.ErrOtherBytes) || len(done.False) != len(blobs) || len(done.Replaced) > 0 {
		t.Fatalf("healing: %v, %+v", err, done)
	}
	if text := err.Error(); !strings.Contains(text, "and 4 more") || strings.Count(text, "Letters/") > 16 {
		t.Errorf("the error names too much or too little: %v", text)
	}
	laptop.has(syncer.CondContent)
	laptop.engine()
	if done := laptop.heal(); len(done.Replaced) != len(blobs) {
		t.Errorf("healed then: %+v", done)
	}
	laptop.hasNone()
}

// TestHealTellsHowFar: while contents are read at the remote Status says how many
// bytes are left, less with each, and none when it has ended, also with an error.
func TestHealTellsHowFar(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop")
	laptop := f.devices[0]
	for _, name := range strings.Split("abcdef", "") {
		laptop.write("Letters/"+name, "dear "+name)
	}
	laptop.sync()
	var total int64
	for _, path := range f.objects("blobs/*") {
		fi, err := os.Stat(path)
		f.must(err)
		total += fi.Size()
	}
	var mu sync.Mutex
	var left []int64 // when each content is asked for
	fail := false
	laptop.engineWith(func(op, _ string) fault {
		if op != "GetBlob" {
			return fault{}
		}
		mu.Lock()
		defer mu.Unlock()
		left = append(left, laptop.Status().Checking)
		if fail && len(left) > 2 {
			return fault{err: syncer.ErrDenied}
		}
		return fault{}
	})
	laptop.heal()
	if n := laptop.Status().Checking; n != 0 {
		t.Errorf("%d bytes are left to be read after healing", n)
	}
	// Some are asked for at a time, so the first may have gone on when it looks.
	if len(left) != 6 || left[0] > total || slices.Min(left) <= 0 || slices.Max(left) < total/2 {
		t.Errorf("left of %d bytes when contents were asked for: %v", total, left)
	}
	left, fail = nil, true
	if _, err := laptop.Heal(context.Background()); err == nil {
		t.Error("contents that cannot be read are no error")
	}
	if n := laptop.Status().Checking; n != 0 {
		t.Errorf("%d bytes are left to be read after healing that failed", n)
	}
}

// TestHealNeverOverwritesHistory: another batch that the device itself signed under
// a number is no damage but a second history: it is proof, and stays.
func TestHealNeverOverwritesHistory(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop", "desktop")
	laptop, desktop := f.devices[0], f.devices[1]
	f.sync()
	clone := &device{f: f, name: "clone", home: laptop.killedHome()}
	clone.resume()
	laptop.write("Letters/a.txt", "one history")
	laptop.sync()
	desktop.sync()
	heads, err := laptop.v.Heads(context.Background())
	f.must(err)
	seq := heads[laptop.v.DeviceID()].Seq
	path, other := f.batchOf(laptop, seq), clone.saysOffline(seq)
	f.must(os.WriteFile(path, other, 0o600))
	done, err := desktop.Heal(context.Background())
	if !errors.Is(err, syncer.ErrOtherBytes) || len(done.False) != 1 {
		t.Errorf("healing: %v, %+v", err, done)
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, other) {
		t.Errorf("the proof is gone: %v", err)
	}
}

// saysOffline has a device write something and gives its batch of a number.
func (d *device) saysOffline(seq uint64) []byte {
	d.f.t.Helper()
	for range 10 {
		d.write("Letters/b.txt", "another history")
		_, _, err := d.v.Seal(context.Background(), vaultcore.SealOptions{})
		d.f.must(err)
		batches, err := d.v.OwnBatches(context.Background(), seq-1, 1)
		d.f.must(err)
		if len(batches) == 1 && batches[0].Seq == seq {
			return batches[0].Bytes
		}
	}
	d.f.t.Fatalf("%s seals no batch %d", d.name, seq)
	return nil
}

// contentsOf reads all objects.
func (f *fleet) contentsOf() map[string][]byte {
	all := make(map[string][]byte)
	for _, pattern := range []string{"blobs/*", "headers/*", "log/*/*"} {
		for _, path := range f.objects(pattern) {
			b, err := os.ReadFile(path)
			f.must(err)
			all[path] = b
		}
	}
	return all
}
