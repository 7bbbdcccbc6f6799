package syncer_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// TestGapIsToldAndPasses: a batch that is not there is an alarm that names its author,
// and one that is gone as soon as the batch has come.
func TestGapIsToldAndPasses(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop", "desktop")
	laptop, desktop := f.devices[0], f.devices[1]
	f.sync()
	stranger := syncer.BatchKey(seal.NewID().UUID(), 2)
	f.must(os.MkdirAll(filepath.Dir(filepath.Join(f.dir(), stranger)), 0o700))
	f.must(os.WriteFile(filepath.Join(f.dir(), stranger), []byte("nobody wrote a first one"), 0o600))
	desktop.sync()
	desktop.hasNone()
	for _, file := range []string{"a", "b"} {
		laptop.write("Letters/"+file+".txt", "dear "+file)
		laptop.sync()
	}
	batches := slices.Sorted(maps.Keys(f.batchesOf(laptop)))
	lost := batches[len(batches)-2]
	f.must(os.Rename(lost, lost+"~"))
	_ = desktop.trySync()
	c, ok := desktop.condition(syncer.CondGap)
	if !ok || !strings.Contains(c.Text, "of device "+laptop.v.DeviceID().UUID()) || c.Hint == "" {
		t.Fatalf("the missing batch is told as %+v", desktop.Status().Conditions)
	}
	desktop.run()
	f.must(os.Rename(lost+"~", lost))
	laptop.write("Letters/c.txt", "dear c")
	laptop.sync() // rings
	desktop.until("the alarm is over", func() bool { _, still := desktop.condition(syncer.CondGap); return !still })
	desktop.halt()
	desktop.sync()
	f.agree()
}

// TestGapEndsWithWhatIsBehindIt: what somebody put into the chain of a device, far ahead,
// makes batches missing that were never written, and no longer than it is there.
func TestGapEndsWithWhatIsBehindIt(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop", "desktop")
	laptop, desktop := f.devices[0], f.devices[1]
	f.sync()
	var stray []string
	for _, seq := range []uint64{99_998, 99_999} {
		stray = append(stray, f.batchOf(laptop, seq))
		f.must(os.WriteFile(stray[len(stray)-1], []byte("no batch"), 0o600))
	}
	_ = desktop.trySync()
	desktop.has(syncer.CondGap)
	for _, file := range stray {
		f.must(os.Remove(file))
	}
	desktop.sync()
	desktop.hasNone()
	laptop.write("Letters/a.txt", "dear")
	f.sync()
	desktop.hasNone()
	f.agree()
}

// TestWithheldIsToldAndPasses: a batch that another device names and nobody delivers is
// waited for, then given up with an alarm, which is over when it comes after all.
func TestWithheldIsToldAndPasses(t *testing.T) {
	t.Parallel()
	f := &fleet{t: t, url: folder(t)}
	var late atomic.Int64
	f.now = func() time.Time { return time.Now().Add(time.Duration(late.Load())) }
	laptop, desktop, tablet := f.add("laptop"), f.add("desktop"), f.add("tablet")
	f.sync()
	tablet.write("Letters/a.txt", "dear a")
	tablet.sync()
	laptop.sync()
	laptop.write("Letters/b.txt", "dear b")
	laptop.sync()
	lost := slices.Max(slices.Collect(maps.Keys(f.batchesOf(tablet))))
	f.must(os.Rename(lost, lost+"~"))
	for looks := 0; !strings.Contains(desktop.list(), "b.txt"); looks++ {
		if looks > 200 {
			t.Fatalf("never applied:\n%s", desktop.list())
		}
		_ = desktop.trySync()
		late.Add(int64(15 * time.Minute))
	}
	c, ok := desktop.condition(syncer.CondWithheld)
	if !ok || !strings.Contains(c.Text, "of device "+tablet.v.DeviceID().UUID()) || c.Hint == "" {
		t.Fatalf("the withheld batch is told as %+v", desktop.Status().Conditions)
	}
	f.must(os.Rename(lost+"~", lost))
	desktop.sync()
	f.sync()
	desktop.hasNone()
	f.agree()
}
