package syncer_test

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// bytesOf sums what lies on the remote, by the folder it lies in.
func (c *calendar) bytesOf() (by map[string]int64, all int64) {
	c.t.Helper()
	by = make(map[string]int64)
	c.must(filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		for _, kind := range []string{"log", "checkpoints", "blobs", "gc"} {
			if strings.Contains(path, "/"+kind+"/") {
				by[kind] += info.Size()
			}
		}
		all += info.Size()
		return nil
	}))
	return by, all
}

// month is what two devices do in a month: they rewrite what there is, make and remove
// more, and one of them writes a log that is worth a checkpoint; then they look in
// once a week.
func (c *calendar) month(n int) {
	c.t.Helper()
	fill := func(d *device, path string) {
		b := make([]byte, 20_000)
		for i := range b {
			b[i] = byte('a' + rand.IntN(26))
		}
		d.write(path, string(b))
	}
	for i, d := range c.devices {
		for j := range 10 {
			fill(d, fmt.Sprintf("%s/kept %d", d.name, j))
			fill(d, fmt.Sprintf("%s/of month %d, %d", d.name, n, j))
			if n > 0 {
				c.must(d.v.Remove(fmt.Sprintf("%s/of month %d, %d", d.name, n-1, j), false))
			}
		}
		if i == n%len(c.devices) {
			d.long()
		}
		d.sync()
	}
	for range 4 {
		c.pass(8)
		c.live(c.devices...)
	}
	for _, d := range c.devices {
		d.restart() // what is too old in the trash goes when a vault is opened
	}
}

// TestRemoteStaysBounded: eight months of the same work leave on the remote, and in the
// database of each device, what four of them left and no more: log, checkpoints and the
// contents in the trash all end.
func TestRemoteStaysBounded(t *testing.T) {
	t.Parallel()
	c := newCalendar(t, "laptop", "desktop")
	const warm, months = 4, 8
	var most, grown, written int64
	for n := range months {
		c.month(n)
		by, all := c.bytesOf()
		db := max(c.devices[0].databaseBytes(), c.devices[1].databaseBytes())
		t.Logf("month %d: %d KiB on the remote, %v; vault.db %d KiB", n, all>>10, by, db>>10)
		written += logOfMonth
		switch {
		case n < warm:
			most, grown = max(most, all), max(grown, db)
		case all > most+most/4 || db > grown+grown/4:
			t.Errorf("month %d: %d bytes, and %d of a database; never more than %d and %d in the first %d", n, all, db, most, grown, warm)
		}
		if points := len(c.devices[0].points()); points > 4 {
			t.Errorf("month %d: %d checkpoints are kept", n, points)
		}
	}
	if _, all := c.bytesOf(); all > written/2 {
		t.Errorf("%d bytes are left of %d", all, written)
	}
	c.agree()
	for _, d := range c.devices {
		if all := d.Status().Conditions; len(all) > 0 {
			t.Errorf("%s: %+v", d.name, all)
		}
	}
	late := c.add("late")
	late.sync()
	c.sync()
	c.agree()
}

// logOfMonth is at least what long seals.
const logOfMonth = 4 << 20

// databaseBytes is what the database of a device takes.
func (d *device) databaseBytes() int64 {
	d.f.t.Helper()
	info, err := os.Stat(filepath.Join(d.home, "vault.db"))
	d.f.must(err)
	return info.Size()
}
