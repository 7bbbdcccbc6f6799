package vaultcore

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A program is killed in a close, when the file of the stream has its last name and no
// row has it; what the next one saves instead has another file, and that program is
// killed too. The first file is needed until a power cut could not take the second any
// more, and then it goes.
func TestKilledTwiceLeavesNoFile(t *testing.T) {
	stopped := time.Now()
	o := Options{Now: func() time.Time { return stopped }, Limits: Limits{V3Max: 64 << 10, StreamHead: 16 << 10}} // no barrier comes by itself
	v := newTestVault(t)
	mustMkdir(t, v, "A")
	if err := v.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	v = openTest(t, crashCopy(t, v, false), o)
	n := openFile(t, v, "A/f")
	data := randomBytes(300<<10, 1)
	mustWriteAt(t, v, n, string(data), 0)
	if err := v.Fsync(n); err != nil {
		t.Fatal(err)
	}
	before := databaseBytes(t, v.Home())
	closeFile(t, v, n)
	home := crashCopy(t, v, false)
	for i, name := range []string{dbName, dbName + "-wal"} {
		if err := os.WriteFile(filepath.Join(home, name), before[i], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	bins := func(v *Vault) (n int) {
		t.Helper()
		names, err := v.listFiles()
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if filepath.Ext(name) == binExt {
				n++
			}
		}
		return n
	}
	once := openTest(t, home, o)
	if got := bins(once); got != 2 {
		t.Fatalf("%d files after the first kill", got)
	}
	twice := openTest(t, crashCopy(t, once, false), o)
	wantFile(t, twice, "A/f", data)
	wantSound(t, twice)
	if got := bins(twice); got != 1 {
		t.Errorf("%d files after the second kill", got)
	}
}
