package vaultcore

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// Sealing copies no row to undo, and what it sealed is there all the same when the
// content that replaced it does not reach the disk.
func TestPowerCutAfterSealing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "laptop")
	d := f.devices[0]
	d.mkdir("A")
	old, small := string(randomBytes(100<<10, 1)), "sealed while it lies in its row"
	d.write("A/f", old)
	d.write("A/small", small)
	if err := d.Barrier(context.Background()); err != nil {
		t.Fatal(err)
	}
	d.bar.passMu.Lock() // what follows stays above the barrier
	if b, more, err := d.sealLocked(context.Background(), SealOptions{}); err != nil || b == nil || more {
		t.Fatal(b, more, err)
	}
	d.readMu.Lock()
	copies, err := d.reader.one("SELECT count(*) FROM undo")
	d.readMu.Unlock()
	if err != nil || copies != int64(0) {
		t.Errorf("%v rows in undo, %v", copies, err)
	}
	lost := make([]string, 0, 2)
	for _, p := range []string{"A/f", "A/small"} {
		d.write(p, string(randomBytes(120<<10, 2)))
		n, err := d.Find(p)
		if err != nil {
			t.Fatal(err)
		}
		d.tree.RLock()
		lost = append(lost, binName(n.content.ref.blob))
		d.tree.RUnlock()
	}
	home := crashCopy(t, d.Vault, true)
	d.bar.passMu.Unlock()
	for _, name := range lost {
		if err := os.Truncate(filepath.Join(home, "attachments", name), 4096); err != nil {
			t.Fatal(err)
		}
	}
	crashed := openTest(t, home, Options{})
	wantFile(t, crashed, "A/f", []byte(old))
	wantFile(t, crashed, "A/small", []byte(small))
	wantSound(t, crashed)
}
