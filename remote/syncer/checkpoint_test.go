package syncer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// calendar is a fleet whose days pass as the test says.
type calendar struct {
	*fleet
	dir string
	off atomic.Int64 // ns
}

func newCalendar(t *testing.T, names ...string) *calendar {
	c := &calendar{dir: t.TempDir()}
	c.fleet = &fleet{t: t, url: "file://" + c.dir}
	c.now = func() time.Time { return time.Now().Add(time.Duration(c.off.Load())) }
	for _, name := range names {
		c.add(name)
	}
	return c
}

// pass lets days go by: also for what lies on the remote.
func (c *calendar) pass(days int) {
	c.t.Helper()
	age := time.Duration(days) * 24 * time.Hour
	c.off.Add(int64(age))
	c.must(filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		then := info.ModTime().Add(-age)
		if err := os.Chtimes(path, then, then); err != nil || filepath.Base(filepath.Dir(path)) != "gc" {
			return err
		}
		day, err := time.Parse("20060102", d.Name()) // cycles of collections have their day as name
		if err != nil {
			return err
		}
		return os.Rename(path, filepath.Join(filepath.Dir(path), day.AddDate(0, 0, -days).Format("20060102")))
	}))
}

// objects counts what lies on the remote under a prefix.
func (c *calendar) objects(kind string) (n int) {
	c.t.Helper()
	c.must(filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.Contains(path, "/"+kind+"/") {
			n++
		}
		return err
	}))
	return n
}

// long makes the log of a device long enough for a checkpoint, without anything
// in it that has to be kept.
func (d *device) long() {
	d.f.t.Helper()
	ops := make([]seal.Op, seal.MaxOps)
	for range 60 {
		for i := range ops {
			ops[i] = &seal.Wrap{Blob: seal.NewBlobID(), Epoch: 1, WK: make([]byte, seal.WrappedKeySize)}
		}
		_, _, err := d.v.Seal(context.Background(), vaultcore.SealOptions{Ops: ops})
		d.f.must(err)
	}
}

func (d *device) points() []vaultcore.Checkpoint {
	d.f.t.Helper()
	all, err := d.v.Checkpoints(context.Background())
	d.f.must(err)
	return all
}

// live has every device say that it is there and what it has.
func (c *calendar) live(devices ...*device) {
	c.t.Helper()
	for range 2 {
		for _, d := range devices {
			_, _, err := d.v.Seal(context.Background(), vaultcore.SealOptions{Empty: true})
			c.must(err)
			d.sync()
		}
	}
}

// TestCheckpoints: a long log gets a checkpoint, others compare it, and a device
// that joins takes it.
func TestCheckpoints(t *testing.T) {
	t.Parallel()
	c := newCalendar(t, "laptop", "desktop")
	laptop, desktop := c.devices[0], c.devices[1]
	laptop.write("Letters/a.txt", "dear")
	laptop.sync()
	if n := c.objects("checkpoints"); n != 0 {
		t.Fatalf("%d objects of a checkpoint of a short log", n)
	}
	laptop.long()
	desktop.write("Letters/b.txt", "bee")
	c.sync()
	if all := laptop.points(); len(all) != 1 || !all[0].Pushed || all[0].Held {
		t.Fatalf("the laptop knows %+v", all)
	}
	if all := desktop.points(); len(all) != 1 || all[0].Verdict != vaultcore.Agrees {
		t.Fatalf("the desktop knows %+v", all)
	}
	desktop.write("Letters/b.txt", "bees")
	c.sync()
	if n := c.objects("checkpoints"); n != 1 {
		t.Errorf("%d objects of checkpoints", n)
	}
	phone := c.add("phone")
	loaded, err := syncer.LoadCheckpoint(context.Background(), phone.v, phone.remote)
	if err != nil || !loaded {
		t.Fatalf("loaded %v, %v", loaded, err)
	}
	phone.sync()
	c.sync()
	c.agree()
	phone.restart()
	phone.write("Letters/c.txt", "sea")
	c.sync()
	c.agree()
}

// TestCollection: a month later the log below a checkpoint goes, here and there,
// contents that nobody names go, and whoever was away starts over.
func TestCollection(t *testing.T) {
	t.Parallel()
	c := newCalendar(t, "laptop", "desktop", "phone")
	laptop, desktop, phone := c.devices[0], c.devices[1], c.devices[2]
	laptop.write("Letters/a.txt", "dear")
	laptop.write("Letters/gone.txt", "gone")
	laptop.write("Letters/p.txt", "to be edited by the phone")
	c.sync()
	c.devices = c.devices[:2]
	phone.write("Letters/p.txt", "edited while away")
	phone.write("Letters/q.txt", "made while away")
	for i := range 5 {
		laptop.write("Letters/a.txt", fmt.Sprint("dear ", i))
		c.sync()
	}
	c.must(desktop.v.Remove("Letters/gone.txt", false))
	laptop.long()
	c.sync()
	blobs, batches := c.objects("blobs"), c.objects("log")
	c.pass(200) // nobody waits for the phone any more
	c.live(laptop, desktop)
	if n := c.objects("blobs"); n != blobs {
		t.Errorf("%d blobs, had %d: collected at once", n, blobs)
	}
	laptop.long()
	c.sync()
	c.pass(31)
	desktop.long()
	c.live(laptop, desktop)
	c.pass(8)
	c.live(laptop, desktop)
	for _, d := range c.devices {
		if got := d.read("Letters/a.txt"); got != "dear 4" {
			t.Errorf("%s reads %q", d.name, got)
		}
		all := d.points()
		if !slices.ContainsFunc(all, func(c vaultcore.Checkpoint) bool { return c.Base }) {
			t.Errorf("%s has no base: %+v, %+v", d.name, all, d.Status().Conditions)
		}
	}
	if n := c.objects("log"); n >= batches {
		t.Errorf("%d batches, had %d", n, batches)
	}
	if n := c.objects("blobs"); n > 3 { // two files, and what is in the trash until that is emptied
		t.Errorf("%d blobs, had %d", n, blobs)
	}
	c.agree()

	c.devices = append(c.devices, phone)
	phone.sync()
	c.sync()
	c.sync()
	c.agree()
	for _, want := range []string{"edited while away", "made while away", "dear 4"} {
		if !strings.Contains(laptop.list(), want) {
			t.Errorf("no %q in\n%s", want, laptop.list())
		}
	}
	// A new device needs a checkpoint now, whether it asks for one or not.
	tablet := c.add("tablet")
	tablet.sync()
	c.sync()
	c.agree()
	watch := c.add("watch")
	address, err := seal.ParseAddress(seal.FormatAddress(watch.v.VaultID(), seal.NewID(), watch.v.Status().DID))
	c.must(err)
	site, err := syncer.Look(context.Background(), watch.remote, address)
	c.must(err)
	c.must(site.Fill(context.Background(), watch.remote, watch.v, nil))
	if watch.state() != laptop.state() {
		t.Errorf("filled from the remote:\n%s\nthe laptop:\n%s", watch.list(), laptop.list())
	}
	c.sync()
	c.agree()
}

// TestCheckpointAltered: what a remote makes of a checkpoint is shown, and costs
// nothing else.
func TestCheckpointAltered(t *testing.T) {
	t.Parallel()
	c := newCalendar(t, "laptop", "desktop")
	laptop, desktop := c.devices[0], c.devices[1]
	laptop.write("Letters/a.txt", "dear")
	laptop.long()
	laptop.sync()
	ends, err := filepath.Glob(filepath.Join(c.dir, "vaults", "*", "checkpoints", "*", "m"))
	if err != nil || len(ends) != 1 {
		t.Fatalf("%q, %v", ends, err)
	}
	good, err := os.ReadFile(ends[0])
	c.must(err)
	bad := bytes.Clone(good)
	bad[len(bad)/2] ^= 1
	c.must(os.Chmod(ends[0], 0o600))
	c.must(os.WriteFile(ends[0], bad, 0o600))
	phone := c.add("phone")
	loaded, err := syncer.LoadCheckpoint(context.Background(), phone.v, phone.remote)
	if loaded || !errors.Is(err, seal.ErrSignature) {
		t.Errorf("loaded %v, %v", loaded, err)
	}
	desktop.write("Letters/b.txt", "bee")
	c.sync()
	c.agree()
	for _, d := range []*device{desktop, phone} {
		if !slices.ContainsFunc(d.Status().Conditions, func(s syncer.Condition) bool { return s.Kind == syncer.CondPoint }) {
			t.Errorf("%s: %+v", d.name, d.Status().Conditions)
		}
	}
	c.must(os.WriteFile(ends[0], good, 0o600))
	tablet := c.add("tablet")
	loaded, err = syncer.LoadCheckpoint(context.Background(), tablet.v, tablet.remote)
	if !loaded || err != nil {
		t.Errorf("whole again: %v, %v", loaded, err)
	}
	c.sync()
	c.agree()
}
