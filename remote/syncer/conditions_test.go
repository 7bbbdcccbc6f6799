package syncer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// dir is where the vault lies in the remote of a fleet.
func (f *fleet) dir() string {
	return filepath.Join(strings.TrimPrefix(f.url, "file://"), "vaults", f.devices[0].v.VaultID().UUID())
}

// objects lists the objects of the remote that match: what is still being written
// has a name that begins with a dot, and is none.
func (f *fleet) objects(pattern string) []string {
	f.t.Helper()
	found, err := filepath.Glob(filepath.Join(f.dir(), pattern))
	f.must(err)
	return slices.DeleteFunc(found, func(path string) bool { return strings.HasPrefix(filepath.Base(path), ".") })
}

// batchOf is the file of a device's batch.
func (f *fleet) batchOf(d *device, seq uint64) string {
	return filepath.Join(f.dir(), syncer.BatchKey(d.v.DeviceID().UUID(), seq))
}

func (d *device) fails(err error, kind string) {
	d.f.t.Helper()
	if got := d.trySync(); !errors.Is(got, err) {
		d.f.t.Fatalf("%s: sync now: %v, want %v", d.name, got, err)
	}
	d.has(kind)
}

// has looks for a condition, with something to do about it.
func (d *device) has(kind string) {
	d.f.t.Helper()
	if c, ok := d.condition(kind); !ok || c.Text == "" || c.Hint == "" || c.Since.IsZero() {
		d.f.t.Fatalf("%s: no condition %s: %+v", d.name, kind, d.Status().Conditions)
	}
}

func (d *device) hasNone() {
	d.f.t.Helper()
	if c := d.Status().Conditions; len(c) > 0 {
		d.f.t.Fatalf("%s: conditions %+v", d.name, c)
	}
}

// alarmed looks for an alarm that says all of that.
func (d *device) alarmed(words ...string) {
	d.f.t.Helper()
	for _, alarm := range d.v.Status().Alarms {
		all := true
		for _, w := range words {
			all = all && strings.Contains(alarm, w)
		}
		if all {
			return
		}
	}
	d.f.t.Fatalf("%s: no alarm with %q in %q", d.name, words, d.v.Status().Alarms)
}

// told demands so many events of a kind.
func (d *device) told(kind string, want int) {
	d.f.t.Helper()
	events, err := d.v.Events(0, 1000)
	d.f.must(err)
	got := 0
	for _, e := range events {
		if e.Kind == kind {
			got++
		}
	}
	if got != want {
		d.f.t.Fatalf("%s: %d events %q, want %d: %+v", d.name, got, kind, want, events)
	}
}

// Another vault's marker stops everything, and changes nothing on either side.
func TestForeignMarker(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop")
	d := f.devices[0]
	d.write("Letters/a.txt", "dear")
	d.sync()
	marker := filepath.Join(f.dir(), syncer.MarkerKey)
	ours, err := os.ReadFile(marker)
	f.must(err)
	theirs := syncer.Marker{Vault: "0f000000-0000-4000-8000-000000000001", Remote: strings.Repeat("ab", 16)}
	f.must(os.WriteFile(marker, theirs.Encode(), 0o600))
	d.write("Letters/b.txt", "new")
	before := f.objects("*/*")
	d.fails(syncer.ErrForeign, syncer.CondForeign)
	d.run()
	d.until("the state says so", func() bool { return d.Status().State == syncer.StateStopped })
	d.halt()
	if after := f.objects("*/*"); len(after) != len(before) {
		t.Errorf("%d objects, were %d", len(after), len(before))
	}
	d.want("Letters/", "Letters/a.txt = dear", "Letters/b.txt = new")
	f.must(os.WriteFile(marker, ours, 0o600))
	d.sync()
	d.hasNone()
}

// A directory that is not mounted is no directory where all was deleted.
func TestUnmounted(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop", "desktop")
	laptop, desktop := f.devices[0], f.devices[1]
	laptop.write("Letters/a.txt", "dear")
	f.sync()
	place := strings.TrimPrefix(f.url, "file://")
	f.must(os.Rename(place, place+".away"))
	f.must(os.Mkdir(place, 0o700)) // the empty mount point
	laptop.write("Letters/b.txt", "meanwhile")
	desktop.write("Letters/a.txt", "dearest")
	for _, d := range f.devices {
		d.fails(syncer.ErrNoStore, syncer.CondNoStore)
	}
	left, err := os.ReadDir(place)
	if err != nil || len(left) > 0 {
		t.Errorf("in the empty mount point: %v, %v", left, err)
	}
	f.must(os.Remove(place))
	f.must(os.Rename(place+".away", place))
	f.sync()
	f.agree()
	laptop.want("Letters/", "Letters/a.txt = dearest", "Letters/b.txt = meanwhile")
	for _, d := range f.devices {
		d.hasNone()
	}
}

// A full remote takes what fits, and everything when there is room again.
func TestFull(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop")
	d := f.devices[0]
	var full atomic.Bool
	full.Store(true)
	d.engineWith(func(op, key string) fault {
		if full.Load() && op == "PutBlob" {
			if size := sizeOfBlob(d, key); size > 1000 {
				return fault{err: fmt.Errorf("%w: quota", syncer.ErrFull)}
			}
		}
		return fault{}
	})
	d.write("Letters/large.txt", strings.Repeat("x", 5000))
	d.write("Letters/small.txt", "x")
	d.fails(syncer.ErrFull, syncer.CondFull)
	if s := d.Status(); s.Up.Count != 1 {
		t.Errorf("waiting: %+v", s.Up)
	}
	full.Store(false)
	d.sync()
	d.hasNone()
}

func sizeOfBlob(d *device, hex string) int64 {
	jobs, err := d.v.Jobs(context.Background(), 0)
	d.f.must(err)
	for _, j := range jobs {
		if j.Blob.Hex() == hex {
			return j.Size
		}
	}
	return 0
}

// engineWith makes a new engine over a remote with faults.
func (d *device) engineWith(plan func(op, key string) fault) *faulty {
	r := &faulty{Remote: d.remote, plan: plan}
	d.f.faults = func(string, syncer.Remote) syncer.Remote { return r }
	d.engine()
	d.f.faults = nil
	return r
}

// What every request is refused for is said once, and nothing is lost.
func TestRefused(t *testing.T) {
	t.Parallel()
	for kind, err := range map[string]error{
		syncer.CondDenied:    blob.WithHint(syncer.ErrDenied, "change the keys"),
		syncer.CondClock:     syncer.ErrClock,
		syncer.CondUntrusted: fmt.Errorf("%w: %w", syncer.ErrUnavailable, syncer.ErrUntrusted),
		syncer.CondNoStore:   fmt.Errorf("%w: %w", syncer.ErrUnavailable, syncer.ErrNoStore),
		syncer.CondOffline:   syncer.ErrUnavailable,
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, folder(t), "laptop")
			d := f.devices[0]
			var bad atomic.Bool
			bad.Store(true)
			d.engineWith(func(string, string) fault {
				if bad.Load() {
					return fault{err: err}
				}
				return fault{}
			})
			d.write("Letters/a.txt", "dear")
			d.fails(err, kind)
			if c, _ := d.condition(kind); kind == syncer.CondDenied && c.Hint != "change the keys" {
				t.Errorf("hint %q", c.Hint)
			}
			bad.Store(false)
			d.sync()
			d.hasNone()
			if got := len(f.objects("blobs/*")); got != 1 {
				t.Errorf("%d contents on the remote", got)
			}
		})
	}
}

// A file too large for the remote stays here and holds nothing up.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop")
	d := f.devices[0]
	var tries atomic.Int64
	d.engineWith(func(op, key string) fault {
		if op == "PutBlob" && sizeOfBlob(d, key) > 1000 {
			tries.Add(1)
			return fault{err: syncer.ErrTooLarge}
		}
		return fault{}
	})
	d.write("Letters/large.txt", strings.Repeat("x", 5000))
	d.write("Letters/small.txt", "x")
	if err := d.trySync(); !errors.Is(err, syncer.ErrTooLarge) {
		t.Fatalf("sync now: %v", err)
	}
	tried := tries.Load()
	if err := d.Wait(t.Context(), nil); !errors.Is(err, syncer.ErrTooLarge) {
		t.Errorf("wait: %v; want that it says what it can never do", err)
	}
	if n := tries.Load() - tried; n != 1 {
		t.Errorf("waiting tried %d times", n)
	}
	d.has(syncer.CondTooLarge)
	d.alarmed("too large", "Letters/large.txt")
	if s := d.Status(); len(s.Blocked) != 1 || s.Blocked[0].Reason != syncer.CondTooLarge || s.Up.Count != 1 {
		t.Errorf("%+v", s)
	}
}

// A content whose bytes rot here is not sent, and holds nothing up.
func TestDamagedHere(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop")
	d := f.devices[0]
	d.write("Letters/large.txt", strings.Repeat("x", 100_000))
	_, _, err := d.v.Seal(context.Background(), vaultcore.SealOptions{})
	f.must(err)
	files, err := filepath.Glob(filepath.Join(d.home, "attachments", "*.bin"))
	if err != nil || len(files) != 1 {
		t.Fatalf("contents here: %v, %v", files, err)
	}
	flip(t, files[0])
	d.write("Letters/small.txt", "x")
	if err := d.trySync(); !errors.Is(err, syncer.ErrBlocked) {
		t.Fatalf("sync now: %v", err)
	}
	d.has(syncer.CondDamaged)
	d.alarmed("Letters/large.txt")
	if got := len(f.objects("blobs/*")); got != 1 {
		t.Errorf("%d contents on the remote", got)
	}
}

// A content that comes to the remote just behind the answer that it is not there
// was never missing.
func TestSentBehindTheAnswer(t *testing.T) {
	t.Parallel()
	var hold, race atomic.Bool
	f := &fleet{t: t, url: folder(t)}
	hold.Store(true)
	f.faults = func(name string, r syncer.Remote) syncer.Remote {
		return &faulty{Remote: r, plan: func(op, key string) fault {
			switch {
			case name == "laptop" && op == "PutBlob" && hold.Load():
				return fault{err: syncer.ErrUnavailable}
			case name == "desktop" && op == "GetBlob" && race.CompareAndSwap(true, false):
				return fault{then: func() {
					hold.Store(false)
					f.devices[0].sync()
					id, err := seal.ParseHex(key)
					f.must(errors.Join(err, f.devices[1].v.Found(context.Background(), []seal.ID{id})))
				}}
			}
			return fault{}
		}}
	}
	laptop, desktop := f.add("laptop"), f.add("desktop")
	laptop.write("Letters/a.txt", "dear")
	laptop.sync2()
	desktop.sync2()
	wanted, err := desktop.v.WantedBlobs(t.Context())
	f.must(err)
	if len(wanted) != 1 || !wanted[0].Pending {
		t.Fatalf("wanted: %+v", wanted)
	}
	race.Store(true)
	f.must(desktop.Fetch(t.Context(), wanted[0].Blob))
	desktop.hasNone()
	if alarms := desktop.v.Status().Alarms; len(alarms) > 0 {
		t.Errorf("alarms: %q", alarms)
	}
	desktop.want("Letters/", "Letters/a.txt = dear")
}

// A remote that was put back from an older copy deletes nothing; each device
// puts back what it holds.
func TestRemoteWentBack(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop", "desktop")
	laptop, desktop := f.devices[0], f.devices[1]
	laptop.write("Letters/a.txt", "dear")
	f.sync()
	old := filepath.Join(t.TempDir(), "old")
	f.must(os.CopyFS(old, os.DirFS(f.dir())))
	laptop.write("Letters/b.txt", "later")
	desktop.write("Letters/c.txt", "later too")
	f.sync()
	f.must(os.RemoveAll(f.dir()))
	f.must(os.CopyFS(f.dir(), os.DirFS(old)))
	for _, d := range f.devices {
		d.sync2()
		d.has(syncer.CondLost)
		d.want("Letters/", "Letters/a.txt = dear", "Letters/b.txt = later", "Letters/c.txt = later too")
	}
	for _, d := range f.devices {
		d.heal()
	}
	f.sync()
	for _, d := range f.devices {
		d.hasNone()
	}
	third := f.add("phone")
	third.sync()
	f.agree()
}

// Who puts back what was lost hears no more of it, at once.
func TestHealedIsSaidNoMore(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop", "desktop")
	laptop := f.devices[0]
	laptop.write("Letters/a.txt", "dear")
	f.sync()
	own := slices.Sorted(maps.Keys(f.batchesOf(laptop)))
	f.must(os.Remove(own[len(own)-1]))
	laptop.write("Letters/b.txt", "later")
	laptop.sync2()
	laptop.has(syncer.CondLost)
	laptop.heal()
	laptop.hasNone()
}

// A batch in the name of a device that nobody knows counts for nothing.
func TestUnknownDevice(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop", "desktop")
	laptop, desktop := f.devices[0], f.devices[1]
	laptop.write("Letters/a.txt", "dear")
	f.sync()
	b, err := os.ReadFile(f.batchOf(laptop, 1))
	f.must(err)
	device := laptop.v.DeviceID()
	device[0] ^= 1
	forged := bytes.Replace(b, bytes.Clone(sliceOf(laptop)), device[:], 1)
	if bytes.Equal(forged, b) {
		t.Fatal("the frame does not name its device in clear")
	}
	path := filepath.Join(f.dir(), syncer.BatchKey(device.UUID(), 1))
	f.must(os.MkdirAll(filepath.Dir(path), 0o700))
	f.must(os.WriteFile(path, forged, 0o600))
	desktop.sync()
	desktop.has(syncer.CondUnknown)
	laptop.write("Letters/b.txt", "goes on")
	laptop.sync()
	desktop.sync()
	if got := desktop.read("Letters/b.txt"); got != "goes on" {
		t.Errorf("the desktop reads %q", got)
	}
}

func sliceOf(d *device) []byte {
	id := d.v.DeviceID()
	return id[:]
}

// A copy of a vault's directory that is used beside it, or in its place, is told
// so, goes on working, and loses nothing.
func TestClone(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop", "desktop")
	laptop, desktop := f.devices[0], f.devices[1]
	laptop.write("Letters/a.txt", "dear")
	f.sync()
	copied := filepath.Join(t.TempDir(), "copy")
	f.must(laptop.v.Barrier(context.Background()))
	f.must(os.CopyFS(copied, os.DirFS(laptop.home)))
	if err := os.Remove(filepath.Join(copied, "vault.db-shm")); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	laptop.write("Letters/b.txt", "by the laptop")
	f.sync()
	clone := &device{f: f, name: "clone", home: copied}
	clone.resume()
	clone.write("Letters/c.txt", "by the clone")
	err := clone.trySync()
	if !errors.Is(err, vaultcore.ErrLocalRollback) {
		t.Fatalf("sync now of the clone: %v", err)
	}
	clone.has(syncer.CondCloned)
	clone.alarmed("older copy", "enroll")
	clone.write("Letters/d.txt", "it goes on")
	if got := clone.read("Letters/c.txt") + ", " + clone.read("Letters/d.txt"); got != "by the clone, it goes on" {
		t.Errorf("the clone reads %q", got)
	}
	// The others notice nothing.
	f.sync()
	f.agree()
	for _, d := range f.devices {
		d.hasNone()
	}
	desktop.want("Letters/", "Letters/a.txt = dear", "Letters/b.txt = by the laptop")
}

// A clock that is hours off is corrected, one that is days off publishes nothing.
func TestClock(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop", "desktop")
	d := f.devices[0]
	var ahead atomic.Int64
	r := &clocked{Remote: d.remote, ahead: func() time.Duration { return time.Duration(ahead.Load()) }}
	f.faults = func(string, syncer.Remote) syncer.Remote { return r }
	d.engine()
	f.faults = nil
	ahead.Store(int64(48 * time.Hour))
	d.write("Letters/a.txt", "dear")
	if err := d.trySync(); !errors.Is(err, syncer.ErrClock) {
		t.Fatalf("sync now: %v", err)
	}
	d.has(syncer.CondClock)
	if got := f.objects("blobs/*"); len(got) != 0 {
		t.Errorf("published with a wrong clock: %v", got)
	}
	ahead.Store(int64(time.Hour))
	d.sync()
	d.hasNone()
	devices, err := d.v.Devices(context.Background())
	f.must(err)
	for _, i := range devices {
		if i.This && time.Until(*i.LastChange) < 50*time.Minute {
			t.Errorf("sealed by the wrong clock: %v", i.LastChange)
		}
	}
}

// clocked is a remote whose clock is ahead of ours.
type clocked struct {
	syncer.Remote
	ahead func() time.Duration
}

func (c *clocked) Changes(ctx context.Context, cursor []byte, wait time.Duration) (syncer.Changes, error) {
	ch, err := c.Remote.Changes(ctx, cursor, wait)
	ch.At = time.Now()
	ch.Clock = ch.At.Add(c.ahead())
	return ch, err
}
