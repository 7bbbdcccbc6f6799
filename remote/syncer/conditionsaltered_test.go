package syncer_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// flip changes a byte in the middle of a file.
func flip(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		b[len(b)/2] ^= 1
		if err = os.Chmod(path, 0o600); err == nil {
			err = os.WriteFile(path, b, 0o600)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A batch that was altered, cut or swapped is not believed, is named, and is put
// back by who has it once it is deleted there.
func TestAlteredBatch(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(*testing.T, string, string){
		"flipped": func(t *testing.T, path, _ string) { flip(t, path) },
		"cut": func(t *testing.T, path, _ string) {
			if err := os.Truncate(path, 100); err != nil {
				t.Fatal(err)
			}
		},
		"empty": func(t *testing.T, path, _ string) {
			if err := os.Truncate(path, 0); err != nil {
				t.Fatal(err)
			}
		},
		"another": func(t *testing.T, path, other string) {
			b, err := os.ReadFile(other)
			if err == nil {
				err = os.WriteFile(path, b, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, folder(t), "laptop", "desktop")
			laptop, desktop := f.devices[0], f.devices[1]
			laptop.write("Letters/a.txt", "dear")
			f.sync()
			heads, err := laptop.v.Heads(context.Background())
			f.must(err)
			seq := heads[laptop.v.DeviceID()].Seq
			laptop.write("Letters/a.txt", "dearest")
			laptop.sync()
			harm(t, f.batchOf(laptop, seq+1), f.batchOf(laptop, seq))
			_ = desktop.trySync()
			_ = desktop.trySync()
			desktop.has(syncer.CondAltered)
			if told := desktop.events(syncer.CondAltered); len(told) != 1 {
				t.Errorf("after two looks the journal says %q", told)
			}
			if got := desktop.read("Letters/a.txt"); got != "dear" {
				t.Errorf("the desktop shows %q", got)
			}
			f.must(os.Remove(f.batchOf(laptop, seq+1)))
			laptop.heal()
			desktop.sync()
			desktop.hasNone()
			desktop.want("Letters/", "Letters/a.txt = dearest")
		})
	}
}

// TestUnreadableBatch puts under the log what is no batch at all, of a device
// that nobody knows, and of a length that nobody reads: the condition names the
// object, which cannot name itself, and all others go on.
func TestUnreadableBatch(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop", "desktop")
	laptop, desktop := f.devices[0], f.devices[1]
	f.sync()
	for what, size := range map[string]int64{"empty": 0, "noise": 4096, "of 10 GiB": 10 << 30} {
		key := syncer.BatchKey(seal.NewID().UUID(), 1)
		place := filepath.Join(f.dir(), key)
		f.must(os.MkdirAll(filepath.Dir(place), 0o700))
		f.must(os.WriteFile(place, []byte{}, 0o600))
		f.must(os.Truncate(place, size))
		laptop.write("Letters/a.txt", what)
		laptop.sync()
		_ = desktop.trySync()
		desktop.has(syncer.CondAltered)
		if c, _ := desktop.condition(syncer.CondAltered); !strings.Contains(c.Text, key) {
			t.Errorf("%s: %q does not say which", what, c.Text)
		}
		if got := desktop.read("Letters/a.txt"); got != what {
			t.Errorf("the desktop shows %q, want %q", got, what)
		}
		f.must(os.RemoveAll(filepath.Dir(place)))
		desktop.sync()
	}
}

// A content that was altered on the remote is refused, and comes again from who
// has it.
func TestAlteredBlob(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop", "desktop")
	laptop, desktop := f.devices[0], f.devices[1]
	laptop.write("Letters/a.txt", "dear")
	laptop.sync()
	object := f.objects("blobs/*")[0]
	flip(t, object)
	if err := desktop.trySync(); err == nil {
		t.Fatal("the desktop took an altered content")
	}
	desktop.has(syncer.CondContent)
	desktop.alarmed("other bytes", "Letters/a.txt")
	desktop.sync2() // asks the others
	if err := laptop.trySync(); err == nil {
		t.Fatal("the laptop put it over the altered one")
	}
	laptop.has(syncer.CondContent)
	f.must(os.Remove(object))
	laptop.sync()
	laptop.hasNone()
	desktop.sync()
	desktop.hasNone()
	f.agree()
}

// An upload that meets the altered content, because somebody has asked for it again,
// and hears of that only when healing has replaced it, goes on.
func TestHealedUnderAnUpload(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop", "desktop")
	laptop, desktop := f.devices[0], f.devices[1]
	laptop.write("Letters/a.txt", "dear")
	laptop.sync()
	object := f.objects("blobs/*")[0]
	flip(t, object)
	desktop.sync2()
	desktop.sync2() // asks the others
	var met atomic.Bool
	laptop.engineWith(func(op, _ string) fault {
		if op != "PutBlob" || !met.CompareAndSwap(false, true) {
			return fault{}
		}
		for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if _, err := os.Stat(object); err != nil {
				break
			}
		}
		return fault{err: syncer.ErrOtherBytes}
	})
	if done := laptop.heal(); len(done.Replaced) != 1 || !met.Load() {
		t.Errorf("replaced %q, an upload met it: %v", done.Replaced, met.Load())
	}
	laptop.hasNone()
	desktop.sync()
	desktop.hasNone()
	f.agree()
}

// heal syncs and puts back what the remote lost or altered.
func (d *device) heal() syncer.Healed {
	d.f.t.Helper()
	h, err := d.Heal(context.Background())
	if err != nil {
		d.f.t.Fatalf("%s: heal: %v", d.name, err)
	}
	return h
}

// sync2 syncs and does not mind what cannot be fetched.
func (d *device) sync2() {
	d.f.t.Helper()
	if err := d.trySync(); err != nil && !errors.Is(err, syncer.ErrUnavailable) {
		d.f.t.Fatalf("%s: sync now: %v", d.name, err)
	}
}

// A content that was deleted on the remote is asked for, and sent again.
func TestDeletedBlob(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop", "desktop")
	laptop, desktop := f.devices[0], f.devices[1]
	laptop.write("Letters/a.txt", "dear")
	laptop.sync()
	f.must(os.Remove(f.objects("blobs/*")[0]))
	desktop.sync2()
	desktop.has(syncer.CondMissing)
	desktop.alarmed("Letters/a.txt")
	desktop.told(syncer.CondMissing, 1)
	desktop.sync2()
	laptop.sync()
	desktop.sync()
	f.agree()
	desktop.want("Letters/", "Letters/a.txt = dear")
	desktop.hasNone()
}

// events gives what the journal says of a kind.
func (d *device) events(kind string) (texts []string) {
	d.f.t.Helper()
	all, err := d.v.Events(0, 1000)
	d.f.must(err)
	for _, e := range all {
		if e.Kind == kind {
			texts = append(texts, e.Text)
		}
	}
	return texts
}
